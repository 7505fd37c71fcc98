package watch_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
	"redis-is-master/e2e/lab"
)

// A record is what a Watcher has said.
type record struct {
	mu          sync.Mutex
	reports     []sentinel.Report
	notices     []sentinel.Notice
	unreachable map[string][]error
	forbidden   map[string][]error
}

// newWatcher makes a Watcher, and a record of what it says.
func newWatcher(template *checker.Redis) (*watch.Watcher, *record) {
	r := &record{unreachable: make(map[string][]error), forbidden: make(map[string][]error)}
	note := func(f func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		f()
	}
	return &watch.Watcher{
		Template:    template,
		Reported:    func(a sentinel.Report) { note(func() { r.reports = append(r.reports, a) }) },
		Noticed:     func(n sentinel.Notice) { note(func() { r.notices = append(r.notices, n) }) },
		Unreachable: func(a string, err error) { note(func() { r.unreachable[a] = append(r.unreachable[a], err) }) },
		Forbidden:   func(a string, err error) { note(func() { r.forbidden[a] = append(r.forbidden[a], err) }) },
	}, r
}

// run runs w for one test; stop ends it and waits.
func run(t *testing.T, w *watch.Watcher) (stop func()) {
	t.Helper()
	return fake.Until(t, func(ctx context.Context) error { w.Run(ctx); return nil })
}

// until waits until f holds for what was said.
func (r *record) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	lab.Check(t, lab.Wait(what, func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return f(), nil
	}))
}

// last returns the last report of a Sentinel, which has an empty address if there is
// none.
func (r *record) last(address string) (last sentinel.Report) {
	for _, a := range r.reports {
		if a.Address == address {
			last = a
		}
	}
	return last
}

// watchCluster watches the Sentinels of c and waits until all are heard.
func watchCluster(t *testing.T, c *lab.Cluster, template *checker.Redis) (*watch.Watcher, *record) {
	t.Helper()
	w, r := newWatcher(template)
	for _, s := range c.Sentinels {
		w.Know(s.Addr(), lab.MasterName)
	}
	run(t, w)
	for _, s := range c.Sentinels {
		r.until(t, "a Sentinel answers and is heard", func() bool { return !r.last(s.Addr()).Subscribed.IsZero() })
	}
	return w, r
}

// order reports whether a Sentinel's notices have these kinds, in this order, with
// others between them.
func (r *record) order(address string, kinds ...string) bool {
	for _, n := range r.notices {
		if len(kinds) > 0 && n.Address == address && n.Kind == kinds[0] {
			kinds = kinds[1:]
		}
	}
	return len(kinds) == 0
}

func TestWatchPlannedFailover(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 3, lab.Options{})
	w, r := watchCluster(t, c, &checker.Redis{})
	r.mu.Lock()
	ids := make(map[string]bool)
	for _, s := range c.Sentinels {
		a := r.last(s.Addr())
		ids[a.ID] = true
		if id := s.Must(t, "SENTINEL", "MYID"); a.ID != id || a.RunID == "" || a.RunID == id || a.Err != nil ||
			len(a.Refused) != 0 {
			t.Errorf("the Sentinel %s says %+v", id, a)
		}
		if a.Master != c.Nodes[0].Addr() || a.ConfigEpoch != 0 || a.VotedEpoch != 0 || a.Quorum != 2 ||
			a.OtherSentinels != 2 ||
			a.DownAfter != time.Second || a.FailoverTimeout != 10*time.Second || a.FailingOver() ||
			a.TakesForDown() || a.Tilt || a.TiltFor >= 0 {
			t.Errorf("%+v", a)
		}
	}
	if len(ids) != 3 {
		t.Errorf("three Sentinels have the ids %v", ids)
	}
	r.mu.Unlock()
	flip := make(chan time.Time, 1)
	go func() { flip <- masterSince(c.Nodes[1:]) }()
	leader := c.Sentinels[1]
	leader.Must(t, "SENTINEL", "FAILOVER", lab.MasterName)
	flipped := <-flip
	r.until(t, "the failover is told in order", func() bool {
		return r.order(leader.Addr(), sentinel.NewEpoch, sentinel.TryFailover, sentinel.SelectedReplica,
			sentinel.SendReplicaOf,
			sentinel.WaitPromotion, sentinel.PromotedReplica, sentinel.FailoverEnd, sentinel.SwitchMaster)
	})
	master, err := c.Master()
	lab.Check(t, err)
	for _, s := range c.Sentinels {
		r.until(t, "all Sentinels name the new master at the next epoch", func() bool {
			a := r.last(s.Addr())
			return a.Master == master.Addr() && a.ConfigEpoch == 1 && !a.FailingOver()
		})
	}
	w.Ask()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.notices {
		if n.Promotes() && (n.Address != leader.Addr() || n.Node != master.Addr() || n.Master != c.Nodes[0].Addr() ||
			n.Name != lab.MasterName) {
			t.Errorf("%+v", n)
		}
		if n.Kind == sentinel.SwitchMaster && (n.Node != master.Addr() || n.Master != c.Nodes[0].Addr()) {
			t.Errorf("%+v", n)
		}
		if n.Address == leader.Addr() {
			t.Logf("%9.1f ms  %s %s", float64(n.Time.Sub(flipped).Microseconds())/1e3, n.Kind, n.Node)
		}
		if (n.Kind == sentinel.SelectedReplica || n.Kind == sentinel.SendReplicaOf) && !n.Time.Before(flipped) {
			t.Errorf("%s came %v after the flip", n.Kind, n.Time.Sub(flipped))
		}
	}
	if !slices.ContainsFunc(r.reports, func(a sentinel.Report) bool {
		return a.Address == leader.Addr() && a.FailingOver() && a.FailoverState != "" && a.VotedEpoch == 1 &&
			a.Time.Before(flipped)
	}) {
		t.Error("the leader was not seen to lead and to have voted for itself before the flip")
	}
	if slices.ContainsFunc(r.reports, func(a sentinel.Report) bool {
		return a.Address != leader.Addr() &&
			a.FailingOver()
	}) {
		t.Error("who does not lead fails over")
	}
}

// masterSince waits until one of the nodes is a master, by a connection to each.
func masterSince(nodes []*lab.Redis) time.Time {
	var probes []*checker.Redis
	for _, n := range nodes {
		probes = append(probes, &checker.Redis{Network: "unix", Address: n.Socket})
		defer probes[len(probes)-1].Close()
	}
	for end := time.Now().Add(lab.Patience); time.Now().Before(end); {
		for _, p := range probes {
			if o, err := p.Probe(context.Background()); err == nil && o.Role == checker.RoleMaster {
				return time.Now()
			}
		}
	}
	return time.Time{}
}

func TestWatchCrash(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 3, lab.Options{})
	_, r := watchCluster(t, c, &checker.Redis{})
	c.Nodes[0].Kill()
	r.until(t, "a Sentinel tells the whole failover", func() bool {
		return slices.ContainsFunc(c.Sentinels, func(s *lab.Redis) bool {
			return r.order(s.Addr(), sentinel.SubjectivelyDown, sentinel.ObjectivelyDown, sentinel.TryFailover,
				sentinel.VoteForLeader,
				sentinel.SelectedReplica, sentinel.SendReplicaOf, sentinel.WaitPromotion, sentinel.PromotedReplica,
				sentinel.SwitchMaster)
		})
	})
	r.until(t, "a majority has voted, and says so", func() bool {
		votes := 0
		for _, s := range c.Sentinels {
			if a := r.last(s.Addr()); a.VotedEpoch >= 1 && a.ConfigEpoch >= 1 {
				votes++
			}
		}
		return votes >= 2
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.reports, func(a sentinel.Report) bool {
		return a.TakesForDown() &&
			a.Master == c.Nodes[0].Addr()
	}) {
		t.Error("nobody has taken the master for down")
	}
	if !slices.ContainsFunc(r.reports, func(a sentinel.Report) bool {
		return a.VotedEpoch > a.ConfigEpoch &&
			a.VotedLeader != ""
	}) {
		t.Error("no vote was seen before the failover was over")
	}
}

// TestAskCastsNoVote: the question for a vote casts none, whatever the epoch.
func TestAskCastsNoVote(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{})
	w, r := watchCluster(t, c, &checker.Redis{})
	for range 20 {
		r.mu.Lock()
		n := len(r.reports)
		r.mu.Unlock()
		w.Ask()
		r.until(t, "the answers", func() bool { return len(r.reports) >= n+3 })
	}
	for _, s := range c.Sentinels {
		lab.Check(t, s.Until("", "SENTINEL", "FLUSHCONFIG"))
		conf, err := os.ReadFile(filepath.Join(s.Dir, "redis.conf"))
		lab.Check(t, err)
		for _, line := range []string{"sentinel leader-epoch mymaster 0", "sentinel current-epoch 0",
			"sentinel config-epoch mymaster 0"} {
			if !strings.Contains(string(conf), line) {
				t.Errorf("there is no %q in\n%s", line, conf)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notices) != 0 {
		t.Errorf("%+v", r.notices)
	}
}

func TestWatchSentinelStops(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{})
	_, r := watchCluster(t, c, &checker.Redis{})
	s := c.Sentinels[0]
	r.mu.Lock()
	before := r.last(s.Addr())
	r.mu.Unlock()
	silent := func() bool { return len(r.unreachable[s.Addr()]) > 0 }
	lab.Check(t, s.Signal(syscall.SIGSTOP))
	r.until(t, "a stopped Sentinel is missed", silent)
	r.mu.Lock()
	if e, ok := errors.AsType[*checker.Error](r.unreachable[s.Addr()][0]); !ok || e.Reason != checker.ReasonTimeout {
		t.Errorf("a stopped Sentinel is %v", r.unreachable[s.Addr()])
	}
	r.mu.Unlock()
	lab.Check(t, s.Signal(syscall.SIGCONT))
	woken := time.Now()
	r.until(t, "it is heard again", func() bool {
		return r.last(s.Addr()).Time.After(woken) &&
			!r.last(s.Addr()).Subscribed.IsZero()
	})
	s.Kill()
	r.mu.Lock()
	clear(r.unreachable)
	r.mu.Unlock()
	r.until(t, "a dead Sentinel is missed", func() bool {
		return slices.ContainsFunc(r.unreachable[s.Addr()], func(err error) bool {
			e, ok := errors.AsType[*checker.Error](err)
			return ok && e.Reason == checker.ReasonRefused
		})
	})
	lab.Check(t, s.Restart())
	r.until(t, "its new process is heard", func() bool {
		a := r.last(s.Addr())
		return a.RunID != before.RunID && a.ID == before.ID && a.Subscribed.After(before.Subscribed) &&
			a.Master == c.Nodes[0].Addr()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range c.Sentinels[1:] {
		if len(r.unreachable[other.Addr()]) != 0 {
			t.Errorf("%s is unreachable: %v", other.Addr(), r.unreachable[other.Addr()])
		}
	}
}

// password is for [checker.Redis].
func password(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

// grant makes the user watcher of a Sentinel, with these rights alone.
func grant(t *testing.T, s *lab.Redis, rights ...string) {
	t.Helper()
	s.Must(t, append([]string{"ACL", "SETUSER", "watcher", "reset", "on", ">x", "-@all"}, rights...)...)
}

func TestWatchRights(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{})
	f := strings.Fields(watch.SentinelGrant)
	grant(t, c.Sentinels[0], f[3:]...)
	grant(t, c.Sentinels[1], "+info")
	grant(t, c.Sentinels[2])
	wrong := lab.New(t, lab.Options{TCP: true, Sentinel: true, Password: "y"})
	lab.Check(t, wrong.Monitor(lab.MasterName, "127.0.0.1", 1, ""))
	w, r := newWatcher(&checker.Redis{Username: "watcher", Password: password("x")})
	for _, s := range append(c.Sentinels, wrong) {
		w.Know(s.Addr(), lab.MasterName)
	}
	run(t, w)
	all, info := c.Sentinels[0].Addr(), c.Sentinels[1].Addr()
	r.until(t, "what is granted is enough", func() bool {
		a := r.last(all)
		return !a.Subscribed.IsZero() && a.ConfigEpoch == 0 && a.VotedEpoch == 0 && a.ID != "" && a.RunID != "" &&
			len(a.Refused) == 0
	})
	r.until(t, "INFO alone tells the master", func() bool {
		return r.last(info).Master != "" &&
			len(r.forbidden[info]) > 0
	})
	r.until(t, "no right and a wrong password are told", func() bool {
		return len(r.forbidden[c.Sentinels[2].Addr()]) > 1 && len(r.forbidden[wrong.Addr()]) > 1
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.last(info)
	if a.Master != c.Nodes[0].Addr() || a.OtherSentinels != 2 || a.ConfigEpoch != -1 || a.VotedEpoch != -1 ||
		a.Quorum != -1 || a.ID != "" ||
		a.RunID == "" || a.Err != nil || !a.Subscribed.IsZero() || !slices.Equal(a.Refused,
		[]string{"+sentinel|is-master-down-by-addr", "+sentinel|master", "+sentinel|myid"}) {
		t.Errorf("%+v", a)
	}
	for address, reason := range map[string]checker.Reason{
		info: checker.ReasonPermission, c.Sentinels[2].Addr(): checker.ReasonPermission,
		wrong.Addr(): checker.ReasonAuth} {
		e, ok := errors.AsType[*checker.Error](r.forbidden[address][0])
		if !ok || e.Reason != reason || e.Hint == "" || len(r.unreachable[address]) != 0 {
			t.Errorf("%s: %v, %v", address, r.forbidden[address], r.unreachable[address])
		}
		t.Log(e, "|", e.Hint)
	}
	if len(r.forbidden[all])+len(r.unreachable[all]) != 0 {
		t.Errorf("%v %v", r.forbidden[all], r.unreachable[all])
	}
}

func TestWatchTLS(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(dir))
	s := lab.New(t, lab.Options{TLS: true, Sentinel: true, Dir: dir, Password: "x"})
	lab.Check(t, s.Monitor(lab.MasterName, "127.0.0.1", 1, ""))
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	lab.Check(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	lab.Check(t, err)
	config := func(certs ...tls.Certificate) func(context.Context) (*tls.Config, error) {
		return func(context.Context) (*tls.Config, error) {
			return &tls.Config{RootCAs: pool, Certificates: certs}, nil
		}
	}
	watchOne := func(template *checker.Redis) *record {
		w, r := newWatcher(template)
		w.Keep(s.Addr(), lab.MasterName)
		run(t, w)
		return r
	}
	good := watchOne(&checker.Redis{Password: password("x"), TLS: config(client)})
	good.until(t, "it is heard by TLS", func() bool {
		a := good.last(s.Addr())
		return a.Master == "127.0.0.1:1" && !a.Subscribed.IsZero()
	})
	for what, template := range map[string]*checker.Redis{
		"no TLS":      {Password: password("x")},
		"no client":   {Password: password("x"), TLS: config()},
		"no password": {TLS: config(client)},
		"empty":       {Password: password(""), TLS: config(client)},
		"another CA": {TLS: func(context.Context) (*tls.Config, error) {
			return &tls.Config{RootCAs: x509.NewCertPool()}, nil
		}},
	} {
		r := watchOne(template)
		r.until(t, what+" is told",
			func() bool { return len(r.forbidden[s.Addr()])+len(r.unreachable[s.Addr()]) > 0 })
		r.mu.Lock()
		if len(r.reports) != 0 {
			t.Errorf("%s: %+v", what, r.reports)
		}
		t.Log(what, r.forbidden[s.Addr()], r.unreachable[s.Addr()])
		r.mu.Unlock()
	}
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	lab.Check(t, err)
	return len(all)
}

// TestWatchNothing is not parallel: it counts the descriptors of the process.
func TestWatchNothing(t *testing.T) {
	r0 := lab.New(t, lab.Options{TCP: true})
	before := descriptors(t)
	w, r := newWatcher(&checker.Redis{})
	var want []string
	for i := range 14 {
		want = append(want, fmt.Sprintf("127.0.0.%d:1", i+2))
	}
	want = append(want, r0.Addr(), "does-not-exist.invalid:26379")
	for _, address := range want {
		w.Know(address, lab.MasterName)
	}
	for _, address := range []string{"127.0.0.99:1", "nonsense", ":26379", "127.0.0.98:0", "127.0.0.97:"} {
		w.Know(address, lab.MasterName)
	}
	stop := run(t, w)
	r.until(t, "all are unreachable, again and again", func() bool {
		return len(r.unreachable) == 16 && !slices.ContainsFunc(want,
			func(a string) bool { return len(r.unreachable[a]) < 4 })
	})
	var known []string
	for address, name := range w.Known() {
		if known = append(known, address); name != lab.MasterName {
			t.Errorf("%s is known for %q", address, name)
		}
	}
	if !slices.Equal(known, want) {
		t.Errorf("it knows %v", known)
	}
	stop()
	lab.Check(t, lab.Wait("all descriptors are closed", func() (bool, error) {
		return descriptors(t) <= before,
			nil
	}))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports)+len(r.notices)+len(r.forbidden) != 0 {
		t.Errorf("%v %v %v", r.reports, r.notices, r.forbidden)
	}
	t.Log(r.unreachable[r0.Addr()][0], r.unreachable[want[0]][0], r.unreachable[want[15]][0])
}

// TestWatchNames: a Sentinel that does not know the name, one that learns it, and
// two names.
func TestWatchNames(t *testing.T) {
	t.Parallel()
	s := lab.New(t, lab.Options{TCP: true, Sentinel: true})
	lab.Check(t, s.Monitor("first", "127.0.0.1", 1, ""))
	w, r := newWatcher(&checker.Redis{})
	run(t, w)
	w.Know(s.Addr(), "first")
	w.Know(s.Addr(), "second")
	named := func(name string) (last sentinel.Report) {
		for _, a := range r.reports {
			if a.Name == name {
				last = a
			}
		}
		return last
	}
	r.until(t, "one name is known and one is not", func() bool {
		return named("first").Master == "127.0.0.1:1" && named("first").Err == nil &&
			errors.Is(named("second").Err, sentinel.ErrNoSuchMaster) && named("second").Master == "" &&
			!named("second").Subscribed.IsZero()
	})
	lab.Check(t, s.Monitor("second", "::1", 2, ""))
	lab.Check(t, s.Monitor("third", "127.0.0.1", 3, ""))
	r.until(t, "the second is known, too", func() bool {
		return named("second").Master == "[::1]:2" && slices.ContainsFunc(r.notices, func(n sentinel.Notice) bool {
			return n.Kind == sentinel.MonitorAdded && n.Name == "second" && n.Node == "[::1]:2"
		})
	})
	s.Must(t, "SENTINEL", "REMOVE", "first")
	r.until(t, "the first is not known any more", func() bool {
		return errors.Is(named("first").Err, sentinel.ErrNoSuchMaster) && slices.ContainsFunc(r.notices,
			func(n sentinel.Notice) bool {
				return n.Kind == sentinel.MonitorRemoved && n.Name == "first"
			})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.notices, func(n sentinel.Notice) bool { return n.Name == "third" }) {
		t.Error("there is a notice about a name that nobody has asked for")
	}
}

// acceptSubscription answers a HELLO and a SUBSCRIBE as a Sentinel does, and drops
// connections that ask anything else.
func acceptSubscription(c net.Conn) bool {
	buf := make([]byte, 16<<10)
	c.Read(buf)
	fmt.Fprint(c, "-ERR unknown command 'HELLO'\r\n")
	if n, _ := c.Read(buf); !strings.Contains(strings.ToLower(string(buf[:n])), "subscribe") {
		return false
	}
	for i, channel := range sentinel.NoticeKinds() {
		fmt.Fprintf(c, "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:%d\r\n", len(channel), channel, i+1)
	}
	return true
}

// TestWatchFlood: a Sentinel that publishes without end is read at a bounded rate,
// and makes nobody else be asked without end.
func TestWatchFlood(t *testing.T) {
	t.Parallel()
	honest := lab.New(t, lab.Options{TCP: true, Sentinel: true})
	lab.Check(t, honest.Monitor(lab.MasterName, "127.0.0.1", 1, ""))
	text := "master mymaster 127.0.0.1 1"
	message := strings.Repeat(fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n$%d\r\n%s\r\n", len(text), text),
		1000)
	flood := lab.Fake(t, nil, func(_ int, c net.Conn) {
		for ok := acceptSubscription(c); ok; {
			_, err := c.Write([]byte(message))
			ok = err == nil
		}
	})
	w, r := newWatcher(&checker.Redis{})
	w.Know(flood, lab.MasterName)
	w.Know(honest.Addr(), lab.MasterName)
	stop := run(t, w)
	var begun time.Time
	r.until(t, "the flood begins", func() bool {
		begun = time.Now()
		return len(r.notices) > 0
	})
	r.until(t, "four seconds of it are read", func() bool {
		return time.Since(begun) > 4*time.Second &&
			len(r.notices) > 2000
	})
	stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := time.Since(begun).Seconds()
	if atMost := 1000 * (passed + 2); float64(len(r.notices)) > atMost {
		t.Errorf("%d notices in %.1f s", len(r.notices), passed)
	}
	asked := 0
	for _, a := range r.reports {
		if a.Address == honest.Addr() {
			asked++
		}
	}
	if atMost := 51 * (passed + 2); float64(asked) > atMost || asked < 4 {
		t.Errorf("the honest Sentinel was asked %d times in %.1f s", asked, passed)
	}
}

// TestWatchGuarded: whatever panics does so inside of what stands between a panic
// and a yes.
func TestWatchGuarded(t *testing.T) {
	panicked := make(chan any, 10)
	w, _ := newWatcher(&checker.Redis{})
	w.Guarded = func(f func()) {
		defer func() { panicked <- recover() }()
		f()
	}
	w.Unreachable = func(string, error) { panic("as the test wants it") }
	w.Keep("127.0.0.1:1", lab.MasterName)
	stop := run(t, w)
	for range 2 { // what listens, and what asks
		if p := <-panicked; p != "as the test wants it" {
			t.Errorf("%v", p)
		}
	}
	stop()
}

// TestWatchHostile: servers that mean harm, as Sentinels.
func TestWatchHostile(t *testing.T) {
	t.Parallel()
	serve := map[string]func(net.Conn){
		"a message that is none": func(c net.Conn) {
			if acceptSubscription(c) {
				fmt.Fprint(c, "*1\r\n:1\r\n*0\r\n*3\r\n$7\r\nmessage\r\n*0\r\n:1\r\n")
			}
		},
		"a message that nobody wants": func(c net.Conn) {
			if acceptSubscription(c) {
				fmt.Fprint(c, "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\nx\r\n")
			}
		},
	}
	for what, harm := range lab.Hostile {
		serve[what] = harm
	}
	for what, harm := range serve {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			address := lab.Fake(t, nil, func(_ int, c net.Conn) { harm(c) })
			w, r := newWatcher(&checker.Redis{})
			w.Know(address, lab.MasterName)
			stop := run(t, w)
			r.until(t, "it is told", func() bool { return len(r.unreachable[address]) >= 4 })
			stop()
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.reports)+len(r.notices)+len(r.forbidden) != 0 {
				t.Errorf("%v %v %v", r.reports, r.notices, r.forbidden)
			}
			for _, err := range r.unreachable[address] {
				if len(err.Error()) > 300 {
					t.Errorf("%d bytes: %.300s", len(err.Error()), err)
				}
			}
			t.Log(r.unreachable[address][0])
		})
	}
}

// busy is how long a process, with all its threads, was on a CPU.
//
// Format: /proc/PID/task/TID/schedstat, nanoseconds first; sched-stats.rst of Linux.
func busy(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	lab.Check(t, err)
	for _, path := range threads {
		b, _ := os.ReadFile(path) // a thread may have ended
		var ns int64
		fmt.Sscan(string(b), &ns)
		sum += time.Duration(ns)
	}
	return sum
}

// TestWatchCost is not parallel: it counts the time of the process. To be asked
// once a second costs a Sentinel 0.1 % of a core at most. What it uses by itself
// varies by more than a question a second costs, so it is asked often.
func TestWatchCost(t *testing.T) {
	c := lab.NewCluster(t, 2, lab.Options{})
	const period = 4 * time.Second
	cost := func(each func()) (ours, theirs time.Duration) {
		before := make(map[*lab.Redis]time.Duration)
		for _, s := range c.Sentinels {
			before[s] = busy(t, s.Pid())
		}
		self := busy(t, os.Getpid())
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(period); time.Now().Before(end); <-tick.C {
			each()
		}
		for _, s := range c.Sentinels {
			theirs += busy(t, s.Pid()) - before[s]
		}
		return busy(t, os.Getpid()) - self, theirs
	}
	idle, alone := cost(func() {})
	w, r := watchCluster(t, c, &checker.Redis{})
	r.mu.Lock()
	before := len(r.reports)
	r.mu.Unlock()
	ours, watched := cost(w.Ask)
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.reports) - before
	if n < 150 {
		t.Fatalf("%d answers in %v", n, period)
	}
	question, answer := (ours-idle)/time.Duration(n), (watched-alone)/time.Duration(n)
	t.Logf("%d answers: each costs the Watcher %v and the Sentinel %v", n, question, answer)
	if answer > time.Millisecond {
		t.Errorf("once a second, an answer costs a Sentinel %.3f %% of a core", 100*answer.Seconds())
	}
}
