package checker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
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
			var reads atomic.Int32
			r := &checker.Redis{Network: "unix", Address: server.Socket}
			if o.TCP {
				r = &checker.Redis{Address: server.Addr()}
			}
			if o.Password != "" {
				r.Password = func(context.Context) (string, error) { reads.Add(1); return server.Password, nil }
			}
			defer r.Close()
			connection := 0
			good := func(what string, isNew, redialled bool) {
				t.Helper()
				o, err := probe(t, r, lab.Patience)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if o.Connection > connection != isNew || o.Redialled != redialled {
					t.Errorf("%s: connection %d after %d, redialled: %v", what, o.Connection, connection, o.Redialled)
				}
				connection = o.Connection
			}
			good("first", true, false)
			id := clientID(t, server)
			good("again", false, false)
			if now := clientID(t, server); now != id {
				t.Errorf("client %s became %s: the connection was not kept", id, now)
			}
			server.Must(t, "CLIENT", "KILL", "TYPE", "normal")
			good("after CLIENT KILL", true, false)
			if now := clientID(t, server); now == id {
				t.Error("a killed connection was used")
			}

			// The reply of a server that was stopped must not answer the next question.
			lab.Check(t, server.Signal(syscall.SIGSTOP))
			if _, err := probe(t, r, 50*time.Millisecond); reason(err) != checker.ReasonTimeout {
				t.Errorf("stopped: %v", err)
			}
			lab.Check(t, server.Signal(syscall.SIGCONT))
			good("after SIGCONT", true, true)
			good("once more", false, false)

			server.Kill()
			if _, err := probe(t, r, lab.Patience); reason(err) != checker.ReasonRefused {
				t.Errorf("killed: %v", err)
			}
			if o.Password != "" && reads.Load() < 4 {
				t.Errorf("the password was read %d times, want once per dial: 4", reads.Load())
			}
		})
	}
}

// always is a password that does not change.
func always(password string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return password, nil }
}

// TestRotatedPassword: a password that was changed on the server alone shows
// while the connection lives, and not when a failover closes it.
func TestRotatedPassword(t *testing.T) {
	server := lab.New(t, lab.Options{Password: "old"})
	server.Must(t, "ACL", "SETUSER", "u", "on", ">old", "resetchannels", "-@all", "+info")
	rotate := map[string]func(old, new string){
		"": func(_, new string) {
			server.Must(t, "CONFIG", "SET", "requirepass", new)
			server.Password = new
		},
		"u": func(old, new string) { server.Must(t, "ACL", "SETUSER", "u", "<"+old, ">"+new) },
	}
	for user, change := range rotate {
		var file atomic.Value
		file.Store("old")
		r := &checker.Redis{Network: "unix", Address: server.Socket, Username: user, PasswordHint: "see the file",
			Password: func(context.Context) (string, error) {
				if file.Load() == "" {
					return "", errors.New("gone")
				}
				return file.Load().(string), nil
			}}
		defer r.Close()
		connection := 0
		until := func(what string, stale ...string) {
			t.Helper()
			lab.Check(t, lab.Wait(what, func() (bool, error) {
				o, err := probe(t, r, lab.Patience)
				if err != nil || connection != 0 && o.Connection != connection {
					return false, fmt.Errorf(
						"%q, %s: connection %d became %d: %w",
						user,
						what,
						connection,
						o.Connection,
						err,
					)
				}
				connection = o.Connection
				if len(stale) == 0 {
					return o.StaleCredentials == nil, nil
				}
				e, ok := errors.AsType[*checker.Error](o.StaleCredentials)
				return ok && e.Reason == checker.ReasonAuth && strings.Contains(e.Error()+e.Hint, stale[0]), nil
			}))
		}
		until("the first password is accepted")
		change("old", "new")
		r.AgePassword()
		until("the forgotten file shows", "see the file")
		file.Store("new")
		until("the right file is taken")
		file.Store("")
		until("a file that is gone shows", "gone")
		file.Store("new")
		until("the file is back")
		file.Store(" \"new\"")
		until("a blank shows", "begins or ends with a blank")
		file.Store("\"new\"")
		until("quotes show", "stands in quotes")
		file.Store("\ufeffnew")
		until("a byte-order mark shows", "byte-order mark")
		if refused := refusals(t, server); refused != 4 {
			t.Errorf("%d refusals, want one for each wrong password", refused)
		}
		r.AgePassword()
		lab.Check(t, lab.Wait("the wrong one is tried again", func() (bool, error) {
			_, err := probe(t, r, lab.Patience)
			return refusals(t, server) == 5, err
		}))
		server.Must(t, "CLIENT", "KILL", "TYPE", "normal")
		if _, err := probe(t, r, lab.Patience); reason(err) != checker.ReasonAuth {
			t.Errorf("after the failover: %v", err)
		}
		server.Must(t, "ACL", "LOG", "RESET")
		file.Store("new")
		connection = 0
		until("a new connection is made")
	}

	// A user that is switched off keeps its connection; one that is gone does not.
	r := &checker.Redis{Network: "unix", Address: server.Socket, Username: "u", Password: always("new")}
	defer r.Close()
	if _, err := probe(t, r, lab.Patience); err != nil {
		t.Fatal(err)
	}
	server.Must(t, "ACL", "SETUSER", "u", "off")
	if _, err := probe(t, r, lab.Patience); err != nil {
		t.Errorf("switched off: %v", err)
	}
	server.Must(t, "ACL", "DELUSER", "u")
	if _, err := probe(t, r, lab.Patience); reason(err) != checker.ReasonAuth {
		t.Errorf("deleted: %v", err)
	}
}

// refusals is how many passwords a server has refused.
func refusals(t *testing.T, r *lab.Redis) (n int) {
	t.Helper()
	log := strings.Split(r.Must(t, "ACL", "LOG"), "\n")
	for i, line := range log {
		if line == "count" {
			count, err := strconv.Atoi(log[i+1])
			lab.Check(t, err)
			n += count
		}
	}
	return n
}

// TestPasswordOfASentinel: the hint says that it is a Sentinel, whether a
// password was given or not.
func TestPasswordOfASentinel(t *testing.T) {
	for _, sentinel := range []bool{true, false} {
		server := lab.New(t, lab.Options{Password: "x", Sentinel: sentinel})
		for _, password := range []func(context.Context) (string, error){nil, always("wrong")} {
			r := &checker.Redis{Network: "unix", Address: server.Socket, Password: password}
			_, err := probe(t, r, lab.Patience)
			e, ok := errors.AsType[*checker.Error](err)
			if !ok || e.Reason != checker.ReasonAuth || strings.Contains(e.Hint, "is a Sentinel") != sentinel {
				t.Errorf("a Sentinel: %t: %v; %+v", sentinel, err, e)
			}
		}
	}
}

const wholeReply = "$28\r\n# Replication\r\nrole:master\r\n\r\n$26\r\n# Persistence\r\nloading:0\r\n\r\n$33\r\n" +
	"# Server\r\nredis_mode:standalone\r\n\r\n"

// trusting is TLS with any server.
func trusting(context.Context) (*tls.Config, error) {
	return &tls.Config{InsecureSkipVerify: true}, nil
}

// TestLateReply is a server that says more than it was asked, after the reply
// or right behind it: a master's words, which must not answer the next
// question to what is a replica by then.
func TestLateReply(t *testing.T) {
	dir := t.TempDir()
	lab.Check(t, lab.WriteCerts(dir))
	cert, err := tls.LoadX509KeyPair(dir+"/server.pem", dir+"/server.key")
	lab.Check(t, err)
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": {Certificates: []tls.Certificate{cert}}} {
		for _, behind := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, right behind %t", name, behind), func(t *testing.T) {
				first, surplus := make(chan struct{}), make(chan struct{})
				address := lab.Fake(t, config, func(n int, c net.Conn) {
					buf := make([]byte, 4096)
					c.Read(buf)
					if n > 1 {
						io.WriteString(c, strings.Replace(wholeReply, "role:master", "role:slave\n", 1))
						c.Read(buf)
						return
					}
					io.WriteString(c, wholeReply)
					if !behind {
						<-first
					}
					io.WriteString(c, wholeReply)
					close(surplus)
					c.Read(buf)
				})
				r := &checker.Redis{Address: address}
				if config != nil {
					r.TLS = trusting
				}
				defer r.Close()
				probe(t, r, lab.Patience)
				close(first)
				<-surplus
				// What has been sent is in our receive buffer, for it is loopback.
				if o, err := probe(t, r, lab.Patience); err == nil && o.Role == checker.RoleMaster {
					t.Errorf("the surplus of the first connection was believed: %+v", o)
				}
			})
		}
	}
}

// TestHangUpInFlight: a server that hangs up instead of an answer is asked
// once more, on a new connection, and then no more.
func TestHangUpInFlight(t *testing.T) {
	var conns atomic.Int32
	address := lab.Fake(t, nil, func(n int, c net.Conn) {
		conns.Add(1)
		buf := make([]byte, 4096)
		if c.Read(buf); n != 3 {
			io.WriteString(c, wholeReply)
			c.Read(buf)
		}
	})
	r := &checker.Redis{Address: address}
	defer r.Close()
	for i := range 2 {
		if _, err := probe(t, r, lab.Patience); err != nil {
			t.Errorf("probe %d: %v", i, err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	if _, err := probe(t, r, lab.Patience); reason(err) != checker.ReasonProtocol || conns.Load() != 3 {
		t.Errorf("%v after %d connections", err, conns.Load())
	}
}

// TestSocketOfAnother: the path of a unix socket leads to another server now,
// while the first lives on.
func TestSocketOfAnother(t *testing.T) {
	first, second := lab.New(t, lab.Options{}), lab.New(t, lab.Options{TCP: true})
	second.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(second.Port)) // a replica, of whatever
	r := &checker.Redis{Network: "unix", Address: first.Socket}
	defer r.Close()
	if o, err := probe(t, r, lab.Patience); err != nil || o.Role != checker.RoleMaster {
		t.Fatalf("%+v, %v", o, err)
	}
	lab.Check(t, os.Rename(second.Socket, first.Socket))
	if o, err := probe(t, r, lab.Patience); err != nil || o.Role != checker.RoleReplica {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestFailuresLeakNothing: whatever ends a probe, its descriptor is closed.
func TestFailuresLeakNothing(t *testing.T) {
	hangsUp := lab.Fake(t, nil, func(_ int, c net.Conn) { c.Read(make([]byte, 1)) })
	dead, err := lab.FreePort()
	lab.Check(t, err)
	nodes := []*checker.Redis{
		{Address: hangsUp},
		{Address: hangsUp, TLS: trusting},
		{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(dead))},
		{Network: "unix", Address: "/nonexistent"},
		{Network: "unix", Address: "/etc/passwd"},
	}
	before := 0
	for i := range 50 {
		for _, r := range nodes {
			if _, err := probe(t, r, lab.Patience); err == nil {
				t.Fatalf("%s answered", r.Address)
			}
		}
		if i == 0 {
			before = descriptors(t)
		}
	}
	// Those of the fake's side close a moment later.
	lab.Check(
		t,
		lab.Wait("all descriptors are closed", func() (bool, error) { return descriptors(t) <= before, nil }),
	)
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	lab.Check(t, err)
	return len(entries)
}

// TestManyReconnects leaves nothing behind.
func TestManyReconnects(t *testing.T) {
	server := lab.New(t, lab.Options{Password: "x"})
	r := &checker.Redis{
		Network:  "unix",
		Address:  server.Socket,
		Password: func(context.Context) (string, error) { return "x", nil },
	}
	defer r.Close()
	before := 0
	for i := range 500 {
		if _, err := probe(t, r, lab.Patience); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = descriptors(t)
		}
		r.Close()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}

func TestUserNeedsPassword(t *testing.T) {
	for _, password := range []func(context.Context) (string, error){
		nil, func(context.Context) (string, error) { return "", nil },
	} {
		r := &checker.Redis{Address: "127.0.0.1:1", Username: "u", Password: password}
		_, err := probe(t, r, lab.Patience)
		if e, ok := errors.AsType[*checker.Error](err); !ok || e.Reason != checker.ReasonAuth ||
			e.Stage != checker.StagePassword {
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
	if took := time.Since(start); reason(err) != checker.ReasonTimeout || took < checker.DefaultTimeout ||
		took > checker.DefaultTimeout+5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}
