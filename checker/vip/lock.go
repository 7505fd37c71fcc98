package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is what [New] returns if another daemon on this host holds one of the addresses.
var ErrInUse = errors.New("another daemon on this host holds it")

// lockWait is how long [New] waits for the companion of a dead daemon to remove the addresses and end.
const lockWait = patience

// lock takes the locks of the addresses in a directory, which it makes if there is none: without them a second daemon
// would remove what the first one adds. A lock is held until every process has closed the file that inherited it: the
// daemon and its companion. An address belongs to a network namespace, and so does its lock.
func lock(dir string, addresses []netip.Prefix, wait time.Duration) (locks []*os.File, err error) {
	defer func() {
		if err != nil {
			unlock(locks)
			locks = nil
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the directory of the locks: %w: make it, or set RuntimeDirectory= in the unit", err)
	}
	var directory, namespace unix.Stat_t
	if err := unix.Stat(dir, &directory); err != nil {
		return nil, fmt.Errorf("the directory of the locks: %s: %w", dir, err)
	}
	if directory.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s: others than its owner can write to the directory of the locks, "+
			"and could keep the daemon from its address: chmod 0755 it", dir)
	}
	if err := unix.Stat("/proc/thread-self/ns/net", &namespace); err != nil {
		return nil, fmt.Errorf("cannot tell the network namespaces apart: /proc/thread-self/ns/net: %w", err)
	}
	deadline := time.Now().Add(wait)
	for _, p := range addresses {
		path := filepath.Join(dir, fmt.Sprintf("vip-%d-%v.lock", namespace.Ino, p.Addr()))
		f, err := openLock(path, directory.Uid)
		if err != nil {
			return locks, fmt.Errorf("the lock of the address: %w", err)
		}
		locks = append(locks, f)
		for {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err != unix.EINTR && (err != unix.EWOULDBLOCK || time.Now().After(deadline)) {
				break
			}
			time.Sleep(readdDelay)
		}
		if err == unix.EWOULDBLOCK {
			return locks, fmt.Errorf("%v: %w: fuser %s tells which", p.Addr(), ErrInUse, path)
		}
		if err != nil {
			return locks, fmt.Errorf("flock %s: %w", path, err)
		}
	}
	return locks, nil
}

// openLock opens a file that nobody but its owner can open, and so lock. One that root makes belongs to the owner of
// the directory, who may be the user of the unit.
func openLock(path string, owner uint32) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrExist) {
		return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	}
	if err == nil && os.Geteuid() == 0 {
		f.Chown(int(owner), -1) // root may have no right to, and then the next one to open it must be root
	}
	return f, err
}

func unlock(locks []*os.File) {
	for _, f := range locks {
		f.Close()
	}
}
