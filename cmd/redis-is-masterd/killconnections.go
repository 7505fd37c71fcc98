package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/spf13/pflag"

	"redis-is-master/checker/vip"
	"redis-is-master/cmd/internal/flags"
)

// killOptions are the flags about the connections to addresses that keepalived holds.
type killOptions struct {
	list []string

	addresses []netip.Addr
}

func (o *killOptions) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.list, "kill-connections", nil,
		"`address` that keepalived holds: when it has left this host without a yes, end the TCP connections to it; "+
			"repeat it for each")
}

func (o *killOptions) check(node string, own []netip.Prefix) (err error) {
	o.addresses, err = heldByKeepalived("kill-connections", o.list, node, own)
	return err
}

// heldByKeepalived parses the addresses of a flag, and rejects what keepalived cannot hold.
func heldByKeepalived(flag string, list []string, node string, own []netip.Prefix) (all []netip.Addr, err error) {
	host, _, _ := net.SplitHostPort(node)
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if p, perr := netip.ParsePrefix(text); perr == nil {
			a, err = p.Addr(), nil
		}
		switch {
		case err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
			return nil, flags.Errorf("--%s is not an address such as 10.0.0.100 or 2001:db8::100", flag)
		case slices.Contains(all, a):
			return nil, flags.Errorf("--%s is given twice with the same address", flag)
		case slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a }):
			return nil, flags.Errorf("--%s and --vip contradict each other: either keepalived holds the "+
				"address, or the daemon", flag)
		case a.String() == host:
			return nil, flags.Errorf("--%s is the address of the Redis node, which this host always has", flag)
		}
		all = append(all, a)
	}
	return all, nil
}

// hangup is the output that ends the connections. Where it cannot, it returns why: that is no reason to give no answer.
func (d *daemon) hangup() (o output, trouble string) {
	if err := vip.CanKill(); err != nil {
		trouble = fmt.Sprintf("--kill-connections: clients of an address that leaves this host may wait for long: %v", err)
		d.logger.Warn(trouble)
		return output{Run: idle}, trouble
	}
	return output{Run: (&vip.Hangup{Addresses: d.kill.addresses, Logger: d.logger}).Run}, ""
}
