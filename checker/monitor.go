package checker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of a [Monitor].
const (
	DefaultInterval = 100 * time.Millisecond
	DefaultRise     = 1
	DefaultFall     = 3
	DefaultMaxAge   = time.Second
)

// A Monitor checks one node again and again and keeps the answer. Set the
// fields before [Monitor.Run]; the methods may be called concurrently.
//
// Definite answers act immediately; missing ones are counted: the answer
// changes after Fall timeouts in a row, and likewise for a server that is busy,
// unreachable or full. A yes needs Rise good checks in a row.
type Monitor struct {
	Probe    ProbeFunc
	Policy   Policy
	Interval time.Duration // from the begin of a check to the next, if it is done by then; [DefaultInterval] if 0
	Timeout  time.Duration // of one check; [DefaultTimeout] if 0
	Rise     int           // [DefaultRise] if 0
	Fall     int           // [DefaultFall] if 0
	// MaxAge is how long a status is good for after its check; then it is
	// stale, which is no yes. It must be above Interval and Timeout together.
	// [DefaultMaxAge] if 0.
	MaxAge time.Duration
	// Disabled is asked at every check whether the operator has taken the node
	// out, and for the note on it. Nil means never.
	Disabled func() (note string, disabled bool)
	// Impaired is asked at every [Monitor.Status] why the answer cannot be
	// given everywhere; then it is stale everywhere. Empty means that it can.
	// Nil means always. It must not block.
	Impaired func() string
	// Checked is called after every check, by the goroutine of Run.
	Checked func(Check)
	// Witnesses are asked twice a second while they have anything to ask. What they
	// say is added to the observation of a check for [witnessMaxAge].
	Witnesses []Witness
	// Amend adds to the observation of every answered check what else is known
	// of the node: asked is when its question was put, now when its reply was
	// there. It reports whether the witnesses must be asked at once. It runs
	// under the Monitor's lock and must not block or call the Monitor. Nil adds
	// nothing.
	Amend func(asked, now time.Time, o *Observation) (askWitnesses bool)

	// Vouch is asked after a check that failed what the Sentinels say for the node.
	// It runs as Amend does. Nil says nothing.
	Vouch func(now time.Time) Vouch

	// Suspended is for how long the host was ever suspended, which [time.Now] does not
	// count: what is known from before has grown older by that. It is asked at every
	// check and every [Monitor.Status]. Nil means never.
	Suspended func() time.Duration

	// Past is the [Status.History] that an earlier daemon left. It is shown, and
	// makes no answer.
	Past []Transition

	latest  atomic.Pointer[snapshot]
	stopped atomic.Bool
	mu      sync.Mutex // not held by who only reads the status: no client can make a check wait
	ledger  Ledger
	heard   []testimony // of each witness
	// inherited is what the witnesses of another Monitor said. It is good for MaxAge.
	inherited testimony
	changed   chan struct{}
	wake      chan struct{}
	askNow    []chan struct{} // for each witness
}

// A snapshot is a ledger that changes no more, and what is closed when the
// reason changes.
type snapshot struct {
	ledger  Ledger
	changed chan struct{}
}

// A testimony is what a witness has said.
type testimony struct {
	asked     time.Time
	suspended time.Duration // of [Monitor.Suspended] then
	add       func(*Observation)
}

// A Status is what a [Monitor] knows at one moment.
type Status struct {
	// Verdict is what to act upon, for the role of the policy.
	Verdict Verdict
	// Check is the last one that is done. Its own verdict is not damped.
	Check Check
	// Observation is that of the last check which the node answered; what it
	// says is older than Check if that one failed.
	Observation Observation
	// Age of the information behind the status: a yes is as old as the question
	// that Redis answered, everything else as old as the end of the last check,
	// or as the start if none is done.
	Age time.Duration
	// Since is when the answer became what it is.
	Since time.Time
	// Transitions counts the changes of the answer, by what it became.
	Transitions map[Answer]int
	// History holds the last changes of the reason, the newest first.
	History []Transition

	roles  [len(ledgerRoles)]Verdict
	serial uint64 // raised by every check and all other news
}

// A Transition is one change of the reason.
type Transition struct {
	Time     time.Time
	From, To Verdict
	Lasted   time.Duration // how long From stood
}

// historyLength bounds [Status.History].
const historyLength = 32

// For returns the verdict for another role than the policy's, under the same
// guards: [RoleMaster], [RoleReplica] or [RoleAny].
func (s Status) For(role Role) Verdict {
	if i := slices.Index(ledgerRoles[:], role); i >= 0 && s.roles[i].Reason != "" {
		return s.roles[i]
	}
	return Verdict{Reason: ReasonRole, Detail: "no such role"}
}

// Fresh reports whether the status is young enough to be believed, whatever
// it says.
func (s Status) Fresh() bool { return s.Verdict.Reason != ReasonStale }

// init must be called with mu held.
func (m *Monitor) init() {
	if m.changed != nil {
		return
	}
	m.ledger = Ledger{Policy: m.Policy, Rise: m.Rise, Fall: m.Fall, MaxAge: m.MaxAge, Past: m.Past}
	m.ledger.Begin(time.Now())
	m.changed, m.wake = make(chan struct{}), make(chan struct{}, 1)
	m.heard = make([]testimony, len(m.Witnesses))
	for range m.Witnesses {
		m.askNow = append(m.askNow, make(chan struct{}, 1))
	}
	m.publish(false)
}

// Run checks until ctx is done. A check that has begun is finished first, so
// it may take Timeout to return.
func (m *Monitor) Run(ctx context.Context) error {
	m.mu.Lock()
	m.init()
	wake := m.wake
	m.mu.Unlock()
	var asking sync.WaitGroup
	for i, w := range m.Witnesses {
		asking.Go(func() { m.askWitness(ctx, i, w) })
	}
	ticker := time.NewTicker(cmp.Or(m.Interval, DefaultInterval))
	defer ticker.Stop()
	for ctx.Err() == nil {
		m.check()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-wake:
		}
	}
	asking.Wait() // not deferred: a panic must end the process, not wait
	return nil
}

// Wake asks for a check at once: something happened to the node.
func (m *Monitor) Wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	signal(m.wake)
}

// signal fills a channel of one place.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stop makes the answer [ReasonStopping] for good.
func (m *Monitor) Stop() {
	m.stopped.Store(true) // acts even if the lock is never given back
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	m.publish(m.ledger.Stop(time.Now()))
}

// An Update is what follows from news about the node that no check found.
type Update struct {
	Wake bool // check at once
	// Amend changes the last observation, which is then judged anew. That can
	// only take a yes away. Nil changes nothing.
	Amend func(*Observation)
	// Vouch is what the Sentinels say now for a node that does not answer. Nil means
	// as before.
	Vouch *Vouch
}

// Update runs f under the Monitor's lock, so that it excludes Amend, and does
// what it returns. F must not block or call the Monitor.
func (m *Monitor) Update(f func(now time.Time) Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	now := time.Now()
	u := f(now)
	if u.Wake {
		signal(m.wake)
	}
	if u.Amend != nil {
		m.publish(m.ledger.Revise(now, u.Amend))
	}
	if u.Vouch != nil {
		m.publish(m.ledger.Vouch(now, *u.Vouch))
	}
}

// How often a witness is asked, how long it may take, and how old its answer
// may be.
const (
	witnessInterval = 500 * time.Millisecond
	witnessTimeout  = time.Second
	witnessMaxAge   = 3 * time.Second
)

func (m *Monitor) askWitness(ctx context.Context, i int, w Witness) {
	defer w.Close()
	ticker := time.NewTicker(witnessInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		m.mu.Lock()
		o := m.ledger.status.Observation
		m.mu.Unlock()
		t := testimony{asked: time.Now(), suspended: m.suspended()}
		round, cancel := context.WithTimeout(ctx, min(cmp.Or(m.Timeout, DefaultTimeout), witnessTimeout))
		t.add = w.Ask(round, o)
		cancel()
		m.mu.Lock()
		m.heard[i] = t
		if t.add != nil {
			signal(m.wake)
		}
		m.mu.Unlock()
		again := ticker.C
		if t.add == nil {
			again = nil // amend sees when there is something to ask
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-m.askNow[i]:
		}
	}
}

// amend adds to what the node said what others say of it. It must be called
// with mu held.
func (m *Monitor) amend(c *Check) {
	now, suspended := c.Time.Add(c.Duration), m.suspended()
	c.Observation.Suspended = m.ledger.Away(suspended)
	if t := m.inherited; t.add != nil && now.Sub(t.asked)+suspended-t.suspended <= m.ledger.maxAge() {
		t.add(&c.Observation)
	}
	for _, t := range m.heard {
		if t.add != nil && now.Sub(t.asked)+suspended-t.suspended <= witnessMaxAge {
			t.add(&c.Observation)
		}
	}
	if m.Amend != nil && m.Amend(c.Time, now, &c.Observation) {
		for _, c := range m.askNow {
			signal(c)
		}
	}
	for i, t := range m.heard {
		if t.add == nil && !t.asked.IsZero() && m.Witnesses[i].Asks(c.Observation) {
			signal(m.askNow[i])
		}
	}
}

func (m *Monitor) check() {
	// The probe gets a context that lives on when Run's ends: what it finds
	// then is still true.
	suspended := m.suspended()
	c := ask(context.Background(), m.Timeout, m.Probe)
	c.Suspended = suspended
	var note string
	var disabled bool
	if m.Disabled != nil {
		note, disabled = m.Disabled()
	}
	m.mu.Lock()
	m.ledger.Disable(note, disabled)
	now, changed := time.Now(), false
	switch {
	case c.Err == nil:
		m.amend(&c)
	case m.Vouch != nil:
		changed = m.ledger.Vouch(now, m.Vouch(now))
	}
	c.Verdict = m.Policy.Judge(c.Observation, c.Err)
	m.publish(m.ledger.Take(c, now) || changed)
	m.mu.Unlock()
	if m.Checked != nil {
		m.Checked(c)
	}
}

// publish makes what the ledger holds the status, and wakes whoever waits for a
// change if there is one. It must be called with mu held.
func (m *Monitor) publish(changed bool) {
	before := m.changed
	if changed {
		m.changed = make(chan struct{})
	}
	m.latest.Store(&snapshot{m.ledger, m.changed})
	if changed {
		close(before)
	}
}

// Status returns what is known now, and a channel that is closed when the
// reason changes next. The channel stays open when time alone makes a status
// stale; see [Monitor.Watch]. It waits for nobody.
func (m *Monitor) Status() (Status, <-chan struct{}) {
	latest := m.latest.Load()
	if latest == nil {
		m.mu.Lock()
		m.init()
		latest = m.latest.Load()
		m.mu.Unlock()
	}
	impaired := ""
	if m.Impaired != nil {
		impaired = m.Impaired()
	}
	now, ledger := time.Now(), latest.ledger
	if m.stopped.Load() {
		ledger.Stop(now)
	}
	return ledger.Status(now, m.suspended(), impaired), latest.changed
}

// suspended is for how long the host was ever suspended.
func (m *Monitor) suspended() time.Duration {
	if m.Suspended == nil {
		return 0
	}
	return m.Suspended()
}

// Watch calls f with the status: at once, at every change of the reason, when
// the status becomes stale, and at least once every period; until ctx is done.
func (m *Monitor) Watch(ctx context.Context, every time.Duration, f func(Status)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s, changed := m.Status()
		again := time.Now().Add(every)
		if left := cmp.Or(m.MaxAge, DefaultMaxAge) - s.Age; left >= 0 && left < every {
			again = time.Now().Add(left + time.Millisecond)
		}
		f(s)
		timer.Reset(time.Until(again))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		}
	}
}
