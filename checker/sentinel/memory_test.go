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

// remembering is a Guard of a master that an earlier Guard left, which knew three
// Sentinels; its subscription stands.
func remembering(start time.Time) *sentinel.Guard {
	g := &sentinel.Guard{Gap: time.Second, Began: start}
	g.Recall(sentinel.Memory{Settled: map[string]uint64{"mymaster": 5}, Several: true,
		Sentinels: []sentinel.Watched{{Address: "10.0.0.2:26379", Name: "mymaster"}}})
	g.On(sentinel.Subscription{Now: start, Stands: true})
	return g
}

// TestMissed: Sentinels that an earlier daemon knew, and that are not heard, are not
// the same as none: the host may be cut off.
func TestMissed(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, tt := range []struct {
		what         string
		remembered   bool
		acknowledged int
		want         checker.State
	}{
		{"nobody was known", false, 0, checker.StateNoSentinels},
		{"they are gone, and so is every replica", true, 0, checker.StateUnconfirmed},
		{"they are gone, and a replica is there", true, 1, checker.StateNoSentinels},
	} {
		g := &sentinel.Guard{Gap: time.Second}
		if tt.remembered {
			g = remembering(start)
		}
		g.On(sentinel.Subscription{Now: start, Stands: true})
		for d := time.Duration(0); d < time.Hour; d += 500 * time.Millisecond {
			now := start.Add(d)
			g.On(sentinel.Answer{Asked: now, Now: now, Observation: checker.Observation{Role: checker.RoleMaster,
				RunID: "a", Uptime: time.Hour, Acknowledged: tt.acknowledged}})
		}
		if got := g.State(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
		if m := g.Memory(); (len(m.Settled) > 0) != (tt.want == checker.StateUnconfirmed) {
			t.Errorf("%s: it remembers %+v", tt.what, m)
		}
	}
}

// TestPromotedByHandAfterRestart: that a Sentinel would have closed the connection
// is known before the first one is heard.
func TestPromotedByHandAfterRestart(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, tt := range []struct {
		g    *sentinel.Guard
		want checker.State
	}{
		{remembering(start), checker.StateUnconfirmed},
		{&sentinel.Guard{Gap: time.Second}, checker.StatePromoted}, // there may be no Sentinel
	} {
		tt.g.On(sentinel.Subscription{Now: start, Stands: true})
		for i, role := range []checker.Role{checker.RoleReplica, checker.RoleReplica, checker.RoleMaster} {
			now := start.Add(time.Duration(i) * 100 * time.Millisecond)
			tt.g.On(sentinel.Answer{Asked: now, Now: now, Observation: checker.Observation{Role: role, RunID: "a",
				MasterAddr: "10.0.0.2:6379", Uptime: time.Hour, Connection: 1}})
		}
		if got := tt.g.State(); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// TestDeaf: while there is no subscription, silence says nothing.
func TestDeaf(t *testing.T) {
	start := time.Unix(1000, 0)
	g := &sentinel.Guard{Gap: time.Second}
	g.On(sentinel.Subscription{Now: start, Stands: true})
	g.On(sentinel.Subscription{Now: start.Add(time.Second)})
	answer := func(from, to time.Duration) {
		for d := from; d < to; d += 500 * time.Millisecond {
			now := start.Add(d)
			g.On(sentinel.Answer{Asked: now, Now: now, Observation: checker.Observation{Role: checker.RoleMaster, RunID: "a",
				Uptime: time.Hour}})
		}
	}
	answer(2*time.Second, time.Minute)
	if got := g.State(); got != checker.StateUnconfirmed {
		t.Errorf("nobody can be heard, and it is %s", got)
	}
	g.On(sentinel.Subscription{Now: start.Add(time.Minute), Stands: true})
	answer(time.Minute, 74*time.Second)
	if got := g.State(); got != checker.StateUnconfirmed {
		t.Errorf("after 14 s of silence it is %s", got)
	}
	answer(74*time.Second, 76*time.Second)
	if got := g.State(); got != checker.StateNoSentinels {
		t.Errorf("after 15 s of silence it is %s", got)
	}
}

// TestHungAtTheStart: a node that did not answer for long when the daemon was
// started may have hung while another was elected, as one that was watched.
func TestHungAtTheStart(t *testing.T) {
	start := time.Unix(1000, 0)
	for first, want := range map[time.Duration]time.Duration{
		100 * time.Millisecond: 300 * time.Millisecond,
		time.Second:            300 * time.Millisecond,
		5 * time.Second:        3200 * time.Millisecond,
	} {
		g := &sentinel.Guard{Gap: time.Second, Began: start}
		g.On(sentinel.Subscription{Now: start, Stands: true})
		begun := start.Add(first)
		for d := time.Duration(0); d < 10*time.Second; d += 50 * time.Millisecond {
			now := begun.Add(d)
			g.On(sentinel.Answer{Asked: now, Now: now, Observation: checker.Observation{Role: checker.RoleMaster, RunID: "a",
				Uptime: time.Hour, Acknowledged: 1}})
			if g.State().Believed() {
				if d < want-100*time.Millisecond || d > want+100*time.Millisecond {
					t.Errorf("first answer after %v: believed %v later, want %v", first, d, want)
				}
				break
			}
			for _, s := range []string{"s1", "s2"} {
				g.On(sentinel.Heard{Now: now, Claim: checker.Claim{NamesUs: true, Hello: checker.Hello{Sentinel: s,
					Name: "mymaster", Master: "me:6379", Epoch: 3, Current: 3}}})
			}
		}
		if !g.State().Believed() {
			t.Errorf("first answer after %v: never believed", first)
		}
	}
}
