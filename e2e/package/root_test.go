package package_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/e2e/lab"
)

// base is what each root has from the beginning.
const base = "systemd,systemd-sysv,make,ca-certificates"

// roots are where the clean roots are kept from one run to the next.
const roots = "../../.tools/roots"

// clean is a machine that nobody has touched, with some packages of a release, and
// others that apt-get would find without a network.
func clean(t *testing.T, release string, installed, fetched []string) *machine {
	t.Helper()
	lab.Require(t, "debootstrap", "unshare", "nsenter", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: debootstrap and systemd need it")
	}
	origin := kept(t, release, []string{release, base}, func(root string) {
		// What an older debootstrap does not know is made as those that it knows.
		sh(t, `exec debootstrap --variant=minbase --include="$2" "$1" "$0" "$3" /usr/share/debootstrap/scripts/sid`,
			root, release, base, mirror())
	})
	if len(installed)+len(fetched) > 0 {
		origin = kept(t, release, []string{origin, fmt.Sprint(installed, fetched)}, func(root string) {
			sh(t, `cp -a "$1" "$0"`, root, origin)
			m := &machine{t: t, root: root}
			m.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755) // no server starts in a chroot
			m.write("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n", 0o644)
			const get = "apt-get install -q -y --no-install-recommends "
			for _, command := range []string{"apt-get update -q", get + strings.Join(installed, " "), "apt-get clean",
				get + "--download-only " + strings.Join(fetched, " ")} {
				if out, err := m.command(900, nil, "bash", "-c", command).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out[max(0, len(out)-2000):])
				}
			}
			lab.Check(t, os.Remove(filepath.Join(root, "usr/sbin/policy-rc.d")))
		})
	}
	dir, err := os.MkdirTemp("", "package-")
	lab.Check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	sh(t, `cp -a "$1" "$0"`, m.root, origin)
	return m
}

// kept is a root that is made once, of what the recipe says.
func kept(t *testing.T, release string, recipe []string, make func(root string)) string {
	t.Helper()
	dir, err := filepath.Abs(roots)
	lab.Check(t, err)
	lab.Check(t, os.MkdirAll(dir, 0o755))
	name := fmt.Sprintf("%s-%.8x", release, sha256.Sum256([]byte(strings.Join(recipe, "\n"))))
	root := filepath.Join(dir, name)
	lock, err := os.Create(root + ".lock")
	lab.Check(t, err)
	defer lock.Close()
	lab.Check(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	if _, err := os.Stat(root); err == nil {
		return root
	}
	half := root + ".half" // of a run that was killed
	lab.Check(t, os.RemoveAll(half))
	make(half)
	lab.Check(t, os.Rename(half, root))
	return root
}

// sh runs a script for what may take minutes.
func sh(t *testing.T, script, root string, args ...string) {
	t.Helper()
	out, err := exec.Command("sh", append([]string{"-ec", script, root}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out[max(0, len(out)-2000):])
	}
}

var debian = regexp.MustCompile(`https?://\S+/debian/?(\s|$)`)

// mirror is where the host's apt gets Debian from.
func mirror() string {
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
