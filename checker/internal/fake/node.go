// Package fake is a node that says what a test wants, under a real monitor.
package fake

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// An Outcome is what a probe returns.
type Outcome struct {
	O   checker.Observation
	Err error
}

// What most tests need.
var (
	Master = Outcome{O: checker.Observation{Role: checker.RoleMaster, WireRole: "master",
		Server: "Redis", Version: "7.0.15",
		RunID: "abc", Uptime: time.Minute,
		Replicas: 2, Offset: 14, LastIO: -1}}
	Replica = Outcome{O: checker.Observation{Role: checker.RoleReplica, WireRole: "slave",
		MasterAddr: "10.0.0.2:6379", LinkUp: true,
		LastIO: 2 * time.Second, Offset: 14}}
)

// Failure is a probe that fails.
func Failure(r checker.Reason) Outcome {
	return Outcome{Err: &checker.Error{Reason: r, Stage: checker.StageReply, Address: "127.0.0.1:6379",
		Err: errors.New("cause"), Hint: "do this"}}
}

// Hostile is a replica that says of itself what could end a line.
func Hostile() Outcome {
	x := Replica
	x.O.MasterAddr = "a\r\nup ready 100%\nHTTP/1.1 200 OK\r\n\r\n\x1b[2J\u2028" + strings.Repeat("z", 1000)
	return x
}

// A Node is a monitor of a fake one. It checks when it is told to.
type Node struct {
	*checker.Monitor
	Counted func(checker.Check) // set before Watch

	next, probed, done atomic.Pointer[Outcome]
}

// New is a node that is not watched yet.
func New(first Outcome) *Node {
	n := &Node{Monitor: &checker.Monitor{Policy: checker.Policy{AllowUnconfirmed: true}, Interval: time.Hour,
		MaxAge: 10 * time.Hour, Fall: 1}}
	n.next.Store(&first)
	n.Probe = func(context.Context) (checker.Observation, error) {
		n.probed.Store(n.next.Load())
		return n.probed.Load().O, n.probed.Load().Err
	}
	n.Checked = func(c checker.Check) {
		if n.Counted != nil {
			n.Counted(c)
		}
		n.done.Store(n.probed.Load())
	}
	return n
}

// Probed reports whether it has been asked.
func (n *Node) Probed() bool { return n.probed.Load() != nil }

// Watch runs the monitor until the end of the test.
func (n *Node) Watch(t *testing.T) {
	t.Helper()
	Until(t, func(ctx context.Context) error { return n.Run(ctx) })
	n.Becomes(t, *n.next.Load())
}

// Becomes changes the node, and returns when the monitor says so.
func (n *Node) Becomes(t *testing.T, x Outcome) {
	t.Helper()
	p := n.Turn(x)
	lab.Check(t, lab.Wait("the node is checked", func() (bool, error) { return n.done.Load() == p, nil }))
}

// Turn changes the node, and does not wait.
func (n *Node) Turn(x Outcome) *Outcome {
	n.next.Store(&x)
	n.Wake()
	return &x
}

// Document is what a daemon would say.
func (n *Node) Document(s checker.Status) report.Document {
	return report.FromStatus("127.0.0.1:6379", "test", n.Policy, s)
}

// Watched is a node under watch.
func Watched(t *testing.T, first Outcome) *Node {
	t.Helper()
	n := New(first)
	n.Watch(t)
	return n
}

// Stale is a monitor that has never run and is out of its time.
func Stale(*testing.T) *Node {
	n := New(Master)
	n.MaxAge = time.Nanosecond
	n.Status() // starts its clock
	return n
}

// Stopping is a monitor that was told to stop while all was well.
func Stopping(t *testing.T) *Node {
	t.Helper()
	n := Watched(t, Master)
	n.Stop()
	return n
}

// Until runs f until the end of the test, or until the returned function is
// called; f must end without an error then.
func Until(t *testing.T, f func(context.Context) error) (stop func()) {
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

// States are all kinds of answers a daemon has.
var States = []struct {
	Name   string
	Node   func(*testing.T) *Node
	Reason checker.Reason
	Agent  string // the begin of the agent's line
}{
	{"a master", func(t *testing.T) *Node { return Watched(t, Master) }, checker.OK, "up ready 100%\n"},
	{"a replica", func(t *testing.T) *Node { return Watched(t, Replica) }, checker.ReasonRole,
		"down # role role:slave, not a master, follows 10.0.0.2:6379\n"},
	{"an error", func(t *testing.T) *Node { return Watched(t, Failure(checker.ReasonTimeout)) }, checker.ReasonTimeout,
		"down # timeout reply: cause\n"},
	{"a hostile node", func(t *testing.T) *Node { return Watched(t, Hostile()) }, checker.ReasonRole,
		"down # role role:slave, not a master, follows a??up ready 100%?HTTP"},
	{"no check yet", func(*testing.T) *Node { return New(Master) }, checker.ReasonStarting, "down # starting "},
	{"never checked", Stale, checker.ReasonStale, "down # stale "},
	{"stopping", Stopping, checker.ReasonStopping, "down # stopping "},
}
