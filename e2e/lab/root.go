package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Debian is a clean root of a release of Debian with some packages, and without
// what they recommend. It is made once, by debootstrap from the mirror that the
// host's apt has, kept in .tools/roots, and not to be changed.
func Debian(ctx context.Context, suite string, packages ...string) (root string, err error) {
	include := strings.Join(packages, ",")
	return Kept(suite, []string{suite, include}, func(root string) error {
		// What an older debootstrap does not know is made as those that it knows.
		return script(ctx, `exec debootstrap --variant=minbase --include="$2" "$1" "$0" "$3" "$4"`,
			root, suite, include, Mirror(), "/usr/share/debootstrap/scripts/sid")
	})
}

// Derived is a root made once of another one, by a change that the recipe describes.
func Derived(ctx context.Context, origin string, recipe []string, change func(root string) error) (string, error) {
	suite, _, _ := strings.Cut(filepath.Base(origin), "-")
	return Kept(suite, append([]string{origin}, recipe...), func(root string) error {
		if err := script(ctx, `cp -a "$1" "$0"`, root, origin); err != nil {
			return err
		}
		return change(root)
	})
}

// Apt runs apt-get in a root, with the host's network; no server starts.
func Apt(ctx context.Context, root string, commands ...string) error {
	policy, fast := filepath.Join(root, "usr/sbin/policy-rc.d"), filepath.Join(root, "etc/dpkg/dpkg.cfg.d/fast")
	err := errors.Join(os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755),
		os.WriteFile(fast, []byte("force-unsafe-io\n"), 0o644))
	for _, command := range commands {
		if err == nil {
			err = script(ctx, `exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
				sh -ec "$1"`, root, "apt-get -q "+command)
		}
	}
	return errors.Join(err, os.Remove(policy))
}

// Packages are what the lab runs beside Redis, and what that and the compiler want.
var Packages = []string{"ca-certificates", "haproxy", "iproute2", "keepalived", "nftables", "procps"}

// RedisPackages are those of Redis.
var RedisPackages = []string{"redis-server", "redis-sentinel", "redis-tools"}

// enter makes the root the one of a process that sees nothing of the host but
// this source, the compiler and its caches.
const enter = `
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
[ -e etc/hosts ] || printf '127.0.0.1 localhost\n::1 localhost\n' >etc/hosts
for d in $SHARED; do mkdir -p ".$d"; mount --bind "$d" ".$d"; done
exec chroot . sh -ec 'cd "$1"; shift; exec "$@"' - "$@"
`

// Inside is a command that runs in a root, in the directory of this source, with
// the host's Go. It ends with ctx, and what it started with it.
func Inside(ctx context.Context, root string, argv ...string) (*exec.Cmd, error) {
	source, err := Source()
	if err != nil {
		return nil, err
	}
	shared := []string{source}
	environ := []string{"CI=true", "HOME=/root", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOPROXY=off"}
	for _, key := range []string{"GOROOT", "GOMODCACHE", "GOCACHE"} {
		out, err := exec.CommandContext(ctx, "go", "env", key).Output()
		if err != nil {
			return nil, err
		}
		dir := strings.TrimSpace(string(out))
		shared, environ = append(shared, dir), append(environ, key+"="+dir)
		if key == "GOROOT" {
			environ = append(environ, "PATH="+dir+"/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		}
	}
	args := []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-ec", enter, "-",
		root, source}
	cmd := exec.CommandContext(ctx, "unshare", append(args, argv...)...)
	cmd.Env = append(environ, "SHARED="+strings.Join(shared, " "))
	return cmd, nil
}

// Kept is a root that is made once, of what the recipe says. Its name begins with
// that of the release.
func Kept(suite string, recipe []string, make func(root string) error) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%.8x", suite, sha256.Sum256([]byte(strings.Join(recipe, "\n"))))
	root := filepath.Join(source, ".tools/roots", name)
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	lock, err := os.Create(root + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	half := root + ".half" // of a run that was killed
	for _, step := range []func() error{
		func() error { return os.RemoveAll(half) },
		func() error { return make(half) },
		func() error { return os.Rename(half, root) },
	} {
		if err := step(); err != nil {
			return "", err
		}
	}
	return root, nil
}

// Source is the directory of this project's source, in which the caller runs.
func Source() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod in this directory or above it")
		}
	}
	return "", err
}

// script runs a shell script, which may take minutes.
func script(ctx context.Context, text string, args ...string) error {
	out, err := exec.CommandContext(ctx, "sh", append([]string{"-ec", text}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", text, err, out[max(0, len(out)-2000):])
	}
	return nil
}

var debian = regexp.MustCompile(`https?://\S+/debian/?(\s|$)`)

// Mirror is where the host's apt gets Debian from.
func Mirror() string {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, file := range append([]string{"/etc/apt/sources.list"}, files...) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if found := debian.FindString(line); found != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				return strings.TrimSpace(found)
			}
		}
	}
	return "http://deb.debian.org/debian"
}
