package lint

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// A Summary is what a keepalived configuration says of the addresses that it
// holds, and of who runs its scripts.
type Summary struct {
	Instances []Instance
	// CachedScripts are the scripts that ask the daemon's socket.
	CachedScripts []Script
}

// An Instance is a vrrp_instance that has addresses.
type Instance struct {
	Name, Interface string
	RouterID        int           // 0 if there is none
	Advert          time.Duration // from one advert to the next
	Unicast         bool
	Refresh         bool // the addresses are announced again and again
	Addresses       []netip.Prefix
	Follows         bool // it tracks something that has to do with Redis
}

// A Script is a vrrp_script, and who runs it. An empty group is that of the
// user.
type Script struct {
	Name, User, Group string
}

// Summarize reads the configuration at path, with what it includes. What cannot
// be understood is left out.
func Summarize(host Host, path string) (s Summary, err error) {
	root, err := parse(host, path, func(place, string) {})
	if err != nil {
		return s, err
	}
	refresh, user, group := false, "", ""
	for _, g := range root.all("global_defs") {
		refresh = refresh || isRefresh(g.last("vrrp_garp_master_refresh"))
		if u := g.last("script_user"); u != nil {
			user, group = u.word(1), u.word(2)
		}
	}
	if user == "" && host.User("keepalived_script") {
		user = "keepalived_script"
	}
	l := &linter{host: host, root: root}
	l.trackers()
	l.syncGroups()
	for _, b := range root.all("vrrp_instance") {
		i := Instance{Name: b.word(1), Interface: b.last("interface").word(1), Advert: time.Second,
			Unicast: b.last("unicast_peer") != nil, Refresh: refresh || isRefresh(b.last("garp_master_refresh")),
			Follows: slices.ContainsFunc(l.tracked(b), l.concerns)}
		i.RouterID, _ = strconv.Atoi(b.last("virtual_router_id").word(1))
		if seconds, err := strconv.ParseFloat(b.last("advert_int").word(1), 64); err == nil && seconds > 0 && seconds <= 255 {
			i.Advert = time.Duration(seconds * float64(time.Second))
		}
		for _, list := range b.all("virtual_ipaddress") {
			for _, line := range list.block {
				if p, ok := prefix(line.word(0)); ok {
					i.Addresses = append(i.Addresses, p)
				}
			}
		}
		if len(i.Addresses) > 0 {
			s.Instances = append(s.Instances, i)
		}
	}
	for _, script := range l.scripts {
		if !script.ours || !slices.Contains(script.command, "--cached") {
			continue
		}
		one := Script{Name: script.word(1), User: user, Group: group}
		if u := script.last("user"); u != nil {
			one.User, one.Group = u.word(1), u.word(2)
		}
		s.CachedScripts = append(s.CachedScripts, one)
	}
	slices.SortFunc(s.CachedScripts, func(a, b Script) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

// prefix reads an address as keepalived does: without a length it is that of one
// host.
func prefix(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}
