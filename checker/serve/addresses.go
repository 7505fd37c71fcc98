package serve

import (
	"net"
	"net/netip"
	"slices"

	"redis-is-master/checker/report"
)

// maxAddresses is how many may be asked about at once.
const maxAddresses = 16

// look adds to what is known whether this host has the addresses now. What is no
// address is left out.
func look(known []report.HostAddress, asked []string) []report.HostAddress {
	all := slices.Clone(known)
	here, err := net.InterfaceAddrs()
	for _, text := range asked[:min(len(asked), maxAddresses)] {
		a, perr := netip.ParseAddr(text)
		if perr != nil || a.Zone() != "" {
			continue
		}
		one := report.HostAddress{Address: a.Unmap().String()}
		if err == nil {
			one.Present = new(slices.ContainsFunc(here, func(have net.Addr) bool {
				n, ok := have.(*net.IPNet)
				return ok && n.IP.Equal(a.AsSlice())
			}))
		}
		same := func(b report.HostAddress) bool { return b.Address == one.Address }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i] = one
		} else {
			all = append(all, one)
		}
	}
	return all
}
