package serve

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"redis-is-master/checker"
	"redis-is-master/checker/hook"
	"redis-is-master/checker/report"
)

const prefix = "redis_is_master_"

// A Metrics is a registry of its own with what a monitor knows.
type Metrics struct {
	registry *prometheus.Registry
	process  *prometheus.Registry // not for a file: the node exporter has series of the same names
	checks   *prometheus.CounterVec
	duration prometheus.Histogram
}

// NewMetrics describes one monitor. Give [Metrics.Checked] to it before its
// Run.
func NewMetrics(version string, m *checker.Monitor) *Metrics {
	x := &Metrics{
		registry: prometheus.NewRegistry(),
		process:  prometheus.NewRegistry(),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "checks_total",
			Help: "Checks by their own reason, not damped."}, []string{"reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "check_duration_seconds",
			Help:    "Duration of a check.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}}),
	}
	for _, r := range checker.Reasons() {
		x.checks.WithLabelValues(string(r))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	x.registry.MustRegister(x.checks, x.duration, build, newStatusCollector(m))
	x.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return x
}

// Checked counts one check.
func (x *Metrics) Checked(c checker.Check) {
	x.checks.WithLabelValues(string(c.Verdict.Reason)).Inc()
	x.duration.Observe(c.Duration.Seconds())
}

// Addresses adds what is known of the addresses that the daemon itself holds.
// Give it before anybody reads.
func (x *Metrics) Addresses(states func() []report.VIP) {
	x.registry.MustRegister(addressCollector(states))
}

// An addressCollector reads the states when it is asked.
type addressCollector func() []report.VIP

var (
	vipDesc      = prometheus.NewDesc(prefix+"vip", "1 while this node holds the address.", []string{"address"}, nil)
	conflictDesc = prometheus.NewDesc(prefix+"vip_conflict",
		"1 while another host has the address, though it is wanted here.",
		[]string{"address"}, nil)
)

func (c addressCollector) Describe(ch chan<- *prometheus.Desc) { ch <- vipDesc; ch <- conflictDesc }

func (c addressCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c() {
		ch <- prometheus.MustNewConstMetric(vipDesc, prometheus.GaugeValue, one(s.Held), s.Address)
		ch <- prometheus.MustNewConstMetric(conflictDesc, prometheus.GaugeValue, one(s.Conflict), s.Address)
	}
}

// WatchedVIPs adds whether this host has the addresses that keepalived holds.
// Give it before anybody reads.
func (x *Metrics) WatchedVIPs(present func() map[string]bool) {
	x.registry.MustRegister(watchedCollector(present))
}

// A watchedCollector asks when it is asked. An address that is not known has no
// sample.
type watchedCollector func() map[string]bool

var watchedDesc = prometheus.NewDesc(prefix+"watched_vip", "1 while this host has the address, which keepalived holds.",
	[]string{"address"}, nil)

func (c watchedCollector) Describe(ch chan<- *prometheus.Desc) { ch <- watchedDesc }

func (c watchedCollector) Collect(ch chan<- prometheus.Metric) {
	for address, present := range c() {
		ch <- prometheus.MustNewConstMetric(watchedDesc, prometheus.GaugeValue, one(present), address)
	}
}

// CrashFailover adds what is known of the failovers that the daemon asks for. Give it
// before anybody reads.
func (x *Metrics) CrashFailover(state func() checker.CrashFailover) {
	x.registry.MustRegister(crashCollector(state))
}

// A crashCollector reads the state when it is asked.
type crashCollector func() checker.CrashFailover

var (
	crashReadyDesc = prometheus.NewDesc(prefix+"crash_failover_ready",
		"1 while a failover would be asked for if Redis died.", nil, nil)
	failoversDesc = prometheus.NewDesc(prefix+"failovers_asked_total",
		"Failovers that Sentinels were asked for because Redis was gone, by what came of them.", []string{"result"}, nil)
)

func (c crashCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- crashReadyDesc
	ch <- failoversDesc
}

func (c crashCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	ch <- prometheus.MustNewConstMetric(crashReadyDesc, prometheus.GaugeValue, one(s.Missing == ""))
	for _, r := range checker.FailoverResults() {
		ch <- prometheus.MustNewConstMetric(failoversDesc, prometheus.CounterValue, float64(s.Results[r]), string(r))
	}
}

// Exec adds what is known of the program that is run at every change of the answer.
// Give it before anybody reads.
func (x *Metrics) Exec(state func() hook.State) { x.registry.MustRegister(execCollector(state)) }

// An execCollector reads the state when it is asked.
type execCollector func() hook.State

var (
	execBehindDesc = prometheus.NewDesc(prefix+"exec_behind_seconds",
		"For how long the program of --exec has not exited 0 for the answer that stands.", nil, nil)
	execRunsDesc = prometheus.NewDesc(prefix+"exec_runs_total", "Runs of the program of --exec, by how they ended.",
		[]string{"result"}, nil)
)

func (c execCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- execBehindDesc
	ch <- execRunsDesc
}

func (c execCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	ch <- prometheus.MustNewConstMetric(execBehindDesc, prometheus.GaugeValue, s.Behind.Seconds())
	for _, r := range hook.Results() {
		ch <- prometheus.MustNewConstMetric(execRunsDesc, prometheus.CounterValue, float64(s.Runs[r]), string(r))
	}
}

// A FileState is what is known of a file that keepalived follows.
type FileState struct {
	Behind func() string        // why it does not say the answer; empty if it does
	Unread func() time.Duration // for how long nobody has read it, if that is too long
}

// File adds what is known of such a file, by its kind: "track" or "promotion".
// Give it before anybody reads.
func (x *Metrics) File(kind string, f FileState) {
	labels := prometheus.Labels{"kind": kind}
	x.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "file_behind", ConstLabels: labels,
			Help: "1 while the file does not say the answer, for longer than a second."},
			func() float64 { return one(f.Behind() != "") }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "file_unread_seconds", ConstLabels: labels,
			Help: "For how long keepalived has not read the file; 0 if it reads it, or that cannot be told."},
			func() float64 { return f.Unread().Seconds() }))
}

// Handler serves them.
func (x *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{x.registry, x.process}, promhttp.HandlerOpts{MaxRequestsInFlight: 8})
}

// A statusCollector reads the status when it is asked.
type statusCollector struct {
	m    *checker.Monitor
	desc map[string]*prometheus.Desc
}

func newStatusCollector(m *checker.Monitor) *statusCollector {
	c := &statusCollector{m: m, desc: make(map[string]*prometheus.Desc)}
	for _, d := range []struct {
		name, help string
		labels     []string
	}{
		{"state", "1 while the answer is yes, 0 else.", nil},
		{"role", "1 for the role that the node said it has in the last check, if it answered.", []string{"role"}},
		{"reason", "1 for the reason of the answer.", []string{"reason"}},
		{"transitions_total", "Changes of the answer to this.", []string{"to"}},
		{"credentials_refused",
			"1 while the node refuses the password, which the connection no longer needs; a new one would fail.", nil},
		{"last_transition_timestamp_seconds", "When the answer became what it is.", nil},
		{"last_check_timestamp_seconds", "When the last check began; 0 if none is done.", nil},
		{"connected_replicas", "Online replicas of the node.", nil},
		{"replication_offset_bytes", "Bytes of the replication stream that the node has written or applied.", nil},
		{"replica_lag_seconds", "Time since the node heard its master; no sample if it has none.", nil},
		{"replica_behind_bytes",
			"Bytes of its master's stream that the node has not applied; no sample if the master is not asked.", nil},
		{"redis_uptime_seconds", "Age of the Redis process.", nil},
		{"guard_state",
			"1 for what the hellos of the Sentinels make of this node; all 0 with --hello off.", []string{"state"}},
		{"hello_epoch", "Best config epoch of a hello; no sample before the first.", nil},
		{"last_hello_timestamp_seconds", "When the last hello of a Sentinel was heard; no sample before the first.", nil},
		{"sentinels",
			"Listed Sentinels by what they say of a master: this node, another, or nothing that counts.", []string{"says"}},
		{"sentinel_down_after_seconds",
			"The shortest down-after-milliseconds of the Sentinels that were asked; no sample before one has told it.", nil},
		{"sentinel_failover_timeout_seconds",
			"The shortest failover-timeout of the Sentinels that were asked; no sample before one has told it.", nil},
		{"sentinel_quorum",
			"The lowest quorum of the Sentinels that were asked; no sample before one has told it.", nil},
		{"sentinels_known",
			"Sentinels that there are, by the one that knows most; no sample before one was asked.", nil},
		{"sentinel_misconfigured",
			"1 while the Sentinels that were asked have settings with this problem.", []string{"problem"}},
	} {
		c.desc[d.name] = prometheus.NewDesc(prefix+d.name, d.help, d.labels, nil)
	}
	return c
}

func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		ch <- d
	}
}

func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s, _ := c.m.Status()
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.desc[name], prometheus.GaugeValue, v, labels...)
	}
	gauge("state", one(s.Verdict.Answer() == checker.Yes))
	for _, r := range checker.Reasons() {
		gauge("reason", one(s.Verdict.Reason == r), string(r))
	}
	answered := !s.Check.Time.IsZero() && s.Check.Err == nil && s.Fresh()
	for _, r := range []checker.Role{checker.RoleMaster, checker.RoleReplica, checker.RoleActiveReplica,
		checker.RoleSentinel} {
		gauge("role", one(answered && s.Observation.Role == r), string(r))
	}
	for _, a := range []checker.Answer{checker.Yes, checker.No, checker.Unknown} {
		ch <- prometheus.MustNewConstMetric(c.desc["transitions_total"], prometheus.CounterValue,
			float64(s.Transitions[a]), string(a))
	}
	standing := s.Observation.Standing
	for _, t := range checker.States() {
		gauge("guard_state", one(answered && standing.State == t), string(t))
	}
	if !standing.LastHello.IsZero() {
		gauge("hello_epoch", float64(standing.Epoch))
		gauge("last_hello_timestamp_seconds", timestamp(standing.LastHello))
	}
	says := map[string]int{"this": 0, "another": 0, "nothing": 0}
	for _, a := range s.Observation.Quorum.Answers {
		switch {
		case a.Err != nil:
			says["nothing"]++
		case a.NamesUs:
			says["this"]++
		default:
			says["another"]++
		}
	}
	for word, n := range says {
		gauge("sentinels", float64(n), word)
	}
	c.settings(standing.Asked, gauge)
	gauge("credentials_refused", one(s.Observation.StaleCredentials != nil))
	gauge("last_transition_timestamp_seconds", timestamp(s.Since))
	gauge("last_check_timestamp_seconds", timestamp(s.Check.Time))
	if !answered {
		return
	}
	gauge("connected_replicas", float64(s.Observation.Replicas))
	gauge("replication_offset_bytes", float64(s.Observation.Offset))
	gauge("redis_uptime_seconds", s.Observation.Uptime.Seconds())
	if s.Observation.LastIO >= 0 {
		gauge("replica_lag_seconds", s.Observation.LastIO.Seconds())
	}
	if s.Observation.Behind >= 0 && s.Observation.Role == checker.RoleReplica {
		gauge("replica_behind_bytes", float64(s.Observation.Behind))
	}
}

// settings are those of the Sentinels.
func (c *statusCollector) settings(asked []checker.Asked, gauge func(string, float64, ...string)) {
	s := checker.SettingsOf(asked)
	for _, g := range []struct {
		name  string
		value float64 // negative if it is not known
	}{
		{"sentinel_down_after_seconds", s.DownAfter.Seconds()},
		{"sentinel_failover_timeout_seconds", s.FailoverTimeout.Seconds()},
		{"sentinel_quorum", float64(s.Quorum)}, {"sentinels_known", float64(s.Sentinels)},
	} {
		if g.value >= 0 {
			gauge(g.name, g.value)
		}
	}
	wrong := checker.Misconfigurations(asked)
	for _, p := range checker.Problems() {
		is := slices.ContainsFunc(wrong, func(m checker.Misconfiguration) bool { return m.Problem == p })
		gauge("sentinel_misconfigured", one(is), string(p))
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// TextfileInterval is the default of [Textfile.Every].
const TextfileInterval = 15 * time.Second

// A Textfile is a file for the textfile collector of the node exporter.
type Textfile struct {
	Path    string
	Every   time.Duration // between two writes of the same state; [TextfileInterval] if 0
	Metrics *Metrics
	// Failed is called when the file cannot be written, and with nil when it
	// can again.
	Failed func(error)
	// Writing is held while the file is written.
	Writing sync.Mutex
}

// Run writes the file at every change and once every period, until ctx is
// done; then once more, with what is known at the end.
func (t *Textfile) Run(ctx context.Context, m *checker.Monitor) error {
	var last error
	m.Watch(ctx, cmp.Or(t.Every, TextfileInterval), func(checker.Status) {
		err := t.Write()
		if (err == nil) != (last == nil) {
			t.Failed(err)
		}
		last = err
	})
	return t.Write()
}

// Write replaces the file.
func (t *Textfile) Write() error {
	t.Writing.Lock()
	defer t.Writing.Unlock()
	return prometheus.WriteToTextfile(t.Path, t.Metrics.registry)
}
