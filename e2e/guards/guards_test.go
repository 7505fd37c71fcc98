// Package guards measures, with real Sentinels, for how long a node says yes
// that is no longer the master, and how long a true master has to wait: by the
// role alone, by the guards of a one-shot, and by the daemon.
package guards

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

var runs = flag.Int("runs", 3, "`number` of runs of each situation")

const password = "s3cret-of-the-guards"

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "4") // they mostly wait
	os.Exit(lab.Main(m, nil))
}

// The ways to ask, in the order of the table.
const (
	plain = iota
	minUptime
	sentinels
	daemon
	ways
)

// A history is when an answer changed. A yes begins when it was known, and ends
// when its last sample began: on a busy host a sample and the time until the next
// may take seconds.
type history struct {
	mu   sync.Mutex
	at   []time.Time
	yes  []bool
	last time.Time // when the last sample began
}

// set takes a sample that began at a time and has ended now.
func (h *history) set(began time.Time, yes bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.last
	h.last = began
	if n := len(h.yes); n == 0 && !yes || n > 0 && h.yes[n-1] == yes {
		return
	}
	if !yes {
		now = last
	}
	h.at, h.yes = append(h.at, now), append(h.yes, yes)
}

// during is how long the answer was yes from one time to another.
func (h *history) during(from, to time.Time) (total time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, yes := range h.yes {
		end := to
		if i+1 < len(h.at) && h.at[i+1].Before(to) {
			end = h.at[i+1]
		}
		begin := h.at[i]
		if begin.Before(from) {
			begin = from
		}
		if yes && end.After(begin) {
			total += end.Sub(begin)
		}
	}
	return total
}

// beside is how long the answer was yes from one time to another while other
// was yes, too.
func (h *history) beside(other *history, from, to time.Time) (total time.Duration) {
	h.mu.Lock()
	at, yes := slices.Clone(h.at), slices.Clone(h.yes)
	h.mu.Unlock()
	for i := range at {
		begin, end := at[i], to
		if i+1 < len(at) && at[i+1].Before(to) {
			end = at[i+1]
		}
		if begin.Before(from) {
			begin = from
		}
		if yes[i] && end.After(begin) {
			total += other.during(begin, end)
		}
	}
	return total
}

// since is the first yes at or after from, a yes that stands included.
func (h *history) since(from time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, yes := range h.yes {
		if !yes || i+1 < len(h.at) && !h.at[i+1].After(from) {
			continue
		}
		return max(h.at[i].Sub(from), 0), true
	}
	return 0, false
}

// A watched node is sampled in every way until its test ends.
type watched struct {
	*lab.Redis
	daemon *lab.Daemon
	says   [ways]history

	mu       sync.Mutex
	role     checker.Role
	last     checker.Role // when it answered last
	replica  time.Time    // when it was last asked and was a replica
	promoted time.Time    // when it was last seen to become master from replica
	master   time.Time    // when it was last seen to become a loaded master
}

// every calls f again and again until ctx is done.
func every(ctx context.Context, wg *sync.WaitGroup, d time.Duration, f func()) {
	wg.Go(func() {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for ctx.Err() == nil {
			f()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

func (n *watched) node() *checker.Redis {
	return &checker.Redis{Address: n.Addr(), Password: func(context.Context) (string, error) { return password, nil }}
}

func (n *watched) sample(ctx context.Context, wg *sync.WaitGroup, c *lab.Cluster) {
	node := n.node()
	every(ctx, wg, 10*time.Millisecond, func() {
		asked := time.Now()
		check := checker.Run(
			ctx,
			100*time.Millisecond,
			node.Probe,
			checker.Policy{AllowLoading: true, AllowUnconfirmed: true},
		)
		now := time.Now()
		o, yes := check.Observation, check.Verdict.Answer() == checker.Yes
		n.says[plain].set(asked, yes)
		n.says[minUptime].set(
			asked,
			checker.Policy{
				MinUptime:        15 * time.Second,
				AllowUnconfirmed: true,
			}.Judge(
				o,
				check.Err,
			).Reason == checker.OK,
		)
		n.mu.Lock()
		defer n.mu.Unlock()
		if check.Err != nil {
			n.role = ""
			return
		}
		if o.Role == checker.RoleReplica {
			n.replica = asked
		}
		if o.Role == checker.RoleMaster && n.role != checker.RoleMaster && !o.Loading {
			n.master = now
			if n.last == checker.RoleReplica { // it may have stalled in between
				n.promoted = now
			}
		}
		n.last = o.Role
		if n.role = o.Role; o.Loading {
			n.role = ""
		}
	})
	every(ctx, wg, 2*time.Millisecond, func() { n.says[daemon].set(time.Now(), n.daemon.Track() == "1") })
	poll := &sentinel.Poll{Name: lab.MasterName, Self: &sentinel.Self{Node: n.node()}}
	for _, s := range c.Sentinels {
		poll.Sentinels = append(poll.Sentinels, &checker.Redis{Address: s.Addr()})
	}
	policy := checker.Policy{Sentinels: true, AllowUnconfirmed: true}
	oneshot := checker.WithWitnesses(n.node().Probe, policy, poll)
	every(ctx, wg, 50*time.Millisecond, func() {
		n.says[sentinels].set(time.Now(), checker.Run(ctx, 0, oneshot, policy).Verdict.Answer() == checker.Yes)
	})
}

// A world is a cluster of three watched nodes.
type world struct {
	*lab.Cluster
	nodes []*watched
}

func newWorld(t *testing.T, args ...string) *world {
	w := &world{Cluster: lab.NewCluster(t, 3, lab.Options{Password: password})}
	for _, s := range w.Sentinels { // so that the next failover may follow sooner
		s.Must(t, "SENTINEL", "SET", lab.MasterName, "failover-timeout", "5000")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, r := range w.Nodes {
		d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), r, args...)
		lab.Check(t, err)
		t.Cleanup(func() {
			d.Close()
			if t.Failed() {
				t.Logf("%s:\n%s", r.Addr(), d.Log())
			}
		})
		n := &watched{Redis: r, daemon: d}
		w.nodes = append(w.nodes, n)
		n.sample(ctx, &wg, w.Cluster)
	}
	return w
}

// calm waits until the Sentinels agree, every node is what they say, and the
// daemons agree; and returns the master.
func (w *world) calm(t *testing.T) (master *watched) {
	t.Helper()
	lab.Check(t, lab.Wait("all agree on a master", func() (bool, error) {
		master = nil
		for _, n := range w.nodes {
			n.mu.Lock()
			role := n.role
			n.mu.Unlock()
			is := role == checker.RoleMaster
			if role == "" || is != (n.daemon.Track() == "1") || is && master != nil {
				return false, nil
			}
			if is {
				master = n
			}
		}
		if master == nil {
			return false, nil
		}
		r, err := w.Master()
		return err == nil && r == master.Redis, err
	}))
	lab.Check(t, w.Ready())
	return master
}

// promoted waits until another node than old was promoted after begun.
func (w *world) promoted(t *testing.T, old *watched, begun time.Time) (n *watched, at time.Time) {
	t.Helper()
	lab.Check(t, lab.Wait("a node is promoted", func() (bool, error) {
		for _, other := range w.nodes {
			other.mu.Lock()
			at = other.promoted
			other.mu.Unlock()
			if other != old && at.After(begun) {
				n = other
				return true, nil
			}
		}
		return false, nil
	}))
	return n, at
}

// A row is the worst of all runs, for each way to ask.
type row [ways]time.Duration

func (r *row) worst(way int, d time.Duration) { r[way] = max(r[way], d) }

func (r row) String() string {
	var b strings.Builder
	for _, d := range r {
		fmt.Fprintf(&b, " %d |", d.Round(time.Millisecond).Milliseconds())
	}
	return b.String()
}

// sampling is how much later than a daemon a sampler may see a promotion.
const sampling = 40 * time.Millisecond

// lies adds, for each way, how long a node has said yes since begun that was
// not the master: old after another was promoted, while that or a third one
// calls itself master, and as long as old is not promoted again; and all
// others, if that was the only promotion. (Sentinels that disagree have been
// seen to take a promotion back at once; then old is the only master there is.)
func (w *world) lies(r *row, begun time.Time, old, promoted *watched, at time.Time, only bool) {
	now := time.Now()
	for _, n := range w.nodes {
		for way := range ways {
			switch {
			case n == old && n != promoted:
				end := now
				n.mu.Lock()
				if n.promoted.After(at) {
					end = n.replica
				}
				n.mu.Unlock()
				for _, other := range w.nodes {
					if other != old {
						r.worst(way, n.says[way].beside(&other.says[plain], at, end))
					}
				}
			case !only:
			case n == promoted:
				n.mu.Lock()
				end := n.replica // it may have been promoted since
				n.mu.Unlock()
				r.worst(way, n.says[way].during(begun, end))
			default:
				r.worst(way, n.says[way].during(begun, now))
			}
		}
	}
}

// TestFalseYes prints the table of the README: the worst of all runs, in
// milliseconds.
func TestFalseYes(t *testing.T) {
	lab.Require(t, "redis-server", "redis-sentinel", "redis-cli")
	var (
		mu    sync.Mutex
		table = make(map[string]row)
		delay row
	)
	situations := []struct {
		name   string
		allows time.Duration // of a false yes by the daemon
		lie    time.Duration // that the plain check tells at least, or nothing was tested
		act    func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time)
	}{
		{
			"a dead master is restarted, with its data",
			0,
			2 * time.Second,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				old.Must(t, "SET", "key", "value")
				old.Must(t, "SAVE")
				old.Kill()
				n, at := w.promoted(t, old, begun)
				lab.Check(t, old.Restart())
				return n, at
			},
		},
		{
			"a dead master is restarted, empty",
			0,
			2 * time.Second,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				old.Kill()
				os.Remove(filepath.Join(old.Dir, "dump.rdb"))
				n, at := w.promoted(t, old, begun)
				<-time.After(rand.N(3 * time.Second))
				lab.Check(t, old.Restart())
				return n, at
			},
		},
		{
			"a dead master is restarted while another is elected",
			0,
			0,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				old.Kill()
				<-time.After(time.Second + rand.N(400*time.Millisecond)) // about when the Sentinels take it for dead
				lab.Check(t, old.Restart())
				again := time.Now()
				var n *watched
				var at time.Time
				lab.Check(t, lab.Wait("the Sentinels have chosen", func() (bool, error) {
					for _, other := range w.nodes {
						other.mu.Lock()
						if other != old && other.promoted.After(begun) {
							n, at = other, other.promoted
						}
						other.mu.Unlock()
					}
					return n != nil || time.Since(again) > 5*time.Second, nil
				}))
				if n == nil {
					return old, begun // it was back in time
				}
				return n, at
			},
		},
		{
			"a hung master wakes after the failover",
			0,
			2 * time.Second,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				lab.Check(t, old.Signal(syscall.SIGSTOP))
				n, at := w.promoted(t, old, begun)
				<-time.After(2500*time.Millisecond + rand.N(3*time.Second))
				lab.Check(t, old.Signal(syscall.SIGCONT))
				return n, at
			},
		},
		{
			"a hung master wakes at the promotion",
			0,
			time.Second,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				lab.Check(t, old.Signal(syscall.SIGSTOP))
				n, at := w.promoted(t, old, begun)
				<-time.After(rand.N(time.Second))
				lab.Check(t, old.Signal(syscall.SIGCONT))
				return n, at
			},
		},
		{
			"the old master of a planned SENTINEL FAILOVER",
			atOnce,
			2 * time.Second,
			func(t *testing.T, w *world, old *watched, begun time.Time) (*watched, time.Time) {
				lab.Check(t, lab.Wait("a Sentinel begins a failover", func() (bool, error) {
					out, err := w.Sentinels[rand.N(len(w.Sentinels))].Do("SENTINEL", "FAILOVER", lab.MasterName)
					return out == "OK", err
				}))
				return w.promoted(t, old, begun)
			},
		},
	}
	t.Run("situations", func(t *testing.T) {
		for _, s := range situations {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				var worst, wait row
				for range *runs {
					old := w.calm(t)
					begun := time.Now()
					n, at := s.act(t, w, old, begun)
					next := w.calm(t)
					w.lies(&worst, begun, old, n, at, next == n)
					if next != n {
						t.Logf("another failover made %s master", next.Addr())
					}
					if n == old || next != n {
						continue
					}
					for way := range ways {
						d, ok := n.says[way].since(at.Add(-sampling))
						if !ok {
							t.Fatalf("the promoted node has never said yes, way %d", way)
						}
						wait.worst(way, max(d-sampling, 0))
					}
				}
				t.Logf("false yes%v", worst)
				if worst[daemon] > s.allows {
					t.Errorf("the daemon said a false yes for %v", worst[daemon])
				}
				if worst[plain] < s.lie {
					t.Errorf("the plain check lied for %v only, so nothing was tested", worst[plain])
				}
				mu.Lock()
				defer mu.Unlock()
				table[s.name] = worst
				if s.name != situations[len(situations)-1].name {
					for way := range ways {
						delay.worst(way, wait[way])
					}
				}
			})
		}
		t.Run("quick restart", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var worst row
			quick := 0
			for tries := 0; quick < *runs && tries < 3**runs; tries++ {
				old := w.calm(t)
				begun := time.Now()
				old.Kill()
				killed := time.Now()
				lab.Check(t, old.Restart())
				var loaded time.Time // a sample that fails later on does not count
				lab.Check(t, lab.Wait("it is a master again", func() (bool, error) {
					old.mu.Lock()
					defer old.mu.Unlock()
					loaded = old.master
					return loaded.After(killed), nil
				}))
				lab.Check(t, lab.Wait("the node is believed, or another", func() (bool, error) {
					return slices.ContainsFunc(w.nodes, func(n *watched) bool { return n.daemon.Track() == "1" }), nil
				}))
				<-time.After(15500*time.Millisecond - time.Since(begun)) // as the one-shot does
				next := w.calm(t)
				old.mu.Lock()
				again := old.promoted.After(begun)
				old.mu.Unlock()
				if next != old || again {
					t.Log("it was not quick enough")
					continue
				}
				quick++
				for way := range ways {
					d, ok := old.says[way].since(loaded)
					if !ok {
						t.Errorf("way %d has never said yes again", way)
					}
					worst.worst(way, d)
				}
			}
			if quick == 0 {
				t.Error("no restart was quick enough")
			}
			t.Logf("delay%v", worst)
			if worst[daemon] > 2200*time.Millisecond {
				t.Errorf("the daemon waited for %v", worst[daemon])
			}
			mu.Lock()
			defer mu.Unlock()
			table["a quick restart inside down-after"] = worst
		})
	})
	var b strings.Builder
	fmt.Fprintf(&b, "worst of %d runs each, ms\n"+
		"| false yes: | role:master alone | --min-uptime 15s | --sentinel, three | daemon |\n|---|---|---|---|---|\n", *runs)
	for _, s := range situations {
		fmt.Fprintf(&b, "| %s |%v\n", s.name, table[s.name])
	}
	fmt.Fprintf(&b, "| **delay of a true master:** | | | | |\n| promoted in an unplanned failover |%v\n"+
		"| a quick restart inside down-after |%v\n", delay, table["a quick restart inside down-after"])
	t.Log("\n" + b.String())
}
