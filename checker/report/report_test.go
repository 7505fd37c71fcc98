package report_test

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func of(o checker.Observation, err error, p checker.Policy) report.Document {
	p.AllowUnconfirmed = true
	return report.New("10.0.0.1:6379", p, checker.Check{
		Time: at, Duration: 1500 * time.Microsecond, Observation: o, Err: err, Verdict: p.Judge(o, err),
	})
}

func failure(r checker.Reason) error {
	return &checker.Error{
		Reason:  r,
		Stage:   checker.StageDial,
		Address: "10.0.0.1:6379",
		Err:     errors.New("cause"),
		Hint:    "do this",
	}
}

var (
	master = checker.Observation{
		Role:         checker.RoleMaster,
		WireRole:     "master",
		Version:      "7.0.15",
		RunID:        "abc",
		Uptime:       time.Minute,
		Replicas:     2,
		GoodReplicas: -1,
		Offset:       14,
		LastIO:       -1,
		Behind:       -1,
	}
	replica = checker.Observation{
		Role:         checker.RoleReplica,
		WireRole:     "slave",
		MasterAddr:   "10.0.0.2:6379",
		LinkUp:       true,
		GoodReplicas: -1,
		LastIO:       2 * time.Second,
		Behind:       -1,
	}
)

func TestLines(t *testing.T) {
	hostile := replica
	hostile.MasterAddr = "a|b\nREDIS OK: \x1b[2J\u2028"
	wantReplica := checker.Policy{Role: checker.RoleReplica}
	unheard := replica
	unheard.LastIO = -1
	two, _ := report.ParseRange("3:")
	one, _ := report.ParseRange("1:")
	lag, _ := report.ParseRange("10")
	thresholds := report.Nagios{
		Replicas: report.Thresholds{Warning: &two, Critical: &one},
		Lag:      report.Thresholds{Critical: &lag},
		Timeout:  report.StateUnknown,
	}
	tests := []struct {
		name         string
		r            report.Document
		text, nagios string
		state        report.State
	}{
		{"a yes", of(master, nil, checker.Policy{}),
			"yes 10.0.0.1:6379 master ok: role:master, 2 replicas online, up 1m0s",
			"REDIS WARNING: replicas is 2: 10.0.0.1:6379 ok: role:master, 2 replicas online, up 1m0s " +
				"| replicas=2;3:;1:;0 time=0.001500s;;;0", 1},
		{"a no", of(replica, nil, checker.Policy{}),
			"no 10.0.0.1:6379 replica role: role:slave, not a master, follows 10.0.0.2:6379",
			"REDIS CRITICAL: 10.0.0.1:6379 role: role:slave, not a master, follows 10.0.0.2:6379 | time=0.001500s;;;0", 2},
		{"a replica", of(replica, nil, wantReplica),
			"yes 10.0.0.1:6379 replica ok: role:slave, follows 10.0.0.2:6379, the link to the master is up, last heard 2s ago",
			"REDIS OK: 10.0.0.1:6379 ok: role:slave, follows 10.0.0.2:6379, the link to the master is up, last heard 2s ago " +
				"| lag=2s;;10;0 time=0.001500s;;;0", 0},
		{"a lag that is not known", of(unheard, nil, wantReplica),
			"yes 10.0.0.1:6379 replica ok: role:slave, follows 10.0.0.2:6379, the link to the master is up",
			"REDIS CRITICAL: lag is U: 10.0.0.1:6379 ok: role:slave, follows 10.0.0.2:6379, the link to the master is up " +
				"| lag=U;;10;0 time=0.001500s;;;0", 2},
		{"refused", of(checker.Observation{}, failure(checker.ReasonRefused), checker.Policy{}),
			"unknown 10.0.0.1:6379 - refused: dial: cause",
			"REDIS CRITICAL: 10.0.0.1:6379 refused: dial: cause | time=0.001500s;;;0", 2},
		{"a timeout", of(checker.Observation{}, failure(checker.ReasonTimeout), checker.Policy{}),
			"unknown 10.0.0.1:6379 - timeout: dial: cause",
			"REDIS UNKNOWN: 10.0.0.1:6379 timeout: dial: cause | time=0.001500s;;;0", 3},
		{"a hostile server", of(hostile, nil, checker.Policy{}),
			"no 10.0.0.1:6379 replica role: role:slave, not a master, follows a|b?REDIS OK: ?[2J?",
			"REDIS CRITICAL: 10.0.0.1:6379 role: role:slave, not a master, follows a/b?REDIS OK: ?[2J? | time=0.001500s;;;0", 2},
	}
	for _, tt := range tests {
		if got := tt.r.Text(); got != tt.text {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.text)
		}
		if got, state := tt.r.Nagios(thresholds); got != tt.nagios || state != tt.state {
			t.Errorf("%s: %v\n got %s\nwant %s", tt.name, state, got, tt.nagios)
		}
	}
}

// TestEveryReason: the word is the same in all outputs, and none but ok is a
// yes or an OK in any.
func TestEveryReason(t *testing.T) {
	perf := regexp.MustCompile(`^[^|\n]+ \|( [a-z]+=(U|-?[0-9.]+s?);[0-9.:~@-]*;[0-9.:~@-]*;0)+$`)
	for _, reason := range checker.Reasons() {
		r := of(master, nil, checker.Policy{})
		if reason.Answer() == checker.Unknown {
			r = of(checker.Observation{}, failure(reason), checker.Policy{})
		} else {
			r.Reason, r.Answer, r.Detail = reason, reason.Answer(), "x"
		}
		if want := string(reason.Answer()) + " "; !strings.HasPrefix(r.Text(), want) ||
			!strings.Contains(r.Text(), " "+string(reason)+": ") {
			t.Errorf("%s: %s", reason, r.Text())
		}
		line, state := r.Nagios(report.Nagios{})
		if (state == report.StateOK) != (reason == checker.OK) || !strings.Contains(line, " "+string(reason)+": ") ||
			!perf.MatchString(line) {
			t.Errorf("%s: %v %s", reason, state, line)
		}
		var d report.Document
		if err := json.Unmarshal([]byte(r.JSON()), &d); err != nil || d.Reason != reason ||
			d.Answer != reason.Answer() {
			t.Errorf("%s: %v %s", reason, err, r.JSON())
		}
		if !strings.HasPrefix(r.Explain(), r.Text()+"\n") {
			t.Errorf("%s: %s", reason, r.Explain())
		}
	}
}

func TestJSON(t *testing.T) {
	const want = `{"schema":1,"answer":"yes","reason":"ok","detail":"role:slave, follows 10.0.0.2:6379, ` +
		`the link to the master is up, last heard 2s ago",` +
		`"address":"10.0.0.1:6379","time":"2026-01-02T03:04:05Z","duration_seconds":0.0015,"want":"any",` +
		`"observation":{"role":"replica","wire_role":"slave","server":"","version":"","run_id":"","uptime_seconds":0,` +
		`"loading":false,"cluster":false,"replicas":0,"offset_bytes":0,"master":"10.0.0.2:6379","link_up":true,` +
		`"syncing":false,"last_io_seconds":2,"good_replicas":null,"behind_bytes":null},` +
		`"rules":[{"reason":"role","state":"held","detail":"role:slave, follows 10.0.0.2:6379"},` +
		`{"reason":"loading","state":"held","detail":"the data set is loaded"},` +
		`{"reason":"cluster","state":"held","detail":"no Redis Cluster node"},` +
		`{"reason":"link","state":"held","detail":"the link to the master is up, last heard 2s ago"},` +
		`{"reason":"syncing","state":"held","detail":"no synchronisation is under way"},{"reason":"lag","state":"off"},` +
		`{"reason":"replicas","state":"off"},` +
		`{"reason":"sentinel","state":"off"},{"reason":"failover","state":"off"},{"reason":"isolated","state":"off"},` +
		`{"reason":"no-quorum","state":"off"},` +
		`{"reason":"unconfirmed","state":"off"},{"reason":"uptime","state":"off"}]}`
	if got := of(replica, nil, checker.Policy{Role: checker.RoleAny}).JSON(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	const failed = `{"schema":1,"answer":"unknown","reason":"refused","detail":"dial: cause","hint":"do this",` +
		`"address":"10.0.0.1:6379","stage":"dial",` +
		`"time":"2026-01-02T03:04:05Z","duration_seconds":0.0015,"want":"master","observation":null,"rules":[]}`
	if got := of(checker.Observation{}, failure(checker.ReasonRefused), checker.Policy{}).JSON(); got != failed {
		t.Errorf("\n got %s\nwant %s", got, failed)
	}
}

func TestExplain(t *testing.T) {
	o := replica
	o.LinkUp = false
	const want = `no 10.0.0.1:6379 replica link: the link to the master is down
hint: see master_host, masterauth and the log of this replica
took 1.5ms
facts:
  role         replica (role:slave)
  server       not reported
  run id       not reported
  uptime       0s
  loading      no
  cluster      no
  offset       0 bytes
  master       10.0.0.2:6379
  link up      no
  syncing      no
  last heard   2s ago
rules, of which the first broken one decides:
  role         held    role:slave, follows 10.0.0.2:6379
  loading      held    the data set is loaded
  cluster      off
  link         broken  the link to the master is down
  syncing      held    no synchronisation is under way
  lag          off
  replicas     off
  sentinel     off
  failover     off
  isolated     off
  no-quorum    off
  unconfirmed  off
  uptime       off
`
	if got := of(o, nil, checker.Policy{Role: checker.RoleAny, AllowCluster: true}).Explain(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestWhoSaidWhat: the words of the Sentinels, whether heard or asked for.
func TestWhoSaidWhat(t *testing.T) {
	o := master
	o.GoodReplicas = 1
	word := checker.Claim{
		Hello: checker.Hello{
			Sentinel: "abc",
			From:     "10.0.0.3:26379",
			Current:  8,
			Name:     "mymaster",
			Master:   "10.0.0.2:6379",
			Epoch:    7,
		},
	}
	o.Standing = checker.Standing{
		State:     checker.StateDenied,
		Detail:    "named another",
		LastHello: at,
		Epoch:     7,
		Claims:    []checker.TimedClaim{{Claim: word, Time: at}},
		Asked: []checker.Asked{{Sentinel: "10.0.0.3:26379", Time: at, Name: "mymaster", Master: "10.0.0.1:6379",
			NamesUs: true, Epoch: 7, Subscribed: true, FailingOver: true, DownAfter: 5 * time.Second,
			FailoverTimeout: -1, Quorum: 2, Sentinels: -1}},
	}
	o.Quorum = checker.Quorum{Time: at, Answers: []checker.SentinelAnswer{
		{
			Address: "10.0.0.1:26379",
			Master:  "10.0.0.1:6379",
			NamesUs: true,
		}, {Address: "10.0.0.2:26379", Master: "10.0.0.2:6379"}, {Address: "10.0.0.3:26379", Err: errors.New("no answer")},
	}}
	d := of(o, nil, checker.Policy{Sentinels: true})
	if d.Reason != checker.ReasonSentinel {
		t.Errorf("it is %s", d.Reason)
	}
	for _, want := range []string{
		"  replicas     2 online, 1 good\n",
		"  standing     denied: named another\n" +
			"  heard        10.0.0.3:26379 names 10.0.0.2:6379 as mymaster, epoch 7 of 8, at 03:04:05.000\n",
		"  told         10.0.0.3:26379 names this node (10.0.0.1:6379) as mymaster, has a failover under way, " +
			"down after 5 s, at 03:04:05.000\n" +
			"  asked        10.0.0.1:26379 names this node (10.0.0.1:6379)\n" +
			"  asked        10.0.0.2:26379 names 10.0.0.2:6379\n" +
			"  asked        10.0.0.3:26379 does not count: no answer\n",
		"  sentinel     broken  named another; of 3 Sentinels 1 name this node and 1 another (10.0.0.2:6379); no answer\n",
	} {
		if got := d.Explain(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	for _, want := range []string{
		`"good_replicas":1,"behind_bytes":null,"standing":{"state":"denied","because":"","detail":"named another",` +
			`"last_hello":"2026-01-02T03:04:05Z","epoch":7,"claims":[{"sentinel":"10.0.0.3:26379","run_id":"abc",` +
			`"name":"mymaster","master":"10.0.0.2:6379","names_us":false,"epoch":7,"current_epoch":8,` +
			`"time":"2026-01-02T03:04:05Z"}],"asked":[{"sentinel":"10.0.0.3:26379","time":"2026-01-02T03:04:05Z",` +
			`"name":"mymaster","master":"10.0.0.1:6379","names_us":true,"epoch":7,"subscribed":true,"failing_over":true,` +
			`"down":false,"tilt":false,"down_after_seconds":5,"failover_timeout_seconds":null,"quorum":2,"sentinels":null}]}`,
		`"quorum":{"time":"2026-01-02T03:04:05Z","names_us":false,"waived":false,"answers":[{"sentinel":"10.0.0.1:26379",` +
			`"master":"10.0.0.1:6379","names_us":true},{"sentinel":"10.0.0.2:26379","master":"10.0.0.2:6379",` +
			`"names_us":false},{"sentinel":"10.0.0.3:26379","names_us":false,"error":"no answer"}]}`,
	} {
		if got := d.JSON(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
}

func TestRange(t *testing.T) {
	tests := []struct {
		text        string
		fine, alert []float64
	}{
		{"10", []float64{0, 10}, []float64{-1, 11}},
		{"10:", []float64{10, 1e9}, []float64{9.9}},
		{"~:10", []float64{-1e9, 10}, []float64{10.1}},
		{"10:20", []float64{10, 20}, []float64{9, 21}},
		{"@10:20", []float64{9, 21}, []float64{10, 20}},
		{"-5:-1.5", []float64{-5, -1.5}, []float64{0}},
		{"~:", []float64{0}, nil},
	}
	for _, tt := range tests {
		r, err := report.ParseRange(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		for _, v := range tt.fine {
			if r.Alerts(v) {
				t.Errorf("%s alerts for %v", tt.text, v)
			}
		}
		for _, v := range append(tt.alert, math.NaN()) {
			if !r.Alerts(v) {
				t.Errorf("%s is silent for %v", tt.text, v)
			}
		}
	}
	for _, text := range []string{"", ":", "@", "20:10", "x", "1:x", "1,5", "1e3", "Inf", "NaN", "~", "1:2:3"} {
		if r, err := report.ParseRange(text); err == nil {
			t.Errorf("%q is %+v", text, r)
		}
	}
}

// TestVIP: an address that the daemon itself holds, or cannot.
func TestVIP(t *testing.T) {
	d := of(checker.Observation{Role: checker.RoleMaster}, nil, checker.Policy{})
	d.VIP = []report.VIP{
		{Address: "10.0.0.100/32", Held: true},
		{Address: "10.0.0.101/32", Conflict: true, By: "02:00:00:00:00:01"},
	}
	for _, want := range []string{
		"address 10.0.0.100/32 is held\n", "address 10.0.0.101/32 is not held: another host has it, 02:00:00:00:00:01\n",
	} {
		if got := d.Explain(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	want := `"vip":[{"address":"10.0.0.100/32","held":true,"conflict":false},` +
		`{"address":"10.0.0.101/32","held":false,"conflict":true,"by":"02:00:00:00:00:01"}]`
	if got := d.JSON(); !strings.Contains(got, want) {
		t.Errorf("%s\nlacks %s", got, want)
	}
}

// TestTerminal: nothing that a terminal could act on gets through, in any form.
func TestTerminal(t *testing.T) {
	hostile := "x\u0085\u009b2J\x1b[2J\x7f\u2028\u202e\u2066\u200b\ufeff\U000e0001\xff<&>é"
	d := of(replica, nil, checker.Policy{Role: checker.RoleReplica})
	d.Address, d.Detail, d.Hint, d.VIP = hostile, hostile, hostile, []report.VIP{
		{Address: hostile, Conflict: true, By: hostile},
	}
	d.Observation.Master, d.Observation.WireRole = hostile, hostile
	line, _ := d.Nagios(report.Nagios{})
	for name, text := range map[string]string{"text": d.Text(), "JSON": d.JSON(), "explain": d.Explain(), "nagios": line,
		"agent": report.Agent(checker.Verdict{Reason: checker.ReasonRole, Detail: hostile})} {
		for _, c := range text {
			if !strconv.IsPrint(c) && c != '\n' {
				t.Errorf("%s has %U: %q", name, c, text)
			}
		}
	}
	var back report.Document
	if err := json.Unmarshal([]byte(d.JSON()), &back); err != nil ||
		back.Detail != strings.ToValidUTF8(hostile, "\ufffd") {
		t.Errorf("%v: %q of %s", err, back.Detail, d.JSON())
	}
	if !strings.Contains(d.JSON(), `\u0085\u009b2J\u001b[2J\u007f\u2028\u202e\u2066\u200b\ufeff\udb40\udc01`) {
		t.Error(d.JSON())
	}
}

// TestBounds: however much a node and its Sentinels say, a document holds so
// much at most.
func TestBounds(t *testing.T) {
	long := strings.Repeat(`\`, 1000)
	o := master
	o.Version, o.RunID, o.Failover = long, long, long
	o.Standing = checker.Standing{State: checker.StateConfirmed, Detail: long, LastHello: at}
	o.Quorum.Time = at
	for range 200 {
		o.Links = append(o.Links, checker.Link{Address: long, Lag: math.MaxInt64})
		o.Standing.Claims = append(o.Standing.Claims, checker.TimedClaim{Time: at,
			Claim: checker.Claim{Hello: checker.Hello{Sentinel: long, From: long, Name: long, Master: long}}})
		o.Standing.Asked = append(o.Standing.Asked, checker.Asked{Time: at, Sentinel: long, Name: long, Master: long,
			Epoch: math.MaxInt64, DownAfter: math.MaxInt64, FailoverTimeout: math.MaxInt64, Quorum: math.MaxInt64,
			Sentinels: math.MaxInt64})
		o.Quorum.Answers = append(o.Quorum.Answers, checker.SentinelAnswer{Address: long, Err: errors.New(long)})
	}
	d := of(o, nil, checker.Policy{})
	if size := len(d.JSON()); size > report.MaxJSON {
		t.Errorf("%d bytes of JSON", size)
	}
	if c, a := len(d.Observation.Standing.Claims), len(d.Observation.Quorum.Answers); c != 64 || a != 32 {
		t.Errorf("%d claims and %d answers", c, a)
	}
	if n := len(d.Observation.Links); n != 16 {
		t.Errorf("%d replicas", n)
	}
}

// TestWords: what is said once is not said twice, and a rule that holds does
// not read as if it failed.
func TestWords(t *testing.T) {
	refused := &checker.Error{
		Reason:  checker.ReasonAuth,
		Stage:   checker.StageAuth,
		Address: "10.0.0.1:6379",
		Err:     errors.New("the server wants a password"),
	}
	if got, want := of(checker.Observation{}, refused, checker.Policy{}).Text(),
		"unknown 10.0.0.1:6379 - auth: the server wants a password"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	o := master
	o.Standing = checker.Standing{State: checker.StateUnconfirmed, Detail: "no Sentinel has confirmed it"}
	for _, want := range []string{
		"  sentinel     held    no Sentinel names another node\n", "  unconfirmed  broken  no Sentinel has confirmed it\n",
	} {
		if got := of(o, nil, checker.Policy{}).Explain(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	o.Standing = checker.Standing{State: checker.StateDenied, Detail: "they name another"}
	for _, want := range []string{
		"  sentinel     broken  they name another\n", "  unconfirmed  held    the Sentinels have been heard\n",
	} {
		if got := of(o, nil, checker.Policy{}).Explain(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
}
