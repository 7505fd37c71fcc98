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

// became is the flag of what this command has become: it must not go on for
// ever where the daemon's name leads to this program, and a daemon of a version
// that cannot be the one-shot must refuse it, not begin to watch.
const became = "became"

// become replaces this process by redis-is-masterd, which has TLS, with the
// same arguments. It is in the same directory, or, as in the package, in the
// sbin beside it. Become returns only if that fails.
func become(args []string) error {
	self, err := os.Executable()
	name := Name
	if strings.HasPrefix(filepath.Base(args[0]), ReplicaName) {
		name = ReplicaName
	}
	for _, dir := range []string{".", "../sbin"} {
		if err == nil || err == syscall.ENOENT {
			err = syscall.Exec(filepath.Join(filepath.Dir(self), dir, daemonName), append([]string{name, "--" + became}, args[1:]...), os.Environ())
		}
	}
	return noTLS(flags.Cause(err))
}

func noTLS(why error) error {
	return flags.Errorf("TLS needs %s beside this program: %v: install both", daemonName, why)
}
