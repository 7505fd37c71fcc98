package doctor_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/doctor"
	"redis-is-master/e2e/lab"
)

// showCluster runs the subcommand cluster on a node, with the flags of its daemon and
// more.
func showCluster(t *testing.T, n *lab.Node, more ...string) (text string, code int) {
	t.Helper()
	argv := append([]string{"cluster"}, n.Daemon.Argv[1:]...)
	cmd := exec.Command(lab.Program("redis-is-masterd"), append(argv, more...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	lab.Check(t, n.Do(cmd.Start))
	cmd.Wait()
	if strings.Contains(out.String(), lab.SitePassword) {
		t.Errorf("it shows the password: %s", &out)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func readCluster(t *testing.T, n *lab.Node) (c doctor.Cluster) {
	t.Helper()
	text, code := showCluster(t, n, "-o", "json")
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if (len(c.Faults) > 0) != (code == 1) || code > 1 {
		t.Errorf("exit code %d: %s", code, text)
	}
	return c
}

// TestCluster: every node shows the same, and names what is broken.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := start(t)
	m := s.Master()
	for _, n := range s.Nodes {
		var c doctor.Cluster
		if err := lab.Wait("all agree", func() (bool, error) {
			c = readCluster(t, n)
			return len(c.Faults) == 0, nil
		}); err != nil {
			t.Fatalf("%s: %v: %+v", n.Name, err, c)
		}
		if c.Name != lab.MasterName || len(c.Nodes) != 3 || len(c.Sentinels) != 3 {
			t.Fatalf("%s: %+v", n.Name, c)
		}
		for i, one := range c.Nodes {
			isMaster := one.Address == m.Addr.String()+":6379"
			role, answer := checker.RoleReplica, checker.No
			if isMaster {
				role, answer = checker.RoleMaster, checker.Yes
			}
			if one.Address != s.Nodes[i].Addr.String()+":6379" || one.Role != role || one.Answer != answer || one.Down ||
				(one.BehindBytes == nil) != isMaster || (one.Epoch != nil) != isMaster ||
				len(one.NamedBy) != map[bool]int{true: 3}[isMaster] {
				t.Errorf("%s: %+v", n.Name, one)
			}
		}
	}
	text, code := showCluster(t, m)
	for _, want := range []string{
		lab.MasterName + ", which 3 Sentinels know", "NODE", m.Addr.String() + ":6379", "yes (ok)", "no (role)",
		" bytes", "at epoch 0",
	} {
		if !strings.Contains(text, want) || code != 0 {
			t.Errorf("exit code %d, no %q in\n%s", code, want, text)
		}
	}

	// One node of which the daemon is dead, and one of which Redis is.
	others := s.Others(m)
	others[0].Daemon.Kill()
	others[1].Redis.Kill()
	others[1].Sentinel.Kill()
	for _, want := range []string{
		"the daemon of " + others[0].Addr.String() + ":6379 gives no answer",
		"a Sentinel takes " + others[1].Addr.String() + ":6379 for down",
		"the Sentinel " + others[1].Addr.String() + ":26379 names nobody",
	} {
		var c doctor.Cluster
		if err := lab.Wait(want, func() (bool, error) {
			c = readCluster(t, m)
			return slices.ContainsFunc(c.Faults, func(f string) bool { return strings.HasPrefix(f, want) }), nil
		}); err != nil {
			t.Errorf("%v: %+v", err, c)
		}
	}
	if text, code := showCluster(t, m, "--wait", "1s"); code != 3 || strings.Count(text, "\n") != 1 {
		t.Errorf("--wait is none of its flags: exit code %d: %s", code, text)
	}
}
