package package_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/e2e/lab"
)

// What only the operator knows: the variables that a hint asks for, and the questions.
var (
	known = []string{"MASTER=10.0.0.1", "INTERFACE=eth0", "VIP=10.0.0.100"}
	asked = map[string]string{"Password of Redis:": lab.SitePassword}
)

// A line is one of the doctor's, as it prints them for tools.
type line struct{ ID, State, Detail, Hint, Run string }

// maxRounds is how often the stranger may have to do what the doctor says.
const maxRounds = 12

// TestStranger: on a fresh Debian with the package and keepalived, beside two nodes
// that are well, what the doctor prints is all that one has to know: each command is
// run as it is printed, until all is a tick.
func TestStranger(t *testing.T) {
	t.Parallel()
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			lab.RequireNetwork(t)
			lab.Require(t, "redis-server", "redis-sentinel", "keepalived")
			began := time.Now()
			m := clean(t, release, []string{"keepalived"}, []string{"redis-server", "redis-sentinel"})
			built := packages(t, "v1.0.0", runtime.GOARCH)
			b, err := os.ReadFile(filepath.Join(built, "redis-is-master_1.0.0-1_"+runtime.GOARCH+".deb"))
			lab.Check(t, err)
			m.write("/root/redis-is-master.deb", string(b), 0o644)
			config, err := lab.Profile("../../keepalived/track-file.conf")
			lab.Check(t, err)
			s, err := lab.StartSite(lab.SiteOptions{Bin: filepath.Join(built, "..", runtime.GOARCH), Nodes: 2,
				Keepalived: config})
			lab.Check(t, err)
			t.Cleanup(s.Close)
			m.boot()
			t.Logf("booted after %v", time.Since(began).Round(time.Second))
			pid, err := strconv.Atoi(m.pid)
			lab.Check(t, err)
			lab.Check(t, s.Plug(pid, netip.MustParsePrefix("10.0.0.9/24")))
			m.must("dpkg -i /root/redis-is-master.deb")
			m.follow()
		})
	}
}

// follow does what the doctor says until there is nothing left to do.
func (m *machine) follow() {
	m.t.Helper()
	began := time.Now()
	wait := "0s"
	for round := range maxRounds {
		code, left := m.examine(wait)
		if len(left) == 0 {
			m.t.Logf("all ticks in round %d, after %v", round+1, time.Since(began).Round(time.Second))
			if code != 0 {
				m.t.Errorf("all are ticks, and the exit code is %d", code)
			}
			return
		}
		wait = "20s" // if there is nothing to run
		done := make(map[string]bool)
		for _, r := range left {
			m.t.Logf("%v, round %d: %s %s: %s; do: %s; run: %s", time.Since(began).Round(time.Second), round+1,
				r.State, r.ID, r.Detail, r.Hint, r.Run)
			if r.Run == "" || done[r.Run] {
				continue
			}
			done[r.Run], wait = true, "0s"
			answers := make(map[string]string)
			for question, answer := range asked {
				answers[question] = answer
			}
			if code, out := m.typed(r.Run, known, answers); code != 0 {
				m.t.Errorf("%s: exit code %d: %s", r.Run, code, out)
			}
		}
	}
	_, text := m.try("redis-is-masterd doctor; journalctl --no-pager -n 60")
	m.t.Errorf("after %d rounds not all is a tick:\n%s", maxRounds, text)
}

// examine runs the doctor, and returns what is no tick. The clock is that of the
// machine on which the test runs.
func (m *machine) examine(wait string) (code int, left []line) {
	m.t.Helper()
	code, out := m.try("redis-is-masterd doctor --wait " + wait + " -o json")
	var d struct{ Checks []line }
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	var clock unix.Timex
	state, err := unix.Adjtimex(&clock)
	synchronised := err == nil && state != unix.TIME_ERROR && clock.Status&unix.STA_UNSYNC == 0
	for _, r := range d.Checks {
		if r.State != "ok" && (r.ID != "host-clock" || synchronised) {
			left = append(left, r)
		}
	}
	return code, left
}
