package checker_test

import (
	"context"
	"net"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// TestHostile: whatever a node, a Sentinel or a replica's master says, there is no
// yes, and an answer within the deadline.
func TestHostile(t *testing.T) {
	const timeout, late = 300 * time.Millisecond, 5 * time.Second
	honest := func(o checker.Observation) checker.ProbeFunc {
		return func(context.Context) (checker.Observation, error) { return o, nil }
	}
	for name, harm := range lab.Hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := lab.Fake(t, nil, func(_ int, c net.Conn) { harm(c) })
			replica := with(replica(), func(o *checker.Observation) { o.MasterAddr = address })
			node, upstream := &checker.Redis{Address: address}, &checker.Upstream{Master: &checker.Redis{}}
			poll := &sentinel.Poll{Sentinels: []*checker.Redis{{Address: address}}, Name: "mymaster",
				Self: &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}}
			defer node.Close()
			defer upstream.Close()
			defer poll.Close()
			byLag := checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 1 << 30}
			bySentinel := checker.Policy{Sentinels: true, AllowUnconfirmed: true}
			for connection, check := range map[string]func() checker.Check{
				"the node": func() checker.Check {
					return checker.Run(t.Context(), timeout, node.Probe, checker.Policy{AllowUnconfirmed: true})
				},
				"a Sentinel": func() checker.Check {
					return checker.Run(t.Context(), timeout, checker.WithWitnesses(honest(master()), bySentinel, poll), bySentinel)
				},
				"the master": func() checker.Check {
					return checker.Run(t.Context(), timeout, checker.WithWitnesses(honest(replica), byLag, upstream), byLag)
				},
			} {
				for range 2 {
					begun := time.Now()
					if c := check(); c.Verdict.Answer() == checker.Yes || len(c.Verdict.Detail) > 1000 {
						t.Errorf("%s: %v", connection, c.Verdict)
					}
					if took := time.Since(begun); took > timeout+late {
						t.Errorf("%s: it took %v", connection, took)
					}
				}
			}
		})
	}
}
