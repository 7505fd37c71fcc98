// Package e2e proves the whole chain on three nodes: Redis, Sentinel,
// redis-is-masterd, keepalived, a client that writes through the VIP, and
// faults. A scenario is a row in [scenarios].
package e2e

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

var (
	rounds  = flag.Int("rounds", 3, "rounds of chaos")
	seed    = flag.Uint64("seed", 0, "seed of the chaos, 0 for a new one")
	busy    = flag.Duration("busy", 10*time.Second, "how long the host is busy")
	figures = flag.Int("figures", 1, "planned failovers to measure, in each profile")
	verbose = flag.Bool("timeline", false, "print the timeline of every scenario")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(lab.Main(m, nil))
}

// A profile is a way to configure keepalived, or to have none.
type profile struct {
	name       string
	daemon     bool
	keepalived bool
	bounds     lab.Bounds
	// Fences says that a node drops the VIP at once when its daemon says no, and
	// loses how many acknowledged writes a planned failover may cost then.
	fences bool
	loses  int
	// HAProxy is the agent-inter of a host with HAProxy, which the client connects to
	// instead of to a VIP.
	haproxy string
}

var profiles = []profile{
	{name: "track-file", daemon: true, keepalived: true, bounds: trackFileBounds(), fences: true, loses: 2},
	{name: "script", keepalived: true, bounds: scriptBounds()},
	{name: "weight", daemon: true, keepalived: true, bounds: weightBounds()},
	{name: "vip", daemon: true, bounds: lab.FaultBounds, fences: true, loses: 2},
}

// trackFileBounds: the later promotion outbids the old master, who drops the VIP
// at the first advert.
func trackFileBounds() lab.Bounds {
	b := lab.FaultBounds
	b.Two = 50 * time.Millisecond
	return b
}

// scriptBounds: keepalived 2.2 asks once a second, so that what it knows is
// up to that old, and gives each question two.
func scriptBounds() lab.Bounds {
	b := lab.FaultBounds
	b.NotMaster = 2200 * time.Millisecond
	b.Hung = 3 * time.Second
	b.Taken = 2200 * time.Millisecond
	b.Behind = 2500 * time.Millisecond
	return b
}

// weightBounds: where priorities decide, a node keeps the VIP until another
// outbids it, which takes 3 to 4 of its adverts, advert_int 1; with no master
// anywhere somebody keeps it; and the old holder drops it only when the new
// one has it already. What is left of the invariant: there is one holder but
// for that moment, an old master is outbid, and the VIP ends on the master.
func weightBounds() lab.Bounds {
	return lab.Bounds{
		Two:       500 * time.Millisecond,
		NotMaster: time.Hour,
		Hung:      time.Hour,
		Ahead:     10 * time.Second,
		Taken:     time.Hour,
		Behind:    6 * time.Second,
		Rejoin:    6 * time.Second,
	}
}

func start(t *testing.T, p profile, daemon ...string) *lab.Site {
	t.Helper()
	lab.RequireNetwork(t)
	lab.Require(t, "redis-server", "redis-sentinel", "keepalived")
	o := lab.SiteOptions{
		Bin:        lab.Programs,
		NoDaemon:   !p.daemon,
		Priorities: strings.HasPrefix(p.name, "weight"),
		Daemon:     daemon,
	}
	switch {
	case p.haproxy != "":
		o.HAProxy = strings.ReplaceAll(haproxyConfigs(t)["httpchk and agent-check"], "agent-inter 100ms",
			"agent-inter "+p.haproxy)
	case p.keepalived:
		var err error
		o.Keepalived, err = lab.Profile("../keepalived/" + p.name + ".conf")
		lab.Check(t, err)
	default:
		o.Held = "10.0.0.100/32"
	}
	s, err := lab.StartSite(o)
	lab.Check(t, err)
	t.Cleanup(s.Close)
	return s
}
