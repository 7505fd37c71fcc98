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
	// Hellos says that somebody listens to the Sentinels and calls
	// [Monitor.Hear]: a master that was found, rather than watched when it was
	// promoted, is not believed before they confirm it, and none that they
	// deny. Without any Sentinel that takes 15 seconds.
	Hellos bool
	// Others are asked twice a second what the policy wants to know of them.
	// Nil means nobody.
	Others *Others

	mu       sync.Mutex
	guard    guard
	others   said
	agreed   time.Time // the promotion that the listed Sentinels have agreed on
	note     string
	disabled bool
	status   Status
	started  time.Time
	answered time.Time // when the last check began that the node answered
	changed  chan struct{}
	wake     chan struct{}
	askNow   chan struct{} // the others
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
	m.guard.listed = m.Others != nil && len(m.Others.Sentinels) > 0
	m.guard.gap = gapOf(cmp.Or(m.Interval, DefaultInterval), cmp.Or(m.Timeout, DefaultTimeout), m.maxAge())
	m.changed, m.wake, m.askNow = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
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
	if m.Others != nil {
		var asking sync.WaitGroup
		defer asking.Wait()
		asking.Go(func() { m.askOthers(ctx) })
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
	m.publish()
}

// Hear takes what a Sentinel said. A word against the node acts at once, one
// for it at the next check, which it asks for.
func (m *Monitor) Hear(w Word) {
	m.hear(func(now time.Time) (denied bool) { return m.guard.hear(now, w) })
}

// Unclear takes what a Sentinel said where it cannot be told which node that
// names. It counts against this one if it had been named before, and otherwise
// only as a Sentinel that is there.
func (m *Monitor) Unclear(h Hello) {
	m.hear(func(now time.Time) (denied bool) { return m.guard.unclear(now, h) })
}

func (m *Monitor) hear(hear func(now time.Time) (denied bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	denied := hear(time.Now())
	if !m.Hellos || m.guard.trust != "" || m.guard.role != RoleMaster {
		return
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
	if !denied {
		return
	}
	m.status.Observation.Hellos = m.guard.hellos(time.Now())
	if m.status.Check.Err == nil {
		m.status.Check.Observation.Hellos = m.status.Observation.Hellos
		m.status.Check.Verdict = m.Policy.Judge(m.status.Check.Observation, nil)
	}
	for role, d := range m.dampers {
		if d.verdict.Answer() != Yes {
			continue
		}
		if v := m.policy(role).Judge(m.status.Observation, nil); v.Answer() != Yes {
			d.step(v, 1, 1, false)
		}
	}
	m.publish()
}

// Listen says whether somebody listens to the Sentinels from now on: only
// then does their silence mean that there are none.
func (m *Monitor) Listen(listens bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	m.guard.listen(time.Now(), listens)
}

// othersEvery is how often the others are asked, othersTimeout how long they
// may take, and othersMaxAge how old their answers may be.
const (
	othersEvery   = 500 * time.Millisecond
	othersTimeout = time.Second
	othersMaxAge  = 3 * time.Second
)

func (m *Monitor) askOthers(ctx context.Context) {
	defer m.Others.Close()
	ticker := time.NewTicker(othersEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		m.mu.Lock()
		o := m.status.Observation
		m.mu.Unlock()
		round, cancel := context.WithTimeout(ctx, min(cmp.Or(m.Timeout, DefaultTimeout), othersTimeout))
		s := m.Others.ask(round, o)
		cancel()
		m.mu.Lock()
		m.others = s
		m.mu.Unlock()
		m.Wake()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-m.askNow:
		}
	}
}

// amend adds to what the node said what others say of it. It must be called
// with mu held.
func (m *Monitor) amend(c *Check) {
	now := c.Time.Add(c.Duration)
	o := &c.Observation
	m.guard.see(c.Time, now, *o)
	if m.Hellos {
		o.Hellos = m.guard.hellos(now)
	}
	if m.Others != nil && now.Sub(m.others.time) <= othersMaxAge {
		m.others.into(o)
		if here, _ := o.Quorum.Here(); here && o.Quorum.Time.After(m.guard.promoted) {
			m.agreed = m.guard.promoted
		}
	}
	// The Sentinels agree on a promotion some time after it. Until then they
	// name the master that the node has followed, and nobody else: not what
	// they said before the promotion, which may have come late.
	promoted := m.guard.promoted
	fresh := o.Quorum.Time.After(promoted)
	if m.Others != nil && !promoted.IsZero() && !fresh {
		select {
		case m.askNow <- struct{}{}:
		default:
		}
	}
	o.Quorum.Waived = !promoted.IsZero() && m.agreed != promoted && now.Sub(promoted) < standUnrest && fresh && o.Quorum.names(m.guard.followed)
	c.Verdict = m.Policy.Judge(*o, nil)
}

// policy is that for a role.
func (m *Monitor) policy(role Role) Policy {
	p := m.Policy
	p.Role = role
	return p
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
	m.note, m.disabled = note, disabled
	if c.Err == nil {
		m.amend(&c)
	}
	m.status.Check = c
	if c.Err == nil {
		m.status.Observation, m.answered = c.Observation, c.Time
	}
	for role, d := range m.dampers {
		d.step(m.policy(role).Judge(c.Observation, c.Err), cmp.Or(m.Rise, DefaultRise), cmp.Or(m.Fall, DefaultFall), time.Since(m.answered) > m.maxAge())
	}
	if !m.publish() && stale {
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
func (m *Monitor) publish() bool {
	roles := make(map[Role]Verdict, len(m.dampers))
	for role, d := range m.dampers {
		switch {
		case m.stopping:
			roles[role] = Verdict{Reason: ReasonStopping, Detail: "the daemon is being stopped"}
		case m.disabled:
			roles[role] = Verdict{Reason: ReasonDisabled, Detail: m.note}
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
