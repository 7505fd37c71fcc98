package serve

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
)

// TestHold: while the listeners are held, and after they were released or handed over, nobody is refused and everybody
// gets an answer.
func TestHold(t *testing.T) {
	m := &checker.Monitor{}
	plain := func() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }
	h, err := NewHTTP("127.0.0.1:0", "", m, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAgent("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run := func(h *HTTP, a *Agent) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- h.Run(ctx) }()
		go func() { ended <- a.Run(ctx, m) }()
		return func() {
			cancel()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
	}
	url, agent := "http://"+h.Addr().String()+"/master", a.Addr().String()
	ask := func(c *http.Client) {
		r, err := c.Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("/master: %s", r.Status)
		}
	}
	var asked atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for range 3 {
		go func() {
			defer func() { ended <- struct{}{} }()
			for c := plain(); ctx.Err() == nil; asked.Add(1) {
				ask(c)
				conn, err := net.Dial("tcp", agent)
				if err != nil {
					t.Error(err)
					return
				}
				if line, err := io.ReadAll(conn); err != nil || string(line) != "down # starting no check is done yet\n" {
					t.Errorf("agent: %q, %v", line, err)
				}
				conn.Close()
			}
		}()
	}
	stop := run(h, a)
	for i := range 10 {
		files := handover.Files{}
		openHTTP, err := h.Hold(files)
		if err != nil {
			t.Fatal(err)
		}
		openAgent, err := a.Hold(files)
		if err != nil {
			t.Fatal(err)
		}
		held := asked.Load()
		time.Sleep(20 * time.Millisecond) // in which nothing may happen
		if n := asked.Load(); n > held+3 {
			t.Errorf("%d clients were answered by a server that is held", n-held)
		}
		if i%2 == 0 { // the other program could not be run
			openHTTP()
			openAgent()
			continue
		}
		copies := handover.Files{}
		for name, fd := range files {
			copies[name] = dup(t, fd)
		}
		stop()
		if h, err = ResumeHTTP(copies, "", m, nil, nil); err != nil {
			t.Fatal(err)
		}
		if a, err = ResumeAgent(copies); err != nil {
			t.Fatal(err)
		}
		stop = run(h, a)
	}
	cancel()
	for range 3 {
		<-ended
	}
	stop()
	if _, err := ResumeAgent(handover.Files{}); err == nil {
		t.Error("an agent without a socket")
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	fd, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return fd
}
