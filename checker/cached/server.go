package cached

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A Server answers on a unix socket.
//
// It never waits for a client: the kernel holds all that a client has not read.
// It accepts on threads of their own, and what it says is rendered once per
// check, the document after the head is sent.
//
// A queue of new connections can be kept full by whoever may join it. So there
// is a second socket beside one that everybody may connect to, at
// [TrustedSuffix]: only root, the owner and the group of the socket may connect
// to it, and [Ask] tries it first. No other user can take its answer.
type Server struct {
	queues []queue
	lock   *os.File
	says   func() answer
}

// A queue is a socket that listens.
type queue struct {
	path string
	fd   int
}

// TrustedSuffix is what the path of the second socket has more than that of the
// first.
const TrustedSuffix = ".trusted"

// An answer is what is said after one check.
type answer struct {
	head     []byte
	document func() []byte
}

// ErrInUse is that of [NewServer] where another program answers.
var ErrInUse = errors.New("another daemon answers there")

// NewServer listens. A socket that a dead daemon left is replaced. A live one's
// is not, nor that of another program: it holds a lock beside it.
func NewServer(path string, mode os.FileMode, m *checker.Monitor,
	document func(checker.Status) report.Document) (*Server, error) {
	fail := func(err error) (*Server, error) { return nil, fmt.Errorf("--socket %s: %w", path, err) }
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fail(errors.New("its directory does not exist: make it, or set RuntimeDirectory= in the unit"))
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	if !locked(lock) {
		lock.Close()
		return fail(ErrInUse)
	}
	s := &Server{lock: lock}
	if err = s.listen(path, mode); err == nil && mode&0o7 != 0 {
		err = s.listen(path+TrustedSuffix, mode&^0o7)
	}
	if err != nil {
		s.close()
		return fail(err)
	}
	s.says = checker.Shared(m, func(s checker.Status) answer {
		d := document(s)
		return answer{[]byte(head(d)), sync.OnceValue(func() []byte { return []byte(d.JSON() + "\n") })}
	})
	return s, nil
}

// clear removes the socket of a dead daemon.
func clear(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("something that is no socket is in the way")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w, or another program", ErrInUse)
	}
	return os.Remove(path)
}

// backlog is how many clients may wait to be accepted; the kernel may allow
// fewer.
const backlog = 4096

// lockWithin is how long a lock may be held by a child of the daemon before,
// which has it until its exec.
const lockWithin = 200 * time.Millisecond

// locked takes the lock.
func locked(f *os.File) bool {
	for until := time.Now().Add(lockWithin); ; time.Sleep(time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || time.Now().After(until) {
			return err == nil
		}
	}
}

func (s *Server) listen(path string, mode os.FileMode) error {
	if err := clear(path); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("bind", err)
	}
	s.queues = append(s.queues, queue{path, fd})
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

func (s *Server) close() {
	for _, q := range s.queues {
		os.Remove(q.path)
		unix.Close(q.fd)
	}
	s.lock.Close()
}

// Run answers until ctx is done; then it removes the socket.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var accepting sync.WaitGroup
	for _, q := range s.queues {
		accepting.Go(func() { cancel(s.accept(ctx, q.fd)) })
	}
	<-ctx.Done()
	for _, q := range s.queues { // which ends the accept; a close alone would not
		unix.Shutdown(q.fd, unix.SHUT_RDWR)
	}
	accepting.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// accept answers until ctx is done.
func (s *Server) accept(ctx context.Context, fd int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
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
		answer := s.says()
		if say(c, answer.head) {
			say(c, answer.document())
		}
		unix.Close(c)
	}
}

// say reports whether a client is still there.
func say(fd int, text []byte) bool {
	_, err := unix.SendmsgN(fd, text, nil, nil, unix.MSG_NOSIGNAL)
	return err == nil
}
