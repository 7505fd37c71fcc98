package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// TestSighting: each letter is one second; a letter of the sightings is y for a
// yes with the address, n for neither, m for a master without it and v for the
// address without a master; one of the contradictions is m or v while it is told.
func TestSighting(t *testing.T) {
	t.Parallel()
	letters := map[string]string{"": "-", masterWithoutVIP: "m", vipWithoutMaster: "v"}
	for _, tt := range []struct{ name, seen, told string }{
		{"all is well", "nnnyyynnn", "---------"},
		{"a failover within five seconds", "nmmmmmyyy", "---------"},
		{"a master without VIP", "nmmmmmmmy", "-------m-"},
		{"VIP without master", "yvvvvvvvvn", "-------vv-"},
		{"from the start", "mmmmmmm", "------m"},
		{"the other contradiction counts anew", "mmmmmmmvvvvvvvm", "------m------v-"},
		{"agreement in between", "mmmmymmmmmmm", "-----------m"},
	} {
		now := time.Unix(1000, 0)
		var s sighting
		var told strings.Builder
		for _, letter := range tt.seen {
			yes, present := letter == 'y' || letter == 'm', letter == 'y' || letter == 'v'
			s = s.next(yes, present, now)
			if !s.known || s.present != present {
				t.Errorf("%s: %+v", tt.name, s)
			}
			told.WriteString(letters[s.contradiction(now)])
			now = now.Add(time.Second)
		}
		if told.String() != tt.told {
			t.Errorf("%s: %s, want %s", tt.name, told.String(), tt.told)
		}
	}
}

// TestWatchLog: a contradiction is logged when it begins, each minute while it
// lasts, and when it is over.
func TestWatchLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := watchOptions{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("2001:db8::100")}}
	w := o.watch(slog.New(slog.NewTextHandler(&log, nil)))
	here := func(all ...string) (addrs []net.Addr) {
		for _, text := range all {
			ip, n, err := net.ParseCIDR(text)
			lab.Check(t, err)
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return addrs
	}
	now := time.Now().Add(-time.Hour)
	pass := func(seconds int, answer checker.Answer, addrs []net.Addr, err error) {
		for range seconds {
			w.look(answer, addrs, err, now)
			now = now.Add(time.Second)
		}
	}
	both := here("127.0.0.1/8", "10.0.0.100/24", "2001:db8::100/64")
	pass(10, checker.Yes, both, nil)
	pass(130, checker.Yes, both[:2], nil)
	if a := w.Addresses(); len(a) != 2 || a[0].Address != "10.0.0.100" || !*a[0].Present || *a[1].Present {
		t.Errorf("addresses: %+v", a)
	}
	if p := w.Present(); len(p) != 2 || !p["10.0.0.100"] || p["2001:db8::100"] {
		t.Errorf("present: %v", p)
	}
	got := w.Troubles()
	if len(got) != 1 || !strings.HasPrefix(got[0], "master without VIP: this host lacks 2001:db8::100; ") {
		t.Errorf("troubles: %q", got)
	}
	pass(1, checker.Yes, nil, errors.New("no netlink"))
	if p, got := w.Present(), w.Troubles(); len(p) != 0 || len(got) != 1 || !strings.Contains(got[0], "no netlink") {
		t.Errorf("what cannot be listed: %v, %q", p, got)
	}
	pass(2, checker.Yes, both, nil)
	pass(7, checker.Unknown, both[:2], nil)
	want := []string{
		`"master without VIP" address=2001:db8::100 answer=yes for=6s hint="see keepalived's log`,
		`"master without VIP" address=2001:db8::100 answer=yes for=1m6s`,
		`"master without VIP" address=2001:db8::100 answer=yes for=2m6s`,
		`"cannot list the addresses of this host, so no VIP is watched" error="no netlink"`,
		`"can list the addresses of this host again"`,
		`"the VIP and the answer agree again" address=2001:db8::100 answer=yes was="master without VIP" lasted=2m11s`,
		`"VIP without master" address=10.0.0.100 answer=unknown for=6s`,
	}
	lines := slices.Collect(strings.Lines(log.String()))
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), log.String())
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %swant %s", i, line, want[i])
		}
	}
}

// TestWatchVIP: a daemon beside keepalived tells at every output that the
// address is not where the master is, and still answers as before.
func TestWatchVIP(t *testing.T) {
	t.Parallel()
	lab.Require(t, "ip")
	if err := lab.CanNetwork(); err != nil {
		lab.Missing(t, err.Error())
	}
	host, err := lab.NewNamespace()
	lab.Check(t, err)
	t.Cleanup(host.Close)
	r := lab.New(t, lab.Options{})
	prom := lab.TempDir(t) + "/redis.prom"
	dir := lab.TempDir(t)
	d := &lab.Daemon{Dir: dir, Socket: dir + "/s", Host: host}
	lab.Check(t, d.Start(lab.Program("redis-is-masterd"), r, "--hello=off", "--track-file=",
		"--watch-vip", "10.0.0.100/24", "--textfile", prom))
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() {
			t.Log(d.Log())
		}
	})
	tells := func(trouble string) {
		t.Helper()
		lab.Check(t, d.Until("it tells "+trouble, func(doc report.Document) bool {
			if trouble == "" {
				return doc.Daemon != nil && len(doc.Troubles()) == 0
			}
			return len(doc.Troubles()) == 1 && strings.HasPrefix(doc.Troubles()[0], trouble)
		}))
	}
	says := func(reason checker.Reason) {
		t.Helper()
		lab.Check(t, d.Says(reason))
		if code, out := cached(t, "-q", "--alive", "--cached="+d.Socket); code != 0 {
			t.Errorf("--alive: exit code %d: %s", code, out)
		}
	}
	shows := func(line string) {
		t.Helper()
		lab.Check(t, lab.Wait("the textfile holds "+line, func() (bool, error) {
			b, err := os.ReadFile(prom)
			return strings.Contains(string(b), line+"\n"), err
		}))
	}
	begun := time.Now()
	tells("master without VIP: this host lacks 10.0.0.100; ")
	if d := time.Since(begun); d < moveWithin {
		t.Errorf("told after %v", d)
	}
	_, out := cached(t, "--explain", "--cached="+d.Socket)
	if !strings.Contains(out, "\ntrouble: master without VIP: ") {
		t.Errorf("--explain does not tell it: %s", out)
	}
	says(checker.OK)
	shows(`redis_is_master_watched_vip{address="10.0.0.100"} 0`)
	lab.Check(t, host.Run("ip", "addr", "add", "10.0.0.100/32", "dev", "lo"))
	tells("")
	says(checker.OK)
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	tells("VIP without master: this host has 10.0.0.100; ")
	says(checker.ReasonRole)
	shows(`redis_is_master_watched_vip{address="10.0.0.100"} 1`)
	lab.Check(t, host.Run("ip", "addr", "del", "10.0.0.100/32", "dev", "lo"))
	tells("")
	for _, line := range []string{"level=WARN msg=\"master without VIP\"", "level=WARN msg=\"VIP without master\"",
		"msg=\"the VIP and the answer agree again\""} {
		if !strings.Contains(d.Log(), line) {
			t.Errorf("the log lacks %s", line)
		}
	}
}

// TestWatchFlag: what keepalived cannot hold is refused.
func TestWatchFlag(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--watch-vip vip.example":                                             "--watch-vip is not an address",
		"--watch-vip 0.0.0.0":                                                 "--watch-vip is not an address",
		"--watch-vip fe80::1%eth0":                                            "--watch-vip is not an address",
		"--watch-vip 10.0.0.100 --watch-vip 10.0.0.100/32":                    "given twice",
		"--watch-vip 10.0.0.1 -H 10.0.0.1":                                    "address of the Redis node",
		"--watch-vip 10.0.0.100 --role replica":                               "--watch-vip and --role contradict",
		"--watch-vip ::1:2 --vip ::1:2/64 --vip-interface a":                  "--watch-vip and --vip contradict",
		"--watch-vip 10.0.0.100/24 --watch-vip 2001:db8::9 --check":           "are valid",
		"--kill-connections vip.example":                                      "--kill-connections is not an address",
		"--kill-connections 10.0.0.1 -H 10.0.0.1":                             "address of the Redis node",
		"--kill-connections ::1:2 --vip ::1:2/64 --vip-interface a":           "--kill-connections and --vip contradict",
		"--kill-connections 10.0.0.100 --watch-vip 10.0.0.100 --role replica": "--watch-vip and --role contradict",
		"--kill-connections 10.0.0.100 --watch-vip 10.0.0.100 --check":        "are valid",
	} {
		out, _ := exec.Command(lab.Program("redis-is-masterd"), strings.Fields(args+" --socket=")...).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%s: %s, want %q", args, out, want)
		}
	}
}
