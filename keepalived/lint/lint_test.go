package lint_test

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived/lint"
)

// host is a machine with these files, on which what the profiles need is
// there.
func host(files map[string]string) lint.Host {
	m := fstest.MapFS{"run/redis-is-master/check.sock": {}}
	for _, program := range []string{
		"usr/bin/env", "usr/local/bin/redis-is-master", "bin/sh", "etc/keepalived/check.sh", "opt/open",
	} {
		m[program] = &fstest.MapFile{Mode: 0o755}
	}
	m["opt/data"] = &fstest.MapFile{Mode: 0o644}
	for name, text := range files {
		m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	rel := func(path string) string { return strings.TrimPrefix(filepath.Clean(path), "/") }
	return lint.Host{
		ReadFile: func(path string) ([]byte, error) { return m.ReadFile(rel(path)) },
		Stat:     func(path string) (os.FileInfo, error) { return m.Stat(rel(path)) },
		Glob: func(pattern string) ([]string, error) {
			found, err := fs.Glob(m, rel(pattern))
			for i := range found {
				found[i] = "/" + found[i]
			}
			return found, err
		},
		User:     func(name string) bool { return slices.Contains([]string{"root", "nobody"}, name) },
		Writable: func(path string) bool { return path == "/opt/open" },
		Version:  "2.2.7",
	}
}

const config = "/etc/keepalived/keepalived.conf"

// findings is what File finds in text, without the name of the file.
func findings(t *testing.T, text string, change ...func(*lint.Host)) (found []string) {
	t.Helper()
	h := host(map[string]string{config: text})
	for _, c := range change {
		c(&h)
	}
	all, err := lint.File(h, config)
	lab.Check(t, err)
	for _, f := range all {
		found = append(found, strings.TrimPrefix(f.String(), config+":"))
	}
	return found
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	lab.Check(t, err)
	return string(b)
}

// edit replaces strings that are in text once.
func edit(t *testing.T, text string, replace ...string) string {
	t.Helper()
	for i := 0; i+1 < len(replace); i += 2 {
		if n := strings.Count(text, replace[i]); n != 1 {
			t.Fatalf("%q is there %d times", replace[i], n)
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return text
}

func TestLintProfiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../*.conf")
	lab.Check(t, err)
	for _, f := range files {
		var want []string
		change := func(*lint.Host) {}
		switch name := filepath.Base(f); {
		case strings.HasPrefix(name, "weight"): // that is what the profile is
			want = []string{": hint: with a weight some node holds the VIP"}
		case strings.HasPrefix(name, "cached"):
			change = func(h *lint.Host) { h.Version = "2.3.2" }
			old := findings(t, read(t, f))
			if len(old) != 1 || !strings.Contains(old[0], "needs keepalived 2.3.2 or later, and this is 2.2.7") {
				t.Errorf("%s with keepalived 2.2.7: %q", f, old)
			}
		}
		if found := findings(t, read(t, f), change); !slices.EqualFunc(found, want, strings.Contains) {
			t.Errorf("%s: %q, want %q", f, found, want)
		}
	}
}

// TestLintRules: each rule finds the one thing that was made wrong in a
// profile, in the line where it is, and not what only looks like it.
func TestLintRules(t *testing.T) {
	t.Parallel()
	const (
		reverse  = "    weight 0 reverse\n"
		initFile = "drops the VIP.\n    init_file 0\n" // of the first track_file
		program  = `"/usr/bin/env redis-is-master -q --cached --alive --timeout 1800ms"`
		direct   = `"/usr/bin/env redis-is-master -q --timeout 800ms --password-file /etc/redis-is-master/password ` +
			`--sentinel-master mymaster --sentinel 10.0.0.1:26379 --sentinel 10.0.0.2:26379 --sentinel 10.0.0.3:26379"`
		nopreempt = "    nopreempt "
		state     = "    state BACKUP "
		priority  = "    priority 100 "
		answer    = "        redis_is_master\n"
		promotion = "        redis_promotion\n"
		files     = "    track_file {\n" + answer + promotion + "    }\n"
		alive     = "    track_script {\n        redis_is_masterd_alive\n    }\n"
		user      = "script_user nobody"
		security  = "    enable_script_security "
		timeout   = "    timeout 2 "
		interval  = "    interval 1 "
		refresh   = "    garp_master_refresh 60 "
		instance  = "vrrp_instance redis {"
		defs      = "global_defs {"
	)
	group := func(member string) string {
		return "vrrp_sync_group all {\n    sync_group_tracking_weight\n    group {\n        " + member + "\n    }\n" +
			"    track_file {\n" + answer + "    }\n}\n" + instance
	}
	edits := func(e ...string) []string { return e }
	newer := func(h *lint.Host) { h.Version = "2.3.2" }
	none := func(h *lint.Host) { h.Version = "" }
	tests := []struct {
		name    string
		profile string
		bad     []string // edits of the profile
		line    string   // the line to be named, as it begins
		want    string   // said of it
		good    []string // edits that it has nothing against
		change  func(*lint.Host)
	}{
		{
			"no reverse", "track-file", edits(reverse, "    weight 0\n"), "weight 0", "without reverse",
			edits(reverse, "    weight 0 reverse # reverse\n"), nil,
		},
		{
			"reverse in a comment", "track-file", edits(reverse, "    weight 0 # reverse\n"), "weight 0 #",
			"without reverse", edits(reverse, "    weight 0   reverse!\n"), nil,
		},
		{
			"reverse undone", "track-file", edits(answer, "        redis_is_master weight 0 noreverse\n"),
			"redis_is_master weight", "without reverse",
			edits(reverse, "    # \n", answer, "        redis_is_master weight 0 reverse\n"), nil,
		},
		{
			"no weight", "track-file", edits(reverse, ""), "vrrp_instance", "hint: with a weight", nil, nil,
		},
		{
			"a weight that turns it round", "weight", edits("    weight 50\n", "    weight -50\n"), "weight -50",
			"lowers the priority", edits("    weight 50\n", "    weight -50 reverse\n"), nil,
		},
		{
			"old name", "track-file",
			edits("\ntrack_file redis_is", "\nvrrp_track_file redis_is", reverse, "    weight 0\n"),
			"weight 0", "without reverse", edits("\ntrack_file redis_is", "\nvrrp_track_file redis_is"), nil,
		},
		{
			"no directory", "track-file", edits("/run/redis-is-master/master", "/run/other/redis"), "file",
			"does not exist", edits("/run/redis-is-master/master", "/run/redis-is-master/other"), nil,
		},
		{
			"a file for a directory", "track-file", edits("/run/redis-is-master/master", "/opt/data/master"), "file",
			"does not exist", nil, nil,
		},
		{
			"relative path", "track-file", edits("/run/redis-is-master/master", "master"), "file", "not absolute", nil, nil,
		},
		{
			"no file", "track-file", edits(`    file "/run/redis-is-master/master"`, ""), "track_file redis_is_master {",
			"names no file", nil, nil,
		},
		{
			"overwrite", "track-file", edits(initFile, "\n    init_file 0 overwrite\n"), "init_file", "overwrite",
			edits(initFile, "\n    init_file\n"), nil,
		},
		{
			"init 1", "track-file", edits(initFile, "\n    init_file 1\n"), "init_file", "write init_file 0",
			edits(initFile, "\n"), nil,
		},
		{
			"half a second", "track-file", edits(interval, "    interval 0.5 "), "interval", "needs keepalived 2.3.2",
			edits(interval, "    interval 1.0 "), nil,
		},
		{
			"half a second for a new one", "track-file", edits(timeout, "    timeout 0.5 "), "timeout",
			"before its own --timeout of 1.8s", edits(interval, "    interval 0.5 ", timeout, "    timeout 1.9 "), newer,
		},
		{
			"half a second for an unknown one", "track-file", edits(interval, "    interval 0.5 "), "interval",
			"hint: a fraction", edits(interval, "    interval 2 "), none,
		},
		{
			"a fractional timeout", "track-file", edits(timeout, "    timeout 1.5 "), "timeout", "needs keepalived 2.3.2",
			nil, nil,
		},
		{
			"timeout of the script", "script", edits("800ms", "3"), "timeout", "before its own --timeout of 3s",
			edits("--timeout 800ms", "-t1.9"), nil,
		},
		{
			"timeout with =", "script", edits("--timeout 800ms", "--timeout=2s"), "timeout",
			"before its own --timeout of 2s", edits("--timeout 800ms", "--timeout=1999ms"), nil,
		},
		{
			"short timeout", "script", edits("--timeout 800ms", "-t 2.5"), "timeout", "before its own --timeout of 2.5s",
			nil, nil,
		},
		{
			"timeout left to the interval", "script", edits(timeout, "    # ", "800ms", "1s"), "interval",
			"after 1 s, before its own --timeout of 1s", edits(timeout, "    # "), nil,
		},
		{
			"password for redis-cli", "script",
			edits(direct, `"/bin/sh -c '/usr/bin/redis-cli -a secret info replication | grep role:master'"`), "script",
			"everyone can read the password in this line", nil, nil,
		},
		{
			"redis-cli", "script", edits(direct, `"/bin/sh -c 'redis-cli info replication | grep role:master'"`), "script",
			"redis-cli has no timeout", nil, nil,
		},
		{
			"password in the environment", "script",
			edits("/usr/bin/env redis", "/usr/bin/env REDISCLI_AUTH=secret redis"),
			"script", "everyone can read the password in this line",
			edits("/usr/bin/env redis", "/usr/bin/env LC_ALL=C redis"), nil,
		},
		{
			"password in a URL", "script",
			edits("-q --timeout", "-q -u redis://user:secret@localhost --timeout"), "script",
			"everyone can read the password in this line",
			edits("-q --timeout", "-q -u redis://user@localhost:6379 --timeout"), nil,
		},
		{
			"password in a flag", "script", edits("--password-file /etc/redis-is-master/password", "--password=secret"),
			"script", "everyone can read the password in this line", nil, nil,
		},
		{
			"AUTH", "script",
			edits(direct, `"/bin/sh -c 'printf \"AUTH secret\\r\\nINFO\\r\\n\" | nc localhost 6379 | grep role:master'"`),
			"script", "everyone can read the password in this line", nil, nil,
		},
		{
			"program not there", "script", edits("/usr/bin/env redis-is-master", "/usr/sbin/redis-is-master"), "script",
			"is missing", edits("/usr/bin/env redis", "/usr/local/bin/redis"), nil,
		},
		{
			"program not executable", "script", edits("/usr/bin/env redis-is-master", "/opt/data"), "script",
			"not executable", nil, nil,
		},
		{
			"program of others", "script", edits("/usr/bin/env redis-is-master", "/opt/open"), "script",
			"others than root can write", edits("/usr/bin/env redis-is-master", "/opt/open", "script_user root", user), nil,
		},
		{
			"arguments outside the quotes", "script", edits(direct, "/usr/bin/env redis-is-master -q -t 1"), "script",
			"outside the quotes", edits(direct, "'/usr/bin/env redis-is-master -q -t 1 --cached'"), nil,
		},
		{"no command", "script", edits("    script "+direct, ""), "vrrp_script", "runs nothing", nil, nil},
		{
			"reversed script", "script", edits("    weight 0 ", "    weight 0 reverse "), "weight 0 reverse",
			"failed check a yes", nil, nil,
		},
		{
			"script reversed where it is tracked", "script",
			edits("        redis_is_master\n", "        redis_is_master weight 0 reverse\n"),
			"redis_is_master weight", "failed check a yes",
			edits("        redis_is_master\n", "        redis_is_master weight 0 no_reverse\n"), nil,
		},
		{"no nopreempt", "script", edits(nopreempt, "    # "), "vrrp_instance", "without nopreempt", nil, nil},
		{
			"nopreempt quoted out", "script", edits(nopreempt, "    !nopreempt "), "vrrp_instance", "without nopreempt",
			nil, nil,
		},
		{
			"nopreempt with a promotion", "track-file", edits(priority, "    nopreempt\n    priority 100 "), "nopreempt",
			"from the node that was promoted later", edits(priority, "    !nopreempt\n    priority 100 "), nil,
		},
		{
			"nopreempt with a weight", "weight", edits(priority, "    nopreempt\n    priority 100 "), "nopreempt",
			"keeps the VIP from the master", nil, nil,
		},
		{
			"state MASTER", "script", edits(state, "    state MASTER "), "state MASTER", "makes nopreempt void",
			edits(state, "    # "), nil,
		},
		{
			"state MASTER on one", "script", edits(state, "    @node1 state MASTER\n    @^node1 state BACKUP "),
			"@node1 state", "makes nopreempt void", edits(state, "    @node1 state BACKUP\n    @^node1 state BACKUP "), nil,
		},
		{
			"state MASTER with a promotion", "track-file", edits(state, "    state MASTER "), "state MASTER",
			"before it has listened", edits(state, "    # "), nil,
		},
		{
			"priority 255", "script", edits(priority, "    priority 255 "), "priority 255", "makes nopreempt void",
			edits(priority, "    priority 254 "), nil,
		},
		{
			"priority too high for a promotion", "track-file", edits(priority, "    priority 156 "), "priority 156",
			"with 156 an earlier promotion may win", edits(priority, "    priority 155 "), nil,
		},
		{
			"priorities with a promotion", "track-file",
			edits(priority, "    @node1 priority 101\n    @^node1 priority 100 "), "@^node1 priority",
			"differ by 1, so an earlier promotion may win",
			edits(priority, "    @node1 priority 90\n    @^node1 priority 90 "), nil,
		},
		{
			"no promotion", "track-file", edits(promotion, ""), "vrrp_instance", "hint: after a partition two nodes hold",
			nil, nil,
		},
		{"promotion unused", "track-file", edits(promotion, ""), "track_file redis_promotion", "decides nothing", nil, nil},
		{
			"promotion with weight 0", "track-file", edits("    weight 1\n", "    weight 0 reverse\n"), "weight 0",
			"the number of a promotion, which weight 0", edits("    weight 1\n", ""), nil,
		},
		{
			"promotion with weight 2", "track-file", edits(promotion, "        redis_promotion weight 2\n"),
			"redis_promotion weight", "with another weight than 1",
			edits("    weight 1\n", "    weight 2\n", promotion, "        redis_promotion weight 1\n"), nil,
		},
		{
			"promotion that lowers", "track-file", edits("    weight 1\n", "    weight 1 reverse\n"), "weight 1 reverse",
			"with another weight than 1", nil, nil,
		},
		{
			"no refresh", "track-file", edits(refresh, "    # "), "vrrp_instance", "hint: a switch or host that misses",
			edits(refresh, "    # ", defs, defs+"\n    vrrp_garp_master_refresh 60"), nil,
		},
		{
			"no refresh of 0", "weight", edits(refresh, "    garp_master_refresh 0 "), "vrrp_instance",
			"hint: a switch or host that misses", edits(refresh, "    garp_master_refresh 1 "), nil,
		},
		{
			"slow", "script", edits(interval, "    interval 30 ", "    fall 1\n", "    fall 2\n"), "interval",
			"hint: keepalived notices a change after up to 60 s (interval × fall or rise), and after 90 s if the check hangs",
			edits(interval, "    interval 2 ", "    fall 1\n", "    fall 2\n"), nil,
		},
		{
			"slow to rise", "script", edits("    rise 1\n", "    rise 10\n", timeout, "    timeout 3 "), "interval",
			"up to 10 s (interval × fall or rise), and after 31 s", edits("    rise 1\n", "    rise 5\n"), nil,
		},
		{
			"a fraction that becomes a second", "cached", edits("interval 0.1", "interval 0.5", "fall 1", "fall 6"),
			"interval", "up to 6 s", nil, nil,
		},
		{
			"priorities", "weight", edits(priority, "    @node1 priority 150\n    @^node1 priority 100 "),
			"@^node1 priority", "differ by 50", edits(priority, "    @node1 priority 149\n    @^node1 priority 100 "), nil,
		},
		{
			"no dead man's switch", "track-file", edits(alive, ""), "vrrp_instance", "outlives the daemon",
			edits(alive, "    track_script { redis_is_masterd_alive }\n"), nil,
		},
		{"the same, defined and unused", "track-file", edits(alive, ""), "vrrp_script", "never run", nil, nil},
		{
			"another script for a switch", "track-file", edits(program, `"/etc/keepalived/check.sh"`), "vrrp_instance",
			"outlives the daemon", nil, nil,
		},
		{
			"switch with a weight", "track-file", edits("    weight 0                    # failure", "    weight -10 # "),
			"redis_is_masterd_alive", "has a weight", nil, nil,
		},
		{"no Sentinels", "script", edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --min-uptime 15s"`),
			"script", "hint: an old master says role:master",
			edits(direct, `"/usr/bin/env redis-is-master -q --cached"`), nil},
		{"no Sentinels, and a role", "script",
			edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --role master"`),
			"script", "hint: an old master says role:master",
			edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --role replica"`), nil},
		{
			"switch that asks for the role", "track-file", edits(" --alive", ""), "redis_is_masterd_alive",
			"hint: this asks for the role", nil, nil,
		},
		{"only the switch", "track-file", edits(answer, ""), "vrrp_instance", "nothing here asks for the role", nil, nil},
		{
			"track file unused", "track-file", edits(answer, ""), "track_file redis_is_master {", "decides nothing", nil, nil,
		},
		{
			"wrong name", "track-file",
			edits(files, "    track_file { redis_is_mastre }\n"), "track_file { redis_is_mastre",
			"no tracker redis_is_mastre",
			edits(files, "    track_file { redis_is_master }\n    track_file { redis_promotion }\n"), nil,
		},
		{
			"no script security", "track-file", edits(security, "    # "), "global_defs", "enable_script_security", nil,
			nil,
		},
		{
			"no script user", "track-file", edits(user, ""), "vrrp_script", "no script_user",
			edits(user, "", timeout, "    user nobody\n    timeout 2 "), nil,
		},
		{
			"script user not there", "track-file", edits(user, "script_user keepalived_script"), "script_user",
			"no user keepalived_script", edits(user, "script_user root root"), nil,
		},
		{
			"user of a script not there", "track-file", edits(timeout, "    user redis\n    timeout 2 "), "user redis",
			"no user redis", edits(timeout, "    user root\n    timeout 2 "), nil,
		},
		{
			"weight in a sync group", "weight",
			edits("vrrp_instance redis {", "vrrp_sync_group all {\n    group {\n        redis\n    }\n}\nvrrp_instance redis {"),
			"redis_is_master", "without reverse", nil, nil,
		},
		{
			"tracked by a sync group", "track-file", edits(answer, "", instance, group("other")),
			"vrrp_instance", "nothing here asks", edits(answer, "", instance, group("redis")), nil,
		},
		{
			"promotion in a sync group", "track-file",
			edits(instance, "vrrp_sync_group all {\n    group {\n        redis\n    }\n}\n"+instance), "redis_promotion",
			"sync_group_tracking_weight", nil, nil,
		},
		{
			"parameters", "track-file", edits("global_defs {", "$W=0\nglobal_defs {", reverse, "    weight ${W}\n"),
			"weight ${W}", "without reverse",
			edits("global_defs {", "$W=0 reverse\nglobal_defs {", reverse, "    weight $W\n"), nil,
		},
		{"parameters of many lines", "track-file",
			edits("global_defs {", "$W= \\\n weight 0 \\\n init_file 0\nglobal_defs {", reverse, "    $W\n"),
			"$W", "without reverse",
			edits("global_defs {", "$W= \\\n weight 0 reverse \\\n init_file 0\nglobal_defs {", reverse, "    $W\n"), nil},
		{
			"a parameter of itself", "track-file", edits("global_defs {", "$W=$W $W\n$W\nglobal_defs {"), "$W",
			"too deeply nested", edits("global_defs {", "$W=$V $V\nglobal_defs {"), nil,
		},
		{
			"braces in an include", "track-file", edits("global_defs {", "include /etc/{a,b}.conf\nglobal_defs {"),
			"include", "braces", edits("global_defs {", "include /etc/none/*.conf\nglobal_defs {"), nil,
		},
		{
			"include not there", "track-file", edits("global_defs {", "includea none.conf\nglobal_defs {"), "includea",
			"cannot read /etc/keepalived/none.conf", edits("global_defs {", "includes none\nglobal_defs {"), nil,
		},
		{
			"include of itself", "track-file", edits("global_defs {", "include keepalived.conf\nglobal_defs {"), "include",
			"include itself", nil, nil,
		},
		{
			"unicast, and an old keepalived", "track-file-unicast", nil, "unicast_fault_no_peer", "ignores this line", nil,
			func(h *lint.Host) { h.Version = "2.1.5" },
		},
		{"nothing", "track-file", edits(files, "", alive, ""), "# The VIP", "no vrrp_instance follows Redis", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := tt.change
			if change == nil {
				change = func(*lint.Host) {}
			}
			text := edit(t, read(t, "../"+tt.profile+".conf"), tt.bad...)
			found := findings(t, text, change)
			var named bool
			for _, f := range found {
				line, said, _ := strings.Cut(f, ": ")
				n := lineNumber(text, tt.line)
				named = named || slices.Contains(n, line) && strings.Contains(said, tt.want)
			}
			if !named {
				t.Errorf("not found in line %v: %q", lineNumber(text, tt.line), found)
			}
			for _, f := range found {
				if strings.Contains(f, "secret") {
					t.Errorf("it repeats the password: %s", f)
				}
			}
			if tt.good == nil {
				return
			}
			for _, f := range findings(t, edit(t, read(t, "../"+tt.profile+".conf"), tt.good...), change) {
				if !strings.Contains(f, "hint: with a weight") {
					t.Errorf("found without a reason: %s", f)
				}
			}
		})
	}
}

// lineNumber are the numbers of the lines that begin so.
func lineNumber(text, begin string) (found []string) {
	for i, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(l), begin) {
			found = append(found, strconv.Itoa(i+1))
		}
	}
	return found
}

// TestLintClassic: what people run today. The password is in no finding.
func TestLintClassic(t *testing.T) {
	t.Parallel()
	const instance = `
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        192.0.2.100
    }
    track_script {
        chk_redis
    }
}
`
	tests := []struct {
		name, config string
		want         []string
	}{
		{"a script", `vrrp_script chk_redis {
    script "/etc/keepalived/check.sh"
    interval 30
    weight 50
    fall 2
    rise 2
}` + instance, []string{
			"1: keepalived runs a script as root", "1: there is no script_user",
			"3: hint: keepalived notices a change after up to 60 s", "8: hint: a switch or host", "8: hint: with a weight",
		}},
		{"redis-cli in the line", `vrrp_script chk_redis {
    script "/bin/sh -c \"redis-cli -a hunter2 info replication | grep -q role:master\""
    interval 1
}` + instance, []string{
			"1: keepalived runs a script as root", "1: there is no script_user",
			"2: everyone can read the password in this line", "2: redis-cli has no timeout",
			"5: hint: a switch or host", "5: without nopreempt",
		}},
		{"keepalived follows HAProxy", `global_defs {
    enable_script_security
    script_user root
}
vrrp_script chk_redis {
    script "/opt/open haproxy"
    interval 1
    weight 2
}` + strings.Replace(instance, "priority 100", "priority 101", 1),
			[]string{"6: others than root can write", "10: hint: a switch or host", "10: hint: with a weight"}},
		{"our track file as it must not be", `track_file redis {
    file /run/redis-is-master/master
    weight 0
    init_file 0 overwrite
}
vrrp_instance VI_1 {
    state MASTER
    nopreempt
    track_file { redis }
}`, []string{
			"3: without reverse", "4: overwrite", "6: hint: a switch or host", "6: a track file outlives",
			"6: hint: after a partition", "7: state MASTER",
		}},
		{"something else", "vrrp_instance web {\n    state MASTER\n}\n", []string{"1: no vrrp_instance follows Redis"}},
		{"nothing", "", []string{"1: no vrrp_instance follows Redis"}},
	}
	for _, tt := range tests {
		found := findings(t, tt.config)
		if !slices.EqualFunc(found, tt.want, strings.HasPrefix) {
			t.Errorf("%s: got %q, want %q", tt.name, found, tt.want)
		}
	}
}

// TestLintScripts: a password that a script gives to redis-cli is found where
// the script is, and not repeated.
func TestLintScripts(t *testing.T) {
	t.Parallel()
	classic := read(t, "../../e2e/bench/classic.conf")
	const line = "5: /usr/local/bin/classic.sh "
	const cli, argument = line + "runs redis-cli in line ", line + "gives a password as an argument in line "
	tests := []struct {
		name, script string
		want         []string
	}{
		{"an argument of the script", read(t, "../../e2e/bench/classic.sh"), []string{argument + "4,", cli + "4,"}},
		{"in the script", "#!/bin/sh\n\nredis-cli -ahunter2 info\n", []string{argument + "3,", cli + "3,"}},
		{"in its environment", "#!/bin/sh\nREDISCLI_AUTH=hunter2\n`redis-cli info`\n", []string{argument + "2,", cli + "3,"}},
		{"no password", "#!/bin/sh\n# redis-cli -a hunter2\nredis-cli info\n", []string{cli + "3,"}},
		{"neither", "#!/bin/sh\nexec redis-is-master\n", nil},
		{"no script", "\x7fELF redis-cli -a hunter2", nil},
	}
	for _, tt := range tests {
		h := host(map[string]string{config: classic, "/usr/local/bin/classic.sh": tt.script})
		all, err := lint.File(h, config)
		lab.Check(t, err)
		var got []string
		for _, f := range all {
			text := strings.TrimPrefix(f.String(), config+":")
			if strings.Contains(text, "hunter2") || strings.Contains(text, "PASSWORD") {
				t.Errorf("%s: it repeats the password: %s", tt.name, text)
			}
			if strings.HasPrefix(text, cli) || strings.HasPrefix(text, argument) {
				got = append(got, text)
			}
		}
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestLintNetworkd: systemd-networkd removes the VIP unless it is told to keep it.
func TestLintNetworkd(t *testing.T) {
	t.Parallel()
	const match, keeps = "[Match]\nName=eth0 eth1\n", "[Network]\nDHCP=no\nKeepConfiguration=static\n"
	tests := []struct {
		name  string
		files map[string]string
		file  string // that is named; empty for none
	}{
		{"no systemd-networkd", nil, ""},
		{"it keeps the VIP", map[string]string{"/etc/systemd/network/a.network": match + keeps}, ""},
		{"it removes the VIP", map[string]string{"/etc/systemd/network/a.network": match + "[Network]\nDHCP=no\n"},
			"/etc/systemd/network/a.network"},
		{"nothing is said", map[string]string{"/run/systemd/network/10-netplan-eth0.network": "[Match]\nName=e*\n"},
			"/run/systemd/network/10-netplan-eth0.network"},
		{"only what DHCP gave",
			map[string]string{"/etc/systemd/network/a.network": match + "[Network]\nKeepConfiguration=dhcp\n"},
			"/etc/systemd/network/a.network"},
		{"in another section", map[string]string{"/etc/systemd/network/a.network": match + "KeepConfiguration=static\n"},
			"/etc/systemd/network/a.network"},
		{"another link", map[string]string{"/etc/systemd/network/a.network": "[Match]\nName=eth2\n"}, ""},
		{"a drop-in", map[string]string{"/etc/systemd/network/a.network": match,
			"/etc/systemd/network/a.network.d/keep.conf": keeps}, ""},
		{"a drop-in in /etc", map[string]string{"/run/systemd/network/a.network": match,
			"/etc/systemd/network/a.network.d/keep.conf": keeps}, ""},
		{"the first decides", map[string]string{"/etc/systemd/network/b.network": match,
			"/usr/lib/systemd/network/a.network": match + keeps}, ""},
		{"/etc decides", map[string]string{"/etc/systemd/network/a.network": match,
			"/usr/lib/systemd/network/a.network": match + keeps}, "/etc/systemd/network/a.network"},
	}
	profile := read(t, "../track-file.conf")
	for _, tt := range tests {
		files := map[string]string{config: profile}
		maps.Copy(files, tt.files)
		all, err := lint.File(host(files), config)
		lab.Check(t, err)
		if tt.file == "" {
			if len(all) > 0 {
				t.Errorf("%s: %v", tt.name, all)
			}
			continue
		}
		want := "hint: systemd-networkd manages eth0 by " + tt.file + ","
		if len(all) != 1 || !strings.Contains(all[0].String(), want) ||
			!slices.Contains(lineNumber(profile, "interface eth0"), strconv.Itoa(all[0].Line)) {
			t.Errorf("%s: %v", tt.name, all)
		}
	}
}

// TestLintOthers: what has nothing to do with Redis is left alone.
func TestLintOthers(t *testing.T) {
	t.Parallel()
	other := `
vrrp_script web {
    script "/etc/keepalived/check.sh"
    weight 2 reverse
}
vrrp_instance web {
    state MASTER
    track_script {
        web
    }
}
`
	if found := findings(t, read(t, "../track-file.conf")+other); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

// TestLintIncludes: a finding names the file that it is in.
func TestLintIncludes(t *testing.T) {
	t.Parallel()
	profile := read(t, "../track-file.conf")
	begin := strings.Index(profile, "vrrp_instance")
	h := host(map[string]string{
		config:                          "include conf.d/*.conf # all of them\n\"\n",
		"/etc/keepalived/conf.d/a.conf": profile[:begin],
		"/etc/keepalived/conf.d/b.conf": "includer ../redis\r\n",
		"/etc/keepalived/redis":         strings.Replace(profile[begin:], "state BACKUP", "state MASTER", 1),
	})
	findings, err := lint.File(h, config)
	lab.Check(t, err)
	if len(findings) != 1 || !strings.HasPrefix(findings[0].String(), "/etc/keepalived/redis:2: state MASTER") {
		t.Errorf("%v", findings)
	}
	if _, err := lint.File(h, "/none"); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// TestThisHost: the real machine is asked rightly.
func TestThisHost(t *testing.T) {
	t.Parallel()
	lab.Require(t, "keepalived")
	h := lint.ThisHost()
	out, err := exec.Command("keepalived", "--version").CombinedOutput()
	lab.Check(t, err)
	if h.Version == "" || !strings.HasPrefix(string(out), "Keepalived v"+h.Version+" ") {
		t.Errorf("version %q of %s", h.Version, out)
	}
	if !h.User("root") || h.User("no such user") || h.User("--help") {
		t.Error("it does not know who exists")
	}
	dir := t.TempDir() // below a directory for everyone, which is sticky
	file := filepath.Join(dir, "file")
	lab.Check(t, os.WriteFile(file, nil, 0o755))
	if os.Getuid() == 0 {
		if h.Writable(file) {
			t.Error("a file of root's is everyone's")
		}
		lab.Check(t, os.Chmod(dir, 0o777))
	}
	if !h.Writable(file) || h.Writable("/bin/sh") || !h.Writable("/none") {
		t.Error("it does not know who can write")
	}
}

// FuzzLint: no text makes it crash, or run for ever.
func FuzzLint(f *testing.F) {
	files, err := filepath.Glob("../*.conf")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	for _, text := range []string{
		"", "{", "}", "}{", "{{{}", `"`, "'", `\`, "@", "@x", "$", "$A=", "$A=$A\n$A", "$A=\\\n\\\n",
		"include", "include ", "include *", "include keepalived.conf", "include /etc/keepalived/*\n",
		"$A=include keepalived.conf\n$A\n$A", "track_file", "track_file {", "track_file { weight",
		"vrrp_script x { script", "vrrp_script x { script \"\" }", "vrrp_script x { script \" \" }",
		"vrrp_script redis { script \"redis-is-master -t\" }", "vrrp_script redis { interval 1e300\nfall 9 }",
		"vrrp_instance { track_file { x } }", "vrrp_sync_group { group { } }", "track_file redis { init_file }",
		"vrrp_script x { script \"/etc/keepalived/keepalived.conf redis\" }", "vrrp_instance redis { interface eth0 }",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		findings, err := lint.File(host(map[string]string{config: text}), config)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range findings {
			if x.Line < 1 || x.File == "" || strings.Count(x.String(), "\n") != strings.Count(x.File, "\n") {
				t.Errorf("%q", x)
			}
		}
	})
}
