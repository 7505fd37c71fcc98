package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/checker/report"
)

// A Daemon is a running redis-is-masterd. Its outputs are in Dir.
type Daemon struct {
	Dir, Socket, TrackFile string
	Host                   *Namespace // where it runs; nil for where this process does

	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  bytes.Buffer
}

// StartDaemon starts the built command bin for r, with a socket and a track
// file in a temporary directory that is on a tmpfs where there is one. It
// returns when the daemon has finished its first check.
func StartDaemon(bin string, r *Redis, args ...string) (*Daemon, error) {
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "masterd-")
	if err != nil {
		return nil, err
	}
	d := &Daemon{Dir: dir, Socket: filepath.Join(dir, "check.sock"), TrackFile: filepath.Join(dir, "master")}
	if err := d.Start(bin, r, args...); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return d, d.Until("a first check is done",
		func(doc report.Document) bool { return doc.Reason != checker.ReasonStarting })
}

// Start starts it again, after [Daemon.Kill], and does not wait.
func (d *Daemon) Start(bin string, r *Redis, args ...string) error {
	args = append([]string{"--socket", d.Socket, "--track-file", d.TrackFile}, args...)
	if r.Port != 0 {
		args = append(args, "-p", fmt.Sprint(r.Port))
	} else {
		args = append(args, "-s", r.Socket)
	}
	d.cmd = exec.Command(bin, args...)
	d.cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+r.Password)
	d.cmd.Stderr, d.cmd.Stdout = d, d
	d.done = make(chan struct{})
	start := func() error { return Start(d.cmd) }
	if d.Host != nil {
		d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		start = func() error { return d.Host.Do(d.cmd.Start) }
	}
	if err := start(); err != nil {
		return err
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		close(done)
	}(d.cmd, d.done)
	return nil
}

func (d *Daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(p)
}

// Log is what it has logged.
func (d *Daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// Pid is its process.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Signal sends it a signal.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// Wait waits for its end and returns its exit code.
func (d *Daemon) Wait() int {
	<-d.done
	return d.cmd.ProcessState.ExitCode()
}

// Kill ends it at once and leaves its files.
func (d *Daemon) Kill() {
	d.cmd.Process.Kill()
	<-d.done
}

// Close ends it and removes its files.
func (d *Daemon) Close() {
	d.Kill()
	os.RemoveAll(d.Dir)
}

// Document asks it for what it knows. A busy host takes its time.
func (d *Daemon) Document() (doc report.Document, err error) {
	return cached.Ask(d.Socket, 5*time.Second, "")
}

// Until waits until what it knows is as wanted.
func (d *Daemon) Until(what string, wanted func(report.Document) bool) error {
	var last report.Document
	err := Wait(what, func() (bool, error) {
		select {
		case <-d.done:
			return false, fmt.Errorf("redis-is-masterd ended: %s", d.Log())
		default:
		}
		doc, err := d.Document()
		last = doc
		return err == nil && wanted(doc), nil
	})
	if err != nil {
		return fmt.Errorf("%w\nlast: %s\nlog: %s", err, last.JSON(), d.Log())
	}
	return nil
}

// Says waits until its reason is one.
func (d *Daemon) Says(reason checker.Reason) error {
	return d.Until("the daemon says "+string(reason), func(doc report.Document) bool { return doc.Reason == reason })
}

// Track is the content of its track file, without the newline.
func (d *Daemon) Track() string {
	b, _ := os.ReadFile(d.TrackFile)
	return strings.TrimSpace(string(b))
}

// Tracks waits until the track file holds a value.
func (d *Daemon) Tracks(value string) error {
	return Wait("the track file holds "+value, func() (bool, error) { return d.Track() == value, nil })
}
