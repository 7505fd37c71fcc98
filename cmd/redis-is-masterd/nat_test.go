package main

import (
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// A forward is a port that leads to the port of a node, as that of a container
// does.
type forward struct {
	net.Listener
	to string

	mu   sync.Mutex
	open []net.Conn
}

func newForward(t *testing.T) *forward {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	lab.Check(t, err)
	f := &forward{Listener: l}
	t.Cleanup(f.close)
	return f
}

// serve leads to an address until the test ends.
func (f *forward) serve(to string) {
	f.to = to
	go func() {
		for {
			from, err := f.Accept()
			if err != nil {
				return
			}
			go f.carry(from)
		}
	}()
}

func (f *forward) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer to.Close()
	f.mu.Lock()
	f.open = append(f.open, from, to)
	f.mu.Unlock()
	go func() {
		io.Copy(to, from)
		to.Close()
	}()
	io.Copy(from, to)
}

func (f *forward) close() {
	f.Listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		c.Close()
	}
}

func (f *forward) port() string { return strconv.Itoa(f.Addr().(*net.TCPAddr).Port) }

// TestNAT: the Sentinels know the nodes by ports that are none of theirs, as of
// containers, and nothing was announced to the daemons.
func TestNAT(t *testing.T) {
	t.Parallel()
	c := &lab.Cluster{}
	t.Cleanup(c.Close)
	var forwards []*forward
	for range 2 {
		f := newForward(t)
		args := []string{"--replica-announce-port", f.port()}
		if len(forwards) > 0 {
			args = append(args, "--replicaof", "127.0.0.1 "+forwards[0].port())
		}
		r := lab.New(t, lab.Options{TCP: true, Password: password, Args: args})
		f.serve(r.Addr())
		c.Nodes, forwards = append(c.Nodes, r), append(forwards, f)
	}
	lab.Check(t, c.Nodes[1].Until("master_link_status:up", "INFO", "replication"))
	for range 3 {
		s := lab.New(t, lab.Options{TCP: true, Sentinel: true})
		port, err := strconv.Atoi(forwards[0].port())
		lab.Check(t, err)
		lab.Check(t, s.Monitor(lab.MasterName, "127.0.0.1", port, password))
		c.Sentinels = append(c.Sentinels, s)
	}
	lab.Check(t, c.Ready())
	downAfter(t, c, "60000")
	old, next := start(t, c.Nodes[0], "--hello=auto"), start(t, c.Nodes[1], "--hello=auto")

	confirmed := func(port string) func(report.Document) bool {
		return func(doc report.Document) bool {
			if doc.Answer != checker.Yes || doc.Observation.Standing.State != checker.StateConfirmed {
				return false
			}
			return !slices.ContainsFunc(doc.Observation.Standing.Claims, func(c report.Claim) bool {
				return !c.NamesUs || !strings.HasSuffix(c.Master, ":"+port)
			})
		}
	}
	lab.Check(t, old.Until("the Sentinels are known to name it", confirmed(forwards[0].port())))
	if log := old.Log(); !strings.Contains(log, "knows this node by another address") ||
		!strings.Contains(log, "address=127.0.0.1:"+forwards[0].port()) {
		t.Errorf("it does not say how it is known:\n%s", log)
	}
	lab.Check(t, next.Until("the Sentinels have answered", asked))
	lab.Check(t, lab.Wait("the replica is known to itself", func() (bool, error) {
		return strings.Contains(next.Log(), "address=127.0.0.1:"+forwards[1].port()), nil
	}))

	lab.Check(t, lab.Wait("a Sentinel begins a failover", func() (bool, error) {
		out, err := c.Sentinels[1].Do("SENTINEL", "FAILOVER", lab.MasterName)
		return out == "OK", err
	}))
	lab.Check(t, next.Until("its promotion is announced", confirmed(forwards[1].port())))
	doc, err := next.Document()
	lab.Check(t, err)
	if n := doc.Daemon.Transitions[checker.Yes]; n != 1 || when(doc, checker.ReasonRole, checker.OK).IsZero() {
		t.Errorf("it did not become and stay the master: %s", doc.JSON())
	}
	steadyNo(t, old, time.Now().Add(time.Second))

	// The new process is known when each Sentinel has asked for its run id. Until
	// then nothing is said against it.
	restarted := time.Now()
	c.Nodes[1].Kill()
	lab.Check(t, c.Nodes[1].Restart())
	lab.Check(t, next.Until("it is gone", func(doc report.Document) bool {
		return doc.Daemon.Transitions[checker.Yes] != 1 || doc.Answer != checker.Yes
	}))
	lab.Check(t, next.Until("the new process is known", confirmed(forwards[1].port())))
	doc, err = next.Document()
	lab.Check(t, err)
	for _, x := range doc.Daemon.History {
		if x.Time.After(restarted) && x.To == checker.ReasonSentinel {
			t.Errorf("the old run id was held against it: %s", doc.JSON())
		}
	}
	t.Logf("the new process is believed after %v", time.Since(restarted))
}
