package checker_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// TestNotAsked: where a cheaper rule has failed, or what they say would not
// matter, no witness is asked.
func TestNotAsked(t *testing.T) {
	asked := make(chan struct{}, 8)
	address := lab.Fake(t, nil, func(int, net.Conn) { asked <- struct{}{} })
	for name, tt := range map[string]struct {
		o      checker.Observation
		policy checker.Policy
	}{
		"a replica": {replica(), checker.Policy{AllowUnconfirmed: true, Sentinels: true}},
		"loading": {with(master(), func(o *checker.Observation) { o.Loading = true }),
			checker.Policy{AllowUnconfirmed: true, Sentinels: true}},
		"too few replicas": {master(), checker.Policy{AllowUnconfirmed: true, Sentinels: true, MinReplicas: 1}},
		"no such policy":   {master(), checker.Policy{AllowUnconfirmed: true}},
		"a link that is down": {with(replica(), func(o *checker.Observation) { o.LinkUp, o.MasterAddr = false, address }),
			checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 1}},
	} {
		poll := &sentinel.Poll{Sentinels: []*checker.Redis{{Address: address}}, Name: "mymaster",
			Self: &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}}
		upstream := &checker.Upstream{Master: &checker.Redis{}}
		o, err := checker.WithWitnesses(
			func(context.Context) (checker.Observation, error) { return tt.o, nil },
			tt.policy,
			poll,
			upstream,
		)(
			t.Context(),
		)
		poll.Close()
		upstream.Close()
		if err != nil || len(asked) > 0 || !o.Quorum.Time.IsZero() {
			t.Errorf("%s: asked; %+v, %v", name, o.Quorum, err)
		}
	}
	failed := &checker.Error{Reason: checker.ReasonTimeout}
	poll := &sentinel.Poll{
		Sentinels: []*checker.Redis{{Address: address}},
		Self:      &sentinel.Self{Node: &checker.Redis{}},
	}
	policy := checker.Policy{AllowUnconfirmed: true, Sentinels: true}
	if _, err := checker.WithWitnesses(func(context.Context) (checker.Observation, error) { return master(), failed },
		policy, poll)(t.Context()); err != failed || len(asked) > 0 {
		t.Errorf("a failed probe: %v", err)
	}
}

// TestBehind: how far a replica is behind is known from its master alone, from
// the one that it follows.
func TestBehind(t *testing.T) {
	info := func(replication string) []string {
		return []string{
			"# Replication\r\n" + replication,
			"# Persistence\r\nloading:0\r\n",
			"# Server\r\nredis_mode:standalone\r\nrun_id:a\r\n",
		}
	}
	first := lab.FakeReplies(t, info("role:master\r\nmaster_repl_offset:1000\r\n")...)
	second := lab.FakeReplies(t, info("role:master\r\nmaster_repl_offset:5000\r\n")...)
	chained := lab.FakeReplies(
		t,
		info(
			"role:slave\r\nslave_repl_offset:900\r\nmaster_host:203.0.113.7\r\nmaster_port:6379\r\nmaster_link_status:up\r\n",
		)...)
	mute := lab.Fake(t, nil, func(_ int, c net.Conn) { io.Copy(io.Discard, c) })
	u := &checker.Upstream{Master: &checker.Redis{}}
	defer u.Close()
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
		{"nowhere.onion:6379", 400, -1},
		{"", 400, -1},
		{first, 400, 600},
	} {
		node := func(context.Context) (checker.Observation, error) {
			return with(
				replica(),
				func(o *checker.Observation) { o.Offset, o.MasterAddr = tt.offset, tt.follows },
			), nil
		}
		policy := checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 1 << 30}
		c := checker.Run(t.Context(), time.Second, checker.WithWitnesses(node, policy, u), policy)
		if c.Observation.Behind != tt.want || (tt.want < 0) != (c.Verdict.Reason == checker.ReasonLag) ||
			c.Err != nil {
			t.Errorf(
				"follows %q at %d: %d behind, want %d: %v %v",
				tt.follows,
				tt.offset,
				c.Observation.Behind,
				tt.want,
				c.Verdict,
				c.Err,
			)
		}
	}
}
