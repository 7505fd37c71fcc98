package keepalived_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
)

var update = flag.Bool("update", false, "write the variants of the profiles anew")

var profiles = []string{"track-file", "script", "weight"}

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
		"virtual_router_id, the addresses.\n", "virtual_router_id, the addresses,\n# and node1 to node3, which are the names of the hosts.\n",
		"    virtual_router_id 51        # no other VRRP in this network may have it\n", peers,
	}},
	{"-ipv6", []string{
		"# The same file on all nodes. ", "# For IPv6.\n# The same file on all nodes. ",
		"10.0.0.100/32           # /32:", "2001:db8::100/128       # /128:",
	}},
	{"-ipv6-unicast", []string{
		"# The same file on all nodes. ", "# For IPv6, and a network without multicast.\n# The same file on all nodes. ",
		"virtual_router_id, the addresses.\n", "virtual_router_id, the addresses,\n# and node1 to node3, which are the names of the hosts.\n",
		"    virtual_router_id 51        # no other VRRP in this network may have it\n", strings.ReplaceAll(peers, "10.0.0.", "2001:db8::"),
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
		"script.conf":     {"vrrp_script redis_is_master {"},
	} {
		for _, begin := range blocks {
			_, block, _ := strings.Cut(statements(read(t, profile)), begin)
			if block, _, _ = strings.Cut(block, "}\n"); len(block) < 50 || !strings.Contains(readme, begin+block+"}\n") {
				t.Errorf("the README has not this of %s:\n%s%s}", profile, begin, block)
			}
		}
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
