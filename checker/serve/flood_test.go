package serve_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

// floodKey makes the test binary flood an address, see [flood].
const floodKey = "SERVE_TEST_FLOOD"

func TestMain(m *testing.M) {
	if os.Getenv(stallKey) != "" {
		reportStalls()
	}
	if path, address, ok := strings.Cut(os.Getenv(floodKey), " "); ok {
		flood(path, address)
	}
	goleak.VerifyTestMain(m)
}

// flood is 600 clients that ask without end, and never read; under the race
// detector fewer, as the daemon can do less.
func flood(path, address string) {
	asks := []byte(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n", 20))
	for range 600 / slowdown {
		go func() {
			for {
				c, err := net.Dial("tcp", address)
				if err != nil {
					continue
				}
				c.(*net.TCPConn).SetWriteBuffer(
					64 << 10,
				) // megabytes in each would be this machine's, not a remote client's
				for err == nil {
					_, err = c.Write(asks)
				}
				c.Close()
			}
		}()
	}
	select {}
}

// stallKey makes the test binary report stalls, see [reportStalls].
const stallKey = "SERVE_TEST_STALLS"

// reportStalls writes how much longer than a sleep and work of 20 ms these took
// at most, in nanoseconds, at every line that it reads.
func reportStalls() {
	var longest atomic.Int64
	go func() {
		runtime.LockOSThread()
		worked := func() time.Duration {
			var t unix.Timespec
			unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
			return time.Duration(t.Nano())
		}
		const work, sleep = 20 * time.Millisecond, 30 * time.Millisecond
		for {
			begin := time.Now()
			time.Sleep(sleep) // how late its end is noticed is what is measured
			for until := worked() + work; worked() < until; {
			}
			longest.Store(max(longest.Load(), int64(time.Since(begin)-sleep-work)))
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(longest.Load())
	}
	os.Exit(0)
}

// stalls starts a process that nobody floods and that has something to do, and
// returns how long the machine kept it from that at most: what is promised of a
// machine that has time for its daemon is not promised of a moment when it has
// none.
func stalls(t *testing.T) (longest func() time.Duration) {
	t.Helper()
	self, err := os.Executable()
	lab.Check(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), stallKey+"=1")
	in, err := cmd.StdinPipe()
	lab.Check(t, err)
	out, err := cmd.StdoutPipe()
	lab.Check(t, err)
	lab.Check(t, lab.Start(cmd))
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	lines := bufio.NewReader(out)
	return func() (d time.Duration) {
		t.Helper()
		fmt.Fprintln(in)
		_, err := fmt.Fscanln(lines, (*int64)(&d))
		lab.Check(t, err)
		return d
	}
}

// watchedLive is a real node under a monitor as in a daemon, and how late its
// checks begin at most.
func watchedLive(t *testing.T) (n *fake.Node, late func() time.Duration) {
	t.Helper()
	n = fake.New(fake.Master)
	r := lab.New(t, lab.Options{TCP: true})
	redis := &checker.Redis{Address: r.Addr()}
	t.Cleanup(func() { redis.Close() })
	n.Probe, n.Interval, n.MaxAge, n.Fall = redis.Probe, 0, 0, 0
	var most atomic.Int64
	var last time.Time
	n.Checked = func(c checker.Check) {
		if !last.IsZero() {
			most.Store(max(most.Load(), int64(c.Time.Sub(last)-checker.DefaultInterval)))
		}
		last = c.Time
	}
	fake.Until(t, n.Run)
	lab.Check(t, lab.Wait("the node is a master", func() (bool, error) {
		s, _ := n.Status()
		return s.Verdict.Answer() == checker.Yes, nil
	}))
	most.Store(0)
	return n, func() time.Duration { return time.Duration(most.Load()) }
}

// turns is how often a process has to be woken for one check, or one answer:
// who asks, who is asked, and who asks again.
const turns = 3

// isServed asks as HAProxy does, each time by a connection of its own, and
// expects what is promised to it.
func isServed(t *testing.T, n *fake.Node, late, stalled func() time.Duration, address string) {
	t.Helper()
	var took []time.Duration
	for i := range 400 {
		begin := time.Now()
		path := []string{"/master", "/primary", "/healthz"}[i%3]
		if r, err := send(http.MethodGet, address, path); err != nil || r.code != 200 {
			t.Fatalf("request %d, %s: %d, %q, %v, after %v", i, path, r.code, r.body, err, time.Since(begin))
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf(
		"half of the answers took at most %v, 99 of 100 %v, all %v; a check began %v late; the machine stalled for %v",
		took[200],
		took[395],
		took[399],
		late(),
		stalled(),
	)
	if took[395] > 250*time.Millisecond+turns*stalled() {
		t.Errorf("of 400 answers 99 of 100 took at most %v", took[395])
	}
	if late() >= checker.DefaultInterval+turns*stalled() {
		t.Errorf("a check began %v late", late())
	}
	if turns*stalled() >= checker.DefaultMaxAge {
		return // no answer can be that old and be believed, whatever was asked
	}
	if s, _ := n.Status(); s.Transitions[checker.Unknown] > 0 || s.Transitions[checker.No] > 0 {
		t.Errorf("the answer changed: %v", s.History)
	}
}

// TestFloods: clients that ask for nothing, or not to the end, or do not read,
// take no one's place.
func TestFloods(t *testing.T) {
	for name, say := range map[string]string{
		"silent":       "",
		"half a line":  "GET /mas",
		"half a head":  "GET /master HTTP/1.1\r\nHost: test\r\nX: ",
		"no body":      "GET /master HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n",
		"half a body":  "POST /master HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"served, idle": "GET /master HTTP/1.1\r\nHost: test\r\n\r\n",
		"second head":  "GET /master HTTP/1.1\r\nHost: test\r\n\r\nGET /master HT",
		"never reads":  strings.Repeat("GET /status HTTP/1.1\r\nHost: test\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) { // one after the other: there are only so many descriptors
			n, late := watchedLive(t)
			stalled := stalls(t)
			address := web(t, n)
			hold(t, address, 1000, say)
			isServed(t, n, late, stalled, address)
		})
	}
}

// TestEndlessFlood: nor do clients that ask without end and never read, from a
// process of their own: its threads must not be taken for the daemon's.
func TestEndlessFlood(t *testing.T) {
	for _, path := range []string{"/status", "/", "/metrics", "/master"} {
		t.Run(path, func(t *testing.T) {
			n, late := watchedLive(t)
			stalled := stalls(t)
			h, err := serve.NewHTTP(
				"127.0.0.1:0",
				"",
				n.Monitor,
				serve.NewMetrics("test", n.Monitor).Handler(),
				n.Document,
			)
			lab.Check(t, err)
			fake.Until(t, h.Run)
			self, err := os.Executable()
			lab.Check(t, err)
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), floodKey+"="+path+" "+h.Addr().String())
			cmd.Stderr = os.Stderr
			lab.Check(t, lab.Start(cmd))
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
			})
			for until := time.Now().Add(5 * time.Second); time.Now().Before(until) && !t.Failed(); {
				isServed(t, n, late, stalled, h.Addr().String())
			}
		})
	}
}
