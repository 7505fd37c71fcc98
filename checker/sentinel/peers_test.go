package sentinel

import (
	"fmt"
	"testing"
	"time"

	"redis-is-master/checker"
)

// A watched is a Guard of the node "us" with three Sentinels, which are asked.
type watched struct {
	t     *testing.T
	guard Guard
	now   time.Time
	node  checker.Observation
}

const us, them, third = "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"

func sentinelAt(i int) string { return fmt.Sprintf("10.0.0.%d:26379", i+1) }

// newWatched is a master that is confirmed, with a replica.
func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, now: time.Unix(1000, 0), guard: Guard{Gap: time.Second}}
	w.node = checker.Observation{Role: checker.RoleMaster, RunID: "a", Uptime: time.Hour, Connection: 1, Acknowledged: 1,
		Followers: []string{them}, Failover: noFailover}
	w.guard.On(Subscription{Now: w.now, Stands: true})
	w.probe()
	w.askAll()
	w.probe()
	w.is(checker.StateConfirmed)
	return w
}

// pass lets time pass, in which nobody says anything.
func (w *watched) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *watched) probe() checker.State {
	w.pass(time.Millisecond)
	return w.guard.On(Answer{w.now, w.now, w.node})
}

// probes answers every 100 ms for a time.
func (w *watched) probes(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.pass(100 * time.Millisecond) {
		w.probe()
	}
}

// report is what a Sentinel answers that knows of nothing new.
func (w *watched) report(i int) Report {
	return Report{Address: sentinelAt(i), Time: w.now, ID: fmt.Sprint("id", i), RunID: fmt.Sprint("run", i),
		Subscribed: time.Unix(1000, 0), Name: "mymaster", Master: us, Flags: []string{"master"}, Quorum: 2,
		OtherSentinels: 2, DownAfter: 5 * time.Second}
}

func (w *watched) told(r Report) checker.State {
	w.pass(time.Millisecond)
	return w.guard.On(Told{Now: w.now, Report: r, NamesUs: r.Master == us, Local: r.Address == sentinelAt(0)})
}

func (w *watched) ask(all ...int) {
	for _, i := range all {
		w.told(w.report(i))
	}
}

func (w *watched) askAll() { w.ask(0, 1, 2) }

// failingOver is what the leader answers meanwhile.
func (w *watched) failingOver(i int, state string) Report {
	r := w.report(i)
	r.Flags, r.FailoverState = []string{"master", "failover_in_progress"}, state
	return r
}

func (w *watched) notice(i int, kind, node string) checker.State {
	w.pass(time.Millisecond)
	return w.guard.On(Noticed{Now: w.now, NamesUs: node == us,
		Notice: Notice{Address: sentinelAt(i), Time: w.now, Kind: kind, Name: "mymaster", Node: node, Master: us}})
}

func (w *watched) is(want checker.State) {
	w.t.Helper()
	if w.guard.State() != want {
		w.t.Fatalf("%s, want %s: %s", w.guard.State(), want, w.guard.Standing(w.now).Detail)
	}
}

// TestSelected: a master is not believed from the moment on in which a Sentinel
// selects another, until that is over.
func TestSelected(t *testing.T) {
	begin := func(t *testing.T) *watched {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.is(checker.StateFailover)
		w.told(w.failingOver(1, "wait_promotion"))
		w.node.Followers, w.node.Acknowledged = nil, 0
		w.probes(500 * time.Millisecond)
		w.askAll()
		return w
	}
	t.Run("it is announced", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.told(w.failingOver(1, "reconf_slaves")) // the old address, with the new epoch
		w.is(checker.StateFailover)
		r := w.report(1)
		r.Master, r.ConfigEpoch = them, 1
		w.told(r)
		w.is(checker.StateDenied)
		w.ask(0, 2)
		w.probe()
		w.is(checker.StateDenied)
	})
	t.Run("the others name this node all along", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.node.Followers = nil
		for range 20 {
			w.ask(0, 2)
			w.told(w.failingOver(1, "wait_promotion"))
			w.probes(time.Second)
			w.is(checker.StateFailover)
		}
	})
	t.Run("it is given up", func(t *testing.T) {
		w := begin(t)
		w.notice(1, AbortReplica, us)
		w.askAll()
		w.probe()
		w.is(checker.StateConfirmed)
	})
	t.Run("the leader has no failover under way", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		old := w.report(1)
		old.Time = w.now.Add(-time.Second)
		w.told(old) // was asked before
		w.is(checker.StateFailover)
		w.askAll()
		w.probe()
		w.is(checker.StateConfirmed)
	})
	t.Run("the leader was restarted", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.node.Followers = nil
		for range 6 {
			r := w.report(1)
			r.RunID = "another"
			w.told(r)
			w.ask(0, 2)
			w.probes(time.Second)
			w.is(checker.StateFailover)
		}
		w.probes(time.Second)
		w.askAll()
		w.probe()
		w.is(checker.StateConfirmed)
	})
	t.Run("the leader has died", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, WaitPromotion, them)
		w.node.Followers = []string{third}
		for range 6 {
			w.ask(0, 2)
			w.probes(time.Second)
			w.is(checker.StateFailover)
		}
		for range 3 {
			w.ask(0, 2)
			w.probes(time.Second)
		}
		w.is(checker.StateConfirmed)
	})
	t.Run("the leader has died, and so has another", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, WaitPromotion, them)
		w.node.Followers = []string{third}
		for range 30 {
			w.ask(0)
			w.probes(time.Second)
			w.is(checker.StateFailover)
		}
	})
	t.Run("the other follows this node again", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.told(w.failingOver(1, "send_slaveof_noone"))
		w.probes(2 * time.Second)
		w.is(checker.StateFailover)
		w.probes(300 * time.Millisecond)
		for range 4 { // its Sentinel is still at it, so the node is confirmed by waiting
			w.ask(0, 2)
			w.told(w.failingOver(1, "send_slaveof_noone"))
			w.probes(time.Second)
		}
		w.is(checker.StateConfirmed)
		w.notice(1, WaitPromotion, them)
		w.is(checker.StateFailover)
	})
	t.Run("after a new subscription, by the answers", func(t *testing.T) {
		w := newWatched(t)
		w.notice(1, SelectedReplica, them)
		w.told(w.failingOver(1, "send_slaveof_noone"))
		w.probes(2500 * time.Millisecond) // the other follows
		w.askAll()
		w.probe()
		w.is(checker.StateConfirmed)
		r := w.failingOver(1, "wait_promotion")
		r.Subscribed = w.now
		w.told(r)
		w.is(checker.StateFailover)
	})
	t.Run("before the first claim", func(t *testing.T) {
		w := &watched{t: t, now: time.Unix(1000, 0), guard: Guard{Gap: time.Second}}
		w.node = checker.Observation{Role: checker.RoleMaster, RunID: "a", Uptime: time.Hour, Acknowledged: 1}
		w.probe()
		w.notice(1, SelectedReplica, them)
		for range 2 {
			for _, i := range []int{0, 2} {
				r := w.report(i)
				r.ConfigEpoch = 5
				w.told(r)
			}
			w.probes(time.Second)
			w.is(checker.StateFailover)
		}
	})
	t.Run("by the answers alone", func(t *testing.T) {
		w := newWatched(t)
		w.told(w.failingOver(1, "select_slave"))
		w.is(checker.StateConfirmed)
		w.told(w.failingOver(1, "send_slaveof_noone"))
		w.is(checker.StateFailover)
		w.askAll()
		w.probe()
		w.is(checker.StateConfirmed)
	})
}

// TestPromotedByPeer: a promotion that looks as if it was made by hand is believed
// if a Sentinel says that it makes it.
func TestPromotedByPeer(t *testing.T) {
	begin := func(t *testing.T) *watched {
		w := &watched{t: t, now: time.Unix(1000, 0), guard: Guard{Gap: time.Second}}
		w.node = checker.Observation{Role: checker.RoleReplica, RunID: "a", Uptime: time.Hour, Connection: 1,
			MasterAddr: them, Failover: noFailover}
		w.guard.On(Subscription{Now: w.now, Stands: true})
		for range 3 {
			for i := range 3 {
				r := w.report(i)
				r.Master = them
				w.told(r)
				w.guard.On(Heard{Now: w.now, Claim: checker.Claim{Hello: checker.Hello{
					Sentinel: r.ID, From: r.Address, Name: r.Name, Master: them}}})
			}
			w.probes(time.Second)
		}
		return w
	}
	flip := func(w *watched) checker.State {
		w.node.Role, w.node.MasterAddr = checker.RoleMaster, ""
		return w.probe()
	}
	leads := func(w *watched) Report {
		w.pass(time.Millisecond)
		r := w.failingOver(1, "wait_promotion")
		r.Master = them
		return r
	}
	t.Run("nobody says so", func(t *testing.T) {
		w := begin(t)
		flip(w)
		w.is(checker.StateDenied)
	})
	t.Run("given up after it", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		flip(w)
		w.is(checker.StatePromoted)
		w.notice(1, AbortReplica, them)
		w.is(checker.StateDenied)
		w.probes(10 * time.Second)
		w.is(checker.StateDenied)
	})
	t.Run("given up after it, by the answers", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		flip(w)
		r := w.report(1)
		r.Master = them
		w.told(r)
		w.is(checker.StateDenied)
	})
	t.Run("given up before it", func(t *testing.T) {
		w := begin(t)
		w.node.Connection = 0 // it is not known that the connection outlived the promotion
		w.probe()
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		w.notice(1, AbortReplica, them)
		flip(w)
		w.is(checker.StateDenied)
	})
	t.Run("given up, and tried again", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		w.notice(1, AbortReplica, them)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		flip(w)
		w.is(checker.StatePromoted)
	})
	t.Run("another Sentinel was not elected meanwhile", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		flip(w)
		w.notice(2, "-failover-abort-not-elected", them)
		w.is(checker.StatePromoted)
	})
	t.Run("said and asked before", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		flip(w)
		w.is(checker.StatePromoted)
	})
	t.Run("said before, and asked after", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		flip(w)
		w.is(checker.StateDenied)
		w.told(leads(w))
		w.is(checker.StatePromoted)
	})
	t.Run("what it said since may be lost", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		r := leads(w)
		r.Subscribed = w.now
		w.told(r)
		flip(w)
		w.is(checker.StateDenied)
	})
	t.Run("said long ago", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		w.probes(5 * time.Second)
		flip(w)
		w.is(checker.StateDenied)
	})
	t.Run("another is promoted as well", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		w.notice(2, SelectedReplica, third)
		flip(w)
		w.is(checker.StateFailover)
	})
	t.Run("another was named meanwhile", func(t *testing.T) {
		w := begin(t)
		w.notice(1, SelectedReplica, us)
		w.told(leads(w))
		r := w.report(2)
		r.Master, r.ConfigEpoch = third, 7
		w.told(r)
		flip(w)
		w.is(checker.StateDenied)
	})
	t.Run("the former master follows", func(t *testing.T) {
		w := begin(t)
		flip(w)
		w.node.Followers = []string{third}
		w.probe()
		w.is(checker.StateDenied)
		w.node.Followers = []string{third, them}
		w.probe()
		w.pass(holdFollowedBack / 2) // its daemon may still believe it
		w.probe()
		w.is(checker.StateDenied)
		w.node.Followers = []string{third}
		w.probe()
		w.node.Followers = []string{third, them}
		w.pass(holdFollowedBack / 2)
		w.probe()
		w.is(checker.StateDenied)
		w.pass(holdFollowedBack)
		w.probe()
		w.is(checker.StatePromoted)
	})
}

// TestAgreement: after a gap all Sentinels are asked, and none may know better.
func TestAgreement(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w *watched)
		want   checker.State
	}{
		"all":               {func(w *watched) { w.askAll() }, checker.StateConfirmed},
		"two of three":      {func(w *watched) { w.ask(0, 1) }, checker.StateUnconfirmed},
		"one is no address": {func(w *watched) { w.ask(0, 1, 1) }, checker.StateUnconfirmed},
		"one knows of a fourth": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.OtherSentinels = 3
			w.told(r)
		}, checker.StateUnconfirmed},
		"one leads a failover": {func(w *watched) {
			w.ask(0, 1)
			w.told(w.failingOver(2, "wait_start"))
		}, checker.StateUnconfirmed},
		"one has voted": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.VotedEpoch = 1
			w.told(r)
		}, checker.StateUnconfirmed},
		"one takes it for down": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.Flags = []string{"s_down", "master"}
			w.told(r)
		}, checker.StateUnconfirmed},
		"one is in TILT": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.Tilt, r.TiltFor = true, 4*time.Second
			w.told(r)
		}, checker.StateUnconfirmed},
		"one is in TILT for long": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.Tilt, r.TiltFor = true, 5*time.Second
			w.told(r)
		}, checker.StateConfirmed},
		"one was asked before": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.Time = w.now.Add(-time.Second)
			w.told(r)
		}, checker.StateUnconfirmed},
		"one answered long ago": {func(w *watched) {
			w.ask(2)
			w.probes(3 * time.Second)
			w.ask(0, 1)
		}, checker.StateUnconfirmed},
		"one may not tell": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.ConfigEpoch, r.VotedEpoch, r.OtherSentinels = -1, -1, 2
			w.told(r)
		}, checker.StateUnconfirmed},
		"one names another": {func(w *watched) {
			w.ask(0, 1)
			r := w.report(2)
			r.Master, r.ConfigEpoch = them, 1
			w.told(r)
		}, checker.StateDenied},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatched(t)
			w.pass(10 * time.Second)
			w.probe()
			w.is(checker.StateUnconfirmed)
			tt.answer(w)
			w.probe()
			w.is(tt.want)
		})
	}
}

// TestVouch: a silence is no gap while a majority, asked lately, vouches for the
// node, and only for a second less than the shortest down-after.
func TestVouch(t *testing.T) {
	for name, tt := range map[string]struct {
		silence time.Duration
		change  func(w *watched, r *Report, i int)
		want    checker.State
	}{
		"3 s":              {3 * time.Second, func(*watched, *Report, int) {}, checker.StateConfirmed},
		"4.1 s":            {4100 * time.Millisecond, func(*watched, *Report, int) {}, checker.StateUnconfirmed},
		"one is silent":    {3 * time.Second, silentFrom(2), checker.StateConfirmed},
		"two are silent":   {3 * time.Second, silentFrom(1), checker.StateUnconfirmed},
		"a short one":      {3 * time.Second, short, checker.StateUnconfirmed},
		"one has voted":    {3 * time.Second, voted, checker.StateUnconfirmed},
		"one fails over":   {3 * time.Second, leading, checker.StateUnconfirmed},
		"another process":  {3 * time.Second, restarted, checker.StateUnconfirmed},
		"it was a replica": {3 * time.Second, demoted, checker.StateUnconfirmed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatched(t)
			for end := w.now.Add(tt.silence); w.now.Before(end); w.pass(250 * time.Millisecond) {
				for i := range 3 {
					r := w.report(i)
					tt.change(w, &r, i)
					w.told(r)
				}
			}
			w.probe()
			w.is(tt.want)
		})
	}
	t.Run("nobody was asked lately", func(t *testing.T) {
		w := newWatched(t)
		w.pass(3 * time.Second)
		w.probe()
		w.is(checker.StateUnconfirmed)
	})
}

func silentFrom(first int) func(*watched, *Report, int) {
	return func(_ *watched, r *Report, i int) {
		if i >= first {
			r.Err = errSilent
		}
	}
}

func voted(_ *watched, r *Report, i int) {
	if i == 1 {
		r.VotedEpoch = 1
	}
}

func restarted(w *watched, _ *Report, _ int) { w.node.RunID = "b" }
func demoted(w *watched, _ *Report, _ int)   { w.guard.process.role = checker.RoleReplica }

func short(_ *watched, r *Report, i int) {
	if i == 1 {
		r.DownAfter = 3 * time.Second
	}
}

func leading(_ *watched, r *Report, i int) {
	if i == 1 {
		r.Flags, r.FailoverState = []string{"master", "failover_in_progress"}, "wait_start"
	}
}

// TestIsolated: a master that neither hears a majority of the Sentinels nor a
// replica lets go, and is confirmed anew when it is back.
func TestIsolated(t *testing.T) {
	alone := func(w *watched, acknowledged int, all ...int) {
		if w.node.Acknowledged = acknowledged; acknowledged == 0 {
			w.node.Followers = nil
		}
		for range 6 {
			w.ask(all...)
			w.probes(time.Second)
		}
	}
	t.Run("cut off", func(t *testing.T) {
		w := newWatched(t)
		alone(w, 0, 0)
		w.is(checker.StateIsolated)
		w.ask(1)
		w.probe()
		w.is(checker.StateUnconfirmed)
		w.probes(time.Second) // the acknowledgements of before come first
		w.is(checker.StateUnconfirmed)
		w.askAll()
		w.node.Acknowledged, w.node.Followers = 1, []string{them}
		w.probe()
		w.is(checker.StateConfirmed)
	})
	t.Run("with a replica that is always seen a second late", func(t *testing.T) {
		w := newWatched(t)
		w.node.Acknowledged = 0
		for range 20 {
			w.ask(0)
			w.probes(time.Second)
			w.is(checker.StateConfirmed)
		}
	})
	t.Run("with its replicas", func(t *testing.T) {
		w := newWatched(t)
		alone(w, 1, 0)
		w.is(checker.StateConfirmed)
	})
	t.Run("with a majority", func(t *testing.T) {
		w := newWatched(t)
		alone(w, 0, 0, 1)
		w.is(checker.StateConfirmed)
	})
	t.Run("it never had a replica", func(t *testing.T) {
		w := newWatched(t)
		w.guard.process.acknowledged, w.guard.process.reached = time.Time{}, time.Time{}
		alone(w, 0, 0)
		w.is(checker.StateConfirmed)
	})
}

// TestSuspended: a time in which the host was suspended is one in which the node was
// not watched, though no clock shows it; what the Sentinels said before does not
// bridge it.
func TestSuspended(t *testing.T) {
	for suspended, want := range map[time.Duration]checker.State{
		0:                      checker.StateConfirmed,
		500 * time.Millisecond: checker.StateConfirmed,
		time.Second:            checker.StateUnconfirmed,
		3 * time.Second:        checker.StateUnconfirmed, // shorter than down-after
		time.Hour:              checker.StateUnconfirmed,
	} {
		w := newWatched(t)
		w.askAll()
		w.pass(100 * time.Millisecond)
		w.node.Suspended = suspended
		if got := w.probe(); got != want {
			t.Errorf("suspended for %v: %s, want %s", suspended, got, want)
		}
		w.node.Suspended = 0
		w.askAll() // they know of nobody else
		w.probe()
		w.is(checker.StateConfirmed)
	}
}

// TestIsolatedForLong: a host that is cut off stays so, however long the Sentinels
// have been silent; and what had ended before is no isolation.
func TestIsolatedForLong(t *testing.T) {
	w := newWatched(t)
	w.node.Followers, w.node.Acknowledged = nil, 0
	w.probes(8 * time.Second)
	w.is(checker.StateIsolated)
	w.probes(30 * time.Minute)
	w.is(checker.StateIsolated)
	w.askAll()
	w.probe()
	if !w.guard.State().Believed() {
		w.probes(time.Second)
		w.askAll()
		w.probes(4 * time.Second)
	}
	w.is(checker.StateConfirmed)

	w = newWatched(t)
	w.probes(30 * time.Minute) // the Sentinels were given up, and a replica was there
	w.is(checker.StateConfirmed)
	w.node.Followers, w.node.Acknowledged = nil, 0
	w.probes(time.Minute)
	w.is(checker.StateConfirmed)
}

// TestBecause: the rule that is shown is the one that led to the state.
func TestBecause(t *testing.T) {
	w := newWatched(t)
	before := w.guard.Standing(w.now).Because
	w.probes(time.Second)
	if got := w.guard.Standing(w.now).Because; got != before || got == "nothing newer contradicts" || got == "" {
		t.Errorf("it was %q, and is %q", before, got)
	}
}
