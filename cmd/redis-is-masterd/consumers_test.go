package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// startProgram runs a program until the test ends.
func startProgram(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	lab.Check(t, lab.Start(cmd))
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

// prometheus: the real one scrapes the daemon by this configuration, and has
// the shipped rules.
func prometheus(t *testing.T, text string) {
	lab.Require(t, "prometheus")
	r := lab.New(t, lab.Options{})
	address, listen := freeAddr(t), freeAddr(t)
	d := start(t, r, "--hello", "off", "--http", address)
	lab.Check(t, d.Says(checker.OK))
	rules, err := filepath.Abs(root + "checker/serve/prometheus/rules.yml")
	lab.Check(t, err)
	dir := t.TempDir()
	config := replaced(t, text, `"10.0.0.1:9736", "10.0.0.2:9736", "10.0.0.3:9736"`, `"`+address+`"`,
		"/usr/share/doc/redis-is-master/examples/prometheus/rules.yml", rules, "5s", "200ms")
	lab.Check(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	startProgram(t, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen)
	answers(t, "http://"+listen+"/api/v1/query?query=redis_is_master_state", `"job":"redis"},"value":[`)
	answers(t, "http://"+listen+"/api/v1/query?query=redis_is_master_state==1", `,"1"]`)
	answers(t, "http://"+listen+"/api/v1/rules", `"RedisTwoMasters"`)
}

// nodeExporter: the real one reads the textfile by this link.
func nodeExporter(t *testing.T, text string) {
	lab.Require(t, "prometheus-node-exporter")
	r := lab.New(t, lab.Options{})
	dir, textfiles, listen := t.TempDir(), t.TempDir(), freeAddr(t)
	d := start(t, r, "--hello", "off", "--textfile", filepath.Join(dir, "redis.prom"))
	lab.Check(t, d.Says(checker.OK))
	must(t, replaced(t, text, "/run/redis-is-master", dir, "/var/lib/prometheus/node-exporter", textfiles), "")
	startProgram(t, "prometheus-node-exporter", "--web.listen-address="+listen, "--collector.disable-defaults",
		"--collector.textfile", "--collector.textfile.directory="+textfiles)
	answers(t, "http://"+listen+"/metrics", "\nredis_is_master_state 1\n")
	answers(t, "http://"+listen+"/metrics", `node_textfile_mtime_seconds{file="`+textfiles+`/redis-is-master.prom"}`)
	answers(t, "http://"+listen+"/metrics", "\nnode_textfile_scrape_error 0\n")
}

// haproxy: the real one sends a client to the master by this backend, and to
// the new one after a change.
func haproxy(t *testing.T, text string) {
	lab.Require(t, "haproxy")
	if !strings.Contains(statements(read(t, "docker/haproxy.cfg")), statements(text)) {
		t.Errorf("docker/haproxy.cfg has not\n%s", text)
	}
	var nodes []*lab.Redis
	var replace []string
	for i := range 3 {
		o := lab.Options{TCP: true}
		if i > 0 {
			o.Args = []string{"--replicaof", "127.0.0.1 " + port(nodes[0])}
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
	config := "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\n" +
		"listen front\n    bind " + front + "\n    use_backend master\n" + replaced(t, text, replace...)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	lab.Check(t, os.WriteFile(file, []byte(config), 0o600))
	startProgram(t, "haproxy", "-db", "-f", file)
	_, frontPort, _ := net.SplitHostPort(front)
	leads := func(to *lab.Redis) {
		t.Helper()
		lab.Check(t, lab.Wait("HAProxy leads to "+to.Addr(), func() (bool, error) {
			out, _ := exec.Command("redis-cli", "-p", frontPort, "INFO").Output()
			info := string(out)
			return strings.Contains(info, "role:master\r\n") && strings.Contains(info, "tcp_port:"+port(to)+"\r\n"), nil
		}))
	}
	leads(nodes[0])
	nodes[1].Must(t, "REPLICAOF", "NO", "ONE")
	nodes[0].Kill()
	leads(nodes[1])
}
