package checker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"redis-is-master/checker"
)

// outcomes of a check, by the letter that a script uses for them.
var outcomes = map[byte]struct {
	o   checker.Observation
	err error
}{
	'm': {o: master()},
	'r': {o: replica()},
	't': {err: &checker.Error{Reason: checker.ReasonTimeout, Err: errors.New("no answer")}},
	'b': {err: &checker.Error{Reason: checker.ReasonBusy, Err: errors.New("busy")}},
	'x': {err: &checker.Error{Reason: checker.ReasonRefused, Err: errors.New("refused")}},
	'a': {err: &checker.Error{Reason: checker.ReasonAuth, Err: errors.New("auth")}},
	'p': {err: &checker.Error{Reason: checker.ReasonProtocol, Err: errors.New("protocol")}},
	'l': {o: with(master(), func(o *checker.Observation) { o.Loading = true })},
}

// TestDamping: each letter of a script is a check, and the answer after it is
// U for yes, else the first letter of the reason.
// unconfirmed needs no Sentinel.
var unconfirmed = checker.Policy{AllowUnconfirmed: true}

func TestDamping(t *testing.T) {
	tests := []struct {
		name, script, want string
		rise, fall         int
	}{
		{"yes at once", "m", "U", 1, 3},
		{"no before the first yes", "r", "r", 1, 3},
		{"the role acts at once", "mrm", "UrU", 1, 3},
		{"refused acts at once", "mxm", "UrU", 1, 3},
		{"loading acts at once", "mlm", "UlU", 1, 3},
		{"a wrong password acts at once", "ma", "Ua", 1, 3},
		{"garbage acts at once", "mp", "Up", 1, 3},
		{"silence is counted", "mttt", "UUUt", 1, 3},
		{"an answer ends the count", "mttmttt", "UUUUUUt", 1, 3},
		{"silences of two kinds are counted together", "mtbt", "UUUt", 1, 3},
		{"fall 1", "mtm", "UtU", 1, 1},
		{"silence at the start is no yes", "tttm", "sstU", 1, 3},
		{"silence does not hide the reason of a no", "rtrttt", "rrrrrt", 1, 3},
		{"rise 3", "mmmrmm", "ssUrrr", 3, 3},
		{"a silence breaks a rise", "mmtmmm", "sssssU", 3, 3},
		{"a yes that stands needs no rise", "mmmtm", "ssUUU", 3, 3},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var step atomic.Int32
			m := &checker.Monitor{
				Policy: unconfirmed,
				Rise:   tt.rise,
				Fall:   tt.fall,
				Probe: func(context.Context) (checker.Observation, error) {
					x := outcomes[tt.script[min(int(step.Add(1)), len(tt.script))-1]]
					return x.o, x.err
				},
			}
			ctx, cancel := context.WithCancel(t.Context())
			go m.Run(ctx)
			// Half an interval after each check.
			<-time.After(checker.DefaultInterval / 2)
			got := ""
			for range tt.script {
				s, _ := m.Status()
				if s.Verdict.Reason == checker.OK {
					got += "U"
				} else {
					got += string(s.Verdict.Reason)[:1]
				}
				<-time.After(checker.DefaultInterval)
			}
			if got != tt.want {
				t.Errorf("%s: %s gave %s, want %s", tt.name, tt.script, got, tt.want)
			}
			cancel()
			synctest.Wait()
		})
	}
}

// record keeps what other goroutines report.
type record struct {
	mu  sync.Mutex
	all []checker.Reason
}

func (r *record) add(reason checker.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, reason)
}

func (r *record) reasons() []checker.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// TestStale: a poller that is stuck, or was never started, leaves no yes.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		first := true
		m := &checker.Monitor{Policy: unconfirmed, Probe: func(context.Context) (checker.Observation, error) {
			if first {
				first = false
				return master(), nil
			}
			<-stuck // a probe that ignores its deadline
			return master(), nil
		}}
		if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonStarting ||
			s.For(checker.RoleReplica).Reason != checker.ReasonStarting {
			t.Errorf("before the first check: %+v", s.Verdict)
		}
		var checks, seen record
		m.Checked = func(c checker.Check) { checks.add(c.Verdict.Reason) }
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		go m.Watch(ctx, time.Hour, func(s checker.Status) { seen.add(s.Verdict.Reason) })
		synctest.Wait()
		if s, _ := m.Status(); s.Verdict.Answer() != checker.Yes || !s.Fresh() {
			t.Errorf("after the first check: %+v", s.Verdict)
		}
		<-time.After(checker.DefaultMaxAge)
		if s, _ := m.Status(); s.Verdict.Answer() != checker.Yes {
			t.Errorf("at max-age: %+v", s.Verdict)
		}
		<-time.After(time.Nanosecond)
		s, _ := m.Status()
		if s.Verdict.Reason != checker.ReasonStale || s.Fresh() ||
			s.For(checker.RoleMaster).Reason != checker.ReasonStale {
			t.Errorf("above max-age: %+v", s.Verdict)
		}
		<-time.After(10 * time.Millisecond)
		synctest.Wait()
		if all := seen.reasons(); all[len(all)-1] != checker.ReasonStale {
			t.Errorf("Watch ended with %v: nobody was told that the status is stale", all)
		}
		// A stuck probe's answer came too late to be believed; the next one is.
		close(stuck)
		synctest.Wait()
		if all := checks.reasons(); len(all) < 2 || all[1] != checker.ReasonTimeout {
			t.Errorf("the checks were %v, want the late answer to be a timeout", all)
		}
		<-time.After(checker.DefaultInterval)
		synctest.Wait()
		if all := seen.reasons(); all[len(all)-1] != checker.OK {
			t.Errorf("Watch ended with %v: nobody was told that the status is fresh again", all)
		}
		cancel()
		synctest.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		m := &checker.Monitor{}
		m.Status()
		<-time.After(2 * checker.DefaultMaxAge)
		if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonStale {
			t.Errorf("never run: %+v", s.Verdict)
		}
	})
}

// TestAge: an answer is as old as its question.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &checker.Monitor{
			Policy:   unconfirmed,
			Interval: time.Minute,
			MaxAge:   time.Hour,
			Probe: func(context.Context) (checker.Observation, error) {
				<-time.After(400 * time.Millisecond)
				return master(), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		<-time.After(500 * time.Millisecond)
		if s, _ := m.Status(); s.Age != 500*time.Millisecond {
			t.Errorf("age %v of an answer to a question 500ms ago", s.Age)
		}
		cancel()
		synctest.Wait()
	})
}

// TestSilenceEndsAYes: a yes does not outlive max-age by --fall.
func TestSilenceEndsAYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		up.Store(true)
		m := &checker.Monitor{
			Policy: unconfirmed,
			Fall:   1000,
			Rise:   2,
			Probe: func(ctx context.Context) (checker.Observation, error) {
				if up.Load() {
					return master(), nil
				}
				return outcomes['t'].o, outcomes['t'].err
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		<-time.After(checker.DefaultInterval + checker.DefaultInterval/2)
		up.Store(false)
		<-time.After(checker.DefaultMaxAge - checker.DefaultInterval/2)
		if s, _ := m.Status(); s.Verdict.Answer() != checker.Yes {
			t.Errorf("at max-age: %+v", s.Verdict)
		}
		<-time.After(time.Millisecond)
		if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes {
			t.Errorf("a yes of an answer %v ago", s.Age)
		}
		<-time.After(checker.DefaultInterval)
		if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonTimeout {
			t.Errorf("after that: %+v", s.Verdict)
		}
		up.Store(true)
		<-time.After(checker.DefaultInterval)
		if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes {
			t.Error("one good check was enough for a rise of 2")
		}
		<-time.After(checker.DefaultInterval)
		if s, _ := m.Status(); s.Verdict.Answer() != checker.Yes {
			t.Errorf("after two good checks: %+v", s.Verdict)
		}
		cancel()
		synctest.Wait()
	})
}

// TestOverrides: what the operator says is above what the checks find.
func TestOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var note atomic.Pointer[string]
		m := &checker.Monitor{Policy: unconfirmed,
			Probe: func(context.Context) (checker.Observation, error) { return master(), nil },
			Disabled: func() (string, bool) {
				if n := note.Load(); n != nil {
					return *n, true
				}
				return "", false
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		synctest.Wait()
		ask := func(want checker.Reason) {
			t.Helper()
			m.Wake()
			synctest.Wait()
			s, _ := m.Status()
			if s.Verdict.Reason != want || s.For(checker.RoleMaster).Reason != want ||
				s.For(checker.RoleAny).Reason != want {
				t.Errorf("%+v, want %s", s.Verdict, want)
			}
		}
		ask(checker.OK)
		why := "the disk is being changed"
		note.Store(&why)
		ask(checker.ReasonDisabled)
		if s, _ := m.Status(); s.Verdict.Detail != why || s.Verdict.Answer() != checker.No {
			t.Errorf("%+v", s.Verdict)
		}
		note.Store(nil)
		ask(checker.OK)
		m.Stop()
		ask(checker.ReasonStopping)
		s, _ := m.Status()
		if len(s.History) != 4 || s.History[0].To.Reason != checker.ReasonStopping ||
			s.Transitions[checker.Yes] != 2 ||
			s.Transitions[checker.No] != 2 {
			t.Errorf("history %+v, transitions %v", s.History, s.Transitions)
		}
		cancel()
		synctest.Wait()
	})
}

// TestNoLostWakeup: whoever waits for the channel that came with a status sees
// every later change.
func TestNoLostWakeup(t *testing.T) {
	var n atomic.Int32
	m := &checker.Monitor{
		Policy:   unconfirmed,
		Interval: time.Hour,
		MaxAge:   2 * time.Hour,
		Probe: func(context.Context) (checker.Observation, error) {
			if n.Add(1)%2 == 1 {
				return master(), nil
			}
			return replica(), nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	s, changed := m.Status()
	for s.Verdict.Reason == checker.ReasonStarting { // the first check needs no Wake
		<-changed
		s, changed = m.Status()
	}
	for range 1000 {
		m.Wake()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("a change woke nobody")
		}
		before := s.Verdict.Reason
		if s, changed = m.Status(); s.Verdict.Reason == before {
			t.Fatalf("still %s after a change", before)
		}
	}
	if len(s.History) > 32 {
		t.Errorf("the history has %d entries", len(s.History))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestForOtherRole: the same guards hold for a role that is not the policy's.
func TestForOtherRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &checker.Monitor{
			Policy: checker.Policy{Role: checker.RoleReplica, AllowUnconfirmed: true},
			Probe: func(context.Context) (checker.Observation, error) {
				return with(master(), func(o *checker.Observation) { o.Loading = true }), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		synctest.Wait()
		s, _ := m.Status()
		if s.Verdict.Reason != checker.ReasonRole || s.For(checker.RoleMaster).Reason != checker.ReasonLoading ||
			s.For("king").Answer() == checker.Yes {
			t.Errorf("%+v, for a master %+v", s.Verdict, s.For(checker.RoleMaster))
		}
		if !strings.Contains(s.Verdict.Detail, "not a replica") {
			t.Errorf("%+v", s.Verdict)
		}
		cancel()
		synctest.Wait()
	})
}

// TestAgeOfOtherRole: a yes for the role that is not wanted is as old as the
// last answer, too.
func TestAgeOfOtherRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		up.Store(true)
		m := &checker.Monitor{
			Policy: unconfirmed,
			Fall:   1000,
			Probe: func(context.Context) (checker.Observation, error) {
				if up.Load() {
					return replica(), nil
				}
				return outcomes['t'].o, outcomes['t'].err
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		<-time.After(checker.DefaultInterval / 2)
		up.Store(false)
		<-time.After(checker.DefaultMaxAge - checker.DefaultInterval/2)
		if s, _ := m.Status(); s.For(checker.RoleReplica).Answer() != checker.Yes {
			t.Errorf("at max-age: %+v", s.For(checker.RoleReplica))
		}
		<-time.After(time.Millisecond)
		if s, _ := m.Status(); s.For(checker.RoleReplica).Answer() == checker.Yes ||
			s.For(checker.RoleAny).Answer() == checker.Yes ||
			s.Verdict.Reason != checker.ReasonRole {
			t.Errorf("above max-age: %+v, wanted %+v", s.For(checker.RoleReplica), s.Verdict)
		}
		cancel()
		synctest.Wait()
	})
}

// TestVouched: a yes lives while Redis is silent and the Sentinels vouch for it, and
// ends at once, and for whoever waits, when they do not any more.
func TestVouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		silent := func() bool { return time.Since(begun) > 500*time.Millisecond }
		m := &checker.Monitor{Policy: unconfirmed,
			Probe: func(context.Context) (checker.Observation, error) {
				if silent() {
					return checker.Observation{}, outcomes['t'].err
				}
				return master(), nil
			},
			Vouch: func(now time.Time) checker.Vouch {
				if now.Sub(begun) > 5*time.Second {
					return checker.Vouch{}
				}
				return checker.Vouch{AsOf: now, Silence: time.Minute}
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		time.Sleep(4900 * time.Millisecond) // by the clock of the bubble, as what follows
		s, changed := m.Status()
		if s.Verdict.Answer() != checker.Yes || !strings.Contains(s.Verdict.Detail, "silent for 4.") {
			t.Errorf("%+v", s.Verdict)
		}
		time.Sleep(300 * time.Millisecond) // by the same clock
		select {
		case <-changed:
		default:
			t.Error("nobody is told")
		}
		if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes || s.For(checker.RoleAny).Answer() == checker.Yes {
			t.Errorf("%+v", s.Verdict)
		}
		cancel()
		synctest.Wait()
	})
}

// TestImpaired: an output that cannot say no makes all of them say no.
func TestImpaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var why atomic.Pointer[string]
		m := &checker.Monitor{Policy: unconfirmed,
			Probe: func(context.Context) (checker.Observation, error) { return master(), nil },
			Impaired: func() string {
				if w := why.Load(); w != nil {
					return *w
				}
				return ""
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		synctest.Wait()
		if s, _ := m.Status(); s.Verdict.Answer() != checker.Yes {
			t.Errorf("%+v", s.Verdict)
		}
		text := "the disk hangs"
		why.Store(&text)
		if s, _ := m.Status(); s.Fresh() || s.Verdict.Detail != text ||
			s.For(checker.RoleAny).Answer() == checker.Yes {
			t.Errorf("%+v", s.Verdict)
		}
		m.Stop() // the dead man's switch has to fail until the end
		if s, _ := m.Status(); s.Fresh() || s.For(checker.RoleAny).Answer() == checker.Yes {
			t.Errorf("at the end: %+v", s.Verdict)
		}
		why.Store(nil)
		if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonStopping {
			t.Errorf("at the end: %+v", s.Verdict)
		}
		cancel()
		synctest.Wait()
	})
}

// A voucher is a witness that is asked and answers at once.
type voucher struct{}

func (voucher) Asks(checker.Observation) bool { return true }
func (voucher) Redial()                       {}
func (voucher) Close()                        {}

func (voucher) Ask(context.Context, checker.Observation) func(*checker.Observation) {
	return func(o *checker.Observation) { o.FormerAnswers = true }
}

// TestSuspended: while the host is suspended the clock stands still. What was known
// before is old at once, until the node has answered again.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		var fails atomic.Bool
		var mu sync.Mutex
		var seen []time.Duration // of each answer
		var added []bool         // by the witness
		m := &checker.Monitor{Policy: unconfirmed, Witnesses: []checker.Witness{voucher{}},
			Suspended: func() time.Duration { return time.Duration(slept.Load()) },
			Probe: func(context.Context) (checker.Observation, error) {
				if fails.Load() {
					return checker.Observation{}, outcomes['t'].err
				}
				return master(), nil
			},
			Amend: func(_, _ time.Time, o *checker.Observation) bool {
				mu.Lock()
				defer mu.Unlock()
				seen, added = append(seen, o.Suspended), append(added, o.FormerAnswers)
				return false
			}}
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		is := func(want checker.Reason) checker.Status {
			t.Helper()
			synctest.Wait()
			s, _ := m.Status()
			if s.Verdict.Reason != want {
				t.Errorf("it is %s: %s, want %s", s.Verdict.Reason, s.Verdict.Detail, want)
			}
			return s
		}
		pass := func(d time.Duration) { <-time.After(d) }
		pass(3*checker.DefaultInterval + time.Millisecond)
		is(checker.OK)

		slept.Add(int64(5 * time.Second))
		if s := is(checker.ReasonStale); s.Age < 5*time.Second || !strings.Contains(s.Verdict.Detail, "suspended for 5s") {
			t.Errorf("%v: %s", s.Age, s.Verdict.Detail)
		}
		// next is what the answers of the next interval are told; the witness is asked again
		// in a while, and wakes the monitor then.
		next := func(want time.Duration) (witnessed bool) {
			t.Helper()
			mu.Lock()
			seen, added = nil, nil
			mu.Unlock()
			pass(checker.DefaultInterval)
			is(checker.OK)
			mu.Lock()
			defer mu.Unlock()
			if len(seen) == 0 || seen[0] != want || slices.Max(append(seen[1:], 0)) != 0 {
				t.Fatalf("the answers are told %v, want %v first", seen, want)
			}
			return added[0]
		}
		if next(5 * time.Second) {
			t.Error("what a witness said before is still believed")
		}
		next(0)

		// A moment is no more than time that passed; and as long as the node does not
		// answer, nothing is known.
		slept.Add(int64(500 * time.Millisecond))
		is(checker.OK)
		pass(checker.DefaultInterval)
		fails.Store(true)
		slept.Add(int64(5 * time.Second))
		for range 3 {
			pass(checker.DefaultInterval)
			if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes {
				t.Errorf("it is %s", s.Verdict.Detail)
			}
		}
		fails.Store(false)
		next(5 * time.Second)
		cancel()
		synctest.Wait()
	})
}

// TestHostSuspended: this host is awake for as long as this test runs, however busy
// it is.
func TestHostSuspended(t *testing.T) {
	before := checker.HostSuspended()
	begun := time.Now()
	for time.Since(begun) < 200*time.Millisecond {
		if now := checker.HostSuspended(); before < -10*time.Millisecond || (now-before).Abs() > 50*time.Millisecond {
			t.Fatalf("%v, and then %v", before, now)
		}
	}
}
