package sentinel_test

import (
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// TestMemory: another master of the same Sentinels has failed over, so that
// their current epoch is above this one's config epoch. That is the sign of an
// election only where it is new.
func TestMemory(t *testing.T) {
	start := time.Unix(1000, 0)
	believedAfter := func(m sentinel.Memory, current uint64) time.Duration {
		g := sentinel.Guard{Gap: time.Second}
		g.Recall(m)
		g.On(sentinel.Subscription{Now: start, Stands: true})
		for d := time.Duration(0); d < 10*time.Second; d += 50 * time.Millisecond {
			now := start.Add(d)
			g.On(
				sentinel.Answer{
					Asked: now,
					Now:   now,
					Observation: checker.Observation{
						Role:         checker.RoleMaster,
						RunID:        "a",
						Uptime:       time.Hour,
						Acknowledged: 1,
					},
				},
			)
			if g.State().Believed() {
				if got := g.Memory().Settled["mymaster"]; got != current {
					t.Errorf("it remembers %d, and %d was heard", got, current)
				}
				return d
			}
			for _, s := range []string{"s1", "s2"} {
				g.On(sentinel.Heard{Now: now, Claim: checker.Claim{NamesUs: true,
					Hello: checker.Hello{
						Sentinel: s,
						Name:     "mymaster",
						Master:   "me:6379",
						Epoch:    3,
						Current:  current,
					}}})
			}
		}
		return 0
	}
	for _, tt := range []struct {
		memory  sentinel.Memory
		current uint64
		want    time.Duration
	}{
		{sentinel.Memory{}, 3, 250 * time.Millisecond},
		{sentinel.Memory{}, 5, 5 * time.Second}, // it may be an election
		{sentinel.Memory{Settled: map[string]uint64{"mymaster": 5}}, 5, 250 * time.Millisecond},
		{sentinel.Memory{Settled: map[string]uint64{"mymaster": 5}}, 6, 5 * time.Second},
		{sentinel.Memory{Settled: map[string]uint64{"another": 5}}, 5, 5 * time.Second},
	} {
		if got := believedAfter(tt.memory, tt.current); got < tt.want || got > tt.want+100*time.Millisecond {
			t.Errorf("%+v, current epoch %d: believed after %v, want %v", tt.memory, tt.current, got, tt.want)
		}
	}
}
