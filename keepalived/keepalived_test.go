package keepalived_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived"
	"redis-is-master/keepalived/lint"
)

// requireKeepalived is for tests that run keepalived in a network of its own.
func requireKeepalived(t *testing.T) {
	t.Helper()
	lab.Require(t, "keepalived", "unshare", "nsenter", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot make a network namespace")
	}
}

// configure writes a configuration whose track files are below dir.
func configure(t *testing.T, dir, text string) {
	t.Helper()
	lab.Check(t, os.Chmod(dir, 0o755)) // for script_user
	lab.Check(t, os.Mkdir(filepath.Join(dir, "run"), 0o755))
	text = strings.ReplaceAll(text, "/run/redis-is-master", filepath.Join(dir, "run"))
	lab.Check(t, os.WriteFile(filepath.Join(dir, "keepalived.conf"), []byte(text), 0o600))
}

// accepts returns what keepalived has against a configuration.
func (of release) accepts(t *testing.T, text string) error {
	t.Helper()
	dir := lab.TempDir(t)
	configure(t, dir, text)
	// As process 1, because keepalived 2.2 otherwise ends itself by SIGTERM
	// when it tests a script whose user is not root.
	cmd := of.command(dir, "ip link add eth0 type veth peer name peer", []string{"--pid", "--fork", "--kill-child"},
		"--config-test", "--config-id", "node1", "--use-file", "keepalived.conf")
	out, err := cmd.CombinedOutput()
	if err == nil && (bytes.Contains(out, []byte("keepalived.conf")) || bytes.Contains(out, []byte("isabling"))) {
		err = errors.New("it complains")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return err
}

// TestAccepted: keepalived takes every profile as it is; an old one refuses
// that which needs a new one.
func TestAccepted(t *testing.T) {
	t.Parallel()
	requireKeepalived(t)
	for _, name := range []string{"installed", "Debian 13"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r release
			if name != "installed" {
				r = debian13(t)
			}
			version := r.version(t)
			fast := !slices.ContainsFunc([]string{"2.0.", "2.1.", "2.2."}, func(old string) bool {
				return strings.HasPrefix(version, old)
			})
			if name != "installed" && !fast {
				t.Fatalf("it is keepalived %s", version)
			}
			files, err := filepath.Glob("*.conf")
			lab.Check(t, err)
			for _, f := range files {
				text := read(t, f)
				if strings.HasPrefix(version, "2.1.") { // the linter says so
					text = strings.ReplaceAll(text, "unicast_fault_no_peer", "# ")
				}
				err := r.accepts(t, text)
				if strings.HasPrefix(f, "cached") {
					host := lint.ThisHost()
					host.Version = version
					findings, err := lint.File(host, f)
					lab.Check(t, err)
					if (len(findings) == 0) != fast {
						t.Errorf("%s of keepalived %s: %v", f, version, findings)
					}
				}
				if strings.HasPrefix(f, "cached") && !fast {
					if err == nil || !strings.Contains(err.Error(), "interval '0.1' must be between 1") {
						t.Errorf("%s of keepalived %s: %v", f, version, err)
					}
				} else if err != nil {
					t.Errorf("%s: %v", f, err)
				}
			}
			for _, wrong := range [][2]string{
				{"weight 0 reverse", "wait 0 reverse"},
				{"script_user nobody", "script_user nobody-at-all"},
				{"/usr/bin/env", "/usr/bin/none"},
				{"garp_master_refresh 60", "garp_master_refreshed 60"},
			} {
				if r.accepts(t, edit(t, read(t, "track-file.conf"), wrong[0], wrong[1])) == nil {
					t.Errorf("%s is accepted, too", wrong[1])
				}
			}
		})
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	lab.Check(t, err)
	return string(b)
}

// edit replaces a string that is in text once.
func edit(t *testing.T, text, from, to string) string {
	t.Helper()
	if n := strings.Count(text, from); n != 1 {
		t.Fatalf("%q is there %d times", from, n)
	}
	return strings.Replace(text, from, to, 1)
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
	return release{}.start(t, profile, lab.TempDir(t))
}

func (of release) start(t *testing.T, profile, dir string) *running {
	t.Helper()
	requireKeepalived(t)
	r := &running{dir: dir}
	configure(t, r.dir, read(t, profile))
	r.cmd = of.command(r.dir, `ip link add eth0 type veth peer name peer && ip address add 10.0.0.1/24 dev eth0 &&
		ip address add 2001:db8::1/64 dev eth0 nodad && ip link set peer up && ip link set eth0 up`, nil,
		"--dont-fork", "--log-console", "--log-detail", "--config-id", "node1", "--use-file", "keepalived.conf",
		"--pid", "p", "--vrrp_pid", "v", "--checkers_pid", "c")
	r.cmd.Env = append(os.Environ(), "PATH="+r.dir+":/usr/sbin:/usr/bin:/sbin:/bin")
	r.cmd.Stdout, r.cmd.Stderr = r, r
	// Keepalived's children end with it, but for a kill -9 of this test.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	lab.Check(t, lab.Start(r.cmd))
	t.Cleanup(func() {
		r.cmd.Process.Signal(syscall.SIGTERM)
		r.cmd.Wait()
		if t.Failed() {
			t.Logf("keepalived said:\n%s", r.said())
		}
	})
	return r
}

func (r *running) trackFile() string { return filepath.Join(r.dir, "run", "master") }

// program puts a redis-is-master there that does no more than to exit.
func (r *running) program(t *testing.T, code int) {
	t.Helper()
	r.install(t, fmt.Sprint("exit ", code))
}

func (r *running) install(t *testing.T, script string) {
	t.Helper()
	path := filepath.Join(r.dir, "redis-is-master")
	lab.Check(t, os.WriteFile(path+".new", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
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
		there := bytes.Contains(out, []byte(" 10.0.0.100/32 ")) || bytes.Contains(out, []byte(" 2001:db8::100/128 "))
		return there == want, nil
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
	for _, suffix := range []string{"", "-unicast", "-ipv6", "-ipv6-unicast"} {
		profile := "track-file" + suffix + ".conf"
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			r := start(t, profile)
			path := r.trackFile()
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

// TestFullRun: keepalived notices what is written where there is no room.
func TestFullRun(t *testing.T) {
	t.Parallel()
	r := release{}.start(t, "track-file.conf", tmpfs(t, "size=256k"))
	r.logs(t, "now returning 127")
	file, err := keepalived.NewTrackFile(r.trackFile(), nil)
	lab.Check(t, err)
	r.program(t, 0)
	lab.Check(t, fillBytes(r.dir))
	for range 3 {
		if err := file.Write(true); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		r.holds(t, true, "a 1 without room")
		if err := file.Write(false); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		r.holds(t, false, "a 0 without room")
	}
}

// TestOtherDirectory: keepalived goes on watching the directory that it found
// when it started, wherever that is now. That is noticed, and the hint is right.
func TestOtherDirectory(t *testing.T) {
	t.Parallel()
	r := start(t, "track-file.conf")
	r.logs(t, "now returning 127")
	file, err := keepalived.NewTrackFile(r.trackFile(), nil)
	lab.Check(t, err)
	r.program(t, 0)
	// What Run does, more often.
	until := func(what string, yes bool, cond func() bool) {
		t.Helper()
		lab.Check(t, lab.Wait(what, func() (bool, error) { return cond(), file.Write(yes) }))
	}
	lab.Check(t, file.Write(true))
	r.holds(t, true, "a 1")
	for range 3 {
		lab.Check(t, file.Write(true))
		lab.Check(t, lab.Wait("keepalived has read it", func() (bool, error) {
			info, err := os.Stat(r.trackFile())
			return err == nil && info.Sys().(*syscall.Stat_t).Atim.Sec > 0, err
		}))
	}
	dir := filepath.Dir(r.trackFile())
	lab.Check(t, os.Rename(dir, dir+".old"))
	lab.Check(t, os.Mkdir(dir, 0o755))
	until("keepalived is behind", false, func() bool {
		return strings.Contains(file.Behind(), unreadHint)
	})
	r.holds(t, true, "it has not read the 0")
	lab.Check(t, r.cmd.Process.Signal(syscall.SIGHUP))
	until("nobody is behind", false, func() bool { return file.Behind() == "" })
	r.holds(t, false, "it has read the 0")
	until("nobody is behind", true, func() bool { return file.Behind() == "" })
	r.holds(t, true, "a 1 in the new directory")

	// A directory that is removed takes its yes with it.
	lab.Check(t, os.RemoveAll(dir))
	r.holds(t, false, "the directory is gone")
	r.logs(t, "Unknown inotify event 0x8000")
	lab.Check(t, os.Mkdir(dir, 0o755))
	until("nobody reads it", true, func() bool { return file.UnreadFor() > 0 })
	r.holds(t, false, "the new directory is not watched")
	lab.Check(t, r.cmd.Process.Signal(syscall.SIGHUP))
	r.holds(t, true, "a 1 in the new directory")
	until("somebody reads it", true, func() bool { return file.UnreadFor() == 0 })
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

// TestCachedProfile: the same, ten times a second.
func TestCachedProfile(t *testing.T) {
	t.Parallel()
	r := debian13(t).start(t, "cached.conf", lab.TempDir(t))
	r.logs(t, "now returning 127")
	r.never(t, "the program is not installed")
	for _, code := range []int{1, 2, 3} {
		r.program(t, 0)
		r.holds(t, true, "exit 0")
		r.program(t, code)
		r.holds(t, false, fmt.Sprint("exit ", code))
	}
	runs := filepath.Join(r.dir, "runs")
	lab.Check(t, os.WriteFile(runs, nil, 0o666))
	lab.Check(t, os.Chmod(runs, 0o666))
	from := time.Now()
	r.install(t, "echo >>"+runs)
	lab.Check(t, lab.Wait("it has run 20 times", func() (bool, error) {
		b, err := os.ReadFile(runs)
		return len(b) >= 20, err
	}))
	if d := time.Since(from); d > 10*time.Second {
		t.Errorf("20 runs took %v", d)
	}
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
