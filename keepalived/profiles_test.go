package keepalived_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived/lint"
)

var update = flag.Bool("update", false, "write the variants of the profiles anew")

var profiles = []string{"track-file", "cached", "script", "weight"}

const peers = `    virtual_router_id 51        # no other VRRP in this network may have it
    # A line "@node1 ..." is for the host whose name, up to the first dot, is
    # node1. Its own address must not be among its peers: it would hear itself,
    # and log that at each advert.
    @node1 unicast_src_ip 10.0.0.1
    @node2 unicast_src_ip 10.0.0.2
    @node3 unicast_src_ip 10.0.0.3
    unicast_peer {
        @node1 10.0.0.2
        @node1 10.0.0.3
        @node2 10.0.0.1
        @node2 10.0.0.3
        @node3 10.0.0.1
        @node3 10.0.0.2
    }
    unicast_fault_no_peer       # a host of another name is in FAULT, not on its own
    check_unicast_src           # VRRPv3 has no password: nobody but the peers is listened to
`

// variants are what a profile becomes for other networks: each first string
// is in it once, and gives way to the second.
var variants = []struct {
	suffix  string
	replace []string
}{
	{"-unicast", []string{
		"# The same file on all nodes. ", "# For a network without multicast.\n# The same file on all nodes. ",
		"virtual_router_id, the addresses.\n",
		"virtual_router_id, the addresses,\n# and node1 to node3, which are the names of the hosts.\n",
		"    virtual_router_id 51        # no other VRRP in this network may have it\n", peers,
	}},
	{"-ipv6", []string{
		"# The same file on all nodes. ", "# For IPv6.\n# The same file on all nodes. ",
		"10.0.0.100/32           # /32:", "2001:db8::100/128       # /128:",
	}},
	{"-ipv6-unicast", []string{
		"# The same file on all nodes. ", "# For IPv6, and a network without multicast.\n# The same file on all nodes. ",
		"virtual_router_id, the addresses.\n",
		"virtual_router_id, the addresses,\n# and node1 to node3, which are the names of the hosts.\n",
		"    virtual_router_id 51        # no other VRRP in this network may have it\n",
		strings.ReplaceAll(peers, "10.0.0.", "2001:db8::"),
		"10.0.0.100/32           # /32:", "2001:db8::100/128       # /128:",
	}},
}

var sentinels = regexp.MustCompile(`10\.0\.0\.(\d):26379`)

// TestVariants: the variants differ from their profile in what they must.
// go test ./keepalived -run TestVariants -update writes them.
func TestVariants(t *testing.T) {
	t.Parallel()
	expected := make(map[string]bool)
	for _, profile := range profiles {
		expected[profile+".conf"] = true
		b, err := os.ReadFile(profile + ".conf")
		lab.Check(t, err)
		for _, v := range variants {
			want := string(b)
			for i := 0; i < len(v.replace); i += 2 {
				if n := strings.Count(want, v.replace[i]); n != 1 {
					t.Fatalf("%s%s: %q is there %d times", profile, v.suffix, v.replace[i], n)
				}
				want = strings.Replace(want, v.replace[i], v.replace[i+1], 1)
			}
			if strings.HasPrefix(v.suffix, "-ipv6") {
				want = sentinels.ReplaceAllString(want, "[2001:db8::$1]:26379")
			}
			name := profile + v.suffix + ".conf"
			expected[name] = true
			if *update {
				lab.Check(t, os.WriteFile(name, []byte(want), 0o644))
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("%s is not what %s.conf makes it (%v): run this test with -update", name, profile, err)
			}
		}
	}
	files, err := filepath.Glob("*.conf")
	lab.Check(t, err)
	for _, f := range files {
		if !expected[f] {
			t.Errorf("%s is no profile", f)
		}
	}
	if len(files) != len(expected) {
		t.Errorf("there are %d profiles", len(files))
	}
}

// TestReadme: what the README shows is what the profiles have.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme := statements(read(t, "../README.md"))
	for profile, blocks := range map[string][]string{
		"track-file.conf": {"track_file redis_is_master {", "vrrp_script redis_is_masterd_alive {"},
	} {
		for _, begin := range blocks {
			_, block, _ := strings.Cut(statements(read(t, profile)), begin)
			if block, _, _ = strings.Cut(block, "}\n"); len(block) < 50 || !strings.Contains(readme, begin+block+"}\n") {
				t.Errorf("the README has not this of %s:\n%s%s}", profile, begin, block)
			}
		}
	}
}

// blocks are what the README shows, by how it begins.
func blocks(t *testing.T) map[string]string {
	t.Helper()
	parts := strings.Split(strings.ReplaceAll(read(t, "README.md"), "\n   ", "\n"), "```\n")
	all := make(map[string]string)
	for i := 1; i < len(parts); i += 2 {
		begin, _, _ := strings.Cut(parts[i], "\n")
		all[begin] = parts[i]
	}
	return all
}

// TestBlocks: what the README says to write is what systemd understands.
func TestBlocks(t *testing.T) {
	t.Parallel()
	lab.Require(t, "systemd-tmpfiles", "systemd-analyze")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot give a directory to somebody else")
	}
	all := blocks(t)
	take := func(begin string) string {
		t.Helper()
		text, found := all[begin]
		if !found {
			t.Fatalf("there is no block %q in %q", begin, all)
		}
		delete(all, begin)
		return text
	}
	run := func(argv ...string) {
		t.Helper()
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%q: %v, %s", argv, err, out)
		}
	}

	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/passwd":            "redis-is-master:x:990:990::/:/bin/false\n",
		"etc/group":             "redis-is-master:x:990:\n",
		"etc/tmpfiles.d/x.conf": take("d /run/redis-is-master 0755 redis-is-master redis-is-master -"),
	} {
		file := filepath.Join(root, path)
		lab.Check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		lab.Check(t, os.WriteFile(file, []byte(text), 0o644))
	}
	run("systemd-tmpfiles", "--create", "--root="+root, filepath.Join(root, "etc/tmpfiles.d/x.conf"))
	if info, err := os.Stat(filepath.Join(root, "run/redis-is-master")); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("the directory: %v, %v", info, err)
	}

	unit := filepath.Join(t.TempDir(), "keepalived.service")
	lab.Check(t, os.WriteFile(unit, []byte("[Service]\nExecStart=/bin/true\n\n"+take("[Service]")), 0o644))
	run("systemd-analyze", "verify", "--man=no", unit)

	keep := take("[Network]")
	etc := map[string]string{
		"keepalived.conf":                               read(t, "track-file.conf"),
		"/etc/systemd/network/eth0.network":             "[Match]\nName=eth0\n",
		"/etc/systemd/network/eth0.network.d/keep.conf": keep,
	}
	host := lint.ThisHost()
	host.ReadFile = func(path string) ([]byte, error) {
		if text, found := etc[path]; found {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}
	host.Glob = func(pattern string) (found []string, err error) {
		for path := range etc {
			if ok, _ := filepath.Match(pattern, path); ok {
				found = append(found, path)
			}
		}
		return found, nil
	}
	removes := func() bool {
		t.Helper()
		findings, err := lint.File(host, "keepalived.conf")
		lab.Check(t, err)
		return slices.ContainsFunc(findings, func(f lint.Finding) bool { return strings.Contains(f.Text, "removes the VIP") })
	}
	if removes() {
		t.Error("the VIP is removed nevertheless")
	}
	delete(etc, "/etc/systemd/network/eth0.network.d/keep.conf")
	if !removes() {
		t.Error("the VIP is not removed without it")
	}
	for begin := range all {
		t.Errorf("nobody tests the block %q", begin)
	}
}

// statements are the lines of a configuration without comments and
// indentation.
func statements(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
