package lab

import (
	"context"
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
	return n.watchAddresses(ctx, false, seen)
}
