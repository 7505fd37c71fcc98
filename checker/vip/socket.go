package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket sends the frames about one address on one interface, and hears who
// else has it.
//
// Format: packet(7).
type socket struct {
	addr netip.Addr
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	claimed time.Time // when another host last said that it has the address
	by      net.HardwareAddr
}

// listen opens it. Heard is called after a claim.
func listen(index int, addr netip.Addr, heard func()) (*socket, error) {
	kind := uint16(typeARP)
	if addr.Is6() {
		kind = typeIPv6
	}
	// It gets nothing before it is bound, so that nothing passes the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	program := filter(addr)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind AF_PACKET", err)
	}
	s := &socket{addr: addr, file: os.NewFile(uintptr(fd), "packet")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.close()
		return nil, err
	}
	go s.raw.Read(func(fd uintptr) bool {
		if s.drain(int(fd)) {
			heard()
		}
		return false // until it is closed
	})
	return s, nil
}

func (s *socket) close() { s.file.Close() }

// send sends a frame or fails; it does not wait.
func (s *socket) send(frame []byte) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = unix.Send(int(fd), frame, unix.MSG_DONTWAIT) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("send", err)
}

// last is the last claim, that of a frame which has just come included.
func (s *socket) last() (time.Time, net.HardwareAddr) {
	s.raw.Control(func(fd uintptr) { s.drain(int(fd)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed, s.by
}

// drain reads what has come, and reports whether there was a claim.
func (s *socket) drain(fd int) (heard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var buf [128]byte
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return heard // there is no more, or the link is down
		}
		if by := claim(buf[:n], s.addr); by != nil && !own(by) {
			s.claimed, s.by, heard = time.Now(), by, true
		}
	}
}

// own reports whether an Ethernet address is one of this host's: it hears
// what it says itself, and on two links into one network twice.
func own(mac net.HardwareAddr) bool {
	all, _ := net.Interfaces()
	for _, i := range all {
		if bytes.Equal(i.HardwareAddr, mac) {
			return true
		}
	}
	return false
}

// filter lets pass what may be a claim of an address, for the kernel to drop
// all the rest.
//
// Format: classic BPF, Documentation/networking/filter.rst of Linux.
func filter(addr netip.Addr) []unix.SockFilter {
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
	var program []unix.SockFilter
	for i, c := range all {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | c.load, K: c.offset},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: c.value, Jf: uint8(2*(len(all)-i) - 1)})
	}
	return append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 128},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}
