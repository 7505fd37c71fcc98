package guards

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel/sim"
	"redis-is-master/e2e/lab"
)

// atOnce is for how long two nodes may be believed at one time.
const atOnce = 50 * time.Millisecond

// both is the longest time for which two daemons said yes at once, since begun.
func (w *world) both(begun time.Time) (longest time.Duration) {
	now := time.Now()
	for i, a := range w.nodes {
		for _, b := range w.nodes[:i] {
			longest = max(longest, a.says[daemon].beside(&b.says[daemon], begun, now))
		}
	}
	return longest
}

// plan makes some Sentinel promote another node.
func (w *world) plan(t *testing.T, run int) (leader *lab.Redis) {
	t.Helper()
	lab.Check(t, lab.Wait("a Sentinel begins a failover", func() (bool, error) {
		leader = w.Sentinels[run%len(w.Sentinels)]
		out, err := leader.Do("SENTINEL", "FAILOVER", lab.MasterName)
		return out == "OK", err
	}))
	return leader
}

// An election is a situation in which Sentinels promote a node while the master
// lives.
type election struct {
	name  string
	begin func(t *testing.T, w *world, old *watched, run int) // until the promotion is under way
	// Again is how long the node that the Sentinels go on naming may be without its
	// yes; 0 where they name another in the end.
	again time.Duration
	end   func(t *testing.T, w *world, old *watched)
}

var elections = []election{
	{name: "`SENTINEL FAILOVER`", begin: func(t *testing.T, w *world, old *watched, run int) {
		begun := time.Now()
		w.plan(t, run)
		w.promoted(t, old, begun)
	}},
	{name: "`CLIENT PAUSE 8000 WRITE`, and then `SENTINEL FAILOVER`",
		begin: func(t *testing.T, w *world, old *watched, run int) {
			old.Must(t, "CLIENT", "PAUSE", "8000", "WRITE")
			begun := time.Now()
			w.plan(t, run)
			w.promoted(t, old, begun)
		}},
	{name: "`FAILOVER`, which the Sentinels undo", begin: func(t *testing.T, w *world, old *watched, _ int) {
		lab.Check(t, lab.Wait("the node has handed over", func() (bool, error) {
			old.Do("FAILOVER", "TIMEOUT", "500")
			info, err := old.Do("INFO", "replication")
			return strings.Contains(info, "role:slave"), err
		}))
		// They take a master that is a replica for down after two of their INFO periods.
		at := time.Now()
		for time.Since(at) < 2*lab.Patience && w.named(t) == old.Redis {
			<-time.After(50 * time.Millisecond)
		}
	}},
	{name: "a failed bgsave (`-MISCONF`)", begin: func(t *testing.T, w *world, old *watched, _ int) {
		dump := filepath.Join(old.Dir, "dump.rdb")
		os.Remove(dump)
		lab.Check(t, os.MkdirAll(filepath.Join(dump, "in the way"), 0o755))
		old.Must(t, "CONFIG", "SET", "save", "3600 100000")
		old.Must(t, "BGSAVE")
		lab.Check(t, old.Until("MISCONF", "PING"))
		w.promoted(t, old, time.Now().Add(-sampling))
	}, end: func(t *testing.T, _ *world, old *watched) {
		lab.Check(t, os.RemoveAll(filepath.Join(old.Dir, "dump.rdb")))
		old.Do("CONFIG", "SET", "save", "")
		lab.Check(t, lab.Wait("it saves again", func() (bool, error) {
			old.Do("BGSAVE")
			info, err := old.Do("INFO", "persistence")
			return strings.Contains(info, "rdb_last_bgsave_status:ok"), err
		}))
	}},
	{name: "the leading Sentinel dies after the promotion", again: 10 * time.Second,
		begin: func(t *testing.T, w *world, old *watched, run int) {
			begun := time.Now()
			leader := w.plan(t, run)
			w.promoted(t, old, begun)
			leader.Kill() // it would announce the promotion 0.8 s later
		}, end: func(t *testing.T, w *world, _ *watched) {
			for _, s := range w.Sentinels {
				if _, err := s.Do("PING"); err != nil {
					lab.Check(t, s.Restart())
				}
			}
		}},
}

// named is the node that the first Sentinel that answers names; nil for none.
func (w *world) named(t *testing.T) *lab.Redis {
	t.Helper()
	for _, s := range w.Sentinels {
		out, err := s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", lab.MasterName)
		if err != nil {
			continue
		}
		for _, r := range w.Nodes {
			if strings.HasSuffix(out, fmt.Sprintf("\n%d", r.Port)) {
				return r
			}
		}
	}
	return nil
}

// TestTwoYes prints for how long two nodes are believed at one time while Sentinels
// promote one and the other lives.
func TestTwoYes(t *testing.T) {
	lab.Require(t, "redis-server", "redis-sentinel", "redis-cli")
	var mu sync.Mutex
	lines := make(map[string]string)
	t.Run("elections", func(t *testing.T) {
		for _, e := range elections {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				var worst, longest time.Duration
				within, missed := 0, 0
				for run := range *runs {
					old := w.calm(t)
					begun := time.Now()
					e.begin(t, w, old, run)
					if e.again > 0 {
						d, announced := w.again(t, old, time.Now()) // its yes has ended before the promotion
						if announced {                              // the Sentinel died too late
							missed++
						} else if longest = max(longest, d); d > e.again {
							t.Errorf("the node that the Sentinels name has its yes after %v", d)
						}
					}
					if e.end != nil {
						e.end(t, w, old)
					}
					next := w.calm(t)
					both := w.both(begun)
					worst = max(worst, both)
					if both <= atOnce {
						within++
					}
					if next == old && e.again == 0 {
						missed++ // they have taken it back
					}
				}
				if within < *runs {
					t.Errorf("two nodes were believed at one time for %v", worst)
				}
				if missed > *runs/2 {
					t.Errorf("in %d of %d nobody else was promoted, so nothing was tested", missed, *runs)
				}
				mu.Lock()
				defer mu.Unlock()
				lines[e.name] = fmt.Sprintf("| %s | %d | %d |", e.name, worst.Milliseconds(), longest.Milliseconds())
			})
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "worst of %d runs each, ms\n"+
		"| two nodes are believed at one time | for | yes again after |\n|---|---|---|\n", *runs)
	for _, e := range elections {
		fmt.Fprintln(&b, lines[e.name])
	}
	t.Log("\n" + b.String())
}

// again is how long it takes until a node has its yes again that it has lost since
// begun. Announced says that it has not: the Sentinels name another.
func (w *world) again(t *testing.T, n *watched, begun time.Time) (d time.Duration, announced bool) {
	t.Helper()
	lab.Check(t, lab.Wait("the node that the Sentinels name is believed again", func() (bool, error) {
		now := time.Now()
		if lost := now.Sub(begun) - n.says[daemon].during(begun, now); lost < 100*time.Millisecond {
			return false, nil // it has not lost it yet
		}
		d = now.Sub(begun)
		announced = w.named(t) != n.Redis
		return announced || n.daemon.Track() == "1", nil
	}))
	return d, announced
}

// TestCutOff prints how long a master is believed that has lost the majority of the
// Sentinels and all replicas, and that two dead Sentinels alone take nothing.
func TestCutOff(t *testing.T) {
	t.Parallel()
	lab.Require(t, "redis-server", "redis-sentinel", "redis-cli")
	w := newWorld(t)
	var longest time.Duration
	for range *runs {
		old := w.calm(t)
		lab.Check(t, w.acknowledged(old))
		frozen := slices.Clone(w.Sentinels[1:])
		freeze(t, frozen...)
		alone := time.Now()
		<-time.After(9 * time.Second) // the fault is the time
		if d := old.says[daemon].during(alone, time.Now()); d < 8900*time.Millisecond {
			t.Errorf("two dead Sentinels took the yes for %v", 9*time.Second-d)
		}
		begun := time.Now()
		var replicas []*lab.Redis
		for _, n := range w.nodes {
			if n != old {
				replicas = append(replicas, n.Redis)
			}
		}
		freeze(t, replicas...)
		lab.Check(t, lab.Wait("it is isolated", func() (bool, error) { return old.daemon.Track() == "0", nil }))
		d := old.says[daemon].during(begun, time.Now())
		if longest = max(longest, d); d > 7*time.Second {
			t.Errorf("it was believed for %v", d)
		}
		doc, err := old.daemon.Document()
		lab.Check(t, err)
		if doc.Reason != checker.ReasonIsolated {
			t.Errorf("it is %s: %s", doc.Reason, doc.Detail)
		}
		thaw(t, append(frozen, replicas...)...)
	}
	t.Logf("\n| a master that is cut off | believed for %d ms at most, in %d runs |", longest.Milliseconds(), *runs)
}

// acknowledged waits until a replica has acknowledged something of late.
func (w *world) acknowledged(n *watched) error {
	return n.Until("state=online,offset=", "INFO", "replication")
}

func freeze(t *testing.T, all ...*lab.Redis) {
	t.Helper()
	for _, r := range all {
		lab.Check(t, r.Signal(syscall.SIGSTOP))
	}
}

func thaw(t *testing.T, all ...*lab.Redis) {
	t.Helper()
	for _, r := range all {
		lab.Check(t, r.Signal(syscall.SIGCONT))
	}
}

// TestSuspended prints for how long an old master is believed whose host was
// suspended while another was promoted. The simulator holds the monotonic clock
// back, which no lab can do.
func TestSuspended(t *testing.T) {
	t.Parallel()
	const at, histories = 8 * time.Second, 100
	believed := func(daemon func(*sim.World, int) sim.Daemon, seed uint64) (d time.Duration, tested bool) {
		asleep := 4*time.Second + time.Duration(seed)*100*time.Millisecond
		h := sim.New(sim.Config{Seed: seed, Length: 60 * time.Second, Watch: seed%2 == 0, Faults: []sim.Fault{
			{At: at, Kind: sim.SuspendHost, Node: sim.OnMaster, For: asleep}}}, daemon).Run()
		yes, since := false, time.Duration(0)
		for _, e := range h.Events {
			tested = tested || e.Kind == sim.PromotionEvent && e.Node != 0 && e.At < at+asleep
			if e.Node != 0 || e.Kind != sim.AnswerEvent && e.Kind != sim.RoleEvent {
				continue
			}
			demoted := e.Kind == sim.RoleEvent && e.What == sim.Replica && e.At > at+asleep
			if e.Kind == sim.AnswerEvent && e.Yes != yes || demoted {
				if yes && e.At > at+asleep {
					d += e.At - max(since, at+asleep)
				}
				yes, since = e.Yes, e.At
			}
			if demoted {
				break
			}
		}
		return d, tested
	}
	var naive, real time.Duration
	n := 0
	for seed := range uint64(histories) {
		d, tested := believed(sim.NewReal, seed)
		if !tested {
			continue
		}
		n++
		if real = max(real, d); d > 0 {
			t.Errorf("seed %d: it is believed for %v", seed, d)
		}
		d, _ = believed(sim.NewNaive, seed)
		naive = max(naive, d)
	}
	if n < histories/2 || naive < 5*time.Second {
		t.Errorf("in %d of %d another was promoted meanwhile, and the role alone lies for %v: nothing was tested", n,
			histories, naive)
	}
	t.Logf("\n| the host of a master was suspended | %d | – | – | %d | of %d histories", naive.Milliseconds(),
		real.Milliseconds(), n)
}
