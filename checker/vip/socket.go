package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the work that claims can cause, at whatever rate they come. A frame that finds the queue full is lost
// without harm: whatever is in the queue is a claim, too.
const (
	queueBytes = 8 << 10              // of frames that wait to be read: about 30
	maxFrames  = 64                   // that are read at a time
	claimPause = 5 * time.Millisecond // from one report of claims to the next
	maxOwn     = 256                  // hardware addresses that the kernel's filter compares
)

// A socket sends frames about one address on one interface, and receives the claims of other hosts.
// Its methods may be called concurrently.
//
// Format: packet(7).
type socket struct {
	addr netip.Addr
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	own     []net.HardwareAddr // of this host
	claimed time.Time          // when another host last claimed the address
	by      net.HardwareAddr   // that host
}

// listen opens a socket that ignores the claims of own, the hardware addresses of this host. It calls heard after a
// claim, and once for all the claims that come within claimPause.
func listen(index int, addr netip.Addr, own []net.HardwareAddr, heard func()) (*socket, error) {
	kind := uint16(typeARP)
	if addr.Is6() {
		kind = typeIPv6
	}
	// With protocol 0 it receives nothing before bind, when the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	s := &socket{addr: addr, file: os.NewFile(uintptr(fd), "packet")}
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.ignore(own)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queueBytes)
		err = os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
	if err == nil {
		to := &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: index}
		err = os.NewSyscallError("bind AF_PACKET", unix.Bind(fd, to))
	}
	if err != nil {
		s.close()
		return nil, err
	}
	go func() {
		for s.raw.Read(s.drain) == nil { // until it is closed
			heard()
			time.Sleep(claimPause)
		}
	}()
	return s, nil
}

func (s *socket) close() { s.file.Close() }

// ignore sets the hardware addresses of this host. The host receives its own claims where two of its interfaces are on
// one network.
func (s *socket) ignore(own []net.HardwareAddr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = own
	program := filter(s.addr, own[:min(len(own), maxOwn)])
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog)
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

// send sends a frame or fails; it does not wait.
func (s *socket) send(frame []byte) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = unix.Send(int(fd), frame, unix.MSG_DONTWAIT) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("send", err)
}

// lastClaim is when another host last claimed the address, and that host. It counts the frames that are in the queue.
func (s *socket) lastClaim() (time.Time, net.HardwareAddr) {
	s.raw.Control(func(fd uintptr) { s.drain(fd) })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed, s.by
}

// drain reads the queue, and reports whether there was a claim, or there may be more to read.
func (s *socket) drain(fd uintptr) (found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var buf [128]byte
	for range maxFrames {
		n, _, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return found // the queue is empty, or the link is down
		}
		by := claim(buf[:n], s.addr)
		if by != nil && !slices.ContainsFunc(s.own, func(own net.HardwareAddr) bool { return bytes.Equal(own, by) }) {
			s.claimed, s.by, found = time.Now(), by, true
		}
	}
	return true
}

// filter is the program by which the kernel drops every frame that cannot be another host's claim of an address.
//
// Format: classic BPF, Documentation/networking/filter.rst of Linux.
func filter(addr netip.Addr, own []net.HardwareAddr) []unix.SockFilter {
	type condition struct {
		load   uint16
		offset uint32
		value  uint32
	}
	var all []condition
	if addr.Is4() {
		all = []condition{{unix.BPF_W, arpSender, binary.BigEndian.Uint32(addr.AsSlice())}}
	} else {
		all = []condition{{unix.BPF_B, header + 6, protoICMPv6}, {unix.BPF_B, icmp, advertisement}}
		for i, b := 0, addr.AsSlice(); i < len(b); i += 4 {
			all = append(all, condition{unix.BPF_W, icmpTarget + uint32(i), binary.BigEndian.Uint32(b[i:])})
		}
	}
	load := func(size uint16, offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: offset}
	}
	unless := func(value uint32, skip int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: uint8(skip)}
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	var program []unix.SockFilter
	for i, c := range all {
		program = append(program, load(c.load, c.offset), unless(c.value, 2*(len(all)-i)-1))
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, drop)
	for _, mac := range own {
		program = append(program,
			load(unix.BPF_W, etherSource), unless(binary.BigEndian.Uint32(mac), 3),
			load(unix.BPF_H, etherSource+4), unless(uint32(binary.BigEndian.Uint16(mac[4:])), 1),
			drop)
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 128})
}
