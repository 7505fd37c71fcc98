// Package serve offers what a monitor knows to those who ask for it, and to
// the file of the node exporter. It is the only place with net/http and
// client_golang.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// patience bounds what a client may take to read an answer and hang up.
const patience = time.Second

// maxLingering bounds the clients that have their answer and do not hang up;
// further ones are cut off.
const maxLingering = 256

// A Lines answers every connection with what Answer returns, in one write for
// each part, and closes it. An answer fits into a socket's buffer, so no
// client can make another wait.
type Lines struct {
	Answer   func() iter.Seq[string]
	listener net.Listener
}

// Run answers until ctx is done.
func (l *Lines) Run(ctx context.Context, _ *checker.Monitor) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { l.listener.Close(); close(closed) })
	defer func() {
		if !stop() {
			<-closed // the lock, too
		}
	}()
	lingering := make(chan struct{}, maxLingering)
	for {
		c, err := l.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // no descriptor is free: it passes
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for part := range l.Answer() {
			if _, err := io.WriteString(c, part); err != nil {
				break
			}
			c.SetDeadline(time.Now().Add(patience))
		}
		// A close while something unread has come would reset the connection,
		// and HAProxy may send a word before it reads.
		if half, ok := c.(*net.TCPConn); ok && half.CloseWrite() == nil {
			select {
			case lingering <- struct{}{}:
				go func() {
					io.Copy(io.Discard, io.LimitReader(c, 4096))
					c.Close()
					<-lingering
				}()
				continue
			default:
			}
		}
		c.Close()
	}
}

// NewAgent listens on a TCP address as an HAProxy agent.
func NewAgent(address, downWord string, m *checker.Monitor) (*Lines, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--agent: %w", err)
	}
	return &Lines{listener: l, Answer: func() iter.Seq[string] {
		s, _ := m.Status()
		return slices.Values([]string{report.Agent(s.Verdict, downWord)})
	}}, nil
}

// Addr is where it listens.
func (l *Lines) Addr() net.Addr { return l.listener.Addr() }

// NewSocket listens on a unix socket. It answers with the head of the document
// and then all of it, in one line of JSON: see [report.ReadWire]. A socket that a dead daemon left is
// replaced, a live one's is not: it holds a lock beside it.
func NewSocket(path string, mode os.FileMode, document func() report.Document) (*Lines, error) {
	fail := func(err error) (*Lines, error) { return nil, fmt.Errorf("--socket %s: %w", path, err) }
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fail(errors.New("its directory does not exist: make it, or set RuntimeDirectory= in the unit"))
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return fail(errors.New("another daemon answers there"))
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
			return fail(errors.New("another program answers there"))
		}
		os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		if err = os.Chmod(path, mode); err != nil {
			l.Close()
		}
	}
	if err != nil {
		lock.Close()
		return fail(err)
	}
	return &Lines{listener: locked{l, lock}, Answer: func() iter.Seq[string] {
		return func(yield func(string) bool) {
			d := document()
			if yield(d.Head()) { // most clients go after it
				yield(d.JSON() + "\n")
			}
		}
	}}, nil
}

// locked holds its lock as long as it listens.
type locked struct {
	net.Listener
	lock *os.File
}

func (l locked) Close() error { return errors.Join(l.Listener.Close(), l.lock.Close()) }
