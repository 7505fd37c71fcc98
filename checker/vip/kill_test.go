package vip_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker/vip"
	"redis-is-master/e2e/lab"
)

// idle waits on a connection for as long as the other end is silent, and returns how the connection ended.
func idle(c net.Conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	return ended
}

// endOf waits for the end of a connection.
func endOf(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("the connection has not ended")
		return nil
	}
}

// TestKillConnections: both ends of each connection of an address learn that it is over, and nobody else does.
func TestKillConnections(t *testing.T) {
	s := newSite(t, "server", "client")
	server, client := s.Hosts[0], s.Hosts[1]
	for _, p := range []netip.Prefix{vip4, vip6} {
		lab.Check(t, server.Run("ip", "addr", "add", p.String(), "dev", "eth0", "nodad"))
	}
	for i, tt := range []struct {
		name        string
		listen      string
		addr, other netip.Addr
	}{
		{"IPv4", "0.0.0.0", vip4.Addr(), server.Addr},
		{"IPv6", "[::]", vip6.Addr(), server.IPv6},
		{"IPv4 of a socket for both", "", vip4.Addr(), server.Addr},
		{"only of the address", "[" + vip6.Addr().String() + "]", vip6.Addr(), netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := fmt.Sprint(7000 + i)
			var l net.Listener
			lab.Check(t, server.Do(func() (err error) { l, err = net.Listen("tcp", tt.listen+":"+port); return err }))
			t.Cleanup(func() { l.Close() })
			connect := func(addr netip.Addr) (local, remote net.Conn) {
				t.Helper()
				remote, err := client.Dial("tcp", net.JoinHostPort(addr.String(), port), lab.Patience)
				lab.Check(t, err)
				local, err = l.Accept()
				lab.Check(t, err)
				t.Cleanup(func() { local.Close(); remote.Close() })
				return local, remote
			}
			const many = 250 // more than one message to the kernel holds
			var locals, remotes []<-chan error
			for range many {
				local, remote := connect(tt.addr)
				locals, remotes = append(locals, idle(local)), append(remotes, idle(remote))
			}
			kill := func(want int) {
				t.Helper()
				begun := time.Now()
				lab.Check(t, server.Do(func() error {
					killed, err := vip.KillConnections(tt.addr)
					if err == nil && killed != want {
						t.Errorf("killed %d, want %d", killed, want)
					}
					return err
				}))
				t.Logf("%d connections ended within %v", want, time.Since(begun))
			}
			var keptLocal, keptRemote net.Conn
			if tt.other.IsValid() {
				keptLocal, keptRemote = connect(tt.other)
			}
			kill(many)
			for i := range many {
				if err := endOf(t, locals[i]); !errors.Is(err, syscall.ECONNABORTED) {
					t.Errorf("the server's end: %v", err)
				}
				if err := endOf(t, remotes[i]); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client's end: %v", err)
				}
			}
			if tt.other.IsValid() {
				_, err := keptLocal.Write([]byte{1})
				lab.Check(t, err)
				if _, err = keptRemote.Read(make([]byte, 1)); err != nil {
					t.Errorf("a connection of another address: %v", err)
				}
			}
			connect(tt.addr) // the server still listens
			kill(1)
			kill(0)
		})
	}
}

// TestDropEndsConnections: a client that waits for an answer learns at once that the address has left this host,
// whoever removes it.
func TestDropEndsConnections(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*node)
	}{
		{"the answer is no", func(n *node) { n.demote() }},
		{"Redis hangs", func(n *node) { n.redis.Signal(syscall.SIGSTOP) }},
		{"kill -9 of the daemon", func(n *node) { n.daemon.Signal(syscall.SIGKILL) }},
		{"SIGSTOP of the daemon", func(n *node) { n.daemon.Signal(syscall.SIGSTOP) }},
		{"SIGTERM of the daemon", func(n *node) { n.daemon.Signal(syscall.SIGTERM) }},
		{"both are killed, ExecStopPost", func(n *node) {
			n.vanish()
			lab.Check(n.s.t, n.Run(n.removal()...))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "one", "two")
			n := s.start(s.Hosts[0], "--vip", vip4.String(), "--vip", vip6.String())
			n.promote()
			var ended []<-chan error
			for _, p := range []netip.Prefix{vip4, vip6} {
				s.next(n.Host, p, time.Time{}, true)
				for range 20 {
					c, err := s.Hosts[1].Dial("tcp", net.JoinHostPort(p.Addr().String(), "6379"), time.Second)
					lab.Check(t, err)
					t.Cleanup(func() { c.Close() })
					ended = append(ended, idle(c))
				}
			}
			from := time.Now()
			tt.end(n)
			var gone time.Time
			for _, p := range []netip.Prefix{vip4, vip6} {
				if at := s.next(n.Host, p, from, false); at.After(gone) {
					gone = at
				}
			}
			for _, e := range ended {
				if err := endOf(t, e); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("a client: %v", err)
				}
			}
			if after := time.Since(gone); after > 500*time.Millisecond {
				t.Errorf("the clients learn it %v after the addresses are gone", after)
			}
			t.Logf("%v after the cause", time.Since(from))
		})
	}
}

// TestDeafAddress: a host whose local route of an address is gone neither receives what is sent to the address nor
// answers ARP for it: so a VIP drops an IPv4 address. The daemon restores the route of an address that it holds.
func TestDeafAddress(t *testing.T) {
	s := newSite(t, "one", "two", "three")
	reach := func(timeout time.Duration) error {
		c, err := s.Hosts[1].Dial("tcp", vip4.Addr().String()+":6379", timeout)
		if err == nil {
			c.Close()
		}
		return err
	}
	deafen := []string{"ip", "route", "del", "table", "local", "local", vip4.Addr().String(), "dev", "eth0"}
	three := s.Hosts[2]
	lab.Check(t, three.Run("ip", "addr", "add", vip4.String(), "dev", "eth0"))
	lab.Check(t, three.Run(deafen...))
	if err := reach(time.Second); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a deaf address: %v", err)
	}
	out, err := s.Hosts[1].Output("ip", "neigh", "show", vip4.Addr().String())
	if err != nil || strings.Contains(out, "lladdr") {
		t.Errorf("ARP for a deaf address was answered: %v %s", err, out)
	}
	lab.Check(t, three.Run("ip", "addr", "del", vip4.String(), "dev", "eth0"))

	n := s.start(s.Hosts[0], "--vip", vip4.String())
	s.next(n.Host, vip4, n.promote(), true)
	n.wait("the address is received", func() bool { return reach(200*time.Millisecond) == nil })
	lab.Check(t, n.Run(deafen...))
	n.wait("the address is received again", func() bool { return reach(200*time.Millisecond) == nil })
}
