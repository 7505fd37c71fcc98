package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Programs is the directory with both commands while [Main] runs.
var Programs string

// Program is the path of one of them.
func Program(name string) string { return filepath.Join(Programs, name) }

// Main builds both commands, runs the tests of a package, and returns their exit
// code. Prepare, if it is not nil, is called between the two.
func Main(m *testing.M, prepare func() error) int {
	var err error
	if Programs, err = os.MkdirTemp("", "bin-"); err == nil {
		defer os.RemoveAll(Programs)
		err = os.Chmod(Programs, 0o755) // other users run what is in it
	}
	if err == nil {
		build := exec.Command("go", "build", "-trimpath", "-o", Programs, "redis-is-master/cmd/redis-is-master",
			"redis-is-master/cmd/redis-is-masterd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err == nil && prepare != nil {
		err = prepare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
