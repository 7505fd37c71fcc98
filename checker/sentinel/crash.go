package sentinel

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"redis-is-master/checker"
)

const (
	// refusalsApart is how far apart two refused connections must be that show that a
	// process is gone: one that is restarted in place may refuse a single one.
	refusalsApart = 20 * time.Millisecond
	// crashWindow is for how long after that the Sentinels are asked for a failover:
	// later they see for themselves.
	crashWindow = time.Second
	// crashObserved is how old the last answer of the process may be.
	crashObserved = 2 * time.Second
	// crashConsent is how old the answers may be that make the majority: a host that
	// stood still meanwhile must not act on them.
	crashConsent = 500 * time.Millisecond
	// clocksApart is more than two clocks are read apart, and less than a host is ever
	// suspended.
	clocksApart = 10 * time.Millisecond
)

// A Crash decides when a Sentinel is asked to replace a master whose process is
// gone, and which. It is as pure as its [Guard], whose records it reads, and is
// called by the same goroutine. Set the fields before the first call.
//
// A failover that is asked for needs nobody's consent: the Sentinel that is asked
// leads it without an election. So it is asked for only where the node was a
// believed master, nothing listens at its place any more, a replica has nearly all
// that it wrote, and a majority of the Sentinels, asked since it was gone, name it
// and know of no failover.
type Crash struct {
	Guard *Guard
	// MaxLag is how many bytes the closest replica may not have acknowledged.
	MaxLag int64

	answered  time.Time     // when the process was last asked that answered
	suspended time.Duration // for how long the host was ever suspended then
	runID     string        // of it
	unable    string        // why it could not be replaced then
	refused   time.Time     // when the first refused check since then began; zero if there was none
	gone      time.Time     // when the process was known to be gone; zero if it is not
	tried     []string      // who was asked since
	request   checker.FailoverRequest
	epoch     uint64 // at which the node was named then
	results   map[checker.FailoverResult]int
	forbidden map[string]bool // by address: its user may not ask for a failover
}

// Answered notes an answer of the node, after the Guard was told: its Now, Asked and
// Observation count. Seen says that its process is seen to listen on this host,
// suspended is for how long the host was ever suspended.
func (c *Crash) Answered(a Answer, suspended time.Duration, seen bool) {
	o, now := a.Observation, a.Now
	if o.RunID != c.runID {
		c.tried = nil
	}
	c.answered, c.runID, c.suspended, c.refused, c.gone = a.Asked, o.RunID, suspended, time.Time{}, time.Time{}
	c.unable = c.unreplaceable(o, seen)
	c.Follow(now)
}

// unreplaceable is why the node could not be replaced as it is.
func (c *Crash) unreplaceable(o checker.Observation, seen bool) string {
	state := c.Guard.State()
	switch {
	case o.Role != checker.RoleMaster:
		return "the node is no master"
	case state != checker.StateConfirmed && state != checker.StatePromoted:
		return fmt.Sprintf("the Sentinels do not confirm the node: %s", state)
	case o.Loading || o.Cluster || c.Guard.process.handingOver:
		return "the node is loading, hands over, or is of a cluster"
	case !seen:
		return "Redis is not seen to listen on this host: it runs on another one, or in a container"
	case o.Unreplicated < 0:
		return "no replica is online"
	case o.Unreplicated > c.MaxLag:
		return fmt.Sprintf("the closest replica is %d bytes behind, and %d are allowed", o.Unreplicated, c.MaxLag)
	}
	return ""
}

// Silent notes a check that failed and shows nothing: the process may live.
func (c *Crash) Silent() { c.refused, c.gone = time.Time{}, time.Time{} }

// Refused notes a check that was refused, where nothing listens any more; asked is
// when it began. Again is when the next one shall begin, zero if that is not needed;
// gone says that the process is now known to be gone, so that it is worth asking the
// Sentinels what they know.
func (c *Crash) Refused(asked time.Time) (again time.Time, gone bool) {
	switch {
	case c.refused.IsZero():
		c.refused = asked
	case c.gone.IsZero() && asked.Sub(c.refused) >= refusalsApart:
		c.gone = asked
		return again, true
	case !c.gone.IsZero():
		return again, false
	}
	return c.refused.Add(refusalsApart), false
}

// Refuses notes whether a Sentinel refuses the user a failover.
func (c *Crash) Refuses(address string, refuses bool) {
	if c.forbidden == nil {
		c.forbidden = make(map[string]bool)
	}
	if c.forbidden[address] = refuses; len(c.forbidden) > maxPeers {
		clear(c.forbidden)
	}
}

// Request is the last failover that was asked for; zero if there was none.
func (c *Crash) Request() checker.FailoverRequest { return c.request }

// Next is the Sentinel to be asked for a failover now, if any. Who asks it must call
// [Guard.On] with a [Requested] first, and tell the [Replied]. Where the host was
// suspended since the node answered there is none: what comes then is of before.
func (c *Crash) Next(now time.Time, suspended time.Duration) (to Watched, ok bool) {
	p := &c.Guard.peers
	moves, _ := p.moving()
	if suspended-c.suspended > clocksApart {
		return to, false
	}
	if c.gone.IsZero() || c.unable != "" || moves != nil || now.Sub(c.gone) > crashWindow ||
		c.gone.Sub(c.answered) > crashObserved {
		return to, false
	}
	v, why := c.name()
	if why != "" || c.wait(now, v) > 0 || len(p.consent(c.gone, now, v)) == 0 {
		return to, false
	}
	for _, q := range p.consent(later(c.gone, now.Add(-crashConsent)), now, v) {
		if !slices.Contains(c.tried, q.address) && !c.forbidden[q.address] && !q.answer.Report.Tilt {
			return Watched{q.address, q.name}, true
		}
	}
	return to, false
}

// name is the master name by which the Sentinels know the node.
func (c *Crash) name() (v *nameView, why string) {
	names := c.Guard.claims.names
	switch {
	case len(names) == 0:
		return nil, "no Sentinel is known"
	case len(names) > 1:
		return nil, "the Sentinels know the node by several names"
	case !names[0].best.NamesUs:
		return nil, "the Sentinels name another node"
	}
	return names[0], ""
}

// Missing is why no failover could be asked for if the process died now; empty if
// one could.
func (c *Crash) Missing(now time.Time) string {
	switch {
	case c.answered.IsZero():
		return "Redis has not answered yet"
	case !c.gone.IsZero():
		return "Redis is gone"
	case c.unable != "":
		return c.unable
	}
	v, why := c.name()
	if why != "" {
		return why
	}
	if wait := c.wait(now, v); wait > 0 {
		return fmt.Sprintf("one was asked for already, and the failover-timeout lasts %v more", wait.Round(time.Second))
	}
	agree := c.Guard.peers.consent(now.Add(-peerSilent), now, v)
	switch {
	case len(agree) == 0:
		return "no majority of the Sentinels answers, names the node and tells its votes"
	case !slices.ContainsFunc(agree, func(q *peer) bool { return !c.forbidden[q.address] }):
		return "this user may not ask a Sentinel for a failover"
	}
	return ""
}

// wait is for how long no other failover may be asked for; negative if one may.
func (c *Crash) wait(now time.Time, v *nameView) time.Duration {
	last := c.Guard.request.Time
	if last.IsZero() {
		return -1
	}
	return c.Guard.peers.failoverTimeout(v) - now.Sub(last)
}

// State is what is known, for people.
func (c *Crash) State(now time.Time) checker.CrashFailover {
	return checker.CrashFailover{Missing: c.Missing(now), Last: c.request, Results: maps.Clone(c.results)}
}

// Ask notes that a Sentinel is asked now.
func (c *Crash) Ask(now time.Time, to Watched) {
	c.tried = append(c.tried, to.Address)
	c.request = checker.FailoverRequest{Time: now, Sentinel: to.Address, Name: to.Name, Result: checker.FailoverAsked}
	if v := c.Guard.claims.view(to.Name); v != nil {
		c.epoch = v.best.Epoch
	}
}

// Replied notes what the Sentinel answered: [checker.FailoverAsked] if it accepted.
func (c *Crash) Replied(now time.Time, r checker.FailoverResult) {
	if r != checker.FailoverAsked {
		c.end(r)
	}
	c.Follow(now)
}

func (c *Crash) end(r checker.FailoverResult) {
	if c.results == nil {
		c.results = make(map[checker.FailoverResult]int)
	}
	c.request.Result = r
	c.results[r]++
}

// Follow looks what became of the failover that a Sentinel has accepted, after the
// Guard was told something.
func (c *Crash) Follow(now time.Time) {
	if c.request.Result != checker.FailoverAsked {
		return
	}
	v := c.Guard.claims.view(c.request.Name)
	switch m := c.Guard.peers.peer(c.request.Sentinel, c.request.Name).move; {
	case v != nil && !v.best.NamesUs && v.best.Epoch > c.epoch:
		c.end(checker.FailoverPromoted)
	case m == nil || v != nil && now.Sub(c.request.Time) > c.Guard.peers.failoverTimeout(v):
		c.end(checker.FailoverAborted)
	}
}

// A Requested is that a Sentinel is asked for a failover, a Replied what it answered
// to that: [checker.FailoverAsked] if it accepted.
type (
	Requested struct {
		Now time.Time
		To  Watched
	}
	Replied struct {
		Now    time.Time
		To     Watched
		Result checker.FailoverResult
	}
)

func (r Requested) note(g *Guard) (time.Time, Evidence) {
	q := g.peers.peer(r.To.Address, r.To.Name)
	q.move = &move{last: r.Now, runID: q.answer.Report.RunID, pending: true}
	g.request = Request{Watched: r.To, RunID: q.move.runID, Time: r.Now}
	return r.Now, Evidence{}
}

func (r Replied) note(g *Guard) (time.Time, Evidence) {
	q := g.peers.peer(r.To.Address, r.To.Name)
	switch pending := q.move != nil && q.move.pending; {
	case r.Result.Definite():
		if g.request = (Request{}); pending {
			q.move = nil
		}
	case pending:
		q.move.pending, q.move.last = false, r.Now
	case q.move == nil: // its end was told before the reply, or of an earlier one
		q.move = &move{last: r.Now, runID: q.answer.Report.RunID}
	}
	return r.Now, Evidence{}
}

// consent are the Sentinels of a name that were asked since a moment, those of other
// hosts first. There are none unless they are a majority, and all of them name this
// node and know of no failover.
func (p *peers) consent(since, now time.Time, v *nameView) (all []*peer) {
	var ids []string
	for _, q := range p.all {
		asked := q.answer.Report.Time
		if q.name != v.best.Name || asked.Before(since) {
			continue
		}
		if !q.names(v) || q.move != nil {
			return nil
		}
		if id := q.id(v); id != "" && !slices.Contains(ids, id) {
			ids, all = add(ids, id), append(all, q)
		}
	}
	if known := p.known(now, v); 2*len(ids) <= known {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *peer) int {
		switch {
		case a.answer.Local == b.answer.Local:
			return 0
		case a.answer.Local:
			return 1
		}
		return -1
	})
	return all
}

// failoverTimeout is the longest that a Sentinel of a name has told; the default of
// the Sentinels if none has.
func (p *peers) failoverTimeout(v *nameView) (longest time.Duration) {
	for _, q := range p.all {
		if q.name == v.best.Name {
			longest = max(longest, q.answer.Report.FailoverTimeout)
		}
	}
	if longest <= 0 {
		return 3 * time.Minute
	}
	return longest
}
