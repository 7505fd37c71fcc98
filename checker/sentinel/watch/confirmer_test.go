package watch

import (
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// TestSuspended: an address at which a Sentinel met the node before the host was
// suspended is no longer known to be the node's.
func TestSuspended(t *testing.T) {
	const nat = "203.0.113.1:6379"
	c := &Confirmer{Self: &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}},
		Guard: sentinel.Guard{Gap: time.Second}}
	now, o := time.Now(), checker.Observation{Role: checker.RoleMaster, RunID: "a"}
	c.Self.Told(t.Context(), sentinel.Report{Address: "203.0.113.7:26379", Time: now, Master: nat,
		Nodes: []sentinel.Known{{Address: nat, RunID: "a"}}}, o)
	for _, tt := range []struct {
		suspended time.Duration
		want      sentinel.Match
	}{{0, sentinel.Same}, {time.Second / 2, sentinel.Same}, {5 * time.Second, sentinel.Unresolved}} {
		o.Suspended = tt.suspended
		c.Amend(now, now, &o)
		if got := c.Self.Match(t.Context(), nat, o); got != tt.want {
			t.Errorf("suspended for %v: it matches: %d, want %d", tt.suspended, got, tt.want)
		}
	}
}
