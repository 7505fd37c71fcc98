package package_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
)

// source copies what the packages are built from.
func source(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"checker", "cmd", "docker", "e2e", "keepalived"} {
		lab.Check(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("../..", name))))
	}
	for _, name := range []string{"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md"} {
		b, err := os.ReadFile(filepath.Join("../..", name))
		lab.Check(t, err)
		lab.Check(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
}

// TestBuild: where there is Go, build and package install nothing. The servers
// that the tests need are installed by the targets that run them, and the
// machine itself runs none of them, now or after its next boot.
func TestBuild(t *testing.T) {
	t.Parallel()
	packages(t, "v1.0.0", runtime.GOARCH) // every module is in the cache from here on
	m := clean(t, "bookworm", nil, nil)
	source(t, filepath.Join(m.root, "src"))
	lab.Check(t, os.RemoveAll(filepath.Join(m.root, "etc/apt/apt.conf.d")))
	lab.Check(t, os.CopyFS(filepath.Join(m.root, "etc/apt/apt.conf.d"), os.DirFS("/etc/apt/apt.conf.d")))

	// As root, and with a network: what it wanted to install it could.
	env := strings.Fields(output(t, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"))
	installed := m.must("dpkg-query -Wf '${Package} ${Status}\n'")
	const build = `
for dir in "$1" "$2" "$3"; do mkdir -p "$0$dir"; mount --bind "$dir" "$0$dir"; done
mount -t proc proc "$0/proc"
mount --bind /dev "$0/dev"
exec chroot "$0" env -i HOME=/root PATH="$1/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
	GOMODCACHE="$2" GOCACHE="$3" GOPROXY=off GOTOOLCHAIN=local ARCHS="$4" make -C /src build package VERSION=v1.0.0
`
	output(
		t,
		append(
			[]string{"unshare", "--mount", "--propagation", "private", "sh", "-ec", build, m.root},
			append(env, runtime.GOARCH)...)...)
	m.must("cd /src/bin && test -x redis-is-master -a -x redis-is-masterd && test $(ls packages | wc -l) = 2")
	m.says(installed, "dpkg-query -Wf '${Package} ${Status}\n'")

	m.boot()
	const enabled = "systemctl list-unit-files --state=enabled --no-legend"
	const running = "systemctl list-units --type=service,socket,timer --state=active --no-legend --plain " +
		"| cut -d' ' -f1 | sort"
	isEnabled, isRunning := m.must(enabled), m.must(running)
	// Its own systemd, and the host's network for apt.
	cmd := exec.Command(
		"nsenter",
		"--mount",
		"--uts",
		"--ipc",
		"--pid",
		"--cgroup",
		"--target",
		m.pid,
		"env",
		"-i",
		"PATH=/go/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"bash",
		"-ec",
		"install -D /dev/stdin /go/bin/go; cd /src; e2e/deps.sh lab",
	)
	cmd.Stdin = strings.NewReader("#!/bin/sh\necho go1.26.0\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("deps.sh: %v\n%s", err, out)
	}
	m.must("command -v redis-server redis-sentinel keepalived haproxy")
	m.says(isEnabled, enabled)
	m.must("systemctl isolate multi-user.target") // what a boot starts
	m.says(isRunning, running)
	m.must("! test -e /usr/sbin/policy-rc.d")
	for _, unit := range []string{"redis-server", "redis-sentinel", "keepalived", "haproxy"} {
		m.says("disabled", "systemctl is-enabled "+unit)
		m.says("inactive", "systemctl is-active "+unit)
	}
	m.says(
		"",
		"find /etc/rc?.d -name 'S*' -name '*redis*' -o -name 'S*' -name '*keepalived*' -o -name 'S*' -name '*haproxy*'",
	)
}
