package vip_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker/cached"
	"redis-is-master/checker/report"
	"redis-is-master/checker/vip"
	"redis-is-master/e2e/lab"
)

// disabled is the daemon's --disable-file.
const disabled = "/run/redis-is-master/disabled"

// A watchedNode is a host whose address another program holds.
type watchedNode struct {
	*lab.Host
	t                         *testing.T
	redis, daemon, keepalived *lab.Process
}

// watched starts a replica without a master, a daemon, and keepalived where there is a profile for it.
func (s *site) watched(h *lab.Host, profile string, args ...string) *watchedNode {
	s.t.Helper()
	n := &watchedNode{Host: h, t: s.t}
	lab.Check(s.t, os.Mkdir(h.Path(lab.DaemonDir), 0o755))
	lab.Check(s.t, h.Install(lab.Program("redis-is-master")))
	n.redis = h.Process("redis-server", "--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no", "--dir", "/run",
		"--save", "", "--replicaof", "10.0.0.99 6379")
	n.daemon = h.Process(append([]string{lab.Program("redis-is-masterd"), "--track-file", lab.TrackFile,
		"--promotion-file", lab.PromotionFile, "--hello", "off", "--timeout", "1500ms", "--max-age", "5s"}, args...)...)
	lab.Check(s.t, n.redis.Start())
	lab.Check(s.t, n.daemon.Start())
	n.reads("0\n")
	all := []*lab.Process{n.daemon, n.redis}
	if profile != "" {
		lab.Require(s.t, "keepalived")
		config, err := lab.Profile("../../keepalived/" + profile)
		lab.Check(s.t, err)
		lab.Check(s.t, os.WriteFile(h.Path("/run/keepalived.conf"), []byte(config), 0o600))
		n.keepalived = h.Process("chrt", "--rr", "10", "keepalived", "--dont-fork", "--log-console", "--log-detail",
			"--no-syslog", "--vrrp", "--use-file", "/run/keepalived.conf", "--config-id", h.Name)
		lab.Check(s.t, n.keepalived.Start())
		all = append(all, n.keepalived)
	}
	s.t.Cleanup(func() {
		for _, p := range all {
			if s.t.Failed() {
				s.t.Logf("%s:\n%s", p.Name, p.Tail(40))
			}
			p.Stop()
		}
	})
	return n
}

// reads waits for the content of the track file.
func (n *watchedNode) reads(content string) {
	n.t.Helper()
	lab.Check(n.t, lab.Wait(n.Name+": the track file holds "+content, func() (bool, error) {
		b, _ := os.ReadFile(n.Path(lab.TrackFile))
		return string(b) == content, nil
	}))
}

// ask sends a command to the node's Redis.
func (n *watchedNode) ask(command ...string) {
	n.t.Helper()
	lab.Check(n.t, lab.Wait(n.Name+" answers", func() (bool, error) {
		c, err := dialRedis(n.Host, "127.0.0.1")
		if err != nil {
			return false, nil
		}
		defer c.Close()
		_, err = c.Do(time.Second, command)
		return err == nil, nil
	}))
}

// disable takes the node out: Redis goes on as it is.
func (n *watchedNode) disable() {
	n.t.Helper()
	lab.Check(n.t, os.WriteFile(n.Path(disabled), nil, 0o644))
	n.reads("0\n")
}

func (n *watchedNode) promote() { n.t.Helper(); n.ask("REPLICAOF", "NO", "ONE"); n.reads("1\n") }

// document is what the daemon says.
func (n *watchedNode) document() report.Document {
	n.t.Helper()
	var doc report.Document
	n.wait("there is a document", func(d report.Document) bool { doc = d; return true })
	return doc
}

// wait waits for a document of the daemon.
func (n *watchedNode) wait(what string, wanted func(report.Document) bool) {
	n.t.Helper()
	lab.Check(n.t, lab.Wait(n.Name+": "+what, func() (bool, error) {
		doc, err := cached.Ask(n.Path(lab.DaemonSocket), 5*time.Second, "")
		return err == nil && wanted(doc), nil
	}))
}

// bare fails the test unless the host has nothing of an address left.
func (n *watchedNode) bare(a netip.Addr) {
	n.t.Helper()
	lab.Check(n.t, lab.Wait(n.Name+" has nothing of "+a.String(), func() (bool, error) {
		for _, argv := range [][]string{{"ip", "-o", "addr"}, {"ip", "route", "show", "table", "all"}} {
			if out, err := n.Output(argv...); err != nil || strings.Contains(out, a.String()) {
				return false, err
			}
		}
		return true, nil
	}))
}

func dialRedis(from *lab.Host, to string) (*lab.Conn, error) {
	c, err := from.Dial("tcp", net.JoinHostPort(to, "6379"), time.Second)
	if err != nil {
		return nil, err
	}
	return lab.NewConn(c, "", time.Second)
}

// blocked waits in BLPOP on an address, and returns how that ends.
func blocked(t *testing.T, from *lab.Host, to netip.Addr) <-chan error {
	t.Helper()
	c, err := dialRedis(from, to.String())
	lab.Check(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = c.Do(time.Second, []string{"SET", "here", "yes"})
	lab.Check(t, err)
	lab.Check(t, c.SetDeadline(time.Time{}))
	_, err = c.Write([]byte("*3\r\n$5\r\nBLPOP\r\n$4\r\nnone\r\n$1\r\n0\r\n"))
	lab.Check(t, err)
	return idle(c)
}

// TestHangup: keepalived moves the address, and a client that waits in BLPOP on the old node is told at once; where it
// connects again is the new node. Without --kill-connections it goes on waiting.
func TestHangup(t *testing.T) {
	for _, tt := range []struct {
		name, profile string
		address       netip.Addr
	}{
		{"IPv4", "track-file.conf", vip4.Addr()},
		{"IPv6", "track-file-ipv6.conf", vip6.Addr()},
	} {
		for name, flags := range map[string][]string{
			"with":    {"--kill-connections", tt.address.String()},
			"without": nil,
		} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				s := newSite(t, "node1", "node2", "client")
				one, two := s.watched(s.Hosts[0], tt.profile, flags...), s.watched(s.Hosts[1], tt.profile, flags...)
				client, prefix := s.Hosts[2], netip.PrefixFrom(tt.address, tt.address.BitLen())
				one.promote()
				s.next(one.Host, prefix, time.Time{}, true)
				var waiting []<-chan error
				for range 50 {
					waiting = append(waiting, blocked(t, client, tt.address))
				}
				one.ask("SET", "node", "one")
				begun := time.Now()
				one.disable()
				info, err := os.Stat(one.Path(lab.TrackFile))
				lab.Check(t, err)
				gone := s.next(one.Host, prefix, begun, false)
				t.Logf("the address has left %v after the 0 was written", gone.Sub(info.ModTime()))
				if flags == nil {
					out, err := one.Output("ss", "-Hnt", "state", "established", "src",
						netip.AddrPortFrom(tt.address, 6379).String())
					if n := strings.Count(out, "\n"); err != nil || n != len(waiting) {
						t.Errorf("%d connections are established (%v)", n, err)
					}
				}
				for _, ended := range waiting {
					if flags == nil {
						select {
						case err := <-ended:
							t.Fatalf("a client learns it without --kill-connections: %v", err)
						default:
						}
					} else if err := endOf(t, ended); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("a client: %v", err)
					}
				}
				if flags == nil {
					return
				}
				t.Logf("and all clients know it %v after that", time.Since(gone))
				one.bare(tt.address)
				two.promote()
				two.ask("SET", "node", "two")
				s.next(two.Host, prefix, time.Time{}, true)
				lab.Check(t, lab.Wait("a client is served", func() (bool, error) {
					c, err := dialRedis(client, tt.address.String())
					if err != nil {
						return false, nil
					}
					defer c.Close()
					if got, err := c.Do(time.Second, []string{"GET", "node"}); err != nil || !slices.Equal(got, []string{"two"}) {
						t.Errorf("it is served %q (%v)", got, err)
					}
					return true, nil
				}))
			})
		}
	}
}

// TestHangupWaits: while the answer is yes, and while the address is here, no connection ends.
func TestHangupWaits(t *testing.T) {
	s := newSite(t, "node", "client")
	n := s.watched(s.Hosts[0], "", "--kill-connections", vip4.String(), "--kill-connections", vip6.Addr().String())
	add := func(action string) {
		t.Helper()
		lab.Check(t, n.Run("ip", "addr", action, vip4.String(), "dev", "eth0"))
	}
	n.promote()
	add("add")
	// survives fails the test if a connection ends although the answer is yes all the time. On a busy machine it may not
	// be: then f is tried again.
	survives := func(why string, f func()) {
		t.Helper()
		for range 5 {
			n.reads("1\n")
			before := n.document()
			c, err := dialRedis(s.Hosts[1], vip4.Addr().String())
			lab.Check(t, err)
			f()
			_, err = c.Do(lab.Patience, []string{"PING"})
			c.Close()
			if err == nil {
				return
			}
			if after := n.document(); after.Daemon.Since.Equal(before.Daemon.Since) {
				t.Fatalf("%s: %v", why, err)
			}
		}
		t.Fatalf("%s: the answer is not yes for long", why)
	}
	survives("the address was away", func() {
		add("del")
		from := time.Now()
		n.wait("a check has ended since", func(doc report.Document) bool {
			return time.Duration(doc.Daemon.AgeSeconds*float64(time.Second)) < time.Since(from)
		})
		add("add")
	})
	survives("a reload", func() {
		n.daemon.Signal(syscall.SIGHUP)
		lab.Check(t, lab.Wait("it has reloaded", func() (bool, error) {
			return strings.Contains(n.daemon.Tail(20), "msg=reloaded"), nil
		}))
	})
	c, err := dialRedis(s.Hosts[1], vip4.Addr().String())
	lab.Check(t, err)
	defer c.Close()
	ended := blocked(t, s.Hosts[1], vip4.Addr())
	n.disable()
	if _, err := c.Do(lab.Patience, []string{"PING"}); err != nil {
		t.Errorf("the address is still here: %v", err)
	}
	add("del")
	if err := endOf(t, ended); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client: %v", err)
	}
	n.bare(vip4.Addr())

	// What a daemon could not do that was killed, the next one does.
	add("add")
	lab.Check(t, os.Remove(n.Path(disabled)))
	n.reads("1\n")
	ended = blocked(t, s.Hosts[1], vip4.Addr())
	n.daemon.Kill()
	lab.Check(t, os.WriteFile(n.Path(disabled), nil, 0o644))
	add("del")
	lab.Check(t, n.daemon.Start())
	if err := endOf(t, ended); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client of a dead daemon: %v", err)
	}
	if troubles := n.document().Troubles(); len(troubles) > 0 {
		t.Errorf("%q", troubles)
	}
}

// TestHangupAtTheEnd: the end of the daemon is a no, and it waits for the address to leave.
func TestHangupAtTheEnd(t *testing.T) {
	s := newSite(t, "node1", "client")
	n := s.watched(s.Hosts[0], "track-file.conf", "--kill-connections", vip4.String())
	n.promote()
	s.next(n.Host, vip4, time.Time{}, true)
	ended := blocked(t, s.Hosts[1], vip4.Addr())
	n.daemon.Signal(syscall.SIGTERM)
	if err := endOf(t, ended); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client: %v", err)
	}
	n.bare(vip4.Addr())
}

// TestCannotKill: a daemon without the right says so and does everything else.
func TestCannotKill(t *testing.T) {
	lab.Require(t, "setpriv")
	s := newSite(t, "node")
	n := s.watched(s.Hosts[0], "")
	n.daemon.Kill()
	bare := n.Process(append([]string{"setpriv", "--bounding-set=-net_admin"}, append(n.daemon.Argv,
		"--kill-connections", vip4.String())...)...)
	lab.Check(t, bare.Start())
	defer bare.Kill()
	n.promote()
	troubles := n.document().Troubles()
	if len(troubles) != 1 || !strings.Contains(troubles[0], "needs CAP_NET_ADMIN") {
		t.Errorf("%q", troubles)
	}
	if log := bare.Tail(20); strings.Count(log, "needs CAP_NET_ADMIN") != 1 {
		t.Errorf("it logs %s", log)
	}
}

// TestLend: a host can send from an address that was lent to it, and nobody finds it there.
func TestLend(t *testing.T) {
	s := newSite(t, "one", "two", "three")
	one, two := s.Hosts[0], s.Hosts[1]
	n := &watchedNode{Host: one, t: t}
	var giveBack func()
	lend := func() {
		t.Helper()
		lab.Check(t, one.Do(func() (err error) { giveBack, err = vip.Lend(vip4.Addr()); return err }))
		if out, err := one.Output("ip", "-o", "addr", "show", "dev", "lo"); err != nil ||
			!strings.Contains(out, vip4.Addr().String()) {
			t.Errorf("it has not: %v %s", err, out)
		}
	}
	lend()
	if out, err := one.Output("ip", "route", "show", "table", "all"); err != nil ||
		strings.Contains(out, vip4.Addr().String()) {
		t.Errorf("there is a route: %v %s", err, out)
	}
	if c, err := two.Dial("tcp", vip4.Addr().String()+":6379", 500*time.Millisecond); err == nil ||
		errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the host answers: %v %v", c, err)
	}
	out, err := two.Output("ip", "neigh", "show", vip4.Addr().String())
	if err != nil || strings.Contains(out, "lladdr") {
		t.Errorf("ARP was answered: %v %s", err, out)
	}
	lab.Check(t, one.Do(func() error { giveBack(); return nil }))
	n.bare(vip4.Addr())
	lend() // the process is killed here
	n.bare(vip4.Addr())
}
