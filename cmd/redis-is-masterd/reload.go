package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
	"redis-is-master/cmd/internal/flags"
)

// A successor is the program that goes on in this process after a reload.
type successor struct {
	path    string // where the newest binary is
	argv    []string
	environ []string
}

// newSuccessor finds out how this process was started.
func newSuccessor(argv, environ []string) successor {
	path := argv[0]
	if !strings.Contains(path, "/") {
		if found, err := exec.LookPath(path); err == nil {
			path = found
		}
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	if _, err := os.Stat(path); err != nil { // argv[0] is whatever the caller has put there
		if found, err := os.Executable(); err == nil {
			path = strings.TrimSuffix(found, " (deleted)")
		}
	}
	// The sockets of systemd are handed over, or closed.
	environ = without(environ, handoverVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
	return successor{path, argv, environ}
}

// checkTime is how long the successor may take to check its arguments.
const checkTime = 10 * time.Second

// check runs the successor once with --check. It returns what that can read of a hand-over. An error means that it
// cannot start, or refuses the arguments.
func (s successor) check(ctx context.Context) (shape string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.path, append(s.argv[1:len(s.argv):len(s.argv)], "--check")...)
	cmd.Args[0] = s.argv[0]
	cmd.Env = append(s.environ[:len(s.environ):len(s.environ)], handoverVariable+"="+askHandover)
	cmd.WaitDelay = time.Second
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{Buffer: &out}, &limited{Buffer: &problems}
	if err := cmd.Run(); err != nil {
		if text := strings.Join(strings.Fields(problems.String()), " "); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return "", err
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "hand-over ") {
			shape = strings.TrimSpace(line)
		}
	}
	return shape, nil
}

// A limited buffer drops what is too much for a line of the log.
type limited struct{ *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, 4096-l.Len()))])
	return len(p), nil
}

// exec replaces this program by the successor, which inherits the files. It returns only with an error.
func (s successor) exec(document *os.File, files handover.Files) error {
	environ, inherited := s.environ, []int{}
	if document != nil {
		fd := int(document.Fd())
		environ = append(environ[:len(environ):len(environ)], handoverVariable+"="+strconv.Itoa(fd))
		inherited = append(inherited, fd)
	}
	for _, fd := range files {
		inherited = append(inherited, fd)
	}
	syscall.ForkLock.Lock() // no child may inherit them
	defer syscall.ForkLock.Unlock()
	for _, fd := range inherited {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	err := os.NewSyscallError("exec", syscall.Exec(s.path, s.argv, environ))
	for _, fd := range inherited {
		unix.CloseOnExec(fd)
	}
	return err
}

// A reloader replaces the program when that is asked for.
type reloader struct {
	*daemon
	successor
	monitor   *checker.Monitor
	confirmer *watch.Confirmer
	outputs   []output
	systemd   *notifier
	reconnect func() // makes new connections without a new program

	wanted chan struct{}       // a reload is asked for
	stop   chan struct{}       // a request for the goroutine that reads the signals to wait for the outcome
	went   chan bool           // the outcome: whether the daemon has to end
	end    chan struct{}       // closed when the daemon has to end, for a successor that cannot go on where it was
	due    atomic.Pointer[due] // what is to be done after the next check
}

// A due hand-over is made after a check.
type due struct {
	files handover.Files
	done  chan error
}

func (d *daemon) reloader(m *checker.Monitor, c *watch.Confirmer, outputs []output, n *notifier) *reloader {
	return &reloader{daemon: d, successor: d.successor, monitor: m, confirmer: c, outputs: outputs, systemd: n,
		wanted: make(chan struct{}, 1), stop: make(chan struct{}), went: make(chan bool),
		end: make(chan struct{})}
}

// ask asks for a reload. It does not wait.
func (r *reloader) ask() {
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// run reloads whenever that is asked for, until ctx is done.
func (r *reloader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wanted:
		}
		r.systemd.reloading()
		if err := r.reload(ctx); err != nil && ctx.Err() == nil {
			r.logger.Error("the reload has failed, and this program goes on", "version", flags.Version(), "error", err)
		}
		r.systemd.reloaded()
	}
}

// attempts is how often a hand-over is tried, for it cannot be while the companion of --vip is being started, say.
const attempts = 20

// reload returns with an error, or without one if the program needs not be replaced.
func (r *reloader) reload(ctx context.Context) error {
	if r.passwordFromStdin {
		r.logger.Info("reconnecting, with fresh certificates; standard input has given its password and cannot again, so " +
			"the program is not replaced")
		r.reconnect()
		return nil
	}
	r.logger.Info("reloading, with fresh credentials and certificates", "program", r.path)
	shape, err := r.check(ctx)
	if err != nil {
		return fmt.Errorf("%s --check: %w", r.path, err)
	}
	if shape != handoverShape() {
		r.logger.Warn("the new program cannot go on where this one is, so this is a restart", "program", r.path)
		close(r.end)
		<-ctx.Done()
		return nil
	}
	for range attempts {
		if err = r.handOver(ctx); ctx.Err() != nil {
			return nil
		}
		var refused execError
		if errors.As(err, &refused) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return err
}

// An execError is one of the exec itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// handOver replaces the program. It returns only if that has failed.
func (r *reloader) handOver(ctx context.Context) error {
	if why := impaired(r.outputs); why != "" {
		return errors.New(why)
	}
	d := &due{files: make(handover.Files), done: make(chan error, 1)}
	renewed := r.monitor.Renew()
	for begun := time.Now(); !renewed() && time.Since(begun) < r.Timeout; {
		time.Sleep(time.Millisecond)
	}
	release, err := r.drainAll(d.files)
	defer release()
	if err != nil {
		return err
	}
	r.due.Store(d)
	defer r.due.Store(nil)
	r.monitor.Wake()
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.done:
		return err
	case <-time.After(r.Timeout + r.maxAge):
		if !r.due.CompareAndSwap(d, nil) { // it has begun
			return <-d.done
		}
		return errors.New("no check ends")
	}
}

// drainAll has all outputs accept nobody until they are released.
func (r *reloader) drainAll(files handover.Files) (release func(), err error) {
	var mu sync.Mutex
	var releases []func()
	var draining sync.WaitGroup
	for _, o := range r.outputs {
		if o.Drain == nil {
			continue
		}
		draining.Go(func() {
			own := make(handover.Files)
			release, oerr := o.Drain(own)
			mu.Lock()
			defer mu.Unlock()
			if err = errors.Join(err, oerr); release != nil {
				releases = append(releases, release)
			}
			for name, fd := range own {
				files[name] = fd
			}
		})
	}
	draining.Wait()
	return func() {
		for _, f := range releases {
			f()
		}
	}, err
}

// checked is called after every check, by the goroutine of the Monitor: no question is under way.
func (r *reloader) checked() {
	if d := r.due.Swap(nil); d != nil {
		d.done <- r.replace(d.files)
	}
}

// replace returns only with an error.
func (r *reloader) replace(files handover.Files) error {
	select {
	case r.stop <- struct{}{}:
	case <-time.After(time.Second):
		return errors.New("the daemon ends")
	}
	ends := false
	defer func() { r.went <- ends }()

	h := &handing{document: document{Version: handoverVersion, Shape: handoverShape(), Process: os.Getpid(),
		Boot: bootID(), Node: r.Redis.Address, Files: files, Records: make(map[string]record)}}
	defer h.release()
	// What happens from here on is for the successor to find out.
	h.releases = append(h.releases, r.monitor.Hold())
	h.at, h.Taken = time.Now(), sinceBoot()
	for _, o := range r.outputs {
		if o.Hold == nil {
			continue
		}
		if err := o.Hold(h); err != nil {
			return err
		}
	}
	if err := r.record(h); err != nil {
		return err
	}
	document, err := h.write()
	if err != nil {
		return err
	}
	defer document.Close()
	r.flush()
	// Ignored from here until the successor listens: the default would end the process.
	signal.Ignore(syscall.SIGHUP)
	signal.Stop(r.signals)
	defer signal.Notify(r.signals, handledSignals...)
	if ends = r.told(); ends {
		return errors.New("the daemon ends")
	}
	return execError{r.exec(document, h.Files)}
}

// record adds the records of the daemon itself.
func (r *reloader) record(h *handing) error {
	for name, of := range map[string]func(time.Time) ([]byte, error){
		monitorRecord: r.monitor.Record, guardRecord: r.confirmer.Guard.Record, selfRecord: r.Self.Record,
		redisRecord: r.Redis.Record,
	} {
		record, err := of(h.at)
		if err != nil {
			return err
		}
		h.Records[name] = record
	}
	if r.confirmer.Watcher != nil {
		for address, name := range r.confirmer.Watcher.Known() {
			h.Sentinels = append(h.Sentinels, sentinel.Watched{Address: address, Name: name})
		}
	}
	if r.sockDiag != nil {
		return h.Files.Add(sockDiagFile, r.sockDiag)
	}
	return nil
}

// A handing is a hand-over in the making.
type handing struct {
	document
	at       time.Time
	releases []func()
}

func (h *handing) release() {
	for i := len(h.releases) - 1; i >= 0; i-- {
		h.releases[i]()
	}
}

// held adds a record, and what lets the holder go on if the program is not replaced.
func (h *handing) held(name string, record []byte, release func(), err error) error {
	if err == nil {
		h.releases = append(h.releases, release)
		h.Records[name] = record
	}
	return err
}

// lock waits a moment for a file that is being written, and keeps it from being written again.
func (h *handing) lock(writing *sync.Mutex, path string) error {
	for begun := time.Now(); !writing.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 100*time.Millisecond {
			return errors.New(path + " is being written for long: the disk hangs")
		}
	}
	h.releases = append(h.releases, writing.Unlock)
	return nil
}

// resume gives the daemon what the program before has handed over. The status comes last: without the rest it must not
// be believed.
func (in *inheritance) resume(d *daemon, c *watch.Confirmer, m *checker.Monitor) error {
	if in.Node != d.Redis.Address {
		return errors.New("it is of another node")
	}
	for _, part := range []struct {
		name    string
		restore func(time.Time, []byte) error
	}{
		{redisRecord, d.Redis.Restore}, {selfRecord, d.Self.Restore}, {guardRecord, c.Guard.Restore},
		{monitorRecord, m.Restore},
	} {
		if err := part.restore(in.at, in.Records[part.name]); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	for _, s := range in.Sentinels {
		if c.Watcher != nil {
			c.Watcher.Know(s.Address, s.Name)
		}
	}
	return nil
}

// fromStdin reports whether a password was read from standard input, which gives it once.
func fromStdin(fs *pflag.FlagSet) (found bool) {
	fs.Visit(func(f *pflag.Flag) {
		found = found || strings.HasSuffix(f.Name, "password-file") && f.Value.String() == "-"
	})
	return found
}
