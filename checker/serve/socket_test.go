package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// atOnce bounds an answer that nothing may delay. It is no measure: a shared
// machine can be slow.
const atOnce = 5 * time.Second

// An outcome is what a probe returns.
type outcome struct {
	o   checker.Observation
	err error
}

var (
	master  = outcome{o: checker.Observation{Role: checker.RoleMaster, WireRole: "master", Version: "7.0.15", RunID: "abc", Uptime: time.Minute, Replicas: 2, Offset: 14, LastIO: -1}}
	replica = outcome{o: checker.Observation{Role: checker.RoleReplica, WireRole: "slave", MasterAddr: "10.0.0.2:6379", LinkUp: true, LastIO: 2 * time.Second, Offset: 14}}
)

func failure(r checker.Reason) outcome {
	return outcome{err: &checker.Error{Reason: r, Stage: checker.StageReply, Address: "127.0.0.1:6379", Err: errors.New("cause"), Hint: "do this"}}
}

// hostile is a replica that says of itself what could end a line.
func hostile() outcome {
	x := replica
	x.o.MasterAddr = "a\r\nup ready 100%\nHTTP/1.1 200 OK\r\n\r\n\x1b[2J\u2028" + strings.Repeat("z", 1000)
	return x
}

// A node is a monitor of a fake one. It checks when it is told to.
type node struct {
	*checker.Monitor
	next, probed, done atomic.Pointer[outcome]
	counted            func(checker.Check) // set before watch
}

func newNode(first outcome) *node {
	n := &node{Monitor: &checker.Monitor{Interval: time.Hour, MaxAge: 10 * time.Hour, Fall: 1}}
	n.next.Store(&first)
	n.Probe = func(context.Context) (checker.Observation, error) {
		n.probed.Store(n.next.Load())
		return n.probed.Load().o, n.probed.Load().err
	}
	n.Checked = func(c checker.Check) {
		if n.counted != nil {
			n.counted(c)
		}
		n.done.Store(n.probed.Load())
	}
	return n
}

// watch runs the monitor until the end of the test.
func (n *node) watch(t *testing.T) {
	t.Helper()
	until(t, func(ctx context.Context) error { return n.Run(ctx) })
	n.becomes(t, *n.next.Load())
}

// becomes changes the node, and returns when the monitor says so.
func (n *node) becomes(t *testing.T, x outcome) {
	t.Helper()
	n.next.Store(&x)
	n.Wake()
	lab.Check(t, lab.Wait("the node is checked", func() (bool, error) { return n.done.Load() == &x, nil }))
}

func (n *node) document() report.Document {
	s, _ := n.Status()
	return report.FromStatus("127.0.0.1:6379", "test", n.Policy, s)
}

// watched is a node under watch.
func watched(t *testing.T, first outcome) *node {
	t.Helper()
	n := newNode(first)
	n.watch(t)
	return n
}

// stale is a monitor that has never run and is out of its time.
func stale(t *testing.T) *node {
	t.Helper()
	n := newNode(master)
	n.MaxAge = time.Nanosecond
	n.Status() // starts its clock
	return n
}

// stopping is a monitor that was told to stop while all was well.
func stopping(t *testing.T) *node {
	t.Helper()
	n := watched(t, master)
	n.Stop()
	return n
}

// until runs f until the end of the test, or until the returned function is
// called; f must end without an error then.
func until(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(lab.Patience):
			t.Error("it does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// socket serves a node on a unix socket of its own.
func socket(t *testing.T, n *node) string {
	t.Helper()
	path := filepath.Join(lab.TempDir(t), "check.sock")
	l, err := serve.NewSocket(path, 0o666, n.document)
	lab.Check(t, err)
	until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
	return path
}

// agent serves a node as an HAProxy agent.
func agent(t *testing.T, n *node, word string) string {
	t.Helper()
	l, err := serve.NewAgent("127.0.0.1:0", word)
	lab.Check(t, err)
	until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
	return l.Addr().String()
}

var names atomic.Int64

// dial has a name on a unix socket: that asks for the document, too.
func dial(network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: atOnce}
	if network == "unix" {
		d.LocalAddr = &net.UnixAddr{Net: network, Name: fmt.Sprintf("@serve-test-%d-%d", os.Getpid(), names.Add(1))}
	}
	return d.Dial(network, address)
}

// ask connects, says something first if it is not empty, and returns what
// comes until the end. Whatever is not a clean end is an error.
func ask(network, address, say string) (string, error) {
	c, err := dial(network, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(atOnce))
	if say != "" { // what it says of itself counts even if it hung up by then
		io.WriteString(c, say)
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func answer(t *testing.T, network, address string) string {
	t.Helper()
	got, err := ask(network, address, "")
	lab.Check(t, err)
	return got
}

// whole reads what a socket answers: an agent's line first, the document in
// one line last.
func whole(got string) (d report.Document, err error) {
	lines := strings.SplitAfter(got, "\n")
	if n := len(lines); n < 3 || lines[n-1] != "" {
		return d, fmt.Errorf("no whole lines: %q", got)
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-2]), &d); err != nil {
		return d, fmt.Errorf("%w in %q", err, got)
	}
	if want := report.Agent(checker.Verdict{Reason: d.Reason, Detail: d.Detail}, ""); lines[0] != want || d.Schema != report.Schema {
		return d, fmt.Errorf("want %q first in %q", want, got)
	}
	return d, nil
}

func isWhole(t *testing.T, got string) report.Document {
	t.Helper()
	d, err := whole(got)
	lab.Check(t, err)
	return d
}

var states = []struct {
	name   string
	node   func(*testing.T) *node
	reason checker.Reason
	agent  string // the begin of the agent's line
}{
	{"a master", func(t *testing.T) *node { return watched(t, master) }, checker.OK, "up ready 100%\n"},
	{"a replica", func(t *testing.T) *node { return watched(t, replica) }, checker.ReasonRole, "down # role role:slave, not a master, follows 10.0.0.2:6379\n"},
	{"an error", func(t *testing.T) *node { return watched(t, failure(checker.ReasonTimeout)) }, checker.ReasonTimeout, "down # timeout reply: cause\n"},
	{"a hostile node", func(t *testing.T) *node { return watched(t, hostile()) }, checker.ReasonRole, "down # role role:slave, not a master, follows a??up ready 100%?HTTP"},
	{"no check yet", func(t *testing.T) *node { return newNode(master) }, checker.ReasonStarting, "down # starting "},
	{"never checked", stale, checker.ReasonStale, "down # stale "},
	{"stopping", stopping, checker.ReasonStopping, "down # stopping "},
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, tt := range states {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := tt.node(t)
			got := answer(t, "unix", socket(t, n))
			if d := isWhole(t, got); d.Reason != tt.reason || d.Answer != tt.reason.Answer() || d.Daemon == nil || !strings.HasPrefix(got, tt.agent) {
				t.Errorf("%s", got)
			}
			got = answer(t, "tcp", agent(t, n, "down"))
			if !strings.HasPrefix(got, tt.agent) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") || len(got) > 201 {
				t.Errorf("the agent: %q", got)
			}
			drain := answer(t, "tcp", agent(t, n, "drain"))
			if want := strings.Replace(tt.agent, "down", "drain up", 1); !strings.HasPrefix(drain, want) {
				t.Errorf("drain: %q", drain)
			}
		})
	}
}

// TestGoesStale: a yes ends by its age alone, with a poller that hangs.
func TestGoesStale(t *testing.T) {
	t.Parallel()
	n := newNode(master)
	n.MaxAge = 50 * time.Millisecond
	hang := make(chan struct{})
	probe := n.Probe
	n.Probe = func(ctx context.Context) (checker.Observation, error) {
		if n.probed.Load() != nil {
			<-hang
		}
		return probe(ctx)
	}
	n.Interval = time.Millisecond
	until(t, func(ctx context.Context) error { return n.Run(ctx) })
	t.Cleanup(func() { close(hang) }) // before the above
	address, path := agent(t, n, "down"), socket(t, n)
	for ask, network := range map[string]string{address: "tcp", path: "unix"} {
		lab.Check(t, lab.Wait("it is stale", func() (bool, error) {
			return strings.HasPrefix(answer(t, network, ask), "down # stale "), nil
		}))
		if got := answer(t, network, ask); !strings.HasPrefix(got, "down # stale ") {
			t.Errorf("young again: %s", got)
		}
	}
}

// TestFollows: each answer is that of its moment.
func TestFollows(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	path, address := socket(t, n), agent(t, n, "down")
	for _, x := range []outcome{master, replica, failure(checker.ReasonAuth), master} {
		n.becomes(t, x)
		s, _ := n.Status()
		if d := isWhole(t, answer(t, "unix", path)); d.Reason != s.Verdict.Reason || d.Detail != s.Verdict.Detail {
			t.Errorf("%+v", d)
		}
		if got := answer(t, "tcp", address); got != report.Agent(s.Verdict, "down") {
			t.Errorf("%q", got)
		}
	}
}

func TestTwoSockets(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	path := socket(t, n)
	for range 3 {
		l, err := serve.NewSocket(path, 0o666, n.document)
		if err == nil || l != nil || !strings.Contains(err.Error(), "another daemon") || !strings.Contains(err.Error(), path) {
			t.Fatalf("the second: %v", err)
		}
		isWhole(t, answer(t, "unix", path))
	}
}

// leave leaves a socket behind, as a daemon does that was killed.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	lab.Check(t, err)
	l.SetUnlinkOnClose(false)
	lab.Check(t, l.Close())
}

func TestInTheWay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(t *testing.T, path string)
		want   string // in the error; none if empty
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a stale socket", leave, ""},
		{"a stale socket and a lock", func(t *testing.T, p string) {
			leave(t, p)
			lab.Check(t, os.WriteFile(p+".lock", nil, 0o600))
		}, ""},
		{"a file", func(t *testing.T, p string) { lab.Check(t, os.WriteFile(p, []byte("precious"), 0o600)) }, "no socket"},
		{"a directory", func(t *testing.T, p string) { lab.Check(t, os.Mkdir(p, 0o700)) }, "no socket"},
		{"a link to a stale socket", func(t *testing.T, p string) {
			leave(t, p+".other")
			lab.Check(t, os.Symlink(p+".other", p))
		}, "no socket"},
		{"a missing directory", func(t *testing.T, p string) { lab.Check(t, os.Remove(filepath.Dir(p))) }, "directory does not exist"},
		{"a file for a directory", func(t *testing.T, p string) {
			lab.Check(t, os.Remove(filepath.Dir(p)))
			lab.Check(t, os.WriteFile(filepath.Dir(p), nil, 0o600))
		}, "directory does not exist"},
	}
	n := watched(t, master)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(lab.TempDir(t), "check.sock")
			tt.before(t, path)
			info, before := os.Lstat(path)
			l, err := serve.NewSocket(path, 0o666, n.document)
			if tt.want == "" {
				lab.Check(t, err)
				until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
				isWhole(t, answer(t, "unix", path))
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v", err)
			}
			if after, err := os.Lstat(path); before == nil && (err != nil || after.Mode() != info.Mode() || after.Size() != info.Size()) {
				t.Errorf("what was in the way is now %v, %v", after, err)
			}
			// The lock was let go: the next one gets a chance when it is mended.
			os.Remove(path)
			os.Mkdir(filepath.Dir(path), 0o700)
			if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
				return
			}
			l, err = serve.NewSocket(path, 0o666, n.document)
			lab.Check(t, err)
			until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
		})
	}
}

// TestLiveSocketOfAnother: the socket of a program that knows no lock, such as
// redis-server, given by mistake for --unix-socket, is live too.
func TestLiveSocketOfAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(lab.TempDir(t), "redis.sock")
	other, err := net.Listen("unix", path)
	lab.Check(t, err)
	defer other.Close()
	n := newNode(master)
	l, err := serve.NewSocket(path, 0o666, n.document)
	if err == nil {
		t.Error("a live socket was replaced")
		until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
		return
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the other's socket: %v", err)
	}
	c.Close()
}

func TestSocketMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o666, 0o660, 0o600, 0o777} {
		path := filepath.Join(lab.TempDir(t), "check.sock")
		n := newNode(master)
		l, err := serve.NewSocket(path, mode, n.document)
		lab.Check(t, err)
		until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
		info, err := os.Stat(path)
		lab.Check(t, err)
		if info.Mode() != mode|os.ModeSocket {
			t.Errorf("mode %v, want %v", info.Mode(), mode)
		}
	}
}

// TestSocketEnd: when Run has returned the path is free for the next daemon,
// not a moment later.
func TestSocketEnd(t *testing.T) {
	t.Parallel()
	n := newNode(master)
	path := filepath.Join(lab.TempDir(t), "check.sock")
	for i := range 200 {
		l, err := serve.NewSocket(path, 0o666, n.document)
		if err != nil {
			t.Fatalf("opened again, for the %d. time: %v", i, err)
		}
		until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the socket is still there: %v", err)
		}
	}
}

// TestHalfOpen: clients that take their answer and stay, or do not even take
// it, delay no one. There are so many that they would for longer than atOnce,
// if each had to be waited for once the places for those who stay are taken.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	for network, address := range map[string]string{"unix": socket(t, n), "tcp": agent(t, n, "down")} {
		for range 2000 {
			c, err := net.DialTimeout(network, address, atOnce)
			lab.Check(t, err)
			defer c.Close()
		}
		begin := time.Now()
		for _, say := range []string{"", "hello\n"} {
			if got, err := ask(network, address, say); !strings.HasPrefix(got, "up ready 100%\n") || say == "" && err != nil {
				t.Errorf("%s, after %q: %q, %v", network, say, got, err)
			}
		}
		t.Logf("%s: behind 2000 clients two answers took %v", network, time.Since(begin))
	}
}

// TestSaysFirst: agent-send of HAProxy, and clients that take this for another
// service. A reset would lose the answer.
func TestSaysFirst(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	path, address := socket(t, n), agent(t, n, "down")
	for _, say := range []string{"\n", "node1 6379\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("x", 4000)} {
		for range 20 {
			got, err := ask("tcp", address, say)
			if err != nil || got != "up ready 100%\n" {
				t.Errorf("agent, after %d bytes: %q, %v", len(say), got, err)
			}
		}
		// A unix socket keeps what was written before a reset.
		for range 20 {
			c, err := dial("unix", path)
			lab.Check(t, err)
			c.SetDeadline(time.Now().Add(atOnce))
			io.WriteString(c, say) // it may be closed already
			b, err := io.ReadAll(c)
			c.Close()
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			isWhole(t, string(b))
		}
	}
}

// TestManyAtOnce: answers are whole while the node changes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	path, address := socket(t, n), agent(t, n, "maint")
	flips := until(t, func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			x := []outcome{master, replica, failure(checker.ReasonTimeout)}[i%3]
			n.next.Store(&x)
			n.Wake()
		}
		return nil
	})
	errs := make(chan error, 16)
	for i := range cap(errs) {
		go func() {
			for range 100 {
				var got string
				var err error
				if i%2 == 0 {
					if got, err = ask("unix", path, ""); err == nil {
						_, err = whole(got)
					}
				} else if got, err = ask("tcp", address, ""); err == nil && got != "up ready 100%\n" && !strings.HasPrefix(got, "maint # ") {
					err = fmt.Errorf("the agent: %q", got)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	flips()
}

// TestAgentAddress: what cannot be listened on is an error that names the
// flag.
func TestAgentAddress(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	taken := agent(t, n, "down")
	for _, address := range []string{taken, "127.0.0.1:x", "256.0.0.1:1"} {
		if _, err := serve.NewAgent(address, "down"); err == nil || !strings.Contains(err.Error(), "--agent") {
			t.Errorf("agent on %s: %v", address, err)
		}
		if _, err := serve.NewHTTP(address, nil, n.document); err == nil || !strings.Contains(err.Error(), "--http") {
			t.Errorf("http on %s: %v", address, err)
		}
	}
	// One line, so that a reader of lines needs no end of the connection.
	c, err := net.Dial("tcp", taken)
	lab.Check(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(atOnce))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "up ready 100%\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// TestHead: a client without a name gets what an exit code needs, and no more.
func TestHead(t *testing.T) {
	t.Parallel()
	n := watched(t, master)
	path := socket(t, n)
	c, err := net.DialTimeout("unix", path, atOnce)
	lab.Check(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(atOnce))
	b, err := io.ReadAll(c)
	if err != nil || string(b) != n.document().Head() || strings.Count(string(b), "\n") != report.HeadLines {
		t.Errorf("%q, %v", b, err)
	}
}
