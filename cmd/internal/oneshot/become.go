package oneshot

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"redis-is-master/cmd/internal/flags"
)

// The names of the commands.
const (
	Name        = "redis-is-master"
	ReplicaName = "redis-is-replica"
	daemonName  = "redis-is-masterd"
)

// Called reports whether a command that was started by a name is to be the
// one-shot: redis-is-masterd is, where redis-is-master has become it.
func Called(args0 string) bool {
	base := filepath.Base(args0)
	return base == Name || base == ReplicaName
}

// become replaces this process by redis-is-masterd, which has TLS and is
// beside it, with the same arguments. It returns only if that fails.
func become(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return flags.Errorf("TLS needs %s, and this program does not find itself: %v", daemonName, err)
	}
	path := filepath.Join(filepath.Dir(self), daemonName)
	a, err := os.Stat(path)
	if b, berr := os.Stat(self); err == nil && berr == nil && os.SameFile(a, b) { // it would become itself for ever
		err = syscall.ELOOP
	}
	if err == nil {
		name := Name
		if strings.HasPrefix(filepath.Base(args[0]), ReplicaName) {
			name = ReplicaName
		}
		err = syscall.Exec(path, append([]string{name}, args[1:]...), os.Environ())
	}
	return flags.Errorf("TLS needs %s beside this program: %v: install both", daemonName, flags.Cause(err))
}
