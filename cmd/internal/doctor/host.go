package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"redis-is-master/keepalived/lint"
)

var hostChecks = []Check{
	{
		ID: "host-clock", Group: GroupHost,
		About: "The clock is synchronised. A Sentinel whose clock jumps goes into TILT, and logs of several nodes can be " +
			"compared only with the same time.",
		judge: func(f Facts) []Result {
			switch {
			case f.Host.ClockErr != "":
				return warn("see timedatectl", "it could not be told: %s", f.Host.ClockErr)
			case f.Host.Clock != "":
				return by("timedatectl set-ntp true", warn("where that is not enough: apt install systemd-timesyncd, or chrony",
					"%s", f.Host.Clock))
			}
			return tick("synchronised")
		},
	},
	{
		ID: "host-networkd", Group: GroupHost,
		About: "Where systemd-networkd manages the interface of the VIP, its KeepConfiguration is static: else it removes " +
			"the VIP when it is restarted, as by an upgrade.",
		judge: func(f Facts) []Result {
			if f.Keepalived.File == "" || f.Keepalived.FileErr != "" {
				return off
			}
			return found(f, lint.TopicNetworkd, "systemd-networkd removes no VIP")
		},
	},
	{
		ID: "host-bind", Group: GroupHost,
		About: "Where Redis or HAProxy binds the VIP by name, net.ipv4.ip_nonlocal_bind is 1: else it does not start on a " +
			"node that does not hold the VIP.",
		judge: func(f Facts) []Result {
			for _, b := range f.Host.Bound {
				key, set := "net.ipv4.ip_nonlocal_bind", f.Host.Nonlocal4
				if strings.Count(b, ":") > 1 {
					key, set = "net.ipv6.ip_nonlocal_bind", f.Host.Nonlocal6
				}
				if !set {
					return by("echo "+key+"=1 >/etc/sysctl.d/60-vip.conf && sysctl -p /etc/sysctl.d/60-vip.conf",
						fail("or bind all addresses", "%s, and %s is 0: it does not start where the VIP is not", b, key))
				}
			}
			if len(f.vips()) == 0 {
				return off
			}
			if len(f.Host.Bound) > 0 {
				return tick("%s, and ip_nonlocal_bind is 1", strings.Join(f.Host.Bound, ", "))
			}
			return tick("nothing binds the VIP by name")
		},
	},
	{
		ID: "host-listen", Group: GroupHost,
		About: "Something listens on the VIP at the port of Redis, on all addresses or on that one: else clients are " +
			"refused when this node is the master.",
		judge: func(f Facts) []Result {
			port := f.Redis.Observation.TCPPort
			if f.Redis.Err != nil || port == 0 {
				return off
			}
			if f.Host.ListenErr != "" {
				return warn("run it as root", "the ports that listen could not be learnt: %s", f.Host.ListenErr)
			}
			var all []string
			for _, v := range f.vips() {
				want := netip.AddrPortFrom(v, uint16(port))
				if !slices.ContainsFunc(f.Host.Listening, func(a netip.AddrPort) bool { return covers(a, want) }) {
					bad := fail("never without a password", "nothing listens on %v: clients are refused when this node is the master",
						want)
					if f.Redis.Password == "" {
						return bad
					}
					return by(f.Redis.cli("CONFIG SET bind '* -::*'", "CONFIG REWRITE"), bad)
				}
				all = append(all, want.String())
			}
			if len(all) == 0 {
				return off
			}
			return tick("%s", strings.Join(all, ", "))
		},
	},
	{
		ID: "host-proxy-arp", Group: GroupHost,
		About: "proxy_arp is off on the interface of the VIP. With it this host may answer for addresses that it does not " +
			"have, also for the VIP.",
		judge: func(f Facts) []Result {
			if len(f.Host.ProxyARP) > 0 {
				key := f.Host.ProxyARP[0]
				return by("sysctl -w "+key+"=0", fail("and look for it in /etc/sysctl.d",
					"%s is 1: this host may answer for the VIP that another has", key))
			}
			if len(f.vips()) == 0 {
				return off
			}
			return tick("off on %s", strings.Join(f.Host.Interfaces, ", "))
		},
	},
}

// vips are the addresses that this host may come to hold.
func (f Facts) vips() (all []netip.Addr) {
	for _, v := range f.Keepalived.VIPs {
		all = append(all, v.Prefix.Addr())
	}
	return all
}

// covers reports whether who listens at one address is reached at another.
func covers(listening, wanted netip.AddrPort) bool {
	a := listening.Addr().Unmap()
	return listening.Port() == wanted.Port() &&
		(a == wanted.Addr() || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && wanted.Addr().Is4())
}
