package keepalived_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived"
)

// host is a machine with these files, on which what the profiles need is
// there.
func host(files map[string]string) keepalived.Host {
	m := fstest.MapFS{"run/redis-is-master/check.sock": {}}
	for _, program := range []string{"usr/bin/env", "usr/local/bin/redis-is-master", "bin/sh", "etc/keepalived/check.sh", "opt/open"} {
		m[program] = &fstest.MapFile{Mode: 0o755}
	}
	m["opt/data"] = &fstest.MapFile{Mode: 0o644}
	for name, text := range files {
		m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	rel := func(path string) string { return strings.TrimPrefix(filepath.Clean(path), "/") }
	return keepalived.Host{
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

// lint is what Lint finds in text, without the name of the file.
func lint(t *testing.T, text string, change ...func(*keepalived.Host)) (found []string) {
	t.Helper()
	h := host(map[string]string{config: text})
	for _, c := range change {
		c(&h)
	}
	findings, err := keepalived.Lint(h, config)
	lab.Check(t, err)
	for _, f := range findings {
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
	files, err := filepath.Glob("*.conf")
	lab.Check(t, err)
	for _, f := range files {
		var want int
		if strings.HasPrefix(f, "weight") {
			want = 1 // its one hint: that is what the profile is
		}
		found := lint(t, read(t, f))
		if len(found) != want || want == 1 && !strings.Contains(found[0], ": hint: with a weight some node holds the VIP") {
			t.Errorf("%s: %q", f, found)
		}
	}
}

// TestLintRules: each rule finds the one thing that was made wrong in a
// profile, in the line where it is, and not what only looks like it.
func TestLintRules(t *testing.T) {
	t.Parallel()
	const (
		reverse   = "    weight 0 reverse\n"
		initFile  = "    init_file 0\n"
		program   = `"/usr/bin/env redis-is-master -q --cached --alive"`
		direct    = `"/usr/bin/env redis-is-master -q --timeout 800ms --password-file /etc/redis-is-master/password --sentinel-master mymaster --sentinel 10.0.0.1:26379 --sentinel 10.0.0.2:26379 --sentinel 10.0.0.3:26379"`
		nopreempt = "    nopreempt "
		state     = "    state BACKUP "
		priority  = "    priority 100 "
		file      = "    track_file {\n        redis_is_master\n    }\n"
		alive     = "    track_script {\n        redis_is_masterd_alive\n    }\n"
		user      = "script_user nobody"
		security  = "    enable_script_security "
		timeout   = "    timeout 2 "
		interval  = "    interval 1 "
	)
	edits := func(e ...string) []string { return e }
	newer := func(h *keepalived.Host) { h.Version = "2.3.2" }
	none := func(h *keepalived.Host) { h.Version = "" }
	tests := []struct {
		name    string
		profile string
		bad     []string // edits of the profile
		line    string   // the line to be named, as it begins
		want    string   // said of it
		good    []string // edits that it has nothing against
		change  func(*keepalived.Host)
	}{
		{"no reverse", "track-file", edits(reverse, "    weight 0\n"), "weight 0", "without reverse", edits(reverse, "    weight 0 reverse # reverse\n"), nil},
		{"reverse in a comment", "track-file", edits(reverse, "    weight 0 # reverse\n"), "weight 0 #", "without reverse", edits(reverse, "    weight 0   reverse!\n"), nil},
		{"reverse undone", "track-file", edits(file, "    track_file {\n        redis_is_master weight 0 noreverse\n    }\n"), "redis_is_master weight", "without reverse",
			edits(reverse, "", file, "    track_file {\n        redis_is_master weight 0 reverse\n    }\n"), nil},
		{"no weight", "track-file", edits(reverse, "", nopreempt, "    # "), "vrrp_instance", "hint: with a weight", nil, nil},
		{"a weight that turns it round", "weight", edits("    weight 50\n", "    weight -50\n"), "weight -50", "lowers the priority", edits("    weight 50\n", "    weight -50 reverse\n"), nil},
		{"old name", "track-file", edits("\ntrack_file redis", "\nvrrp_track_file redis", reverse, "    weight 0\n"), "weight 0", "without reverse", edits("\ntrack_file redis", "\nvrrp_track_file redis"), nil},
		{"no directory", "track-file", edits("/run/redis-is-master/master", "/run/other/redis"), "file", "does not exist", edits("/run/redis-is-master/master", "/run/redis-is-master/other"), nil},
		{"a file for a directory", "track-file", edits("/run/redis-is-master/master", "/opt/data/master"), "file", "does not exist", nil, nil},
		{"relative path", "track-file", edits("/run/redis-is-master/master", "master"), "file", "not absolute", nil, nil},
		{"no file", "track-file", edits(`    file "/run/redis-is-master/master"`, ""), "track_file redis_is_master {", "names no file", nil, nil},
		{"overwrite", "track-file", edits(initFile, "    init_file 0 overwrite\n"), "init_file", "overwrite", edits(initFile, "    init_file\n"), nil},
		{"init 1", "track-file", edits(initFile, "    init_file 1\n"), "init_file", "write init_file 0", edits(initFile, ""), nil},
		{"half a second", "track-file", edits(interval, "    interval 0.5 "), "interval", "needs keepalived 2.3.2", edits(interval, "    interval 1.0 "), nil},
		{"half a second for a new one", "track-file", edits(timeout, "    timeout 0.5 "), "timeout", "before its own --timeout of 500ms", edits(interval, "    interval 0.5 ", timeout, "    timeout 1.5 "), newer},
		{"half a second for an unknown one", "track-file", edits(interval, "    interval 0.5 "), "interval", "hint: a fraction", edits(interval, "    interval 2 "), none},
		{"a fractional timeout", "track-file", edits(timeout, "    timeout 1.5 "), "timeout", "needs keepalived 2.3.2", nil, nil},
		{"timeout of the script", "script", edits("800ms", "3"), "timeout", "before its own --timeout of 3s", edits("--timeout 800ms", "-t1.9"), nil},
		{"timeout with =", "script", edits("--timeout 800ms", "--timeout=2s"), "timeout", "before its own --timeout of 2s", edits("--timeout 800ms", "--timeout=1999ms"), nil},
		{"short timeout", "script", edits("--timeout 800ms", "-t 2.5"), "timeout", "before its own --timeout of 2.5s", nil, nil},
		{"timeout left to the interval", "script", edits(timeout, "    # ", "800ms", "1s"), "interval", "after 1 s, before its own --timeout of 1s", edits(timeout, "    # "), nil},
		{"password for redis-cli", "script", edits(direct, `"/bin/sh -c '/usr/bin/redis-cli -a secret info replication | grep role:master'"`), "script", "password in this line", nil, nil},
		{"redis-cli", "script", edits(direct, `"/bin/sh -c 'redis-cli info replication | grep role:master'"`), "script", "redis-cli has no timeout", nil, nil},
		{"password in the environment", "script", edits("/usr/bin/env redis", "/usr/bin/env REDISCLI_AUTH=secret redis"), "script", "password in this line", edits("/usr/bin/env redis", "/usr/bin/env LC_ALL=C redis"), nil},
		{"password in a URL", "script", edits("-q --timeout", "-q -u redis://user:secret@localhost --timeout"), "script", "password in this line", edits("-q --timeout", "-q -u redis://user@localhost:6379 --timeout"), nil},
		{"password in a flag", "script", edits("--password-file /etc/redis-is-master/password", "--password=secret"), "script", "password in this line", nil, nil},
		{"AUTH", "script", edits(direct, `"/bin/sh -c 'printf \"AUTH secret\\r\\nINFO\\r\\n\" | nc localhost 6379 | grep role:master'"`), "script", "password in this line", nil, nil},
		{"program not there", "script", edits("/usr/bin/env redis-is-master", "/usr/sbin/redis-is-master"), "script", "is not there", edits("/usr/bin/env redis", "/usr/local/bin/redis"), nil},
		{"program not executable", "script", edits("/usr/bin/env redis-is-master", "/opt/data"), "script", "not executable", nil, nil},
		{"program of others", "script", edits("/usr/bin/env redis-is-master", "/opt/open"), "script", "others than root can write", edits("/usr/bin/env redis-is-master", "/opt/open", "script_user root", user), nil},
		{"arguments outside the quotes", "script", edits(direct, "/usr/bin/env redis-is-master -q -t 1"), "script", "not within the quotes", edits(direct, "'/usr/bin/env redis-is-master -q -t 1 --cached'"), nil},
		{"no command", "script", edits("    script "+direct, ""), "vrrp_script", "runs nothing", nil, nil},
		{"reversed script", "script", edits("    weight 0 ", "    weight 0 reverse "), "weight 0 reverse", "failed check a yes", nil, nil},
		{"script reversed where it is tracked", "script", edits("    track_script {\n        redis_is_master\n", "    track_script {\n        redis_is_master weight 0 reverse\n"), "redis_is_master weight", "failed check a yes",
			edits("    track_script {\n        redis_is_master\n", "    track_script {\n        redis_is_master weight 0 no_reverse\n"), nil},
		{"no nopreempt", "track-file", edits(nopreempt, "    # "), "vrrp_instance", "without nopreempt", nil, nil},
		{"nopreempt quoted out", "track-file", edits(nopreempt, "    !nopreempt "), "vrrp_instance", "without nopreempt", nil, nil},
		{"nopreempt with a weight", "weight", edits(priority, "    nopreempt\n    priority 100 "), "nopreempt", "keeps the VIP from the master", nil, nil},
		{"state MASTER", "track-file", edits(state, "    state MASTER "), "state MASTER", "makes nopreempt void", edits(state, "    # "), nil},
		{"state MASTER on one", "track-file", edits(state, "    @node1 state MASTER\n    @^node1 state BACKUP "), "@node1 state", "makes nopreempt void", edits(state, "    @node1 state BACKUP\n    @^node1 state BACKUP "), nil},
		{"priority 255", "track-file", edits(priority, "    priority 255 "), "priority 255", "makes nopreempt void", edits(priority, "    priority 254 "), nil},
		{"priorities", "weight", edits(priority, "    @node1 priority 150\n    @^node1 priority 100 "), "@^node1 priority", "differ by 50", edits(priority, "    @node1 priority 149\n    @^node1 priority 100 "), nil},
		{"no dead man's switch", "track-file", edits(alive, ""), "vrrp_instance", "outlives the daemon", edits(alive, "    track_script { redis_is_masterd_alive }\n"), nil},
		{"the same, defined and unused", "track-file", edits(alive, ""), "vrrp_script", "never run", nil, nil},
		{"another script for a switch", "track-file", edits(program, `"/etc/keepalived/check.sh"`), "vrrp_instance", "outlives the daemon", nil, nil},
		{"switch with a weight", "track-file", edits("    weight 0                    # failed", "    weight -10 # "), "redis_is_masterd_alive", "has a weight", nil, nil},
		{"no Sentinels", "script", edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --min-uptime 15s"`), "script", "hint: role:master alone",
			edits(direct, `"/usr/bin/env redis-is-master -q --cached"`), nil},
		{"no Sentinels, and a role", "script", edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --role master"`), "script", "hint: role:master alone",
			edits(direct, `"/usr/bin/env redis-is-master -q --timeout 800ms --role replica"`), nil},
		{"switch that asks for the role", "track-file", edits(" --alive", ""), "redis_is_masterd_alive", "hint: this asks for the role", nil, nil},
		{"only the switch", "track-file", edits(file, ""), "vrrp_instance", "nothing here asks for the role", nil, nil},
		{"track file unused", "track-file", edits(file, ""), "track_file redis_is_master {", "decides nothing", nil, nil},
		{"wrong name", "track-file", edits(file, "    track_file { redis_is_mastre }\n"), "track_file { redis_is_mastre", "no tracker redis_is_mastre", edits(file, "    track_file { redis_is_master }\n"), nil},
		{"no script security", "track-file", edits(security, "    # "), "global_defs", "enable_script_security", nil, nil},
		{"no script user", "track-file", edits(user, ""), "vrrp_script", "no script_user", edits(user, "", timeout, "    user nobody\n    timeout 2 "), nil},
		{"script user not there", "track-file", edits(user, "script_user keepalived_script"), "script_user", "no user keepalived_script", edits(user, "script_user root root"), nil},
		{"user of a script not there", "track-file", edits(timeout, "    user redis\n    timeout 2 "), "user redis", "no user redis", edits(timeout, "    user root\n    timeout 2 "), nil},
		{"weight in a sync group", "weight", edits("vrrp_instance redis {", "vrrp_sync_group all {\n    group {\n        redis\n    }\n}\nvrrp_instance redis {"), "redis_is_master", "without reverse", nil, nil},
		{"tracked by a sync group", "track-file", edits(file, "", "vrrp_instance redis {", "vrrp_sync_group all {\n    group {\n        other\n    }\n"+file+"}\nvrrp_instance redis {"), "vrrp_instance", "nothing here asks",
			edits(file, "", "vrrp_instance redis {", "vrrp_sync_group all {\n    group {\n        redis\n    }\n"+file+"}\nvrrp_instance redis {"), nil},
		{"parameters", "track-file", edits("global_defs {", "$W=0\nglobal_defs {", reverse, "    weight ${W}\n"), "weight ${W}", "without reverse", edits("global_defs {", "$W=0 reverse\nglobal_defs {", reverse, "    weight $W\n"), nil},
		{"parameters of many lines", "track-file", edits("global_defs {", "$W= \\\n weight 0 \\\n init_file 0\nglobal_defs {", reverse, "    $W\n"), "$W", "without reverse",
			edits("global_defs {", "$W= \\\n weight 0 reverse \\\n init_file 0\nglobal_defs {", reverse, "    $W\n"), nil},
		{"a parameter of itself", "track-file", edits("global_defs {", "$W=$W $W\n$W\nglobal_defs {"), "$W", "too deeply nested", edits("global_defs {", "$W=$V $V\nglobal_defs {"), nil},
		{"braces in an include", "track-file", edits("global_defs {", "include /etc/{a,b}.conf\nglobal_defs {"), "include", "braces", edits("global_defs {", "include /etc/none/*.conf\nglobal_defs {"), nil},
		{"include not there", "track-file", edits("global_defs {", "includea none.conf\nglobal_defs {"), "includea", "cannot read /etc/keepalived/none.conf", edits("global_defs {", "includes none\nglobal_defs {"), nil},
		{"include of itself", "track-file", edits("global_defs {", "include keepalived.conf\nglobal_defs {"), "include", "include itself", nil, nil},
		{"nothing", "track-file", edits(file, "", alive, ""), "# The VIP", "no vrrp_instance follows Redis", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := tt.change
			if change == nil {
				change = func(*keepalived.Host) {}
			}
			text := edit(t, read(t, tt.profile+".conf"), tt.bad...)
			found := lint(t, text, change)
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
			for _, f := range lint(t, edit(t, read(t, tt.profile+".conf"), tt.good...), change) {
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
}` + instance, []string{"1: there is no script_user", "1: without enable_script_security", "8: hint: with a weight"}},
		{"redis-cli in the line", `vrrp_script chk_redis {
    script "/bin/sh -c \"redis-cli -a hunter2 info replication | grep -q role:master\""
    interval 1
}` + instance, []string{"1: there is no script_user", "1: without enable_script_security", "2: redis-cli has no timeout", "2: there is a password", "5: without nopreempt"}},
		{"keepalived follows HAProxy", `global_defs {
    enable_script_security
    script_user root
}
vrrp_script chk_redis {
    script "/opt/open haproxy"
    interval 1
    weight 2
}` + strings.Replace(instance, "priority 100", "priority 101", 1), []string{"6: others than root can write", "10: hint: with a weight"}},
		{"our track file as it must not be", `track_file redis {
    file /run/redis-is-master/master
    weight 0
    init_file 0 overwrite
}
vrrp_instance VI_1 {
    state MASTER
    nopreempt
    track_file { redis }
}`, []string{"3: weight 0 without reverse", "4: overwrite", "6: a track file outlives", "7: state MASTER"}},
		{"something else", "vrrp_instance web {\n    state MASTER\n}\n", []string{"1: no vrrp_instance follows Redis"}},
		{"nothing", "", []string{"1: no vrrp_instance follows Redis"}},
	}
	for _, tt := range tests {
		found := lint(t, tt.config)
		if !slices.EqualFunc(found, tt.want, strings.HasPrefix) {
			t.Errorf("%s: got %q, want %q", tt.name, found, tt.want)
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
	if found := lint(t, read(t, "track-file.conf")+other); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

// TestLintIncludes: a finding names the file that it is in.
func TestLintIncludes(t *testing.T) {
	t.Parallel()
	profile := read(t, "track-file.conf")
	begin := strings.Index(profile, "vrrp_instance")
	h := host(map[string]string{
		config:                          "include conf.d/*.conf # all of them\n\"\n",
		"/etc/keepalived/conf.d/a.conf": profile[:begin],
		"/etc/keepalived/conf.d/b.conf": "includer ../redis\r\n",
		"/etc/keepalived/redis":         strings.Replace(profile[begin:], "    nopreempt", "#nopreempt", 1),
	})
	findings, err := keepalived.Lint(h, config)
	lab.Check(t, err)
	if len(findings) != 1 || !strings.HasPrefix(findings[0].String(), "/etc/keepalived/redis:1: without nopreempt") {
		t.Errorf("%v", findings)
	}
	if _, err := keepalived.Lint(h, "/none"); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// TestThisHost: the real machine is asked rightly.
func TestThisHost(t *testing.T) {
	t.Parallel()
	lab.Require(t, "keepalived")
	h := keepalived.ThisHost()
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
	files, err := filepath.Glob("*.conf")
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
		"", "{", "}", "}{", "{{{}", `"`, "'", `\`, "@", "@x", "$", "$A=", "$A=$A\n$A", "$A=\\\n\\\n", "include", "include ", "include *", "include keepalived.conf",
		"include /etc/keepalived/*\n", "$A=include keepalived.conf\n$A\n$A", "track_file", "track_file {", "track_file { weight", "vrrp_script x { script", "vrrp_script x { script \"\" }",
		"vrrp_script x { script \" \" }", "vrrp_script redis { script \"redis-is-master -t\" }", "vrrp_instance { track_file { x } }", "vrrp_sync_group { group { } }", "track_file redis { init_file }",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		findings, err := keepalived.Lint(host(map[string]string{config: text}), config)
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
