package doctor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/doctor"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m, nil)) }

// hookProgram is that of --exec.
const hookProgram = "/usr/local/bin/follow"

// start starts a site on which the doctor has nothing to mend, its daemons with more flags.
func start(t *testing.T, daemon ...string) *lab.Site {
	t.Helper()
	lab.RequireNetwork(t)
	lab.Require(t, "redis-server", "redis-sentinel", "keepalived")
	config, err := lab.Profile("../../../keepalived/track-file.conf")
	lab.Check(t, err)
	program := filepath.Join(t.TempDir(), filepath.Base(hookProgram))
	lab.Check(t, os.WriteFile(program, []byte("#!/bin/sh\ntest ! -e /run/refused\n"), 0o755))
	s, err := lab.StartSite(lab.SiteOptions{Bin: lab.Programs, Keepalived: config, Programs: []string{program},
		Daemon: append([]string{"--exec", hookProgram}, daemon...)})
	lab.Check(t, err)
	t.Cleanup(s.Close)
	for _, n := range s.Nodes {
		must(t, n.Ask, "CONFIG", "SET", "min-replicas-to-write", "1")
		must(t, n.AskSentinel, "SENTINEL", "SET", lab.MasterName, "down-after-milliseconds", "5000")
	}
	return s
}

func must(t *testing.T, ask func(...string) (string, error), command ...string) {
	t.Helper()
	_, err := ask(command...)
	lab.Check(t, err)
}

// A document is what the doctor prints for tools.
type document struct {
	State  doctor.State
	Checks []doctor.Result
}

// run runs the doctor on a node, with the flags of its daemon and more.
func run(t *testing.T, n *lab.Node, more ...string) (text string, code int) {
	t.Helper()
	argv := append([]string{"doctor"}, n.Daemon.Argv[1:]...)
	cmd := exec.Command(lab.Program("redis-is-masterd"), append(argv, more...)...)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	lab.Check(t, n.Do(cmd.Start))
	cmd.Wait()
	if complaints.Len() > 0 {
		t.Errorf("it complains: %s", complaints.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// examine is run for tools.
func examine(t *testing.T, n *lab.Node, more ...string) document {
	t.Helper()
	text, code := run(t, n, append(more, "-o", "json")...)
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	if want := d.State == doctor.Failed; want != (code == 1) || code > 1 {
		t.Errorf("exit code %d for %s", code, d.State)
	}
	if strings.Contains(text, lab.SitePassword) {
		t.Errorf("it shows the password: %s", text)
	}
	return d
}

// unwell are the results that are no tick. The clock is that of the machine.
func (d document) unwell() (all []doctor.Result) {
	for _, r := range d.Checks {
		if r.State != doctor.OK && (r.ID != "host-clock" || synchronised()) {
			all = append(all, r)
		}
	}
	return all
}

func synchronised() bool {
	var clock unix.Timex
	state, err := unix.Adjtimex(&clock)
	return err == nil && state != unix.TIME_ERROR && clock.Status&unix.STA_UNSYNC == 0
}

// TestHealthy: a healthy site is all ticks, on every node.
func TestHealthy(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, n := range s.Nodes {
		var last document
		err := lab.Wait("all is well", func() (bool, error) {
			last = examine(t, n)
			return len(last.unwell()) == 0, nil
		})
		if err != nil {
			text, _ := run(t, n)
			t.Errorf("%s: %+v\n%s", n.Name, last.unwell(), text)
		}
	}
}

// TestGather: it asks real servers without a race, also where a Sentinel is dead.
func TestGather(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: "secret"})
	password := func(context.Context) (string, error) { return "secret", nil }
	target := doctor.Target{
		Redis:    &checker.Redis{Network: "tcp", Address: c.Nodes[0].Addr(), Password: password},
		Sentinel: &checker.Redis{}, Name: lab.MasterName, Unit: "redis-is-masterd.service",
	}
	for _, s := range c.Sentinels[:2] {
		target.Listed = append(target.Listed, s.Addr())
	}
	f := doctor.Gather(t.Context(), target)
	if f.Redis.Err != nil || !f.Redis.Subscribed || len(f.Redis.Nodes) != 1 || f.Redis.Nodes[0].Err != "" ||
		f.Redis.Settings["save"] != "" || f.Redis.SettingsFrom != "CONFIG GET" {
		t.Errorf("%+v", f.Redis)
	}
	if len(f.Sentinels.All) != 3 || f.Sentinels.Name != lab.MasterName {
		t.Fatalf("the third Sentinel is not found by the others: %+v", f.Sentinels)
	}
	for _, s := range f.Sentinels.All {
		if s.Err != nil || !s.Met || s.Quorum != "yes" || s.Report == nil || s.Report.OtherSentinels != 2 {
			t.Errorf("%+v", s)
		}
	}
	c.Sentinels[2].Kill()
	dead := 0
	for _, s := range doctor.Gather(t.Context(), target).Sentinels.All {
		if s.Err != nil {
			dead++
		}
	}
	if dead != 1 {
		t.Errorf("%d Sentinels are dead", dead)
	}
}

// TestEvery: each check is broken by some test.
func TestEvery(t *testing.T) {
	t.Parallel()
	bad := doctor.Bad()
	for _, b := range breakages {
		if b.state != doctor.OK {
			bad = append(bad, b.id)
		}
	}
	for _, c := range doctor.Checks() {
		if !slices.Contains(bad, c.ID) {
			t.Errorf("nothing breaks %s", c.ID)
		}
	}
}

// begin starts the doctor on a node, as a user, and does not wait.
func begin(t *testing.T, n *lab.Node, user *syscall.Credential, argv ...string) (cmd *exec.Cmd, out *strings.Builder) {
	t.Helper()
	cmd, out = exec.Command(lab.Program("redis-is-masterd"), append([]string{"doctor"}, argv...)...), &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	lab.Check(t, n.Do(cmd.Start))
	return cmd, out
}

// TestFlags: without flags it takes those of the unit and of its environment
// file; what is wrong with them is wrong usage.
func TestFlags(t *testing.T) {
	t.Parallel()
	s := start(t)
	n := s.Nodes[0]
	bench := &bench{s: s, n: n}
	lab.Check(t, systemd("ExecStart={ path=/x ; argv[]=/x --track-file "+lab.TrackFile+" $OPTIONS ; ignore_errors=no ; }",
		"EnvironmentFiles=/run/env (ignore_errors=yes)")(bench))
	lab.Check(t, write("/run/env", "OPTIONS=--password-file "+lab.PasswordFile+" --port 6379\n", 0o600)(bench))
	cmd, out := begin(t, n, nil)
	cmd.Wait()
	for _, want := range []string{"✓ redis-credentials       user default, password of " + lab.PasswordFile,
		"✓ daemon-track-file       " + lab.TrackFile + " holds 1",
		"daemon-unit             redis-is-masterd.service is active"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	for _, argv := range [][]string{{"-o", "xml"}, {"stray"}, {"--nonsense"}, {"--env-file", "/none"}, {"--interval", "0"},
		{"--help"}} {
		cmd, out := begin(t, n, nil, argv...)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 3 || strings.Count(out.String(), "\n") > 1 && argv[0] != "--help" {
			t.Errorf("%q: exit code %d, %s", argv, code, out)
		}
	}
	lab.Check(t, write("/run/env", "OPTIONS=--password-file \"/x\"\n", 0o600)(bench))
	if cmd, out := begin(t, n, nil); cmd.Wait() == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("a bad environment file: %s", out)
	}
}

// TestHangs: it ends soon where nothing answers, and names all of it.
func TestHangs(t *testing.T) {
	t.Parallel()
	s := start(t)
	n := s.Nodes[0]
	for _, m := range s.Nodes {
		for _, p := range []*lab.Process{m.Redis, m.Sentinel, m.Daemon, m.Keepalived} {
			lab.Check(t, p.Signal(syscall.SIGSTOP))
		}
	}
	began := time.Now()
	d := examine(t, n, "--sentinel", "10.0.0.1", "--sentinel", "10.0.0.2", "--sentinel", "10.0.0.3",
		"--sentinel-master", "mymaster")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, id := range []string{"redis-reachable", "sentinels-reachable", "daemon-socket"} {
		if !slices.ContainsFunc(d.Checks, func(r doctor.Result) bool { return r.ID == id && r.State == doctor.Failed }) {
			t.Errorf("no failure of %s: %+v", id, d.Checks)
		}
	}
}

// TestWait: it goes on until all is mended, or the time is over.
func TestWait(t *testing.T) {
	t.Parallel()
	if !synchronised() {
		t.Log("the clock of this machine is not synchronised, so that there is always a warning")
	}
	s := start(t)
	n := s.Others(s.Master())[0]
	n.Daemon.Kill()
	argv := append(slices.Clone(n.Daemon.Argv[1:]), "--wait", "4s", "-o", "json")
	began := time.Now()
	cmd, out := begin(t, n, nil, argv...)
	cmd.Wait()
	if took := time.Since(began); cmd.ProcessState.ExitCode() != 1 || took < 2*time.Second {
		t.Errorf("exit code %d after %v: %s", cmd.ProcessState.ExitCode(), took, out)
	}
	cmd, out = begin(t, n, nil, append(argv[:len(argv)-3], "10s", "-o", "json")...)
	lab.Check(t, n.Daemon.Start())
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// TestUnprivileged: what another user may not know is a warning, and it says so.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	s := start(t)
	n := s.Nodes[0]
	bench := &bench{s: s, n: n}
	lab.Check(t, write("/run/readable", lab.SitePassword+"\n", 0o644)(bench))
	lab.Check(t, command("chmod", "0644", "/run/keepalived.conf")(bench))
	var d document
	err := lab.Wait("only warnings are left", func() (bool, error) {
		cmd, out := begin(t, n, &syscall.Credential{Uid: 65534, Gid: 65534}, "--password-file", "/run/readable", "-o", "json")
		cmd.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &d); err != nil {
			return false, fmt.Errorf("%w: %s", err, out)
		}
		return d.State == doctor.Warning, nil
	})
	if err != nil {
		t.Errorf("%v: %+v", err, d.unwell())
	}
	if !slices.ContainsFunc(d.Checks, func(r doctor.Result) bool {
		return r.ID == "keepalived-running" && r.State == doctor.Warning && r.Hint == "run it as root"
	}) {
		t.Errorf("it does not ask for root: %+v", d.unwell())
	}
}

// TestTerminal: there are colours on a terminal, unless NO_COLOR is set, and
// nowhere else.
func TestTerminal(t *testing.T) {
	t.Parallel()
	lab.Require(t, "script")
	for env, want := range map[string]bool{"TERM=xterm": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		line := lab.Program("redis-is-masterd") + " doctor --unix-socket /none --socket=/none --hello off"
		cmd := exec.Command("script", "-qec", line, "/dev/null")
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
			return strings.HasPrefix(v, "NO_COLOR=") || strings.HasPrefix(v, "TERM=")
		}), "TERM=xterm", env)
		out, _ := cmd.CombinedOutput()
		if got := strings.Contains(string(out), "\x1b[31m✗"); got != want || !strings.Contains(string(out),
			"redis-reachable") {
			t.Errorf("%s: colours are %v: %q", env, got, out)
		}
	}
}
