// Package package_test installs the packages in clean roots, and runs what is
// in them as systemd does.
package package_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
)

const password = "s3cret-of-the-test"

// packages builds all packages of a version, and returns their directory.
func packages(t *testing.T, version string, archs ...string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("../../cmd/package.sh")
	cmd.Env = append(os.Environ(), "VERSION="+version, "OUT="+out, "ARCHS="+strings.Join(archs, " "), "SOURCE_DATE_EPOCH=1700000000")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("package.sh: %v\n%s", err, b)
	}
	return filepath.Join(out, "packages")
}

func output(t *testing.T, argv ...string) string {
	t.Helper()
	b, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, b)
	}
	return string(b)
}

// TestUnits: systemd has nothing to say against the units, and their sandbox
// is tight.
func TestUnits(t *testing.T) {
	t.Parallel()
	lab.Require(t, "systemd-analyze")
	// A root in which the units' commands exist.
	root := t.TempDir()
	for _, command := range []string{"usr/sbin/redis-is-masterd", "bin/sh"} {
		lab.Check(t, os.MkdirAll(filepath.Join(root, filepath.Dir(command)), 0o755))
		lab.Check(t, os.WriteFile(filepath.Join(root, command), []byte("#!/bin/sh\n"), 0o755))
	}
	const units = "../../cmd/redis-is-masterd"
	dir := filepath.Join(root, "etc/systemd/system")
	lab.Check(t, os.MkdirAll(dir, 0o755))
	for _, target := range []string{"basic", "sysinit", "shutdown", "multi-user", "network"} {
		lab.Check(t, os.WriteFile(filepath.Join(dir, target+".target"), []byte("[Unit]\nDescription=x\n"), 0o644))
	}
	var texts []string
	for _, unit := range []string{"redis-is-masterd.service", "redis-is-masterd@.service"} {
		b, err := os.ReadFile(filepath.Join(units, unit))
		lab.Check(t, err)
		lab.Check(t, os.WriteFile(filepath.Join(dir, unit), b, 0o644))
		instance := strings.Replace(unit, "@.", "@cache.", 1)
		if out := output(t, "systemd-analyze", "--root="+root, "--man=no", "verify", instance); out != "" {
			t.Errorf("verify %s: %s", instance, out)
		}
		output(t, "systemd-analyze", "security", "--offline=yes", "--threshold=15", filepath.Join(units, unit)) // an error above it
		texts = append(texts, string(b))
	}
	// With the drop-in of a daemon that holds the VIP itself.
	dropIn, err := os.ReadFile(filepath.Join(units, "vip.conf"))
	lab.Check(t, err)
	lab.Check(t, os.Mkdir(filepath.Join(dir, "redis-is-masterd.service.d"), 0o755))
	lab.Check(t, os.WriteFile(filepath.Join(dir, "redis-is-masterd.service.d", "vip.conf"), dropIn, 0o644))
	if out := output(t, "systemd-analyze", "--root="+root, "--man=no", "verify", "redis-is-masterd.service"); out != "" {
		t.Errorf("verify with vip.conf: %s", out)
	}
	// They differ in their names and in nothing else.
	template := strings.NewReplacer("Redis %i is", "Redis is", " redis-server@%i.service", "", " redis@%i.service", "", "/%i.password", "/password",
		"=/etc/redis-is-master/%i.env", "=-/etc/redis-is-master/redis-is-masterd.env", "/master-%i", "/master", " --socket /run/redis-is-master/check-%i.sock", "").Replace(texts[1])
	if template != texts[0] {
		t.Errorf("the template is another:\n%s\n%s", texts[0], template)
	}
}

// TestBytes: the same source gives the same bytes, for both architectures, and
// lintian finds no error.
func TestBytes(t *testing.T) {
	t.Parallel()
	lab.Require(t, "lintian", "rpm")
	first, second := packages(t, "v1.0.0", "amd64", "arm64"), packages(t, "v1.0.0", "amd64", "arm64")
	names := []string{"redis-is-master_1.0.0-1_amd64.deb", "redis-is-master_1.0.0-1_arm64.deb", "redis-is-master-1.0.0-1.x86_64.rpm", "redis-is-master-1.0.0-1.aarch64.rpm"}
	for _, name := range names {
		a, err := os.ReadFile(filepath.Join(first, name))
		lab.Check(t, err)
		b, err := os.ReadFile(filepath.Join(second, name))
		lab.Check(t, err)
		if !slices.Equal(a, b) {
			t.Errorf("%s is not the same twice", name)
		}
		if strings.HasSuffix(name, ".deb") {
			output(t, "lintian", "--no-cfg", "--allow-root", "--fail-on", "error", filepath.Join(first, name))
			continue
		}
		if config := output(t, "rpm", "-qp", "--configfiles", filepath.Join(first, name)); config != "/etc/redis-is-master/redis-is-masterd.env\n" {
			t.Errorf("%s: config files %q", name, config)
		}
	}
	// What says no to no version at all sorts below every release.
	dir := packages(t, "abcdef1-dirty", "amd64")
	if _, err := os.Stat(filepath.Join(dir, "redis-is-master_0~1700000000.abcdef1+dirty-1_amd64.deb")); err != nil {
		t.Error(err)
	}
}

// files are the paths of a root, without what dpkg and the system keep for
// themselves.
func files(t *testing.T, root string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	lab.Check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		switch name {
		case "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/lib/dpkg", "/var/log", "/var/cache", "/var/lib/systemd", "/var/lib/redis", "/root":
			return fs.SkipDir
		case "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock":
			return nil
		}
		all[name] = true
		return err
	}))
	return all
}

// TestPackage: the deb in a clean root under a real systemd, from its
// installation to its purge.
func TestPackage(t *testing.T) {
	t.Parallel()
	m := debootstrap(t, "systemd", "systemd-sysv", "redis-server", "prometheus-node-exporter")
	deb := make(map[string]string)
	for _, version := range []string{"1.0.0", "1.0.1"} {
		name := fmt.Sprintf("redis-is-master_%s-1_%s.deb", version, runtime.GOARCH)
		b, err := os.ReadFile(filepath.Join(packages(t, "v"+version, runtime.GOARCH), name))
		lab.Check(t, err)
		m.write("/root/"+name, string(b), 0o644)
		deb[version] = "/root/" + name
	}
	m.write("/etc/redis/redis.conf", "requirepass "+password+"\nsave \"\"\nport 6379\nbind 127.0.0.1\n", 0o644)
	clean := files(t, m.root)

	// Where no systemd runs it installs and goes as well.
	m.must("dpkg -i " + deb["1.0.0"])
	m.must("redis-is-replica --help | grep -q 'redis-is-replica'; getent passwd redis-is-master")
	m.must("dpkg --purge redis-is-master")

	m.boot()
	m.must("dpkg -i " + deb["1.0.0"])
	const unit, second = "redis-is-masterd", "redis-is-masterd@second"
	untouched := func(unit string) {
		t.Helper()
		m.says("disabled", "systemctl is-enabled "+unit)
		m.says("inactive", "systemctl is-active "+unit)
	}
	untouched(unit)
	untouched(second)
	m.says("redis-is-master redis-is-master 755", "stat -c '%U %G %a' /run/redis-is-master")
	m.must("systemd-analyze --man=no verify /usr/lib/systemd/system/redis-is-masterd.service")
	directory := m.must("stat -c %i /run/redis-is-master")

	// Without its password file it does not start, and nothing says yes.
	if code, _ := m.try("systemctl start " + unit); code == 0 {
		t.Error("the unit starts without its password file")
	}
	m.must("systemctl stop " + unit)
	m.must("! grep -q 1 /run/redis-is-master/master")

	m.write("/etc/redis-is-master/password", password+"\n", 0o600)
	const options = "OPTIONS=--http 127.0.0.1:9736 --textfile /run/redis-is-master/redis.prom --hello off\n"
	m.write("/etc/redis-is-master/redis-is-masterd.env", options, 0o644)
	m.must("systemctl start " + unit)
	m.until("1", "cat /run/redis-is-master/master")
	m.must("systemctl show -p StatusText --value " + unit + " | grep -q '^yes, 127.0.0.1:6379 is master: ok'")

	// Everybody may ask, and nobody learns the password.
	nobody := "setpriv --reuid 65534 --regid 65534 --clear-groups "
	m.must(nobody + "redis-is-master --cached")
	m.must(nobody + "redis-is-master -q --cached --alive")
	m.must(nobody + "cat /run/redis-is-master/master")
	pid := m.must("systemctl show -p MainPID --value " + unit)
	m.must("redis-is-master --tls --timeout 300ms >/dev/null 2>&1; test $? = 2") // it finds the daemon's binary; 3 if not
	m.must(fmt.Sprintf("! grep -l %s /proc/%s/environ /proc/%[2]s/cmdline", password, pid))
	m.must("! { systemctl show " + unit + "; journalctl; cat /run/redis-is-master/*.prom; } | grep " + password)
	m.says("redis-is-master", "ps -o user:20= -p "+pid+" 2>/dev/null || stat -c %U /proc/"+pid)

	if page := m.get("9736", "/master"); !strings.HasPrefix(page, "HTTP/1.0 200 OK") || !strings.Contains(page, "\nok: role:master") {
		t.Errorf("/master: %s", page)
	}
	if page := m.get("9736", "/metrics"); !strings.Contains(page, "\nprocess_resident_memory_bytes ") {
		t.Errorf("/metrics knows nothing of its process: %s", page)
	}

	// The node exporter of Debian reads the textfile.
	m.must("ln -s /run/redis-is-master/redis.prom /var/lib/prometheus/node-exporter/redis-is-master.prom")
	m.until("redis_is_master_state 1", `exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; grep '^redis_is_master_state' <&3`)
	exported := m.get("9100", "/metrics")
	if !strings.Contains(exported, `node_textfile_mtime_seconds{file="/var/lib/prometheus/node-exporter/redis-is-master.prom"}`) || !strings.Contains(exported, "\nnode_textfile_scrape_error 0\n") {
		t.Errorf("the node exporter does not read the textfile:\n%s", exported)
	}
	m.must("rm /var/lib/prometheus/node-exporter/redis-is-master.prom")

	// A second instance, with names of its own.
	m.must("redis-server --port 6380 --save '' --requirepass other-" + password + " --daemonize yes")
	if code, _ := m.try("systemctl start " + second); code == 0 {
		t.Error("the template starts without its settings")
	}
	m.write("/etc/redis-is-master/second.env", "OPTIONS=-p 6380 --hello off\n", 0o644)
	m.write("/etc/redis-is-master/second.password", "other-"+password+"\n", 0o600)
	m.must("systemctl restart " + second)
	m.until("1", "cat /run/redis-is-master/master-second")
	m.must(nobody + "redis-is-master --cached=/run/redis-is-master/check-second.sock")

	// Whatever ends the daemon leaves a 0, and then it comes back.
	for name, track := range map[string]string{unit: "/run/redis-is-master/master", second: "/run/redis-is-master/master-second"} {
		dropin := "/run/systemd/system/" + name + ".service.d"
		for _, end := range []string{"systemctl kill -s KILL " + name, "systemctl kill -s STOP " + name, "systemctl stop " + name} {
			m.must("mkdir -p " + dropin + " && printf '[Service]\\nRestart=no\\nWatchdogSec=1s\\n' >" + dropin + "/test.conf && systemctl daemon-reload && systemctl restart " + name)
			m.until("1", "cat "+track)
			m.must(end) // SIGSTOP is for the watchdog to find
			m.until("0", "cat "+track)
			lab.Check(t, lab.Wait("the unit has ended", func() (bool, error) {
				_, state := m.try("systemctl is-active " + name)
				return state == "failed" || state == "inactive", nil
			}))
			m.says("0", "cat "+track)
		}
		m.must("rm -r " + dropin + " && systemctl daemon-reload && systemctl restart " + name)
		m.until("1", "cat "+track)
		before := m.must("systemctl show -p MainPID --value " + name)
		m.must("systemctl kill -s KILL " + name)
		m.must(fmt.Sprintf("for i in {1..200}; do [ \"$(systemctl show -p MainPID --value %s)\" != %s ] && [ \"$(cat %s)\" = 1 ] && exit; sleep 0.1; done; exit 1", name, before, track))
	}
	m.says(directory, "stat -c %i /run/redis-is-master") // keepalived would have lost it

	// What Redis says still gets through.
	m.must("redis-cli -a " + password + " REPLICAOF 127.0.0.1 6380")
	m.until("0", "cat /run/redis-is-master/master")
	m.must("redis-cli -a " + password + " REPLICAOF NO ONE")
	m.until("1", "cat /run/redis-is-master/master")

	// With the drop-in it holds the VIP itself, and whatever ends it takes that
	// away. There is no Sentinel, which it believes after 15 s.
	ip := func(args ...string) string {
		return output(t, append([]string{"nsenter", "--net", "--target", m.pid, "ip"}, args...)...)
	}
	ip("link", "add", "name", "eth0", "type", "veth", "peer", "name", "peer0")
	ip("link", "set", "peer0", "up")
	ip("link", "set", "eth0", "up")
	holds := func(want bool) {
		t.Helper()
		lab.Check(t, lab.Wait(fmt.Sprint("the VIP is on the interface: ", want), func() (bool, error) {
			return strings.Contains(ip("addr", "show", "dev", "eth0"), " 10.0.0.100/32 ") == want, nil
		}))
	}
	const override = "/run/systemd/system/" + unit + ".service.d"
	m.must("mkdir -p " + override + " && cp /usr/share/doc/redis-is-master/examples/vip.conf " + override)
	m.write("/etc/redis-is-master/redis-is-masterd.env", "OPTIONS=--vip 10.0.0.100/32 --vip-interface eth0\n", 0o644)
	for _, end := range []string{"systemctl kill --kill-who=main -s KILL ", "systemctl kill -s KILL ", "systemctl kill -s STOP ", "systemctl stop "} {
		m.must("printf '[Service]\\nRestart=no\\nWatchdogSec=1s\\n' >" + override + "/test.conf && systemctl daemon-reload && systemctl restart " + unit)
		holds(true)
		m.must(end + unit)
		holds(false)
		m.until("0", "cat /run/redis-is-master/master")
	}
	m.must("rm -r " + override + " && systemctl daemon-reload")
	m.write("/etc/redis-is-master/redis-is-masterd.env", options, 0o644)
	m.must("systemctl restart " + unit)
	m.until("1", "cat /run/redis-is-master/master")

	// A reload takes the process along; wrong usage is not tried again.
	pid = m.must("systemctl show -p MainPID --value " + unit)
	m.must("systemctl reload " + unit)
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.write("/etc/redis-is-master/second.env", "OPTIONS=--nonsense\n", 0o644)
	m.try("systemctl restart " + second)
	m.until("failed", "systemctl is-active "+second)
	m.says("0", "cat /run/redis-is-master/master-second")
	m.says("3", "systemctl show -p ExecMainStatus --value "+second)

	// An upgrade keeps the settings and the running daemon.
	m.must("systemctl enable " + unit + " " + second)
	m.must("dpkg -i " + deb["1.0.1"])
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.says("no", "systemctl show -p NeedDaemonReload --value "+unit)
	m.says("failed", "systemctl is-active "+second)
	m.says("1", "cat /run/redis-is-master/master")
	m.says(strings.TrimSpace(options), "cat /etc/redis-is-master/redis-is-masterd.env")
	m.says("redis-is-masterd v1.0.1", "redis-is-masterd --version || true")
	m.must(nobody + "redis-is-master --cached") // the new one, of the old daemon
	m.must("systemctl restart " + unit)
	m.until("1", "cat /run/redis-is-master/master")

	// A removal leaves a 0 and the settings, a purge nothing.
	m.must("dpkg --remove redis-is-master")
	m.says("0", "cat /run/redis-is-master/master")
	m.must("test ! -e /proc/" + pid)
	m.must("test -e /etc/redis-is-master/redis-is-masterd.env -a ! -e /usr/sbin/redis-is-masterd")
	m.must("dpkg --purge redis-is-master")
	m.must("! test -e /run/redis-is-master && ! getent passwd redis-is-master && ! getent group redis-is-master")
	m.must("redis-cli -p 6380 -a other-" + password + " SHUTDOWN NOSAVE || true")
	for name := range files(t, m.root) {
		if !clean[name] {
			t.Errorf("the purge leaves %s behind", name)
		}
		delete(clean, name)
	}
	for name := range clean {
		t.Errorf("the purge has taken %s with it", name)
	}
}

// TestRPM: install, upgrade and erase.
func TestRPM(t *testing.T) {
	t.Parallel()
	lab.Require(t, "rpm")
	m := debootstrap(t, "passwd")
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm := func(version string) string {
		return filepath.Join(packages(t, "v"+version, runtime.GOARCH), "redis-is-master-"+version+"-1."+arch+".rpm")
	}
	do := func(args ...string) {
		t.Helper()
		output(t, append([]string{"rpm", "--root", m.root, "--nodeps", "--force-debian"}, args...)...)
	}
	output(t, "rpm", "--root", m.root, "--initdb")
	clean := files(t, m.root)
	do("-i", rpm("1.0.0"))
	m.must("getent passwd redis-is-master && test -d /run/redis-is-master")
	m.write("/etc/redis-is-master/redis-is-masterd.env", "OPTIONS=-p 6390\n", 0o644)
	do("-U", rpm("1.0.1"))
	m.says("OPTIONS=-p 6390", "cat /etc/redis-is-master/redis-is-masterd.env")
	m.says("redis-is-master v1.0.1", "redis-is-master --version || true")
	m.must("mkdir -p /etc/systemd/system/multi-user.target.wants && ln -s x /etc/systemd/system/multi-user.target.wants/redis-is-masterd@x.service")
	do("-e", "redis-is-master")
	m.says("OPTIONS=-p 6390", "cat /etc/redis-is-master/redis-is-masterd.env.rpmsave")
	m.must("rm /etc/redis-is-master/redis-is-masterd.env.rpmsave && rmdir /etc/redis-is-master")
	m.must("test ! -L /etc/systemd/system/multi-user.target.wants/redis-is-masterd@x.service")
	for name := range files(t, m.root) {
		if !clean[name] && strings.Contains(name, "redis-is") { // the directories of other packages stay
			t.Errorf("the removal leaves %s behind", name)
		}
	}
}
