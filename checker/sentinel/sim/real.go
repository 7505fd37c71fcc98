package sim

import (
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// A Real is the [Daemon] that ships: the real Guard, Policy and Ledger, driven
// as the Monitor and the Confirmer drive them.
type Real struct {
	// Decide stands in for the Guard's table if it is not nil: see
	// [sentinel.Guard.Decide].
	Decide func(checker.State, sentinel.Evidence) *sentinel.Row

	w      *World
	node   int
	guard  sentinel.Guard
	crash  sentinel.Crash
	again  time.Time // when a check is due that a refused one asked for
	ledger checker.Ledger
	wake   bool
	ask    bool // all Sentinels at once

	subscribed map[string]time.Time // since when, by the address of the Sentinel

	memory     sentinel.Memory // the state file
	boots      int             // of the host, when it was written
	remembered time.Time       // when that was

	formerAsked   time.Time // when the former master was asked last
	formerAnswers bool
}

// NewReal is for [New].
func NewReal(w *World, node int) Daemon { return &Real{w: w, node: node} }

// formerInterval is how often the Monitor asks a witness.
const formerInterval = 500 * time.Millisecond

// Start implements [Daemon].
func (d *Real) Start(now time.Time) {
	gap := sentinel.WatchGap(probeEvery, probeTimeout, maxAge)
	*d = Real{Decide: d.Decide, w: d.w, node: d.node, guard: sentinel.Guard{Gap: gap, Decide: d.Decide, Began: now},
		memory: d.memory, boots: d.boots, subscribed: make(map[string]time.Time)}
	d.crash = sentinel.Crash{Guard: &d.guard, MaxLag: maxUnreplicated}
	if d.boots == d.w.hosts[d.node].boots {
		d.guard.Recall(d.memory)
	}
	d.ledger.Begin(now)
}

// Reload implements [Reloader]: the Guard's record is that which the daemon hands over.
func (d *Real) Reload(now time.Time) {
	record, err := d.guard.Record(now)
	if err == nil {
		d.guard = sentinel.Guard{Gap: d.guard.Gap, Decide: d.Decide}
		err = d.guard.Restore(now, record)
	}
	if err != nil {
		panic(err)
	}
	clear(d.subscribed)
	d.crash, d.again = sentinel.Crash{Guard: &d.guard, MaxLag: maxUnreplicated}, time.Time{}
}

// Remember implements [Reloader].
func (d *Real) Remember(now time.Time) {
	d.memory, d.boots, d.remembered = d.guard.Memory(), d.w.hosts[d.node].boots, now
}

// Probed implements [Daemon]; it is what Monitor.check does.
func (d *Real) Probed(asked, now time.Time, o checker.Observation, err error) {
	c := checker.Check{Time: asked, Duration: now.Sub(asked), Observation: o, Err: err,
		Suspended: d.w.daemons[d.node].suspended}
	if err == nil {
		c.Observation.Suspended = d.ledger.Away(d.suspended())
		d.askFormer(now)
		c.Observation.FormerAnswers = d.formerAnswers && o.Role == checker.RoleMaster
		before := d.guard.State()
		d.guard.On(sentinel.Answer{Asked: asked, Now: now, Observation: c.Observation})
		d.ask = d.ask || before != d.guard.State()
		if c.Observation.Standing.State = d.guard.State(); o.Role == checker.RoleMaster {
			c.Observation.Standing = d.guard.Standing(now)
		}
		if now.Sub(d.remembered) >= time.Second {
			d.memory, d.boots, d.remembered = d.guard.Memory(), d.w.hosts[d.node].boots, now
		}
	}
	c.Verdict = checker.Policy{}.Judge(c.Observation, err)
	d.again = time.Time{}
	switch {
	case err == nil:
		d.crash.Answered(sentinel.Answer{Asked: asked, Now: now, Observation: c.Observation}, c.Suspended, true)
	case err == errRefused:
		var gone bool
		d.again, gone = d.crash.Refused(asked)
		d.ask = d.ask || gone
	default:
		d.crash.Silent()
	}
	d.vouch(now)
	d.ledger.Take(c, now)
	d.ask = d.ask || d.Silent()
}

// suspended is for how long the host was ever suspended.
func (d *Real) suspended() time.Duration { return d.w.hosts[d.node].suspended }

// vouch tells the ledger what the Sentinels say for a node that is silent.
func (d *Real) vouch(now time.Time) {
	d.ledger.Vouch(now, d.guard.Vouch(now))
}

// maxUnreplicated is how far behind the closest replica may be, in commands of the
// stream.
const maxUnreplicated = 100

// Failover implements [Watcher]; it is what Confirmer.replace does.
func (d *Real) Failover(now time.Time) (address, name string) {
	to, ok := d.crash.Next(now, d.suspended())
	if !ok {
		return "", ""
	}
	d.on(now, sentinel.Requested{Now: now, To: to})
	d.crash.Ask(now, to)
	d.memory, d.boots, d.remembered = d.guard.Memory(), d.w.hosts[d.node].boots, now
	return to.Address, to.Name
}

// FailoverReplied implements [Watcher].
func (d *Real) FailoverReplied(now time.Time, address, name string, r checker.FailoverResult) {
	d.on(now, sentinel.Replied{Now: now, To: sentinel.Watched{Address: address, Name: name}, Result: r})
	d.crash.Replied(now, r)
}

// Silent implements [Watcher].
func (d *Real) Silent() bool { return d.ledger.Silent() }

// Ask implements [Watcher].
func (d *Real) Ask() bool {
	ask := d.ask
	d.ask = false
	return ask
}

// Connected implements [Watcher].
func (d *Real) Connected(now time.Time, address string) { d.subscribed[address] = now }

// Disconnected implements [Watcher].
func (d *Real) Disconnected(_ time.Time, address string) { delete(d.subscribed, address) }

// Published implements [Watcher]; it is what Confirmer.noticed does.
func (d *Real) Published(now time.Time, address, channel, payload string) {
	n, err := sentinel.ParseNotice(channel, payload)
	if err != nil {
		return
	}
	n.Address, n.Time = address, now
	us, _ := d.names(n.Node)
	d.on(now, sentinel.Noticed{Now: now, Notice: n, NamesUs: us})
}

// Replied implements [Watcher]; it is what Confirmer.told does.
func (d *Real) Replied(asked, now time.Time, address string, m MasterReply, ok bool) {
	r := sentinel.Failed(m.Name, sentinel.ErrNoSuchMaster)
	if ok {
		r = sentinel.Report{ID: m.ID, RunID: m.RunID, Name: m.Name, Master: m.Address,
			Flags: strings.Split(m.Flags, ","), FailoverState: m.FailoverState, ConfigEpoch: int64(m.ConfigEpoch),
			VotedEpoch: int64(m.VotedEpoch), Quorum: int64(m.Quorum), OtherSentinels: int64(m.NumOtherSentinels),
			DownAfter: m.DownAfter, FailoverTimeout: m.FailoverTimeout, Tilt: m.Tilt, TiltFor: m.TiltFor}
	}
	r.Address, r.Time, r.Subscribed = address, asked, d.subscribed[address]
	us, unresolved := d.names(m.Address)
	local := strings.HasPrefix(address, d.w.Config.hostIP(d.node)+":")
	d.on(now, sentinel.Told{Now: now, Report: r, NamesUs: us, Local: local, Unresolved: unresolved})
	d.crash.Follow(now)
}

// names reports whether an address is that of the node, or a name that cannot be
// resolved.
func (d *Real) names(address string) (us, unresolved bool) {
	if d.w.Config.HostNames && d.w.noResolver > 0 {
		return false, true
	}
	return address == d.w.Config.Address(d.node) || address == d.w.Config.IP(d.node), false
}

// on is what Confirmer.on does.
func (d *Real) on(now time.Time, event sentinel.Event) {
	before := d.guard.State()
	after := d.guard.On(event)
	d.ask = d.ask || before != after
	d.wake = d.wake || before != after || !after.Believed() && after != checker.StateReplica
	if before.Believed() && !after.Believed() {
		d.ledger.Revise(now, func(o *checker.Observation) { o.Standing = d.guard.Standing(now) })
	}
	d.vouch(now)
}

// askFormer is what sentinel.Former does, without the time that it takes.
func (d *Real) askFormer(now time.Time) {
	if d.guard.State() != checker.StatePromoted {
		d.formerAnswers = false
		return
	}
	if now.Sub(d.formerAsked) < formerInterval {
		return
	}
	standing := d.guard.Standing(now)
	d.formerAsked, d.formerAnswers = now, false
	for i, r := range d.w.nodes {
		if d.w.Config.Address(i) == standing.Former {
			open := d.w.network.open(d.node, i) && d.w.network.open(i, d.node)
			d.formerAnswers = open && r.alive && r.stops == 0 && r.master == none
		}
	}
}

// Subscribed implements [Daemon].
func (d *Real) Subscribed(now time.Time) { d.guard.On(sentinel.Subscription{Now: now, Stands: true}) }

// Unsubscribed implements [Daemon].
func (d *Real) Unsubscribed(now time.Time) {
	d.guard.On(sentinel.Subscription{Now: now})
	d.wake = true
}

// Heard implements [Daemon]; it is what Confirmer.message does.
func (d *Real) Heard(now time.Time, h Hello, names Match, local bool) {
	claim := checker.Claim{NamesUs: names == NamesUs, Local: local,
		Hello: checker.Hello{Sentinel: h.Sentinel, From: h.From, Current: h.Current,
			Name: h.Name, Master: h.Master, Epoch: h.Epoch}}
	before := d.guard.State()
	after := d.guard.On(sentinel.Heard{Now: now, Claim: claim, Unresolved: names == NamesUnknown})
	if after.Believed() || after == checker.StateReplica {
		return
	}
	d.wake = true
	if before.Believed() {
		d.ledger.Revise(now, func(o *checker.Observation) { o.Standing = d.guard.Standing(now) })
	}
}

// Timer implements [Daemon].
func (d *Real) Timer(now time.Time) {
	if !d.again.IsZero() && !now.Before(d.again) {
		d.again, d.wake = time.Time{}, true
	}
}

// Next implements [Daemon]: when a refused check is repeated, and when the status
// becomes stale.
func (d *Real) Next() time.Time {
	now := d.w.Clock(d.node)
	s := d.ledger.Status(now, d.suspended(), "")
	stale := now.Add(maxAge - s.Age + time.Millisecond)
	switch {
	case d.w.Config.CrashFailover && d.again.After(now) && (!s.Fresh() || d.again.Before(stale)):
		return d.again
	case !s.Fresh():
		return time.Time{}
	}
	return stale
}

// Wake implements [Daemon].
func (d *Real) Wake() bool {
	wake := d.wake
	d.wake = false
	return wake
}

// Answer implements [Daemon].
func (d *Real) Answer(now time.Time) Answer {
	s := d.ledger.Status(now, d.suspended(), "")
	return Answer{Yes: s.Verdict.Answer() == checker.Yes, Reason: string(s.Verdict.Reason),
		Epoch: s.Observation.Standing.Epoch}
}
