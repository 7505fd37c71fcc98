package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/e2e/lab"
)

var reloads = flag.Int("reloads", 10, "how many reloads of a daemon a scenario makes")

var restarts = flag.Int("restarts", 3, "how many restarts of the master's daemon are measured")

// reload replaces the program of the daemon on a node, and returns when the next one runs.
func reload(n *lab.Node) error {
	done := func() int { return strings.Count(n.Daemon.Tail(10000), "msg=reloaded") }
	before := done()
	if err := n.Daemon.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return lab.Wait("the daemon on "+n.Name+" is reloaded", func() (bool, error) {
		if !n.Daemon.Running() {
			return false, fmt.Errorf("it has ended: %s", n.Daemon.Tail(20))
		}
		return done() > before, nil
	})
}

func init() {
	scenarios = append(scenarios,
		scenario{name: "reloads of the daemon", daemon: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
			from := s.Note("%d reloads of the daemon on %s", *reloads, m.Name)
			for range *reloads {
				if err := reload(m); err != nil {
					return err
				}
			}
			if e, changed := s.Timeline.First(from, m.Name, lab.VIP, "down"); changed {
				return fmt.Errorf("the VIP has left %s at %v", m.Name, e.At)
			}
			return nil
		}},
		scenario{name: "reloads during a failover", daemon: true, do: func(s *lab.Site, m *lab.Node) error {
			if err := s.Calm(); err != nil {
				return err
			}
			// Not for ever: each begins the probes of --vip anew.
			s.Note("SENTINEL FAILOVER from %s, and %d reloads of every daemon", m.Name, *reloads)
			var reloading sync.WaitGroup
			errs := make(chan error, len(s.Nodes))
			for _, n := range s.Nodes {
				reloading.Go(func() {
					for range *reloads {
						if err := reload(n); err != nil {
							errs <- err
							return
						}
					}
				})
			}
			err := first(lab.Wait("a Sentinel begins a failover", func() (bool, error) {
				reply, _ := m.AskSentinel("SENTINEL", "FAILOVER", lab.MasterName)
				return reply == "OK", nil
			}), s.Moved(m))
			reloading.Wait()
			select {
			case rerr := <-errs:
				err = first(err, rerr)
			default:
			}
			return err
		}},
		scenario{name: "restart of the daemon", daemon: true, stays: true, do: func(s *lab.Site, m *lab.Node) error {
			from := s.Note("restart of the daemon on %s", m.Name)
			m.Daemon.Stop()
			if err := m.Daemon.Start(); err != nil {
				return err
			}
			// Keepalived may not have seen the no.
			return lab.Wait("the daemon says yes again", func() (bool, error) {
				_, yes := s.Timeline.First(from, m.Name, lab.Answer, "yes")
				return yes, nil
			})
		}})
}

// hangsFor is how long Redis may hang while its daemon is reloaded without a word of it:
// what is known is older than --max-age later.
const hangsFor = 600 * time.Millisecond

// TestUpgrades: the master's daemon is replaced, and nobody notices; a restart, which a
// change of the flags needs, takes the VIP away for a moment.
func TestUpgrades(t *testing.T) {
	for _, p := range profiles {
		if p.name != "track-file" && p.name != "vip" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, p)
			m := s.Master()
			lab.Check(t, s.Calm())
			from := time.Now()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("%s\n%s", s.Timeline.Text(from), m.Daemon.Tail(100))
				}
			})
			quietly := func(what string, times int, f func() error) {
				t.Helper()
				now := time.Now()
				lab.Check(t, lab.Wait("the client writes", func() (bool, error) {
					last, ok := s.Client.Last()
					return ok && last.Sent.After(now), nil
				}))
				begun, failed := s.Note("%s, %d times", what, times), len(s.Client.Failed())
				for range times {
					lab.Check(t, f())
				}
				if e, down := s.Timeline.First(begun, m.Name, lab.VIP, "down"); down {
					t.Errorf("%s: the VIP has left at %v", what, e.At.Sub(begun))
				}
				writes, lost := s.Client.Acks(begun), s.Client.Failed()[failed:]
				t.Logf("%d times %s: %d writes, %d failed", times, what, len(writes), len(lost))
				for _, err := range lost { // the patience of a client ends on a busy machine, too
					if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
						t.Errorf("%s: %v", what, err)
					}
				}
			}
			quietly("reload", *reloads, func() error { return reload(m) })
			lab.Check(t, hang(s, m))
			lab.Check(t, s.Settle())
			if m = s.Master(); t.Failed() {
				return
			}
			lab.Check(t, smallDirectory(s, m, p))
			filler := m.Path(lab.DaemonDir + "/filler")
			lab.Check(t, fill(filler))
			quietly("reload with a full disk", 3, func() error { return reload(m) })
			lab.Check(t, os.Remove(filler))
			var away []time.Duration
			for range *restarts {
				for _, o := range s.Nodes {
					lab.Check(t, lab.Wait("the daemon of "+o.Name+" knows all Sentinels", func() (bool, error) {
						doc, err := o.Document()
						return err == nil && doc.Observation != nil && doc.Observation.Standing != nil &&
							len(doc.Observation.Standing.Asked) == len(s.Nodes), nil
					}))
				}
				begun := s.Note("restart of the daemon on %s", m.Name)
				m.Daemon.Stop()
				lab.Check(t, m.Daemon.Start())
				lab.Check(t, lab.Wait("the VIP is back", func() (bool, error) {
					_, up := s.Timeline.First(begun, m.Name, lab.VIP, "up")
					_, down := s.Timeline.First(begun, m.Name, lab.VIP, "down")
					_, yes := s.Timeline.First(begun, m.Name, lab.Answer, "yes")
					return up || yes && !down && time.Since(begun) > time.Second, nil
				}))
				up, left := s.Timeline.First(begun, m.Name, lab.VIP, "up")
				if down, _ := s.Timeline.First(begun, m.Name, lab.VIP, "down"); left {
					away = append(away, up.At.Sub(down.At))
				}
				lab.Check(t, s.Settle())
			}
			slices.Sort(away)
			if len(away) > 0 {
				t.Logf("the VIP was away in %d of %d restarts, median %v, longest %v", len(away), *restarts,
					away[len(away)/2], away[len(away)-1])
			}
			if now := s.Master(); now != m {
				t.Errorf("the master is no longer %s", m.Name)
			}
			for _, v := range s.Violations(from, p.bounds) {
				t.Error(v)
			}
		})
	}
}

// smallDirectory starts the daemon anew with a directory that is a small file system.
func smallDirectory(s *lab.Site, n *lab.Node, p profile) error {
	all := []*lab.Process{n.Daemon}
	if p.keepalived {
		all = append(all, n.Keepalived)
	}
	for _, p := range all {
		p.Stop()
	}
	err := n.Do(func() error { return unix.Mount("tmpfs", lab.DaemonDir, "tmpfs", 0, "size=256k,mode=0755") })
	for _, p := range all {
		err = first(err, p.Start())
	}
	return first(err, s.Settle())
}

// fill fills the file system of a file.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// hang reloads the master's daemon while Redis hangs, and for less time than matters.
func hang(s *lab.Site, m *lab.Node) error {
	begun := s.Note("SIGSTOP of Redis on %s, and a reload of its daemon", m.Name)
	m.Redis.Signal(syscall.SIGSTOP)
	err := reload(m)
	if err = first(err, m.Redis.Signal(syscall.SIGCONT)); err != nil {
		return err
	}
	took := s.Note("SIGCONT").Sub(begun)
	if e, down := s.Timeline.First(begun, m.Name, lab.VIP, "down"); down && took < hangsFor {
		return fmt.Errorf("the VIP has left %s after %v though Redis hung for %v only", m.Name, e.At.Sub(begun), took)
	}
	return nil
}
