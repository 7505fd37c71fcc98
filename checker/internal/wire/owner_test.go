package wire

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestOwner: whose listener it is, on a port bound to one address or to all, on
// a unix socket, and once nobody listens any more. That another user's is told
// apart is tested with the probe.
func TestOwner(t *testing.T) {
	for _, tt := range []struct{ network, listen, dial string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", "[::1]:0", "::1"},
		{"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp", "[::]:0", "127.0.0.1"},
		{"tcp", "[::]:0", "::1"},
		{"unix", filepath.Join(t.TempDir(), "s"), ""},
	} {
		l, err := net.Listen(tt.network, tt.listen)
		if err != nil {
			t.Fatal(err)
		}
		network, address := "unix", tt.listen
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			network, address = "tcp", net.JoinHostPort(tt.dial, strconv.Itoa(a.Port))
		}
		s, err := Dial(t.Context(), network, address, time.Now().Add(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if uid, err := s.Owner(); err != nil || int(uid) != os.Getuid() {
			t.Errorf("%v: %d, %v", tt, uid, err)
		}
		l.Close()
		if uid, err := s.Owner(); network == "tcp" && err != ErrNoOwner {
			t.Errorf("%v, and nobody listens: %d, %v", tt, uid, err)
		}
		s.Close()
	}
}

// TestInheritSockDiag: an inherited socket answers, also where a daemon that was
// killed has left a reply unread. One that asks about something else is refused.
func TestInheritSockDiag(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := Dial(t.Context(), "tcp", l.Addr().String(), time.Now().Add(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fd, err := newSockDiag()
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "sock-diag")
	defer f.Close()
	left := unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: 20, Flags: unix.NLM_F_REQUEST, Seq: 7}
	b := (*[unix.SizeofNlMsghdr]byte)(unsafe.Pointer(&left))
	if err := unix.Sendto(fd, b[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil { // gets an error
		t.Fatal(err)
	}
	if err := InheritSockDiag(f); err != nil {
		t.Fatal(err)
	}
	defer func() { sockDiag.file = nil }()
	for range 2 {
		if uid, err := s.Owner(); err != nil || int(uid) != os.Getuid() || sockDiag.sequence == 0 {
			t.Errorf("%d, %v; %d queries", uid, err, sockDiag.sequence)
		}
	}

	for name, other := range map[string]func() (int, error){
		"a listener":     func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
		"another family": func() (int, error) { return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) },
		"another network": func() (fd int, err error) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread() // and the thread ends with the goroutine
				if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
					fd, err = newSockDiag()
				}
			}()
			<-done
			return fd, err
		},
	} {
		fd, err := other()
		if errors.Is(err, unix.EPERM) {
			continue // a network namespace needs root
		}
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		if err := InheritSockDiag(f); err == nil {
			t.Errorf("%s is taken", name)
		}
		f.Close()
	}
}
