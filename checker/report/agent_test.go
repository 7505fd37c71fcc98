package report_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

var (
	good = checker.Verdict{Reason: checker.OK, Detail: "role:master"}
	bad  = checker.Verdict{Reason: checker.ReasonRole, Detail: "role:slave, not a master, follows 10.0.0.2:6379"}
)

// details that could be taken for more than a description.
var hostileDetails = []string{
	"",
	"a\nup ready 100%\n",
	"a\r\nup ready 100%\r\n",
	"\x00\x01\x1b[2J\x7f\u0085\u2028\u2029",
	"# up ready 100%",
	"x, up ready 100%",
	"\t#\tup\tready\t100%",
	`"quoted", 'too';,`,
	"\xff\xfe invalid",
	strings.Repeat("x", 1000),
	strings.Repeat("up ready 100% ", 100),
	strings.Repeat("ä", 1000),
	"x" + strings.Repeat("ä", 1000),
	strings.Repeat("世", 1000),
	"x" + strings.Repeat("世", 1000),
	strings.Repeat("\n", 1000),
	strings.Repeat("\xff", 1000),
}

func TestAgent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		v    checker.Verdict
		want string
	}{
		{good, "up ready 100%\n"},
		{bad, "down # role role:slave, not a master, follows 10.0.0.2:6379\n"},
		{checker.Verdict{}, "down #  \n"},
		{checker.Verdict{Reason: "OK", Detail: "x"}, "down # OK x\n"},
	} {
		if got := report.Agent(tt.v); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.v, got, tt.want)
		}
	}
}

// TestAgentLine: whatever the detail, it is one line that HAProxy reads whole
// and can print.
func TestAgentLine(t *testing.T) {
	t.Parallel()
	for _, detail := range hostileDetails {
		for _, reason := range checker.Reasons() {
			got := report.Agent(checker.Verdict{Reason: reason, Detail: detail})
			if len(got) > 201 || strings.IndexByte(got, '\n') != len(got)-1 ||
				strings.ContainsAny(got, "\r\x00\x1b\u0085\u2028\u2029") {
				t.Fatalf("%s, %.50q: %q", reason, detail, got)
			}
			if !utf8.ValidString(got) {
				t.Fatalf("%s, %.50q: no UTF-8: %q", reason, detail, got)
			}
			// The words before the description are those of the answer.
			words, _, _ := strings.Cut(strings.TrimSuffix(got, "\n"), " #")
			want := "down"
			if reason == checker.OK {
				want = "up ready 100%"
			}
			if words != want {
				t.Fatalf("%s, %.50q: %q", reason, detail, got)
			}
		}
	}
}

// A haproxy is a real one with one server, whose state only an agent says.
type haproxy struct {
	stats string
	says  atomic.Pointer[string] // the agent
	asked atomic.Int64
}

func newHAProxy(t *testing.T) *haproxy {
	t.Helper()
	lab.Require(t, "haproxy")
	h := &haproxy{}
	h.say(report.Agent(good))
	_, port, err := net.SplitHostPort(lab.Fake(t, nil, func(_ int, c net.Conn) {
		c.SetDeadline(time.Now().Add(lab.Patience))
		io.WriteString(c, *h.says.Load())
		c.Close()
		h.asked.Add(1)
	}))
	lab.Check(t, err)

	dir := lab.TempDir(t)
	h.stats = filepath.Join(dir, "stats.sock")
	config := filepath.Join(dir, "haproxy.cfg")
	lab.Check(t, os.WriteFile(config, fmt.Appendf(nil, `global
  stats socket %s mode 600
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend redis
  server node 127.0.0.1:1 agent-check agent-addr 127.0.0.1 agent-port %s agent-inter 100ms
`, h.stats, port), 0o600))
	// -db: in the foreground, one process.
	cmd := exec.Command("haproxy", "-db", "-f", config)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	lab.Check(t, lab.Start(cmd))
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("haproxy: %s", log.Bytes()[max(0, log.Len()-2000):])
		}
	})
	lab.Check(t, lab.Wait("haproxy answers", func() (bool, error) {
		select {
		case <-exited:
			return false, fmt.Errorf("haproxy ended: %s", log.String())
		default:
		}
		_, err := h.command("show stat")
		return err == nil, nil
	}))
	return h
}

// say is what the agent answers from now on.
func (h *haproxy) say(line string) { h.says.Store(&line) }

func (h *haproxy) command(line string) (string, error) {
	c, err := net.DialTimeout("unix", h.stats, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// server is what HAProxy knows of it: show stat by column, and the operational
// and the administrative state of show servers state.
//
// Format: https://docs.haproxy.org/2.6/management.html#9.1 and #9.3.
func (h *haproxy) server() (stat map[string]string, states string, err error) {
	out, err := h.command("show stat")
	if err != nil {
		return nil, "", err
	}
	rows := csv.NewReader(strings.NewReader(strings.TrimPrefix(out, "# ")))
	rows.FieldsPerRecord = -1
	all, err := rows.ReadAll()
	if err != nil {
		return nil, "", fmt.Errorf("show stat is no CSV: %w: %q", err, out)
	}
	stat = make(map[string]string)
	for _, row := range all[1:] {
		if row[0] == "redis" && row[1] == "node" {
			for i, name := range all[0] {
				stat[name] = row[i]
			}
		}
	}
	if out, err = h.command("show servers state redis"); err != nil {
		return nil, "", err
	}
	for line := range strings.SplitSeq(out, "\n") {
		if f := strings.Fields(line); len(f) > 6 && f[3] == "node" {
			states = f[5] + " " + f[6]
		}
	}
	return stat, states, nil
}

// until waits for a status of show stat together with states.
func (h *haproxy) until(t *testing.T, status, states string) map[string]string {
	t.Helper()
	var stat map[string]string
	var got string
	err := lab.Wait(fmt.Sprintf("the server is %s (%s)", status, states), func() (ok bool, err error) {
		stat, got, err = h.server()
		return stat["status"] == status && got == states, err
	})
	if err != nil {
		t.Fatalf("%v: it is %s (%s), after %q", err, stat["status"], got, *h.says.Load())
	}
	return stat
}

// What show stat and show servers state call it. A server without a health
// check that is up is "no check".
const (
	statusUp = "no check"
	statesUp = "2 0" // running, nothing forced
)

// Down as the agent says it: stopped.
const (
	statusDown = "DOWN (agent)"
	statesDown = "0 0"
)

// TestHAProxy: a real one does what the line says, and a yes undoes whatever
// another agent said before.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	h := newHAProxy(t)
	h.say(report.Agent(bad))
	stat := h.until(t, statusDown, statesDown)
	if want := "via agent : down (role role:slave, not a master, follows 10.0.0.2:6379)"; stat["last_agt"] != want {
		t.Errorf("last_agt %q, want %q", stat["last_agt"], want)
	}
	h.say(report.Agent(good))
	h.until(t, statusUp, statesUp)
	for _, other := range []struct{ line, status, states string }{
		{"drain up\n", "DRAIN (agent)", "2 8"}, // running, drain as the agent wants it
		{"maint\n", "MAINT", "0 1"},            // stopped, maintenance
	} {
		h.say(other.line)
		h.until(t, other.status, other.states)
		// What the other said may persist: the server stays out.
		h.say(report.Agent(bad))
		heard := h.asked.Load() + 2
		lab.Check(t, lab.Wait("the agent was asked", func() (bool, error) { return h.asked.Load() >= heard, nil }))
		if _, states, err := h.server(); err != nil || states == statesUp {
			t.Errorf("%q, then a no: %s, %v", other.line, states, err)
		}
		h.say(report.Agent(good))
		h.until(t, statusUp, statesUp)
	}
}

// TestHAProxyHostile: no reason and no detail makes a no anything else, or an
// error of the agent, which would keep the last state.
func TestHAProxyHostile(t *testing.T) {
	t.Parallel()
	h := newHAProxy(t)
	var verdicts []checker.Verdict
	for _, detail := range hostileDetails {
		verdicts = append(verdicts, checker.Verdict{Reason: checker.ReasonRole, Detail: detail})
	}
	for _, reason := range checker.Reasons() {
		if reason.Answer() != checker.Yes {
			verdicts = append(verdicts, checker.Verdict{Reason: reason, Detail: "a detail"})
		}
	}
	for _, v := range verdicts {
		h.say(report.Agent(v))
		stat := h.until(t, statusDown, statesDown)
		// An asterisk: the next check is under way.
		if code := strings.TrimPrefix(stat["agent_status"], "* "); code != "L7STS" ||
			strings.Contains(stat["last_agt"], "error") {
			t.Errorf("%.50q: agent_status %q, last_agt %q", v.Detail, code, stat["last_agt"])
		}
		h.say(report.Agent(good))
		h.until(t, statusUp, statesUp)
	}
}
