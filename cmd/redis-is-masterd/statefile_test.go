package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// TestStateFile: what is not surely of this boot and this node is not known.
func TestStateFile(t *testing.T) {
	const node = "127.0.0.1:6379"
	path := filepath.Join(t.TempDir(), "check.state")
	if s, err := readState(path, node); s.Guard.Settled != nil || !os.IsNotExist(err) {
		t.Errorf("a missing file: %v, %v", s, err)
	}
	at := time.Unix(1000, 0).UTC()
	written := state{RunID: "run", Guard: sentinel.Memory{Settled: map[string]uint64{"mymaster": 7}, Several: true},
		Switches: []report.Transition{{Time: at, From: checker.ReasonStarting, To: checker.OK, Detail: "x",
			LastedSeconds: 1.5}}}
	lab.Check(t, written.write(path, node))
	s, err := readState(path, node)
	if err != nil || s.RunID != "run" || s.Written <= 0 || s.Written > sinceBoot() ||
		len(s.Guard.Settled) != 1 || s.Guard.Settled["mymaster"] != 7 || !s.Guard.Several {
		t.Errorf("%v, %v", s, err)
	}
	want := checker.Transition{Time: at, From: checker.Verdict{Reason: checker.ReasonStarting},
		To: checker.Verdict{Reason: checker.OK, Detail: "x"}, Lasted: 1500 * time.Millisecond}
	if got := s.history(); len(got) != 1 || got[0] != want {
		t.Errorf("history %+v, want %+v", got, want)
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
		"of another version": spoil(`"version":2`, `"version":1`),
		"of another node":    spoil(node, "127.0.0.1:6380"), "of another boot": spoil(`"boot":"`, `"boot":"0`),
		"of the future": spoil(`"written":`, `"written":9`),
		"of no boot":    `{"version":2,"node":"` + node + `"}`,
	} {
		lab.Check(t, os.WriteFile(path, []byte(text), 0o600))
		if s, err := readState(path, node); s.Guard.Settled != nil || s.Guard.Several || s.Switches != nil || err == nil {
			t.Errorf("a file that is %s: %+v", what, s)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	lab.Check(t, os.WriteFile(path, good, 0o600))
	lab.Check(t, os.Symlink(path, link))
	if s, err := readState(link, node); s.Guard.Settled != nil || err == nil {
		t.Errorf("a symbolic link: %v", s)
	}
	if err := (state{}).write("/nonexistent/state", node); err == nil {
		t.Error("a directory that does not exist")
	}
}
