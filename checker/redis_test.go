package checker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func probe(t *testing.T, r *checker.Redis, timeout time.Duration) (checker.Observation, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return r.Probe(ctx)
}

// reason is that of an error, or OK.
func reason(err error) checker.Reason {
	if err == nil {
		return checker.OK
	}
	if e, ok := errors.AsType[*checker.Error](err); ok {
		return e.Reason
	}
	return "not an *Error: " + checker.Reason(err.Error())
}

func clientID(t *testing.T, r *lab.Redis) string {
	t.Helper()
	for line := range strings.SplitSeq(r.Must(t, "CLIENT", "LIST"), "\n") {
		if strings.Contains(line, "cmd=info") {
			return strings.TrimPrefix(strings.Fields(line)[0], "id=")
		}
	}
	t.Fatal("no client has asked for INFO")
	return ""
}

// TestKeptConnection goes through what a long-lived connection meets.
func TestKeptConnection(t *testing.T) {
	for name, o := range map[string]lab.Options{"unix": {}, "tcp": {TCP: true}, "password": {Password: "x"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := lab.New(t, o)
			dials := 0
			r := &checker.Redis{Network: "unix", Address: server.Socket}
			if o.TCP {
				r = &checker.Redis{Address: server.Addr()}
			}
			if o.Password != "" {
				r.Password = func(context.Context) (string, error) { dials++; return server.Password, nil }
			}
			defer r.Close()
			good := func(what string) {
				t.Helper()
				if _, err := probe(t, r, lab.Patience); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			good("first")
			id := clientID(t, server)
			good("again")
			if now := clientID(t, server); now != id {
				t.Errorf("client %s became %s: the connection was not kept", id, now)
			}
			server.Must(t, "CLIENT", "KILL", "TYPE", "normal")
			good("after CLIENT KILL")
			if now := clientID(t, server); now == id {
				t.Error("a killed connection was used")
			}

			// The reply of a server that was stopped must not answer the next question.
			lab.Check(t, server.Signal(syscall.SIGSTOP))
			if _, err := probe(t, r, 50*time.Millisecond); reason(err) != checker.ReasonTimeout {
				t.Errorf("stopped: %v", err)
			}
			lab.Check(t, server.Signal(syscall.SIGCONT))
			good("after SIGCONT")

			server.Kill()
			if _, err := probe(t, r, lab.Patience); reason(err) != checker.ReasonRefused {
				t.Errorf("killed: %v", err)
			}
			if o.Password != "" && dials != 4 {
				t.Errorf("the password was read %d times, want once per dial: 4", dials)
			}
		})
	}
}

// TestRotatedPassword: the password is read at every dial.
func TestRotatedPassword(t *testing.T) {
	server := lab.New(t, lab.Options{Password: "old"})
	current := "old"
	r := &checker.Redis{Network: "unix", Address: server.Socket, Password: func(context.Context) (string, error) { return current, nil }}
	defer r.Close()
	ask := func(want checker.Reason) {
		t.Helper()
		if _, err := probe(t, r, lab.Patience); reason(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ask(checker.OK)
	server.Must(t, "CONFIG", "SET", "requirepass", "new")
	server.Password = "new"
	ask(checker.OK) // Redis lets the connection live
	server.Must(t, "CLIENT", "KILL", "TYPE", "normal")
	ask(checker.ReasonAuth)
	current = "new"
	ask(checker.OK)
}

// TestLateReply is a server that answers a question when the next one comes:
// as a master, when the node has become a replica.
func TestLateReply(t *testing.T) {
	const reply = "$28\r\n# Replication\r\nrole:master\r\n\r\n$26\r\n# Persistence\r\nloading:0\r\n\r\n$33\r\n# Server\r\nredis_mode:standalone\r\n\r\n"
	l, err := net.Listen("unix", lab.TempDir(t)+"/s")
	lab.Check(t, err)
	defer l.Close()
	var conns atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			first := conns.Add(1) == 1
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				c.Read(buf)
				c.Write([]byte(reply))
				if first {
					c.Write([]byte(reply)) // unasked
				}
				c.Read(buf)
			}()
		}
	}()
	r := &checker.Redis{Network: "unix", Address: l.Addr().String()}
	defer r.Close()
	// Whether the surplus is seen at once or only by the second probe, it
	// must never answer one.
	for i := range 2 {
		if _, err := probe(t, r, lab.Patience); err != nil && reason(err) != checker.ReasonProtocol {
			t.Errorf("probe %d: %v", i, err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections, want the first to be given up", n)
	}
}

// TestManyReconnects leaves nothing behind.
func TestManyReconnects(t *testing.T) {
	server := lab.New(t, lab.Options{Password: "x"})
	r := &checker.Redis{Network: "unix", Address: server.Socket, Password: func(context.Context) (string, error) { return "x", nil }}
	defer r.Close()
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		lab.Check(t, err)
		return len(entries)
	}
	before := 0
	for i := range 500 {
		if _, err := probe(t, r, lab.Patience); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = descriptors()
		}
		r.Close()
	}
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}

func TestUserNeedsPassword(t *testing.T) {
	for _, password := range []func(context.Context) (string, error){nil, func(context.Context) (string, error) { return "", nil }} {
		r := &checker.Redis{Address: "127.0.0.1:1", Username: "u", Password: password}
		_, err := probe(t, r, lab.Patience)
		if e, ok := errors.AsType[*checker.Error](err); !ok || e.Reason != checker.ReasonAuth || e.Stage != checker.StagePassword {
			t.Errorf("%v", err)
		}
	}
}

// TestDefaultTimeout: a context without a deadline does not wait for ever.
func TestDefaultTimeout(t *testing.T) {
	server := lab.New(t, lab.Options{})
	lab.Check(t, server.Signal(syscall.SIGSTOP))
	r := &checker.Redis{Network: "unix", Address: server.Socket}
	start := time.Now()
	_, err := r.Probe(context.Background())
	if took := time.Since(start); reason(err) != checker.ReasonTimeout || took < checker.DefaultTimeout || took > checker.DefaultTimeout+5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}
