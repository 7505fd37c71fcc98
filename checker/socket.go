package checker

import (
	"bytes"
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

// socket is a stream socket with one absolute deadline for all it does, for
// one goroutine. It waits in poll(2) on its own thread: the network poller of
// Go, with its threads to wake, is a tenth of what an exec costs.
type socket struct {
	fd       int
	deadline time.Time
}

var errManyHosts = errors.New("the name has several addresses, which may be several nodes")

// dial connects by the deadline. Of a name with an IPv4 and an IPv6 address
// both are tried in turn, each for its share of the time; a name with more is
// none of one node.
func dial(ctx context.Context, network, address string, deadline time.Time) (*socket, error) {
	if network == "unix" {
		return connect(unix.AF_UNIX, nil, &unix.SockaddrUnix{Name: address}, deadline)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, errors.New("the port is no number")
	}
	addrs := make([]netip.Addr, 1)
	if addrs[0], err = netip.ParseAddr(host); err != nil {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err
		}
	}
	if !oneHost(addrs) {
		return nil, errManyHosts
	}
	var failed error
	for i, a := range addrs {
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		s, err := connectIP(a, int(port), time.Now().Add(share))
		if err == nil {
			s.deadline = deadline
			return s, nil
		}
		if !timedOut(failed) { // which says less than a refusal, and acts later
			failed = err
		}
	}
	return nil, failed
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

func connectIP(a netip.Addr, port int, deadline time.Time) (*socket, error) {
	if a = a.Unmap(); a.Is4() {
		return connect(unix.AF_INET, nil, &unix.SockaddrInet4{Port: port, Addr: a.As4()}, deadline)
	}
	to := &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, err
		}
		to.ZoneId = uint32(i.Index)
	}
	return connect(unix.AF_INET6, nil, to, deadline)
}

func connect(family int, from, to unix.Sockaddr, deadline time.Time) (*socket, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd, deadline: deadline}
	if from != nil {
		err = unix.Bind(fd, from)
	}
	if err == nil {
		err = s.connect(family, to)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) connect(family int, to unix.Sockaddr) error {
	if family != unix.AF_UNIX {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	switch err := unix.Connect(s.fd, to); err {
	case unix.EINPROGRESS, unix.EINTR:
		if err := s.wait(unix.POLLOUT); err != nil {
			return err
		}
	default:
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
func (s *socket) wait(events int16) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	for hidden := true; ; hidden = false {
		left := time.Until(s.deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		var n int
		var err error
		if hidden {
			timeout := unix.NsecToTimespec(int64(min(left, briefly)))
			r, _, code := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1, uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
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

func (s *socket) Read(p []byte) (int, error) {
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

func (s *socket) Write(p []byte) (int, error) {
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

// Close closes the descriptor, once: its number may be another's by then.
func (s *socket) Close() error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// quiet reports whether nothing has arrived on an idle connection, neither
// bytes nor its end. It does not block.
func (s *socket) quiet() bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}

// ReadSocket connects to the unix socket of a daemon, and returns so many
// lines of what it says and what came with them; or all of it if lines is 0.
// To ask for all, the client has a name, which the daemon sees when it
// accepts. Every error, such as the end of timeout, is an [*Error].
func ReadSocket(path string, timeout time.Duration, lines int) ([]byte, error) {
	at := &Redis{Address: path, started: time.Now()}
	var from unix.Sockaddr
	if lines == 0 {
		from = &unix.SockaddrUnix{} // a name that the kernel chooses: unix(7), autobind
	}
	s, err := connect(unix.AF_UNIX, from, &unix.SockaddrUnix{Name: path}, at.started.Add(timeout))
	if err != nil {
		return nil, at.fail(StageDial, err)
	}
	defer s.Close()
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := s.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF, err == nil && lines > 0 && bytes.Count(buf, []byte("\n")) >= lines:
			if time.Since(at.started) > timeout {
				return nil, at.fail(StageReply, os.ErrDeadlineExceeded)
			}
			return buf, nil
		case err == nil && len(buf) >= maxReply:
			err = errTooLarge
		}
		if err != nil {
			return nil, at.fail(StageReply, err)
		}
	}
}

func (s *socket) LocalAddr() net.Addr              { return nil }
func (s *socket) RemoteAddr() net.Addr             { return nil }
func (s *socket) SetDeadline(time.Time) error      { return nil }
func (s *socket) SetReadDeadline(time.Time) error  { return nil }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
