package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestReadme: the flags that the README lists are those of --help, and what it
// gives keepalived and HAProxy is accepted by them.
func TestReadme(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../README.md")
	lab.Check(t, err)
	readme := string(b)

	help, _ := exec.Command(filepath.Join(bin, "redis-is-masterd"), "--help").Output()
	_, own, _ := strings.Cut(string(help), "      --interval ")
	if own = "```\n      --interval " + strings.TrimRight(own, "\n") + "\n```"; !strings.Contains(readme, own) {
		t.Errorf("the README lists other flags than --help:\n%s", own)
	}
	for _, r := range checker.Reasons() {
		if !strings.Contains(readme, "| `"+string(r)+"` |") {
			t.Errorf("the README does not explain %s", r)
		}
	}

	lab.Require(t, "keepalived", "haproxy", "unshare", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: keepalived cannot check a configuration")
	}
	// Script security wants a path that only root can write to.
	dir, err := os.MkdirTemp("/run", "readme-")
	lab.Check(t, err)
	defer os.RemoveAll(dir)
	lab.Check(t, os.CopyFS(dir, os.DirFS(bin)))
	block := func(begin string) string {
		t.Helper()
		_, rest, found := strings.Cut(readme, "```\n"+begin)
		text, _, _ := strings.Cut(rest, "```\n")
		if !found {
			t.Fatalf("the README has no block that begins with %q", begin)
		}
		return begin + text
	}
	check := func(name, config string, argv ...string) {
		t.Helper()
		file := filepath.Join(dir, name)
		config = strings.ReplaceAll(strings.ReplaceAll(config, "/usr/local/bin", dir), "/run/redis-is-master", dir)
		lab.Check(t, os.WriteFile(file, []byte(config), 0o600))
		if out, err := exec.Command(argv[0], append(argv[1:], file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, config)
		}
	}
	const instance = `
vrrp_instance redis {
    state BACKUP
    nopreempt
    interface vip0
    virtual_router_id 51
    priority 100
    virtual_ipaddress { 192.0.2.100/32 }
`
	const global = "global_defs {\n    enable_script_security\n    script_user root\n}\n"
	// In a network of its own, with an interface to put the address on.
	keepalived := []string{"unshare", "--net", "sh", "-c", `ip link add vip0 type veth peer name vip1 && exec keepalived -t -f "$0"`}
	check("script.conf", global+block("vrrp_script redis_is_master {")+instance+"    track_script { redis_is_master }\n}\n", keepalived...)
	check("trackfile.conf", global+block("track_file redis_is_master {")+instance+"    track_file { redis_is_master }\n    track_script { redis_is_masterd_alive }\n}\n", keepalived...)
	check("haproxy.cfg", "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\nlisten front\n    bind 127.0.0.1:6379\n    use_backend redis\n"+block("backend redis\n"), "haproxy", "-c", "-f")
}
