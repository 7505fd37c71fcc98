package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/keepalived/lint"
)

var keepalivedChecks = []Check{
	{
		ID: "keepalived-version", Group: GroupKeepalived,
		About: "keepalived is 2.0.18 or later, which knows weight 0 reverse, and better 2.1.5 or later, with which this " +
			"project is tested.",
		judge: func(f Facts) []Result {
			k := f.Keepalived
			switch {
			case k.Version == "" && len(f.Daemon.VIP) > 0:
				return off
			case k.Version == "" && k.File == "":
				return off
			case k.Version == "":
				return warn("see keepalived --version", "the version could not be learnt")
			case older(k.Version, "2.0.18"):
				return fail("upgrade to keepalived 2.1.5 or later",
					"keepalived %s does not know weight 0 reverse, without which a missing file is a yes", k.Version)
			case older(k.Version, "2.1.5"):
				return warn("upgrade to keepalived 2.1.5 or later", "keepalived %s is not tested", k.Version)
			}
			return tick("%s", k.Version)
		},
	},
	{
		ID: "keepalived-running", Group: GroupKeepalived,
		About: "keepalived runs in this network, and its configuration can be read. What is judged below is the file that " +
			"the running process was given.",
		judge: func(f Facts) []Result {
			k := f.Keepalived
			switch {
			case k.Version == "" && k.File == "":
				return off
			case k.Err != "":
				return warn("run it as root", "whether it runs could not be told: %s", k.Err)
			case k.File == "" && (len(f.Daemon.VIP) > 0 || f.Daemon.TrackFile == ""):
				return off
			case k.File == "" && f.Host.Profile != "":
				return by(`sed "s|eth0|`+theInterface+`|; s|10\.0\.0\.100|`+theVIP+`|" `+f.Host.Profile+
					" >"+defaultKeepalived+" && systemctl enable --now keepalived",
					fail("the same file on all nodes; no other VRRP of this network may have its virtual_router_id",
						"keepalived has no configuration"))
			case k.FileErr != "":
				return fail("see its mode and its path", "%s: %s", k.File, k.FileErr)
			case !k.Running:
				return by("systemctl enable --now keepalived", fail("if it does not help: journalctl -u keepalived -n 20",
					"keepalived does not run"))
			}
			return tick("with %s", k.File)
		},
	},
	{
		ID: "keepalived-lint", Group: GroupKeepalived,
		About: "Nothing in the configuration in use fails open, as redis-is-masterd lint says it: no node may hold the " +
			"VIP that is not master.",
		judge: configured(func(f Facts) []Result {
			return found(f, "", "nothing fails open in "+f.Keepalived.File)
		}),
	},
	{
		ID: "keepalived-security", Group: GroupKeepalived,
		About: "enable_script_security is set, and the user of the scripts exists. Without it keepalived runs as root a " +
			"script that others can write to.",
		judge: configured(func(f Facts) []Result {
			return found(f, lint.TopicSecurity, "enable_script_security, and the user exists")
		}),
	},
	{
		ID: "keepalived-script-user", Group: GroupKeepalived,
		About: "The user by whom keepalived runs redis-is-master --cached may open the socket of the daemon. keepalived " +
			"gives it one group only: its own, or the second word of script_user.",
		judge: configured(func(f Facts) []Result {
			var all []string
			for _, a := range f.Keepalived.Scripts {
				name := strings.TrimSpace(a.User + " " + a.Group)
				switch {
				case !a.Known:
					continue // keepalived-security tells
				case !a.May:
					return fail("write script_user redis-is-master into global_defs, and systemctl reload keepalived",
						"%s, who runs the script %s, may not open %s, which has mode %04o", name, a.Name, f.Daemon.Socket,
						f.Daemon.SocketMode.Perm())
				}
				all = append(all, name)
			}
			if len(all) == 0 {
				return off
			}
			return tick("%s may open %s", strings.Join(slices.Compact(all), ", "), f.Daemon.Socket)
		}),
	},
	{
		ID: "keepalived-vrrp", Group: GroupKeepalived,
		About: "One node sends the adverts of VRRP for each instance, and this host sees them. None means that nobody " +
			"holds the VIP, or that a firewall drops protocol 112; two means that each holds it. The firewall of this host " +
			"counts.",
		judge: configured(eachWire(func(f Facts, w Wire) []Result {
			senders := w.senders()
			at := fmt.Sprintf("virtual_router_id %d on %s", w.Instance.RouterID, w.Instance.Interface)
			switch {
			case w.Filtered:
				return fail("nft insert rule inet filter input ip protocol 112 accept, or as your firewall has it",
					"the adverts of %s come to this host, and its firewall drops them", at)
			case len(senders) == 0 && f.anyMaster():
				return fail("see journalctl -u keepalived on the master; let protocol 112 to 224.0.0.18, or to the unicast peers, "+
					"through the firewall: nft insert rule inet filter input ip protocol 112 accept",
					"no advert of %s within %v, although there is a master", at, w.For.Round(10*time.Millisecond))
			case len(senders) == 0:
				return warn("see the checks of Redis and the Sentinels", "no advert of %s: there is no master", at)
			case len(senders) > 1:
				return fail("let protocol 112 through between these hosts; for a moment after a failover this is no fault",
					"two nodes send adverts of %s: %s", at, addresses(senders))
			}
			return tick("%s sends those of %s", addresses(senders), at)
		})),
	},
	{
		ID: "keepalived-router-id", Group: GroupKeepalived,
		About: "No other VRRP of this network has the virtual_router_id: of two clusters with the same one, each takes " +
			"the adverts of the other for its own.",
		judge: configured(eachWire(func(f Facts, w Wire) []Result {
			for _, a := range w.Adverts {
				if a.RouterID != w.Instance.RouterID || a.Own || sameAddresses(a.Addresses, w.Instance.Addresses) {
					continue
				}
				return fail("choose a virtual_router_id from 1 to 255 that nobody has here: tcpdump -ni "+w.Instance.Interface+
					" vrrp", "%v sends adverts of virtual_router_id %d with other addresses: %s", a.From, a.RouterID,
					addresses(a.Addresses))
			}
			return tick("%d is used by this cluster alone", w.Instance.RouterID)
		})),
	},
	{
		ID: "keepalived-vip", Group: GroupKeepalived,
		About: "Exactly one host has the VIP, and it is this one if the daemon says yes. Others are asked by ARP, or by " +
			"Neighbor Discovery, which claims nothing.",
		judge: func(f Facts) (all []Result) {
			for _, v := range f.Keepalived.VIPs {
				all = append(all, judgeVIP(f, v)...)
			}
			return all
		},
	},
	{
		ID: "keepalived-prefix", Group: GroupKeepalived,
		About: "The VIP has the length of one address, /32 or /128. With that of the network it can become the source of " +
			"the connections of this node, also of those between Redis and the Sentinels.",
		judge: configured(func(f Facts) []Result {
			var all []string
			for _, i := range f.Keepalived.Summary.Instances {
				for _, p := range i.Addresses {
					if !p.IsSingleIP() {
						single := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
						return warn("write "+single.String()+", and systemctl reload keepalived",
							"%v can become the source of this node's own connections", p)
					}
					all = append(all, p.String())
				}
			}
			if len(all) == 0 {
				return off
			}
			return tick("%s", strings.Join(all, ", "))
		}),
	},
	{
		ID: "keepalived-garp", Group: GroupKeepalived,
		About: "garp_master_refresh is set: the VIP is announced again and again, for a switch or a host that has missed " +
			"the first time.",
		judge: configured(func(f Facts) []Result {
			return found(f, lint.TopicGARP, "the VIP is announced again and again")
		}),
	},
}

// configured judges only where the configuration of keepalived was read.
func configured(judge func(Facts) []Result) func(Facts) []Result {
	return func(f Facts) []Result {
		if f.Keepalived.File == "" || f.Keepalived.FileErr != "" {
			return off
		}
		return judge(f)
	}
}

// found are the findings of lint about a topic, or a tick.
func found(f Facts, topic lint.Topic, none string) (all []Result) {
	for _, one := range f.Keepalived.Findings {
		if one.Topic != topic {
			continue
		}
		// The texts of lint end with what to do.
		text, hint := one.Text, "see redis-is-masterd lint "+f.Keepalived.File
		if i := strings.LastIndex(text, ": "); i >= 0 {
			text, hint = text[:i], text[i+2:]
		}
		state := Failed
		if one.Hint {
			state = Warning
		}
		all = append(all, Result{State: state, Detail: fmt.Sprintf("%s:%d: %s", one.File, one.Line, text), Hint: hint})
	}
	if len(all) == 0 {
		return tick("%s", none)
	}
	return all
}

// eachWire judges what was seen of each instance.
func eachWire(judge func(Facts, Wire) []Result) func(Facts) []Result {
	return func(f Facts) (all []Result) {
		if !f.Keepalived.Running {
			return off
		}
		for _, w := range f.Keepalived.Wire {
			if w.Err != "" {
				all = append(all, warn("run it as root", "%s could not be listened to: %s", w.Instance.Interface, w.Err)...)
				continue
			}
			all = append(all, judge(f, w)...)
		}
		return all
	}
}

// senders are who sends the adverts of this cluster.
func (w Wire) senders() (all []netip.Addr) {
	for _, a := range w.Adverts {
		ours := a.RouterID == w.Instance.RouterID && (a.Own || sameAddresses(a.Addresses, w.Instance.Addresses))
		if ours && a.Priority > 0 && !slices.Contains(all, a.From) {
			all = append(all, a.From)
		}
	}
	return all
}

// sameAddresses reports whether an advert has an address of the instance.
func sameAddresses(sent []netip.Addr, own []netip.Prefix) bool {
	return slices.ContainsFunc(own, func(p netip.Prefix) bool { return slices.Contains(sent, p.Addr()) })
}

func addresses(all []netip.Addr) string {
	var text []string
	for _, a := range all {
		text = append(text, a.String())
	}
	return listOr(text, "none")
}

// anyMaster reports whether somebody should hold the VIP.
func (f Facts) anyMaster() bool {
	if f.Daemon.Document != nil && f.Daemon.Document.Answer == checker.Yes {
		return true
	}
	for _, s := range f.Sentinels.All {
		if s.Report != nil && s.Report.Err == nil && !s.Report.TakesForDown() {
			return true
		}
	}
	return false
}

func judgeVIP(f Facts, v VIP) []Result {
	answer := checker.Unknown
	if f.Daemon.Document != nil {
		answer = f.Daemon.Document.Answer
	}
	why := "see the log of keepalived; was the runtime directory made anew since it started? systemctl reload keepalived"
	if len(f.Daemon.VIP) > 0 {
		why = "see the log of " + f.Daemon.Unit
	}
	others := strings.Join(v.Others, ", ")
	switch {
	case v.Err != "" && v.Here && answer == checker.Yes:
		return warn("run it as root", "this host has %v; whether others do could not be told: %s", v.Prefix.Addr(), v.Err)
	case v.Here && len(v.Others) > 0 && answer != checker.Yes:
		return by("ip address del "+v.Prefix.String()+" dev "+v.Interface, fail(why, "this host has %v, and so has %s",
			v.Prefix.Addr(), others))
	case v.Here && len(v.Others) > 0:
		return fail("ip address del "+v.Prefix.String()+" dev "+v.Interface+", on the other host; "+
			"see the log of keepalived there",
			"this host has %v, and so has %s", v.Prefix.Addr(), others)
	case v.Here && answer != checker.Yes:
		return by("ip address del "+v.Prefix.String()+" dev "+v.Interface,
			fail(why+"; if keepalived was killed, start it: it has left the address behind",
				"this host has %v, and the answer is %s", v.Prefix.Addr(), answer))
	case v.Here:
		return tick("this host has %v, and nobody else", v.Prefix.Addr())
	case v.Err != "":
		return warn("run it as root", "who has %v could not be told: %s", v.Prefix.Addr(), v.Err)
	case answer == checker.Yes:
		return fail(why, "the answer is yes, and this host does not have %v%s", v.Prefix.Addr(), holderOf(others))
	case len(v.Others) > 1:
		return fail("ip address del "+v.Prefix.String()+", on the hosts that are no master", "%d hosts have %v: %s",
			len(v.Others), v.Prefix.Addr(), others)
	case len(v.Others) == 0 && f.anyMaster():
		return fail("run this on the master, and see journalctl -u keepalived there",
			"no host has %v, although there is a master",
			v.Prefix.Addr())
	case len(v.Others) == 0:
		return warn("see the checks of Redis and the Sentinels", "no host has %v, for there is no master", v.Prefix.Addr())
	}
	return tick("%s has %v, and nobody else", others, v.Prefix.Addr())
}

func holderOf(others string) string {
	if others == "" {
		return ""
	}
	return ", but " + others
}

// older compares versions such as 2.2.7.
func older(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}
