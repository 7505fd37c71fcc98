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
}

var profiles = []profile{
	{"track-file", true, true, trackFileBounds()},
	{"script", false, true, scriptBounds()},
	{"weight", true, true, weightBounds()},
	{"vip", true, false, lab.FaultBounds},
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
	if p.keepalived {
		var err error
		o.Keepalived, err = lab.Profile("../keepalived/" + p.name + ".conf")
		lab.Check(t, err)
	} else {
		o.Held = "10.0.0.100/32"
	}
	s, err := lab.StartSite(o)
	lab.Check(t, err)
	t.Cleanup(s.Close)
	return s
}
