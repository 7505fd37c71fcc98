package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Has reports whether an address is on the host's link.
func (h *Host) Has(a netip.Addr) (bool, error) {
	out, err := h.Output("ip", "-o", "addr", "show", "dev", "eth0")
	return strings.Contains(out, " "+a.String()+"/"), err
}

// Watch calls seen with every address that comes to a host or goes, until ctx
// is done.
func (n *Network) Watch(ctx context.Context, seen func(at time.Time, h *Host, a netip.Addr, up bool)) error {
	// An address that is renewed has not come.
	has := make(map[string]bool)
	return n.watchAddresses(ctx, func(at time.Time, h *Host, a netip.Addr, up bool) {
		if key := fmt.Sprint(h.Name, a); has[key] != up {
			has[key] = up
			seen(at, h, a, up)
		}
	})
}
