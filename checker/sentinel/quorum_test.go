package sentinel_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sentinelInfo is what a Sentinel of Redis 7.0.15 answers to INFO sentinel,
// and sentinelServer the begin of its answer to INFO server.
const (
	sentinelInfo = "# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n" +
		"sentinel_running_scripts:0\r\n" +
		"sentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n" +
		"master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3\r\n"
	sentinelServer = "# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\nrun_id:8d6f2c\r\n"
)

// listedOnly wants what the listed Sentinels answer, and nothing else of them.
var listedOnly = checker.Policy{Sentinels: true, AllowUnconfirmed: true}

// askOne asks listed Sentinels of a master on 127.0.0.1:6379.
func askOne(t *testing.T, timeout time.Duration, sentinels ...string) checker.Observation {
	t.Helper()
	p := &sentinel.Poll{Name: "mymaster", Self: &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}}
	for _, address := range sentinels {
		p.Sentinels = append(p.Sentinels, &checker.Redis{Address: address})
	}
	defer p.Close()
	node := func(context.Context) (checker.Observation, error) {
		return checker.Observation{Role: checker.RoleMaster}, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	o, err := checker.WithWitnesses(node, listedOnly, p)(ctx)
	lab.Check(t, err)
	return o
}

// TestSentinelReplies are those that a Sentinel gives, and some that none does.
func TestSentinelReplies(t *testing.T) {
	change := func(from, to string) string {
		if strings.Count(sentinelInfo, from) != 1 {
			t.Fatalf("%q is not there once", from)
		}
		return strings.Replace(sentinelInfo, from, to, 1)
	}
	address := func(a string) string { return change("address=127.0.0.1:6379", "address="+a) }
	tilt := func(seconds string) string {
		return strings.Replace(change("sentinel_tilt:0", "sentinel_tilt:1"), "seconds:-1", "seconds:"+seconds, 1)
	}
	const line = "master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3\r\n"
	for name, tt := range map[string]struct {
		info  string
		here  bool
		fails string // why it does not count; empty if it does
	}{
		"as it is":                  {sentinelInfo, true, ""},
		"another port":              {address("127.0.0.1:6380"), false, ""},
		"another host":              {address("203.0.113.7:6379"), false, ""},
		"IPv6":                      {address("::1:6379"), true, ""},
		"IPv6 of another host":      {address("2001:db8::7:6379"), false, ""},
		"IPv6 that holds IPv4":      {address("::ffff:127.0.0.1:6379"), true, ""},
		"a name":                    {address("localhost:6379"), true, ""},
		"a name that leads nowhere": {address(nowhere + ":6379"), false, "cannot be resolved"},
		"no port":                   {address("localhost"), false, "no master by this name"},
		"an empty address":          {address(""), false, "no master by this name"},
		"an empty host":             {address(":6379"), false, "no master by this name"},
		"no address":                {change(",address=127.0.0.1:6379", ""), false, "no master by this name"},
		"TILT":                      {tilt("0"), false, "TILT"},
		"TILT for 4 s":              {tilt("4"), false, "TILT"},
		"TILT for 5 s":              {tilt("5"), true, ""},
		"TILT for no time":          {tilt("soon"), false, "sentinel_tilt_since_seconds"},
		"TILT, and it does not say": {strings.Replace(tilt("5"), "sentinel_tilt_since_seconds:5\r\n", "", 1), false, "TILT"},
		"TILT that is none":         {change("sentinel_tilt:0", "sentinel_tilt:no"), false, "sentinel_tilt"},
		"nothing about TILT":        {change("sentinel_tilt:0\r\n", ""), false, "sentinel_tilt"},
		"TILT twice": {change("sentinel_tilt:0\r\n", "sentinel_tilt:0\r\nsentinel_tilt:1\r\n"),
			false, "twice"},
		"sdown":              {change("status=ok", "status=sdown"), false, "for down"},
		"odown":              {change("status=ok", "status=odown"), false, "for down"},
		"no status":          {change("status=ok,", ""), false, "for down"},
		"another name":       {change("name=mymaster", "name=another"), false, "no master by this name"},
		"a longer name":      {change("name=mymaster", "name=mymaster2"), false, "no master by this name"},
		"a name in capitals": {change("name=mymaster", "name=MyMaster"), false, "no master by this name"},
		"the second of two": {change(
			"master0:", "master0:name=another,status=ok,address=203.0.113.7:6379\r\nmaster1:"), true, ""},
		"the first of two": {sentinelInfo +
			"master1:name=another,status=sdown,address=203.0.113.7:6379\r\n", true, ""},
		"the name twice": {sentinelInfo + line, false, "two masters have this name"},
		"the name twice, in another order": {sentinelInfo + strings.Replace(line, "127.0.0.1", "203.0.113.7", 1), false,
			"two masters have this name"},
		"a key that is no master's":   {change("master0:", "masterful:"), false, "no master by this name"},
		"no master at all":            {change(line, ""), false, "no master by this name"},
		"a data node's empty section": {"", false, "no Sentinel"},
		"another section":             {"# Replication\r\nrole:master\r\n" + line, false, "no Sentinel"},
		"behind another section": {"# Sentinel\r\nsentinel_tilt:0\r\n# Keyspace\r\n" + line, false,
			"no master by this name"},
		"two sections":                      {sentinelInfo + sentinelInfo, false, "no Sentinel"},
		"it breaks off":                     {strings.TrimSuffix(sentinelInfo, "\r\n"), false, "no Sentinel"},
		"it breaks off inside the address":  {sentinelInfo[:strings.Index(sentinelInfo, ":6379")+3], false, "no Sentinel"},
		"it breaks off before the master's": {strings.TrimSuffix(sentinelInfo, line), false, "no master by this name"},
	} {
		t.Run(name, func(t *testing.T) {
			q := askOne(t, lab.Patience, lab.FakeReplies(t, tt.info, sentinelServer)).Quorum
			a := q.Answers[0]
			counts := a.NamesUs && a.Err == nil
			if here, answered := q.NamesUs(); counts != tt.here || here != tt.here || answered != (tt.fails == "") ||
				(a.Err == nil) != answered {
				t.Errorf("%+v: here %t, answered %t", a, here, answered)
			}
			if a.Err != nil &&
				(!strings.Contains(a.Err.Error(), tt.fails) || !strings.HasPrefix(a.Err.Error(), a.Address)) {
				t.Errorf("%v, want %q", a.Err, tt.fails)
			}
		})
	}
}

// TestOneSentinelTwice: a run id counts once, and none is one that all share.
func TestOneSentinelTwice(t *testing.T) {
	server := func(id string) string { return strings.Replace(sentinelServer, "8d6f2c", id, 1) }
	a, again, b := lab.FakeReplies(
		t,
		sentinelInfo,
		server("a"),
	), lab.FakeReplies(
		t,
		sentinelInfo,
		server("a"),
	), lab.FakeReplies(
		t,
		sentinelInfo,
		server("b"),
	)
	without := strings.Replace(sentinelServer, "run_id:8d6f2c\r\n", "", 1)
	none, noneAgain := lab.FakeReplies(t, sentinelInfo, without), lab.FakeReplies(t, sentinelInfo, without)
	for _, tt := range []struct {
		listed         []string
		here, answered bool
	}{
		{[]string{a, b}, true, true},
		{[]string{a, again, b}, true, true},
		{[]string{a, again}, false, false},
		{[]string{none, noneAgain}, false, false},
	} {
		q := askOne(t, lab.Patience, tt.listed...).Quorum
		if here, answered := q.NamesUs(); here != tt.here || answered != tt.answered {
			t.Errorf("%d listed: here %t, answered %t: %+v", len(tt.listed), here, answered, q.Answers)
		}
	}
}

// TestAskedAtOnce: each of the Sentinels answers only when all were asked.
func TestAskedAtOnce(t *testing.T) {
	const n = 5
	var asked atomic.Int32
	all := make(chan struct{})
	var listed []string
	for i := range n {
		listed = append(listed, lab.Fake(t, nil, func(_ int, c net.Conn) {
			buf := make([]byte, 4096)
			if _, err := c.Read(buf); err != nil {
				return
			}
			if asked.Add(1) == n {
				close(all)
			}
			select {
			case <-all:
			case <-time.After(lab.Patience):
				return
			}
			server := strings.Replace(sentinelServer, "8d6f2c", fmt.Sprint(i), 1)
			fmt.Fprintf(c, "$%d\r\n%s\r\n$%d\r\n%s\r\n", len(sentinelInfo), sentinelInfo, len(server), server)
			c.Read(buf)
		}))
	}
	if here, _ := askOne(t, lab.Patience, listed...).Quorum.NamesUs(); !here {
		t.Error("they were asked one after the other")
	}
}

// TestForgottenPassword: that a Sentinel refuses the password for the next
// connection is known while this one answers.
func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	server := lab.New(t, lab.Options{Sentinel: true, Password: "x"})
	var file atomic.Value
	file.Store("x")
	p := &sentinel.Poll{Name: "mymaster", Self: &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}},
		Sentinels: []*checker.Redis{{Network: "unix", Address: server.Socket,
			Password: func(context.Context) (string, error) { return file.Load().(string), nil }}}}
	defer p.Close()
	stale := func(want bool) {
		t.Helper()
		lab.Check(t, lab.Wait("it is as wanted", func() (bool, error) {
			ctx, cancel := context.WithTimeout(t.Context(), lab.Patience)
			defer cancel()
			o := checker.Observation{Role: checker.RoleMaster}
			p.Ask(ctx, o)(&o)
			a := o.Quorum.Answers[0]
			if a.Err == nil || !strings.Contains(a.Err.Error(), "no master by this name") {
				return false, fmt.Errorf("it does not answer: %w", a.Err)
			}
			return (a.StaleCredentials != nil) == want, nil
		}))
	}
	stale(false)
	file.Store("wrong")
	stale(true)
	file.Store("x")
	stale(false)
}
