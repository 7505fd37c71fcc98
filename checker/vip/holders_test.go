package vip_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"redis-is-master/checker/vip"
	"redis-is-master/e2e/lab"
)

// TestHolders: it finds each host that has an address, and not the one that asks.
func TestHolders(t *testing.T) {
	t.Parallel()
	lab.RequireNetwork(t)
	n, err := lab.NewNetwork()
	lab.Check(t, err)
	t.Cleanup(n.Close)
	var hosts []*lab.Host
	for _, name := range []string{"a", "b", "c"} {
		h, err := n.Add(name)
		lab.Check(t, err)
		hosts = append(hosts, h)
	}
	holders := func(p netip.Prefix) (all []net.HardwareAddr) {
		lab.Check(t, hosts[0].Do(func() error {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			all, err = vip.Holders(ctx, link, p.Addr())
			return err
		}))
		return all
	}
	for _, p := range []netip.Prefix{vip4, vip6} {
		for i, h := range hosts {
			if got := holders(p); len(got) != max(0, i-1) {
				t.Errorf("%d other hosts have %v: %v", max(0, i-1), p, got)
			}
			lab.Check(t, h.Run("ip", "addr", "add", p.String(), "dev", "eth0"))
		}
		if got := holders(p); len(got) != 2 {
			t.Errorf("two other hosts have %v: %v", p, got)
		}
	}
}
