package sentinel_test

import (
	"context"
	"net"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// TestSilentSentinel: of three Sentinels one accepts and says nothing.
func TestSilentSentinel(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	lab.Check(t, err)
	defer silent.Close()
	node := &checker.Redis{Address: c.Nodes[0].Addr()}
	defer node.Close()
	poll := &sentinel.Poll{Name: lab.MasterName, Self: &sentinel.Self{Node: node}, Sentinels: []*checker.Redis{
		{Address: c.Sentinels[0].Addr()}, {Address: c.Sentinels[1].Addr()}, {Address: silent.Addr().String()}}}
	defer poll.Close()
	policy := listedOnly
	for range 3 {
		got := checker.Run(
			context.Background(),
			2*time.Second,
			checker.WithWitnesses(node.Probe, policy, poll),
			policy,
		)
		if got.Verdict.Reason != checker.OK || got.Duration > time.Second {
			t.Errorf(
				"two of three Sentinels name it, and after %v it is %s: %s",
				got.Duration,
				got.Verdict.Reason,
				got.Verdict.Detail,
			)
		}
	}
	// A daemon waits for all, for as long as it takes: the answer must not come
	// and go with that.
	m := &checker.Monitor{
		Probe:     node.Probe,
		Policy:    policy,
		Timeout:   3 * time.Second,
		MaxAge:    4 * time.Second,
		Witnesses: []checker.Witness{poll},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	m.Run(ctx)
	if s, _ := m.Status(); s.Transitions[checker.Yes] == 0 || s.Transitions[checker.No] > 1 {
		t.Errorf("it is %s, after %v", s.Verdict.Reason, s.Transitions)
	}
}
