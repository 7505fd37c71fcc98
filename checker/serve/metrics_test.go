package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

const prefix = "redis_is_master_"

// measured is a node with its metrics, before its first check.
func measured(first fake.Outcome) (*fake.Node, *serve.Metrics) {
	n := fake.New(first)
	x := serve.NewMetrics("1.2.3", n.Monitor)
	n.Counted = x.Checked
	return n, x
}

// scrape asks over HTTP, as Prometheus does.
func scrape(t *testing.T, n *fake.Node, x *serve.Metrics) func() string {
	t.Helper()
	h, err := serve.NewHTTP("127.0.0.1:0", "", n.Monitor, x.Handler(), n.Document)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	return func() string {
		t.Helper()
		r, err := send(http.MethodGet, h.Addr().String(), "/metrics")
		lab.Check(t, err)
		if r.code != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Fatalf("/metrics: %d %v", r.code, r.header)
		}
		return r.body
	}
}

type families map[string]*dto.MetricFamily

// parse is what the node exporter does with a file, and Prometheus with a
// scrape.
func parse(t *testing.T, text string) families {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	f, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return f
}

// lint complains of everything that is ours and not as it should be.
func lint(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	lab.Check(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// series are the values of one metric by its only label's, or by "".
func (f families) series(name string) map[string]float64 {
	all := make(map[string]float64)
	for _, m := range f[prefix+name].GetMetric() {
		label := ""
		for _, l := range m.GetLabel() {
			label = l.GetValue()
		}
		all[label] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return all
}

// value is that of a metric without a label; -1 if there is no sample.
func (f families) value(name string) float64 {
	if v, ok := f.series(name)[""]; ok {
		return v
	}
	return -1
}

// isSet checks a closed set: every member is 0 but one, which is 1; none is if
// want is empty.
func (f families) isSet(t *testing.T, name, want string, members []string) {
	t.Helper()
	expected := make(map[string]float64)
	for _, m := range members {
		expected[m] = 0
	}
	if want != "" {
		expected[want] = 1
	}
	if got := f.series(name); !maps.Equal(got, expected) {
		t.Errorf("%s is not %q alone: %v", name, want, got)
	}
}

func reasons() (all []string) {
	for _, r := range checker.Reasons() {
		all = append(all, string(r))
	}
	return all
}

var roles = []string{"master", "replica", "active-replica", "sentinel"}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n, x := measured(fake.Master)
	text := scrape(t, n, x)
	check := func(reason checker.Reason, role string) families {
		t.Helper()
		got := text()
		lint(t, got)
		f := parse(t, got)
		f.isSet(t, "reason", string(reason), reasons())
		f.isSet(t, "role", role, roles)
		if want := map[bool]float64{true: 1}[reason == checker.OK]; f.value("state") != want {
			t.Errorf("%s: state %v", reason, f.value("state"))
		}
		return f
	}
	f := check(checker.ReasonStarting, "")
	if f.value("last_check_timestamp_seconds") != 0 || f.value("connected_replicas") != -1 ||
		f.value("build_info") != -1 ||
		f.series("build_info")["1.2.3"] != 1 {
		t.Errorf("before the first check: %v", f)
	}
	if counted := f.series("checks_total"); len(counted) != len(reasons()) {
		t.Errorf("checks_total is not there from the start: %v", counted)
	}

	n.Watch(t)
	f = check(checker.OK, "master")
	for name, want := range map[string]float64{
		"connected_replicas": 2, "replication_offset_bytes": 14, "redis_uptime_seconds": 60, "replica_lag_seconds": -1,
	} {
		if got := f.value(name); got != want {
			t.Errorf("of a master: %s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"last_check_timestamp_seconds", "last_transition_timestamp_seconds"} {
		if age := time.Since(time.UnixMilli(int64(f.value(name) * 1000))); age < 0 || age > lab.Patience {
			t.Errorf("%s is %v ago", name, age)
		}
	}
	n.Becomes(t, fake.Replica)
	f = check(checker.ReasonRole, "replica")
	if got := f.value("replica_lag_seconds"); got != 2 {
		t.Errorf("of a replica: lag %v", got)
	}
	n.Becomes(t, fake.Hostile())
	check(checker.ReasonRole, "replica")
	n.Becomes(t, fake.Outcome{O: checker.Observation{Role: checker.RoleActiveReplica}})
	check(checker.ReasonRole, "active-replica")
	n.Becomes(t, fake.Outcome{O: checker.Observation{Role: checker.RoleSentinel}})
	check(checker.ReasonRole, "sentinel")

	before := check(checker.ReasonRole, "sentinel").series("checks_total")
	for _, r := range checker.Reasons() {
		if r.Answer() != checker.Unknown || r == checker.ReasonStale {
			continue
		}
		n.Becomes(t, fake.Failure(r))
		f = check(r, "") // nothing is known of a node that does not answer
		for _, name := range []string{
			"connected_replicas", "replication_offset_bytes", "redis_uptime_seconds", "replica_lag_seconds",
		} {
			if got := f.value(name); got != -1 {
				t.Errorf("%s: %s is still %v", r, name, got)
			}
		}
		if got := f.series("checks_total")[string(r)]; got != before[string(r)]+1 {
			t.Errorf("checks_total of %s: %v", r, got)
		}
	}
	f = check(checker.ReasonProtocol, "")
	sum := 0.
	for _, v := range f.series("checks_total") {
		sum += v
	}
	if f.value("check_duration_seconds") != sum {
		t.Errorf("%v checks were counted, %v measured", sum, f.value("check_duration_seconds"))
	}
	if got := f.series("transitions_total"); len(got) != 3 || got["yes"] != 1 || got["no"] != 1 ||
		got["unknown"] != 1 {
		t.Errorf("transitions %v", got)
	}
	n.Stop()
	check(checker.ReasonStopping, "")
}

func TestMetricsStale(t *testing.T) {
	t.Parallel()
	n, x := measured(fake.Master)
	n.MaxAge = time.Nanosecond
	n.Watch(t)
	got := scrape(t, n, x)()
	lint(t, got)
	f := parse(t, got)
	f.isSet(t, "reason", "stale", reasons())
	if f.value("state") != 0 {
		t.Errorf("state %v", f.value("state"))
	}
}

// TestNoSecret: what was said by a node, or about the way to it, is no metric.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	secret := "hunter2"
	master, replica := fake.Master, fake.Replica
	master.O.RunID, replica.O.MasterAddr, replica.O.WireRole = secret, secret+":6379", secret
	n, x := measured(fake.Master)
	n.Watch(t)
	text := scrape(t, n, x)
	for _, o := range []fake.Outcome{master, replica, {Err: errors.New("AUTH " + secret)},
		{Err: &checker.Error{Reason: checker.ReasonAuth, Address: "redis://:" + secret + "@x", Err: errors.New(secret),
			Hint: secret}}} {
		n.Becomes(t, o)
		if got := text(); strings.Contains(got, secret) {
			t.Errorf("%s", got)
		}
	}
}

// TestOwnRegistry: what others register globally is not served, and two
// daemons in one process are no conflict.
func TestOwnRegistry(t *testing.T) {
	t.Parallel()
	n, x := measured(fake.Master)
	measured(fake.Replica)
	alien := prometheus.NewGauge(prometheus.GaugeOpts{Name: "alien", Help: "Of another."})
	prometheus.MustRegister(alien)
	defer prometheus.Unregister(alien)
	f := parse(t, scrape(t, n, x)())
	if f["alien"] != nil || f["go_goroutines"] == nil || f["process_resident_memory_bytes"] == nil {
		t.Errorf("the families are %v", slices.Sorted(maps.Keys(f)))
	}
}

// A textfile under a monitor, in a bubble of synctest. The node is checked
// when it changes, and else once an hour.
type textfile struct {
	t        *testing.T
	n        *fake.Node
	path     string
	failures chan error // what Failed was called with
	end      func()
}

const every = 15 * time.Second

func newTextfile(t *testing.T, path string) *textfile {
	t.Helper()
	n, x := measured(fake.Replica)
	f := &textfile{t: t, n: n, path: path, failures: make(chan error, 100)}
	file := &serve.Textfile{Path: path, Every: every, Metrics: x, Failed: func(err error) { f.failures <- err }}
	f.end = fake.Until(t, func(ctx context.Context) error { return file.Run(ctx, n.Monitor) })
	stop := fake.Until(t, func(ctx context.Context) error { return n.Run(ctx) })
	t.Cleanup(func() { stop(); f.end() })
	synctest.Wait()
	return f
}

func (f *textfile) becomes(x fake.Outcome) {
	f.n.Turn(x)
	synctest.Wait()
}

// pass lets time go by in the bubble.
func (f *textfile) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var timestamped = regexp.MustCompile(`(?m)^[^#\n][^\n]*[} ]\S+ -?[0-9]+$`)

// read checks that the node exporter would take the file.
func (f *textfile) read() families {
	f.t.Helper()
	b, err := os.ReadFile(f.path)
	lab.Check(f.t, err)
	info, err := os.Stat(f.path)
	lab.Check(f.t, err)
	if info.Mode() != 0o644 {
		f.t.Errorf("mode %v", info.Mode())
	}
	if !bytes.HasSuffix(b, []byte("\n")) || bytes.HasSuffix(b, []byte("\n\n")) {
		f.t.Errorf("it ends in %q", b[max(0, len(b)-20):])
	}
	lint(f.t, string(b))
	all := parse(f.t, string(b))
	for name, family := range all {
		for _, m := range family.GetMetric() {
			if m.TimestampMs != nil {
				f.t.Errorf("%s has a timestamp", name)
			}
		}
	}
	if found := timestamped.Find(b); found != nil {
		f.t.Errorf("a timestamp: %s", found)
	}
	entries, err := os.ReadDir(filepath.Dir(f.path))
	lab.Check(f.t, err)
	if len(entries) != 1 {
		f.t.Errorf("left behind: %v", entries)
	}
	return all
}

func (f *textfile) failed(want ...bool) {
	f.t.Helper()
	got := make([]bool, 0)
	var last error
	for len(f.failures) > 0 {
		last = <-f.failures
		got = append(got, last != nil)
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("Failed was called with an error, or with nil: %v, the last was %v", got, last)
	}
}

func TestTextfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "redis.prom")
	synctest.Test(t, func(t *testing.T) {
		f := newTextfile(t, path)
		f.read().isSet(t, "reason", "role", reasons())
		f.becomes(fake.Master)
		f.read().isSet(t, "reason", "ok", reasons())
		f.becomes(fake.Failure(checker.ReasonTimeout))
		f.read().isSet(t, "reason", "timeout", reasons())
		f.becomes(fake.Master)

		// Nothing changes: it is written once a period all the same.
		before, err := os.Stat(path)
		lab.Check(t, err)
		f.pass(every - time.Second)
		if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
			t.Errorf("rewritten without a reason: %v", err)
		}
		f.pass(time.Second)
		now, err := os.Stat(path)
		lab.Check(t, err)
		if os.SameFile(before, now) {
			t.Error("not rewritten after a period")
		}
		lab.Check(t, os.Remove(path))
		f.pass(every)
		f.read().isSet(t, "reason", "ok", reasons())

		f.n.Stop()
		synctest.Wait()
		f.read().isSet(t, "reason", "stopping", reasons())
		f.end()
		f.read().isSet(t, "reason", "stopping", reasons())
		f.failed()
	})
}

// TestTextfileStale: a poller that hangs is seen in the file before the period
// is over.
func TestTextfileStale(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "redis.prom")
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		over := make(chan struct{})
		m := &checker.Monitor{
			Policy: checker.Policy{AllowUnconfirmed: true},
			Probe: func(context.Context) (checker.Observation, error) {
				if hangs.Load() {
					<-over
				}
				return fake.Master.O, nil
			},
		}
		x := serve.NewMetrics("", m)
		m.Checked = x.Checked
		f := &textfile{t: t, path: path, failures: make(chan error, 100)}
		file := &serve.Textfile{
			Path:    path,
			Every:   time.Hour,
			Metrics: x,
			Failed:  func(err error) { f.failures <- err },
		}
		end := fake.Until(t, func(ctx context.Context) error { return file.Run(ctx, m) })
		stop := fake.Until(t, func(ctx context.Context) error { return m.Run(ctx) })
		synctest.Wait()
		f.read().isSet(t, "reason", "ok", reasons())
		hangs.Store(true)
		f.pass(checker.DefaultMaxAge + 2*checker.DefaultInterval)
		f.read().isSet(t, "reason", "stale", reasons())
		if got := f.read().value("state"); got != 0 {
			t.Errorf("state %v", got)
		}
		hangs.Store(false)
		close(over)
		f.pass(2 * checker.DefaultInterval)
		f.read().isSet(t, "reason", "ok", reasons())
		stop()
		end()
		f.failed()
	})
}

func TestTextfileFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "textfile")
	lab.Check(t, os.Mkdir(dir, 0o755))
	synctest.Test(t, func(t *testing.T) {
		f := newTextfile(t, filepath.Join(dir, "redis.prom"))
		f.failed()
		lab.Check(t, os.RemoveAll(dir))
		f.becomes(fake.Master)
		f.pass(5 * every)
		f.becomes(fake.Replica)
		f.failed(true)
		lab.Check(t, os.Mkdir(dir, 0o755))
		f.pass(every)
		f.failed(false)
		f.read().isSet(t, "reason", "role", reasons())
		f.pass(5 * every)
		f.failed()
		// And a second time, as the first.
		lab.Check(t, os.RemoveAll(dir))
		f.pass(5 * every)
		f.failed(true)
		lab.Check(t, os.Mkdir(dir, 0o755))
		f.becomes(fake.Master)
		f.failed(false)
		f.read().isSet(t, "reason", "ok", reasons())
	})
}

// TestTextfileBesideTheExporter: the node exporter puts the files together
// with the metrics of its own process and logs an error at every scrape for a
// series that both have.
func TestTextfileBesideTheExporter(t *testing.T) {
	t.Parallel()
	n, x := measured(fake.Master)
	n.Watch(t)
	path := filepath.Join(t.TempDir(), "redis.prom")
	lab.Check(t, (&serve.Textfile{Path: path, Metrics: x}).Write())
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	file := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		b, err := os.ReadFile(path)
		lab.Check(t, err)
		return slices.Collect(maps.Values(parse(t, string(b)))), nil
	})
	if _, err := (prometheus.Gatherers{own, file}).Gather(); err != nil {
		t.Errorf("%.300s", fmt.Sprint(err))
	}
}

// TestAddresses: what becomes of the addresses that the daemon holds, or only
// watches.
func TestAddresses(t *testing.T) {
	n, x := measured(fake.Master)
	states := []report.VIP{
		{Address: "10.0.0.100/32", Held: true},
		{Address: "2001:db8::100/128", Conflict: true, By: "02:00:00:00:00:01"},
	}
	x.Addresses(func() []report.VIP { return states })
	x.WatchedVIPs(func() map[string]bool { return map[string]bool{"10.0.0.101": true, "10.0.0.102": false} })
	text := scrape(t, n, x)()
	for _, line := range []string{
		`vip{address="10.0.0.100/32"} 1`, `vip{address="2001:db8::100/128"} 0`,
		`vip_conflict{address="10.0.0.100/32"} 0`, `vip_conflict{address="2001:db8::100/128"} 1`,
		`watched_vip{address="10.0.0.101"} 1`, `watched_vip{address="10.0.0.102"} 0`,
	} {
		if !strings.Contains(text, "\n"+prefix+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	lab.Check(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestSentinelSettings: the settings of the Sentinels are metrics, and what is
// wrong with them is one, and is on the page and in the document.
func TestSentinelSettings(t *testing.T) {
	t.Parallel()
	n, x := measured(fake.Master)
	h, err := serve.NewHTTP("127.0.0.1:0", "", n.Monitor, x.Handler(), n.Document)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	n.Watch(t)
	get := func(path string) string {
		t.Helper()
		r := browse(t, h.Addr().String(), path, map[bool]string{true: browser, false: "*/*"}[path == "/"])
		return r.body
	}
	check := func(problem string, want map[string]float64) {
		t.Helper()
		text := get("/metrics")
		lint(t, text)
		f := parse(t, text)
		f.isSet(t, "sentinel_misconfigured", problem, []string{"down-after", "quorum", "differ"})
		for _, name := range []string{"sentinel_down_after_seconds", "sentinel_failover_timeout_seconds", "sentinel_quorum",
			"sentinels_known"} {
			value, told := want[name]
			if !told {
				value = -1
			}
			if got := f.value(name); got != value {
				t.Errorf("%s is %v, want %v", name, got, value)
			}
		}
		for path, word := range map[string]string{"/": "to be mended", "/status": `"sentinels":["`} {
			if got := strings.Contains(get(path), word); got != (problem != "") {
				t.Errorf("%s says %q: %v", path, word, got)
			}
		}
	}
	check("", nil)
	is := fake.Master
	a := checker.Asked{Sentinel: "10.0.0.1:26379", Name: "mymaster", Time: time.Now(), DownAfter: 5 * time.Second,
		FailoverTimeout: time.Minute, Quorum: 2, Sentinels: 3}
	is.O.Standing = checker.Standing{State: checker.StateConfirmed, Asked: []checker.Asked{a}}
	n.Becomes(t, is)
	want := map[string]float64{"sentinel_down_after_seconds": 5, "sentinel_failover_timeout_seconds": 60,
		"sentinel_quorum": 2, "sentinels_known": 3}
	check("", want)
	b := a
	b.Sentinel, b.DownAfter = "10.0.0.2:26379", 6*time.Second
	is.O.Standing.Asked = []checker.Asked{b, a}
	n.Becomes(t, is)
	check("differ", want)
	if page := get("/"); !strings.Contains(page,
		"down-after-milliseconds of mymaster is 5000 at the Sentinel 10.0.0.1:26379 and 6000 at 10.0.0.2:26379") ||
		!strings.Contains(page, "<td>60 s</td>") {
		t.Errorf("the page is\n%s", page)
	}
	a.Quorum = 1
	is.O.Standing.Asked = []checker.Asked{a}
	n.Becomes(t, is)
	want["sentinel_quorum"] = 1
	check("quorum", want)
	a.DownAfter, a.Quorum, a.FailoverTimeout = time.Second, 2, -1
	is.O.Standing.Asked = []checker.Asked{a}
	n.Becomes(t, is)
	want = map[string]float64{"sentinel_down_after_seconds": 1, "sentinel_quorum": 2, "sentinels_known": 3}
	check("down-after", want)
	n.Becomes(t, fake.Failure(checker.ReasonTimeout)) // what the Sentinels have said stands
	check("down-after", want)
}
