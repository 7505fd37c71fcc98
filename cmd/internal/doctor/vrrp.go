package doctor

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const protoVRRP = 112

// listen collects the adverts that this host sends and receives on the interface
// of the instance.
func (w *Wire) listen(ctx context.Context) {
	w.For = listenFor(w.Instance.Advert)
	ctx, cancel := context.WithTimeout(ctx, w.For)
	defer cancel()
	link, err := net.InterfaceByName(w.Instance.Interface)
	if err != nil {
		w.Err = "there is no such interface"
		return
	}
	// With protocol 0 it receives nothing before bind, when the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		w.Err = systemReason(os.NewSyscallError("socket", err))
		return
	}
	defer unix.Close(fd)
	program := onlyVRRP()
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog)
	if err == nil {
		const all = uint16(unix.ETH_P_ALL) // what this host sends, too
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Index})
	}
	if err != nil {
		w.Err = err.Error()
		return
	}
	passed := deliveryOn(link)
	defer passed.close()
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		passed.look(buf)
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil { // nothing is there yet
			time.Sleep(5 * time.Millisecond)
			continue
		}
		a, ok := parseAdvert(buf[:n])
		if !ok {
			continue
		}
		if at, known := from.(*unix.SockaddrLinklayer); known {
			a.Own = at.Pkttype == unix.PACKET_OUTGOING
		}
		same := func(b Advert) bool { return a.From == b.From && a.RouterID == b.RouterID && a.Own == b.Own }
		if i := slices.IndexFunc(w.Adverts, same); i >= 0 {
			w.Adverts[i] = a // the last word counts: priority 0 gives the VIP up
		} else if len(w.Adverts) < 64 {
			w.Adverts = append(w.Adverts, a)
		}
	}
	passed.look(buf)
	foreign := slices.ContainsFunc(w.Adverts, func(a Advert) bool { return !a.Own && a.RouterID == w.Instance.RouterID })
	w.Filtered = foreign && passed.known() && !passed.any
}

// A delivery is whether VRRP comes through the firewall of this host, which a
// packet socket does not ask.
type delivery struct {
	sockets []int // of IPv4 and IPv6
	any     bool
}

func deliveryOn(link *net.Interface) *delivery {
	d := &delivery{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protoVRRP)
		if err != nil {
			continue
		}
		if unix.BindToDevice(fd, link.Name) != nil {
			unix.Close(fd)
			continue
		}
		d.sockets = append(d.sockets, fd)
	}
	return d
}

func (d *delivery) known() bool { return len(d.sockets) == 2 }

func (d *delivery) close() {
	for _, fd := range d.sockets {
		unix.Close(fd)
	}
}

func (d *delivery) look(buf []byte) {
	for _, fd := range d.sockets {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		d.any = d.any || err == nil && n > 0
	}
}

// onlyVRRP is the program by which the kernel drops all but VRRP, over IPv4 and
// IPv6.
//
// Format: classic BPF, Documentation/networking/filter.rst of Linux. The packet
// begins with the header of IP.
func onlyVRRP() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: offset}
	}
	equal := func(value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
	}
	return []unix.SockFilter{
		load(0),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
		equal(0x40, 0, 2),
		load(9),
		equal(protoVRRP, 3, 4),
		equal(0x60, 0, 3),
		load(6),
		equal(protoVRRP, 0, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: 2048},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
}

// parseAdvert reads an advert with its header of IP. It checks no sums: who sends
// a wrong one is there all the same.
//
// Format: RFC 3768 for version 2, RFC 9568 for version 3.
func parseAdvert(b []byte) (a Advert, ok bool) {
	if len(b) < 20 {
		return a, false
	}
	size := 4
	switch b[0] >> 4 {
	case 4:
		header := int(b[0]&0xf) * 4
		total := int(binary.BigEndian.Uint16(b[2:]))
		if b[9] != protoVRRP || header < 20 || total > len(b) || total < header {
			return a, false
		}
		a.From = netip.AddrFrom4([4]byte(b[12:16]))
		b = b[header:total]
	case 6:
		if len(b) < 40 || b[6] != protoVRRP {
			return a, false
		}
		size = 16
		a.From = netip.AddrFrom16([16]byte(b[8:24]))
		b = b[40:]
	default:
		return a, false
	}
	const advertisement = 1
	if len(b) < 8 || b[0]&0xf != advertisement {
		return a, false
	}
	a.RouterID, a.Priority = int(b[1]), int(b[2])
	rest := b[8:]
	for range int(b[3]) {
		if len(rest) < size {
			return a, false
		}
		address, _ := netip.AddrFromSlice(rest[:size])
		a.Addresses = append(a.Addresses, address)
		rest = rest[size:]
	}
	return a, true
}
