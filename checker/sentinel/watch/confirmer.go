package watch

import (
	"context"
	"sync"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// A Confirmer tells a Monitor whether the Sentinels confirm that its node is the
// master: it listens to the hellos on the node and keeps the [sentinel.Guard]. Set the
// fields before the first use.
//
// Even where the hellos do not count, the end of the subscription is the event
// that a role change makes, and wakes the Monitor.
type Confirmer struct {
	Self  *sentinel.Self
	Guard sentinel.Guard
	// Watcher asks the Sentinels that are heard. Its Reported, Noticed and
	// WantReplicas are set by [Confirmer.Run]; the first two are then called with what
	// the Guard was told. Nil asks nobody.
	Watcher *Watcher
	// Replacement is told what the Sentinels say. Nil asks for no failover.
	Replacement *Replacement
	// IgnoreHellos gives the Monitor no [checker.Standing].
	IgnoreHellos bool
	// Retry is how long after a failed dial the next one begins.
	Retry time.Duration
	// Timeout bounds the lookup of the host that a hello names.
	Timeout time.Duration
	// Forbidden is called when the node refuses the subscription to this user,
	// Unresolvable when a hello names a host that cannot be resolved, and
	// Malformed when a message is no hello. All are called each time.
	Forbidden    func()
	Unresolvable func(checker.Hello)
	Malformed    func(error)

	changes pace // of the state, under the Monitor's lock

	mu      sync.Mutex
	restart context.CancelFunc // of the present subscription
}

// changed reports whether it is worth asking everybody at once. Where the Sentinels
// disagree for good each answer may change the state, and only so many are followed: the
// others are asked in their turn.
func (c *Confirmer) changed(before, after checker.State) bool {
	return before != after && c.changes.count() <= maxChanges
}

// Amend is for [checker.Monitor.Amend].
func (c *Confirmer) Amend(asked, now time.Time, o *checker.Observation) (askWitnesses bool) {
	if o.Suspended > c.Guard.Gap {
		c.Self.Doubt()
	}
	before := c.Guard.State()
	after := c.Guard.On(sentinel.Answer{Asked: asked, Now: now, Observation: *o})
	if c.changed(before, after) && c.Watcher != nil {
		c.Watcher.Ask()
	}
	if !c.IgnoreHellos {
		o.Standing = c.Guard.Standing(now)
	}
	return c.Guard.Waive(now, &o.Quorum)
}

// Vouch is for [checker.Monitor.Vouch].
func (c *Confirmer) Vouch(now time.Time) checker.Vouch {
	if c.IgnoreHellos || c.Watcher == nil {
		return checker.Vouch{}
	}
	c.Watcher.Hurry()
	return c.Guard.Vouch(now)
}

// Memory is what the Guard wants to be remembered.
func (c *Confirmer) Memory(m *checker.Monitor) (memory sentinel.Memory) {
	m.Update(func(time.Time) (u checker.Update) {
		memory = c.Guard.Memory()
		return u
	})
	return memory
}

// Run listens until ctx is done.
func (c *Confirmer) Run(ctx context.Context, m *checker.Monitor) {
	l := &Listener{Node: c.Self.Node, Retry: c.Retry,
		Forbidden: func() {
			m.Update(func(now time.Time) checker.Update {
				c.Guard.On(sentinel.Subscription{Now: now, Refused: true})
				return checker.Update{Wake: true}
			})
			c.Forbidden()
		},
		Subscribed: func() { c.subscribe(m, true) },
		Closed:     func() { c.subscribe(m, false) },
		Message:    func(payload string) { c.message(m, payload) },
	}
	if c.Watcher != nil {
		defer c.watch(ctx, m)()
	}
	for ctx.Err() == nil {
		round, cancel := context.WithCancel(ctx)
		c.mu.Lock()
		c.restart = cancel
		c.mu.Unlock()
		l.Run(round)
		cancel()
	}
}

// Resubscribe makes a new connection, with new credentials.
func (c *Confirmer) Resubscribe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restart != nil {
		c.restart()
	}
}

func (c *Confirmer) subscribe(m *checker.Monitor, stands bool) {
	m.Update(func(now time.Time) checker.Update {
		c.Guard.On(sentinel.Subscription{Now: now, Stands: stands})
		return checker.Update{Wake: !stands}
	})
}

// watch starts the Watcher. It returns how to wait for its end.
func (c *Confirmer) watch(ctx context.Context, m *checker.Monitor) (wait func()) {
	reported, noticed := c.Watcher.Reported, c.Watcher.Noticed
	c.Watcher.WantReplicas = func() bool {
		status, _ := m.Status()
		o := status.Observation
		return o.Role == checker.RoleReplica && !c.Self.Listed(o)
	}
	c.Watcher.Reported = func(r sentinel.Report) {
		c.resolve(m, func(ctx context.Context, o checker.Observation) func(time.Time) sentinel.Event {
			t := c.Self.Told(ctx, r, o)
			return func(now time.Time) sentinel.Event { t.Now = now; return t }
		})
		reported(r)
	}
	c.Watcher.Noticed = func(n sentinel.Notice) {
		c.resolve(m, func(ctx context.Context, o checker.Observation) func(time.Time) sentinel.Event {
			us := n.Node != "" && c.Self.Match(ctx, n.Node, o) == sentinel.Same
			return func(now time.Time) sentinel.Event { return sentinel.Noticed{Now: now, Notice: n, NamesUs: us} }
		})
		noticed(n)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Watcher.guard(func() { c.Watcher.Run(ctx) })
	}()
	return func() { <-ended }
}

// resolve looks up what an event is about, and tells the Guard.
func (c *Confirmer) resolve(
	m *checker.Monitor, look func(ctx context.Context, o checker.Observation) func(now time.Time) sentinel.Event,
) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	status, _ := m.Status()
	event := look(ctx, status.Observation)
	m.Update(func(now time.Time) checker.Update { return c.on(m, now, event(now)) })
}

// on tells the Guard what a Sentinel said, and what follows from it.
func (c *Confirmer) on(m *checker.Monitor, now time.Time, event sentinel.Event) checker.Update {
	before := c.Guard.State()
	after := c.Guard.On(event)
	if _, replied := event.(sentinel.Replied); c.Replacement != nil && !replied {
		c.Replacement.told(m, now, event)
	}
	changed := c.changed(before, after)
	if changed && c.Watcher != nil {
		c.Watcher.Ask()
	}
	u := c.update(now, before, after)
	u.Wake = u.Wake || changed
	if !c.IgnoreHellos {
		u.Vouch = new(c.Guard.Vouch(now))
	}
	return u
}

func (c *Confirmer) message(m *checker.Monitor, payload string) {
	h, err := sentinel.ParseHello(payload)
	if err != nil {
		c.Malformed(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	status, _ := m.Status()
	claim, match := c.Self.Claim(ctx, h, status.Observation)
	if match == sentinel.Unresolved && !c.Self.WasOurs(h.Master) {
		c.Unresolvable(h)
	}
	if c.Watcher != nil {
		c.Watcher.Know(h.From, h.Name)
	}
	m.Update(func(now time.Time) checker.Update {
		return c.on(m, now, sentinel.Heard{Now: now, Claim: claim, Unresolved: match == sentinel.Unresolved})
	})
}

// update is what the Monitor must do after a hello: one against the node acts at
// once, one for it at the next check.
func (c *Confirmer) update(now time.Time, before, after checker.State) (u checker.Update) {
	if c.IgnoreHellos || after.Believed() || after == checker.StateReplica {
		return u
	}
	u.Wake = true
	if before.Believed() {
		u.Amend = func(o *checker.Observation) { o.Standing = c.Guard.Standing(now) }
	}
	return u
}
