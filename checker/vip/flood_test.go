package vip_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/e2e/lab"
)

// TestFlood: at 100,000 claims a second of another host, or of one that pretends to be this host, an address stays
// where the answer is yes, and is removed as soon as it is no.
func TestFlood(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      netip.Prefix
		forged bool // the sender's address is that of the holder
	}{
		{"ARP", vip4, false},
		{"ARP, forged", vip4, true},
		{"NDP", vip6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "one", "two")
			n := s.start(s.Hosts[0], "--vip", tt.p.String())
			s.next(n.Host, tt.p, n.promote(), true)
			n.wait("it is held", func() bool { return n.vip().Held })
			holder := n.mac()
			from := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
			if tt.forged {
				from = holder
			}
			const rate = 100_000
			most, stop := s.flood(s.Hosts[1], claimOf(tt.p.Addr(), from, holder), rate)
			const lasts = 5 * time.Second // longer than an address lives that is not renewed
			n.keeps(tt.p, func(begun time.Time) {
				if !tt.forged {
					n.wait("it is told that another host claims it", func() bool { return n.vip().Conflict })
				}
				n.wait("the flood has lasted", func() bool { return time.Since(begun) > lasts })
				n.wait("it has had its rate for a second", func() bool { return most.Load() >= rate })
			})
			end := n.demote()
			after := s.next(n.Host, tt.p, end, false).Sub(end)
			t.Logf("%.0f frames a second, in one second %d; removed %v after the end of the answer", stop(), most.Load(),
				after)
			if after > 500*time.Millisecond {
				t.Errorf("it was removed %v after the end of the answer", after)
			}
		})
	}
}

// mac is the hardware address of the node.
func (n *node) mac() (mac net.HardwareAddr) {
	n.s.t.Helper()
	lab.Check(n.s.t, n.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	}))
	return mac
}

// claimOf is a frame to a host that says that from has an address.
func claimOf(addr netip.Addr, from, to net.HardwareAddr) []byte {
	if addr.Is4() {
		b := append(append(append([]byte{}, to...), from...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2)
		b = append(append(b, from...), addr.AsSlice()...)
		return append(append(b, to...), 10, 0, 0, 1)
	}
	all := netip.IPv6LinkLocalAllNodes().AsSlice()
	b := append(append(append([]byte{}, to...), from...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255)
	b = append(append(b, addr.AsSlice()...), all...)
	return append(append(b, 136, 0, 0, 0, 0x20, 0, 0, 0), addr.AsSlice()...)
}

// flood sends a frame at a rate from a host until stop is called, which returns how many it sent a second. Most is how
// many there were in one of the seconds: a busy host sends them later.
func (s *site) flood(from *lab.Host, frame []byte, rate int) (most *atomic.Int64, stop func() float64) {
	s.t.Helper()
	most = new(atomic.Int64)
	fd := -1
	lab.Check(s.t, from.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
	}))
	begun := time.Now()
	ending, ended := make(chan struct{}), make(chan float64, 1)
	go func() {
		defer unix.Close(fd)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		second, before := begun, 0
		for sent := 0; ; {
			if time.Since(second) >= time.Second {
				most.Store(max(most.Load(), int64(float64(sent-before)/time.Since(second).Seconds())))
				second, before = time.Now(), sent
			}
			select {
			case <-ending:
				ended <- float64(sent) / time.Since(begun).Seconds()
				return
			case <-tick.C:
			}
			due := int(time.Since(begun).Seconds() * float64(rate))
			for due = min(due, sent+rate/20); sent < due; sent++ { // not for long, so that the end is seen
				unix.Send(fd, frame, 0)
			}
		}
	}()
	stopped := false
	stop = func() (rate float64) {
		if !stopped {
			stopped = true
			close(ending)
			rate = <-ended
		}
		return rate
	}
	s.t.Cleanup(func() { stop() })
	return most, stop
}
