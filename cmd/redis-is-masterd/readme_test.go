package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

const (
	readmeTop        = "README.md"
	readmeSentinel   = "checker/sentinel/README.md"
	readmePrometheus = "checker/serve/prometheus/README.md"
	readmeMonitoring = "cmd/package/monitoring/README.md"
	readmeDocker     = "docker/README.md"
	readmeLab        = "e2e/README.md"
)

// readmes are the tested READMEs. Each of their code blocks is named by its
// first words, with the test that runs it; nothing else may be in a block.
var readmes = map[string][]block{
	readmeTop: {
		{begin: "node1$ redis-is-master", run: session},
		{begin: "node1$ redis-cli INFO", run: falseMaster},
		{begin: "*/5 * * * * ", run: cron},
		{begin: "make package", run: packaged},
		{begin: "make build", run: installByHand},
		{begin: "install -d /etc/redis-is-master", run: setPassword},
		{begin: "mkdir -p /run/redis-is-master", run: startByHand},
		{begin: "ACL SETUSER", run: grant},
		{begin: "export REDISCLI_AUTH", run: rotate},
		{begin: "track_file redis_is_master {", run: trackFile},
	},
	readmeSentinel: {},
	readmePrometheus: {
		{begin: "scrape_configs:", run: prometheus},
		{begin: "tls_server_config:", elsewhere: "checker/serve/prometheus/web_test.go"},
		{begin: byTLS, elsewhere: "checker/serve/prometheus/web_test.go"},
		{begin: "ln -s ", run: nodeExporter},
	},
	readmeMonitoring: {{begin: "redis-is-master -o nagios", run: nagios}},
	readmeDocker: {
		{begin: "make docker-up", run: targets},
		{begin: "01:30:55", elsewhere: "docker/cluster.sh"}, // what its demo prints
		{begin: "disabled=", elsewhere: "docker/docker_test.go"},
		{begin: "backend master\n    option httpchk GET", run: haproxy},
		{begin: "backend master\n    option httpchk\n", elsewhere: "checker/serve/prometheus/web_test.go"},
		{begin: "redis-is-masterd --password-file", run: startForHAProxy},
		{begin: "services:", elsewhere: "docker/docker_test.go"},
	},
	readmeLab: {},
}

// A block is a code block of a README.
type block struct {
	begin     string
	run       func(t *testing.T, text string)
	elsewhere string // the file that runs it instead
}

// byTLS begins the second of Prometheus's configurations.
const byTLS = "scrape_configs:\n  - job_name: redis\n    scrape_interval: 5s\n    scheme: https\n"

const root = "../../"

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(root + file)
	lab.Check(t, err)
	return string(b)
}

// TestReadmes runs every code block of the tested READMEs.
func TestReadmes(t *testing.T) {
	t.Parallel()
	fenced := regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	for file, blocks := range readmes {
		found := fenced.FindAllStringSubmatch(read(t, file), -1)
		if len(found) != len(blocks) {
			t.Errorf("%s has %d code blocks, and %d are tested", file, len(found), len(blocks))
		}
		for _, b := range blocks {
			i := slices.IndexFunc(found, func(m []string) bool { return strings.HasPrefix(m[1], b.begin) })
			switch {
			case i < 0:
				t.Errorf("%s has no code block that begins with %q", file, b.begin)
			case b.run == nil:
				if _, err := os.Stat(root + b.elsewhere); err != nil {
					t.Error(err)
				}
			default:
				t.Run(file+" "+b.begin, func(t *testing.T) {
					t.Parallel()
					b.run(t, found[i][1])
				})
			}
		}
	}
}

// TestReadmeText: the README is short, every reason is explained, and every
// link, make target and flag in the text exists.
func TestReadmeText(t *testing.T) {
	t.Parallel()
	if n := utf8.RuneCountInString(read(t, readmeTop)); n > 10_000 {
		t.Errorf("the README has %d characters: move what is no product's face to a folder", n)
	}
	for _, r := range checker.Reasons() {
		if !strings.Contains(read(t, readmeSentinel), "| `"+string(r)+"` |") {
			t.Errorf("%s does not explain %s", readmeSentinel, r)
		}
	}
	known := make(map[string]bool)
	for _, command := range []string{"redis-is-master", "redis-is-masterd", "redis-is-masterd doctor",
		"redis-is-masterd cluster"} {
		words := append(strings.Fields(command), "--help")
		help, _ := exec.Command(lab.Program(words[0]), words[1:]...).Output()
		for _, flag := range regexp.MustCompile(`--[a-z.-]*[a-z]`).FindAllString(string(help), -1) {
			known[flag] = true
		}
	}
	code := regexp.MustCompile("`((?:redis-is-masterd? |--|make )[^`\n]*)`")
	for _, file := range documents(t) {
		text := read(t, file)
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(#[a-z-]+)?\)`).FindAllStringSubmatch(text, -1) {
			to := filepath.Join(filepath.Dir(file), m[1])
			if m[1] == "" {
				to = file
			}
			if _, err := os.Stat(root + to); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", file, err)
			} else if m[2] != "" && !slices.Contains(anchors(read(t, to)), m[2]) {
				t.Errorf("%s: %s has no heading %s", file, to, m[2])
			}
		}
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "make ") {
				targets(t, m[1])
				continue
			}
			for _, flag := range regexp.MustCompile(`--[a-z.-]*[a-z]`).FindAllString(m[1], -1) {
				if !known[flag] {
					t.Errorf("%s: no command has the flag %s of %q", file, flag, m[1])
				}
			}
		}
	}
}

// documents are all Markdown files.
func documents(t *testing.T) (all []string) {
	lab.Check(t, filepath.WalkDir(root, func(path string, f os.DirEntry, err error) error {
		name := filepath.ToSlash(strings.TrimPrefix(path, root))
		switch {
		case err == nil && f.IsDir() && strings.HasPrefix(f.Name(), ".") && path != root || name == "bin":
			return filepath.SkipDir
		case strings.HasSuffix(name, ".md"):
			all = append(all, name)
		}
		return err
	}))
	return all
}

// anchors are the links that the headings of a text have on GitHub.
func anchors(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, "#"+strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

// replaced puts into a text what the test has in place of what the README has.
func replaced(t *testing.T, text string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the block does not hold %q:\n%s", replace[i], text)
		}
	}
	return strings.NewReplacer(replace...).Replace(text)
}

// shell runs a script by bash, with the built commands in its PATH.
func shell(t *testing.T, script, stdin string, env ...string) (code int, output string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", script)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(append(os.Environ(), "PATH="+lab.Programs+":"+os.Getenv("PATH"), "REDISCLI_AUTH="+password), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// must runs a script that has to succeed.
func must(t *testing.T, script, stdin string, env ...string) string {
	t.Helper()
	code, out := shell(t, script, stdin, env...)
	if code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, out, script)
	}
	return out
}

// types runs the commands of a session one after the other, each as run makes
// it, and compares what they print with what the session shows. Addresses,
// durations and epochs may differ.
func types(t *testing.T, text string, run func(i int, command string) string) {
	t.Helper()
	prompt := regexp.MustCompile(`(?m)^node\d\$ (.*)\n`)
	varies := regexp.MustCompile(`\d+(\.\d+)*:\d+|(\d+[hms]+)+|epoch \d+`)
	shown := prompt.Split(text, -1)[1:]
	for i, m := range prompt.FindAllStringSubmatch(text, -1) {
		got := strings.ReplaceAll(must(t, run(i, m[1]), ""), "\r", "")
		if varies.ReplaceAllString(got, "N") != varies.ReplaceAllString(shown[i], "N") {
			t.Errorf("%s\nprints:\n%s\nThe README shows:\n%s", m[1], got, shown[i])
		}
	}
}

func port(r *lab.Redis) string { return strconv.Itoa(r.Port) }

// follower starts a replica.
func follower(t *testing.T, master *lab.Redis) *lab.Redis {
	t.Helper()
	args := []string{"--replicaof", "127.0.0.1 " + port(master)}
	r := lab.New(t, lab.Options{TCP: true, Password: password, Args: args})
	lab.Check(t, r.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("port="+port(r)+",state=online", "INFO", "replication"))
	return r
}

func session(t *testing.T, text string) {
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	nodes := []*lab.Redis{master, follower(t, master), follower(t, master)}
	types(t, text, func(i int, command string) string {
		r := nodes[i]
		command = strings.Replace(command, "redis-is-master;", "redis-is-master -p "+port(r)+";", 1)
		return strings.Replace(command, "$(pidof redis-server)", strconv.Itoa(r.Pid()), 1)
	})
	lab.Check(t, nodes[2].Signal(syscall.SIGCONT))
}

func falseMaster(t *testing.T, text string) {
	c := lab.NewCluster(t, 3, lab.Options{Password: password})
	old := c.Nodes[0]
	d := start(t, old, "--hello=auto")
	old.Kill()
	lab.Check(t, lab.Wait("another node is master", func() (bool, error) {
		for _, r := range c.Nodes[1:] {
			if info, err := r.Do("INFO", "replication"); err == nil && strings.Contains(info, "role:master") {
				return true, nil
			}
		}
		return false, nil
	}))
	lab.Check(t, old.Restart())
	lab.Check(t, d.Says(checker.ReasonSentinel))
	types(t, text, func(_ int, command string) string {
		command = strings.Replace(command, "redis-cli", "redis-cli -p "+port(old), 1)
		return strings.Replace(command, "--cached", "--cached="+d.Socket, 1)
	})
}

func cron(t *testing.T, text string) {
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	for _, tt := range []struct {
		of   *lab.Redis
		runs bool
	}{{master, true}, {follower(t, master), false}} {
		ran := filepath.Join(t.TempDir(), "ran")
		d := start(t, tt.of)
		shell(t, replaced(t, text, "*/5 * * * * ", "", "--cached", "--cached="+d.Socket,
			"only-on-the-master", "touch "+ran), "")
		if _, err := os.Stat(ran); (err == nil) != tt.runs {
			t.Errorf("%v: %v", tt, err)
		}
	}
}

func nagios(t *testing.T, text string) {
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	for r, want := range map[*lab.Redis]string{follower(t, master): "REDIS OK", master: "REDIS WARNING"} {
		code, out := shell(t, replaced(t, text, "redis-is-master", "redis-is-master -p "+port(r)), "")
		if !strings.HasPrefix(out, want) || code != map[string]int{"REDIS OK": 0, "REDIS WARNING": 1}[want] {
			t.Errorf("exit code %d: %s", code, out)
		}
	}
}

// targets are words of make that its file has.
func targets(t *testing.T, text string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\bmake ([a-z0-9-]+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^(?:[a-z0-9-]+ )*` + m[1] + `(?: [a-z0-9-]+)*:`).MatchString(read(t, "Makefile")) {
			t.Errorf("make has no target %s", m[1])
		}
	}
}

// packaged: the name is that of the package that e2e/package installs.
func packaged(t *testing.T, text string) {
	targets(t, text)
	_, name, _ := strings.Cut(strings.TrimSpace(text), "apt install ./bin/packages/")
	if ok, err := filepath.Match(name, "redis-is-master_1.0.0-1_amd64.deb"); !ok || err != nil {
		t.Errorf("%q is no name of a package: %v", name, err)
	}
	if !strings.Contains(read(t, "cmd/package/nfpm.yaml"), "\nname: redis-is-master\n") {
		t.Error("the package has another name")
	}
}

func installByHand(t *testing.T, text string) {
	targets(t, text)
	dir := t.TempDir()
	lab.Check(t, os.Symlink(lab.Programs, filepath.Join(dir, "bin")))
	must(t, "cd "+dir+"\n"+replaced(t, text, "make build\n", "", "/usr/local/bin/", dir), "")
	for _, name := range []string{"redis-is-master", "redis-is-masterd"} {
		code, out := shell(t, filepath.Join(dir, name)+" --version", "")
		if code != 3 || !strings.HasPrefix(out, filepath.Base(name)+" ") {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
	}
}

func setPassword(t *testing.T, text string) {
	dir := t.TempDir()
	const typed = ` a "\n%s' password `
	if out := must(t, replaced(t, text, "/etc/redis-is-master", dir), typed+"\n"); strings.Contains(out, typed) {
		t.Errorf("it shows the password: %s", out)
	}
	file := filepath.Join(dir, "password")
	b, err := os.ReadFile(file)
	lab.Check(t, err)
	info, err := os.Stat(file)
	lab.Check(t, err)
	if string(b) != typed+"\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %q", info.Mode(), b)
	}
}

// started runs a text, which ends with a daemon's command, until the test ends.
func started(t *testing.T, text string) {
	t.Helper()
	startProgram(t, "bash", "-ec", replaced(t, text, "redis-is-masterd ", "exec "+lab.Program("redis-is-masterd")+" "))
}

func startByHand(t *testing.T, text string) {
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	dir, web := t.TempDir(), freeAddr(t)
	file := filepath.Join(t.TempDir(), "password")
	lab.Check(t, os.WriteFile(file, []byte(password), 0o600))
	started(t, replaced(t, text, "/run/redis-is-master", dir+"/run", "127.0.0.1:9736", web,
		"/etc/redis-is-master/password", file,
		"redis-is-masterd --", "redis-is-masterd --hello=off --socket "+dir+"/s -p "+port(r)+" --"))
	answers(t, "http://"+web+"/master", "ok: role:master")
	lab.Check(t, lab.Wait("the track file says 1", func() (bool, error) {
		b, err := os.ReadFile(dir + "/run/master")
		return string(b) == "1\n", err
	}))
}

func startForHAProxy(t *testing.T, text string) {
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	web, agent := freeAddr(t), freeAddr(t)
	file := filepath.Join(t.TempDir(), "password")
	lab.Check(t, os.WriteFile(file, []byte(password), 0o600))
	started(t, replaced(t, text, "10.0.0.1:9736", web, "10.0.0.1:9737", agent, "/etc/redis-is-master/password", file,
		"redis-is-masterd --", "redis-is-masterd --hello=off --socket= -p "+port(r)+" --"))
	answers(t, "http://"+web+"/master", "ok: role:master")
	out := must(t, "exec 3<>/dev/tcp/"+strings.Replace(agent, ":", "/", 1)+"; cat <&3", "")
	if !strings.HasPrefix(out, "up ready") {
		t.Errorf("the agent says %q", out)
	}
}

// grant: the rights are enough for the check, and for the daemon to hear the
// Sentinels.
func grant(t *testing.T, text string) {
	r := lab.New(t, lab.Options{TCP: true})
	r.Must(t, strings.Fields(replaced(t, text, "PASSWORD", password))...)
	must(t, "redis-is-master --user vipcheck -p "+port(r), "")
	file := filepath.Join(t.TempDir(), "password")
	lab.Check(t, os.WriteFile(file, []byte(password), 0o600))
	start(t, r, "--hello=auto", "--user", "vipcheck", "--password-file", file)
	lab.Check(t, r.Until("__sentinel__:hello\n1", "PUBSUB", "NUMSUB", "__sentinel__:hello"))
}

// rotate: the daemons answer as before throughout, and the new password alone
// is accepted in the end, by a Redis that was restarted, too.
func rotate(t *testing.T, text string) {
	const fresh = ` n3w "'%s$ `
	c := lab.NewCluster(t, 3, lab.Options{Password: password})
	questions, rest, _ := strings.Cut(text, "# Step ")
	steps := strings.Split(rest, "# Step ")
	if len(steps) != 3 {
		t.Fatalf("%d steps", len(steps))
	}
	var daemons []*lab.Daemon
	var files []string
	for _, r := range c.Nodes {
		file := filepath.Join(t.TempDir(), "password")
		lab.Check(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
		files, daemons = append(files, file), append(daemons, start(t, r, "--hello=auto", "--password-file", file))
	}
	stands := func(n int) time.Time {
		t.Helper()
		lab.Check(t, daemons[n].Says(map[bool]checker.Reason{true: checker.OK, false: checker.ReasonRole}[n == 0]))
		doc, err := daemons[n].Document()
		lab.Check(t, err)
		return doc.Daemon.History[0].Time
	}
	since := []time.Time{stands(0), stands(1), stands(2)}
	for i, commands := range []int{1, 2, 2} {
		for n, r := range c.Nodes {
			here := strings.NewReplacer("/etc/redis-is-master/password", files[n],
				"redis-cli -p 26379", "redis-cli -p "+port(c.Sentinels[n]), "redis-cli", "redis-cli -p "+port(r))
			out := must(t, here.Replace(questions+"#"+steps[i]), fresh+"\n")
			if strings.Count(out, "OK\n") != commands || strings.Contains(out, fresh) {
				t.Errorf("step %d prints: %s", i+1, out)
			}
		}
	}
	for n, r := range c.Nodes {
		if _, out := shell(t, "redis-cli -p "+port(r)+" PING", ""); strings.Contains(out, "PONG") {
			t.Error("the old password is accepted")
		}
		r.Password = fresh
		r.Must(t, "CLIENT", "KILL", "TYPE", "normal")
		r.Must(t, "CLIENT", "KILL", "TYPE", "replica")
		if at := stands(n); !at.Equal(since[n]) {
			t.Errorf("the reason of node %d changed at %v", n+1, at)
		}
	}
	for _, r := range c.Nodes[1:] {
		r.Kill()
		lab.Check(t, r.Restart())
		lab.Check(t, r.Until("master_link_status:up", "INFO", "replication"))
	}
	for _, d := range daemons {
		if strings.Contains(d.Log(), "the password is refused") {
			t.Error("the daemon was refused: ", d.Log())
		}
	}
}

// trackFile: keepalived takes the shipped profile with these blocks in place
// of its own, and the linter finds nothing in it.
func trackFile(t *testing.T, text string) {
	lab.Require(t, "keepalived", "unshare", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: keepalived cannot check a configuration")
	}
	profile := read(t, "keepalived/track-file.conf")
	for _, m := range regexp.MustCompile(`(?ms)^(\w+ \w+ \{)$.*?^\}$`).FindAllStringSubmatch(text, -1) {
		before, rest, _ := strings.Cut(profile, m[1]+"\n")
		_, after, found := strings.Cut(rest, "\n}\n")
		if !found {
			t.Fatalf("the profile has no %s", m[1])
		}
		profile = before + m[0] + "\n" + after
	}
	// Script security wants a path that only root can write to.
	dir, err := os.MkdirTemp("/run", "readme-")
	lab.Check(t, err)
	defer os.RemoveAll(dir)
	lab.Check(t, os.CopyFS(dir, os.DirFS(lab.Programs)))
	file := filepath.Join(dir, "keepalived.conf")
	config := replaced(t, profile, "/run/redis-is-master", dir, "eth0", "vip0", "script_user nobody", "script_user root")
	lab.Check(t, os.WriteFile(file, []byte(config), 0o600))
	// In a network of its own, with an interface to put the address on.
	must(t, `unshare --net sh -c 'ip link add vip0 type veth peer name vip1 && exec keepalived -t -f "$0"' `+file, "")
	if code, out := shell(t, "redis-is-masterd lint "+file, ""); code != 0 || out != "" {
		t.Errorf("exit code %d: %s", code, out)
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
