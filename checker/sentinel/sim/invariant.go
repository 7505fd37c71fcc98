package sim

import (
	"fmt"
	"slices"
	"time"

	"redis-is-master/checker"
)

// Bounds are for how long something may be that should not be, by its cause.
// Each is what the documentation promises.
type Bounds struct {
	// Selected is how long a superseded master may be believed after the
	// promotion, if its daemon is connected to the Sentinel that promoted the
	// other node and so was told of that before. Zero where daemons are
	// connected to no Sentinel.
	Selected time.Duration
	// Announced is how long a superseded master may be believed after the first
	// Sentinel knows of the promotion. It publishes that at once on the old
	// master, unless a hello was under way or the link was down: then it is a
	// second until there is a link, and two until the next hello.
	Announced time.Duration
	// Unannounced is how long a promoted node may be believed of which no
	// Sentinel ever learns, while the old master lives: the leader has died.
	Unannounced time.Duration
	// Rejoin is how long a superseded master may be believed after it is back
	// in the network, or can publish again: a Sentinel that is dialling sends
	// its next SYN up to 8 s later, and then publishes.
	Rejoin time.Duration
	// CutOff is how long a master may be believed that can reach nobody.
	CutOff time.Duration
	// NotMaster is how long a yes may outlive the role, or the process.
	NotMaster time.Duration
	// Hung is how long a yes may outlive the answers.
	Hung time.Duration
	// Settled is how long it may take until a master is believed on which all
	// agree.
	Settled time.Duration
	// TwoVIPs is how long two nodes that clients can reach may have the VIP.
	TwoVIPs time.Duration
	// Untouched is how long before a no a fault excuses it.
	Untouched time.Duration
}

// BoundsOf are those of a history.
func BoundsOf(c Config) Bounds {
	if c.Watch {
		return WatchedBounds(c)
	}
	return DefaultBounds(c)
}

// DefaultBounds are those of a daemon that hears the hellos and asks nobody.
func DefaultBounds(c Config) Bounds {
	b := Bounds{
		Announced: 3200 * time.Millisecond, Unannounced: 6 * time.Second, Rejoin: 9500 * time.Millisecond,
		CutOff: 7 * time.Second, NotMaster: 250 * time.Millisecond, Hung: 1100 * time.Millisecond, Settled: 16 * time.Second,
		TwoVIPs:   25 * time.Millisecond, // one advert, which a busy machine sends 20 ms late
		Untouched: 35 * time.Second,
	}
	if c.Profile == ProfileWeight {
		b.TwoVIPs = 100 * time.Millisecond
	}
	return b
}

// WatchedBounds are those of a daemon that is connected to the Sentinels, too
// ([Config.Watch]).
func WatchedBounds(c Config) Bounds {
	b := DefaultBounds(c)
	b.Selected = 200 * time.Millisecond
	if c.Blind == 0 {
		b.Announced = 1500 * time.Millisecond // to be told, and to ask
	}
	b.Hung = max(b.Hung, c.DownAfter-time.Second+100*time.Millisecond)
	return b
}

// A Violation is what may never be and was.
type Violation struct {
	Invariant string // its name
	At        time.Duration
	Node      int
	What      string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: at %v %s %s", v.Invariant, v.At.Round(time.Millisecond), hostName(v.Node), v.What)
}

// The invariants.
const (
	Superseded  = "a superseded master is believed"
	Taken       = "a node is believed that was not promoted"
	Unannounced = "a promotion is believed that nobody confirms"
	CutOff      = "a master that is cut off is believed"
	NotMaster   = "a node is believed that is no master"
	TwoHolders  = "two nodes have the VIP"
	NotSettled  = "the master is not believed"
	Refused     = "an untouched master is refused"
	LostWrites  = "a write is lost that a superseded master acknowledged"
	Unbacked    = "a failover is asked for that a majority does not back"
)

// An Invariant looks for what may never be.
type Invariant struct {
	Name  string
	Check func(*Facts) []Violation
}

// Invariants are all of them, the false yes first.
func Invariants() []Invariant {
	return []Invariant{
		{Superseded, (*Facts).superseded},
		{Taken, (*Facts).taken},
		{Unannounced, (*Facts).unannounced},
		{CutOff, (*Facts).cutOff},
		{NotMaster, (*Facts).notMaster},
		{TwoHolders, (*Facts).twoHolders},
		{NotSettled, (*Facts).notSettled},
		{Refused, (*Facts).refused},
		{LostWrites, (*Facts).lostWrites},
		{Unbacked, (*Facts).unbacked},
	}
}

// Violations holds a history against all invariants.
func (h *History) Violations(b Bounds) (found []Violation) {
	f := newFacts(h, b)
	for _, i := range Invariants() {
		for _, v := range i.Check(f) {
			v.Invariant = i.Name
			found = append(found, v)
		}
	}
	return found
}

// superseded finds a yes on a node after another was promoted.
func (f *Facts) superseded() (found []Violation) {
	for _, p := range f.promotions {
		if !p.byElection() || p.announced == 0 {
			continue
		}
		for node, spans := range f.yes {
			limit, until := f.limit(p, node), min(f.next(node, p.At), f.demoted(p.Node, p.At))
			i := slices.IndexFunc(spans, func(s span) bool { return s.overlaps(limit, until) })
			if node != p.Node && i >= 0 {
				found = append(found, f.violation(max(limit, spans[i].from), node,
					"says yes, and %s was promoted at %v", hostName(p.Node), rounded(p.At)))
			}
		}
	}
	return found
}

// taken finds a node that turns to yes while the Sentinels agree on another,
// and was not promoted. Whom they name may be a replica: it follows the true
// master then.
func (f *Facts) taken() (found []Violation) {
	for node, spans := range f.yes {
		for i, s := range spans {
			agreed := at(f.agreed, s.from)
			if agreed == "" || agreed == hostName(node) || f.roleOf(agreed, s.from) == Replica {
				continue
			}
			if f.promotedBefore(node, s.from) || f.knewNothing(node, s.from) {
				continue
			}
			goesOn := i > 0 && s.from-spans[i-1].to < f.b.Hung // the yes of before
			if (goesOn || overlap(f.cut[node], s.from-f.b.Announced, s.from)) && f.inWindow(node, s.from) {
				continue
			}
			found = append(found, f.violation(s.from, node, "turns to yes, and the Sentinels agree on %s", agreed))
		}
	}
	return found
}

// knewNothing reports whether the host lost power while it was cut off with its own
// Sentinel, and hears only that one: then it is as a host whose other Sentinels have
// died, until it hears of what happened.
func (f *Facts) knewNothing(node int, t time.Duration) bool {
	return slices.ContainsFunc(f.faults, func(e Event) bool {
		off := e.Fault == PowerOff && !e.Ends && e.Node == node && e.At < t
		return off && slices.ContainsFunc(f.cut[node], func(s span) bool {
			return s.what != string(PowerOff) && s.overlaps(e.At, e.At+1) && t < s.to+f.b.Rejoin
		})
	})
}

// promotedBefore reports whether a node was promoted in the last moments before
// a time, or nobody was since it was.
func (f *Facts) promotedBefore(node int, t time.Duration) bool {
	last := none
	var lastOf time.Duration
	for _, p := range f.promotions {
		if p.At > t || p.Cause.Kind == CauseByHand {
			continue
		}
		if p.byElection() || p.Cause.Kind == CauseCommand {
			last = p.Node
		}
		if p.Node == node {
			lastOf = p.At
		}
	}
	return last == node || lastOf > 0 && t-lastOf < f.b.Unannounced
}

// inWindow reports whether the last promotion before a time is so young that an
// old master may still be believed.
func (f *Facts) inWindow(node int, t time.Duration) bool {
	in := false
	for _, p := range f.promotions {
		if p.At <= t && p.byElection() {
			in = t < f.limit(p, node)
		}
	}
	return in
}

// unannounced finds a node that is believed although no Sentinel learns of its
// promotion, the old master lives, and two Sentinels live that could say so.
func (f *Facts) unannounced() (found []Violation) {
	for _, p := range f.promotions {
		if !p.byElection() || p.announced != 0 {
			continue
		}
		limit, until := f.rejoined(p.Node, p.At, p.At+f.b.Unannounced), f.next(p.Node, p.At)
		if f.sentinelsUp(p.At, limit) < 2 {
			continue
		}
		for _, s := range f.yes[p.Node] {
			t := max(limit, s.from)
			if s.overlaps(limit, until) && f.lives(at(f.agreed, p.At), p.At, t) && at(f.agreed, t) != hostName(p.Node) {
				found = append(found, f.violation(t, p.Node,
					"says yes, and no Sentinel has confirmed it since %v", rounded(p.At)))
				break
			}
		}
	}
	return found
}

// sentinelsUp counts the Sentinels that ran all the time.
func (f *Facts) sentinelsUp(from, to time.Duration) (n int) {
	for i := range f.names {
		up := false
		for _, e := range f.h.Events {
			if e.Kind == SentinelEvent && e.Node == i && e.At <= to {
				up = e.What == Up && e.At <= from
			}
		}
		if up {
			n++
		}
	}
	return n
}

// notMaster finds a yes on a node whose Redis is no master, or does not answer.
func (f *Facts) notMaster() (found []Violation) {
	for node, roles := range f.role {
		for i := 0; i < len(roles); i++ {
			if roles[i].what == Master {
				continue
			}
			from, to := roles[i].from, f.end
			for i++; i < len(roles) && roles[i].what != Master; i++ {
			}
			if i < len(roles) {
				to = roles[i].from
			}
			bound := f.b.NotMaster
			if f.silent(node, from, to) {
				bound = f.b.Hung
			}
			if overlap(f.yes[node], from+bound, to) {
				found = append(found, f.violation(from, node, "is no master from now on, and says yes %v later", bound))
			}
		}
	}
	return found
}

// cutOff finds a yes on a host that could reach nobody for long, though nothing else
// had happened, so that there were replicas and Sentinels.
func (f *Facts) cutOff() (found []Violation) {
	for i, e := range f.faults {
		if e.Fault != Isolate && e.Fault != InterfaceDown || e.Ends || e.Node >= len(f.yes) {
			continue
		}
		from, to := e.At+f.b.CutOff, min(e.At+e.For, f.end)
		if slices.ContainsFunc(f.faults, func(other Event) bool {
			return other != f.faults[i] && e.At-f.b.Untouched < other.At && other.At < to
		}) {
			continue
		}
		for _, s := range f.yes[e.Node] {
			if s.overlaps(from, to) {
				found = append(found, f.violation(max(from, s.from), e.Node, "says yes, and is cut off since %v", rounded(e.At)))
			}
		}
	}
	return found
}

// twoHolders finds two nodes that have the VIP and that a client can reach.
func (f *Facts) twoHolders() (found []Violation) {
	for b := range f.vip {
		for a := range b {
			for _, s := range both(f.vip[a], f.vip[b]) {
				apart := overlap(f.cut[a], s.from-f.b.Rejoin, s.to) || overlap(f.cut[b], s.from-f.b.Rejoin, s.to)
				if d := s.to - s.from; d > f.b.TwoVIPs && !apart {
					found = append(found, f.violation(s.from, b,
						"has the VIP for %v, and so has %s", rounded(d), hostName(a)))
				}
			}
		}
	}
	return found
}

// both are the times in which two things are so.
func both(a, b []span) (all []span) {
	for _, x := range a {
		for _, y := range b {
			if x.overlaps(y.from, y.to) {
				all = append(all, span{from: max(x.from, y.from), to: min(x.to, y.to)})
			}
		}
	}
	return all
}

// notSettled finds that the master on which all agree at the end is not
// believed, or another is.
func (f *Facts) notSettled() (found []Violation) {
	master, since := f.settled()
	from := since + f.b.Settled
	if master == none || from >= f.end {
		return nil
	}
	if !slices.ContainsFunc(f.yes[master], func(s span) bool { return s.from <= from && s.to >= f.end }) {
		found = append(found, f.violation(from, master, "says no, and all agree on it since %v", rounded(since)))
	}
	for node := range f.yes {
		if node != master && overlap(f.yes[node], from, f.end) {
			found = append(found, f.violation(from, node, "says yes, and all agree on %s", hostName(master)))
		}
	}
	return found
}

// settled is the master at the end, and since when nothing has happened to it;
// none if there is none, or a fault goes on.
func (f *Facts) settled() (master int, since time.Duration) {
	master = f.h.LastMaster
	if master == none || slices.ContainsFunc(f.names, func(n int) bool { return n != master }) {
		return none, 0
	}
	for node, roles := range f.role {
		if len(roles) == 0 || (roles[len(roles)-1].what == Master) != (node == master) {
			return none, 0
		}
		since = max(since, roles[len(roles)-1].from)
	}
	for _, spans := range f.cut {
		for _, s := range spans {
			if s.to == f.end {
				return none, 0
			}
		}
	}
	for _, e := range f.h.Events {
		if e.unsettles(master) {
			since = max(since, e.At)
		}
	}
	return master, since
}

// unsettles reports whether an event may change what is known of a master.
func (e Event) unsettles(master int) bool {
	switch e.Kind {
	case FaultEvent, NamesEvent, SentinelEvent:
		return true
	case AnswerEvent:
		return e.What == string(checker.ReasonStarting)
	case SaidEvent:
		return e.What != "-role-change" && e.What != "+role-change" && e.What != "+slave" &&
			(e.What != "+sdown" || e.Other == master)
	}
	return false
}

// refused finds a true master whose yes ends though no fault has touched it.
func (f *Facts) refused() (found []Violation) {
	for node, spans := range f.yes {
		for _, s := range spans {
			if s.to < f.end && at(f.agreed, s.to) == hostName(node) && !f.touched(node, s.to) {
				found = append(found, f.violation(s.to, node, "turns to no, and nothing has happened to it"))
			}
		}
	}
	return found
}

// lostWrites finds a lost write that a node has acknowledged when another had
// long been promoted: what is lost of those before is what Redis loses.
func (f *Facts) lostWrites() (found []Violation) {
	// By hand, data is lost in more ways. In the weight profile, a node that is
	// not master can have the VIP.
	byHand := []FaultKind{DemoteByHand, PromoteByHand, HandFailover, Coordinated}
	if f.h.Config.Profile == ProfileWeight {
		return nil
	}
	if slices.ContainsFunc(f.faults, func(e Event) bool { return slices.Contains(byHand, e.Fault) }) {
		return nil
	}
	for _, a := range f.h.Lost {
		if !f.excused(a) {
			return []Violation{f.violation(a.At, a.Node, "acknowledged write %d, which is lost", a.ID)}
		}
	}
	return nil
}

// excused reports whether it is Redis that loses a write: it was not replicated
// when another node was promoted, or the Sentinels took back the promotion of
// the node that acknowledged it.
func (f *Facts) excused(a Ack) bool {
	late := f.b.NotMaster
	if f.h.Config.Profile == ProfileScript {
		late += scriptInterval
	}
	for i, p := range f.promotions {
		switch {
		case p.announced == 0:
			return true
		case p.Node != a.Node && a.Sent <= f.limit(p, a.Node)+late:
			return true
		case p.Node == a.Node && i == len(f.promotions)-1 && f.demoted(p.Node, p.At) < f.end:
			return true
		case p.Node == a.Node && a.At < p.announced+f.b.Announced && f.sentinelFails(p.Cause.Sentinel, p.At, p.announced):
			return true // the others did not know of the promotion, and may have undone it
		}
	}
	return false
}

// unbacked finds a daemon that asks for a failover though its Redis lives, or though
// it is out of touch with the majority of the Sentinels, or they name another.
func (f *Facts) unbacked() (found []Violation) {
	const lately = 750 * time.Millisecond // an answer and the question may be that far apart
	for _, e := range f.h.Events {
		if e.Kind != AsksEvent {
			continue
		}
		from, host := e.At-lately, hostName(e.Node)
		reached := 0
		for i := range f.names {
			if f.inTouch(i, from, e.At) {
				reached++
			}
		}
		is := func(what string) func(span) bool {
			return func(s span) bool { return s.what == what && s.overlaps(from, e.At+1) }
		}
		switch {
		case !slices.ContainsFunc(f.role[e.Node], is(Down)):
			found = append(found, f.violation(e.At, e.Node, "asks, and its Redis lives"))
		case !slices.ContainsFunc(f.agreed, is(host)):
			found = append(found, f.violation(e.At, e.Node, "asks, and no majority names it"))
		case !f.inTouch(e.Node, from, e.At), 2*reached <= len(f.names):
			found = append(found, f.violation(e.At, e.Node, "asks, and reaches no majority"))
		}
	}
	return found
}

// inTouch reports whether a host was not cut off from all others all the time.
func (f *Facts) inTouch(host int, from, to time.Duration) bool {
	return !slices.ContainsFunc(f.cut[host], func(s span) bool {
		cut := []string{string(Isolate), string(Deaf), string(Mute), string(InterfaceDown), string(PowerOff)}
		return slices.Contains(cut, s.what) && s.from <= from && s.to >= to
	})
}
