package sentinel

import (
	"testing"
	"time"

	"redis-is-master/checker"
)

// TestRestartWhileCutOff: a daemon that is restarted on a host which is cut off hears the Sentinel of this host. When
// the network is back, what comes first was sent long ago: one acknowledgement, or one hello, makes no master.
func TestRestartWhileCutOff(t *testing.T) {
	start := time.Now()
	for what, late := range map[string]func(g *Guard, now time.Time, o *checker.Observation){
		"nothing": func(*Guard, time.Time, *checker.Observation) {},
		"an acknowledgement": func(_ *Guard, now time.Time, o *checker.Observation) {
			if now.Sub(start) < 21*time.Second {
				o.Acknowledged = 1
			}
		},
		"a hello": func(g *Guard, now time.Time, _ *checker.Observation) {
			if now.Equal(start.Add(20 * time.Second)) {
				g.On(Heard{Now: now, Claim: naming("s2", false)})
			}
		},
	} {
		g := &Guard{Gap: time.Second}
		g.Recall(Memory{Settled: map[string]uint64{"mymaster": 1}, Several: true})
		g.On(Subscription{Now: start, Stands: true})
		for d := time.Duration(0); d < 24*time.Second; d += 100 * time.Millisecond {
			now := start.Add(d)
			if d%(2*time.Second) == 0 {
				g.On(Heard{Now: now, Claim: naming("s1", true)})
			}
			o := checker.Observation{Role: checker.RoleMaster, RunID: "a", Uptime: time.Hour}
			if d >= 20*time.Second {
				late(g, now, &o)
			}
			if s := g.On(Answer{Asked: now, Now: now, Observation: o}); s.Believed() {
				t.Errorf("%v after %s the node is %s", d-20*time.Second, what, s)
				break
			}
		}
	}
}

func naming(sentinel string, local bool) checker.Claim {
	return checker.Claim{NamesUs: true, Local: local, Hello: checker.Hello{Sentinel: sentinel, From: sentinel + ":26379",
		Name: "mymaster", Master: "10.0.0.1:6379", Epoch: 1, Current: 1}}
}
