package checker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// A Ledger turns the checks of one node into a [Status]: it damps, ages and
// overrides. It is pure: all times come from its caller, who calls it from one
// goroutine at a time. Set the fields before [Ledger.Begin].
type Ledger struct {
	Policy Policy
	Rise   int           // [DefaultRise] if 0
	Fall   int           // [DefaultFall] if 0
	MaxAge time.Duration // [DefaultMaxAge] if 0
	Past   []Transition  // what an earlier daemon left of its [Status.History]

	status   Status
	started  time.Time
	answered time.Time     // when the last check began that the node answered
	slept    time.Duration // for how long the host had ever been suspended then
	dampers  [len(ledgerRoles)]damper
	stopping bool
	disabled bool
	note     string // on why it is disabled
	vouch    Vouch
}

// A Vouch is the Sentinels' word for a node that does not answer: nobody else was
// promoted. The zero Vouch is none.
type Vouch struct {
	AsOf    time.Time     // when those were asked that make a majority
	Silence time.Duration // of the node since its last answer, for which that is enough to know
}

// damper turns the verdicts of checks for one wanted role into one that does
// not flap.
type damper struct {
	role         Role
	good, silent int // checks in a row
	verdict      Verdict
}

// ledgerRoles are those that a ledger has a verdict for.
var ledgerRoles = [...]Role{RoleMaster, RoleReplica, RoleAny}

// resumed is less than any time for which a host is suspended, and more than two
// clocks are read apart.
const resumed = 10 * time.Millisecond

var starting = Verdict{Reason: ReasonStarting, Detail: "no check is done yet"}

// Begin starts the ledger; until the first check the answer is
// [ReasonStarting].
func (l *Ledger) Begin(now time.Time) {
	l.started = now
	l.status = Status{Verdict: starting, Since: now, Transitions: make(map[Answer]int)}
	if len(l.Past) > 0 {
		l.status.History = l.Past
		l.remember(Transition{Time: now, From: l.Past[0].To, To: starting, Lasted: now.Sub(l.Past[0].Time)})
	}
	for i, role := range ledgerRoles {
		l.dampers[i] = damper{role: role, verdict: starting}
		l.status.roles[i] = starting
	}
}

// remember puts a transition before the history.
func (l *Ledger) remember(t Transition) {
	history := append([]Transition{t}, l.status.History...)
	l.status.History = slices.Clip(history[:min(len(history), historyLength)])
}

// Take takes a check that is done, and reports whether the answer's reason
// changed or a stale status became fresh.
func (l *Ledger) Take(c Check, now time.Time) (changed bool) {
	wasStale := now.Sub(l.asOf(now)) > l.maxAge()
	l.status.Check = c
	if c.Err == nil {
		l.status.Observation, l.answered, l.slept = c.Observation, c.Time, c.Suspended
	}
	tooLong, fall := now.Sub(l.yesAsOf(now)) > l.maxAge(), cmp.Or(l.Fall, DefaultFall)
	if l.vouched(now) && !tooLong {
		fall = math.MaxInt
	}
	// Whatever has one of the wanted roles is judged alike for all that accept it.
	accepted := l.policy(RoleAny).Judge(c.Observation, c.Err)
	for i := range l.dampers {
		d := &l.dampers[i]
		v := accepted
		if p := l.policy(d.role); c.Err == nil && !p.accepts(c.Observation.Role) {
			v = p.Judge(c.Observation, nil)
		}
		d.step(v, cmp.Or(l.Rise, DefaultRise), fall, tooLong)
	}
	return l.publish(now) || wasStale
}

// Vouch takes the Sentinels' word for the node, the last one. It lets a yes live
// while Redis is silent: checks fail by their timeout, and by nothing else.
func (l *Ledger) Vouch(now time.Time, v Vouch) (changed bool) {
	was := l.vouched(now)
	l.vouch = v
	if !was || l.vouched(now) {
		return false
	}
	for i := range l.dampers {
		d := &l.dampers[i]
		if d.verdict.Answer() == Yes && (d.silent >= cmp.Or(l.Fall, DefaultFall) || now.Sub(l.answered) > l.maxAge()) {
			d.verdict = l.policy(d.role).Judge(l.status.Check.Observation, l.status.Check.Err)
		}
	}
	return l.publish(now)
}

// Silent reports whether the last check failed by its timeout.
func (l *Ledger) Silent() bool {
	e, ok := errors.AsType[*Error](l.status.Check.Err)
	return ok && e.Reason == ReasonTimeout
}

// vouched reports whether the Sentinels' word stands in for an answer.
func (l *Ledger) vouched(now time.Time) bool {
	return l.vouch.AsOf.After(l.answered) && now.Sub(l.answered) < l.vouch.Silence && l.Silent()
}

// yesAsOf is the time of the information behind a yes.
func (l *Ledger) yesAsOf(now time.Time) time.Time {
	if l.vouched(now) {
		return l.vouch.AsOf
	}
	return l.answered
}

// Revise amends the last observation by what others have said since, and
// judges it anew. That can only take a yes away; giving one needs a check.
func (l *Ledger) Revise(now time.Time, amend func(*Observation)) (changed bool) {
	amend(&l.status.Observation)
	if l.status.Check.Err == nil {
		l.status.Check.Observation = l.status.Observation
		l.status.Check.Verdict = l.Policy.Judge(l.status.Observation, nil)
	}
	for i := range l.dampers {
		d := &l.dampers[i]
		if d.verdict.Answer() != Yes {
			continue
		}
		if v := l.policy(d.role).Judge(l.status.Observation, nil); v.Answer() != Yes {
			d.step(v, 1, 1, false)
		}
	}
	return l.publish(now)
}

// Stop makes the answer [ReasonStopping] for good.
func (l *Ledger) Stop(now time.Time) (changed bool) {
	l.stopping = true
	return l.publish(now)
}

// Disable makes the answer [ReasonDisabled], with a note, until it is called
// with false.
func (l *Ledger) Disable(note string, disabled bool) { l.note, l.disabled = note, disabled }

// step takes the verdict of one check. A silence that lasts longer than a
// status is good for counts as if it had come fall times.
func (d *damper) step(v Verdict, rise, fall int, tooLong bool) {
	switch {
	case v.Answer() == Yes:
		d.silent = 0
		if d.good++; d.good >= rise || d.verdict.Answer() == Yes {
			d.verdict = v
		}
	case v.Reason.transient():
		d.good = 0
		if d.silent++; d.silent >= fall || tooLong && d.verdict.Answer() == Yes {
			d.verdict = v
		}
	default:
		d.good, d.silent = 0, 0
		d.verdict = v
	}
}

// transient reports whether a reason says nothing about the role, and may be
// over at the next check.
func (r Reason) transient() bool {
	switch r {
	case ReasonTimeout, ReasonBusy, ReasonMaxClients, ReasonUnreachable:
		return true
	}
	return false
}

// policy is the ledger's, for another role.
func (l *Ledger) policy(role Role) Policy {
	p := l.Policy
	p.Role = role
	return p
}

// publish makes the dampers' verdicts, or what overrides them, the status, and
// reports whether the reason changed.
func (l *Ledger) publish(now time.Time) bool {
	for i, d := range l.dampers {
		switch {
		case l.stopping:
			l.status.roles[i] = Verdict{Reason: ReasonStopping, Detail: "the daemon is being stopped"}
		case l.disabled:
			l.status.roles[i] = Verdict{Reason: ReasonDisabled, Detail: l.note}
		default:
			l.status.roles[i] = d.verdict
		}
	}
	l.status.serial++
	before := l.status.Verdict
	l.status.Verdict = l.status.For(l.Policy.Want())
	after := l.status.Verdict
	if before.Reason == after.Reason {
		return false
	}
	lasted := now.Sub(l.status.Since)
	if len(l.status.History) > 0 {
		lasted = now.Sub(l.status.History[0].Time)
	}
	l.remember(Transition{Time: now, From: before, To: after, Lasted: lasted})
	if before.Answer() != after.Answer() {
		l.status.Since = now
		l.status.Transitions = maps.Clone(l.status.Transitions)
		l.status.Transitions[after.Answer()]++
	}
	return true
}

// Away is for how long the host was suspended since the last check began that the
// node answered, where suspended is for how long it ever was.
func (l *Ledger) Away(suspended time.Duration) time.Duration {
	if l.answered.IsZero() {
		return 0
	}
	return suspended - l.slept
}

// Status is what is known now. Suspended is for how long the host was ever
// suspended. Impaired is why the answer cannot be given everywhere, which makes it
// stale everywhere; empty if it can.
func (l *Ledger) Status(now time.Time, suspended time.Duration, impaired string) Status {
	s := l.status
	s.Age = now.Sub(l.asOf(now))
	if d := l.Away(suspended); impaired == "" && d > resumed {
		switch {
		case d+now.Sub(l.answered) > l.maxAge():
			s.Age += d
			impaired = fmt.Sprintf("the host was suspended for %v, and Redis has not answered since", d.Round(time.Millisecond))
		case s.Verdict.Answer() == Yes:
			s.Age = max(s.Age, d+now.Sub(l.answered)) // it becomes stale as much earlier
		}
	}
	if s.Verdict.Answer() == Yes && l.vouched(now) {
		silence := now.Sub(l.answered)
		s.Verdict.Detail += fmt.Sprintf("; silent for %v, and a majority of the Sentinels, asked %v ago, still names it",
			silence.Round(time.Millisecond), s.Age.Round(time.Millisecond))
		s.Age = max(s.Age, l.maxAge()-(l.vouch.Silence-silence)) // it is stale when the Sentinels' word ends
	}
	all := s.Age > l.maxAge() || impaired != ""
	if l.stopping && impaired == "" || !all && now.Sub(l.yesAsOf(now)) <= l.maxAge() {
		return s
	}
	stale := Verdict{Reason: ReasonStale,
		Detail: "the last finding is " + s.Age.Round(time.Millisecond).String() + " old, and good for " + l.maxAge().String(),
		Hint:   "Redis or the daemon hangs, or the machine has no time for them: see their logs"}
	if impaired != "" {
		stale.Detail = impaired
	}
	// A yes for another role than the wanted one is as old as the last answer,
	// even where the verdict for the wanted one is younger.
	for i, v := range s.roles {
		if all || v.Answer() == Yes {
			s.roles[i] = stale
		}
	}
	s.Verdict = s.For(l.Policy.Want())
	return s
}

// asOf is the time of the information behind the status. A yes is as old as
// the question that Redis answered last, whatever checks have failed since, or as
// that to the Sentinels which vouch for it; every other answer is as old as the
// end of the last check.
func (l *Ledger) asOf(now time.Time) time.Time {
	c := l.status.Check
	switch {
	case c.Time.IsZero():
		return l.started
	case l.status.Verdict.Answer() == Yes:
		return l.yesAsOf(now)
	}
	return c.Time.Add(c.Duration)
}

func (l *Ledger) maxAge() time.Duration { return cmp.Or(l.MaxAge, DefaultMaxAge) }
