package doctor_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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
		if c.Name != lab.MasterName || len(c.Nodes) != 3 || len(c.Sentinels) != 3 ||
			!slices.Equal(c.VIP, []string{s.VIP.String()}) || c.VIPError != "" {
			t.Fatalf("%s: %+v", n.Name, c)
		}
		for i, one := range c.Nodes {
			isMaster := one.Address == m.Addr.String()+":6379"
			role, answer := checker.RoleReplica, checker.No
			if isMaster {
				role, answer = checker.RoleMaster, checker.Yes
			}
			if one.Address != s.Nodes[i].Addr.String()+":6379" || one.Role != role || one.Answer != answer || one.Down ||
				slices.Contains(one.VIP, s.VIP.String()) != isMaster || !one.VIPKnown ||
				(one.BehindBytes == nil) != isMaster || (one.Epoch != nil) != isMaster ||
				len(one.NamedBy) != map[bool]int{true: 3}[isMaster] {
				t.Errorf("%s: %+v", n.Name, one)
			}
		}
	}
	text, code := showCluster(t, m)
	for _, want := range []string{
		lab.MasterName + ", which 3 Sentinels know", "NODE", m.Addr.String() + ":6379", "yes (ok)", "no (role)",
		" bytes", "at epoch 0", "  " + s.VIP.String() + "  ",
	} {
		if !strings.Contains(text, want) || code != 0 {
			t.Errorf("exit code %d, no %q in\n%s", code, want, text)
		}
	}

	// A second host that has the VIP is named.
	second := s.Others(m)[0]
	lab.Check(t, second.Run("ip", "address", "add", s.VIP.String()+"/32", "dev", "eth0"))
	c := readCluster(t, m)
	lab.Check(t, second.Run("ip", "address", "del", s.VIP.String()+"/32", "dev", "eth0"))
	both := "2 hosts have " + s.VIP.String()
	if !slices.ContainsFunc(c.Faults, func(f string) bool { return strings.HasPrefix(f, both) }) {
		t.Errorf("%+v", c)
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

// TestClusterTLS: daemons that want TLS and a login are asked with the flags for them, and
// what is wrong with these is said without the password.
func TestClusterTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lab.Check(t, lab.WriteCerts(dir))
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		lab.Check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const password, wrong = "fakepassword", "another-password"
	config := file("web.yml", "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"+
		"basic_auth_users: {ada: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n")
	s := start(t, "--web.config.file", config)
	m := s.Master()
	byTLS := []string{"--http-tls", "--http-cacert", filepath.Join(dir, "ca.pem"), "--http-sni", "redis.test"}
	login := slices.Concat(byTLS, []string{"--http-user", "ada", "--http-password-file", file("password", password+"\n")})
	var text string
	var code int
	if err := lab.Wait("all agree", func() (bool, error) {
		text, code = showCluster(t, m, login...)
		return code == 0, nil
	}); err != nil || strings.Count(text, " (") != 3 {
		t.Errorf("%v: exit code %d: %s", err, code, text)
	}
	for _, tt := range []struct {
		more []string
		want string
	}{
		{nil, "it wants TLS: see --http-tls"},
		{byTLS[:3], "its certificate is for another name: see --http-sni"},
		{[]string{"--http-tls", "--http-sni", "redis.test"},
			"its certificate is of a CA that is not trusted: see --http-cacert"},
		{byTLS, "it wants a password: see --http-user"},
		{slices.Concat(byTLS, []string{"--http-user", "ada", "--http-password-file", file("wrong", wrong)}),
			"it refuses the password"},
		{slices.Concat(byTLS, []string{"--http-user", "ada", "--http-password-file", filepath.Join(dir, "missing")}),
			"--http-password-file: no such file or directory"},
	} {
		text, code := showCluster(t, m, tt.more...)
		if n := strings.Count(text, "6379 gives no answer: "+tt.want); code != 1 || n != 2 {
			t.Errorf("%q: exit code %d, want %s: %s", tt.more, code, tt.want, text)
		}
		if strings.Contains(text, password) || strings.Contains(text, wrong) {
			t.Errorf("%q: it shows the password: %s", tt.more, text)
		}
	}
}

// TestClusterUsage: a password that could be read on its way is refused before anybody is
// asked.
func TestClusterUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flags, want string
	}{
		{"--http-user ada --http-password-file /x", "--http-password-file needs --http-tls: the password would go in clear"},
		{"--http-tls --http-user ada", "--http-user needs --http-password-file"},
		{"--http-tls --http-password-file /x", "--http-password-file needs --http-user"},
		{"--http-cacert /x", "--http-cacert needs --http-tls"},
		{"--http-tls --http-cert /x", "--http-cert needs --http-key"},
		{"--http-tls --http-user= --http-password-file /x", "--http-user is empty"},
		{"--http-password x", "no flag takes a password"},
		{"--wait 1s", "there is no flag --wait"},
	} {
		cmd := exec.Command(lab.Program("redis-is-masterd"), append([]string{"cluster"}, strings.Fields(tt.flags)...)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: exit code %d, want %s: %s", tt.flags, code, tt.want, out)
		}
	}
	out, _ := exec.Command(lab.Program("redis-is-masterd"), "doctor", "--http-tls").CombinedOutput()
	if !strings.Contains(string(out), "there is no flag --http-tls") {
		t.Errorf("the doctor asks no other daemon: %s", out)
	}
}
