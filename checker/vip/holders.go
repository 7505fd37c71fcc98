package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// probeEvery is how often [Holders] asks: a frame may be lost.
const probeEvery = 100 * time.Millisecond

// Holders asks on an interface which other hosts have an address, until ctx is
// done, and returns their hardware addresses. It does not claim the address: no
// neighbour remembers anything of it. It needs CAP_NET_RAW, and a ctx that ends.
func Holders(ctx context.Context, link *net.Interface, addr netip.Addr) (all []net.HardwareAddr, err error) {
	if len(link.HardwareAddr) != 6 {
		return nil, fmt.Errorf("the interface %s is no Ethernet", link.Name)
	}
	kind := uint16(typeARP)
	if addr.Is6() {
		kind = typeIPv6
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	defer unix.Close(fd)
	program := filter(addr, []net.HardwareAddr{link.HardwareAddr})
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: link.Index}); err != nil {
		return nil, os.NewSyscallError("bind AF_PACKET", err)
	}
	var sent time.Time
	buf := make([]byte, 128)
	for ctx.Err() == nil {
		if time.Since(sent) >= probeEvery {
			sent = time.Now()
			if err := unix.Send(fd, probe(link.HardwareAddr, addr), unix.MSG_DONTWAIT); err != nil {
				return all, os.NewSyscallError("send", err)
			}
		}
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil { // nothing is there yet
			time.Sleep(5 * time.Millisecond)
			continue
		}
		by := claim(buf[:n], addr)
		if by != nil && !slices.ContainsFunc(all, func(mac net.HardwareAddr) bool { return bytes.Equal(mac, by) }) {
			all = append(all, by)
		}
	}
	return all, nil
}
