package keepalived_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"redis-is-master/e2e/lab"
)

// A release is a keepalived to run: that of this machine, or that of a Debian
// in a directory of its own.
type release struct {
	root string // empty for this machine
}

// debian13 has keepalived 2.3.3. Its root is made once, by debootstrap, and kept
// in the user's cache.
func debian13(t *testing.T) release {
	t.Helper()
	requireKeepalived(t)
	lab.Require(t, "debootstrap", "chroot")
	root, err := trixie()
	lab.Check(t, err)
	return release{root}
}

var trixie = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, "redis-is-master", "keepalived-trixie")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	making, err := os.MkdirTemp(filepath.Dir(root), "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(making)
	half := filepath.Join(making, "root")
	out, err := exec.Command("debootstrap", "--variant=minbase", "--include=keepalived", "trixie", half).CombinedOutput()
	if err != nil {
		return "", errors.Join(err, errors.New(string(out[max(0, len(out)-2000):])))
	}
	if err := os.Rename(half, root); err != nil {
		if _, serr := os.Stat(root); serr != nil { // else somebody else was faster
			return "", err
		}
	}
	return root, nil
})

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
