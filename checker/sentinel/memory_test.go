package sentinel_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// TestMemoryFile: what is not surely of this boot and this node is not known.
func TestMemoryFile(t *testing.T) {
	const node = "127.0.0.1:6379"
	path := filepath.Join(t.TempDir(), "check.state")
	if m, err := sentinel.ReadMemory(path, node); m.Settled != nil || !os.IsNotExist(err) {
		t.Errorf("a missing file: %v, %v", m, err)
	}
	lab.Check(
		t,
		sentinel.WriteMemory(path, node, sentinel.Memory{Settled: map[string]uint64{"mymaster": 7}, Several: true}),
	)
	m, err := sentinel.ReadMemory(path, node)
	if err != nil || len(m.Settled) != 1 || m.Settled["mymaster"] != 7 || !m.Several {
		t.Errorf("%v, %v", m, err)
	}
	info, err := os.Stat(path)
	lab.Check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	good, err := os.ReadFile(path)
	lab.Check(t, err)
	spoil := func(from, to string) string { return strings.Replace(string(good), from, to, 1) }
	for what, text := range map[string]string{
		"empty": "", "cut off": string(good[:len(good)/2]), "no JSON": "yes\n",
		"of a later version": spoil(`"version":1`, `"version":2`),
		"of another node":    spoil(node, "127.0.0.1:6380"), "of another boot": spoil(`"boot":"`, `"boot":"0`),
		"of no boot": `{"version":1,"node":"` + node + `"}`,
	} {
		lab.Check(t, os.WriteFile(path, []byte(text), 0o600))
		if m, err := sentinel.ReadMemory(path, node); m.Settled != nil || m.Several || err == nil {
			t.Errorf("a file that is %s: %+v", what, m)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	lab.Check(t, os.WriteFile(path, good, 0o600))
	lab.Check(t, os.Symlink(path, link))
	if m, err := sentinel.ReadMemory(link, node); m.Settled != nil || m.Several || err == nil {
		t.Errorf("a symbolic link: %v", m)
	}
	if err := sentinel.WriteMemory("/nonexistent/state", node, sentinel.Memory{}); err == nil {
		t.Error("a directory that does not exist")
	}
}

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
