package sim

import (
	"fmt"
	"slices"
	"time"
)

// A span is a time in which something is so.
type span struct {
	from, to time.Duration
	what     string
}

func (s span) overlaps(from, to time.Duration) bool { return from < to && s.from < to && from < s.to }

// overlap reports whether any span overlaps.
func overlap(spans []span, from, to time.Duration) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.overlaps(from, to) })
}

// at is what was so at a time.
func at(spans []span, t time.Duration) string {
	for _, s := range spans {
		if s.from <= t && t < s.to {
			return s.what
		}
	}
	return ""
}

// turn notes that something begins, or ends.
func turn(spans []span, at time.Duration, is bool, what string, end time.Duration) []span {
	if n := len(spans); n > 0 && spans[n-1].to == end {
		if is && spans[n-1].what == what {
			return spans
		}
		spans[n-1].to = at
	}
	if is {
		spans = append(spans, span{at, end, what})
	}
	return spans
}

// Facts are what a history says of each node and Sentinel.
type Facts struct {
	h          *History
	b          Bounds
	end        time.Duration
	yes        [][]span // of the daemon of each node
	role       [][]span // of the Redis of each node
	vip        [][]span // of each node
	names      []int    // whom each Sentinel names at the end
	agreed     []span   // the node that a majority of the Sentinels names, "" for none
	cut        [][]span // the host is out of touch, or nothing can be published on it
	promotions []promotion
	faults     []Event
}

// A promotion is one, and when the first Sentinel knew of it that had the time
// to publish it.
type promotion struct {
	Event
	known     []Event
	announced time.Duration // 0 for never
}

func newFacts(h *History, b Bounds) *Facts {
	nodes, hosts := h.Config.Nodes, max(h.Config.Nodes, h.Config.Sentinels)+1
	f := &Facts{h: h, b: b, end: h.Config.Length, names: slices.Repeat([]int{none}, h.Config.Sentinels)}
	f.yes, f.role, f.vip = make([][]span, nodes), make([][]span, nodes), make([][]span, nodes)
	f.cut = make([][]span, hosts)
	for _, e := range h.Events {
		switch e.Kind {
		case AnswerEvent:
			f.yes[e.Node] = turn(f.yes[e.Node], e.At, e.Yes, "yes", f.end)
		case VIPEvent:
			f.vip[e.Node] = turn(f.vip[e.Node], e.At, e.What == "up", "VIP", f.end)
		case RoleEvent:
			f.role[e.Node] = turn(f.role[e.Node], e.At, true, e.What, f.end)
		case PromotionEvent:
			f.promotions = append(f.promotions, promotion{Event: e})
		case NamesEvent:
			if slices.Contains(h.Config.Names[1:], e.What) {
				continue // the first name decides
			}
			f.names[e.Node] = e.Other
			f.known(e)
			f.agreed = turn(f.agreed, e.At, true, majority(f.names), f.end)
		case FaultEvent:
			f.faults = append(f.faults, e)
			f.touch(e)
		}
	}
	for i := range f.promotions {
		f.promotions[i].announced = f.announcement(f.promotions[i])
	}
	return f
}

// majority is the name of the node that most Sentinels name.
func majority(names []int) string {
	for _, n := range names {
		votes := 0
		for _, m := range names {
			if m == n {
				votes++
			}
		}
		if n != none && 2*votes > len(names) {
			return hostName(n)
		}
	}
	return ""
}

// known notes that a Sentinel knows of a promotion: of the last that its epoch allows, for
// one before may have been given up.
func (f *Facts) known(e Event) {
	for i := range slices.Backward(f.promotions) {
		if p := &f.promotions[i]; p.Node == e.Other && e.Epoch >= p.Epoch && p.Epoch > 0 {
			p.known = append(p.known, e)
			return
		}
	}
}

// announcement is when the first Sentinel knew of a promotion that then ran for
// long enough to publish it.
func (f *Facts) announcement(p promotion) time.Duration {
	for _, e := range p.known {
		if !f.sentinelFails(e.Node, e.At, e.At+f.b.Announced) {
			return e.At
		}
	}
	return 0
}

// sentinelFails reports whether a Sentinel ended, hung or was cut off.
func (f *Facts) sentinelFails(host int, from, to time.Duration) bool {
	return overlap(f.cut[host], from, to) || slices.ContainsFunc(f.h.Events, func(e Event) bool {
		fails := e.Kind == SentinelEvent && e.What == Down || e.Fault == HangSentinel
		return fails && e.Node == host && from <= e.At && e.At <= to
	})
}

// touch notes who is out of touch.
func (f *Facts) touch(e Event) {
	switch e.Fault {
	case Isolate, Deaf, Mute, InterfaceDown, Loss, Delay, StunHost, SuspendHost, PowerOff, PauseWrites, PauseAll,
		BusyScript:
		f.touchHost(e.Node, e)
	case CutPair:
		f.touchHost(e.Node, e)
		f.touchHost(e.Other, e)
	case NoResolver:
		for host := range f.cut {
			f.touchHost(host, e)
		}
	}
}

func (f *Facts) touchHost(host int, e Event) {
	if !e.Ends {
		to := f.end
		if e.For > 0 {
			to = min(to, e.At+e.For)
		}
		f.cut[host] = append(f.cut[host], span{e.At, to, string(e.Fault)})
	}
}

// byElection reports whether a promotion is that of a Sentinel: the others are
// by hand.
func (p promotion) byElection() bool {
	return p.Cause.Kind == CauseElected || p.Cause.Kind == CauseForced
}

// limit is until when another node than the promoted one may be believed.
func (f *Facts) limit(p promotion, node int) time.Duration {
	limit := max(p.At, p.announced) + f.b.Announced
	if f.b.Selected > 0 && f.told(p, node) && !f.sentinelFails(p.Cause.Sentinel, p.At, p.announced) {
		limit = p.At + f.b.Selected
	}
	return f.rejoined(node, p.At, limit)
}

// rejoined puts a limit off while the node is cut off, and until it may have
// heard of what happened meanwhile.
func (f *Facts) rejoined(node int, from, limit time.Duration) time.Duration {
	for changed := true; changed; {
		changed = false
		for _, s := range f.cut[node] {
			if s.overlaps(from-f.b.Announced, limit) && s.to+f.b.Rejoin > limit {
				limit, changed = s.to+f.b.Rejoin, true
			}
		}
	}
	return limit
}

// told reports whether the daemon of a node was connected to the Sentinel that
// was about to promote another.
func (f *Facts) told(p promotion, node int) bool {
	from := p.At - 5*time.Second // a connection is given up after 2 s, and made within 1 s
	return !f.h.Config.blind(node, p.Cause.Sentinel) &&
		!overlap(f.cut[node], from, p.At) && !overlap(f.cut[p.Cause.Sentinel], from, p.At) &&
		!slices.ContainsFunc(f.h.Events, func(e Event) bool {
			ofDaemon := e.Node == node && (e.Fault == KillDaemon || e.Fault == HangDaemon)
			ofSentinel := e.Node == p.Cause.Sentinel && (e.Kind == SentinelEvent || e.Fault == HangSentinel)
			return from <= e.At && e.At <= p.At && (ofDaemon || ofSentinel)
		})
}

// next is the next promotion of a node after a time.
func (f *Facts) next(node int, after time.Duration) time.Duration {
	for _, p := range f.promotions {
		if p.Node == node && p.At > after {
			return p.At
		}
	}
	return f.end
}

// demoted is when a node became a replica after a time.
func (f *Facts) demoted(node int, after time.Duration) time.Duration {
	for _, s := range f.role[node] {
		if s.from > after && s.what == Replica {
			return s.from
		}
	}
	return f.end
}

// roleOf is what the Redis of a node, by its name, was at a time.
func (f *Facts) roleOf(name string, t time.Duration) string {
	for node, spans := range f.role {
		if hostName(node) == name {
			return at(spans, t)
		}
	}
	return ""
}

// lives reports whether a node was master and in touch all the time.
func (f *Facts) lives(name string, from, to time.Duration) bool {
	for node, spans := range f.role {
		if hostName(node) == name {
			return !overlap(f.cut[node], from, to) &&
				!slices.ContainsFunc(spans, func(s span) bool { return s.what != Master && s.overlaps(from, to) })
		}
	}
	return false
}

// silent reports whether the node did not answer, or the daemon could not ask,
// somewhere in a time or just before.
func (f *Facts) silent(node int, from, to time.Duration) bool {
	from -= time.Second
	return overlap(f.cut[node], from, to) ||
		slices.ContainsFunc(f.role[node], func(s span) bool { return s.what == Hung && s.overlaps(from, to) }) ||
		slices.ContainsFunc(f.faults, func(e Event) bool {
			return e.Fault == HangDaemon && e.Node == node && from < e.At && e.At < to
		})
}

// touched reports whether something happened to a node before a time, or to
// what is known of it.
func (f *Facts) touched(node int, t time.Duration) bool {
	from := t - f.b.Untouched
	return overlap(f.cut[node], from, t) || slices.ContainsFunc(f.h.Events, func(e Event) bool {
		if e.At < from || e.At > t {
			return false
		}
		switch e.Kind {
		case PromotionEvent, AsksEvent:
			return true
		case SaidEvent: // a failover that TILT has interrupted goes on after it
			return e.What == "+sdown" && e.Other == node || e.What == "-tilt"
		case FaultEvent:
			return e.Node == node || e.Other == node || slices.Contains(touchAll, e.Fault)
		}
		return false
	})
}

// touchAll are the faults that change what is known of the master, on whatever
// host they begin.
var touchAll = []FaultKind{Rename, Planned, Coordinated, NoResolver, DemoteByHand, HandFailover}

func (f *Facts) violation(at time.Duration, node int, format string, a ...any) Violation {
	return Violation{At: at, Node: node, What: fmt.Sprintf(format, a...)}
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
