package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"redis-is-master/checker/vip"
	"redis-is-master/keepalived/lint"
)

// defaultKeepalived is what keepalived reads without a flag.
const defaultKeepalived = "/etc/keepalived/keepalived.conf"

// findKeepalived finds the one that runs in this network, and its configuration.
func findKeepalived(host lint.Host) Keepalived {
	k := Keepalived{Version: host.Version}
	all, err := processes("keepalived")
	if err != nil {
		k.Err = err.Error()
	}
	if k.Running = len(all) > 0; k.Running {
		k.Err = ""
		k.File = or(flagOf(all[0].argv, "-f", "--use-file"), defaultKeepalived)
	} else if _, err := os.Stat(defaultKeepalived); err == nil {
		k.File = defaultKeepalived
	}
	return k
}

func gatherKeepalived(ctx context.Context, t Target) Keepalived {
	host := lint.ThisHost()
	k := findKeepalived(host)
	vips := make(map[netip.Prefix]string)
	for _, p := range t.VIP {
		vips[p] = t.VIPInterface
	}
	if k.File != "" {
		var err error
		if k.Findings, err = lint.File(host, k.File); err == nil {
			k.Summary, err = lint.Summarize(host, k.File)
		}
		if err != nil {
			k.FileErr = reason(err)
		}
	}
	for _, s := range k.Summary.CachedScripts {
		_, _, known := userOf(s.User)
		k.Scripts = append(k.Scripts, Access{Script: s, Known: known})
	}
	var listening sync.WaitGroup
	for _, i := range k.Summary.Instances {
		for _, p := range i.Addresses {
			vips[p] = i.Interface
		}
		k.Wire = append(k.Wire, Wire{Instance: i})
	}
	for i := range k.Wire {
		if k.Running {
			listening.Go(func() { k.Wire[i].listen(ctx) })
		}
	}
	for p, link := range vips {
		k.VIPs = append(k.VIPs, VIP{Prefix: p, Interface: link})
	}
	slices.SortFunc(k.VIPs, func(a, b VIP) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for i := range k.VIPs {
		listening.Go(func() { k.VIPs[i].ask(ctx) })
	}
	listening.Wait()
	return k
}

// ask learns who has the address.
func (v *VIP) ask(ctx context.Context) {
	// Others are asked in half a second, so that a VIP which moves meanwhile is
	// seen at both ends of it.
	here := func() bool {
		all, _ := net.InterfaceAddrs()
		return slices.ContainsFunc(all, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.String() == v.Prefix.Addr().String()
		})
	}
	link, err := net.InterfaceByName(v.Interface)
	if err != nil {
		v.Here, v.Err = here(), "there is no interface "+v.Interface
		return
	}
	for range 2 {
		asking, cancel := context.WithTimeout(ctx, question/2)
		before := here()
		others, err := vip.Holders(asking, link, v.Prefix.Addr())
		cancel()
		v.Here, v.Others, v.Err = here(), nil, ""
		for _, mac := range others {
			v.Others = append(v.Others, mac.String())
		}
		if err != nil {
			v.Err = systemReason(err)
		}
		if v.Here == before {
			return
		}
	}
}

// systemReason is the cause of a failed system call.
func systemReason(err error) string {
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// mayOpen reports whether keepalived's script may connect to the socket: it has
// the group of its user, or the one that is named, and no other.
func mayOpen(a Access, d Daemon) bool {
	uid, _, known := userOf(a.User)
	if !known || d.SocketMode == 0 {
		return true // other checks tell
	}
	var groups []int
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		gid, _ := strconv.Atoi(u.Gid)
		groups = []int{gid}
	}
	if a.Group != "" {
		if g, err := user.LookupGroup(a.Group); err == nil {
			gid, _ := strconv.Atoi(g.Gid)
			groups = []int{gid}
		}
	}
	return may(d.SocketMode, d.SocketUser, d.SocketGroup, uid, groups, 2)
}

// listenFor is for how long adverts are waited for: a few of them.
func listenFor(advert time.Duration) time.Duration {
	return min(max(3*advert, 300*time.Millisecond), 3200*time.Millisecond)
}
