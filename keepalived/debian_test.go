package keepalived_test

import (
	"os/exec"
	"regexp"
	"testing"

	"redis-is-master/e2e/lab"
)

// A release is a keepalived to run: that of this machine, or that of a Debian
// that is kept in .tools/roots.
type release struct {
	root string // empty for this machine
}

// debian13 has keepalived 2.3.3.
func debian13(t *testing.T) release {
	t.Helper()
	requireKeepalived(t)
	lab.Require(t, "debootstrap", "chroot")
	root, err := lab.Debian(t.Context(), "trixie", "keepalived")
	lab.Check(t, err)
	return release{root}
}

// command runs the release's keepalived in dir, with mounts of its own and what
// else unshare is told to make, after a shell command in there.
func (of release) command(dir, before string, unshare []string, args ...string) *exec.Cmd {
	script := `cd "$0" && ` + before + ` && exec keepalived "$@"`
	if of.root != "" {
		script = before + ` && cd ` + of.root + ` &&
			mount -t proc proc proc && mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp &&
			mkdir -p ".$0" && mount --bind "$0" ".$0" &&
			exec chroot . sh -c 'cd "$0" && exec keepalived "$@"' "$0" "$@"`
	}
	return exec.Command("unshare", append(append(unshare, "--mount", "--net", "sh", "-c", script, dir), args...)...)
}

var versionLine = regexp.MustCompile(`Keepalived v([0-9.]+)`)

func (of release) version(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("keepalived", "--version")
	if of.root != "" {
		cmd = exec.Command("chroot", of.root, "keepalived", "--version")
	}
	out, err := cmd.CombinedOutput()
	lab.Check(t, err)
	m := versionLine.FindSubmatch(out)
	if m == nil {
		t.Fatalf("no version in %s", out)
	}
	return string(m[1])
}
