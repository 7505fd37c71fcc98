package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchAddresses calls seen when a host begins or ceases to have an address,
// until ctx is done. Where routes count, an address without its local route is
// none: the host neither receives for it nor answers ARP. One socket listens to all hosts, so that the order of
// the events is that of the kernel.
//
// Format: rtnetlink(7), and NETLINK_LISTEN_ALL_NSID in netlink(7).
func (n *Network) watchAddresses(
	ctx context.Context,
	routes bool,
	seen func(at time.Time, h *Host, a netip.Addr, up bool),
) error {
	fd := -1
	err := n.bridge.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		for i, h := range n.Hosts {
			if err := nameNamespace(fd, h.fd, i); err != nil {
				return fmt.Errorf("cannot number a namespace: %w", err)
			}
		}
		return nil
	})
	for _, option := range [][2]int{
		{unix.NETLINK_LISTEN_ALL_NSID, 1},
		{unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_IPV4_IFADDR},
		{unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_IPV6_IFADDR},
		{unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_IPV4_ROUTE},
	} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option[0], option[1])
		}
	}
	if err == nil {
		// So that the end of ctx is noticed.
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	hosts := n.Hosts // others may be added, and are not watched
	go func() {
		defer unix.Close(fd)
		buf, oob := make([]byte, 1<<16), make([]byte, 256)
		held := make(map[place]possession)
		for ctx.Err() == nil {
			size, oobSize, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
			at := time.Now()
			if err != nil {
				continue
			}
			control, _ := unix.ParseSocketControlMessage(oob[:oobSize])
			i := slices.IndexFunc(control, func(m unix.SocketControlMessage) bool {
				return m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID
			})
			if i < 0 {
				continue // of the switch itself
			}
			nsid := int(binary.NativeEndian.Uint32(control[i].Data))
			messages, _ := syscall.ParseNetlinkMessage(buf[:size])
			for _, m := range messages {
				addr, ok := addressOf(m)
				if !ok || nsid >= len(hosts) || !routes && isRoute(m) {
					continue
				}
				where := place{nsid, addr}
				was, is := held[where], held[where].after(m.Header.Type)
				if held[where] = is; was.has() != is.has() {
					seen(at, hosts[nsid], addr, is.has())
				}
			}
		}
	}()
	return nil
}

// A place is an address on a host.
type place struct {
	host int
	addr netip.Addr
}

// A possession is what a host has of an address.
type possession struct{ address, noRoute bool }

func (p possession) has() bool { return p.address && !p.noRoute }

func (p possession) after(message uint16) possession {
	switch message {
	case unix.RTM_NEWADDR:
		return possession{address: true}
	case unix.RTM_DELADDR:
		return possession{}
	}
	p.noRoute = message == unix.RTM_DELROUTE
	return p
}

func isRoute(m syscall.NetlinkMessage) bool {
	return m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE
}

// addressOf is the address that a message is about, or its local route.
func addressOf(m syscall.NetlinkMessage) (addr netip.Addr, ok bool) {
	route := isRoute(m)
	switch {
	case route && (len(m.Data) < unix.SizeofRtMsg || m.Data[7] != unix.RTN_LOCAL): // rtm_type
		return addr, false
	case !route && m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR:
		return addr, false
	}
	attrs, _ := syscall.ParseNetlinkRouteAttr(&m)
	for _, a := range attrs {
		found, valid := netip.AddrFromSlice(a.Value)
		local := a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && found.Is6()
		if valid && (route && a.Attr.Type == unix.RTA_DST || !route && local) {
			return found, true
		}
	}
	return addr, false
}

// nameNamespace gives a namespace a number by which the one of socket knows
// it.
func nameNamespace(socket, namespace, number int) error {
	const (
		length  = unix.SizeofNlMsghdr + 4 + 8 + 8 // struct rtgenmsg, padded, and two attributes
		attrID  = 1                               // NETNSA_NSID
		attrFD  = 3                               // NETNSA_FD
		attrLen = 8
	)
	b := make([]byte, length)
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{Len: length, Type: unix.RTM_NEWNSID,
		Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK}
	put := func(at int, kind uint16, value int) {
		binary.NativeEndian.PutUint16(b[at:], attrLen)
		binary.NativeEndian.PutUint16(b[at+2:], kind)
		binary.NativeEndian.PutUint32(b[at+4:], uint32(value))
	}
	put(unix.SizeofNlMsghdr+4, attrID, number)
	put(unix.SizeofNlMsghdr+12, attrFD, namespace)
	if err := unix.Sendto(socket, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(socket, reply, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(reply[:n])
	if err != nil || len(messages) != 1 || messages[0].Header.Type != unix.NLMSG_ERROR {
		return fmt.Errorf("no acknowledgement: %w", err)
	}
	if code := int32(binary.NativeEndian.Uint32(messages[0].Data)); code != 0 && -code != int32(unix.EEXIST) {
		return syscall.Errno(-code)
	}
	return nil
}
