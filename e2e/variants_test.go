package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// TestVariants: the VIP follows the master with every configuration that this
// project ships: IPv4 and IPv6, multicast and unicast.
func TestVariants(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("../keepalived/*.conf")
	lab.Check(t, err)
	for _, path := range all {
		name := strings.TrimSuffix(filepath.Base(path), ".conf")
		t.Run(name, func(t *testing.T) {
			kind := profiles[0]
			for _, p := range append(slices.Clip(profiles), cached()) {
				if strings.HasPrefix(name, p.name) {
					kind = p
				}
			}
			kind.name = name
			s := start(t, kind)
			failover(t, s, kind.bounds)
			s.Close()
		})
	}
}

// cached is the profile for keepalived 2.3.2 and later. Earlier ones ignore its
// interval, and ask once a second.
func cached() profile {
	p := profile{name: "cached", daemon: true, keepalived: true, bounds: scriptBounds()}
	if fastScripts() {
		p.bounds = lab.FaultBounds
		p.bounds.NotMaster = 350 * time.Millisecond // the daemon's 120 ms, an interval of 100, the fork of the check
		p.bounds.Hung += 200 * time.Millisecond
		p.bounds.Taken = 350 * time.Millisecond
	}
	return p
}

var keepalivedVersion = regexp.MustCompile(`v(\d+)\.(\d+)\.(\d+)`)

// fastScripts reports whether this machine's keepalived takes an interval below a second.
func fastScripts() bool {
	out, _ := exec.Command("keepalived", "--version").CombinedOutput()
	m := keepalivedVersion.FindSubmatch(out)
	if m == nil {
		return false
	}
	var v [3]int
	for i := range v {
		v[i], _ = strconv.Atoi(string(m[i+1]))
	}
	return slices.Compare(v[:], []int{2, 3, 2}) >= 0
}

// TestHeldVariants: the same where the daemon itself holds the VIP.
func TestHeldVariants(t *testing.T) {
	t.Parallel()
	lab.RequireNetwork(t)
	lab.Require(t, "redis-server", "redis-sentinel")
	for name, o := range map[string]lab.SiteOptions{
		"IPv6":              {Held: "2001:db8::100/128"},
		"asked ahead":       {Held: "10.0.0.100/32", Daemon: []string{"--vip-probe-ahead"}},
		"IPv6, asked ahead": {Held: "2001:db8::100/128", Daemon: []string{"--vip-probe-ahead"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Bin = lab.Programs
			s, err := lab.StartSite(o)
			lab.Check(t, err)
			t.Cleanup(s.Close)
			failover(t, s, lab.FaultBounds)
			planned := slices.IndexFunc(scenarios, func(sc scenario) bool { return sc.name == "SENTINEL FAILOVER" })
			scenarios[planned].run(t, s, profile{bounds: lab.FaultBounds})
			s.Close()
		})
	}
}

// failover kills the master, and checks what was seen.
func failover(t *testing.T, s *lab.Site, b lab.Bounds) {
	t.Helper()
	m := s.Master()
	from := time.Now()
	m.Redis.Kill()
	lab.Check(t, s.Moved(m))
	lab.Check(t, m.Redis.Start("--replicaof", s.Master().Addr.String(), "6379"))
	lab.Check(t, s.Settle())
	for _, v := range s.Violations(from, b) {
		t.Error(v)
	}
}
