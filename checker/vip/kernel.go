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

// A kernel is the addresses of one interface.
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

// A link is what is known of the interface. The zero link has none.
type link struct {
	index int
	up    bool // and its cable is plugged in
	mac   net.HardwareAddr
}

// link looks it up by its name.
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

// put adds an address, or renews it: the kernel removes it by itself when it
// was not renewed for a time, whoever has died or hangs.
func (k *kernel) put(index int, p netip.Prefix, expires time.Duration) error {
	a := entry(index, p)
	a.ValidLft = int((expires + time.Second - 1) / time.Second)
	if p.Addr().Is4() {
		a.PreferedLft = a.ValidLft
	} else {
		a.Flags = unix.IFA_F_NODAD // the probe was ours; and not to be the source of what the host sends
	}
	return k.handle.AddrReplace(nil, a)
}

// remove removes an address, and reports whether it was there. That it was
// not, or its interface is not, is no error.
func (k *kernel) remove(index int, p netip.Prefix) (was bool, err error) {
	err = k.handle.AddrDel(nil, entry(index, p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

func entry(index int, p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{LinkIndex: index, IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
}

// list is all addresses of an interface.
func (k *kernel) list(index int) ([]netip.Prefix, error) {
	var all []netip.Prefix
	found, err := k.handle.AddrList(nil, netlink.FAMILY_ALL)
	for try := 0; errors.Is(err, netlink.ErrDumpInterrupted) && try < 10; try++ { // something changed meanwhile
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

// watch calls changed when an address or a link has changed, or that may have
// been missed, until ctx is done.
func (k *kernel) watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		k.watchOnce(ctx, changed)
		changed()
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (k *kernel) watchOnce(ctx context.Context, changed func()) {
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
	changed() // what came before
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
	for range addrs { // both end, and must not wait for us
	}
	for range links {
	}
}

// may says what this process may not do, and how to let it.
func may() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for bit, name := range map[int]string{unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_NET_RAW: "CAP_NET_RAW"} {
		if data[0].Effective&(1<<bit) == 0 {
			return fmt.Errorf("holding an address needs CAP_NET_ADMIN and CAP_NET_RAW, and there is no %s: run it as root, or give the unit the drop-in vip.conf", name)
		}
	}
	return nil
}
