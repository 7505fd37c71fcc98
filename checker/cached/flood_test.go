package cached_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/e2e/lab"
)

// What the test binary does where one of these is set: flood a socket without
// end, and ask once.
const (
	floodKey = "CACHED_TEST_FLOOD"
	askKey   = "CACHED_TEST_ASK"
)

func TestMain(m *testing.M) {
	if kind, path, ok := strings.Cut(os.Getenv(floodKey), " "); ok {
		flood(kind, path)
	}
	if path := os.Getenv(askKey); path != "" {
		d, err := cached.AskHead(path, checker.DefaultTimeout, "")
		fmt.Println(d.Answer, err)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func flood(kind, path string) {
	var held []int
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil { // no more descriptors: one goes, one comes
			unix.Close(held[0])
			held = held[1:]
			continue
		}
		if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil || kind == "close" {
			unix.Close(fd)
			continue
		}
		if kind == "hold" {
			var b [16]byte
			unix.Read(fd, b[:])
		}
		held = append(held, fd)
	}
}

// another is a copy of the test binary that runs as another user.
func another(t *testing.T, dir, env string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	lab.Check(t, err)
	program, err := os.ReadFile(self)
	lab.Check(t, err)
	other := filepath.Join(dir, "other") // where the other user may run it
	if _, err := os.Stat(other); err != nil {
		lab.Check(t, os.WriteFile(other, program, 0o755))
	}
	cmd := exec.Command(other)
	cmd.Env = append(os.Environ(), env)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: 65534, Gid: 65534},
	}
	return cmd
}

// openDir is a directory into which another user may look.
func openDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot be another user")
	}
	dir := lab.TempDir(t)
	lab.Check(t, os.Chmod(dir, 0o755))
	return dir
}

// TestAnotherUser: who may not connect to the second socket asks the first,
// and who may not connect to that has no answer.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]string{0o666: "yes <nil>", 0o660: "permission denied"} {
		dir := openDir(t)
		path := filepath.Join(dir, "check.sock")
		n := fake.Watched(t, fake.Master)
		s, err := cached.NewServer(path, mode, n.Monitor, n.Document)
		lab.Check(t, err)
		fake.Until(t, s.Run)
		if out, err := another(t, dir, askKey+"="+path).Output(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s, %v", mode, out, err)
		}
	}
}

// TestFloods: clients of another user that connect without end, and hang up,
// hold on or never read, take nobody's answer.
func TestFloods(t *testing.T) {
	for _, kind := range []string{"close", "hold", "never-read"} {
		t.Run(kind, func(t *testing.T) {
			dir := openDir(t)
			path := filepath.Join(dir, "check.sock")
			n := fake.Watched(t, fake.Master)
			s, err := cached.NewServer(path, 0o666, n.Monitor, n.Document)
			lab.Check(t, err)
			fake.Until(t, s.Run)
			for range 10 {
				cmd := another(t, dir, floodKey+"="+kind+" "+path)
				lab.Check(t, cmd.Start())
				t.Cleanup(func() {
					cmd.Process.Kill()
					cmd.Wait()
				})
			}
			var took []time.Duration
			for i := range 1000 {
				begin := time.Now()
				if d, err := cached.AskHead(path, checker.DefaultTimeout, ""); err != nil || d.Answer != checker.Yes {
					t.Fatalf("question %d: %v, %s", i, err, d.Text())
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			t.Logf("half of the answers took at most %v, 99 of 100 %v, all %v", took[500], took[990], took[999])
		})
	}
}
