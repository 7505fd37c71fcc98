package keepalived_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	yes = "1\n"
	no  = "0\n"
)

var (
	master  = checker.Observation{Role: checker.RoleMaster, WireRole: "master", LastIO: -1}
	replica = checker.Observation{Role: checker.RoleReplica, WireRole: "slave", LinkUp: true}
)

// rig is a track file under a monitor of a fake node. It lives in a bubble of
// synctest, so its time is not the machine's.
type rig struct {
	t        *testing.T
	file     *keepalived.TrackFile
	monitor  *checker.Monitor
	node     atomic.Pointer[checker.Observation]
	hangs    atomic.Pointer[chan struct{}] // a probe waits for its end
	failures chan error                    // what Failed was called with
	unread   chan error                    // what Unread was called with
	end      func()                        // ends the track file's Run
}

// newRig returns once the file says no, of a replica, for a reason.
func newRig(t *testing.T, path string) *rig {
	t.Helper()
	file, err := keepalived.NewTrackFile(path, nil)
	lab.Check(t, err)
	return runRig(t, file)
}

func runRig(t *testing.T, file *keepalived.TrackFile) *rig {
	t.Helper()
	r := &rig{file: file, t: t, failures: make(chan error, 100), unread: make(chan error, 100)}
	r.node.Store(&replica)
	r.monitor = &checker.Monitor{
		Policy: checker.Policy{AllowUnconfirmed: true},
		Probe: func(context.Context) (checker.Observation, error) {
			o := *r.node.Load()
			if over := r.hangs.Load(); over != nil {
				<-*over
			}
			return o, nil
		},
	}
	r.file.Failed = func(err error) { r.failures <- err }
	r.file.Unread = func(err error) { r.unread <- err }
	watching, end := context.WithCancel(t.Context())
	checking, stop := context.WithCancel(t.Context())
	ended, stopped := make(chan error, 1), make(chan error, 1)
	go func() { ended <- r.file.Run(watching, r.monitor) }()
	go func() { stopped <- r.monitor.Run(checking) }()
	r.end = func() {
		end()
		lab.Check(t, <-ended)
		ended <- nil
	}
	t.Cleanup(func() {
		r.end()
		stop()
		lab.Check(t, <-stopped)
	})
	r.pass(checker.DefaultInterval)
	return r
}

// becomes changes the node and gives the monitor the time to see it.
func (r *rig) becomes(o checker.Observation) {
	r.node.Store(&o)
	r.monitor.Wake()
	synctest.Wait()
}

// pass lets time go by in the bubble.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *rig) reads(want string) {
	r.t.Helper()
	if got := content(r.t, r.file.Path); got != want {
		r.t.Fatalf("the file reads %q, not %q", got, want)
	}
}

// failed checks that Failed was called with an error or nil, in this order,
// since the last look, and returns the last.
func (r *rig) failed(want ...bool) error {
	r.t.Helper()
	return called(r.t, "Failed", r.failures, want)
}

func called(t *testing.T, what string, calls chan error, want []bool) (last error) {
	t.Helper()
	got := make([]bool, 0)
	for len(calls) > 0 {
		last = <-calls
		got = append(got, last != nil)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s was called with an error, or with nil: %v, the last was %v", what, got, last)
	}
	return last
}

// behind checks whether Behind says something, and Impaired nothing.
func (r *rig) behind(want bool) {
	r.t.Helper()
	if why := r.file.Behind(); (why != "") != want {
		r.t.Fatalf("behind: %q", why)
	}
	if why := r.file.Impaired(); why != "" {
		r.t.Fatalf("impaired: %q", why)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	lab.Check(t, err)
	return string(b)
}

// alone checks that no temporary file was left behind.
func alone(t *testing.T, path string, others ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	lab.Check(t, err)
	for _, e := range entries {
		if e.Name() != filepath.Base(path) && !slices.Contains(others, e.Name()) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(path string) error
	}{
		{"no file", func(string) error { return nil }},
		{"a yes of a dead daemon", func(p string) error { return os.WriteFile(p, []byte(yes), 0o644) }},
		{"garbage", func(p string) error { return os.WriteFile(p, []byte("0x7fffffff and more\n"), 0o644) }},
		{"an empty file", func(p string) error { return os.WriteFile(p, nil, 0o644) }},
		{"a pipe", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"keepalived's own init_file", func(p string) error { return os.WriteFile(p, []byte("0\n"), 0o600) }},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "master")
		lab.Check(t, tt.before(path))
		if _, err := keepalived.NewTrackFile(path, nil); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := content(t, path); got != no {
			t.Errorf("%s: reads %q", tt.name, got)
		}
		info, err := os.Stat(path)
		lab.Check(t, err)
		if info.Mode() != 0o644 {
			t.Errorf("%s: mode %v", tt.name, info.Mode())
		}
		alone(t, path)
	}
}

func TestNewFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lab.Check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, path := range []string{filepath.Join(dir, "missing", "master"), filepath.Join(dir, "file", "master")} {
		_, err := keepalived.NewTrackFile(path, nil)
		if err == nil || !strings.Contains(err.Error(), "keepalived") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// It makes no directory: it would be one that keepalived does not watch.
	if _, err := os.Stat(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	// A directory in the way is the operator's, and stays.
	inTheWay := filepath.Join(dir, "dir")
	lab.Check(t, os.Mkdir(inTheWay, 0o700))
	if _, err := keepalived.NewTrackFile(inTheWay, nil); err == nil {
		t.Error("a directory in the way is no error")
	}
	if _, err := os.Stat(inTheWay); err != nil {
		t.Errorf("a directory in the way is gone: %v", err)
	}
}

// TestReader: whoever reads the file while it changes sees all of it.
func TestReader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master")
	file, err := keepalived.NewTrackFile(path, nil)
	lab.Check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var flips atomic.Int64
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := file.Write(flips.Add(1)%2 == 1); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	seen := make(map[string]int)
	for range 20000 {
		b, err := os.ReadFile(path)
		if err != nil {
			seen[err.Error()]++
		}
		seen[string(b)]++
	}
	// On one core the writer may not have had its turn yet.
	lab.Check(t, lab.Wait("the file was written often", func() (bool, error) {
		return flips.Load() > 100 || len(done) > 0, nil
	}))
	stop()
	lab.Check(t, <-done)
	for what, n := range seen {
		if what != yes && what != no {
			t.Errorf("%d reads saw %q", n, what)
		}
	}
	alone(t, path)
	t.Logf("%d flips, reads %v", flips.Load(), seen)
}

func TestFollows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, path)
		for range 3 {
			r.becomes(master)
			r.reads(yes)
			r.becomes(replica)
			r.reads(no)
		}
		r.becomes(master)
		r.monitor.Stop()
		synctest.Wait()
		r.reads(no)
		r.failed()
	})
	alone(t, path)
}

// TestEnd: a daemon that ends leaves no yes behind.
func TestEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, path)
		r.becomes(master)
		r.reads(yes)
		r.end()
		r.reads(no)
		// Nothing brings it back, although the monitor still runs.
		r.pass(5 * time.Second)
		r.reads(no)
	})
	alone(t, path)
}

// TestHeals: what is done to the file lasts a second at most.
func TestHeals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(path string) error
	}{
		{"deleted", os.Remove},
		{"garbage", func(p string) error { return os.WriteFile(p, []byte("no number"), 0o644) }},
		{"the other answer", func(p string) error { return os.WriteFile(p, []byte("7\n"), 0o644) }},
		{"truncated", func(p string) error { return os.Truncate(p, 0) }},
		{"another mode", func(p string) error { return os.Chmod(p, 0) }},
		{"moved away", func(p string) error { return os.Rename(p, p+".old") }},
		{"a dangling link", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("nowhere", p)) }},
	}
	for _, o := range []struct {
		node checker.Observation
		want string
	}{{master, yes}, {replica, no}} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s of a %s", tt.name, o.node.Role), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "master")
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, path)
					r.becomes(o.node)
					r.reads(o.want)
					lab.Check(t, tt.spoil(path))
					r.pass(time.Second)
					r.reads(o.want)
					info, err := os.Lstat(path)
					lab.Check(t, err)
					if info.Mode() != 0o644 {
						t.Errorf("mode %v", info.Mode())
					}
					r.failed()
				})
				alone(t, path, "master.old")
			})
		}
	}
}

// TestStale: a probe that hangs, and honours no deadline, keeps no yes alive.
func TestStale(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, path)
		r.becomes(master)
		r.reads(yes)
		over := make(chan struct{})
		r.hangs.Store(&over)
		r.monitor.Wake()
		synctest.Wait()
		r.pass(checker.DefaultMaxAge - 10*time.Millisecond)
		r.reads(yes)
		r.pass(20 * time.Millisecond)
		r.reads(no)
		r.pass(10 * time.Second)
		r.reads(no)
		// What it says when it is over is too late; what the next says is not.
		r.hangs.Store(nil)
		close(over)
		r.pass(2 * checker.DefaultInterval)
		r.reads(yes)
		r.failed()
	})
	alone(t, path)
}

// TestDirectoryGone: one word to the log when it goes, one when it is back.
func TestDirectoryGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	lab.Check(t, os.Mkdir(dir, 0o755))
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, filepath.Join(dir, "master"))
		r.becomes(master)
		r.failed()
		lab.Check(t, os.RemoveAll(dir))
		r.pass(5 * time.Second)
		r.failed(true)
		lab.Check(t, os.Mkdir(dir, 0o755))
		r.pass(5 * time.Second)
		r.failed(false)
		r.reads(yes)
	})
}

// tmpfs mounts a small file system of its own.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		lab.Missing(t, "only root can mount a tmpfs")
	}
	dir := lab.TempDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		lab.Missing(t, "no tmpfs can be mounted here:", err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fillBytes leaves no room for a byte in a new file.
func fillBytes(dir string) error {
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		return err
	}
	block := make([]byte, 4096)
	for range 1000 {
		if _, err = f.Write(block); err != nil {
			break
		}
	}
	return full(errors.Join(err, f.Close()))
}

// fillInodes leaves no room for a new file.
func fillInodes(dir string) error {
	sub := filepath.Join(dir, "fill")
	if err := os.Mkdir(sub, 0o755); err != nil {
		return full(err)
	}
	refusals := 0
	for i := range 1000 {
		err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o600)
		if err == nil {
			continue
		}
		// The kernel frees the inodes of replaced files a little later. In a
		// bubble only a system call waits.
		if refusals++; refusals == 5 || full(err) != nil {
			return full(err)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil)
	}
	return errors.New("it is not full")
}

// full makes sure that a disk is full and nothing else is wrong with it.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return fmt.Errorf("not full, but: %w", err)
}

var disks = []struct {
	name, options string
	fill          func(dir string) error
}{
	{"no bytes", "size=64k", fillBytes},
	{"no inodes", "size=64k,nr_inodes=6", fillInodes},
}

// TestFullDisk: a new answer needs no room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, disk := range disks {
		t.Run(disk.name, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, disk.options)
			path := filepath.Join(dir, "master")
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, path)
				lab.Check(t, disk.fill(dir))
				r.becomes(master)
				r.reads(yes)
				if err := r.failed(true); !errors.Is(err, syscall.ENOSPC) ||
					!strings.Contains(err.Error(), "overwritten") {
					t.Errorf("Failed was told %v", err)
				}
				for range 3 {
					r.becomes(replica)
					r.reads(no)
					r.becomes(master)
					r.reads(yes)
				}
				r.pass(50 * time.Second) // tries again each second, and says it once a minute
				r.failed()
				r.pass(15 * time.Second)
				r.failed(true)
				r.behind(false)

				lab.Check(t, os.RemoveAll(filepath.Join(dir, "fill")))
				r.pass(time.Second)
				r.reads(yes)
				r.failed(false)
				r.becomes(replica)
				r.reads(no)
				r.failed()
			})
			alone(t, path)
		})
	}
}

// TestNoRoomAtAll: where the file was deleted and there is no room for it, it
// says no, and that is told. What a link points to is not touched.
func TestNoRoomAtAll(t *testing.T) {
	t.Parallel()
	spoil := map[string]func(path string) error{
		"deleted": os.Remove,
		"a link": func(p string) error {
			return errors.Join(
				os.Rename(p, p+".old"),
				os.WriteFile(p+".old", []byte("mine"), 0o644),
				os.Symlink(p+".old", p),
			)
		},
		"a pipe": func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) },
	}
	for name, spoil := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "size=64k")
			path := filepath.Join(dir, "master")
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, path)
				lab.Check(t, spoil(path))
				lab.Check(t, fillBytes(dir))
				r.becomes(master)
				if err := r.failed(true); !strings.Contains(err.Error(), "does not say 1") {
					t.Errorf("Failed was told %v", err)
				}
				r.behind(false)
				r.pass(1100 * time.Millisecond)
				r.behind(true)
				if status, _ := r.monitor.Status(); status.Verdict.Answer() != checker.Yes {
					t.Errorf("the others are not told yes, but %v", status.Verdict)
				}
				if b, err := os.ReadFile(path + ".old"); err == nil && string(b) != "mine" {
					t.Errorf("what the link points to holds %q", b)
				}
				r.pass(time.Minute)
				r.failed(true)
				r.becomes(replica)
				r.behind(false)
				r.becomes(master)
				lab.Check(t, os.Remove(filepath.Join(dir, "fill")))
				r.pass(time.Second)
				r.reads(yes)
				r.behind(false)
				r.failed(false)
			})
		})
	}
}

const unreadHint = "systemctl reload keepalived"

// TestUnread: keepalived reads the file each time it is written, so that it is
// noticed if it does not.
func TestUnread(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=64k")
	path := filepath.Join(dir, "master")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, path)
		told := func(want ...bool) error { t.Helper(); return called(t, "Unread", r.unread, want) }
		for range 20 {
			r.reads(no)
			r.pass(time.Second)
		}
		told()
		if d := r.file.UnreadFor(); d != 0 {
			t.Errorf("unread for %v", d)
		}
		r.pass(12 * time.Second)
		if why := told(true).Error(); !strings.Contains(why, path+" for 1") || !strings.Contains(why, unreadHint) {
			t.Errorf("it says %s", why)
		}
		if d := r.file.UnreadFor(); d < 10*time.Second || d > 14*time.Second {
			t.Errorf("unread for %v", d)
		}
		r.pass(55 * time.Second)
		told()
		r.pass(6 * time.Second)
		told(true)
		r.behind(false) // nobody knows a yes

		r.becomes(master)
		r.pass(10 * time.Second)
		r.behind(false)
		r.reads(yes)
		r.pass(1100 * time.Millisecond)
		told(false)
		r.becomes(replica)
		r.pass(5 * time.Second)
		r.behind(false) // who read it once is not keepalived
		r.becomes(master)
		for range 2 {
			r.reads(yes)
			r.pass(1100 * time.Millisecond)
		}
		r.becomes(replica)
		r.pass(2900 * time.Millisecond)
		r.behind(false)
		r.pass(200 * time.Millisecond)
		r.behind(true) // somebody knows the yes, and not the no
		r.reads(no)
		r.pass(1100 * time.Millisecond)
		r.behind(false)
		r.failed()
	})
}

// TestNeverRead: where nobody has read the file yet, that is worth a word only
// if keepalived runs.
func TestNeverRead(t *testing.T) {
	path := filepath.Join(tmpfs(t, "size=64k"), "master")
	pid := filepath.Join(t.TempDir(), "keepalived.pid")
	defer func(before string) { *keepalived.PIDFile = before }(*keepalived.PIDFile)
	*keepalived.PIDFile = pid
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, path)
		r.pass(2 * time.Minute)
		if d := r.file.UnreadFor(); d != 0 || len(r.unread) > 0 {
			t.Errorf("no keepalived runs, and the file is unread for %v", d)
		}
		lab.Check(t, os.WriteFile(pid, nil, 0o644))
		r.pass(8 * time.Second)
		if d := r.file.UnreadFor(); d != 0 {
			t.Errorf("unread for %v", d)
		}
		r.pass(4 * time.Second)
		called(t, "Unread", r.unread, []bool{true})
	})
}

// TestUnreadable: a file system that does not tell who reads is no reason to
// say that nobody does.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=64k")
	lab.Check(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_NOATIME, ""))
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, filepath.Join(dir, "master"))
		r.becomes(master)
		for range 3 {
			r.reads(yes)
			r.pass(time.Second)
		}
		r.becomes(replica)
		r.pass(time.Minute)
		r.behind(false)
		if d := r.file.UnreadFor(); d != 0 || len(r.unread) > 0 {
			t.Errorf("unread for %v", d)
		}
	})
}

// TestFullDiskAtTheStart: the yes that a dead daemon left is gone, and the new
// one needs no more room than there is.
func TestFullDiskAtTheStart(t *testing.T) {
	t.Parallel()
	for _, disk := range disks {
		for _, before := range []string{yes, "1", "1000000\n", "0x1 or more of it\n", ""} {
			dir := tmpfs(t, disk.options)
			path := filepath.Join(dir, "master")
			lab.Check(t, os.WriteFile(path, []byte(before), 0o644))
			lab.Check(t, disk.fill(dir))
			file, err := keepalived.NewTrackFile(path, nil)
			if before == "" && disk.name == "no bytes" { // nor has the old file any
				if _, serr := os.Lstat(path); !errors.Is(err, syscall.ENOSPC) || !errors.Is(serr, os.ErrNotExist) {
					t.Errorf("%s, %q: %v, %v", disk.name, before, err, serr)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %q: %v", disk.name, before, err)
				continue
			}
			if got := content(t, path); got != no {
				t.Errorf("%s, %q: reads %q", disk.name, before, got)
			}
			if err := file.Write(true); !errors.Is(err, syscall.ENOSPC) || content(t, path) != yes {
				t.Errorf("%s, %q: reads %q, %v", disk.name, before, content(t, path), err)
			}
			alone(t, path, "fill")
		}
	}
}

// TestReadOnly: where not even a no can be written, that is said.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=64k")
	file, err := keepalived.NewTrackFile(filepath.Join(dir, "master"), nil)
	lab.Check(t, err)
	lab.Check(t, file.Write(true))
	lab.Check(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	// It says 1, as it should: that is no reason to drop the VIP.
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; <-time.After(50 * time.Millisecond) {
		if err := file.Write(true); !errors.Is(err, syscall.EROFS) {
			t.Fatal(err)
		}
		if why := file.Behind() + file.Impaired(); why != "" {
			t.Fatal(why)
		}
	}
	if err := file.Write(false); !errors.Is(err, syscall.EROFS) || file.Impaired() == "" {
		t.Error(err, file.Impaired())
	}
}
