package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// watching starts Sentinels that watch a node by 127.0.0.1.
func watching(t *testing.T, node *lab.Redis, n int, o lab.Options) (all []*lab.Redis) {
	t.Helper()
	o.TCP, o.Sentinel = true, true
	for range n {
		s := lab.New(t, o)
		lab.Check(t, s.Monitor(lab.MasterName, "127.0.0.1", node.Port, node.Password))
		all = append(all, s)
	}
	return all
}

// listed are the flags that list Sentinels.
func listed(sentinels []*lab.Redis) []string {
	args := []string{"--sentinel-master", lab.MasterName}
	for _, s := range sentinels {
		args = append(args, "--sentinel", s.Addr())
	}
	return args
}

// stands waits until the guard has a state and the daemon says reason.
func stands(t *testing.T, d *lab.Daemon, state checker.State, reason checker.Reason) report.Document {
	t.Helper()
	var last report.Document
	lab.Check(
		t,
		d.Until(fmt.Sprintf("the state is %s, and the reason %s", state, reason), func(doc report.Document) bool {
			last = doc
			return doc.Observation != nil && doc.Observation.Standing != nil &&
				doc.Observation.Standing.State == state &&
				doc.Reason == reason
		}),
	)
	return last
}

// steady fails if the reason is ever another until a time.
func steady(t *testing.T, d *lab.Daemon, reason checker.Reason, until time.Time) {
	t.Helper()
	for time.Now().Before(until) {
		if doc, err := d.Document(); err != nil || doc.Reason != reason {
			t.Fatalf("not %s, but %v %s", reason, err, doc.JSON())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// silence is how long a master waits for a Sentinel before it is believed
// without one.
const silence = 15 * time.Second

// TestColdStart: nodes, Sentinels and daemons are started at the same moment.
// One node is the master in the end, and no two are at any time: neither where
// the replicas know whom to follow, nor where all three begin as masters.
func TestColdStart(t *testing.T) {
	for name, forgotten := range map[string]bool{"as they were": false, "all as masters": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := lab.NewCluster(t, 3, lab.Options{Password: password})
			for _, r := range c.Nodes {
				if !forgotten {
					r.Must(t, "CONFIG", "REWRITE")
				}
				r.Kill()
			}
			for _, s := range c.Sentinels {
				s.Kill()
			}
			var mu sync.Mutex
			var daemons []*lab.Daemon
			var failures []error
			var starting sync.WaitGroup
			later := func(f func() error) {
				starting.Go(func() {
					<-time.After(rand.N(300 * time.Millisecond))
					if err := f(); err != nil {
						mu.Lock()
						failures = append(failures, err)
						mu.Unlock()
					}
				})
			}
			for _, r := range append(slices.Clone(c.Nodes), c.Sentinels...) {
				later(r.Restart)
			}
			of := make(map[*lab.Daemon]*lab.Redis)
			for _, r := range c.Nodes {
				later(func() error {
					d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), r)
					if err == nil {
						t.Cleanup(d.Close)
						mu.Lock()
						daemons, of[d] = append(daemons, d), r
						mu.Unlock()
					}
					return err
				})
			}
			yes := func() (holders []*lab.Daemon) {
				mu.Lock()
				defer mu.Unlock()
				for _, d := range daemons {
					if d.Track() == "1" {
						holders = append(holders, d)
					}
				}
				if len(holders) > 1 {
					t.Errorf("%d nodes are the master at once", len(holders))
				}
				return holders
			}
			ctx, cancel := context.WithCancel(t.Context())
			var sampling sync.WaitGroup
			sampling.Go(func() {
				for ctx.Err() == nil && !t.Failed() {
					yes()
					<-time.After(2 * time.Millisecond)
				}
			})
			starting.Wait()
			if failures != nil {
				t.Fatal(failures)
			}
			var master *lab.Redis
			lab.Check(t, lab.Wait("one node says yes, and two are its replicas", func() (bool, error) {
				holders := yes()
				if len(holders) != 1 {
					return false, nil
				}
				master = of[holders[0]]
				out, err := master.Do("INFO", "replication")
				return strings.Contains(out, "connected_slaves:2"), err
			}))
			if named, err := c.Master(); err != nil || named != master {
				t.Errorf("the Sentinels name another node, %v", err)
			}
			cancel()
			sampling.Wait()
			if t.Failed() {
				for d, r := range of {
					t.Logf("%s: %s", r.Addr(), d.Log())
				}
			}
		})
	}
}

// TestSentinelsDeadAtTheStart: without anybody who could confirm it, a master
// is believed when all who could deny it have had the time.
func TestSentinelsDeadAtTheStart(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	begun := time.Now()
	d := start(t, node, "--hello=auto")
	doc := stands(t, d, checker.StateUnconfirmed, checker.ReasonUnconfirmed)
	if !strings.Contains(doc.Detail, "no Sentinel has confirmed it") || !strings.Contains(doc.Hint, "--hello off") {
		t.Errorf("detail %q, hint %q", doc.Detail, doc.Hint)
	}
	steady(t, d, checker.ReasonUnconfirmed, begun.Add(silence-time.Second))
	doc = stands(t, d, checker.StateNoSentinels, checker.OK)
	if !strings.Contains(doc.Detail, "there is no Sentinel, so its own role decides") ||
		len(doc.Observation.Standing.Claims) != 0 {
		t.Errorf("%s", doc.JSON())
	}
	lab.Check(t, d.Tracks("1"))
	// It is known by now that there is none, so a restart costs no more.
	node.Kill()
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, node.Restart())
	back := time.Now()
	stands(t, d, checker.StateNoSentinels, checker.OK)
	if took := time.Since(back); took > silence/2 {
		t.Errorf("a restart where no Sentinel was ever heard took %v", took)
	}
	// The first that is heard ends that.
	s := watching(t, node, 2, lab.Options{})
	stands(t, d, checker.StateConfirmed, checker.OK)
	for _, s := range s {
		s.Kill()
	}
	node.Kill()
	lab.Check(t, d.Says(checker.ReasonRefused))
	lab.Check(t, node.Restart())
	stands(t, d, checker.StateUnconfirmed, checker.ReasonUnconfirmed)
}

// TestSentinelsDieLater: that ends no yes; but what is restarted then has to
// wait.
func TestSentinelsDieLater(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, node, 3, lab.Options{})
	d := start(t, node, "--hello=auto")
	stands(t, d, checker.StateConfirmed, checker.OK)
	for _, s := range s {
		s.Kill()
	}
	steady(t, d, checker.OK, time.Now().Add(3*time.Second))
	node.Kill()
	lab.Check(t, d.Says(checker.ReasonRefused))
	back := time.Now()
	lab.Check(t, node.Restart())
	stands(t, d, checker.StateUnconfirmed, checker.ReasonUnconfirmed)
	steady(t, d, checker.ReasonUnconfirmed, back.Add(silence-time.Second))
	stands(t, d, checker.StateNoSentinels, checker.OK)
}

// TestOneSentinelLeft: of three. Its word is enough in the end; but it may be
// cut off together with the node, so what two say is believed sooner.
func TestOneSentinelLeft(t *testing.T) {
	for left, tt := range map[int]struct{ least, most time.Duration }{
		1: {silence - time.Second, lab.Patience},
		2: {0, silence - 2*time.Second},
	} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			t.Parallel()
			node := lab.New(t, lab.Options{TCP: true})
			s := watching(t, node, 3, lab.Options{})
			for _, s := range s {
				lab.Check(t, s.Until("sentinels=3", "INFO", "sentinel"))
			}
			for _, s := range s[left:] {
				s.Kill()
			}
			begun := time.Now()
			d := start(t, node, "--hello=auto")
			steady(t, d, checker.ReasonUnconfirmed, begun.Add(tt.least))
			doc := stands(t, d, checker.StateConfirmed, checker.OK)
			if took := time.Since(begun); took > tt.most {
				t.Errorf("it took %v", took)
			}
			if len(doc.Observation.Standing.Claims) != left || !doc.Observation.Standing.Claims[0].NamesUs {
				t.Errorf("%+v", doc.Observation.Standing)
			}
		})
	}
}

// TestMajorityCutOff: one listed Sentinel refuses, one is silent: the third is
// not enough, and nothing waits for them.
func TestMajorityCutOff(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, node, 3, lab.Options{})
	d := start(t, node, listed(s)...)
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, s[1].Signal(syscall.SIGSTOP))
	steady(t, d, checker.OK, time.Now().Add(1500*time.Millisecond)) // two are enough
	for range 2 {
		s[0].Kill()
		cut := time.Now()
		lab.Check(t, d.Until("no quorum", func(doc report.Document) bool {
			if doc.Reason != checker.OK && doc.Reason != checker.ReasonNoQuorum {
				t.Errorf("%s", doc.JSON())
			}
			return doc.Reason == checker.ReasonNoQuorum
		}))
		if took := time.Since(cut); took > 5*time.Second {
			t.Errorf("the cut was noticed after %v", took)
		}
		lab.Check(t, d.Tracks("0"))
		doc, err := d.Document()
		if err != nil || !strings.Contains(doc.Detail, "of 3 Sentinels 1 name this node") ||
			len(doc.Observation.Quorum.Answers) != 3 ||
			doc.Observation.Quorum.NamesUs {
			t.Errorf("%v %s", err, doc.JSON())
		}
		steady(t, d, checker.ReasonNoQuorum, time.Now().Add(time.Second))
		lab.Check(t, s[0].Restart()) // the other would be in TILT if it woke
		lab.Check(t, d.Says(checker.OK))
		lab.Check(t, d.Tracks("1"))
	}
}

// TestListedSentinelsNameAnother: a node that nobody watches is no master.
func TestListedSentinelsNameAnother(t *testing.T) {
	t.Parallel()
	node, another := lab.New(t, lab.Options{TCP: true}), lab.New(t, lab.Options{TCP: true})
	s := append(watching(t, node, 1, lab.Options{}), watching(t, another, 2, lab.Options{})...)
	d := start(t, node, listed(s)...)
	lab.Check(t, d.Says(checker.ReasonSentinel))
	lab.Check(t, d.Tracks("0"))
	steady(t, d, checker.ReasonSentinel, time.Now().Add(time.Second))
	// Nor is one that an operator promotes.
	node.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(another.Port))
	lab.Check(t, d.Says(checker.ReasonRole))
	node.Must(t, "REPLICAOF", "NO", "ONE")
	lab.Check(t, d.Says(checker.ReasonSentinel))
	steady(t, d, checker.ReasonSentinel, time.Now().Add(time.Second))
	// What a Sentinel promotes is believed before they have agreed on it.
	node.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(another.Port))
	lab.Check(t, d.Says(checker.ReasonRole))
	sentinel, err := net.Dial("tcp", node.Addr())
	lab.Check(t, err)
	defer sentinel.Close()
	fmt.Fprint(sentinel, "MULTI\r\nREPLICAOF NO ONE\r\nCLIENT KILL TYPE normal SKIPME yes\r\nEXEC\r\n")
	lab.Check(t, d.Says(checker.OK))
	promoted := time.Now()
	steady(t, d, checker.OK, promoted.Add(4500*time.Millisecond)) // of the five, less the checks at its ends
	// But not for good.
	lab.Check(t, d.Says(checker.ReasonSentinel))
	if waived := time.Since(promoted); waived > silence+2*time.Second {
		t.Errorf("they were not asked for %v", waived)
	}
}

// TestHostNames: Sentinels that name the node by a host name, and a name that
// leads nowhere.
func TestHostNames(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	var s []*lab.Redis
	for range 2 {
		x := lab.New(
			t,
			lab.Options{
				TCP:      true,
				Sentinel: true,
				Conf:     "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n",
			},
		)
		lab.Check(t, x.Monitor(lab.MasterName, "localhost", node.Port, ""))
		s = append(s, x)
	}
	d := start(t, node, append(listed(s), "--hello=auto")...)
	doc := stands(t, d, checker.StateConfirmed, checker.OK)
	named := "localhost:" + strconv.Itoa(node.Port)
	for _, w := range doc.Observation.Standing.Claims {
		if w.Master != named || !w.NamesUs {
			t.Errorf("heard: %+v", w)
		}
	}
	for _, a := range doc.Observation.Quorum.Answers {
		if a.Master != named || !a.NamesUs {
			t.Errorf("asked: %+v", a)
		}
	}
	if strings.Contains(d.Log(), "cannot tell") {
		t.Error(d.Log())
	}
}

// TestNameThatLeadsNowhere: a Sentinel that cannot be understood is one.
func TestNameThatLeadsNowhere(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	begun := time.Now()
	d := start(t, node, "--hello=auto")
	lab.Check(t, node.Until("cmd=subscribe", "CLIENT", "LIST"))
	// For .onion no name server is asked.
	says := func(epoch int) {
		node.Must(
			t,
			"PUBLISH",
			"__sentinel__:hello",
			fmt.Sprintf("127.0.0.1,26379,%040d,%d,mymaster,nowhere.onion,%d,%d", 7, epoch, node.Port, epoch),
		)
	}
	says(0)
	says(1)
	lab.Check(
		t,
		lab.Wait(
			"the log says so",
			func() (bool, error) { return strings.Contains(d.Log(), "cannot be resolved"), nil },
		),
	)
	steady(t, d, checker.ReasonUnconfirmed, begun.Add(silence/2))
	last := time.Now()
	says(2)
	steady(t, d, checker.ReasonUnconfirmed, last.Add(silence-time.Second))
	doc := stands(t, d, checker.StateNoSentinels, checker.OK)
	if len(doc.Observation.Standing.Claims) != 0 || doc.Observation.Standing.LastHello != nil {
		t.Errorf("they count: %+v", doc.Observation.Standing)
	}
	if n := strings.Count(d.Log(), "cannot be resolved"); n != 1 || !strings.Contains(d.Log(), "nowhere.onion") ||
		!strings.Contains(d.Log(), "--announce-addr") {
		t.Errorf("%d warnings: %s", n, d.Log())
	}
}

// TestHelloOff: where it is switched off, the role decides at once.
func TestHelloOff(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	d := start(t, node, "--hello", "off") // it returns after the first check
	doc, err := d.Document()
	if err != nil || doc.Reason != checker.OK || doc.Observation.Standing != nil {
		t.Errorf("%v %s", err, doc.JSON())
	}
	lab.Check(t, node.Until("cmd=subscribe", "CLIENT", "LIST")) // for its end is an event
	// Not even a word against the node counts.
	node.Must(
		t,
		"PUBLISH",
		"__sentinel__:hello",
		fmt.Sprintf("127.0.0.1,26379,%040d,9,mymaster,127.0.0.1,%d,9", 7, node.Port+1),
	)
	steady(t, d, checker.OK, time.Now().Add(300*time.Millisecond))
}

// TestUptime: a young process is not believed, until its time has come or
// somebody vouches for it.
func TestUptime(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, node, 3, lab.Options{})
	alone, older := start(t, node, "--min-uptime", "1h"), start(t, node, "--min-uptime", "3s")
	asking := start(t, node, append(listed(s), "--min-uptime", "1h")...)
	hearing := start(t, node, "--hello=auto", "--min-uptime", "1h")
	lab.Check(t, asking.Says(checker.OK))
	lab.Check(t, hearing.Says(checker.OK))
	lab.Check(t, older.Says(checker.OK))
	lab.Check(t, alone.Says(checker.ReasonUptime))
	// A majority that is gone vouches no more.
	s[0].Kill()
	s[1].Kill()
	lab.Check(t, asking.Says(checker.ReasonNoQuorum))
	// A restart begins anew.
	node.Kill()
	lab.Check(t, older.Says(checker.ReasonRefused))
	lab.Check(t, node.Restart())
	lab.Check(t, older.Says(checker.ReasonUptime))
	lab.Check(t, older.Says(checker.OK))
}

func TestMinReplicas(t *testing.T) {
	t.Parallel()
	c := []*lab.Redis{lab.New(t, lab.Options{TCP: true})}
	d := start(t, c[0], "--min-replicas", "1")
	lab.Check(t, d.Says(checker.ReasonReplicas))
	replica := lab.New(t, lab.Options{TCP: true})
	replica.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(c[0].Port))
	lab.Check(t, d.Says(checker.OK))
	replica.Kill()
	lab.Check(t, d.Says(checker.ReasonReplicas))
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, replica.Restart())
	replica.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(c[0].Port))
	lab.Check(t, d.Says(checker.OK))
	// A hung one is online for repl-timeout, and good for a second.
	c[0].Must(t, "CONFIG", "SET", "min-replicas-to-write", "1", "min-replicas-max-lag", "1")
	lab.Check(t, replica.Signal(syscall.SIGSTOP))
	lab.Check(t, d.Says(checker.ReasonReplicas))
	lab.Check(t, replica.Signal(syscall.SIGCONT))
	lab.Check(t, d.Says(checker.OK))
}

// TestReplicaVIP is a daemon for reads: a replica that is near enough.
func TestReplicaVIP(t *testing.T) {
	t.Parallel()
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	line, err := lab.NewLine(master.Addr())
	lab.Check(t, err)
	t.Cleanup(line.Close)
	replica := lab.New(
		t,
		lab.Options{
			TCP:      true,
			Password: password,
			Args:     []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(line.Port)},
		},
	)
	lab.Check(t, replica.Until("master_link_status:up", "INFO", "replication"))
	byBytes, bySeconds := freeAddr(t), freeAddr(t)
	file := filepath.Join(t.TempDir(), "password")
	lab.Check(t, os.WriteFile(file, []byte(password), 0o600))
	d := start(t, replica, "--role", "replica", "--max-lag", "64kb", "--master-password-file", file, "--http", byBytes)
	late := start(t, replica, "--role", "replica", "--max-lag", "2s", "--http", bySeconds)
	says := func(addr string, replica, master int) {
		t.Helper()
		for path, want := range map[string]int{"/replica": replica, "/master": master} {
			lab.Check(t, lab.Wait(fmt.Sprintf("%s%s is %d", addr, path, want), func() (bool, error) {
				resp, err := http.Get("http://" + addr + path)
				if err != nil {
					return false, err
				}
				resp.Body.Close()
				return resp.StatusCode == want, nil
			}))
		}
	}
	says(byBytes, 200, 503)
	says(bySeconds, 200, 503)
	lab.Check(t, d.Tracks("1"))

	line.Hold()
	master.Must(t, "SET", "key", strings.Repeat("x", 100_000))
	lab.Check(t, d.Says(checker.ReasonLag))
	lab.Check(t, d.Tracks("0"))
	says(byBytes, 503, 503)
	lab.Check(t, late.Says(checker.ReasonLag))
	says(bySeconds, 503, 503)
	// The connection by which its master was asked is held, too: how far it is behind is known by the next one.
	lab.Check(t, d.Until("the daemon knows how far it is behind", func(doc report.Document) bool {
		return doc.Observation != nil && doc.Observation.BehindBytes != nil &&
			*doc.Observation.BehindBytes >= 100_000 && *doc.Observation.BehindBytes <= 200_000
	}))
	lab.Check(t, lab.Wait("/metrics says how far it is behind", func() (bool, error) {
		_, body := get(t, "http://"+byBytes+"/metrics")
		return strings.Contains(body, "\nredis_is_master_replica_behind_bytes 1"), nil
	}))
	line.Release()
	says(byBytes, 200, 503)
	says(bySeconds, 200, 503)
	lab.Check(t, d.Tracks("1"))

	// A master that cannot be asked has said something two seconds ago.
	lab.Check(t, master.Signal(syscall.SIGSTOP))
	lab.Check(t, d.Says(checker.ReasonLag))
	lab.Check(t, master.Signal(syscall.SIGCONT))
	lab.Check(t, d.Says(checker.OK))
	replica.Must(t, "REPLICAOF", "NO", "ONE")
	lab.Check(t, d.Says(checker.ReasonRole))
	lab.Check(t, d.Tracks("0"))
	says(byBytes, 503, 200)
}

// TestNeverPromoted: a node with replica-priority 0 is passed over.
func TestNeverPromoted(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 3, lab.Options{})
	never := c.Nodes[1]
	never.Must(t, "CONFIG", "SET", "replica-priority", "0")
	for _, s := range c.Sentinels { // which ask every ten seconds
		lab.Check(t, s.Until("slave-priority\n0\n", "SENTINEL", "REPLICAS", lab.MasterName))
	}
	d, other := start(t, never, "--hello=auto"), start(t, c.Nodes[2], "--hello=auto")
	stands(t, d, checker.StateReplica, checker.ReasonRole)
	c.Nodes[0].Kill()
	lab.Check(t, lab.Wait("the other is promoted", func() (bool, error) {
		if d.Track() != "0" {
			return false, fmt.Errorf("it says yes")
		}
		return other.Track() == "1", nil
	}))
	elected, err := c.Master()
	if err != nil || elected != c.Nodes[2] {
		t.Errorf("%v was elected, %v", elected, err)
	}
	lab.Check(t, never.Until("master_port:"+strconv.Itoa(c.Nodes[2].Port), "INFO", "replication"))
	doc, err := d.Document()
	if err != nil || doc.Reason != checker.ReasonRole || doc.Daemon.Transitions[checker.Yes] != 0 {
		t.Errorf("%v %s", err, doc.JSON())
	}
}

// TestAnnouncedAddress: what is announced stands instead of the addresses of
// this host, unless a Sentinel has met the process elsewhere, which the daemon
// learns from those that it hears.
func TestAnnouncedAddress(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, node, 2, lab.Options{})
	trusted, denied := make(map[string]*lab.Daemon), make(map[string]*lab.Daemon)
	for _, announced := range []string{"127.0.0.1", "localhost", node.Addr()} {
		trusted[announced] = start(t, node, append(listed(s), "--hello=auto", "--announce-addr", announced)...)
	}
	for _, announced := range []string{"203.0.113.9", "203.0.113.9:" + strconv.Itoa(node.Port), "127.0.0.1:1"} {
		trusted["met "+announced] = start(t, node, "--hello=auto", "--announce-addr", announced)
		denied["asked "+announced] = start(t, node, append(listed(s), "--announce-addr", announced)...)
	}
	for announced, d := range denied {
		lab.Check(t, d.Says(checker.ReasonSentinel))
		if doc, err := d.Document(); err != nil || !strings.Contains(doc.Hint, "--announce-addr") {
			t.Errorf("%s: %v %s", announced, err, doc.JSON())
		}
	}
	for _, d := range trusted {
		stands(t, d, checker.StateConfirmed, checker.OK)
	}
	for announced, d := range denied {
		if doc, err := d.Document(); err != nil || doc.Reason != checker.ReasonSentinel ||
			doc.Daemon.Transitions[checker.Yes] > 0 {
			t.Errorf("%s: %v %s", announced, err, doc.JSON())
		}
	}
}

// TestTwoNames: the Sentinels know the node by two names. Both must stand for
// it, and the failover of one is enough against it.
func TestTwoNames(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	old := c.Nodes[0]
	for _, s := range c.Sentinels {
		lab.Check(t, s.Monitor("other", "127.0.0.1", old.Port, password))
	}
	d, next := start(t, old, "--hello=auto"), start(t, c.Nodes[1], "--hello=auto")
	names := func(doc report.Document) (names []string) {
		for _, w := range doc.Observation.Standing.Claims {
			names = append(names, w.Name)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	lab.Check(t, d.Until("it is confirmed under both names", func(doc report.Document) bool {
		return doc.Reason == checker.OK && doc.Observation.Standing.State == checker.StateConfirmed &&
			len(names(doc)) == 2
	}))
	// With the other name waiting for its own failover, nothing is undone.
	for _, s := range c.Sentinels {
		s.Must(t, "SENTINEL", "SET", "other", "down-after-milliseconds", "600000")
	}
	lab.Check(t, lab.Wait("a Sentinel begins a failover", func() (bool, error) {
		out, err := c.Sentinels[0].Do("SENTINEL", "FAILOVER", lab.MasterName)
		return out == "OK", err
	}))
	changed := func(from, to checker.Reason, detail string) func(report.Document) bool {
		return func(doc report.Document) bool {
			return slices.ContainsFunc(doc.Daemon.History, func(x report.Transition) bool {
				return x.From == from && x.To == to && strings.Contains(x.Detail, detail)
			})
		}
	}
	lab.Check(t, d.Until("it is told of the failover", changed(checker.OK, checker.ReasonFailover, " promotes ")))
	lab.Check(t, d.Until("it is denied by one name",
		changed(checker.ReasonFailover, checker.ReasonSentinel, "as master of "+lab.MasterName)))
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, next.Tracks("1"))
}

// TestGuardOutputs: what the Sentinels say is in every output.
func TestGuardOutputs(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, node, 3, lab.Options{})
	another := lab.New(t, lab.Options{TCP: true})
	dead := lab.New(t, lab.Options{TCP: true, Sentinel: true})
	dead.Kill()
	all := append(append(slices.Clone(s), watching(t, another, 1, lab.Options{})...), dead)
	addr := freeAddr(t)
	d := start(t, node, append(listed(all), "--hello=auto", "--http", addr)...)
	lab.Check(t, d.Until("three Sentinels were heard", func(doc report.Document) bool {
		standing := doc.Observation.Standing
		return doc.Reason == checker.OK && standing.State == checker.StateConfirmed &&
			standing.LastHello != nil && len(standing.Claims) == 4 // one of them is of a Sentinel that was asked
	}))

	_, body := get(t, "http://"+addr+"/status")
	var doc report.Document
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	hellos, quorum := doc.Observation.Standing, doc.Observation.Quorum
	heard := make(map[string]bool)
	for _, w := range hellos.Claims {
		heard[w.Sentinel] = true
		if w.Sentinel == all[3].Addr() {
			if w.NamesUs || w.Master != another.Addr() {
				t.Errorf("asked: %+v", w)
			}
			continue
		}
		if !w.NamesUs || w.Master != node.Addr() || w.Name != lab.MasterName || len(w.RunID) != 40 ||
			time.Since(w.Time) > 10*time.Second {
			t.Errorf("heard: %+v", w)
		}
	}
	for _, s := range s {
		if !heard[s.Addr()] {
			t.Errorf("%s was not heard: %+v", s.Addr(), hellos.Claims)
		}
	}
	if hellos.LastHello == nil || time.Since(*hellos.LastHello) > 10*time.Second {
		t.Errorf("last: %v", hellos.LastHello)
	}
	if quorum == nil || !quorum.NamesUs || quorum.Waived || len(quorum.Answers) != 5 ||
		time.Since(quorum.Time) > 10*time.Second {
		t.Fatalf("quorum: %+v", quorum)
	}
	for i, want := range []report.SentinelAnswer{
		{Sentinel: s[0].Addr(), Master: node.Addr(), NamesUs: true},
		{Sentinel: s[1].Addr(), Master: node.Addr(), NamesUs: true},
		{Sentinel: s[2].Addr(), Master: node.Addr(), NamesUs: true},
		{Sentinel: all[3].Addr(), Master: another.Addr()},
		{Sentinel: dead.Addr(), Error: dead.Addr() + ": dial: connection refused"},
	} {
		if quorum.Answers[i] != want {
			t.Errorf("asked: %+v, want %+v", quorum.Answers[i], want)
		}
	}

	_, body = get(t, "http://"+addr+"/metrics")
	sample := func(name string) (value float64) {
		t.Helper()
		_, rest, ok := strings.Cut(body, "\nredis_is_master_"+name+" ")
		text, _, _ := strings.Cut(rest, "\n")
		value, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			t.Errorf("no sample %s: %v", name, err)
		}
		return value
	}
	for name, want := range map[string]float64{
		`guard_state{state="confirmed"}`: 1, `guard_state{state="unconfirmed"}`: 0, `guard_state{state="denied"}`: 0,
		`guard_state{state="no-sentinels"}`: 0,
		`guard_state{state="promoted"}`:     0, `guard_state{state="replica"}`: 0, "hello_epoch": 0,
		`sentinels{says="this"}`: 3, `sentinels{says="another"}`: 1, `sentinels{says="nothing"}`: 1,
	} {
		if got := sample(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if age := time.Since(time.UnixMilli(int64(1000 * sample("last_hello_timestamp_seconds")))); age < 0 ||
		age > 10*time.Second {
		t.Errorf("the last hello is %v old", age)
	}

	code, out := cached(t, "--cached="+d.Socket, "--explain")
	for _, line := range []string{
		"  standing     confirmed: the Sentinels name this node as master of mymaster, at epoch 0\n",
		"  heard        " + s[0].Addr() + " names this node (" + node.Addr() + ") as mymaster, epoch 0 of 0, at ",
		"  asked        " + s[0].Addr() + " names this node (" + node.Addr() + ")\n",
		"  asked        " + all[3].Addr() + " names " + another.Addr() + "\n",
		"  asked        " + dead.Addr() + " does not count: ",
		"  sentinel     held ",
		"  no-quorum    held ",
		"  unconfirmed  held ",
		"  uptime       off\n",
	} {
		if code != 0 || !strings.Contains(out, line) {
			t.Errorf("exit code %d, no %q in\n%s", code, line, out)
		}
	}

	// An epoch that names another: the metrics follow.
	const epoch = 7
	node.Must(
		t,
		"PUBLISH",
		"__sentinel__:hello",
		fmt.Sprintf("127.0.0.1,26379,%040d,%d,mymaster,127.0.0.1,%d,%d", 7, epoch, another.Port, epoch),
	)
	lab.Check(t, d.Says(checker.ReasonSentinel))
	_, body = get(t, "http://"+addr+"/metrics")
	if sample(`guard_state{state="denied"}`) != 1 || sample(`guard_state{state="confirmed"}`) != 0 ||
		sample("hello_epoch") != epoch ||
		sample("state") != 0 {
		t.Errorf("denied, /metrics says otherwise:\n%s", body)
	}
	if code, out := cached(t, "--cached="+d.Socket); code != 1 ||
		!strings.Contains(out, net.JoinHostPort("127.0.0.1", strconv.Itoa(another.Port))) {
		t.Errorf("exit code %d: %s", code, out)
	}
}
