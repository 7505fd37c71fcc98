// Package wire speaks RESP2 to one server, plain or by TLS, under one absolute
// deadline. It is what probes use instead of go-redis, which cannot send AUTH
// and INFO in one round trip and makes an exec cost 1.43 to 1.50 times as much.
package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Socket is a stream socket with one absolute deadline for everything it
// does, for one goroutine. It waits in poll(2) on its own thread: waking the
// threads of Go's network poller would be a tenth of what an exec costs.
type Socket struct {
	// Deadline ends every read and write.
	Deadline time.Time

	fd int
}

// ErrManyHosts is the error of [Dial] for a name that may lead to several
// nodes.
var ErrManyHosts = errors.New("the name has several addresses, which may be several nodes")

// Dial connects by the deadline; network is "tcp" or "unix". If a name has an
// IPv4 and an IPv6 address, each is tried for its share of the time; of two of
// the loopback only the IPv4 one is. A name with more addresses is refused: they
// may belong to several nodes.
func Dial(ctx context.Context, network, address string, deadline time.Time) (*Socket, error) {
	if network == "unix" {
		return connect(unix.AF_UNIX, &unix.SockaddrUnix{Name: address}, deadline)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, errors.New("the port is no number")
	}
	addrs, err := resolve(ctx, host, deadline)
	if err != nil {
		return nil, err
	}
	var failed error
	for i, a := range addrs {
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		s, err := connectIP(a, int(port), time.Now().Add(share))
		if err == nil {
			s.Deadline = deadline
			return s, nil
		}
		if !TimedOut(failed) { // a timeout says less than a refusal, and acts later
			failed = err
		}
	}
	return nil, failed
}

// resolve returns the addresses of one node. A name of the loopback means
// 127.0.0.1 where it has that: it is where Redis listens by default, and at ::1
// anybody on the host may.
func resolve(ctx context.Context, host string, deadline time.Time) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if !oneHost(addrs) {
		return nil, ErrManyHosts
	}
	return oneLoopback(addrs), nil
}

// oneLoopback leaves one address where all are of the loopback: the first of
// IPv4 if there is one.
func oneLoopback(addrs []netip.Addr) []netip.Addr {
	first := addrs[0]
	for _, a := range addrs {
		if !a.Unmap().IsLoopback() {
			return addrs
		}
		if a.Unmap().Is4() && !first.Unmap().Is4() {
			first = a
		}
	}
	return []netip.Addr{first}
}

// oneHost reports whether the addresses can be those of one node.
func oneHost(addrs []netip.Addr) bool {
	var v4, v6, other int
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.IsLoopback():
			continue
		case a.Is4():
			v4++
		default:
			v6++
		}
		other++
	}
	return len(addrs) > 0 && (other == 0 || other == len(addrs) && v4 <= 1 && v6 <= 1)
}

func connectIP(a netip.Addr, port int, deadline time.Time) (*Socket, error) {
	if a = a.Unmap(); a.Is4() {
		return connect(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: a.As4()}, deadline)
	}
	to := &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, err
		}
		to.ZoneId = uint32(i.Index)
	}
	return connect(unix.AF_INET6, to, deadline)
}

func connect(family int, to unix.Sockaddr, deadline time.Time) (*Socket, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &Socket{fd: fd, Deadline: deadline}
	if err := s.connect(family, to); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// fullPause is between two attempts to join a unix socket's queue of new
// connections that is full.
const fullPause = time.Millisecond

func (s *Socket) connect(family int, to unix.Sockaddr) error {
	if family != unix.AF_UNIX {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	err := unix.Connect(s.fd, to)
	for ; err == unix.EAGAIN && time.Now().Before(s.Deadline); err = unix.Connect(s.fd, to) {
		time.Sleep(fullPause)
	}
	if err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	if err := s.wait(unix.POLLOUT); err != nil {
		return err
	}
	if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code == 0 {
		return err
	} else {
		return unix.Errno(code)
	}
}

// briefly is how long a wait is hidden from Go's scheduler. A healthy server
// answers in less, and a thread that is seen to block costs more to replace
// and to take back than the wait itself.
const briefly = 500 * time.Microsecond

// wait returns when the socket is ready or has failed, or by the deadline.
func (s *Socket) wait(events int16) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	for hidden := true; ; hidden = false {
		left := time.Until(s.Deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		var n int
		var err error
		if hidden {
			timeout := unix.NsecToTimespec(int64(min(left, briefly)))
			r, _, code := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1,
				uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
			if n = int(r); code != 0 {
				n, err = 0, code
			}
		} else {
			timeout := unix.NsecToTimespec(int64(left))
			n, err = unix.Ppoll(fds, &timeout, nil)
		}
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}

func (s *Socket) Read(p []byte) (int, error) {
	for {
		if err := s.wait(unix.POLLIN); err != nil {
			return 0, err
		}
		switch n, err := unix.Read(s.fd, p); {
		case err == unix.EAGAIN, err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (s *Socket) Write(p []byte) (int, error) {
	for done := 0; ; {
		n, err := unix.SendmsgN(s.fd, p[done:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN:
			if err := s.wait(unix.POLLOUT); err != nil {
				return done, err
			}
		case err == unix.EINTR:
		case err != nil:
			return done, err
		default:
			if done += n; done == len(p) {
				return done, nil
			}
		}
	}
}

// Close closes the descriptor once: later its number may belong to another.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// Conn gives the connection to Go's network poller, for who reads and writes at
// the same time or without a deadline. The socket is closed.
func (s *Socket) Conn() (net.Conn, error) {
	f := os.NewFile(uintptr(s.fd), "")
	s.fd = -1
	defer f.Close()
	return net.FileConn(f)
}

// Quiet reports whether nothing has arrived on an idle connection, neither
// bytes nor its end. It does not block.
func (s *Socket) Quiet() bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}

// LocalAddr and the next methods are those of a [net.Conn] that TLS does not need.
func (s *Socket) LocalAddr() net.Addr              { return nil }
func (s *Socket) RemoteAddr() net.Addr             { return nil }
func (s *Socket) SetDeadline(time.Time) error      { return nil }
func (s *Socket) SetReadDeadline(time.Time) error  { return nil }
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }
