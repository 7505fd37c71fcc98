// Package hook runs a program at every change of the answer: for the address of a
// cloud, a DNS name, a service register, a pager.
package hook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"redis-is-master/checker"
)

// DefaultTimeout is how long the program may take.
const DefaultTimeout = 20 * time.Second

const (
	// firstPause and lastPause are those after a failure: each is twice the one before.
	firstPause, lastPause = time.Second, 30 * time.Second
	// lastTimeout is how long the last run may take: a restart of the daemon waits for it,
	// and meanwhile this node has no VIP.
	lastTimeout = 2 * time.Second
	// maxOutput is how much is kept of what the program writes to standard error.
	maxOutput = 4096
)

// A Result is how a run of the program ended.
type Result string

// The results. Interrupted is one that a reload ended, and that is repeated; or the end of
// the daemon, whose last answer follows.
const (
	OK          Result = "ok"
	Failed      Result = "failed"
	TimedOut    Result = "timeout"
	Interrupted Result = "interrupted"
)

// Results are all results.
func Results() []Result { return []Result{OK, Failed, TimedOut, Interrupted} }

// A Hook runs a program whenever the answer is another one than that for which it last
// exited 0, and again until it does: one run at a time, with a pause of 1 s after a
// failure that doubles up to 30 s, and with none when the answer changes. It runs
// first when the first check is done, and last, for 2 s at most, when the daemon stops,
// whose answer is no. A run is not interrupted by a change of the answer.
//
// The program has no arguments and gets the answer by its environment:
// REDIS_IS_MASTER_ANSWER is yes, no or unknown, _REASON the reason, _DETAIL the reason
// in words, _ADDRESS the node, and _EPOCH the config epoch that the Sentinels name,
// empty if none is known.
//
// Set the fields before Run. The other methods are safe at any time.
type Hook struct {
	Program string        // its path
	Address string        // of the node
	Environ []string      // of the program, beside what it is told
	Timeout time.Duration // of a run; [DefaultTimeout] if 0
	Changed func(error)   // is told of the first failure in a row, and, by nil, of its end

	mu     sync.Mutex
	held   bool           // no run may begin
	pid    int            // of the run that is under way; 0 if there is none
	done   checker.Answer // that the last run exited 0 for; empty if it did not, or runs
	behind time.Time      // since when that is not the answer; zero if it is
	err    error          // of the last run
	runs   map[Result]int
}

// A State is what is known of the runs.
type State struct {
	Done   checker.Answer // that the last run exited 0 for; empty if it did not
	Behind time.Duration  // for how long that is not the answer that stands; 0 if it is
	Err    error          // of the last run; nil if it exited 0
	Runs   map[Result]int
}

// State is the present state.
func (h *Hook) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := State{Done: h.done, Err: h.err, Runs: make(map[Result]int)}
	for r, n := range h.runs {
		s.Runs[r] = n
	}
	if !h.behind.IsZero() {
		s.Behind = max(time.Since(h.behind), 1)
	}
	return s
}

// Run runs the program until ctx is done and the last answer was told.
func (h *Hook) Run(ctx context.Context, m *checker.Monitor) error {
	timeout, pause := cmp.Or(h.Timeout, DefaultTimeout), firstPause
	var tried checker.Answer
	var again time.Time // no sooner, after a failure
	m.Watch(ctx, firstPause/2, func(s checker.Status) {
		answer := s.Verdict.Answer()
		switch {
		case h.stands(answer) || s.Verdict.Reason == checker.ReasonStarting || ctx.Err() != nil:
			return
		case answer != tried:
			pause = firstPause
		case time.Now().Before(again):
			return
		}
		if tried = answer; !h.run(ctx, timeout, s) {
			again = time.Now().Add(pause)
			pause = min(2*pause, lastPause)
		}
	})
	if s, _ := m.Status(); !h.stands(s.Verdict.Answer()) {
		h.run(context.Background(), min(timeout, lastTimeout), s)
	}
	return nil
}

// Check reports why a program is not run: it cannot be, or others could replace what it
// does, with the rights of the daemon.
func Check(program string) error { return CheckFor(program, os.Geteuid()) }

// CheckFor is [Check] for a daemon of another user.
func CheckFor(program string, uid int) error {
	info, err := os.Stat(program)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable: chmod +x it", program)
	case info.Mode()&0o002 != 0 || info.Mode()&0o020 != 0 && stat.Gid != 0:
		return fmt.Errorf("others can write %s: chmod go-w it", program)
	case stat.Uid != 0 && int(stat.Uid) != uid:
		return fmt.Errorf("%s belongs to another user: chown root it", program)
	}
	return nil
}

// stands reports whether the program knows the answer.
func (h *Hook) stands(answer checker.Answer) bool {
	h.mu.Lock()
	stands := h.done == answer
	over := stands && h.err != nil // it could not be run for an answer that has gone
	switch {
	case stands:
		h.behind, h.err = time.Time{}, nil
	case h.behind.IsZero():
		h.behind = time.Now()
	}
	h.mu.Unlock()
	if over && h.Changed != nil {
		h.Changed(nil)
	}
	return stands
}

// run runs the program once, until outer is done, and reports whether it exited 0.
func (h *Hook) run(outer context.Context, timeout time.Duration, status checker.Status) bool {
	ctx, cancel := context.WithTimeout(outer, timeout)
	defer cancel()
	var problems bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Program)
	cmd.Env = append(h.Environ[:len(h.Environ):len(h.Environ)], h.told(status)...)
	cmd.Stderr = &limited{&problems}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // what it has started may hold its outputs open
	err := Check(h.Program)
	if err == nil {
		err = h.start(cmd)
	}
	if err == nil {
		if err = cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
			err = nil // it exited 0
		} else if err != nil {
			err = fmt.Errorf("%s: %w%s", h.Program, err, lastLine(problems.String()))
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left behind
	}
	result := OK
	h.mu.Lock()
	switch {
	case err == nil:
		h.done, h.behind = status.Verdict.Answer(), time.Time{}
	case h.held || outer.Err() != nil:
		result = Interrupted
	case ctx.Err() != nil:
		result, err = TimedOut, fmt.Errorf("%s took longer than %v and was killed", h.Program, timeout)
	default:
		result = Failed
	}
	was := h.err
	h.pid = 0
	if h.runs == nil {
		h.runs = make(map[Result]int)
	}
	if h.runs[result]++; result != Interrupted {
		h.err = err
	}
	h.mu.Unlock()
	if h.Changed != nil && result != Interrupted && (err == nil) != (was == nil) {
		h.Changed(err)
	}
	return err == nil
}

var errHeld = errors.New("the daemon is being reloaded")

func (h *Hook) start(cmd *exec.Cmd) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held {
		return errHeld
	}
	err := cmd.Start()
	if err == nil {
		h.pid, h.done = cmd.Process.Pid, "" // it may do half of it
	}
	return err
}

// told is what the program is told.
func (h *Hook) told(s checker.Status) []string {
	epoch := ""
	if standing := s.Observation.Standing; len(standing.Claims) > 0 {
		epoch = strconv.FormatUint(standing.Epoch, 10)
	}
	return []string{
		"REDIS_IS_MASTER_ANSWER=" + string(s.Verdict.Answer()),
		"REDIS_IS_MASTER_REASON=" + string(s.Verdict.Reason),
		"REDIS_IS_MASTER_DETAIL=" + strings.ReplaceAll(s.Verdict.Detail, "\x00", ""),
		"REDIS_IS_MASTER_ADDRESS=" + h.Address,
		"REDIS_IS_MASTER_EPOCH=" + epoch,
	}
}

// lastLine is what the program said at last, for people.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return fmt.Sprintf(": %.200q", last)
	}
	return ""
}

// limited drops what is too much.
type limited struct{ *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, maxOutput-l.Len()))])
	return len(p), nil
}

// record is what the next program in this process goes on with.
type record struct {
	Done checker.Answer `json:"done"`
	Runs map[Result]int `json:"runs"`
}

// Hold ends the run that is under way, if there is one, and lets none begin until it is
// released. The record is for [Hook.Restore] of the next program, which repeats that run.
func (h *Hook) Hold() (state []byte, release func(), err error) {
	h.mu.Lock()
	h.held = true
	pid := h.pid
	h.mu.Unlock()
	release = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.held = false
	}
	if pid != 0 {
		syscall.Kill(-pid, syscall.SIGKILL)
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		over := h.pid == 0
		state, err = json.Marshal(record{h.done, h.runs})
		h.mu.Unlock()
		if over || err != nil {
			return state, release, err
		}
		if time.Since(begun) > 100*time.Millisecond {
			release()
			return nil, nil, fmt.Errorf("%s does not end", h.Program)
		}
	}
}

// Restore takes the record of the program before. Call it before Run.
func (h *Hook) Restore(state []byte) error {
	var r record
	if err := json.Unmarshal(state, &r); err != nil {
		return err
	}
	h.done, h.runs = r.Done, r.Runs
	return nil
}
