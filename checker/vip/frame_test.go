package vip

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

var (
	mac    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	other  = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	addrs  = []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("2001:db8::100")}
	frames = []struct {
		name string
		got  []byte
		want string
	}{
		{"ARP probe", probe(mac, addrs[0]),
			"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a000064"},
		{"ARP announcement", announcement(mac, addrs[0]),
			"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000064 000000000000 0a000064"},
		{"neighbor solicitation", probe(mac, addrs[1]),
			"3333ff000100 020000000001 86dd 60000000 0018 3a ff 00000000000000000000000000000000" +
				"ff0200000000000000000001ff000100 87 00 4aef 00000000 20010db8000000000000000000000100"},
		{"neighbor advertisement", announcement(mac, addrs[1]),
			"333300000001 020000000001 86dd 60000000 0020 3a ff 20010db8000000000000000000000100" +
				"ff020000000000000000000000000001 88 00 f72c 20000000" +
				"20010db8000000000000000000000100 0201 020000000001"},
	}
)

// TestFrames: the bytes; that a kernel understands them is tested with real
// ones.
func TestFrames(t *testing.T) {
	for _, f := range frames {
		want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(f.want), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.got, want) {
			t.Errorf("%s:\n%x, want\n%x", f.name, f.got, want)
		}
	}
}

func TestClaim(t *testing.T) {
	for i, addr := range addrs {
		if by := claim(announcement(other, addr), addr); !bytes.Equal(by, other) {
			t.Errorf("an announcement of %v is a claim of %v", addr, by)
		}
		if by := claim(probe(other, addr), addr); by != nil {
			t.Errorf("a probe for %v is a claim of %v", addr, by)
		}
		if by := claim(announcement(other, addr.Next()), addr); by != nil {
			t.Errorf("an announcement of another address is a claim of %v", by)
		}
		if by := claim(announcement(other, addrs[1-i]), addr); by != nil {
			t.Errorf("an announcement of another family is a claim of %v", by)
		}
		whole := announcement(other, addr)
		for n := range len(whole) {
			if by := claim(whole[:n], addr); by != nil && n < icmpTarget+16 && n < arpLength {
				t.Errorf("%d bytes of a claim are a claim", n)
			}
		}
	}
}

// FuzzClaim: no frame makes it panic, and none that is no claim makes one.
func FuzzClaim(f *testing.F) {
	for _, frame := range frames {
		f.Add(frame.got)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, addr := range addrs {
			if by := claim(frame, addr); by != nil && !bytes.Contains(frame, addr.AsSlice()) {
				t.Errorf("%x claims %v", frame, addr)
			}
		}
	})
}
