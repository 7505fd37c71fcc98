package e2e

import (
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

var crashes = flag.Int("crashes", 2, "crashes for each profile and down-after")

// asksWithin is how long a client may be without an acknowledged write after the
// crash of a master whose daemon asks for a failover, on a machine that has other work.
const asksWithin = time.Second

// ready waits until the master's daemon could ask for a failover.
func ready(s *lab.Site) (m *lab.Node, err error) {
	err = lab.Wait("a failover could be asked for", func() (bool, error) {
		m = s.Master()
		if m == nil {
			return false, nil
		}
		d, err := m.Document()
		return err == nil && d.Daemon.CrashFailover != nil && d.Daemon.CrashFailover.Ready, nil
	})
	return m, err
}

// crash kills the Redis of the master, and returns for how long the client had no
// acknowledged write, how many were lost that were older, and how many of all.
func crash(s *lab.Site) (without time.Duration, old, lost int, err error) {
	m, err := ready(s)
	if err != nil {
		return 0, 0, 0, err
	}
	at := s.Note("kill -9 of Redis on %s", m.Name)
	m.Redis.Kill()
	var next lab.Ack
	err = lab.Wait("another node acknowledges", func() (bool, error) {
		for _, a := range s.Client.Acks(at) {
			if next = a; a.Node != m {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return 0, 0, 0, err
	}
	var last lab.Ack
	for _, a := range s.Client.Acks(at.Add(-time.Second)) {
		if a.Node != m {
			continue
		}
		if last = a; a.Value >= next.Value {
			if lost++; at.Sub(a.At) > 100*time.Millisecond {
				old++
			}
		}
	}
	err = first(s.Moved(m), m.Redis.Start("--replicaof", fmt.Sprintf("%s 6379", next.Node.Addr)), s.Settle())
	return next.At.Sub(last.At), old, lost, err
}

func setDownAfter(s *lab.Site, ms int) error {
	for _, n := range s.Nodes {
		for _, setting := range [][]string{{"down-after-milliseconds", fmt.Sprint(ms)}, {"failover-timeout", "3000"}} {
			reply, err := n.AskSentinel("SENTINEL", "SET", lab.MasterName, setting[0], setting[1])
			if err != nil || reply != "OK" {
				return fmt.Errorf("SENTINEL SET %v: %q, %w", setting, reply, err)
			}
		}
	}
	return nil
}

// TestCrashFailover kills the master's Redis where its daemon may ask for a failover:
// the next one comes at once, whatever down-after-milliseconds says.
func TestCrashFailover(t *testing.T) {
	for _, p := range profiles {
		if !p.daemon {
			continue // nobody is there who could ask
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, p, "--failover-on-crash")
			for _, ms := range []int{1000, 5000, 30000} {
				lab.Check(t, setDownAfter(s, ms))
				from := time.Now()
				var all []time.Duration
				lost := 0
				for range *crashes {
					without, old, n, err := crash(s)
					if err != nil {
						t.Fatalf("%v\n%s", err, s.Timeline.Text(from))
					}
					all, lost = append(all, without), lost+n
					if old > 0 {
						t.Errorf("%d writes are lost that were older than 100 ms", old)
					}
				}
				slices.Sort(all)
				t.Logf("down-after %5d: %d crashes, without a write p50 %d ms, max %d ms, %d writes lost", ms, len(all),
					all[len(all)/2].Milliseconds(), all[len(all)-1].Milliseconds(), lost)
				if worst := all[len(all)-1]; worst > asksWithin && p.name != "weight" {
					t.Errorf("the client was without a write for %v", worst)
				}
				for _, v := range s.Violations(from, p.bounds) {
					t.Error(v)
				}
				if t.Failed() {
					t.Log(s.Timeline.Text(from))
					for _, n := range s.Nodes {
						t.Logf("%s: %s", n.Name, n.Daemon.Tail(200))
					}
					return
				}
			}
		})
	}
}

// TestCrashBehindHAProxy: a client whose HAProxy asks the daemons is with the next master as soon.
func TestCrashBehindHAProxy(t *testing.T) {
	t.Parallel()
	lab.Require(t, "haproxy")
	s := start(t, profiles[0], "--failover-on-crash")
	lab.Check(t, setDownAfter(s, 5000))
	proxy, err := s.AddHost("proxy")
	lab.Check(t, err)
	h, err := lab.HAProxy(proxy, haproxyConfigs(t)["httpchk and agent-check"])
	lab.Check(t, err)
	lab.Check(t, h.Start())
	defer h.Kill()
	s.Client.Use(net.JoinHostPort(proxy.Addr.String(), "6379"))
	lab.Check(t, s.Settle())
	from := time.Now()
	for range *crashes {
		without, old, lost, err := crash(s)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, h.Tail(20), s.Timeline.Text(from))
		}
		t.Logf("without a write for %d ms, %d writes lost", without.Milliseconds(), lost)
		if old > 0 || without > asksWithin {
			t.Errorf("the client was without a write for %v, and %d writes are lost that were older than 100 ms\n%s",
				without, old, s.Timeline.Text(from))
		}
	}
	for _, v := range s.Violations(from, profiles[0].bounds) {
		t.Error(v)
	}
}

// TestCrashOfMinority kills the Redis of a master that is cut off: its daemon asks
// nobody, and the others choose without it.
func TestCrashOfMinority(t *testing.T) {
	t.Parallel()
	p := profiles[0]
	s := start(t, p, "--failover-on-crash")
	from := time.Now()
	for range *crashes {
		m, err := ready(s)
		lab.Check(t, err)
		s.Note("%s is isolated, and kill -9 of its Redis", m.Name)
		lab.Check(t, m.Break(lab.Isolated))
		m.Redis.Kill()
		err = first(s.Nobody(), s.Moved(m))
		d, derr := m.Document()
		switch {
		case derr != nil:
			err = first(err, derr)
		case d.Daemon.CrashFailover == nil || d.Daemon.CrashFailover.Last != nil:
			t.Errorf("a daemon that is cut off asked for a failover: %+v", d.Daemon.CrashFailover)
		}
		err = first(err, m.Break(lab.Healed), m.Redis.Start(), s.Settle())
		if err != nil {
			t.Fatalf("%v\n%s", err, s.Timeline.Text(from))
		}
	}
	for _, v := range s.Violations(from, p.bounds) {
		t.Error(v)
	}
	if t.Failed() {
		t.Log(s.Timeline.Text(from))
	}
}

// TestCrashAndReturn lets Redis come back at once, as by Restart=always: before its
// daemon has asked for a failover nothing happens, and after that it is not believed.
func TestCrashAndReturn(t *testing.T) {
	t.Parallel()
	p := profiles[0]
	s := start(t, p, "--failover-on-crash")
	lab.Check(t, setDownAfter(s, 5000))
	from := time.Now()
	asked := func(n *lab.Node) bool {
		return strings.Contains(n.Daemon.Tail(200), "a Sentinel is asked for a failover")
	}
	m, err := ready(s)
	lab.Check(t, err)
	s.Note("kill -9 of Redis on %s, and its start when a failover was asked for", m.Name)
	m.Redis.Kill()
	lab.Check(t, lab.Wait("a failover is asked for", func() (bool, error) { return asked(m), nil }))
	lab.Check(t, first(m.Redis.Start(), s.Moved(m), s.Settle()))
	if now := s.Master(); now == m {
		t.Error("the master is the same, though another was to be promoted")
	}
	for _, v := range s.Violations(from, p.bounds) {
		t.Error(v)
	}
	if t.Failed() {
		t.Log(s.Timeline.Text(from))
	}
}
