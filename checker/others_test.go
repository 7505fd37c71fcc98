package checker_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// sentinelInfo is what a Sentinel of Redis 7.0.15 answers to INFO sentinel,
// and sentinelServer the begin of its answer to INFO server.
const (
	sentinelInfo = "# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\nsentinel_running_scripts:0\r\n" +
		"sentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n" +
		"master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3\r\n"
	sentinelServer = "# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\nrun_id:8d6f2c\r\n"
)

// replies serves every connection with the same replies to each question.
func replies(t *testing.T, texts ...string) (address string) {
	t.Helper()
	return fake(t, nil, func(_ int, c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			for _, text := range texts {
				fmt.Fprintf(c, "$%d\r\n%s\r\n", len(text), text)
			}
		}
	})
}

// askOne asks listed Sentinels of a master on 127.0.0.1:6379.
func askOne(t *testing.T, timeout time.Duration, sentinels ...string) checker.Observation {
	t.Helper()
	x := &checker.Others{Name: "mymaster", Self: &checker.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}}
	for _, address := range sentinels {
		x.Sentinels = append(x.Sentinels, &checker.Redis{Address: address})
	}
	defer x.Close()
	node := func(context.Context) (checker.Observation, error) { return master(), nil }
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	o, err := x.Probe(node, checker.Policy{Sentinels: true})(ctx)
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
	const line = "master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3\r\n"
	for name, tt := range map[string]struct {
		info  string
		here  bool
		fails string // why it does not count; empty if it does
	}{
		"as it is":                          {sentinelInfo, true, ""},
		"another port":                      {address("127.0.0.1:6380"), false, ""},
		"another host":                      {address("203.0.113.7:6379"), false, ""},
		"IPv6":                              {address("::1:6379"), true, ""},
		"IPv6 of another host":              {address("2001:db8::7:6379"), false, ""},
		"IPv6 that holds IPv4":              {address("::ffff:127.0.0.1:6379"), true, ""},
		"a name":                            {address("localhost:6379"), true, ""},
		"a name that leads nowhere":         {address(nowhere + ":6379"), false, "leads nowhere"},
		"no port":                           {address("localhost"), false, "no master by this name"},
		"an empty address":                  {address(""), false, "no master by this name"},
		"an empty host":                     {address(":6379"), false, "no master by this name"},
		"no address":                        {change(",address=127.0.0.1:6379", ""), false, "no master by this name"},
		"TILT":                              {change("sentinel_tilt:0", "sentinel_tilt:1"), false, "TILT"},
		"TILT that is none":                 {change("sentinel_tilt:0", "sentinel_tilt:no"), false, "sentinel_tilt"},
		"nothing about TILT":                {change("sentinel_tilt:0\r\n", ""), false, "sentinel_tilt"},
		"TILT twice":                        {change("sentinel_tilt:0\r\n", "sentinel_tilt:0\r\nsentinel_tilt:1\r\n"), false, "twice"},
		"sdown":                             {change("status=ok", "status=sdown"), false, "for down"},
		"odown":                             {change("status=ok", "status=odown"), false, "for down"},
		"no status":                         {change("status=ok,", ""), false, "for down"},
		"another name":                      {change("name=mymaster", "name=another"), false, "no master by this name"},
		"a longer name":                     {change("name=mymaster", "name=mymaster2"), false, "no master by this name"},
		"a name in capitals":                {change("name=mymaster", "name=MyMaster"), false, "no master by this name"},
		"the second of two":                 {change("master0:", "master0:name=another,status=ok,address=203.0.113.7:6379\r\nmaster1:"), true, ""},
		"the first of two":                  {sentinelInfo + "master1:name=another,status=sdown,address=203.0.113.7:6379\r\n", true, ""},
		"the name twice":                    {sentinelInfo + line, false, "two masters have this name"},
		"the name twice, in another order":  {sentinelInfo + strings.Replace(line, "127.0.0.1", "203.0.113.7", 1), false, "two masters have this name"},
		"a key that is no master's":         {change("master0:", "masterful:"), false, "no master by this name"},
		"no master at all":                  {change(line, ""), false, "no master by this name"},
		"a data node's empty section":       {"", false, "no Sentinel"},
		"another section":                   {"# Replication\r\nrole:master\r\n" + line, false, "no Sentinel"},
		"behind another section":            {"# Sentinel\r\nsentinel_tilt:0\r\n# Keyspace\r\n" + line, false, "no master by this name"},
		"two sections":                      {sentinelInfo + sentinelInfo, false, "no Sentinel"},
		"it breaks off":                     {strings.TrimSuffix(sentinelInfo, "\r\n"), false, "no Sentinel"},
		"it breaks off inside the address":  {sentinelInfo[:strings.Index(sentinelInfo, ":6379")+3], false, "no Sentinel"},
		"it breaks off before the master's": {strings.TrimSuffix(sentinelInfo, line), false, "no master by this name"},
	} {
		t.Run(name, func(t *testing.T) {
			q := askOne(t, lab.Patience, replies(t, tt.info, sentinelServer)).Quorum
			a := q.Answers[0]
			if here, answered := q.Here(); a.Here != tt.here || here != tt.here || answered != (tt.fails == "") || (a.Err == nil) != answered {
				t.Errorf("%+v: here %t, answered %t", a, here, answered)
			}
			if a.Err != nil && (!strings.Contains(a.Err.Error(), tt.fails) || !strings.HasPrefix(a.Err.Error(), a.Address)) {
				t.Errorf("%v, want %q", a.Err, tt.fails)
			}
		})
	}
}

// TestOneSentinelTwice: a run id counts once, and none is one that all share.
func TestOneSentinelTwice(t *testing.T) {
	server := func(id string) string { return strings.Replace(sentinelServer, "8d6f2c", id, 1) }
	a, again, b := replies(t, sentinelInfo, server("a")), replies(t, sentinelInfo, server("a")), replies(t, sentinelInfo, server("b"))
	without := strings.Replace(sentinelServer, "run_id:8d6f2c\r\n", "", 1)
	none, noneAgain := replies(t, sentinelInfo, without), replies(t, sentinelInfo, without)
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
		if here, answered := q.Here(); here != tt.here || answered != tt.answered {
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
		listed = append(listed, fake(t, nil, func(_ int, c net.Conn) {
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
	if here, _ := askOne(t, lab.Patience, listed...).Quorum.Here(); !here {
		t.Error("they were asked one after the other")
	}
}

// TestNotAsked: where a cheaper rule has failed, or what they say would not
// matter, the others are left in peace.
func TestNotAsked(t *testing.T) {
	asked := make(chan struct{}, 8)
	address := fake(t, nil, func(int, net.Conn) { asked <- struct{}{} })
	for name, tt := range map[string]struct {
		o      checker.Observation
		policy checker.Policy
	}{
		"a replica":        {replica(), checker.Policy{Sentinels: true}},
		"loading":          {with(master(), func(o *checker.Observation) { o.Loading = true }), checker.Policy{Sentinels: true}},
		"too few replicas": {master(), checker.Policy{Sentinels: true, MinReplicas: 1}},
		"no such policy":   {master(), checker.Policy{}},
		"a link that is down": {with(replica(), func(o *checker.Observation) { o.LinkUp, o.MasterAddr = false, address }),
			checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 1}},
	} {
		x := &checker.Others{Sentinels: []*checker.Redis{{Address: address}}, Name: "mymaster", Self: &checker.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}, Master: &checker.Redis{}}
		o, err := x.Probe(func(context.Context) (checker.Observation, error) { return tt.o, nil }, tt.policy)(t.Context())
		x.Close()
		if err != nil || len(asked) > 0 || !o.Quorum.Time.IsZero() {
			t.Errorf("%s: asked; %+v, %v", name, o.Quorum, err)
		}
	}
	failed := &checker.Error{Reason: checker.ReasonTimeout}
	x := &checker.Others{Sentinels: []*checker.Redis{{Address: address}}, Self: &checker.Self{Node: &checker.Redis{}}}
	if _, err := x.Probe(func(context.Context) (checker.Observation, error) { return master(), failed }, checker.Policy{Sentinels: true})(t.Context()); err != failed || len(asked) > 0 {
		t.Errorf("a failed probe: %v", err)
	}
}

// TestBehind: how far a replica is behind is known from its master alone, from
// the one that it follows.
func TestBehind(t *testing.T) {
	info := func(replication string) []string {
		return []string{"# Replication\r\n" + replication, "# Persistence\r\nloading:0\r\n", "# Server\r\nredis_mode:standalone\r\nrun_id:a\r\n"}
	}
	first := replies(t, info("role:master\r\nmaster_repl_offset:1000\r\n")...)
	second := replies(t, info("role:master\r\nmaster_repl_offset:5000\r\n")...)
	chained := replies(t, info("role:slave\r\nslave_repl_offset:900\r\nmaster_host:203.0.113.7\r\nmaster_port:6379\r\nmaster_link_status:up\r\n")...)
	mute := fake(t, nil, func(_ int, c net.Conn) { io.Copy(io.Discard, c) })
	x := &checker.Others{Self: &checker.Self{Node: &checker.Redis{}}, Master: &checker.Redis{}}
	defer x.Close()
	for _, tt := range []struct {
		follows      string
		offset, want int64
	}{
		{first, 400, 600},
		{first, 1000, 0},
		{first, 1001, 0}, // it was asked a moment before its master
		{second, 400, 4600},
		{chained, 400, -1},
		{mute, 400, -1},
		{"127.0.0.1:1", 400, -1},
		{nowhere + ":6379", 400, -1},
		{"", 400, -1},
		{first, 400, 600},
	} {
		node := func(context.Context) (checker.Observation, error) {
			return with(replica(), func(o *checker.Observation) { o.Offset, o.MasterAddr = tt.offset, tt.follows }), nil
		}
		policy := checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 1 << 30}
		c := checker.Run(t.Context(), time.Second, x.Probe(node, policy), policy)
		if c.Observation.Behind != tt.want || (tt.want < 0) != (c.Verdict.Reason == checker.ReasonLag) || c.Err != nil {
			t.Errorf("follows %q at %d: %d behind, want %d: %v %v", tt.follows, tt.offset, c.Observation.Behind, tt.want, c.Verdict, c.Err)
		}
	}
}
