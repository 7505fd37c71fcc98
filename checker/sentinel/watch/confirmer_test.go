package watch

import (
	"fmt"
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

// TestDisagreement: Sentinels that disagree at one epoch, as after a SENTINEL RESET in the
// middle of a failover, are not asked again at once for each of their answers.
func TestDisagreement(t *testing.T) {
	p := &peer{wake: make(chan struct{}, 1)}
	c, m, now := &Confirmer{Watcher: &Watcher{peers: []*peer{p}}}, &checker.Monitor{}, time.Unix(1000, 0)
	c.Guard.Gap = time.Second
	c.Amend(now, now, &checker.Observation{Role: checker.RoleMaster, RunID: "a", Uptime: time.Hour})
	asked, flips, last := 0, 0, c.Guard.State()
	for i := range 200 {
		now = now.Add(time.Millisecond)
		r := sentinel.Report{Address: fmt.Sprintf("10.0.0.%d:26379", i%2+1), Time: now, ID: fmt.Sprint("id", i%2), RunID: "r",
			Name: "mymaster", Master: []string{"10.0.0.1:6379", "10.0.0.2:6379"}[i%2], ConfigEpoch: 1, OtherSentinels: 2}
		c.on(m, now, sentinel.Told{Now: now, Report: r, NamesUs: i%2 == 0})
		select {
		case <-p.wake:
			asked++
		default:
		}
		if s := c.Guard.State(); s != last {
			flips, last = flips+1, s
		}
	}
	if flips < 100 {
		t.Fatalf("the state has changed %d times only", flips)
	}
	if asked == 0 || asked > 2*maxChanges { // a second may begin meanwhile
		t.Errorf("%d answers had everybody asked at once", asked)
	}
}
