package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A Socket answers every connection on a unix socket with the head of the
// document, and to a client that has a name also with all of it, in one line
// of JSON; then it closes it: see [report.ReadWire] and [checker.ReadSocket].
// An answer fits into a socket's buffer, so no client can make another wait.
//
// It accepts on a thread of its own, has the head ready, and renders nothing
// that was not asked for: the exec that asks costs a tenth less than it would
// otherwise, for it shares its processors with this daemon.
type Socket struct {
	ready    atomic.Pointer[head]
	asked    atomic.Int32 // checks for which the head is still made ready
	document func() report.Document
	listener *net.UnixListener
	file     *os.File // the listener's, in blocking mode
	lock     *os.File
}

// head is that of the document of one check with one reason.
type head struct {
	check  time.Time
	reason checker.Reason
	text   string
}

// readyFor is how many checks after a client asked the next one is expected.
const readyFor = 100

// Checked makes the head ready, if clients have asked of late. It is for
// [checker.Monitor.Checked].
func (s *Socket) Checked(checker.Check) {
	if s.asked.Load() <= 0 {
		return
	}
	s.asked.Add(-1)
	d := s.document()
	s.ready.Store(&head{d.Time, d.Reason, d.Head()})
}

// ErrInUse is that of [NewSocket] where another program answers.
var ErrInUse = errors.New("another daemon answers there")

// NewSocket listens. A socket that a dead daemon left is replaced. A live
// one's is not, nor that of another program: it holds a lock beside it.
func NewSocket(path string, mode os.FileMode, document func() report.Document) (*Socket, error) {
	fail := func(err error) (*Socket, error) { return nil, fmt.Errorf("--socket %s: %w", path, err) }
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fail(errors.New("its directory does not exist: make it, or set RuntimeDirectory= in the unit"))
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return fail(ErrInUse)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			lock.Close()
			return fail(errors.New("something that is no socket is in the way"))
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			lock.Close()
			return fail(fmt.Errorf("%w, or another program", ErrInUse))
		}
		os.Remove(path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		if err = os.Chmod(path, mode); err != nil {
			l.Close()
		}
	}
	if err != nil {
		lock.Close()
		return fail(err)
	}
	file, err := l.File()
	if err == nil {
		err = unix.SetNonblock(int(file.Fd()), false)
	}
	if err != nil {
		l.Close()
		lock.Close()
		return fail(err)
	}
	return &Socket{document: document, listener: l, file: file, lock: lock}, nil
}

// Run answers until ctx is done; then it removes the socket.
func (s *Socket) Run(ctx context.Context, m *checker.Monitor) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := int(s.file.Fd())
	// Shutdown ends the accept; a close alone would not.
	stop := context.AfterFunc(ctx, func() { unix.Shutdown(fd, unix.SHUT_RDWR) })
	defer func() {
		stop()
		s.file.Close()
		s.listener.Close()
		s.lock.Close()
	}()
	for {
		c, peer, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				unix.Close(c)
			}
			return nil
		case err == unix.EINTR, err == unix.ECONNABORTED:
			continue
		case err == unix.EINVAL, err == unix.EBADF:
			return fmt.Errorf("the unix socket: %w", err)
		case err != nil: // no descriptor is free: it passes
			time.Sleep(10 * time.Millisecond)
			continue
		}
		name, _ := peer.(*unix.SockaddrUnix)
		s.answer(c, m, name != nil && len(name.Name) > len("@")) // which no name is, too
		unix.Close(c)
	}
}

func (s *Socket) answer(c int, m *checker.Monitor, all bool) {
	s.asked.Store(readyFor)
	status, _ := m.Status()
	ready := s.ready.Load()
	if !all && ready != nil && ready.check == status.Check.Time && ready.reason == status.Verdict.Reason {
		say(c, ready.text)
		return
	}
	d := s.document()
	text := d.Head()
	if all {
		text += d.JSON() + "\n"
	}
	say(c, text)
}

func say(fd int, text string) {
	unix.SendmsgN(fd, []byte(text), nil, nil, unix.MSG_NOSIGNAL) // a client that is gone is no news
}
