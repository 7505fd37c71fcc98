package lab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// New starts a Redis server for one test.
func New(t testing.TB, o Options) *Redis {
	t.Helper()
	Require(t, "redis-server", "redis-cli")
	r, err := StartRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Must sends r a command; an error, or an error reply, ends the test.
func (r *Redis) Must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := r.do(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Require skips a test whose programs are not installed, loudly; where CI is
// set it fails.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, p+" is not installed: run make tools")
		}
	}
}

// Missing skips a test that cannot run here; where CI is set it fails.
func Missing(t testing.TB, why ...string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(strings.Join(why, " "))
	}
	t.Skip(strings.Join(why, " "))
}

// TempDir is a temporary directory whose path is short enough for a unix
// socket.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Check ends the test on an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NewCluster starts a cluster for one test.
func NewCluster(t testing.TB, nodes int, o Options) *Cluster {
	t.Helper()
	Require(t, "redis-server", "redis-cli")
	c, err := StartCluster(nodes, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// RequireNetwork skips a test that cannot make a [Network] here, loudly; where
// CI is set it fails.
func RequireNetwork(t testing.TB) {
	t.Helper()
	Require(t, "ip", "nft")
	if err := CanNetwork(); err != nil {
		Missing(t, err.Error())
	}
}
