// Package package_test installs the packages in clean roots, and runs what is
// in them as systemd does.
package package_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

const password = "s3cret-of-the-test"

// built are the packages that all tests share, by what they were built for.
var built = struct {
	sync.Mutex
	dirs map[string]string
}{dirs: make(map[string]string)}

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "6") // most of their time they wait
	code := m.Run()
	for _, dir := range built.dirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// packages builds all packages of a version once, and returns their directory.
func packages(t *testing.T, version string, archs ...string) string {
	t.Helper()
	key := version + " " + strings.Join(archs, " ")
	built.Lock() // one after the other is as fast
	defer built.Unlock()
	if built.dirs[key] == "" {
		out, err := os.MkdirTemp("", "packages-")
		lab.Check(t, err)
		packagesOf(t, "../..", out, version, strings.Join(archs, " "))
		built.dirs[key] = out
	}
	return filepath.Join(built.dirs[key], "packages")
}

// packagesOf builds them from the source in a directory.
func packagesOf(t *testing.T, dir, out, version, archs string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, "cmd/package/package.sh"))
	cmd.Env = append(os.Environ(), "VERSION="+version, "OUT="+out, "ARCHS="+archs, "SOURCE_DATE_EPOCH=1700000000")
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
	const units = "../../cmd/package"
	dir := filepath.Join(root, "etc/systemd/system")
	lab.Check(t, os.MkdirAll(dir, 0o755))
	for _, target := range []string{"basic", "sysinit", "shutdown", "sockets", "multi-user", "network", "network-online"} {
		lab.Check(t, os.WriteFile(filepath.Join(dir, target+".target"), []byte("[Unit]\nDescription=x\n"), 0o644))
	}
	var texts []string
	for _, unit := range []string{"redis-is-masterd.service", "redis-is-masterd@.service"} {
		socket := strings.Replace(unit, ".service", ".socket", 1)
		text := make(map[string]string)
		for _, name := range []string{unit, socket} {
			b, err := os.ReadFile(filepath.Join(units, name))
			lab.Check(t, err)
			lab.Check(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
			text[name] = string(b)
		}
		instance := strings.Replace(unit, "@.", "@cache.", 1)
		if out := output(t, "systemd-analyze", "--root="+root, "--man=no", "verify", instance,
			strings.Replace(instance, ".service", ".socket", 1)); out != "" {
			t.Errorf("verify %s: %s", instance, out)
		}
		output(
			t,
			"systemd-analyze",
			"security",
			"--offline=yes",
			"--threshold=11",
			filepath.Join(units, unit),
		) // an error above it
		texts = append(texts, text[unit])
	}
	// With the drop-ins for the rights that --vip and --kill-connections need.
	lab.Check(t, os.Mkdir(filepath.Join(dir, "redis-is-masterd.service.d"), 0o755))
	for _, name := range []string{"kill-connections.conf", "vip.conf"} {
		dropIn, err := os.ReadFile(filepath.Join(units, name))
		lab.Check(t, err)
		lab.Check(t, os.WriteFile(filepath.Join(dir, "redis-is-masterd.service.d", name), dropIn, 0o644))
		if out := output(t, "systemd-analyze", "--root="+root, "--man=no", "verify", "redis-is-masterd.service"); out != "" {
			t.Errorf("verify with %s: %s", name, out)
		}
	}
	// They differ in their names and in nothing else.
	template := strings.NewReplacer(
		"Redis %i is", "Redis is",
		" redis-server@%i.service", "", " redis@%i.service", "",
		"AssertPathExists=/etc/redis-is-master/%i.env\n", "",
		"=/etc/redis-is-master/%i.env", "=-/etc/redis-is-master/redis-is-masterd.env",
		"/master-%i", "/master", "/promotion-%i", "/promotion",
		" --disable-file /run/redis-is-master/disabled-%i", "",
		" --socket /run/redis-is-master/check-%i.sock", "",
		"masterd@%i.socket", "masterd.socket",
	).
		Replace(texts[1])
	if template != texts[0] {
		t.Errorf("the template is another:\n%s\n%s", texts[0], template)
	}
}

// TestBytes: the same source gives the same bytes in another directory within
// another repository, and with an empty build cache, and lintian finds no error.
func TestBytes(t *testing.T) {
	t.Parallel()
	lab.Require(t, "lintian", "rpm", "git")
	elsewhere := filepath.Join(t.TempDir(), "deeper", "source")
	source(t, elsewhere)
	output(t, "git", "-C", elsewhere, "init", "-q")
	output(
		t,
		"git",
		"-C",
		elsewhere,
		"-c",
		"user.name=x",
		"-c",
		"user.email=x",
		"commit",
		"-q",
		"--allow-empty",
		"-m",
		"x",
	)
	first, second := packages(t, "v1.0.0", "amd64", "arm64"), packagesOf(t, elsewhere, t.TempDir(), "v1.0.0",
		"amd64 arm64")
	cold := exec.Command(
		"go",
		"build",
		"-trimpath",
		"-buildvcs=false",
		"-ldflags",
		"-s -w -X redis-is-master/cmd/internal/flags.version=v1.0.0",
		"-o",
		filepath.Join(elsewhere, "cold"),
		"./cmd/redis-is-master",
	)
	cold.Dir, cold.Env = elsewhere, append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOCACHE="+t.TempDir())
	if out, err := cold.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	output(t, "cmp", filepath.Join(elsewhere, "cold"), filepath.Join(first, "../amd64/redis-is-master"))
	names := []string{
		"redis-is-master_1.0.0-1_amd64.deb",
		"redis-is-master_1.0.0-1_arm64.deb",
		"redis-is-master-1.0.0-1.x86_64.rpm",
		"redis-is-master-1.0.0-1.aarch64.rpm",
	}
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
		config := output(t, "rpm", "-qp", "--configfiles", filepath.Join(first, name))
		if config != "/etc/redis-is-master/redis-is-masterd.env\n" {
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
		case "/proc",
			"/sys",
			"/dev",
			"/run",
			"/tmp",
			"/var/tmp",
			"/var/lib/dpkg",
			"/var/log",
			"/var/cache",
			"/var/lib/systemd",
			"/var/lib/redis",
			"/root":
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
	m := clean(t, "bookworm", []string{"redis-server", "prometheus-node-exporter", "keepalived", "needrestart"}, nil)
	deb := make(map[string]string)
	for _, version := range []string{"1.0.0", "1.0.1"} {
		name := fmt.Sprintf("redis-is-master_%s-1_%s.deb", version, runtime.GOARCH)
		b, err := os.ReadFile(filepath.Join(packages(t, "v"+version, runtime.GOARCH), name))
		lab.Check(t, err)
		m.write("/root/"+name, string(b), 0o644)
		deb[version] = "/root/" + name
	}
	m.write("/etc/redis/redis.conf", "requirepass "+password+"\nsave \"\"\nport 6379\nbind 127.0.0.1\n", 0o644)
	m.must("useradd --system monitor")
	before := files(t, m.root)

	// Where no systemd runs it installs and goes as well.
	m.must("dpkg -i " + deb["1.0.0"])
	m.must("redis-is-replica --help | grep -q 'redis-is-replica'; getent passwd redis-is-master")
	m.must("dpkg --purge redis-is-master")

	m.boot()
	took := func(what string, since time.Time) { // the figures of the walk
		t.Helper()
		t.Logf("%s: %v", what, time.Since(since).Round(10*time.Millisecond))
	}
	installed := time.Now()
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
	m.must("cd /usr/share/doc/redis-is-master/examples && test -s haproxy.cfg -a -s keepalived/README.md")
	directory := m.must("stat -c %i /run/redis-is-master")

	m.says("root root 640", "stat -c '%U %G %a' /etc/redis-is-master/redis-is-masterd.env")

	// Without its password file it says so once, and nothing says yes. It needs
	// no restart when the file is there, typed as the settings say.
	const options = "OPTIONS=--password-file /etc/redis-is-master/password --http 127.0.0.1:9736" +
		" --textfile /run/redis-is-master/redis.prom" +
		" --disable-file /run/redis-is-master/disabled --hello off\n"
	settings := m.must("cat /etc/redis-is-master/redis-is-masterd.env")
	m.write("/etc/redis-is-master/redis-is-masterd.env", options, 0o640)
	m.must("systemctl start " + unit)
	m.until("1", "journalctl -u "+unit+" | grep -c -- '--password-file: no such file or directory'")
	m.must("redis-is-master --cached | grep -q -- '^unknown .*--password-file: no such file or directory'")
	m.says("0", "cat /run/redis-is-master/master")
	pid := m.must("systemctl show -p MainPID --value " + unit)
	commands := regexp.MustCompile(`(?m)^#   (\w.*/etc/redis-is-master/password)$`).
		FindAllStringSubmatch(settings, -1)
	if len(commands) != 2 {
		t.Fatalf("the settings do not say how to write the password:\n%s", settings)
	}
	typed := m.must(
		fmt.Sprintf(
			"{ until grep -q 'Password of Redis' /tmp/tty; do sleep 0.1; done; echo '%s'; } | "+
				"script -qefc '%s' /tmp/tty; cat /tmp/tty",
			password,
			strings.ReplaceAll(commands[0][1]+" && "+commands[1][1], "'", `'\''`),
		),
	)
	if strings.Contains(typed, password) {
		t.Errorf("the password is visible while it is typed: %s", typed)
	}
	m.says("redis-is-master root 400", "stat -c '%U %G %a' /etc/redis-is-master/password")
	m.until("1", "cat /run/redis-is-master/master")
	took("from the install to a yes, with a password that is typed later", installed)
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.must("systemctl show -p StatusText --value " + unit + " | grep -q '^yes, 127.0.0.1:6379 is master: ok'")

	// The owner of the port is known although the unit has PrivateUsers=, which
	// hides him. Who takes the port of a dead Redis is refused.
	m.says("yes active", "echo $(systemctl show -p PrivateUsers --value "+unit+"; systemctl is-active "+unit+".socket)")
	m.must("systemctl stop redis-server && setpriv --reuid monitor --regid monitor --clear-groups " +
		"redis-server --port 6379 --save '' --daemonize yes")
	m.until("found", "journalctl -u "+unit+
		" | grep -q \"user $(id -u monitor) listens there, but it was user $(id -u redis)\" && echo found")
	m.must("redis-cli SHUTDOWN NOSAVE; systemctl start redis-server")
	m.until("1", "cat /run/redis-is-master/master")
	m.says(pid, "systemctl show -p MainPID --value "+unit)

	// A new password needs no restart either. Until the file has it, the
	// connection keeps the answer, and a warning and a metric say what the next
	// one will meet.
	refused := func(want string) {
		t.Helper()
		const metric = `exec 3<>/dev/tcp/127.0.0.1/9736; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; ` +
			`grep '^redis_is_master_credentials_refused' <&3`
		m.must("for i in {1..400}; do [ \"$(" + metric + ")\" = 'redis_is_master_credentials_refused " + want +
			"' ] && exit; sleep 0.1; done; exit 1") // it asks every 30 s
	}
	refused("0")
	rotated := time.Now()
	m.must("redis-cli -a " + password + " CONFIG SET requirepass new-" + password)
	refused("1")
	took("from a new password to the warning", rotated)
	m.until("1", "journalctl -u "+unit+" -p warning | grep -c 'the password is refused'")
	m.says("1", "cat /run/redis-is-master/master")
	rotated = time.Now()
	m.write("/etc/redis-is-master/password", "new-"+password+"\n", 0o400)
	refused("0")
	took("from the file with the new password to its use", rotated)
	m.must("redis-cli -a new-" + password + " CLIENT KILL TYPE normal")
	m.until("1", "cat /run/redis-is-master/master")
	m.must("redis-cli -a new-" + password + " CONFIG SET requirepass " + password)
	m.write("/etc/redis-is-master/password", password+"\n", 0o400)
	refused("0")
	m.says(pid, "systemctl show -p MainPID --value "+unit)

	// Its group may ask, everybody may read the track file, and nobody learns
	// the password.
	nobody, member := "setpriv --reuid 65534 --regid 65534 --clear-groups ",
		"setpriv --reuid monitor --regid monitor --init-groups "
	m.must(nobody + "redis-is-master -q --cached; test $? = 2")
	m.must("usermod -aG redis-is-master monitor")
	m.must(member + "redis-is-master --cached")
	m.must(member + "redis-is-master -q --cached --alive")
	m.must(nobody + "cat /run/redis-is-master/master")
	m.must("! " + member + "cat /etc/redis-is-master/password")
	m.says("-10", "cut -d' ' -f19 /proc/"+pid+"/stat")
	m.says(
		"Max core file size        0                    0                    bytes",
		"grep core /proc/"+pid+"/limits | sed 's/ *$//'",
	)
	m.says("268435456 512", "systemctl show -p MemoryMax -p TasksMax --value "+unit+" | xargs")

	// It is taken out by hand.
	m.must("touch /run/redis-is-master/disabled")
	m.until("0", "cat /run/redis-is-master/master")
	m.must("rm /run/redis-is-master/disabled")
	m.until("1", "cat /run/redis-is-master/master")
	m.must(
		"redis-is-master --tls --timeout 300ms >/dev/null 2>&1; test $? = 2",
	) // it finds the daemon's binary; 3 if not
	m.must(fmt.Sprintf("! grep -l %s /proc/%s/environ /proc/%[2]s/cmdline", password, pid))
	m.must("! { systemctl show " + unit + "; journalctl; cat /run/redis-is-master/*.prom; } | grep " + password)
	m.says("redis-is-master", "ps -o user:20= -p "+pid+" 2>/dev/null || stat -c %U /proc/"+pid)

	if page := m.get("9736", "/master"); !strings.HasPrefix(page, "HTTP/1.0 200 OK") ||
		!strings.Contains(page, "\nok: role:master") {
		t.Errorf("/master: %s", page)
	}
	if page := m.get("9736", "/metrics"); !strings.Contains(page, "\nprocess_resident_memory_bytes ") {
		t.Errorf("/metrics knows nothing of its process: %s", page)
	}

	// The node exporter of Debian reads the textfile.
	m.must("ln -s /run/redis-is-master/redis.prom /var/lib/prometheus/node-exporter/redis-is-master.prom")
	m.until(
		"redis_is_master_state 1",
		`exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; grep '^redis_is_master_state' <&3`,
	)
	exported := m.get("9100", "/metrics")
	if !strings.Contains(
		exported,
		`node_textfile_mtime_seconds{file="/var/lib/prometheus/node-exporter/redis-is-master.prom"}`,
	) ||
		!strings.Contains(exported, "\nnode_textfile_scrape_error 0\n") {
		t.Errorf("the node exporter does not read the textfile:\n%s", exported)
	}
	m.must("rm /var/lib/prometheus/node-exporter/redis-is-master.prom")

	// A second instance, with names of its own.
	m.must("redis-server --port 6380 --save '' --requirepass other-" + password + " --daemonize yes")
	if code, out := m.try("systemctl start " + second); code == 0 || !strings.Contains(out, "Assertion failed") {
		t.Errorf("the template starts without its settings: %s", out)
	}
	m.says("inactive", "systemctl is-active "+second)
	m.write("/etc/redis-is-master/second.env", "OPTIONS=-p 6380 --hello off --socket-mode 0666\n", 0o640)
	m.write(
		"/etc/redis-is-master/second.password",
		"other-"+password+"\n",
		0o400,
	) // a credential, which only root needs to read
	m.write(
		"/etc/systemd/system/"+second+".service.d/override.conf",
		"[Service]\nLoadCredential=redis-password:/etc/redis-is-master/second.password\n",
		0o644,
	)
	m.must("systemctl daemon-reload && systemctl restart " + second)
	m.until("1", "cat /run/redis-is-master/master-second")
	m.must(nobody + "redis-is-master --cached=/run/redis-is-master/check-second.sock")

	// Whatever ends the daemon leaves a 0, and then it comes back.
	for name, track := range map[string]string{
		unit: "/run/redis-is-master/master", second: "/run/redis-is-master/master-second",
	} {
		dropin := "/run/systemd/system/" + name + ".service.d"
		for _, end := range []string{
			"systemctl kill -s KILL " + name, "systemctl kill -s STOP " + name, "systemctl stop " + name,
		} {
			m.must(
				"mkdir -p " + dropin + " && printf '[Service]\\nRestart=no\\nWatchdogSec=1s\\n' >" + dropin +
					"/test.conf && systemctl daemon-reload && systemctl restart " + name,
			)
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
		m.must(
			fmt.Sprintf(
				"for i in {1..200}; do [ \"$(systemctl show -p MainPID --value %s)\" != %s ] && [ \"$(cat %s)\" = 1 ] "+
					"&& exit; sleep 0.1; done; exit 1",
				name,
				before,
				track,
			),
		)
	}
	m.says(directory, "stat -c %i /run/redis-is-master") // keepalived would have lost it

	// What Redis says still gets through.
	m.must("redis-cli -a " + password + " REPLICAOF 127.0.0.1 6380")
	m.until("0", "cat /run/redis-is-master/master")
	m.must("redis-cli -a " + password + " REPLICAOF NO ONE")
	m.until("1", "cat /run/redis-is-master/master")

	// Also where there is no room for a new file.
	m.must("redis-cli -a " + password + " REPLICAOF 127.0.0.1 6380")
	m.until("0", "cat /run/redis-is-master/master")
	m.must("mount -o remount,size=16M /run && ! cat /dev/zero >/run/full")
	promoted := time.Now()
	m.must("redis-cli -a " + password + " REPLICAOF NO ONE")
	m.until("1", "cat /run/redis-is-master/master")
	took("from the promotion to the 1, with a full /run", promoted)
	m.must("rm /run/full && mount -o remount,size=50% /run")

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
	m.write(
		"/etc/redis-is-master/redis-is-masterd.env",
		"OPTIONS=--password-file /etc/redis-is-master/password --vip 10.0.0.100/32 --vip-interface eth0\n",
		0o640,
	)
	for _, end := range []string{
		"systemctl kill --kill-who=main -s KILL ", "systemctl kill -s KILL ", "systemctl kill -s STOP ", "systemctl stop ",
	} {
		m.must(
			"printf '[Service]\\nRestart=no\\nWatchdogSec=1s\\n' >" + override +
				"/test.conf && systemctl daemon-reload && systemctl restart " + unit,
		)
		holds(true)
		m.must(end + unit)
		holds(false)
		m.until("0", "cat /run/redis-is-master/master")
	}
	m.must("rm -r " + override + " && systemctl daemon-reload")
	m.write("/etc/redis-is-master/redis-is-masterd.env", options, 0o640)
	m.must("systemctl restart " + unit)
	m.until("1", "cat /run/redis-is-master/master")

	// A reload takes the process along; wrong usage is not tried again.
	pid = m.must("systemctl show -p MainPID --value " + unit)
	m.must("systemctl reload " + unit)
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.write("/etc/redis-is-master/second.env", "OPTIONS=--nonsense\n", 0o640)
	m.try("systemctl restart " + second)
	m.until("failed", "systemctl is-active "+second)
	m.says("0", "cat /run/redis-is-master/master-second")
	m.says("3", "systemctl show -p ExecMainStatus --value "+second)

	// Neither is a file that the unit cannot see. A misspelt variable is found
	// before the restart.
	m.write("/etc/redis-is-master/second.env", "OPTIONS=-p 6380 --hello off --disable-file /tmp/off\n", 0o640)
	m.try("systemctl restart " + second)
	m.until("failed", "systemctl is-active "+second)
	m.says("3", "systemctl show -p ExecMainStatus --value "+second)
	m.must("journalctl -u " + second + " | grep -q -- '--disable-file is under /tmp'")
	m.write("/etc/redis-is-master/second.env", "OPTION=-p 6380 --hello off\n", 0o640)
	const check = "redis-is-masterd --check --env-file /etc/redis-is-master/second.env"
	const misspelt = "sets OPTION, but the unit reads its flags from OPTIONS"
	if code, out := m.try(check); code != 3 || !strings.Contains(out, misspelt) {
		t.Errorf("%s: exit code %d: %s", check, code, out)
	}

	// A port that is taken is tried again every two seconds.
	m.write("/etc/redis-is-master/third.env", "OPTIONS=--hello off --http 127.0.0.1:9736\n", 0o640)
	begin := time.Now()
	m.must("systemctl start --no-block redis-is-masterd@third")
	m.until("2", "systemctl show -p NRestarts --value redis-is-masterd@third")
	if took := time.Since(begin); took < 4*time.Second {
		t.Errorf("two restarts for a taken port within %v", took)
	}
	m.must("systemctl stop redis-is-masterd@third")

	// An upgrade and a downgrade keep the settings and the process of the daemon, and replace its program: nobody sees
	// a no. Both reload what runs, and say so.
	m.must("systemctl enable " + unit + " " + second)
	pid = m.must("systemctl show -p MainPID --value " + unit)
	m.must("(while sleep 0.002; do read -r n </run/redis-is-master/master || n=none; [ \"$n\" = 1 ] || echo \"$n\"; " +
		"done >/root/track 2>&1 & echo $! >/root/watching)")
	for _, version := range []string{"1.0.1", "1.0.0", "1.0.1"} {
		before := m.must("journalctl -u " + unit + " | grep -c 'msg=reloaded ' || true")
		out := m.must("dpkg -i " + deb[version])
		if !strings.Contains(out, "reloading "+unit+".service, which keeps its answer") {
			t.Errorf("dpkg -i of %s says %s", version, out)
		}
		m.until("reloaded", "test $(journalctl -u "+unit+" | grep -c 'msg=reloaded ') -gt "+before+" && echo reloaded")
		m.until("found", "redis-is-master --cached -o json | grep -q '\"daemon\":{\"version\":\"v"+version+
			"\"' && echo found")
		m.says(pid, "systemctl show -p MainPID --value "+unit)
		m.until("running", "systemctl show -p SubState --value "+unit)
	}
	m.must("for i in 1 2 3; do systemctl reload " + unit + "; done")
	m.until("running", "systemctl show -p SubState --value "+unit)
	m.must("kill $(cat /root/watching)")
	m.says("", "cat /root/track")
	m.says("0", "systemctl show -p NRestarts --value "+unit)
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.says("no", "systemctl show -p NeedDaemonReload --value "+unit)
	m.says("failed", "systemctl is-active "+second)
	m.says("1", "cat /run/redis-is-master/master")
	m.says(strings.TrimSpace(options), "cat /etc/redis-is-master/redis-is-masterd.env")
	m.says("redis-is-masterd v1.0.1", "redis-is-masterd --version || true")
	m.must(member + "redis-is-master --cached")
	// needrestart reloads, too, where the program is another one and nobody has reloaded.
	const replace = "cp -p /usr/sbin/redis-is-masterd /root/new && mv /root/new /usr/sbin/redis-is-masterd && "
	reloads := m.must("journalctl -u " + unit + " | grep -c 'msg=reloaded '")
	m.must(replace + "needrestart -r a")
	m.must("test $(journalctl -u " + unit + " | grep -c 'msg=reloaded ') -gt " + reloads)
	m.says(pid, "systemctl show -p MainPID --value "+unit)
	m.must(
		replace +
			"mv /etc/needrestart/restart.d/redis-is-masterd.service /root && needrestart -r a " +
			"&& mv /root/redis-is-masterd.service /etc/needrestart/restart.d",
	)
	m.must(fmt.Sprintf("test $(systemctl show -p MainPID --value %s) != %s", unit, pid))
	m.until("1", "cat /run/redis-is-master/master")
	m.must("systemctl restart " + unit)
	m.until("1", "cat /run/redis-is-master/master")

	// keepalived does not start with what fails open. It does when there is no
	// program left to say so.
	m.must(
		"cd /usr/share/doc/redis-is-master/examples " +
			"&& install -D keepalived-lint.conf /etc/systemd/system/keepalived.service.d/lint.conf && " +
			"sed 's/weight 0 reverse/weight 0/' keepalived/track-file.conf >/etc/keepalived/keepalived.conf " +
			"&& systemctl daemon-reload",
	)
	if code, _ := m.try("systemctl start keepalived"); code == 0 {
		t.Error("keepalived starts with a file that fails open")
	}
	m.must("journalctl -u keepalived | grep -q 'keepalived.conf:[0-9]*: '")
	m.must("cp /usr/share/doc/redis-is-master/examples/keepalived/track-file.conf /etc/keepalived/keepalived.conf")
	m.must("systemctl start keepalived")
	m.until("1", "journalctl -u keepalived | grep -c 'redis_is_masterd_alive) succeeded'")
	// A directory that was made anew is one that keepalived has lost.
	removed := time.Now()
	m.must("systemctl stop " + unit + " && rm -r /run/redis-is-master && systemctl start " + unit)
	const lately = "journalctl -u " + unit + " --since -1min"
	m.until("found", lately+" -p warning | grep -q 'keepalived does not follow' && echo found")
	took("from the removal of the directory to the warning", removed)
	m.must("systemctl restart keepalived")
	m.until("found", lately+" | grep -q 'keepalived follows again' && echo found")
	m.must("systemctl stop keepalived")

	// A removal leaves a 0 and the settings, a purge nothing.
	m.must("dpkg --remove redis-is-master")
	m.says("0", "cat /run/redis-is-master/master")
	m.must("test ! -e /proc/" + pid)
	m.must("test -e /etc/redis-is-master/redis-is-masterd.env -a ! -e /usr/sbin/redis-is-masterd")
	m.must(
		"systemctl start keepalived && systemctl stop keepalived " +
			"&& rm -r /etc/systemd/system/{keepalived,redis-is-masterd@second}.service.d /etc/keepalived/keepalived.conf",
	)
	m.must("dpkg --purge redis-is-master")
	m.must("! test -e /run/redis-is-master && ! getent passwd redis-is-master && ! getent group redis-is-master")
	m.must("redis-cli -p 6380 -a other-" + password + " SHUTDOWN NOSAVE || true")
	for name := range files(t, m.root) {
		if !before[name] {
			t.Errorf("the purge leaves %s behind", name)
		}
		delete(before, name)
	}
	for name := range before {
		t.Errorf("the purge has taken %s with it", name)
	}
}

// TestRPM: install, upgrade and erase.
func TestRPM(t *testing.T) {
	t.Parallel()
	lab.Require(t, "rpm")
	m := clean(t, "bookworm", nil, nil)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm := func(version string) string {
		return filepath.Join(packages(t, "v"+version, runtime.GOARCH), "redis-is-master-"+version+"-1."+arch+".rpm")
	}
	do := func(args ...string) {
		t.Helper()
		output(t, append([]string{"rpm", "--root", m.root, "--nodeps", "--force-debian"}, args...)...)
	}
	output(t, "rpm", "--root", m.root, "--initdb")
	before := files(t, m.root)
	do("-i", rpm("1.0.0"))
	m.must("getent passwd redis-is-master && test -d /run/redis-is-master")
	m.write("/etc/redis-is-master/redis-is-masterd.env", "OPTIONS=-p 6390\n", 0o644)
	do("-U", rpm("1.0.1"))
	m.says("OPTIONS=-p 6390", "cat /etc/redis-is-master/redis-is-masterd.env")
	m.says("redis-is-master v1.0.1", "redis-is-master --version || true")
	m.must(
		"mkdir -p /etc/systemd/system/multi-user.target.wants " +
			"&& ln -s x /etc/systemd/system/multi-user.target.wants/redis-is-masterd@x.service",
	)
	do("-e", "redis-is-master")
	m.says("OPTIONS=-p 6390", "cat /etc/redis-is-master/redis-is-masterd.env.rpmsave")
	m.must("rm /etc/redis-is-master/redis-is-masterd.env.rpmsave && rmdir /etc/redis-is-master")
	m.must("test ! -L /etc/systemd/system/multi-user.target.wants/redis-is-masterd@x.service")
	for name := range files(t, m.root) {
		if !before[name] && strings.Contains(name, "redis-is") { // the directories of other packages stay
			t.Errorf("the removal leaves %s behind", name)
		}
	}
}
