package cached_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// atOnce bounds an answer that nothing may delay. It is no measure: a shared
// machine can be slow.
const atOnce = 5 * time.Second

// serve serves a node on a socket of its own.
func serve(t *testing.T, n *fake.Node) string {
	t.Helper()
	path := filepath.Join(lab.TempDir(t), "check.sock")
	s, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
	lab.Check(t, err)
	fake.Until(t, s.Run)
	return path
}

// receive connects, says something first if it is not empty, and returns what
// comes until the end.
func receive(path, say string) (string, error) {
	c, err := net.DialTimeout("unix", path, atOnce)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(atOnce))
	if say != "" { // it may be closed already
		io.WriteString(c, say)
	}
	b, err := io.ReadAll(c)
	if say != "" && errors.Is(err, syscall.ECONNRESET) {
		err = nil // a unix socket keeps what was written before a reset
	}
	return string(b), err
}

func raw(t *testing.T, path string) string {
	t.Helper()
	got, err := receive(path, "")
	lab.Check(t, err)
	return got
}

// whole reads what a socket says: an agent's line first, the document in one
// line last.
func whole(got string) (d report.Document, err error) {
	lines := strings.SplitAfter(got, "\n")
	if len(lines) != 7 || lines[6] != "" {
		return d, fmt.Errorf("no whole lines: %q", got)
	}
	if err := json.Unmarshal([]byte(lines[5]), &d); err != nil {
		return d, fmt.Errorf("%w in %q", err, got)
	}
	want := report.Agent(checker.Verdict{Reason: d.Reason, Detail: d.Detail})
	if lines[0] != want || d.Schema != report.Schema || d.Daemon == nil {
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

// TestAnswers: to whom the agent's line is enough, to whom the head is, and to
// whom wants all, the same is said; for every role.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range fake.States {
		t.Run(tt.Name, func(t *testing.T) {
			t.Parallel()
			n := tt.Node(t)
			path := serve(t, n)
			got := raw(t, path)
			if d := isWhole(t, got); d.Reason != tt.Reason || d.Answer != tt.Reason.Answer() ||
				!strings.HasPrefix(got, tt.Agent) {
				t.Errorf("%s", got)
			}
			status, _ := n.Status()
			for _, role := range []checker.Role{"", checker.RoleMaster, checker.RoleReplica, checker.RoleAny} {
				want := status.For(role)
				if role == "" {
					want = status.Verdict
				}
				head, err := cached.AskHead(path, atOnce, role)
				lab.Check(t, err)
				all, err := cached.Ask(path, atOnce, role)
				lab.Check(t, err)
				if head.Reason != want.Reason || all.Reason != want.Reason || head.Answer != want.Answer() ||
					all.Answer != want.Answer() ||
					head.Hint != all.Hint ||
					head.Want != all.Want ||
					role != "" && all.Want != role {
					t.Errorf("%s: want %+v\n got %+v\n and %+v", role, want, head, all)
				}
				if a, b := head.Text(), all.Text(); a != b &&
					tt.Reason != checker.ReasonStale { // which says how old it is
					t.Errorf("%s: two texts:\n%s\n%s", role, a, b)
				}
				if (all.Observation == nil) != (len(all.Rules) == 0) ||
					all.Answer == checker.Yes && len(all.Rules) == 0 {
					t.Errorf("%s: of the node %v, and the rules are %v", role, all.Observation, all.Rules)
				}
			}
		})
	}
}

// TestNoSuchRole: an answer that nobody gave is an error.
func TestNoSuchRole(t *testing.T) {
	t.Parallel()
	path := serve(t, fake.Watched(t, fake.Master))
	for _, role := range []checker.Role{"slave", checker.RoleSentinel, " "} {
		if d, err := cached.AskHead(path, atOnce, role); err == nil {
			t.Errorf("%q: %s", role, d.Text())
		}
		if d, err := cached.Ask(path, atOnce, role); err == nil {
			t.Errorf("%q: %s", role, d.Text())
		}
	}
}

// TestContradiction: what does not agree with itself is no answer.
func TestContradiction(t *testing.T) {
	t.Parallel()
	path := serve(t, fake.Watched(t, fake.Master))
	truth := raw(t, path)
	change := func(from, to string) string {
		t.Helper()
		if strings.Count(truth, from) == 0 {
			t.Fatalf("there is no %q in %s", from, truth)
		}
		return strings.Replace(truth, from, to, 1)
	}
	lines := strings.SplitAfter(truth, "\n")
	for name, says := range map[string]string{
		"nothing":                "",
		"the agent's line alone": lines[0],
		"a head cut in a line":   strings.Join(lines[:4], "") + lines[4][:20],
		"a head cut after one":   strings.Join(lines[:4], ""),
		"garbage":                "up ready 100%\na\nb\nc\nd\n",
		"a no and a yes":         change("up ready 100%", "down # role x"),
		"a yes and a no":         change("\nmaster ok master", "\nmaster role master"),
		"another schema":         change("\n1 master\t\n", "\n2 master\n"),
		"roles out of order":     lines[0] + lines[1] + lines[3] + lines[2] + lines[4] + lines[5],
		"another document":       change(`"reason":"ok"`, `"reason":"role"`),
		"another answer":         change(`"answer":"yes"`, `"answer":"no"`),
		"half a document":        truth[:len(truth)-40],
	} {
		other := filepath.Join(lab.TempDir(t), "s")
		l, err := net.Listen("unix", other)
		lab.Check(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, says)
				c.Close()
			}
		}()
		d, err := cached.Ask(other, atOnce, "")
		var e *checker.Error
		if !errors.As(err, &e) || e.Reason != checker.ReasonProtocol {
			t.Errorf("%s: %v, %s", name, err, d.JSON())
		}
		<-served
		l.Close()
	}
}

// TestGoesStale: a yes ends by its age alone, with a poller that hangs.
func TestGoesStale(t *testing.T) {
	t.Parallel()
	n := fake.New(fake.Master)
	n.MaxAge = 50 * time.Millisecond
	hang := make(chan struct{})
	probe := n.Probe
	n.Probe = func(ctx context.Context) (checker.Observation, error) {
		if n.Probed() {
			<-hang
		}
		return probe(ctx)
	}
	n.Interval = time.Millisecond
	fake.Until(t, func(ctx context.Context) error { return n.Run(ctx) })
	t.Cleanup(func() { close(hang) }) // before the above
	path := serve(t, n)
	says := func() checker.Reason {
		d, err := cached.AskHead(path, atOnce, "")
		lab.Check(t, err)
		return d.Reason
	}
	lab.Check(t, lab.Wait("it is stale", func() (bool, error) { return says() == checker.ReasonStale, nil }))
	if got := says(); got != checker.ReasonStale {
		t.Errorf("young again: %s", got)
	}
}

// TestFollows: each answer is that of its moment.
func TestFollows(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	path := serve(t, n)
	cut := fake.Replica
	cut.O.LinkUp = false
	for range 20 {
		for _, x := range []fake.Outcome{fake.Master, fake.Replica, cut, fake.Failure(checker.ReasonAuth), fake.Master} {
			n.Becomes(t, x)
			s, _ := n.Status()
			if d := isWhole(t, raw(t, path)); d.Reason != s.Verdict.Reason || d.Detail != s.Verdict.Detail {
				t.Errorf("%+v", d)
			}
			if d, err := cached.AskHead(path, atOnce, checker.RoleReplica); err != nil ||
				d.Reason != s.For(checker.RoleReplica).Reason {
				t.Errorf("of a replica: %v, %+v", err, d)
			}
		}
	}
}

// TestHostile: the longest that a node and its Sentinels can say is said whole.
func TestHostile(t *testing.T) {
	t.Parallel()
	evil := strings.Repeat(`"\`, 5_000)
	x := fake.Master
	x.O.WireRole, x.O.Version, x.O.RunID = evil, evil, evil
	x.O.Standing = checker.Standing{State: checker.StateConfirmed, Detail: evil, LastHello: time.Now()}
	for range 100 {
		hello := checker.Hello{Sentinel: evil, From: evil, Name: evil, Master: evil, Epoch: 1 << 63, Current: 1 << 63}
		x.O.Standing.Claims = append(
			x.O.Standing.Claims,
			checker.TimedClaim{Claim: checker.Claim{Hello: hello}, Time: time.Now()},
		)
		x.O.Quorum.Answers = append(
			x.O.Quorum.Answers,
			checker.SentinelAnswer{Address: evil, Master: evil, NamesUs: true, Err: errors.New(evil)},
		)
	}
	for i := range 100 {
		x.O.Standing.Asked = append(x.O.Standing.Asked, checker.Asked{Sentinel: evil, Name: fmt.Sprint(i, evil), Master: evil,
			Time: time.Now(), DownAfter: 1, FailoverTimeout: 1, Quorum: 1, Sentinels: 2})
	}
	x.O.Quorum.Time = time.Now()
	n := fake.Watched(t, x)
	replica := fake.Replica
	replica.O.MasterAddr = evil
	for range 40 { // fills the history
		n.Becomes(t, replica)
		n.Becomes(t, x)
	}
	path := serve(t, n)
	got := raw(t, path)
	d := isWhole(t, got)
	t.Logf("%d bytes", len(got))
	if size := len(d.JSON()); size > report.MaxJSON || len(d.Observation.Standing.Claims) != 64 {
		t.Errorf("%d bytes of JSON, %d claims", size, len(d.Observation.Standing.Claims))
	}
	if d, err := cached.Ask(path, atOnce, ""); err != nil || d.Answer != checker.Yes {
		t.Errorf("%v, %s", err, d.Text())
	}
}

// TestTrusted: where all may connect there is a second socket for those who
// are trusted, and only there.
func TestTrusted(t *testing.T) {
	t.Parallel()
	for mode, trusted := range map[os.FileMode]os.FileMode{0o666: 0o660, 0o606: 0o600, 0o660: 0, 0o600: 0} {
		path := filepath.Join(lab.TempDir(t), "check.sock")
		n := fake.Watched(t, fake.Master)
		s, err := cached.NewServer(path, mode, n.Monitor, n.Document)
		lab.Check(t, err)
		stop := fake.Until(t, s.Run)
		info, err := os.Stat(path + cached.TrustedSuffix)
		switch {
		case trusted == 0 && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%v has a second socket: %v", mode, err)
		case trusted != 0 && (err != nil || info.Mode() != trusted|os.ModeSocket):
			t.Errorf("%v has a second socket of %v, %v", mode, info, err)
		}
		if d, err := cached.AskHead(path, atOnce, ""); err != nil || d.Answer != checker.Yes {
			t.Errorf("%v: %v", mode, err)
		}
		stop()
		if left, _ := filepath.Glob(path + "*"); len(left) != 1 { // the lock
			t.Errorf("%v left %v", mode, left)
		}
	}
}

// TestLinkForALock: where another user may make files, he has none made elsewhere.
func TestLinkForALock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(lab.TempDir(t), "check.sock")
	lab.Check(t, os.Symlink(path+".elsewhere", path+".lock"))
	n := fake.Watched(t, fake.Master)
	if _, err := cached.NewServer(path, 0o660, n.Monitor, n.Document); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(path + ".else*"); len(left) != 0 {
		t.Errorf("it made %v", left)
	}
}

// TestHostileSocket: whoever listens in the daemon's place, there is no yes, and
// an answer within the deadline.
func TestHostileSocket(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	for name, harm := range lab.Hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(lab.TempDir(t), "check.sock")
			l, err := net.Listen("unix", path)
			lab.Check(t, err)
			var conns sync.WaitGroup
			conns.Go(func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					conns.Go(func() { defer c.Close(); harm(c) })
				}
			})
			t.Cleanup(func() { l.Close(); conns.Wait() })
			type asks = func(string, time.Duration, checker.Role) (report.Document, error)
			for _, ask := range []asks{cached.Ask, cached.AskHead} {
				begun := time.Now()
				d, err := ask(path, timeout, checker.RoleMaster)
				if err == nil || d.Answer == checker.Yes || len(err.Error()) > 1000 {
					t.Errorf("%.1000v, %v", err, d.Answer)
				}
				if took := time.Since(begun); took > timeout+atOnce {
					t.Errorf("it took %v", took)
				}
			}
		})
	}
}

// TestSaysFirst: clients that take this for another service.
func TestSaysFirst(t *testing.T) {
	t.Parallel()
	path := serve(t, fake.Watched(t, fake.Master))
	for _, say := range []string{"\n", "node1 6379\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("x", 4000)} {
		for range 20 {
			got, err := receive(path, say)
			lab.Check(t, err)
			isWhole(t, got)
		}
	}
}

// TestHalfOpen: clients that take their answer and stay, or do not even take
// it, delay no one.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	path := serve(t, fake.Watched(t, fake.Master))
	for range 2000 {
		c, err := net.DialTimeout("unix", path, atOnce)
		lab.Check(t, err)
		defer c.Close()
	}
	isWhole(t, raw(t, path))
}

// TestManyAtOnce: answers are whole while the node changes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	path := serve(t, n)
	flips := fake.Until(t, func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			n.Turn([]fake.Outcome{fake.Master, fake.Replica, fake.Failure(checker.ReasonTimeout)}[i%3])
		}
		return nil
	})
	errs := make(chan error, 16)
	for i := range cap(errs) {
		go func() {
			for range 100 {
				got, err := receive(path, "")
				if err == nil {
					_, err = whole(got)
				}
				if err == nil {
					_, err = []func(string, time.Duration, checker.Role) (report.Document, error){cached.Ask, cached.AskHead}[i%2](
						path,
						atOnce,
						checker.RoleAny,
					)
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

func TestTwoSockets(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	path := serve(t, n)
	for range 3 {
		l, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
		if err == nil || l != nil || !strings.Contains(err.Error(), "another daemon") ||
			!strings.Contains(err.Error(), path) {
			t.Fatalf("the second: %v", err)
		}
		isWhole(t, raw(t, path))
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
		{
			"a file",
			func(t *testing.T, p string) { lab.Check(t, os.WriteFile(p, []byte("precious"), 0o600)) },
			"no socket",
		},
		{"a directory", func(t *testing.T, p string) { lab.Check(t, os.Mkdir(p, 0o700)) }, "no socket"},
		{"a link to a stale socket", func(t *testing.T, p string) {
			leave(t, p+".other")
			lab.Check(t, os.Symlink(p+".other", p))
		}, "no socket"},
		{
			"a missing directory",
			func(t *testing.T, p string) { lab.Check(t, os.Remove(filepath.Dir(p))) },
			"directory does not exist",
		},
		{"a file for a directory", func(t *testing.T, p string) {
			lab.Check(t, os.Remove(filepath.Dir(p)))
			lab.Check(t, os.WriteFile(filepath.Dir(p), nil, 0o600))
		}, "directory does not exist"},
	}
	n := fake.Watched(t, fake.Master)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(lab.TempDir(t), "check.sock")
			tt.before(t, path)
			info, before := os.Lstat(path)
			l, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
			if tt.want == "" {
				lab.Check(t, err)
				fake.Until(t, l.Run)
				isWhole(t, raw(t, path))
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v", err)
			}
			if after, err := os.Lstat(path); before == nil &&
				(err != nil || after.Mode() != info.Mode() || after.Size() != info.Size()) {
				t.Errorf("what was in the way is now %v, %v", after, err)
			}
			// The lock was let go: the next one gets a chance when it is mended.
			os.Remove(path)
			os.Mkdir(filepath.Dir(path), 0o700)
			if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
				return
			}
			l, err = cached.NewServer(path, 0o666, n.Monitor, n.Document)
			lab.Check(t, err)
			fake.Until(t, l.Run)
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
	n := fake.New(fake.Master)
	l, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
	if err == nil {
		t.Error("a live socket was replaced")
		fake.Until(t, l.Run)
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
		n := fake.New(fake.Master)
		l, err := cached.NewServer(path, mode, n.Monitor, n.Document)
		lab.Check(t, err)
		fake.Until(t, l.Run)
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
	n := fake.New(fake.Master)
	path := filepath.Join(lab.TempDir(t), "check.sock")
	for i := range 200 {
		l, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
		if err != nil {
			t.Fatalf("opened again, for the %d. time: %v", i, err)
		}
		fake.Until(t, l.Run)()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the socket is still there: %v", err)
		}
	}
}
