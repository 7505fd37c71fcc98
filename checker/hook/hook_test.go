package hook

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
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// A bench is a Hook with a node whose role can be set.
type bench struct {
	*Hook
	t       *testing.T
	monitor *checker.Monitor
	role    atomic.Value
	dir     string
	hung    chan struct{} // closed at the end of a check that hangs
	stop    func()
}

// hangs is the role of a node whose check never ends.
const hangs checker.Role = "hangs"

// start runs a script at every change.
func start(t *testing.T, script string, set func(*Hook)) *bench {
	t.Helper()
	return startAged(t, time.Hour, script, set)
}

// startAged does so where an answer is believed for maxAge; by start for so long that a
// busy machine makes none stale.
func startAged(t *testing.T, maxAge time.Duration, script string, set func(*Hook)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), hung: make(chan struct{})}
	program := filepath.Join(b.dir, "program")
	write(t, program, "#!/bin/sh\ncd "+b.dir+"\n"+script, 0o755)
	b.role.Store(checker.RoleMaster)
	b.monitor = &checker.Monitor{Interval: time.Millisecond, MaxAge: maxAge,
		Policy: checker.Policy{AllowUnconfirmed: true},
		Probe: func(context.Context) (checker.Observation, error) {
			role := b.role.Load().(checker.Role)
			if role == hangs {
				<-b.hung
			}
			if role == "" {
				return checker.Observation{}, errors.New("gone")
			}
			return checker.Observation{Role: role}, nil
		}}
	b.Hook = &Hook{Program: program, Address: "10.0.0.1:6379", Environ: []string{"PATH=" + os.Getenv("PATH"), "A=b"}}
	if set != nil {
		set(b.Hook)
	}
	checking, stopChecks := context.WithCancel(context.Background())
	running, stop := context.WithCancel(context.Background())
	checked, done := make(chan error, 1), make(chan error, 1)
	go func() { checked <- b.monitor.Run(checking) }()
	go func() { done <- b.Run(running, b.monitor) }()
	b.stop = func() {
		b.monitor.Stop()
		stopChecks()
		<-checked
		stop()
		<-done
	}
	return b
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock() // a child that held the file open would keep it from being run
	err := os.WriteFile(path, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	lab.Check(t, err)
	lab.Check(t, os.Chmod(path, mode))
}

// until waits until the file that the script writes has these lines.
func (b *bench) until(file string, want ...string) {
	b.t.Helper()
	var last []byte
	err := lab.Wait("", func() (bool, error) {
		last, _ = os.ReadFile(filepath.Join(b.dir, file))
		return slices.Equal(strings.Fields(string(last)), want), nil
	})
	if err != nil {
		b.t.Fatalf("%s holds %q, want %q; %+v", file, last, want, b.State())
	}
}

// told is until after the end, at which the last run may have been interrupted and repeated.
func (b *bench) told(want ...string) {
	b.t.Helper()
	log, _ := os.ReadFile(filepath.Join(b.dir, "log"))
	if got := slices.Compact(strings.Fields(string(log))); !slices.Equal(got, want) {
		b.t.Errorf("it was told %q, want %q; %+v", got, want, b.State())
	}
}

func (b *bench) is(role checker.Role) { b.role.Store(role) }

// TestChanges: the program is run once for each answer that stands, and for the last no.
func TestChanges(t *testing.T) {
	t.Parallel()
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER,$REDIS_IS_MASTER_REASON,$REDIS_IS_MASTER_ADDRESS,$A >>log", nil)
	yes := "yes,ok,10.0.0.1:6379,b"
	b.until("log", yes)
	b.is(checker.RoleReplica)
	b.until("log", yes, "no,role,10.0.0.1:6379,b")
	b.is(checker.RoleMaster)
	b.until("log", yes, "no,role,10.0.0.1:6379,b", yes)
	b.stop()
	b.told(yes, "no,role,10.0.0.1:6379,b", yes, "no,stopping,10.0.0.1:6379,b")
	if s := b.State(); s.Done != checker.No || s.Behind != 0 || s.Err != nil || s.Runs[Failed]+s.Runs[TimedOut] > 0 {
		t.Errorf("%+v", s)
	}
}

// TestGone: a failure is over when the answer is again the one that was told.
func TestGone(t *testing.T) {
	t.Parallel()
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log", nil)
	b.until("log", "yes")
	lab.Check(t, os.Chmod(b.Program, 0o600))
	b.is(checker.RoleReplica)
	lab.Check(t, lab.Wait("it cannot be run", func() (bool, error) { return b.State().Err != nil, nil }))
	b.is(checker.RoleMaster)
	lab.Check(t, lab.Wait("there is nothing to tell", func() (bool, error) {
		s := b.State()
		return s.Err == nil && s.Behind == 0 && s.Done == checker.Yes, nil
	}))
	lab.Check(t, os.Chmod(b.Program, 0o700))
	b.stop()
	b.told("yes", "no")
}

// TestRepeats: a program that fails is run again, for the answer that stands by then.
func TestRepeats(t *testing.T) {
	t.Parallel()
	told := make(chan error, 10)
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log; echo why >&2; test -e good", func(h *Hook) {
		h.Changed = func(err error) { told <- err }
	})
	if err := <-told; err == nil || !strings.HasSuffix(err.Error(), `exit status 1: "why"`) {
		t.Errorf("told %v", err)
	}
	lab.Check(t, lab.Wait("it is run again", func() (bool, error) { return b.State().Runs[Failed] > 1, nil }))
	b.is(checker.RoleReplica)
	lab.Check(t, lab.Wait("it is told the other answer", func() (bool, error) {
		log, err := os.ReadFile(filepath.Join(b.dir, "log"))
		return strings.HasSuffix(string(log), "no\n"), err
	}))
	if s := b.State(); s.Done != "" || s.Behind == 0 || s.Err == nil {
		t.Errorf("%+v", s)
	}
	write(t, filepath.Join(b.dir, "good"), "", 0o600)
	if err := <-told; err != nil {
		t.Errorf("told %v", err)
	}
	b.stop()
	if s := b.State(); s.Done != checker.No || s.Behind != 0 || s.Runs[OK] != 1 {
		t.Errorf("%+v", s)
	}
}

// TestStale: an answer that is too old is told as one that is not known, though no check ends.
func TestStale(t *testing.T) {
	t.Parallel()
	b := startAged(t, time.Second, "echo $REDIS_IS_MASTER_ANSWER,$REDIS_IS_MASTER_REASON >>log", nil)
	lab.Check(t, lab.Wait("it says yes", func() (bool, error) { return b.State().Done == checker.Yes, nil }))
	b.is(hangs)
	lab.Check(t, lab.Wait("it is told", func() (bool, error) {
		log, err := os.ReadFile(filepath.Join(b.dir, "log"))
		return strings.HasSuffix(string(log), "unknown,stale\n"), err
	}))
	close(b.hung)
	b.stop()
}

// TestStop: a run that hangs does not hold up the end of the daemon, nor does the last one.
func TestStop(t *testing.T) {
	t.Parallel()
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log; sleep 1000", nil)
	b.until("log", "yes")
	begun := time.Now()
	b.stop()
	b.told("yes", "no")
	if took := time.Since(begun); took > DefaultTimeout {
		t.Errorf("the end took %v", took)
	}
	if s := b.State(); s.Runs[Interrupted] != 1 || s.Runs[TimedOut] != 1 {
		t.Errorf("%+v", s)
	}
}

// TestHangs: a program that hangs is killed, with all that it has started, and so is one
// that a reload interrupts, which the next program repeats.
func TestHangs(t *testing.T) {
	t.Parallel()
	script := "echo $REDIS_IS_MASTER_ANSWER >>log; test -e good && exit; sleep 1000 & echo $! >child; wait"
	b := start(t, script, func(h *Hook) { h.Timeout = 300 * time.Millisecond })
	lab.Check(t, lab.Wait("it was killed", func() (bool, error) { return b.State().Runs[TimedOut] > 0, nil }))
	child, err := os.ReadFile(filepath.Join(b.dir, "child"))
	lab.Check(t, err)
	lab.Check(t, lab.Wait("its child is gone", func() (bool, error) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z "), nil
	}))
	write(t, filepath.Join(b.dir, "good"), "", 0o600)
	b.stop()

	b = start(t, script, nil)
	b.until("log", "yes")
	record, release, err := b.Hold()
	lab.Check(t, err)
	if s := b.State(); s.Done != "" || s.Runs[Interrupted] != 1 || s.Err != nil {
		t.Errorf("%+v", s)
	}
	next := &Hook{}
	if lab.Check(t, next.Restore(record)); next.done != "" || next.runs[Interrupted] != 1 {
		t.Errorf("restored %+v", next)
	}
	write(t, filepath.Join(b.dir, "good"), "", 0o600)
	release()
	b.until("log", "yes", "yes") // as if it had failed
	b.stop()
}

// TestRestored: what the program knows is not told again after a reload.
func TestRestored(t *testing.T) {
	t.Parallel()
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log", nil)
	b.until("log", "yes")
	lab.Check(t, lab.Wait("it is done", func() (bool, error) { return b.State().Done == checker.Yes, nil }))
	record, release, err := b.Hold()
	lab.Check(t, err)
	b.is(checker.RoleReplica)
	release()
	b.stop()
	b.told("yes", "no")

	c := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log", func(h *Hook) { lab.Check(t, h.Restore(record)) })
	lab.Check(t, lab.Wait("a check is done", func() (bool, error) {
		s, _ := c.monitor.Status()
		return s.Verdict.Reason == checker.OK, nil
	}))
	c.is(checker.RoleReplica)
	c.until("log", "no")
	c.stop()
}

// TestUnknown: an answer that is not known is told as such.
func TestUnknown(t *testing.T) {
	t.Parallel()
	b := start(t, "echo $REDIS_IS_MASTER_ANSWER >>log", nil)
	b.until("log", "yes")
	b.is("")
	b.until("log", "yes", "unknown")
	b.stop()
	b.told("yes", "unknown", "no")
}

// TestCheck: a program that others can write is not run.
func TestCheck(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	for mode, want := range map[os.FileMode]string{
		0o755: "<nil>", 0o700: "<nil>", 0o644: "is not executable", 0o757: "others can write",
	} {
		write(t, path, "#!/bin/sh\n", mode)
		if got := fmt.Sprint(Check(path)); !strings.Contains(got, want) {
			t.Errorf("%o: %s", mode, got)
		}
	}
	if err := Check(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := Check(filepath.Dir(path)); err == nil {
		t.Error("a directory is a program")
	}
	b := start(t, "echo run >>log", func(h *Hook) { lab.Check(t, os.Chmod(h.Program, 0o757)) })
	lab.Check(t, lab.Wait("it was refused", func() (bool, error) { return b.State().Runs[Failed] > 0, nil }))
	b.stop()
	b.told()
}
