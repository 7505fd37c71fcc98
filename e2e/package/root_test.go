package package_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
)

// base is what each root has from the beginning.
var base = []string{"systemd", "systemd-sysv", "make", "ca-certificates"}

// clean is a machine that nobody has touched, with some packages of a release, and
// others that apt-get would find without a network.
func clean(t *testing.T, release string, installed, fetched []string) *machine {
	t.Helper()
	lab.Require(t, "debootstrap", "unshare", "nsenter", "ip")
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: debootstrap and systemd need it")
	}
	origin, err := lab.Debian(t.Context(), release, base...)
	lab.Check(t, err)
	if len(installed)+len(fetched) > 0 {
		origin, err = lab.Derived(t.Context(), origin, []string{fmt.Sprint(installed, fetched)}, func(root string) error {
			const get = "install -y --no-install-recommends "
			return lab.Apt(t.Context(), root, "update", get+strings.Join(installed, " "), "clean",
				get+"--download-only "+strings.Join(fetched, " "))
		})
		lab.Check(t, err)
	}
	dir, err := os.MkdirTemp("", "package-")
	lab.Check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	if out, err := exec.Command("cp", "-a", origin, m.root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}
