package vip

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"redis-is-master/e2e/lab"
)

// TestLock: the lock of an address is held by every process that inherited it, in its network namespace alone, and
// only where nobody else can take it.
func TestLock(t *testing.T) {
	lab.RequireNetwork(t)
	one, two := newNamespace(t), newNamespace(t)
	dir := filepath.Join(t.TempDir(), "run")
	addresses := []netip.Prefix{netip.MustParsePrefix("10.0.0.100/32"), netip.MustParsePrefix("2001:db8::100/128")}
	take := func(n *lab.Namespace, addresses ...netip.Prefix) (locks []*os.File, err error) {
		err = n.Do(func() (err error) { locks, err = lock(dir, addresses, 0); return err })
		return locks, err
	}
	locks, err := take(one, addresses...)
	lab.Check(t, err)
	if _, err := take(one, netip.MustParsePrefix("10.0.0.100/24")); !errors.Is(err, ErrInUse) {
		t.Errorf("locked twice: %v", err)
	}
	others, err := take(one, netip.MustParsePrefix("10.0.0.101/32"))
	lab.Check(t, err)
	unlock(others)
	if others, err = take(two, addresses...); err != nil {
		t.Errorf("the lock of another network namespace: %v", err)
	}
	unlock(others)

	// A companion has inherited the first one.
	fd, err := syscall.Dup(int(locks[0].Fd()))
	lab.Check(t, err)
	inherited := os.NewFile(uintptr(fd), "inherited")
	unlock(locks)
	if _, err := take(one, addresses...); !errors.Is(err, ErrInUse) {
		t.Errorf("locked beside a companion: %v", err)
	}
	inherited.Close()
	locks, err = take(one, addresses...)
	lab.Check(t, err)
	unlock(locks)

	files, err := filepath.Glob(filepath.Join(dir, "vip-*.lock"))
	lab.Check(t, err)
	for _, path := range files {
		info, err := os.Stat(path)
		lab.Check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
	}
	// The user of the unit can open what root has made in his directory.
	lab.Check(t, os.Chown(dir, 65534, 65534))
	locks, err = take(one, netip.MustParsePrefix("10.0.0.102/32"))
	lab.Check(t, err)
	info, err := locks[0].Stat()
	lab.Check(t, err)
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 65534 {
		t.Errorf("the lock belongs to the user %d", owner)
	}
	unlock(locks)
	lab.Check(t, os.Chmod(dir, 0o777))
	if _, err := take(one, addresses...); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("locked in a directory that everybody can write to: %v", err)
	}
}

func newNamespace(t *testing.T) *lab.Namespace {
	t.Helper()
	n, err := lab.NewNamespace()
	lab.Check(t, err)
	t.Cleanup(n.Close)
	return n
}
