package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func invariants(found []Violation) (names []string) {
	for _, v := range found {
		if !slices.Contains(names, v.Invariant) {
			names = append(names, v.Invariant)
		}
	}
	return names
}

// TestNaive shows that the simulator can fail: a daemon that believes every
// role:master violates what it is known to violate, and nothing else.
func TestNaive(t *testing.T) {
	const at, soon, later = 8 * time.Second, 3 * time.Second, 9 * time.Second
	for _, tc := range []struct {
		name  string
		fault []Fault
		want  []string
	}{
		{"nothing happens", nil, nil},
		{"the master dies", []Fault{{Kind: KillRedis, Node: OnMaster, At: at}}, nil},
		{"a replica dies and comes back", []Fault{{Kind: KillRedis, Node: OnReplica, At: at, For: soon}}, nil},
		{"the old master is restarted", []Fault{{Kind: KillRedis, Node: OnMaster, At: at, For: later}},
			[]string{Superseded, Taken}},
		{"the old master is stopped and wakes", []Fault{{Kind: HangRedis, Node: OnMaster, At: at, For: later}},
			[]string{Superseded, Taken}},
		{"a planned failover", []Fault{{Kind: Planned, Node: OnMaster, At: at}}, []string{Superseded, LostWrites}},
		{"REPLICAOF NO ONE on a replica", []Fault{{Kind: PromoteByHand, Node: OnReplica, At: at}}, []string{Taken}},
		{"a planned failover whose leader dies before it has announced it", []Fault{
			{Kind: CrashAt, Step: CrashAfterCommand, At: at},
			{Kind: Planned, Node: 2, At: at + time.Second},
		}, []string{Unannounced}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := New(Config{Seed: 1, Length: 60 * time.Second, Faults: tc.fault}, NewNaive).Run()
			got := invariants(h.Violations(DefaultBounds(h.Config)))
			if !slices.Equal(got, tc.want) {
				t.Errorf("it violates %q, not %q\n%s%v", got, tc.want, h, h.Violations(DefaultBounds(h.Config)))
			}
		})
	}
}

// A scripted daemon says what a function of the seconds since its start says.
type scripted struct {
	Naive
	started time.Time
	yes     func(naive bool, seconds float64) bool
}

func (d *scripted) Start(now time.Time) { d.started = now }

func (d *scripted) Answer(now time.Time) Answer {
	a := d.Naive.Answer(now)
	return Answer{Yes: d.yes(a.Yes, now.Sub(d.started).Seconds()), Reason: fmt.Sprint(a.Yes)}
}

// TestInvariants shows that each of the others can be violated.
func TestInvariants(t *testing.T) {
	for _, tc := range []struct {
		name string
		yes  func(naive bool, seconds float64) bool
		want []string
	}{
		{"as the role", func(naive bool, _ float64) bool { return naive }, nil},
		{"never", func(bool, float64) bool { return false }, []string{NotSettled}},
		{"always", func(bool, float64) bool { return true }, []string{Taken, NotMaster, NotSettled}},
		{"not for a moment", func(naive bool, s float64) bool { return naive && (s < 40 || s > 41) },
			[]string{NotSettled, Refused}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			daemon := func(*World, int) Daemon { return &scripted{yes: tc.yes} }
			h := New(Config{Seed: 1, Length: 60 * time.Second}, daemon).Run()
			got := invariants(h.Violations(DefaultBounds(h.Config)))
			if !slices.Equal(got, tc.want) {
				t.Errorf("it violates %q, not %q\n%s", got, tc.want, h)
			}
		})
	}
}

func TestTwoHolders(t *testing.T) {
	h := &History{Config: Config{Length: time.Minute}.withDefaults(), LastMaster: none}
	h.add(start+10*time.Second, 0, VIPEvent, "up")
	h.add(start+20*time.Second, 1, VIPEvent, "up")
	h.add(start+20*time.Second+3*time.Millisecond, 0, VIPEvent, "down")
	if found := h.Violations(DefaultBounds(h.Config)); len(found) > 0 {
		t.Errorf("for 3 ms: %v", found)
	}
	h.add(start+30*time.Second, 0, VIPEvent, "up")
	h.add(start+31*time.Second, 1, VIPEvent, "down")
	if got := invariants(h.Violations(DefaultBounds(h.Config))); !slices.Equal(got, []string{TwoHolders}) {
		t.Errorf("for a second: %v", got)
	}
}

// TestRepeats shows that a seed is a history.
func TestRepeats(t *testing.T) {
	for seed := range uint64(20) {
		a, b := New(Draw(seed), NewNaive).Run(), New(Draw(seed), NewNaive).Run()
		if a.String() != b.String() || !slices.Equal(a.Acks, b.Acks) {
			t.Fatalf("seed %d: two histories\n%s\n%s", seed, a, b)
		}
	}
}

// TestShrink shows that what is not needed is left out.
func TestShrink(t *testing.T) {
	c := Config{Seed: 3, Sentinels: 5, HostNames: true, Length: 90 * time.Second, Faults: []Fault{
		{Kind: KillSentinel, Node: 4, At: 5 * time.Second, For: 3 * time.Second},
		{Kind: Delay, Node: 2, At: 6 * time.Second, For: 5 * time.Second, Extra: 20 * time.Millisecond},
		{Kind: Planned, Node: 1, At: 7 * time.Second},
		{Kind: KillRedis, Node: OnOther, At: 40 * time.Second, For: 5 * time.Second},
	}}
	small := Shrink(c, NewNaive, DefaultBounds, Superseded)
	if len(small.Faults) != 1 || small.Faults[0].Kind != Planned || small.Sentinels != 3 || small.HostNames ||
		small.Length > 20*time.Second {
		t.Errorf("it is still %+v", small)
	}
	h := New(small, NewNaive).Run()
	if !slices.Contains(invariants(h.Violations(DefaultBounds(h.Config))), Superseded) {
		t.Errorf("it no longer violates\n%s", h)
	}
}

// TestAttack shows that drawn histories soon find what is wrong with the naive
// daemon, and that each finding can be had again.
func TestAttack(t *testing.T) {
	found := Attack(0, 60, NewNaive, DefaultBounds)
	var names []string
	for _, f := range found {
		again := New(f.Config, NewNaive).Run()
		names = append(names, invariants(again.Violations(DefaultBounds(again.Config)))...)
		if again.String() != f.History.String() || len(f.Config.Faults) > 3 {
			t.Errorf("%v", f)
		}
	}
	for _, name := range []string{Superseded, Taken, LostWrites} {
		if !slices.Contains(names, name) {
			t.Errorf("none of 60 histories violates: %s", name)
		}
	}
}

// BenchmarkFailover is a master that dies and comes back as a replica, with all
// that is simulated beside it.
func BenchmarkFailover(b *testing.B) {
	for i := range b.N {
		faults := []Fault{{At: 5 * time.Second, Kind: KillRedis, Node: OnMaster, For: 5 * time.Second}}
		New(Config{Seed: uint64(i), Length: 20 * time.Second, Faults: faults}, NewNaive).Run()
	}
}
