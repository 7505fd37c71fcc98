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
	"redis-is-master/checker/handover"
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

	answering sync.RWMutex // read-locked from the accept of a connection to its end
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
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}
	if !locked(lock) {
		lock.Close()
		return fail(ErrInUse)
	}
	s := &Server{lock: lock, says: says(m, document)}
	if err = s.listen(path, mode); err == nil && mode&0o7 != 0 {
		err = s.listen(path+TrustedSuffix, mode&^0o7)
	}
	if err != nil {
		s.close()
		return fail(err)
	}
	return s, nil
}

func says(m *checker.Monitor, document func(checker.Status) report.Document) func() answer {
	return checker.Shared(m, func(s checker.Status) answer {
		d := document(s)
		return answer{[]byte(head(d)), sync.OnceValue(func() []byte { return []byte(d.JSON() + "\n") })}
	})
}

// The names of what [Server.Hold] hands over.
const (
	socketFile  = "socket"
	trustedFile = "trusted-socket"
	lockFile    = "socket-lock"
)

// Hold adds to files what [Resume] needs, and accepts nobody until release is called: who connects waits. It returns
// when everybody who was accepted has the answer.
func (s *Server) Hold(files handover.Files) (release func(), err error) {
	s.answering.Lock()
	for i, name := range []string{socketFile, trustedFile}[:len(s.queues)] {
		files[name] = s.queues[i].fd
	}
	if err := files.Add(lockFile, s.lock); err != nil {
		s.answering.Unlock()
		return nil, err
	}
	return s.answering.Unlock, nil
}

// Resume is [NewServer] with what another Server has handed over. After an error all of it is closed.
func Resume(path string, files handover.Files, m *checker.Monitor,
	document func(checker.Status) report.Document) (*Server, error) {
	lock, err := files.TakeFile(lockFile)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, says: says(m, document)}
	for i, name := range []string{socketFile, trustedFile} {
		if _, ok := files[name]; !ok && i > 0 {
			break
		}
		q := queue{path: []string{path, path + TrustedSuffix}[i]}
		if q.fd, err = files.Take(name); err != nil {
			break
		}
		s.queues = append(s.queues, q)
		if err = listens(q); err != nil {
			break
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// listens refuses what is not a socket that listens at the path.
func listens(q queue) error {
	name, err := unix.Getsockname(q.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	listening, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if at, ok := name.(*unix.SockaddrUnix); err != nil || listening == 0 || !ok || at.Name != q.path {
		return errors.New("the socket is another one")
	}
	return unix.SetNonblock(q.fd, true)
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
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
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
		// Not a blocking accept: see Hold.
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if ctx.Err() != nil {
			return nil
		}
		switch err := s.acceptOne(fd); err {
		case nil, unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		case unix.EINVAL, unix.EBADF:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the unix socket: %w", err)
		default: // no descriptor is free: it passes
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// acceptOne answers one client, if one waits.
func (s *Server) acceptOne(fd int) error {
	s.answering.RLock()
	defer s.answering.RUnlock()
	c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	answer := s.says()
	if say(c, answer.head) {
		say(c, answer.document())
	}
	return nil
}

// say reports whether a client is still there.
func say(fd int, text []byte) bool {
	_, err := unix.SendmsgN(fd, text, nil, nil, unix.MSG_NOSIGNAL)
	return err == nil
}
