package checker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
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
// What the node says acts at once. What its silence suggests is counted: the
// answer changes after Fall timeouts in a row, and the same for a server that
// is busy, unreachable or full. A yes needs Rise good checks in a row.
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

	mu       sync.Mutex
	status   Status
	started  time.Time
	answered time.Time // when the last check began that the node answered
	changed  chan struct{}
	wake     chan struct{}
	stopping bool
	dampers  map[Role]*damper
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
	// Age is how old that is what the status says: a yes is as old as the
	// question that it answered, all else as the end of the last check, or the
	// start if none is done.
	Age time.Duration
	// Since is when the answer became what it is.
	Since time.Time
	// Transitions counts the changes of the answer, by what it became.
	Transitions map[Answer]int
	// History holds the last changes of the reason, the newest first.
	History []Transition

	roles map[Role]Verdict
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
	if v, ok := s.roles[role]; ok {
		return v
	}
	return Verdict{Reason: ReasonRole, Detail: "no such role"}
}

// Fresh reports whether the status is young enough to be believed, whatever
// it says.
func (s Status) Fresh() bool { return s.Verdict.Reason != ReasonStale }

// damper turns the verdicts of checks into one that does not flap.
type damper struct {
	good, silent int
	verdict      Verdict
}

// step takes the verdict of one check. A silence that has lasted for longer
// than a status is good for counts as one of fall checks.
func (d *damper) step(v Verdict, rise, fall int, tooLong bool) {
	switch {
	case v.Answer() == Yes:
		d.silent = 0
		if d.good++; d.good >= rise || d.verdict.Answer() == Yes {
			d.verdict = v
		}
	case v.Reason.silence():
		d.good = 0
		if d.silent++; d.silent >= fall || tooLong && d.verdict.Answer() == Yes {
			d.verdict = v
		}
	default:
		d.good, d.silent = 0, 0
		d.verdict = v
	}
}

// silence is a reason that says nothing about the role: it may be over at the
// next check.
func (r Reason) silence() bool {
	switch r {
	case ReasonTimeout, ReasonBusy, ReasonMaxClients, ReasonUnreachable:
		return true
	}
	return false
}

var starting = Verdict{Reason: ReasonStarting, Detail: "no check is done yet"}

// init must be called with mu held.
func (m *Monitor) init() {
	if m.changed != nil {
		return
	}
	m.started = time.Now()
	m.changed, m.wake = make(chan struct{}), make(chan struct{}, 1)
	m.dampers = make(map[Role]*damper)
	m.status = Status{Verdict: starting, Since: m.started, Transitions: make(map[Answer]int), roles: make(map[Role]Verdict)}
	for _, role := range []Role{RoleMaster, RoleReplica, RoleAny} {
		m.dampers[role] = &damper{verdict: starting}
		m.status.roles[role] = starting
	}
}

// Run checks until ctx is done. A check that has begun is finished first, so
// it may take Timeout to return.
func (m *Monitor) Run(ctx context.Context) error {
	m.mu.Lock()
	m.init()
	wake := m.wake
	m.mu.Unlock()
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
	return nil
}

// Wake asks for a check at once: something happened to the node.
func (m *Monitor) Wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Stop makes the answer [ReasonStopping] for good.
func (m *Monitor) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	m.stopping = true
	m.publish("", false)
}

func (m *Monitor) check() {
	// The probe gets a context that lives on when Run's ends: what it finds
	// then is still true.
	c := Run(context.Background(), m.Timeout, m.Probe, m.Policy)
	var note string
	var disabled bool
	if m.Disabled != nil {
		note, disabled = m.Disabled()
	}
	m.mu.Lock()
	stale := time.Since(m.known()) > m.maxAge()
	m.status.Check = c
	if c.Err == nil {
		m.status.Observation, m.answered = c.Observation, c.Time
	}
	for role, d := range m.dampers {
		p := m.Policy
		p.Role = role
		d.step(p.Judge(c.Observation, c.Err), cmp.Or(m.Rise, DefaultRise), cmp.Or(m.Fall, DefaultFall), time.Since(m.answered) > m.maxAge())
	}
	if !m.publish(note, disabled) && stale {
		m.notify() // it is young again, and says what it said before
	}
	m.mu.Unlock()
	if m.Checked != nil {
		m.Checked(c)
	}
}

// notify wakes whoever waits for a change. It must be called with mu held.
func (m *Monitor) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// publish makes the dampers' verdicts, or what overrides them, the status, and
// reports whether the reason changed. It must be called with mu held.
func (m *Monitor) publish(note string, disabled bool) bool {
	roles := make(map[Role]Verdict, len(m.dampers))
	for role, d := range m.dampers {
		switch {
		case m.stopping:
			roles[role] = Verdict{Reason: ReasonStopping, Detail: "the daemon is being stopped"}
		case disabled:
			roles[role] = Verdict{Reason: ReasonDisabled, Detail: note}
		default:
			roles[role] = d.verdict
		}
	}
	before, now := m.status.Verdict, time.Now()
	m.status.roles, m.status.Verdict = roles, roles[m.Policy.Want()]
	after := m.status.Verdict
	if before.Reason == after.Reason {
		return false
	}
	lasted := now.Sub(m.status.Since)
	if len(m.status.History) > 0 {
		lasted = now.Sub(m.status.History[0].Time)
	}
	history := append([]Transition{{Time: now, From: before, To: after, Lasted: lasted}}, m.status.History...)
	m.status.History = slices.Clip(history[:min(len(history), historyLength)])
	if before.Answer() != after.Answer() {
		m.status.Since = now
		m.status.Transitions = maps.Clone(m.status.Transitions)
		m.status.Transitions[after.Answer()]++
	}
	m.notify()
	return true
}

// Status returns what is known now, and a channel that is closed when the
// reason changes next. That time alone makes a status stale closes nothing;
// see [Monitor.Watch].
func (m *Monitor) Status() (Status, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	s := m.status
	s.Age = time.Since(m.known())
	if m.stopping {
		return s, m.changed
	}
	stale := Verdict{Reason: ReasonStale, Detail: "what the last check found is " + s.Age.Round(time.Millisecond).String() + " old, and good for " + m.maxAge().String(),
		Hint: "Redis or the daemon hangs, or the machine has no time for them: see their logs"}
	all := s.Age > m.maxAge()
	if m.Impaired != nil {
		if why := m.Impaired(); why != "" {
			all, stale.Detail = true, why
		}
	}
	if !all && time.Since(m.answered) <= m.maxAge() {
		return s, m.changed
	}
	// A yes for another role than the wanted one is as old as the last answer,
	// even where the verdict for the wanted one is younger.
	s.roles = make(map[Role]Verdict, len(m.status.roles))
	for role, v := range m.status.roles {
		if all || v.Answer() == Yes {
			v = stale
		}
		s.roles[role] = v
	}
	s.Verdict = s.roles[m.Policy.Want()]
	return s, m.changed
}

// known is since when that is known what the status says. A yes is as old as
// the question that it answered, whatever checks have failed since; all else
// is as old as the end of the last check.
func (m *Monitor) known() time.Time {
	c := m.status.Check
	switch {
	case c.Time.IsZero():
		return m.started
	case m.status.Verdict.Answer() == Yes:
		return m.answered
	}
	return c.Time.Add(c.Duration)
}

func (m *Monitor) maxAge() time.Duration { return cmp.Or(m.MaxAge, DefaultMaxAge) }

// Watch calls f with the status: at once, at every change of the reason, when
// the status becomes stale, and at least once every period; until ctx is done.
func (m *Monitor) Watch(ctx context.Context, every time.Duration, f func(Status)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s, changed := m.Status()
		again := time.Now().Add(every)
		if left := m.maxAge() - s.Age; left >= 0 && left < every {
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
