package lab

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestNetwork: two hosts hear each other but for the fault, and addresses
// that come and go are seen.
func TestNetwork(t *testing.T) {
	t.Parallel()
	RequireNetwork(t)
	n, err := NewNetwork()
	Check(t, err)
	t.Cleanup(n.Close)
	one, err := n.Add("one")
	Check(t, err)
	two, err := n.Add("two")
	Check(t, err)

	var l net.Listener
	Check(t, two.Do(func() (err error) { l, err = net.Listen("tcp", ":7"); return err }))
	defer l.Close()
	reach := func() bool {
		for _, addr := range []netip.Addr{two.Addr, two.IPv6} {
			c, err := one.Dial("tcp", netip.AddrPortFrom(addr, 7).String(), 300*time.Millisecond)
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	}
	Check(t, Wait("one reaches two", func() (bool, error) { return reach(), nil }))
	for name, fault := range map[string]func() error{
		"cut": two.Cut, "isolate": two.Isolate, "deafen": two.Deafen, "mute": two.Mute,
	} {
		Check(t, fault())
		if reach() {
			t.Errorf("%s: still reached", name)
		}
		Check(t, two.Heal())
		Check(t, Wait("one reaches two after "+name, func() (bool, error) { return reach(), nil }))
	}

	const late = 40 * time.Millisecond
	Check(t, two.Delay(late))
	Check(t, Wait("one reaches two late", func() (bool, error) {
		begun := time.Now()
		return reach() && time.Since(begun) > 4*late, nil
	}))
	Check(t, two.Heal())
	Check(t, Wait("one reaches two soon", func() (bool, error) {
		begun := time.Now()
		return reach() && time.Since(begun) < late, nil
	}))

	type event struct {
		h  *Host
		a  netip.Addr
		up bool
	}
	events := make(chan event, 16)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	Check(
		t,
		n.watchAddresses(ctx, false, func(_ time.Time, h *Host, a netip.Addr, up bool) { events <- event{h, a, up} }),
	)
	expect := func(want event) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Errorf("seen %v, want %v", got, want)
			}
		case <-time.After(Patience):
			t.Fatal("not seen")
		}
	}
	for _, a := range []string{"10.0.0.100", "2001:db8::100"} {
		Check(t, two.Run("ip", "addr", "add", a, "dev", "eth0", "nodad"))
		expect(event{two, netip.MustParseAddr(a), true})
		Check(t, one.Run("ip", "addr", "add", a, "dev", "eth0", "nodad"))
		expect(event{one, netip.MustParseAddr(a), true})
		Check(t, two.Run("ip", "addr", "del", a, "dev", "eth0"))
		expect(event{two, netip.MustParseAddr(a), false})
	}
}
