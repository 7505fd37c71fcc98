package wire

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestOneHost: a name that may be several nodes must not lead to the next one
// when the first is down.
func TestOneHost(t *testing.T) {
	for names, want := range map[string]bool{
		"10.0.0.1":                   true,
		"10.0.0.1 fd00::1":           true,
		"127.0.0.1 ::1":              true,
		"127.0.0.1 127.0.1.1":        true,
		"::ffff:127.0.0.1 127.0.0.1": true,
		"10.0.0.1 10.0.0.2":          false,
		"fd00::1 fd00::2":            false,
		"127.0.0.1 10.0.0.1":         false,
		"10.0.0.1 ::ffff:10.0.0.2":   false,
		"":                           false,
	} {
		var addrs []netip.Addr
		for name := range strings.FieldsSeq(names) {
			addrs = append(addrs, netip.MustParseAddr(name))
		}
		if got := oneHost(addrs); got != want {
			t.Errorf("%s: %t", names, got)
		}
	}
}

// TestOneLoopback: localhost is where Redis listens by default, and not where
// anybody else may.
func TestOneLoopback(t *testing.T) {
	for names, want := range map[string]string{
		"::1 127.0.0.1":           "[127.0.0.1]",
		"127.0.0.1 ::1":           "[127.0.0.1]",
		"::1":                     "[::1]",
		"::1 ::ffff:127.0.0.1":    "[::ffff:127.0.0.1]",
		"127.0.1.1 127.0.0.1 ::1": "[127.0.1.1]",
		"fd00::1 10.0.0.1":        "[fd00::1 10.0.0.1]",
		"10.0.0.1":                "[10.0.0.1]",
	} {
		var addrs []netip.Addr
		for name := range strings.FieldsSeq(names) {
			addrs = append(addrs, netip.MustParseAddr(name))
		}
		if got := fmt.Sprint(oneLoopback(addrs)); got != want {
			t.Errorf("%s: %s, want %s", names, got, want)
		}
	}
}
