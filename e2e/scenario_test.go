package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// A scenario does something to a site that has settled, of which m is the
// master, and undoes it. It returns when the fault has had its effect; that
// the site settles then, and the invariant, are checked for all.
type scenario struct {
	name string
	do   func(s *lab.Site, m *lab.Node) error
	// Needs the daemon, keepalived, or neither keepalived nor anything else
	// but the daemon to hold the VIP.
	daemon, keepalived, alone bool
	// Needs a profile that drops the VIP at once.
	fences bool
	// Needs Valkey 9.
	valkey9 bool
	// The master must be the same afterwards.
	stays bool
	// After looks at what came of it, once the site has settled. From is when it began.
	after func(t *testing.T, s *lab.Site, p profile, m *lab.Node, from time.Time)
	// Widen is for a scenario in which more than usual is allowed, and why.
	widen func(b *lab.Bounds)
}

var scenarios = []scenario{
	{name: "kill -9 of Redis, back at once", do: killed(0)},
	{name: "kill -9 of Redis, back after 2 s", do: killed(2 * time.Second)},
	{name: "kill -9 of Redis, back after 5 s", do: killed(5 * time.Second)},
	// A Sentinel tries to connect again only once a second, so with down-after
	// 1000 ms it may take a Redis for dead that was away for 20.
	{name: "quick restart of Redis", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of Redis on %s, and its start", m.Name)
		m.Redis.Kill()
		return first(s.Nobody(), m.Redis.Start())
	}},
	{name: "Redis is stopped and woken", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("SIGSTOP of Redis on %s", m.Name)
		m.Redis.Signal(syscall.SIGSTOP)
		err := s.Moved(m)
		s.Note("SIGCONT of it")
		return first(err, m.Redis.Signal(syscall.SIGCONT))
	}},
	{name: "the cable is pulled", do: broken(lab.Cut)},
	{name: "the switch forgets the node", do: broken(lab.Isolated)},
	{name: "the node hears nothing", do: broken(lab.Deaf)},
	{name: "the node is not heard", do: broken(lab.Mute)},
	{name: "the node is far away", stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("%s is late", m.Name)
		from := time.Now()
		err := first(m.Break(lab.Late), lab.Wait("writes come late", func() (bool, error) {
			acks := s.Client.Acks(from)
			return len(acks) > 20 && acks[len(acks)-1].At.Sub(acks[len(acks)-1].Sent) > 40*time.Millisecond, nil
		}))
		s.Note("%s is healed", m.Name)
		return first(err, m.Break(lab.Healed))
	}},
	{name: "the node is lost", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("%s is lost", m.Name)
		err := first(m.Lose(), s.Moved(m))
		s.Note("%s is back", m.Name)
		return first(err, m.Return())
	}},
	{name: "SENTINEL FAILOVER", after: losses, do: asked()},
	{name: "SENTINEL FAILOVER COORDINATED", valkey9: true, after: losses, do: asked("COORDINATED")},
	{name: "FAILOVER", do: func(s *lab.Site, m *lab.Node) error {
		to := s.Others(m)[0]
		s.Note("FAILOVER from %s to %s", m.Name, to.Name)
		// Without a timeout Redis 7.0 may wait for ever, for an acknowledgement
		// that does not come; a Sentinel takes a master that waits for dead
		// after a second.
		err := lab.Wait(m.Name+" is a replica", func() (bool, error) {
			m.Ask("FAILOVER", "TO", to.Addr.String(), "6379", "TIMEOUT", "500")
			info, err := m.Ask("INFO", "replication")
			return strings.Contains(info, "role:slave"), err
		})
		return first(
			err,
			s.Timeline.Until("it is seen", func(now lab.State) bool { return now.Role[m.Name] == lab.Replica }),
		)
	}, widen: unannounced},
	{name: "REPLICAOF on the master", do: func(s *lab.Site, m *lab.Node) error {
		to := s.Others(m)[0]
		s.Note("REPLICAOF %s on %s", to.Name, m.Name)
		_, err := m.Ask("REPLICAOF", to.Addr.String(), "6379")
		return first(err, s.Nobody())
	}},
	{name: "REPLICAOF NO ONE on a replica", stays: true, do: func(s *lab.Site, m *lab.Node) error {
		stray := s.Others(m)[0]
		s.Note("REPLICAOF NO ONE on %s", stray.Name)
		_, err := stray.Ask("REPLICAOF", "NO", "ONE")
		return err
	}},
	{name: "kill -9 of the daemon", daemon: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of the daemon on %s", m.Name)
		m.Daemon.Kill()
		err := s.Nobody()
		s.Note("its start")
		return first(err, m.Daemon.Start())
	}},
	{name: "the daemon is stopped and woken", daemon: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("SIGSTOP of the daemon on %s", m.Name)
		m.Daemon.Signal(syscall.SIGSTOP)
		err := s.Nobody()
		s.Note("SIGCONT of it")
		return first(err, m.Daemon.Signal(syscall.SIGCONT))
	}},
	{name: "kill -9 of keepalived", keepalived: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of keepalived on %s", m.Name)
		m.Keepalived.Kill()
		err := s.Nobody()
		s.Note("its start")
		return first(err, m.Keepalived.Start())
	}},
	{
		name:       "the track file is deleted",
		keepalived: true,
		daemon:     true,
		stays:      true,
		do: func(s *lab.Site, m *lab.Node) error {
			s.Note("rm of the track file on %s", m.Name)
			err := os.Remove(m.Path(lab.TrackFile))
			// Healed within a second. That the VIP was gone meanwhile may be too
			// short to be waited for; the invariant sees if it was not.
			return first(err, lab.Wait("the track file is back", func() (bool, error) {
				_, err := os.Stat(m.Path(lab.TrackFile))
				return err == nil, nil
			}))
		},
	},
	{
		name:       "the track file is garbage",
		keepalived: true,
		daemon:     true,
		stays:      true,
		do: func(s *lab.Site, m *lab.Node) error {
			s.Note("garbage in the track file on %s", m.Name)
			return os.WriteFile(m.Path(lab.TrackFile), []byte("garbage"), 0o644)
		},
	},
	{
		name:       "the directory of the track file is removed",
		keepalived: true,
		daemon:     true,
		stays:      true,
		do: func(s *lab.Site, m *lab.Node) error {
			s.Note("rm -r of the daemon's directory on %s", m.Name)
			err := first(os.RemoveAll(m.Path(lab.DaemonDir)), s.Nobody())
			s.Note("mkdir, and restart of the daemon and keepalived")
			m.Daemon.Stop()
			m.Keepalived.Stop()
			return first(err, m.Mkdir(), m.Daemon.Start(), m.Keepalived.Start())
		},
	},
	{name: "kill -9 of the companion", alone: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of the companion on %s", m.Name)
		old := m.Daemon.Children()
		return first(killAll(old), lab.Wait("it has another", func() (bool, error) {
			now := m.Daemon.Children()
			return len(now) == 1 && len(old) == 1 && now[0] != old[0], nil
		}))
	}},
	{
		name:  "kill -9 of the daemon and the companion",
		alone: true,
		stays: true,
		do: func(s *lab.Site, m *lab.Node) error {
			s.Note("kill -9 of the daemon and the companion on %s", m.Name)
			m.Daemon.Signal(syscall.SIGSTOP) // or it would start another
			err := killAll(m.Daemon.Children())
			m.Daemon.Kill()
			err = first(err, s.Nobody())
			s.Note("its start")
			return first(err, m.Daemon.Start())
		},
	},
	{name: "the companion hangs", alone: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("SIGSTOP of the companion on %s, and kill -9 of Redis", m.Name)
		all := m.Daemon.Children()
		for _, pid := range all {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		m.Redis.Kill()
		err := first(s.Nobody(), s.Moved(m))
		s.Note("kill -9 of the companion, and the start of Redis")
		return first(err, killAll(all), m.Redis.Start())
	}},
	{
		name:  "somebody removes the VIP from the master",
		alone: true,
		stays: true,
		do: func(s *lab.Site, m *lab.Node) error {
			s.Note("ip addr del on %s", m.Name)
			from := time.Now()
			return first(
				m.Run("ip", "addr", "del", s.VIP.String()+"/32", "dev", "eth0"),
				lab.Wait("it is back", func() (bool, error) {
					down, gone := s.Timeline.First(from, m.Name, lab.VIP, "down")
					_, back := s.Timeline.First(down.At, m.Name, lab.VIP, "up")
					return gone && back, nil
				}),
			)
		},
	},
	{name: "the password is rotated", stays: true, do: func(s *lab.Site, m *lab.Node) error {
		s.Note("a new password")
		return s.SetPassword("password-" + strconv.FormatInt(time.Now().UnixNano(), 36))
	}},
	{name: "every Redis is down", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of every Redis")
		for _, n := range s.Nodes {
			n.Redis.Kill()
		}
		err := s.Nobody()
		s.Note("their start")
		for _, n := range s.Nodes {
			err = first(err, n.Redis.Start())
		}
		return err
	}},
	{name: "a long LOADING", do: func(s *lab.Site, m *lab.Node) error {
		if err := m.Fill(8000); err != nil {
			return err
		}
		s.Note("kill -9 of Redis on %s, and its start, which takes seconds", m.Name)
		m.Redis.Kill()
		if err := first(s.Nobody(), m.Redis.Start("--key-load-delay", "500",
			"--loading-process-events-interval-bytes", "1024")); err != nil {
			return err
		}
		return s.Timeline.Until("it loads", func(now lab.State) bool { return now.Role[m.Name] == lab.Loading })
	}},
	{name: "everything is cold", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("every node is lost")
		for _, n := range s.Nodes {
			if err := n.Lose(); err != nil {
				return err
			}
		}
		err := s.Nobody()
		s.Note("every node is back")
		for _, n := range s.Nodes {
			err = first(err, n.Return())
		}
		return err
	}},
	{name: "two Sentinels are gone, then the master", do: func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of two Sentinels")
		others := s.Others(m)
		for _, n := range others {
			n.Sentinel.Kill()
		}
		s.Note("kill -9 of Redis on %s", m.Name)
		at := time.Now()
		m.Redis.Kill()
		err := first(s.Nobody(), lab.Wait("the last Sentinel knows", func() (bool, error) {
			_, known := s.Timeline.First(at, m.Name, lab.Said, "+sdown master")
			return known, nil
		}))
		s.Note("the Sentinels are back")
		for _, n := range others {
			err = first(err, n.Sentinel.Start())
		}
		err = first(err, s.Moved(m))
		return first(err, m.Redis.Start())
	}},
}

func killAll(pids []int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

func killed(back time.Duration) func(*lab.Site, *lab.Node) error {
	return func(s *lab.Site, m *lab.Node) error {
		s.Note("kill -9 of Redis on %s", m.Name)
		m.Redis.Kill()
		err := s.Moved(m)
		time.Sleep(back) // the fault is the time, and nothing is awaited
		s.Note("its start")
		return first(err, m.Redis.Start())
	}
}

// asked is a failover that a Sentinel was asked for, with more arguments.
func asked(more ...string) func(*lab.Site, *lab.Node) error {
	return func(s *lab.Site, m *lab.Node) error {
		if err := s.Calm(); err != nil {
			return err
		}
		s.Note("%s", strings.Join(append([]string{"SENTINEL FAILOVER from", m.Name}, more...), " "))
		return first(lab.Wait("a Sentinel begins a failover", func() (bool, error) {
			reply, _ := m.AskSentinel(append([]string{"SENTINEL", "FAILOVER", lab.MasterName}, more...)...)
			return reply == "OK", nil
		}), s.Moved(m))
	}
}

func broken(link string) func(*lab.Site, *lab.Node) error {
	return func(s *lab.Site, m *lab.Node) error {
		s.Note("%s is %s", m.Name, link)
		err := first(m.Break(link), s.Timeline.Until("others agree on another master", func(now lab.State) bool {
			return now.Agreed() != m.Name && now.Role[now.Agreed()] == lab.Master
		}))
		s.Note("%s is healed", m.Name)
		return first(err, m.Break(lab.Healed))
	}
}

// unannounced: the Sentinels see a change by hand as a master that is a replica
// now, and act when it has been that for down-after and two of their INFO
// periods, 21 s: they promote whom they like. Or they undo it at once.
func unannounced(b *lab.Bounds) { b.Ahead = 40 * time.Second }

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (sc scenario) suits(p profile) bool {
	return (!sc.daemon || p.daemon) && (!sc.keepalived || p.keepalived) && (!sc.alone || !p.keepalived) &&
		(!sc.fences || p.fences) && (!sc.valkey9 || isValkey9())
}

var isValkey9 = sync.OnceValue(func() bool {
	out, _ := exec.Command("redis-server", "--version").Output()
	return strings.HasPrefix(string(out), "Valkey") && strings.Contains(string(out), " v=9.")
})

// run runs one scenario on a site that has settled, and reports whether it
// has settled again.
func (sc scenario) run(t *testing.T, s *lab.Site, p profile) bool {
	m := s.Master()
	from := time.Now()
	err := sc.do(s, m)
	if err == nil {
		err = s.Settle()
	}
	bounds := p.bounds
	if sc.widen != nil {
		sc.widen(&bounds)
	}
	if err != nil {
		t.Error(err)
	}
	for _, v := range s.Violations(from, bounds) {
		t.Errorf("at %.1f ms %v", float64(v.At.Sub(from).Microseconds())/1000, v)
	}
	if err == nil && sc.after != nil {
		sc.after(t, s, p, m, from)
	}
	if now := s.Master(); sc.stays && now != m {
		t.Errorf("the master is no longer %s", m.Name)
	}
	if t.Failed() || *verbose {
		t.Logf("%s:\n%s", sc.name, s.Timeline.Text(from))
	}
	return err == nil
}

// TestScenarios runs every scenario with every profile that this machine's
// keepalived can run.
func TestScenarios(t *testing.T) {
	all := slices.Clip(profiles)
	if fastScripts() {
		all = append(all, cached())
	}
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, p)
			for _, sc := range scenarios {
				if !sc.suits(p) {
					continue
				}
				settled := true
				t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) { settled = sc.run(t, s, p) })
				if !settled {
					s.Close()
					s = start(t, p)
				}
			}
		})
	}
}
