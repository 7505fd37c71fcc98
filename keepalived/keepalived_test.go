package keepalived_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived"
)

// requireKeepalived is for tests that run keepalived in a network of its own.
func requireKeepalived(t *testing.T) {
	t.Helper()
	lab.Require(t, "keepalived", "unshare", "nsenter", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot make a network namespace")
	}
}

// TestAccepted: keepalived takes every profile as it is.
func TestAccepted(t *testing.T) {
	t.Parallel()
	requireKeepalived(t)
	// As process 1, because keepalived 2.2 otherwise ends itself by SIGTERM
	// when it tests a script whose user is not root.
	check := func(file string) error {
		cmd := exec.Command("unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c",
			`ip link add eth0 type veth peer name peer && exec keepalived --config-test --config-id node1 --use-file "$0"`, file)
		out, err := cmd.CombinedOutput()
		if err == nil && bytes.Contains(out, []byte(file)) || bytes.Contains(out, []byte("isabling")) {
			err = fmt.Errorf("it complains")
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return err
	}
	files, err := filepath.Glob("*.conf")
	lab.Check(t, err)
	for _, f := range files {
		if err := check(f); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, wrong := range [][]string{{"weight 0 reverse", "wait 0 reverse"}, {"script_user nobody", "script_user nobody-at-all"}, {"/usr/bin/env", "/usr/bin/none"}} {
		file := filepath.Join(t.TempDir(), "wrong.conf")
		lab.Check(t, os.WriteFile(file, []byte(edit(t, read(t, "track-file.conf"), wrong...)), 0o600))
		if err := check(file); err == nil {
			t.Errorf("%s is accepted, too", wrong[1])
		}
	}
}

// A running keepalived, on a network that it has for itself.
type running struct {
	dir string
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// start runs keepalived with a profile whose files are in a directory of
// their own.
func start(t *testing.T, profile string) *running {
	t.Helper()
	requireKeepalived(t)
	r := &running{dir: lab.TempDir(t)}
	lab.Check(t, os.Chmod(r.dir, 0o755)) // for script_user
	text := strings.ReplaceAll(read(t, profile), "/run/redis-is-master", r.dir)
	lab.Check(t, os.WriteFile(filepath.Join(r.dir, "keepalived.conf"), []byte(text), 0o600))
	r.cmd = exec.Command("unshare", "--net", "sh", "-c", `cd "$0" &&
		ip link add eth0 type veth peer name peer && ip address add 10.0.0.1/24 dev eth0 && ip address add 2001:db8::1/64 dev eth0 nodad &&
		ip link set peer up && ip link set eth0 up &&
		exec keepalived --dont-fork --log-console --log-detail --config-id node1 --use-file keepalived.conf --pid p --vrrp_pid v --checkers_pid c`, r.dir)
	r.cmd.Env = append(os.Environ(), "PATH="+r.dir+":/usr/sbin:/usr/bin:/sbin:/bin")
	r.cmd.Stdout, r.cmd.Stderr = r, r
	// Keepalived's children end with it, but for a kill -9 of this test.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	lab.Check(t, r.cmd.Start())
	t.Cleanup(func() {
		r.cmd.Process.Signal(syscall.SIGTERM)
		r.cmd.Wait()
		if t.Failed() {
			t.Logf("keepalived said:\n%s", r.said())
		}
	})
	return r
}

// program puts a redis-is-master there that does no more than to exit.
func (r *running) program(t *testing.T, code int) {
	t.Helper()
	path := filepath.Join(r.dir, "redis-is-master")
	lab.Check(t, os.WriteFile(path+".new", fmt.Appendf(nil, "#!/bin/sh\nexit %d\n", code), 0o755))
	lab.Check(t, os.Rename(path+".new", path))
}

// holds waits until the VIP is on the interface, or is not.
func (r *running) holds(t *testing.T, want bool, why string) {
	t.Helper()
	ns := fmt.Sprintf("--net=/proc/%d/ns/net", r.cmd.Process.Pid)
	err := lab.Wait(fmt.Sprintf("the VIP is there: %v (%s)", want, why), func() (bool, error) {
		out, err := exec.Command("nsenter", ns, "ip", "-o", "address", "show", "dev", "eth0").CombinedOutput()
		if err != nil {
			return false, fmt.Errorf("%w: %s", err, out)
		}
		return (bytes.Contains(out, []byte(" 10.0.0.100/32 ")) || bytes.Contains(out, []byte(" 2001:db8::100/128 "))) == want, nil
	})
	lab.Check(t, err)
}

// logs waits until keepalived has said so.
func (r *running) logs(t *testing.T, what string) {
	t.Helper()
	lab.Check(t, lab.Wait("keepalived says "+what, func() (bool, error) { return strings.Contains(r.said(), what), nil }))
}

// never fails the test if keepalived has had the VIP, or goes on without a
// tracker.
func (r *running) never(t *testing.T, why string) {
	t.Helper()
	for _, wrong := range []string{"Entering MASTER STATE", "Disabling track script", "- removing"} {
		if strings.Contains(r.said(), wrong) {
			t.Errorf("%s: it says %s", why, wrong)
		}
	}
}

// TestTrackFileProfile: all but a 1 in the file, and a dead man's switch that
// holds, is FAULT.
func TestTrackFileProfile(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"track-file.conf", "track-file-unicast.conf", "track-file-ipv6.conf", "track-file-ipv6-unicast.conf"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			r := start(t, profile)
			path := filepath.Join(r.dir, "master")
			r.logs(t, "now returning 127")
			file, err := keepalived.NewTrackFile(path, nil)
			lab.Check(t, err)
			lab.Check(t, file.Write(true))
			r.logs(t, "tracked file redis_is_master leaving FAULT state")
			r.never(t, "the program is not installed")
			r.program(t, 0)
			r.holds(t, true, "a 1")
			for i, no := range []struct {
				name  string
				spoil func() error
			}{
				{"a 0", func() error { return file.Write(false) }},
				{"deleted", func() error { return os.Remove(path) }},
				{"empty", func() error { return os.WriteFile(path, nil, 0o644) }},
				{"garbage", func() error { return os.WriteFile(path, []byte("master\n"), 0o644) }},
				{"moved away", func() error { return os.Rename(path, path+".old") }},
				{"the program is gone", func() error { return os.Remove(filepath.Join(r.dir, "redis-is-master")) }},
				{"the daemon is dead", func() error { r.program(t, 2); return nil }},
			} {
				lab.Check(t, no.spoil())
				r.holds(t, false, fmt.Sprint(i, " ", no.name))
				lab.Check(t, file.Write(true))
				r.program(t, 0)
				r.holds(t, true, "a 1 after "+no.name)
			}
		})
	}
}

// TestScriptProfile: all but exit 0 is FAULT.
func TestScriptProfile(t *testing.T) {
	t.Parallel()
	r := start(t, "script.conf")
	r.logs(t, "now returning 127")
	r.never(t, "the program is not installed")
	for _, code := range []int{1, 2, 3} {
		r.program(t, 0)
		r.holds(t, true, "exit 0")
		r.program(t, code)
		r.holds(t, false, fmt.Sprint("exit ", code))
	}
	r.program(t, 0)
	r.holds(t, true, "exit 0")
	lab.Check(t, os.Remove(filepath.Join(r.dir, "redis-is-master")))
	r.holds(t, false, "the program is gone")
}

// TestWeightProfile: it keeps what it says, and no more: a node whose daemon
// lives may hold the VIP without being master.
func TestWeightProfile(t *testing.T) {
	t.Parallel()
	r := start(t, "weight.conf")
	r.logs(t, "now returning 127")
	r.never(t, "the program is not installed")
	r.program(t, 0)
	r.holds(t, true, "there is no other node")
	r.program(t, 2)
	r.holds(t, false, "the daemon is dead")
}
