package lab

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program on a [Host] that can be started again and again.
type Process struct {
	Name string
	Argv []string
	Log  string // file of the host with what it writes

	host *Host
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

func newProcess(h *Host, argv ...string) *Process {
	name := filepath.Base(argv[0])
	return &Process{Name: h.Name + " " + name, Argv: argv, Log: "/run/" + name + ".log", host: h}
}

// Start starts it, with more arguments for this time, and does not wait. It
// does nothing if it runs.
func (p *Process) Start(more ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return nil
	}
	log, err := os.OpenFile(p.host.Path(p.Log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Argv[0], append(slices.Clone(p.Argv[1:]), more...)...)
	cmd.Dir = filepath.Dir(p.Log)
	cmd.Stdout, cmd.Stderr = log, log
	// It ends with the thread of the namespace, and so with this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.host.Do(cmd.Start); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		cmd.Wait()
		close(done)
	}()
	return nil
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pid is the process that was started last.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Running reports whether it was started and has not ended.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// Signal sends it a signal; none if it does not run.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return nil
	}
	return p.cmd.Process.Signal(s)
}

// Kill ends it at once, as a crash would, and waits until what it had started
// has ended, too.
func (p *Process) Kill() {
	children := p.Children()
	p.Signal(syscall.SIGKILL)
	p.wait(Patience)
	WaitFor(3*time.Second, "the children have ended", func() (bool, error) {
		return !slices.ContainsFunc(children, func(pid int) bool { return syscall.Kill(pid, 0) == nil }), nil
	})
}

// Vanish ends it and what it has started, as a power cut would.
func (p *Process) Vanish() {
	for _, pid := range p.Children() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	p.Kill()
}

// Children are the processes that it has started.
//
// Format: /proc/PID/task/TID/children, PIDs with blanks between; proc(5).
func (p *Process) Children() (all []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return nil
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, path := range threads {
		b, _ := os.ReadFile(path)
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}

// Stop ends it as an operator would, by SIGTERM, and by SIGKILL if that does
// not help within a few seconds.
func (p *Process) Stop() {
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	p.wait(3 * time.Second)
	p.Kill()
}

func (p *Process) wait(atMost time.Duration) {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(atMost):
	}
}

// Tail is the end of its log.
func (p *Process) Tail(lines int) string {
	b, _ := os.ReadFile(p.host.Path(p.Log))
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Start starts a command that ends with this process: by SIGKILL, unless its
// Pdeathsig is set. The kernel sends that signal when the thread ends that
// started the command, so that no such thread may become one of [mortal].
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = cmp.Or(cmd.SysProcAttr.Pdeathsig, syscall.SIGKILL)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	parents.Store(syscall.Gettid(), true)
	return cmd.Start()
}

var parents sync.Map // the threads that have started a command, by their ids

// mortal runs f on a thread of its own, which ends with f, and returns at once.
func mortal(f func()) {
	go func() {
		runtime.LockOSThread()
		if _, parent := parents.Load(syscall.Gettid()); !parent {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		found := make(chan bool)
		mortal(func() { close(found); f() }) // this thread is taken until then
		<-found
	}()
}
