package sim

import (
	"fmt"
	"testing"
	"time"
)

// TestReloadDuringFailover: a daemon that is replaced, or restarted, at any moment of a failover breaks no invariant.
func TestReloadDuringFailover(t *testing.T) {
	const at = 8 * time.Second
	for name, faults := range map[string][]Fault{
		"a planned failover": {{Kind: Planned, Node: 0, At: at}},
		"a coordinated one":  {{Kind: Coordinated, Node: 0, At: at}},
		"a dead master":      {{Kind: KillRedis, Node: OnMaster, At: at, For: 9 * time.Second}},
		"a hanging master":   {{Kind: HangRedis, Node: OnMaster, At: at, For: 9 * time.Second}},
		"a dead leader":      {{Kind: CrashAt, Step: CrashAfterCommand, At: at - 1}, {Kind: Planned, Node: 2, At: at}},
		"by hand":            {{Kind: PromoteByHand, Node: OnReplica, At: at}},
	} {
		for _, watch := range []bool{false, true} {
			for moment := range 60 {
				for _, kind := range []FaultKind{ReloadDaemon, RestartDaemon} {
					c := Config{Seed: uint64(moment), Length: 60 * time.Second, Watch: watch, UntilSettled: true,
						DownAfter: time.Second, Version: "valkey 9.1.2", Faults: faults}
					after := time.Duration(moment) * 5 * time.Millisecond
					if moment >= 30 {
						after = time.Duration(moment-30) * 150 * time.Millisecond
					}
					for node := range 3 {
						c.Faults = append(c.Faults, Fault{Kind: kind, Node: node, At: at + after, For: 40 * time.Millisecond})
					}
					h := New(c, NewReal).Run()
					if found := h.Violations(BoundsOf(h.Config)); len(found) > 0 {
						t.Errorf("%s: %v\n%s", fmt.Sprintf("%s, watched %v, %s after %v", name, watch, kind, after), found, h)
						return
					}
				}
			}
		}
	}
}
