package sentinel

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// A crashWorld is a confirmed master with three Sentinels, and what its Crash does.
type crashWorld struct {
	guard *Guard
	crash *Crash
	now   time.Time
	runID string
}

const crashNode = "10.0.0.1:6379"

func newCrashWorld() *crashWorld {
	g := &Guard{Gap: time.Second}
	w := &crashWorld{guard: g, crash: &Crash{Guard: g, MaxLag: 1000}, now: time.Unix(1000, 0), runID: "a"}
	w.answer(nil)
	w.tell(nil, 1, 2, 3)
	w.answer(nil)
	return w
}

// answer lets the node answer now.
func (w *crashWorld) answer(change func(*checker.Observation)) {
	w.now = w.now.Add(10 * time.Millisecond)
	o := checker.Observation{Role: checker.RoleMaster, RunID: w.runID, Replicas: 2, Uptime: time.Hour, Connection: 1,
		Acknowledged: 2, Followers: []string{"10.0.0.2:6379", "10.0.0.3:6379"}, Unreplicated: 0}
	if change != nil {
		change(&o)
	}
	a := Answer{Asked: w.now, Now: w.now, Observation: o}
	w.guard.On(a)
	w.crash.Answered(a, 0, true)
}

// tell lets Sentinels answer a question that is put now.
func (w *crashWorld) tell(change func(*Told), sentinels ...int) {
	for _, i := range sentinels {
		t := Told{Now: w.now, NamesUs: true, Local: i == 1, Report: Report{
			Address: fmt.Sprintf("10.0.0.%d:26379", i), Time: w.now, ID: fmt.Sprint("id", i), RunID: fmt.Sprint("run", i),
			Name: "mymaster", Master: crashNode, Flags: []string{"master"}, ConfigEpoch: 3, VotedEpoch: 3, Quorum: 2,
			OtherSentinels: 2, DownAfter: 5 * time.Second, FailoverTimeout: 10 * time.Second, TiltFor: -1}}
		if change != nil {
			change(&t)
		}
		w.guard.On(t)
		w.crash.Follow(w.now)
	}
}

// dies lets two checks be refused.
func (w *crashWorld) dies() {
	w.now = w.now.Add(5 * time.Millisecond)
	w.crash.Refused(w.now)
	w.now = w.now.Add(refusalsApart)
	w.crash.Refused(w.now)
	w.now = w.now.Add(time.Millisecond)
}

// next asks the Sentinel that is to be asked; empty for none.
func (w *crashWorld) next() string {
	to, ok := w.crash.Next(w.now, 0)
	if !ok {
		return ""
	}
	w.guard.On(Requested{Now: w.now, To: to})
	w.crash.Ask(w.now, to)
	return to.Address
}

func (w *crashWorld) replied(r checker.FailoverResult) {
	to := Watched{w.crash.request.Sentinel, w.crash.request.Name}
	w.guard.On(Replied{Now: w.now, To: to, Result: r})
	w.crash.Replied(w.now, r)
}

// TestCrashAsks goes through all that must hold for a failover to be asked for.
func TestCrashAsks(t *testing.T) {
	lag := func(n int64) func(*checker.Observation) {
		return func(o *checker.Observation) { o.Unreplicated = n }
	}
	for _, tc := range []struct {
		name string
		do   func(w *crashWorld)
		asks bool
	}{
		{"two are refused, and all Sentinels name it", func(w *crashWorld) { w.dies(); w.tell(nil, 1, 2, 3) }, true},
		{"a majority is enough", func(w *crashWorld) { w.dies(); w.tell(nil, 1, 3) }, true},
		{"one of three is none", func(w *crashWorld) { w.dies(); w.tell(nil, 2) }, false},
		{"what they said before it was gone is too old", func(w *crashWorld) { w.tell(nil, 1, 2, 3); w.dies() }, false},
		{"one refusal is not enough", func(w *crashWorld) {
			w.crash.Refused(w.now)
			w.tell(nil, 1, 2, 3)
		}, false},
		{"two refusals must be apart", func(w *crashWorld) {
			w.crash.Refused(w.now)
			w.crash.Refused(w.now.Add(refusalsApart - 1))
			w.tell(nil, 1, 2, 3)
		}, false},
		{"a silence between them counts from new", func(w *crashWorld) {
			w.crash.Refused(w.now)
			w.crash.Silent()
			w.crash.Refused(w.now.Add(time.Second))
			w.tell(nil, 1, 2, 3)
		}, false},
		{"an answer between them is life", func(w *crashWorld) {
			w.crash.Refused(w.now)
			w.answer(nil)
			w.crash.Refused(w.now.Add(time.Second))
			w.tell(nil, 1, 2, 3)
		}, false},
		{"no replica", func(w *crashWorld) { w.answer(lag(-1)); w.dies(); w.tell(nil, 1, 2, 3) }, false},
		{"a replica as far behind as is allowed", func(w *crashWorld) {
			w.answer(lag(1000))
			w.dies()
			w.tell(nil, 1, 2, 3)
		}, true},
		{"a replica too far behind", func(w *crashWorld) { w.answer(lag(1001)); w.dies(); w.tell(nil, 1, 2, 3) }, false},
		{"a replica", func(w *crashWorld) {
			w.answer(func(o *checker.Observation) { o.Role, o.MasterAddr = checker.RoleReplica, "10.0.0.2:6379" })
			w.dies()
			w.tell(nil, 1, 2, 3)
		}, false},
		{"a process that is not seen to listen here", func(w *crashWorld) {
			w.crash.Answered(Answer{Asked: w.now, Now: w.now, Observation: checker.Observation{
				Role: checker.RoleMaster, RunID: "a"}}, 0, false)
			w.dies()
			w.tell(nil, 1, 2, 3)
		}, false},
		{"it has not answered for long", func(w *crashWorld) {
			w.now = w.now.Add(crashObserved)
			w.dies()
			w.tell(nil, 1, 2, 3)
		}, false},
		{"a Sentinel names another", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1, 3)
			w.tell(func(t *Told) { t.NamesUs, t.Report.Master = false, "10.0.0.2:6379" }, 2)
		}, false},
		{"a Sentinel has a failover under way", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1, 3)
			w.tell(func(t *Told) { t.Report.Flags = []string{"master", "failover_in_progress"} }, 2)
		}, false},
		{"a Sentinel takes it for down", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1, 3)
			w.tell(func(t *Told) { t.Report.Flags = []string{"s_down", "master"} }, 2)
		}, false},
		{"a Sentinel has voted for a successor", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1, 3)
			w.tell(func(t *Told) { t.Report.VotedEpoch = 4 }, 2)
		}, false},
		{"a Sentinel does not tell its votes", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1)
			w.tell(func(t *Told) { t.Report.VotedEpoch = -1 }, 2)
		}, false},
		{"the answers are old when they are read", func(w *crashWorld) {
			w.dies()
			w.tell(nil, 1, 2, 3)
			w.now = w.now.Add(crashConsent + time.Millisecond)
		}, false},
		{"it was gone for long before they answered", func(w *crashWorld) {
			w.dies()
			w.now = w.now.Add(crashWindow)
			w.tell(nil, 1, 2, 3)
		}, false},
		{"there are two master names", func(w *crashWorld) {
			w.tell(func(t *Told) { t.Report.Name = "other" }, 1, 2, 3)
			w.dies()
			w.tell(nil, 1, 2, 3)
			w.tell(func(t *Told) { t.Report.Name = "other" }, 1, 2, 3)
		}, false},
		{"nobody who may be asked", func(w *crashWorld) {
			for i := range 4 {
				w.crash.Refuses(fmt.Sprintf("10.0.0.%d:26379", i), true)
			}
			w.dies()
			w.tell(nil, 1, 2, 3)
		}, false},
		{"Sentinels in TILT", func(w *crashWorld) {
			w.dies()
			w.tell(func(t *Told) { t.Report.Tilt, t.Report.TiltFor = true, 10*time.Second }, 1, 2, 3)
		}, false},
	} {
		w := newCrashWorld()
		if missing := w.crash.Missing(w.now); missing != "" {
			t.Fatalf("at first: %s", missing)
		}
		tc.do(w)
		if to := w.next(); (to != "") != tc.asks {
			t.Errorf("%s: it asks %q", tc.name, to)
		}
	}
	w := newCrashWorld()
	w.dies()
	w.tell(nil, 1, 2, 3)
	if to, ok := w.crash.Next(w.now, time.Second); ok {
		t.Errorf("the host was suspended: it asks %s", to.Address)
	}
}

// TestCrashReplies: who refuses is followed by the next one, who accepts or is silent
// is the last; and the node is not believed before that is over.
func TestCrashReplies(t *testing.T) {
	w := newCrashWorld()
	w.dies()
	w.tell(nil, 1, 2, 3)
	first := w.next()
	if first == "" || strings.HasPrefix(first, "10.0.0.1:") {
		t.Fatalf("it asks %q first, not one of another host", first)
	}
	if again := w.next(); again != "" {
		t.Errorf("it asks %q before the first has replied", again)
	}
	w.replied(checker.FailoverNoReplica)
	second := w.next()
	if second == "" || second == first || strings.HasPrefix(second, "10.0.0.1:") {
		t.Errorf("after a refusal it asks %q, and had asked %q", second, first)
	}
	w.replied(checker.FailoverAsked)
	if state := w.guard.State(); state != checker.StateFailover {
		t.Errorf("a failover is asked for, and the state is %s", state)
	}
	if third := w.next(); third != "" {
		t.Errorf("after one has accepted it asks %q", third)
	}
	// The process is back at once, and the others go on naming it.
	w.runID = "b"
	for range 10 {
		w.now = w.now.Add(90 * time.Millisecond)
		w.answer(func(o *checker.Observation) { o.Uptime, o.Connection = 0, 2 })
		w.tell(nil, 1)
		if w.guard.State().Believed() {
			t.Fatalf("%v after the question it is believed: %s", w.now.Sub(w.crash.request.Time), w.guard.State())
		}
	}
	asked := func(name int) func(*Told) {
		return func(t *Told) { t.Report.Flags = []string{"master", "failover_in_progress"} }
	}
	w.tell(asked(3), 3)
	w.answer(func(o *checker.Observation) { o.Uptime, o.Connection = 0, 2 })
	if w.guard.State().Believed() || w.crash.request.Result != checker.FailoverAsked {
		t.Errorf("the failover is under way: %s, %s", w.guard.State(), w.crash.request.Result)
	}
	w.tell(func(t *Told) { t.NamesUs, t.Report.Master, t.Report.ConfigEpoch = false, "10.0.0.2:6379", 4 }, 1, 2, 3)
	if got := w.crash.State(w.now); got.Last.Result != checker.FailoverPromoted ||
		got.Results[checker.FailoverPromoted] != 1 || got.Results[checker.FailoverNoReplica] != 1 {
		t.Errorf("another was promoted: %+v", got)
	}
}

// TestCrashAborted: a failover that its Sentinel gave up is over when that Sentinel
// says so; then the node is confirmed as after any restart, and no other is asked for
// within the failover-timeout.
func TestCrashAborted(t *testing.T) {
	w := newCrashWorld()
	w.dies()
	w.tell(nil, 1, 2, 3)
	by := w.next()
	w.replied(checker.FailoverSilent)
	if got := w.next(); got != "" || w.crash.request.Result != checker.FailoverSilent {
		t.Errorf("after a silence it asks %q, %s", got, w.crash.request.Result)
	}
	w.runID = "b"
	w.answer(nil)
	if w.guard.State() != checker.StateFailover {
		t.Errorf("it is back, and the state is %s", w.guard.State())
	}
	w.now = w.now.Add(100 * time.Millisecond)
	w.tell(nil, 1, 2, 3)
	w.answer(nil)
	if w.guard.State() != checker.StateConfirmed {
		t.Errorf("%s has no failover under way, and all name it: %s", by, w.guard.State())
	}
	if missing := w.crash.Missing(w.now); !strings.Contains(missing, "one was asked for already") {
		t.Errorf("within the failover-timeout: %q", missing)
	}
	w.dies()
	w.tell(nil, 1, 2, 3)
	if to := w.next(); to != "" {
		t.Errorf("within the failover-timeout it asks %s", to)
	}
	w.now = w.now.Add(11 * time.Second)
	w.answer(nil)
	w.tell(nil, 1, 2, 3)
	w.now = w.now.Add(4 * time.Second)
	w.answer(nil)
	w.tell(nil, 1, 2, 3)
	w.answer(nil)
	if missing := w.crash.Missing(w.now); missing != "" {
		t.Errorf("after it: %q", missing)
	}
}

// TestCrashRecalled: a daemon that is started after the question does not believe a
// Redis that is back, until its Sentinel says that nothing is under way.
func TestCrashRecalled(t *testing.T) {
	w := newCrashWorld()
	w.dies()
	w.tell(nil, 1, 2, 3)
	if w.next() == "" {
		t.Fatal("it asks nobody")
	}
	memory := w.guard.Memory()
	if memory.Request == nil || memory.Request.Over {
		t.Fatalf("it remembers %+v", memory.Request)
	}
	g := &Guard{Gap: time.Second}
	g.Recall(memory)
	w.guard, w.crash, w.runID = g, &Crash{Guard: g, MaxLag: 1000}, "b"
	w.answer(nil)
	w.now = w.now.Add(50 * time.Millisecond)
	for _, i := range []int{1, 2, 3} {
		if fmt.Sprintf("10.0.0.%d:26379", i) != memory.Request.Address {
			w.tell(nil, i)
		}
	}
	w.answer(nil)
	if w.guard.State() != checker.StateFailover {
		t.Errorf("the one that was asked has not answered, and the state is %s", w.guard.State())
	}
	w.now = w.now.Add(50 * time.Millisecond)
	w.tell(nil, 1, 2, 3)
	w.answer(nil)
	if w.guard.State() != checker.StateConfirmed {
		t.Errorf("all have answered, and the state is %s", w.guard.State())
	}
	if g.Memory().Request == nil || !g.Memory().Request.Over {
		t.Errorf("it is over, and it remembers %+v", g.Memory().Request)
	}
}
