package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

// atOnce bounds an answer that nothing may delay. It is no measure: a shared
// machine can be slow.
const atOnce = 5 * time.Second

// agent serves a node as an HAProxy agent.
func agent(t *testing.T, n *fake.Node) string {
	t.Helper()
	l, err := serve.NewAgent("127.0.0.1:0")
	lab.Check(t, err)
	fake.Until(t, func(ctx context.Context) error { return l.Run(ctx, n.Monitor) })
	return l.Addr().String()
}

// ask connects, says something first if it is not empty, and returns what
// comes until the end. Whatever is not a clean end is an error.
func ask(address, say string) (string, error) {
	c, err := net.DialTimeout("tcp", address, atOnce)
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

func answer(t *testing.T, address string) string {
	t.Helper()
	got, err := ask(address, "")
	lab.Check(t, err)
	return got
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, tt := range fake.States {
		t.Run(tt.Name, func(t *testing.T) {
			t.Parallel()
			got := answer(t, agent(t, tt.Node(t)))
			if !strings.HasPrefix(got, tt.Agent) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") ||
				len(got) > 201 {
				t.Errorf("%q", got)
			}
		})
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
	address := agent(t, n)
	lab.Check(t, lab.Wait("it is stale", func() (bool, error) {
		return strings.HasPrefix(answer(t, address), "down # stale "), nil
	}))
	if got := answer(t, address); !strings.HasPrefix(got, "down # stale ") {
		t.Errorf("young again: %s", got)
	}
}

// TestFollows: each answer is that of its moment.
func TestFollows(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	address := agent(t, n)
	for _, x := range []fake.Outcome{fake.Master, fake.Replica, fake.Failure(checker.ReasonAuth), fake.Master} {
		n.Becomes(t, x)
		s, _ := n.Status()
		if got := answer(t, address); got != report.Agent(s.Verdict) {
			t.Errorf("%q", got)
		}
	}
}

// TestHalfOpen: clients that take their answer and stay, or do not even take
// it, delay no one. There are so many that they would for longer than atOnce,
// if each had to be waited for once the places for those who stay are taken.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	address := agent(t, fake.Watched(t, fake.Master))
	for range 2000 {
		c, err := net.DialTimeout("tcp", address, atOnce)
		lab.Check(t, err)
		defer c.Close()
	}
	for _, say := range []string{"", "hello\n"} {
		if got, err := ask(address, say); !strings.HasPrefix(got, "up ready 100%\n") || say == "" && err != nil {
			t.Errorf("after %q: %q, %v", say, got, err)
		}
	}
}

// TestSaysFirst: agent-send of HAProxy, and clients that take this for another
// service. A reset would lose the answer.
func TestSaysFirst(t *testing.T) {
	t.Parallel()
	address := agent(t, fake.Watched(t, fake.Master))
	for _, say := range []string{"\n", "node1 6379\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("x", 4000)} {
		for range 20 {
			got, err := ask(address, say)
			if err != nil || got != "up ready 100%\n" {
				t.Errorf("after %d bytes: %q, %v", len(say), got, err)
			}
		}
	}
}

// TestManyAtOnce: answers are whole while the node changes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	address := agent(t, n)
	flips := fake.Until(t, func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			n.Turn([]fake.Outcome{fake.Master, fake.Replica, fake.Failure(checker.ReasonTimeout)}[i%3])
		}
		return nil
	})
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			for range 100 {
				got, err := ask(address, "")
				if err == nil && got != "up ready 100%\n" && !strings.HasPrefix(got, "down # ") {
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
	n := fake.Watched(t, fake.Master)
	taken := agent(t, n)
	for _, address := range []string{taken, "127.0.0.1:x", "256.0.0.1:1"} {
		if _, err := serve.NewAgent(address); err == nil || !strings.Contains(err.Error(), "--agent") {
			t.Errorf("agent on %s: %v", address, err)
		}
		if _, err := serve.NewHTTP(address, "", n.Monitor, nil, n.Document); err == nil ||
			!strings.Contains(err.Error(), "--http") {
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
