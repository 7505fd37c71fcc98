package sentinel

import (
	"errors"
	"slices"
	"time"

	"redis-is-master/checker"
)

// A Guard decides whether a role:master can be believed. It keeps four records
// of what it was told (the process, the hearing, the claims, the peers), derives an
// [Evidence] of them at every event, and looks the next state up in [Rows]. It
// has no clock and does no I/O: all times come from its caller, who calls it
// from one goroutine at a time. Set the fields before the first event.
type Guard struct {
	// Gap is how long a node may go unanswered and still count as watched: see
	// [WatchGap].
	Gap time.Duration
	// Listed says that there are Sentinels, whether they are heard or not.
	Listed bool
	// Began is when the watch began: a node that answers only long after that may have
	// hung. Zero means with the first answer.
	Began time.Time
	// Decide chooses the row for a state and its evidence; nil means the first
	// of [Rows] that holds. Only what attacks the table sets it.
	Decide func(checker.State, Evidence) *Row

	process   process
	hearing   hearing
	claims    claims
	peers     peers
	state     checker.State
	row       *Row          // that led to the state
	doubted   time.Time     // when the node was found to be master, or the watch began anew
	hold      time.Duration // how long a confirmation must stand since then
	promoted  time.Time     // zero for a master that was found
	unproven  bool          // the promotion still needs the end of the subscription as its proof
	remembers bool          // an earlier Guard knew Sentinels
	unknown   promotion     // that is doubted, because it is not known who made it
	agreed    time.Time     // the promotion that the listed Sentinels agreed on
	request   Request       // the last failover that this daemon asked for, if it may have begun
}

// A promotion is one that is doubted.
type promotion struct {
	doubted bool
	inTouch bool // with the Sentinels, when it was seen
}

// WatchGap is how long a node may go unanswered and still count as watched: two
// checks, but at least a second, and never longer than a yes lives.
func WatchGap(interval, timeout, maxAge time.Duration) time.Duration {
	return min(max(interval+timeout, quickRestart), maxAge)
}

// An Event is news about the node: an [Answer], a [Heard], a [Subscription], a
// [Told], a [Noticed], a [Requested] or a [Replied].
type Event interface {
	// note writes the event into the records, and returns what is only known at
	// this moment.
	note(g *Guard) (now time.Time, e Evidence)
}

// An Answer is an answered probe: asked is when its question was put, Now when
// its reply was there.
type Answer struct {
	Asked, Now  time.Time
	Observation checker.Observation
}

// A Heard is a claim. Where the host that it names cannot be resolved, it counts
// only against this node.
type Heard struct {
	Now        time.Time
	Claim      checker.Claim
	Unresolved bool
}

// A Told is what a Sentinel answered. Where the host that it names cannot be
// resolved, it counts only against this node.
type Told struct {
	Now        time.Time
	Report     Report
	NamesUs    bool // the master that it names is this node
	Local      bool // the Sentinel runs on this node's host
	Unresolved bool
}

// A Noticed is what a Sentinel published. NamesUs says that its Node is this one.
type Noticed struct {
	Now     time.Time
	Notice  Notice
	NamesUs bool
}

// A Subscription is the begin of the subscription to the hellos, its end, or its
// refusal.
type Subscription struct {
	Now             time.Time
	Stands, Refused bool
}

// State is the present state; empty before the first event.
func (g *Guard) State() checker.State { return g.state }

// On takes an event and returns the state after it.
func (g *Guard) On(event Event) checker.State {
	now, e := event.note(g)
	g.fill(now, &e)
	choose := g.Decide
	if choose == nil {
		choose = Decide
	}
	row := choose(g.state, e)
	next := row.Then
	if next == Unchanged {
		next = g.state
	}
	g.follow(now, e, next)
	if g.state = next; row.Then != Unchanged {
		g.row = row
	}
	return next
}

// fill adds the evidence that the records hold.
func (g *Guard) fill(now time.Time, e *Evidence) {
	if e.doubts() {
		g.claims.discard()
		g.hold, g.doubted, g.promoted = g.process.holdAfter(*e, now), now, time.Time{}
		if t := g.request.Time; t.After(g.process.before) && now.Sub(t) < holdReconnect {
			g.hold = holdElection // the daemon itself has begun one
		}
		g.process.hung = e.Gap && (!g.process.first || g.process.late) && !g.process.restarted
		g.unproven = !e.Gap && e.InTouch && !e.Superseded && e.ByHand && !g.process.kept
		g.unknown = promotion{doubted: !e.Gap && !e.Superseded, inTouch: e.InTouch}
	}
	g.peers.end(now, &g.claims)
	if e.Isolated = g.isolated(now); e.Isolated && !g.state.Believed() {
		g.claims.discard() // what was said meanwhile may be old when it comes
		g.doubted, g.hold, g.promoted = now, holdElection, time.Time{}
	}
	moves, _ := g.peers.moving()
	e.Moving = moves != nil
	e.Master = g.process.role == checker.RoleMaster
	e.NamesAnother, e.Followed = g.claims.nameAnother(now, g.doubted)
	e.Confirmed = g.claims.confirmed(now, g.hold, g.attended(now)) || g.all(now)
	e.NoSentinels = g.hearing.nobody(now, g.doubted) && !g.process.handingOver && !g.peers.answeredSince(g.doubted) &&
		(!g.misses() || g.attended(now))
	e.Refused = g.hearing.refused && !g.Listed
	e.Vouched = g.hearing.vouchedFor(now, g.doubted)
	e.Disowned = e.Disowned || !g.promoted.IsZero() && (g.peers.abandoned.After(g.promoted) || g.unannounced(now))
}

// unannounced reports whether the Sentinels still name the former master, long after the
// promotion, and it answers.
func (g *Guard) unannounced(now time.Time) bool {
	return now.Sub(g.promoted) >= holdPendingElection && g.process.formerAnswers &&
		g.claims.naming(g.former(), g.promoted) >= minConfirmations
}

// former is the master before this one: whom the Sentinels still name, or whom this
// node followed, which may have been a replica itself.
func (g *Guard) former() string {
	for _, v := range g.claims.names {
		if !v.best.NamesUs {
			return v.best.Master
		}
	}
	return g.process.followed
}

// all reports whether all Sentinels of some name were asked since the doubt began,
// and agree on this node.
func (g *Guard) all(now time.Time) bool {
	return slices.ContainsFunc(g.claims.names, func(v *nameView) bool { return g.peers.agree(now, g.doubted, v) })
}

// hasSentinels reports whether there are Sentinels, or were when an earlier Guard
// remembered.
func (g *Guard) hasSentinels() bool {
	return g.Listed || !g.hearing.heard.IsZero() || g.peers.answeredSince(time.Time{}) || g.remembers
}

// misses reports whether there were Sentinels for an earlier Guard, of which none was
// heard since. A node that has no replica either may be cut off.
func (g *Guard) misses() bool {
	return g.remembers && g.hearing.heard.IsZero() && !g.peers.answeredSince(time.Time{})
}

// isolated reports whether the master is out of touch with the majority of the
// Sentinels of each name, and with all replicas, though it had some.
func (g *Guard) isolated(now time.Time) bool {
	since, p := now.Add(-isolatedAfter), &g.process
	if p.role != checker.RoleMaster || !p.reached.After(p.masterSince) || p.reached.After(since) {
		return false
	}
	known := false
	for _, v := range g.claims.names {
		n := g.peers.known(now, v)
		switch {
		case n > 0:
			v.sentinels = n
		case g.state == checker.StateIsolated:
			n = v.sentinels // silence does not end what began with it
		}
		known = known || n > 0
		if 2*g.peers.inTouch(since, v) > n {
			return false
		}
	}
	return known
}

// Vouch is the word of the Sentinels for a node that does not answer: none for one
// that is not believed.
func (g *Guard) Vouch(now time.Time) (vouch checker.Vouch) {
	if moves, _ := g.peers.moving(); !g.state.Believed() || moves != nil || g.process.handingOver {
		return vouch
	}
	for i, v := range g.claims.names {
		said := g.peers.vouch(now, v)
		switch {
		case said.AsOf.IsZero():
			return said
		case i == 0:
			vouch = said
		case said.AsOf.Before(vouch.AsOf):
			vouch.AsOf = said.AsOf
		}
		vouch.Silence = min(vouch.Silence, said.Silence)
	}
	return vouch
}

// gap is how long the node may have been silent until its present answer: longer
// where the Sentinels, asked meanwhile, know that nobody else was promoted. What they
// said before the host was suspended is as much older.
func (g *Guard) gap(now time.Time, suspended time.Duration) time.Duration {
	v := g.Vouch(now)
	if v.AsOf.IsZero() || g.process.role != checker.RoleMaster || now.Sub(v.AsOf)+suspended > g.Gap {
		return g.Gap
	}
	return max(g.Gap, v.Silence)
}

// attended reports whether a replica has acknowledged something lately, and since
// the doubt began: the node is not cut off, so what it hears is not of long ago. A
// process that hung reads old acknowledgements when it wakes, and so does one on a
// host that was cut off: the first ones after long count when they go on.
func (g *Guard) attended(now time.Time) bool {
	if p := &g.process; p.ackedSince.Sub(g.doubted) > isolatedAfter && p.acknowledged.Sub(p.ackedSince) < holdRepeated {
		return false
	}
	since := g.doubted.Add(-g.process.took)
	if g.process.hung {
		since = g.doubted.Add(holdRepeated)
	}
	last := g.process.acknowledged
	return !last.IsZero() && !last.Before(since) && now.Sub(last) <= holdAcknowledged
}

// follow does what a change of the state demands of the records.
func (g *Guard) follow(now time.Time, e Evidence, next checker.State) {
	was, is := g.state.Believed(), next.Believed()
	switch {
	case next == checker.StateReplica:
		g.doubted, g.promoted, g.hold = now, time.Time{}, holdElection
	case was && !is && !e.doubts():
		g.doubted, g.promoted, g.hold = now, time.Time{}, holdElection
	case next == checker.StatePromoted && g.state != next:
		g.promoted, g.unproven, g.unknown = now, false, promotion{}
	}
	if is && (!was || e.doubts() || e.Proof) {
		g.claims.raiseVetoes()
	}
	if e.Answered && !e.Gap && (is || next == checker.StateReplica) {
		g.claims.settle()
	}
	g.hearing.knowNobody(now, next == checker.StateNoSentinels && len(g.claims.names) == 0)
}

func (a Answer) note(g *Guard) (time.Time, Evidence) {
	o := a.Observation
	e := g.process.observe(a, g.gap(a.Now, o.Suspended), g.Began)
	e.InTouch = g.hearing.inTouch(a.Now, !g.process.kept)
	e.Superseded = g.superseded()
	closedByUs := o.Redialled && !g.hearing.firstSubscribed.IsZero() &&
		!g.hearing.unsubscribed.After(g.process.before)
	e.Disowned = e.Flipped && a.Now.Sub(g.peers.abandoned) < holdPendingElection
	e.ByHand = (o.Connection != 0 && g.process.kept || closedByUs) && g.hasSentinels()
	g.unproven = false
	g.peers.followed(a.Now, o.Followers)
	e.Proof = e.Flipped && g.peers.promotesUs(a.Now) || g.handedOver(a.Now)
	g.hearing.poll(o.Quorum)
	g.claims.observe(a.Now, o, e.Gap, g.state == checker.StateFollowed)
	if g.process.followsAnew {
		g.claims.followAnew()
	}
	return a.Now, e
}

func (h Heard) note(g *Guard) (time.Time, Evidence) {
	if h.Unresolved && !g.claims.renames(h.Claim.Hello) {
		g.hearing.noSentinels, g.hearing.unresolved = false, h.Now
		return h.Now, Evidence{}
	}
	h.Claim.NamesUs = h.Claim.NamesUs && !h.Unresolved
	if !g.claims.knows(h.Claim, g.process.followed) {
		return h.Now, Evidence{}
	}
	g.hearing.hear(h.Now, h.Claim.Local && !h.Unresolved, &g.process)
	contradicts, names := g.claims.hear(h.Now, h.Claim, g.state.Believed(), g.process.role == checker.RoleMaster)
	return h.Now, Evidence{Contradicted: contradicts, Named: names}
}

func (s Subscription) note(g *Guard) (time.Time, Evidence) {
	proof := !s.Stands && !s.Refused && g.unproven && s.Now.Sub(g.doubted) < holdAfterWake && !g.superseded()
	g.unproven = g.unproven && (s.Stands || s.Refused)
	g.hearing.subscribe(s)
	return s.Now, Evidence{Proof: proof}
}

func (t Told) note(g *Guard) (time.Time, Evidence) {
	r := t.Report
	switch {
	case errors.Is(r.Err, ErrNoSuchMaster):
		g.peers.forget(r.Address, r.Name)
		g.peers.show()
		return t.Now, Evidence{}
	case r.Err != nil || r.inFreshTilt() && t.NamesUs:
		return t.Now, Evidence{}
	}
	q := g.peers.peer(r.Address, r.Name)
	if t.abandons(q.answer.Report) {
		g.peers.abandoned = t.Now
	}
	q.told(t)
	g.peers.show()
	g.hearing.noSentinels = false
	e := g.counts(t, q)
	e.Proof = g.promotedByPeer(t.Now)
	return t.Now, e
}

// counts takes an answer for a claim. During a failover its address and its epoch
// are of different masters; and one for this node must be newer than the doubt.
func (g *Guard) counts(t Told, q *peer) Evidence {
	r := t.Report
	if r.ConfigEpoch < 0 || r.FailingOver() || t.NamesUs && (r.TakesForDown() || r.Time.Before(g.doubted)) {
		return Evidence{}
	}
	claim := checker.Claim{NamesUs: t.NamesUs && !t.Unresolved, Local: t.Local, Hello: checker.Hello{
		Sentinel: r.ID, From: r.Address, Name: r.Name, Master: r.Master,
		Epoch: uint64(r.ConfigEpoch), Current: uint64(max(r.ConfigEpoch, r.VotedEpoch)),
	}}
	if v := g.claims.view(r.Name); v != nil && claim.Sentinel == "" {
		claim.Sentinel = q.id(v)
	}
	if claim.Sentinel == "" || t.Unresolved && !g.claims.renames(claim.Hello) ||
		!g.claims.knows(claim, g.process.followed) {
		return Evidence{}
	}
	contradicts, names := g.claims.hear(t.Now, claim, g.state.Believed(), g.process.role == checker.RoleMaster)
	return Evidence{Contradicted: contradicts, Named: names}
}

func (n Noticed) note(g *Guard) (time.Time, Evidence) {
	if n.Notice.Name != "" {
		g.peers.noticed(n)
	}
	return n.Now, Evidence{Proof: g.promotedByPeer(n.Now)}
}

// superseded reports whether another node was promoted since this one began to
// follow its last master.
func (g *Guard) superseded() bool { return g.claims.superseded(g.process.followed) }

// promotedByPeer reports whether the promotion that is doubted is that which a
// Sentinel says it makes.
func (g *Guard) promotedByPeer(now time.Time) bool {
	return g.unknown.doubted && now.Sub(g.doubted) < holdPendingElection && !g.superseded() && g.peers.promotesUs(now)
}

// handedOver reports whether the promotion that is doubted was made by hand, for
// the former master follows the node since. Nobody tells the daemon of that master,
// so it is given the time for its next check.
func (g *Guard) handedOver(now time.Time) bool {
	return g.unknown.doubted && g.unknown.inTouch && now.Sub(g.doubted) < holdPendingElection && !g.superseded() &&
		!g.process.followedBack.IsZero() && now.Sub(g.process.followedBack) >= holdFollowedBack
}

// noFailover is the master_failover_state of a node that hands over to nobody.
const noFailover = "no-failover"
