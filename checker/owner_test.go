package checker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/wire"
	"redis-is-master/e2e/lab"
)

// listenAs listens as another user, whom the kernel notes when the socket is
// made, and counts the connections on which something was said.
func listenAs(t *testing.T, uid int, address string) (said *atomic.Int32) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Setfsuid(uid)
	var l net.Listener
	err := lab.Wait("the port is free", func() (bool, error) {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil, nil
	})
	unix.Setfsuid(os.Getuid())
	lab.Check(t, err)
	said = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				said.Add(1)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return said
}

// TestPortOfAnother: when Redis is dead, another user of the host binds its port.
// He gets no password, on no connection.
func TestPortOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		lab.Missing(t, "listening as another user needs root")
	}
	server := lab.New(t, lab.Options{TCP: true, Password: "x"})
	r := &checker.Redis{Address: server.Addr(), Password: always("x")}
	defer r.Close()
	for range 2 { // the second makes it a daemon's
		_, err := probe(t, r, lab.Patience)
		lab.Check(t, err)
	}
	server.Kill()
	said := listenAs(t, 1, server.Addr())
	_, err := probe(t, r, lab.Patience)
	e, ok := errors.AsType[*checker.Error](err)
	const says = "user 1 listens there, but it was user 0"
	if !ok || e.Reason != checker.ReasonPermission || !strings.Contains(e.Error(), says) || e.Hint == "" {
		t.Errorf("%v; %+v", err, e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lab.Patience)
	defer cancel()
	if c, err := r.Connect(ctx); reason(err) != checker.ReasonPermission {
		t.Errorf("a connection for a subscription: %v, %v", c, err)
	}
	if said.Load() != 0 {
		t.Error("the password was sent")
	}
}

// TestOwner: who is pinned is wanted from the first connection on, by whatever
// network.
func TestOwner(t *testing.T) {
	server := lab.New(t, lab.Options{TCP: true, Password: "x"})
	us, another := uint32(os.Getuid()), uint32(os.Getuid()+1)
	wanted := map[*uint32]checker.Reason{&us: checker.OK, &another: checker.ReasonPermission, nil: checker.OK}
	localhost := "localhost:" + strconv.Itoa(server.Port)
	for _, at := range [][2]string{{"unix", server.Socket}, {"tcp", server.Addr()}, {"tcp", localhost}} {
		for owner, want := range wanted {
			r := &checker.Redis{Network: at[0], Address: at[1], Password: always("x"), Owner: owner}
			for range 2 {
				if _, err := probe(t, r, lab.Patience); reason(err) != want {
					t.Errorf("%s: %v, want %s", r.Address, err, want)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), lab.Patience)
			c, err := r.Connect(ctx)
			if reason(err) != want {
				t.Errorf("%s: a connection: %v, want %s", r.Address, err, want)
			} else if err == nil {
				c.Close()
			}
			cancel()
			r.Close()
		}
	}
}

// TestListeningOfDying: where the node was is known after a connection that was reset at once, as by a process that is
// being killed.
func TestListeningOfDying(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	lab.Check(t, err)
	defer l.Close()
	dial := func() (*wire.Socket, *net.TCPConn) {
		s, err := wire.Dial(t.Context(), "tcp", l.Addr().String(), time.Now().Add(lab.Patience))
		lab.Check(t, err)
		c, err := l.Accept()
		lab.Check(t, err)
		return s, c.(*net.TCPConn)
	}
	r := &checker.Redis{Address: l.Addr().String()}
	defer r.Close()
	s, c := dial()
	defer c.Close()
	r.Use(s)
	r.Close()
	s, c = dial()
	c.SetLinger(0)
	c.Close()
	lab.Check(t, lab.Wait("it is reset", func() (bool, error) {
		_, ok := s.Peer()
		return !ok, nil
	}))
	r.Use(s)
	if is, err := r.Listening(); err != nil || !is {
		t.Errorf("it listens: %v, %v", is, err)
	}
	l.Close()
	if is, err := r.Listening(); err != nil || is {
		t.Errorf("it listens no more: %v, %v", is, err)
	}
}
