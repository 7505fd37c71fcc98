package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernel reads and changes the addresses of one interface.
type kernel struct {
	name   string
	handle *netlink.Handle
}

func openKernel(name string) (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	h.SetSocketTimeout(time.Second)
	return &kernel{name, h}, nil
}

func (k *kernel) close() { k.handle.Close() }

// A link is the state of the interface. The zero link stands for an interface that does not exist.
type link struct {
	index int
	up    bool // with a carrier
	mac   net.HardwareAddr
}

// link looks the interface up by its name.
func (k *kernel) link() (link, error) {
	l, err := k.handle.LinkByName(k.name)
	if err != nil {
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return link{}, fmt.Errorf("there is no interface %s", k.name)
		}
		return link{}, err
	}
	a := l.Attrs()
	const up = unix.IFF_UP | unix.IFF_RUNNING
	return link{a.Index, a.RawFlags&up == up, a.HardwareAddr}, nil
}

// hardwareAddresses are those of all interfaces of this host.
func (k *kernel) hardwareAddresses() (all []net.HardwareAddr, err error) {
	links, err := k.handle.LinkList()
	for _, l := range links {
		if mac := l.Attrs().HardwareAddr; len(mac) == 6 {
			all = append(all, mac)
		}
	}
	return all, err
}

// put adds or renews an address. The kernel removes one that is not renewed within expires by itself.
func (k *kernel) put(index int, p netip.Prefix, expires time.Duration) error {
	a := entry(index, p)
	a.ValidLft = int((expires + time.Second - 1) / time.Second)
	if p.Addr().Is4() {
		a.PreferedLft = a.ValidLft
	} else {
		a.Flags = unix.IFA_F_NODAD // we have probed; and deprecated, so that the host does not send from it by default
	}
	if err := k.handle.AddrReplace(nil, a); err != nil || p.Addr().Is6() {
		return err
	}
	// The kernel makes this route with the address. A daemon that died in [kernel.drop] may have removed it.
	if err := k.handle.RouteAdd(localRoute(index, p)); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// localRoute makes the host receive what is sent to an IPv4 address, and answer ARP for it.
func localRoute(index int, p netip.Prefix) *netlink.Route {
	ip := net.IP(p.Addr().AsSlice())
	return &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
		Protocol: unix.RTPROT_KERNEL, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}, Src: ip}
}

// A dropped is what [kernel.drop] did about one address.
type dropped struct {
	found   []netip.Prefix // the address with each length that it had on the interface
	err     error          // it may still be on the interface
	killed  int            // its connections that were ended
	killErr error
}

// drop removes addresses, whatever length somebody has added them with, and ends their connections. First of all it
// makes the host deaf to all the addresses. An IPv4 address is on the interface until its connections have ended, for
// the host can send no reset without it, but no ARP request is answered then and no packet is received.
func (k *kernel) drop(index int, addresses ...netip.Prefix) []dropped {
	done := make([]dropped, len(addresses))
	if index == 0 {
		return done
	}
	deaf := make([]bool, len(addresses))
	for i, p := range addresses {
		if p.Addr().Is4() {
			deaf[i] = k.handle.RouteDel(localRoute(index, p)) == nil
		} else {
			done[i].found, done[i].err = k.removeAll(index, p)
			deaf[i] = len(done[i].found) > 0
		}
	}
	for i, p := range addresses {
		d := &done[i]
		if deaf[i] {
			d.killed, d.killErr = KillConnections(p.Addr())
		}
		if p.Addr().Is4() {
			d.found, d.err = k.removeAll(index, p)
		}
	}
	return done
}

// removeAll removes an address with each length that it has, and returns what it removed.
func (k *kernel) removeAll(index int, p netip.Prefix) (removed []netip.Prefix, err error) {
	was, err := k.remove(index, p)
	if was {
		removed = append(removed, p)
	}
	found, lerr := k.list(index)
	err = errors.Join(err, lerr)
	for _, other := range found {
		if other.Addr() == p.Addr() {
			was, rerr := k.remove(index, other)
			if err = errors.Join(err, rerr); was {
				removed = append(removed, other)
			}
		}
	}
	return removed, err
}

// remove removes an address, and reports whether it was there. An address or an interface that does not exist is no
// error.
func (k *kernel) remove(index int, p netip.Prefix) (was bool, err error) {
	err = k.handle.AddrDel(nil, entry(index, p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

func entry(index int, p netip.Prefix) *netlink.Addr {
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return &netlink.Addr{LinkIndex: index, IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: mask}}
}

// list returns all addresses of an interface.
func (k *kernel) list(index int) ([]netip.Prefix, error) {
	var all []netip.Prefix
	found, err := k.handle.AddrList(nil, netlink.FAMILY_ALL)
	for try := 0; errors.Is(err, netlink.ErrDumpInterrupted) && try < 10; try++ {
		found, err = k.handle.AddrList(nil, netlink.FAMILY_ALL)
	}
	for _, a := range found {
		ip, ok := netip.AddrFromSlice(a.IP)
		if bits, _ := a.Mask.Size(); ok && a.LinkIndex == index {
			all = append(all, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return all, err
}

// watchAddresses calls changed when an address or a link has changed, and when it may have missed a change, until ctx
// is done.
func watchAddresses(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		watchOnce(ctx, changed)
		changed()
		select {
		case <-ctx.Done():
		case <-time.After(retryDelay):
		}
	}
}

func watchOnce(ctx context.Context, changed func()) {
	done := make(chan struct{})
	addrs, links := make(chan netlink.AddrUpdate, 64), make(chan netlink.LinkUpdate, 64)
	if netlink.AddrSubscribe(addrs, done) != nil {
		close(done)
		return
	}
	if netlink.LinkSubscribe(links, done) != nil {
		close(done)
		for range addrs {
		}
		return
	}
	changed() // there may have been a change before the subscription
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case _, open = <-addrs:
		case _, open = <-links:
		}
		changed()
	}
	close(done)
	for range addrs { // the subscriptions end only when somebody reads what they have
	}
	for range links {
	}
}

// checkCapabilities returns an error that names the capability which this process lacks.
func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for bit, name := range map[int]string{unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_NET_RAW: "CAP_NET_RAW"} {
		if data[0].Effective&(1<<bit) == 0 {
			return fmt.Errorf("holding an address needs CAP_NET_ADMIN and CAP_NET_RAW, and there is no %s: "+
				"run the daemon as root, or give the unit the drop-in vip.conf", name)
		}
	}
	return nil
}
