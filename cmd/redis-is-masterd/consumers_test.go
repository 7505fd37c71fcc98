package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// snippet is the block of the README that begins so, with its addresses and
// paths led to what the test has.
func snippet(t *testing.T, begin string, replace ...string) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	lab.Check(t, err)
	before, rest, found := strings.Cut(string(b), "\n"+begin)
	text, _, _ := strings.Cut(rest, "```\n")
	if !found || !strings.HasPrefix(before[strings.LastIndex(before, "\n")+1:], "```") {
		t.Fatalf("the README has no block that begins with %q", begin)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(begin+text, replace[i]) {
			t.Fatalf("the block does not hold %q:\n%s", replace[i], begin+text)
		}
	}
	return strings.NewReplacer(replace...).Replace(begin + text)
}

// startProgram runs a program until the test ends.
func startProgram(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	lab.Check(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", argv[0], log.String())
		}
	})
}

// answers waits until a URL's body holds a text.
func answers(t *testing.T, url, text string) {
	t.Helper()
	last := ""
	err := lab.Wait(url+" holds "+text, func() (bool, error) {
		resp, err := http.Get(url)
		if err != nil {
			return false, nil
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		b.ReadFrom(resp.Body)
		last = b.String()
		return strings.Contains(last, text), nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, last)
	}
}

// TestReadmePrometheus: the real Prometheus scrapes the daemons by the README's
// configuration, and has its rules.
func TestReadmePrometheus(t *testing.T) {
	t.Parallel()
	lab.Require(t, "prometheus", "prometheus-node-exporter")
	r := lab.New(t, lab.Options{})
	address, listen := freeAddr(t), freeAddr(t)
	dir := t.TempDir()
	d := start(t, r, "--hello", "off", "--http", address, "--textfile", filepath.Join(dir, "redis.prom"))
	lab.Check(t, d.Says(checker.OK))
	rules, err := filepath.Abs("../../docker/prometheus/rules.yml")
	lab.Check(t, err)
	config := snippet(t, "scrape_configs:\n", `"10.0.0.1:9736", "10.0.0.2:9736", "10.0.0.3:9736"`, `"`+address+`"`, "/usr/share/doc/redis-is-master/examples/prometheus/rules.yml", rules, "5s", "200ms")
	lab.Check(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	startProgram(t, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen)
	answers(t, "http://"+listen+"/api/v1/query?query=redis_is_master_state", `"job":"redis"},"value":[`)
	answers(t, "http://"+listen+"/api/v1/query?query=redis_is_master_state==1", `,"1"]`)
	answers(t, "http://"+listen+"/api/v1/rules", `"RedisTwoMasters"`)

	// And by the node exporter.
	textfiles := filepath.Join(dir, "node-exporter")
	lab.Check(t, os.Mkdir(textfiles, 0o755))
	link := snippet(t, "ln -s ", "/run/redis-is-master", dir, "/var/lib/prometheus/node-exporter", textfiles)
	if out, err := exec.Command("sh", "-c", link).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listen = freeAddr(t)
	startProgram(t, "prometheus-node-exporter", "--web.listen-address="+listen, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+textfiles)
	answers(t, "http://"+listen+"/metrics", "\nredis_is_master_state 1\n")
	answers(t, "http://"+listen+"/metrics", `node_textfile_mtime_seconds{file="`+filepath.Join(textfiles, "redis-is-master.prom")+`"}`)
	answers(t, "http://"+listen+"/metrics", "\nnode_textfile_scrape_error 0\n")
}

// TestReadmeHAProxy: the real HAProxy leads a client to the master by the
// README's configuration, and to the new one after a change.
func TestReadmeHAProxy(t *testing.T) {
	t.Parallel()
	lab.Require(t, "haproxy")
	var nodes []*lab.Redis
	var replace []string
	for i := range 3 {
		o := lab.Options{TCP: true}
		if i > 0 {
			o.Args = []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(nodes[0].Port)}
		}
		r := lab.New(t, o)
		web, agent := freeAddr(t), freeAddr(t)
		start(t, r, "--hello", "off", "--http", web, "--agent", agent)
		_, webPort, _ := net.SplitHostPort(web)
		_, agentPort, _ := net.SplitHostPort(agent)
		replace = append(replace, fmt.Sprintf("10.0.0.%d:6379 agent-addr 10.0.0.%[1]d", i+1),
			fmt.Sprintf("%s agent-addr 127.0.0.1 port %s agent-port %s", r.Addr(), webPort, agentPort))
		nodes = append(nodes, r)
	}
	front := freeAddr(t)
	config := "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\nlisten front\n    bind " + front + "\n    use_backend redis\n" +
		snippet(t, "backend redis\n", replace...)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	lab.Check(t, os.WriteFile(file, []byte(config), 0o600))
	startProgram(t, "haproxy", "-db", "-f", file)
	_, port, _ := net.SplitHostPort(front)
	leads := func(to *lab.Redis) {
		t.Helper()
		lab.Check(t, lab.Wait("HAProxy leads to "+to.Addr(), func() (bool, error) {
			out, _ := exec.Command("redis-cli", "-p", port, "INFO").Output()
			return strings.Contains(string(out), "role:master\r\n") && strings.Contains(string(out), fmt.Sprintf("tcp_port:%d\r\n", to.Port)), nil
		}))
	}
	leads(nodes[0])
	nodes[1].Must(t, "REPLICAOF", "NO", "ONE")
	nodes[0].Kill()
	leads(nodes[1])
}

// TestReadmeNagiosAndCron: the lines do on a master what they say, and on
// another node not.
func TestReadmeNagiosAndCron(t *testing.T) {
	t.Parallel()
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	replica := lab.New(t, lab.Options{TCP: true, Password: password, Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}})
	lab.Check(t, replica.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("state=online", "INFO", "replication"))
	dir := t.TempDir()
	file, ran := filepath.Join(dir, "password"), filepath.Join(dir, "ran")
	lab.Check(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	run := func(line string) (int, string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "REDISCLI_AUTH=" + password}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for _, tt := range []struct {
		of   *lab.Redis
		code int
		says string
		runs bool
	}{{master, 1, "REDIS WARNING", true}, {replica, 0, "REDIS OK", false}} {
		at := "redis-is-master -p " + strconv.Itoa(tt.of.Port)
		if code, out := run(snippet(t, "redis-is-master -o nagios", "redis-is-master", at)); code != tt.code || !strings.HasPrefix(out, tt.says) {
			t.Errorf("Nagios, %s: exit code %d: %s", tt.says, code, out)
		}
		line := snippet(t, "*/5 * * * * ", "redis-is-master -q", at+" -q", "/etc/redis-is-master/password", file, "/usr/local/bin/only-on-the-master", "touch "+ran)
		run(strings.TrimPrefix(line, "*/5 * * * * "))
		if _, err := os.Stat(ran); (err == nil) != tt.runs {
			t.Errorf("cron, %s: %v", tt.says, err)
		}
		os.Remove(ran)
	}
}
