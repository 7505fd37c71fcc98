package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/e2e/lab"
)

// asked reports whether all three Sentinels have answered the daemon itself, and
// tell it what they are about to do.
func asked(doc report.Document) bool {
	if doc.Observation == nil || doc.Observation.Standing == nil || len(doc.Observation.Standing.Asked) != 3 {
		return false
	}
	return !slices.ContainsFunc(doc.Observation.Standing.Asked, func(a report.Asked) bool {
		return !a.Subscribed || a.Epoch == nil || a.DownAfterSeconds == nil || a.Quorum == nil
	})
}

// downAfter sets down-after-milliseconds on all Sentinels.
func downAfter(t *testing.T, c *lab.Cluster, milliseconds string) {
	t.Helper()
	for _, s := range c.Sentinels {
		s.Must(t, "SENTINEL", "SET", lab.MasterName, "down-after-milliseconds", milliseconds)
	}
}

// when is the time of the first change from one reason to another.
func when(doc report.Document, from, to checker.Reason) (at time.Time) {
	if doc.Daemon == nil {
		return at
	}
	for _, x := range doc.Daemon.History {
		if x.From == from && x.To == to {
			at = x.Time
		}
	}
	return at
}

// TestPlannedFailover: in a planned failover the old master is not believed any
// more before the new one is, and never again.
func TestPlannedFailover(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	old, next := start(t, c.Nodes[0], "--hello=auto"), start(t, c.Nodes[1], "--hello=auto")
	for _, d := range []*lab.Daemon{old, next} {
		lab.Check(t, d.Until("the Sentinels have answered", asked))
	}
	lab.Check(t, old.Says(checker.OK))
	lab.Check(t, lab.Wait("a Sentinel begins a failover", func() (bool, error) {
		out, err := c.Sentinels[1].Do("SENTINEL", "FAILOVER", lab.MasterName)
		return out == "OK", err
	}))
	var promoted report.Document
	lab.Check(t, next.Until("the new master is believed", func(doc report.Document) bool {
		promoted = doc
		return doc.Reason == checker.OK
	}))
	steadyNo(t, old, time.Now().Add(3*time.Second))
	doc, err := old.Document()
	lab.Check(t, err)
	began, ended := when(promoted, checker.ReasonRole, checker.OK), when(doc, checker.OK, checker.ReasonFailover)
	t.Logf("the old master is refused %v before the new one is believed", began.Sub(ended))
	if began.IsZero() || ended.IsZero() || ended.After(began) {
		t.Errorf("%s\n%s", doc.JSON(), promoted.JSON())
	}
}

// steadyNo fails if the answer is ever yes until a time.
func steadyNo(t *testing.T, d *lab.Daemon, until time.Time) {
	t.Helper()
	for time.Now().Before(until) {
		if doc, err := d.Document(); err != nil || doc.Answer == checker.Yes {
			t.Fatalf("%v %s", err, doc.JSON())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestHandOver: the command FAILOVER, of which no Sentinel knows, leads to a yes as
// soon as the old master follows the new one.
func TestHandOver(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	downAfter(t, c, "60000") // the Sentinels take the old master for down, and would undo it
	next := start(t, c.Nodes[1], "--hello=auto")
	lab.Check(t, next.Until("the Sentinels have answered", asked))
	c.Nodes[0].Must(t, "FAILOVER", "TIMEOUT", "5000")
	lab.Check(t, next.Says(checker.OK))
	doc, err := next.Document()
	lab.Check(t, err)
	var flipped time.Time
	for _, x := range doc.Daemon.History {
		if x.From == checker.ReasonRole {
			flipped = x.Time
		}
	}
	took := doc.Daemon.Since.Sub(flipped)
	t.Logf("believed %v after the flip", took)
	// A check that timed out is of a machine that has no time, not of a rule that waits.
	if took > 200*time.Millisecond && !strings.Contains(next.Log(), "timeout") {
		t.Errorf("it took %v: %s", took, doc.JSON())
	}
	if state := doc.Observation.Standing.State; state != checker.StatePromoted {
		t.Errorf("it is %s", state)
	}
}

// TestStall: Redis is silent for less than down-after, and the answer stays.
func TestStall(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	downAfter(t, c, "10000")
	d := start(t, c.Nodes[0], "--hello=auto")
	lab.Check(t, d.Until("the Sentinels have answered", func(doc report.Document) bool {
		return asked(doc) && doc.Reason == checker.OK && *doc.Observation.Standing.Asked[0].DownAfterSeconds == 10
	}))
	before, err := d.Document()
	lab.Check(t, err)
	stalled := time.Now()
	lab.Check(t, c.Nodes[0].Signal(syscall.SIGSTOP))
	silent := false
	for time.Since(stalled) < 3*time.Second {
		doc, err := d.Document()
		lab.Check(t, err)
		silent = silent || strings.Contains(doc.Detail, "silent for")
		<-time.After(20 * time.Millisecond)
	}
	lab.Check(t, c.Nodes[0].Signal(syscall.SIGCONT))
	lab.Check(t, d.Until("Redis answers again", func(doc report.Document) bool {
		return doc.Daemon.LastCheck == checker.OK && time.Since(stalled) > 3*time.Second
	}))
	after, err := d.Document()
	lab.Check(t, err)
	if !after.Daemon.Since.Equal(before.Daemon.Since) || !silent {
		t.Errorf("silent: %v: %s", silent, after.JSON())
	}
}

// TestStallTooLong: a silence that a Sentinel could take for the end ends the yes,
// and so does one with two Sentinels gone.
func TestStallTooLong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		downAfter string
		gone      int
	}{"down-after 1000": {"1000", 0}, "two Sentinels are gone": {"10000", 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := lab.NewCluster(t, 2, lab.Options{Password: password})
			downAfter(t, c, tt.downAfter)
			d := start(t, c.Nodes[0], "--hello=auto")
			lab.Check(t, d.Until("the Sentinels have answered", asked))
			lab.Check(t, d.Says(checker.OK))
			for _, s := range c.Sentinels[:tt.gone] {
				s.Kill()
			}
			stalled := time.Now()
			lab.Check(t, c.Nodes[0].Signal(syscall.SIGSTOP))
			t.Cleanup(func() { c.Nodes[0].Signal(syscall.SIGCONT) })
			lab.Check(t, d.Until("the answer is no yes", func(doc report.Document) bool { return doc.Answer != checker.Yes }))
			if took := time.Since(stalled); took > 4*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestRestartAsks: a daemon that is started on the true master asks the Sentinels
// that its predecessor knew, and waits for nothing.
func TestRestartAsks(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	another := lab.New(t, lab.Options{TCP: true, Password: password})
	for _, s := range c.Sentinels { // its failovers raise the epoch that all masters share
		lab.Check(t, s.Monitor("another", "127.0.0.1", another.Port, password))
	}
	d := start(t, c.Nodes[0], "--hello=auto")
	lab.Check(t, d.Until("the Sentinels have answered", asked))
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, lab.Wait("the state file has the Sentinels", func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(d.Dir, "check.state"))
		return strings.Count(string(b), `"name":"mymaster"`) == 3, err
	}))
	d.Kill()
	begun := time.Now()
	lab.Check(t, d.Start(lab.Program("redis-is-masterd"), c.Nodes[0], "--hello=auto"))
	lab.Check(t, d.Says(checker.OK))
	doc, err := d.Document()
	lab.Check(t, err)
	t.Logf("yes %v after the start of the program", doc.Daemon.Since.Sub(begun))
	history := doc.Daemon.History
	start := slices.IndexFunc(history, func(t report.Transition) bool { return t.To == checker.ReasonStarting })
	if start < 0 || start == len(history)-1 {
		t.Fatalf("the history is not that of two daemons: %s", doc.JSON())
	}
	if lasted := doc.Daemon.Since.Sub(history[start].Time); lasted > 2*time.Second {
		t.Errorf("it took %v: %s", lasted, doc.JSON())
	}
}

// TestBlind: a daemon whom the Sentinels refuse goes on with what they publish, and
// says once what to grant.
func TestBlind(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	for _, s := range c.Sentinels {
		s.Must(t, "ACL", "SETUSER", "default", "resetchannels", "-@all", "+auth", "+hello", "+ping")
		t.Cleanup(func() { s.Do("ACL", "SETUSER", "default", "allchannels", "+@all") })
	}
	d := start(t, c.Nodes[0], "--hello=auto")
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, lab.Wait("the log says what to grant", func() (bool, error) {
		return strings.Count(d.Log(), "a Sentinel refuses") >= 3, nil
	}))
	if n := strings.Count(d.Log(), "+sentinel|master"); n != 3 {
		t.Errorf("said %d times:\n%s", n, d.Log())
	}
}

// TestSentinelLog: a Sentinel that answers and refuses its plans is told of once, and
// so is its return.
func TestSentinelLog(t *testing.T) {
	var said strings.Builder
	l := &sentinelLog{daemon: &daemon{logger: slog.New(slog.NewTextHandler(&said, nil))},
		since: make(map[string]time.Time), said: make(map[string]bool)}
	const address = "10.0.0.1:26379"
	for range 3 {
		l.forbidden(address, &checker.Error{Reason: checker.ReasonPermission, Hint: "grant it"})
		l.reported(sentinel.Report{Address: address})
	}
	if text := said.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "grant it") {
		t.Errorf("%s", text)
	}
	l.reported(sentinel.Report{Address: address, Subscribed: time.Now()})
	l.reported(sentinel.Report{Address: address, Subscribed: time.Now()})
	if text := said.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "can be asked again") {
		t.Errorf("%s", text)
	}
}

// TestPasswordOfSentinels: where Sentinels are listed, a password goes in clear to
// them alone.
func TestPasswordOfSentinels(t *testing.T) {
	secret := func(context.Context) (string, error) { return password, nil }
	byTLS := func(context.Context) (*tls.Config, error) { return nil, errors.ErrUnsupported }
	for name, tt := range map[string]struct {
		listed []string
		how    *checker.Redis
		all    bool // those that are heard are asked, too
	}{
		"no password":                {[]string{"10.0.0.1:26379"}, &checker.Redis{}, true},
		"a password":                 {[]string{"10.0.0.1:26379"}, &checker.Redis{Password: secret}, false},
		"a password by TLS":          {[]string{"10.0.0.1:26379"}, &checker.Redis{Password: secret, TLS: byTLS}, true},
		"a password, none is listed": {nil, &checker.Redis{Password: secret}, true},
	} {
		d := &daemon{options: &options{}, Settings: flags.Settings{Sentinel: tt.how, Listed: tt.listed, Name: "mymaster"}}
		w := d.watcher()
		w.Know("10.0.0.9:26379", "mymaster")
		known := make(map[string]bool)
		for address := range w.Known() {
			known[address] = true
		}
		if known["10.0.0.9:26379"] != tt.all || len(tt.listed) > 0 && !known[tt.listed[0]] {
			t.Errorf("%s: %v", name, known)
		}
	}
}
