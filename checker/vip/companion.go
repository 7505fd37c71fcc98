package vip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a companion may take to end.
const patience = 3 * time.Second

// A companion is a child process that removes the addresses when this process is killed or stops feeding it. It reads
// a pipe: a byte means that the answer was yes a moment ago, the end of the file that this process is gone.
type companion struct {
	argv    []string
	maxAge  time.Duration
	logger  *slog.Logger
	changed func()
	locks   []*os.File // inherited, so that they are held until both processes are gone

	mu    sync.Mutex
	pipe  int         // our end, -1 if there is none
	out   *os.File    // on which it says that it is ready
	child *os.Process // nil if there is none
	ready bool        // it has said that it is able to remove the addresses
	lost  time.Time   // when it stopped being ready
	begun time.Time   // when it was first started; set before run
}

// run starts the companion, and restarts it when it has ended, until ctx is done. Then it ends the companion and waits
// for that.
func (c *companion) run(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		var err error
		if c.child == nil {
			err = c.start()
		}
		if err == nil {
			err = c.attend(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		c.logger.Error("the companion process, which removes the addresses when the daemon is killed, has ended: "+
			"it is started again", "error", err)
		if time.Since(begun) < c.maxAge {
			select {
			case <-ctx.Done():
			case <-time.After(retryDelay):
			}
		}
	}
}

// start starts the companion.
func (c *companion) start() error {
	var in [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	// A small pipe is full soon if the companion hangs.
	unix.FcntlInt(uintptr(in[1]), unix.F_SETPIPE_SZ, os.Getpagesize())
	stdin := os.NewFile(uintptr(in[0]), "pipe")
	defer stdin.Close()
	cmd := exec.Command("/proc/self/exe", c.argv[1:]...)
	cmd.Args[0] = c.argv[0]
	cmd.Env = []string{} // ours may hold a password
	cmd.Stdin, cmd.Stderr = stdin, os.Stderr
	cmd.ExtraFiles = c.locks
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to our process group must not end it
	out, said, err := os.Pipe()
	if err == nil {
		cmd.Stdout = said
		err = errors.Join(cmd.Start(), said.Close())
		if err != nil {
			out.Close()
		}
	}
	if err != nil {
		unix.Close(in[1])
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pipe, c.out, c.child = in[1], out, cmd.Process
	return nil
}

// attend waits for the end of the companion, which was started or inherited.
func (c *companion) attend(ctx context.Context) error {
	child, out := c.child, c.out
	hangUp := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pipe >= 0 {
			unix.Close(c.pipe)
			c.pipe = -1
		}
	}
	defer context.AfterFunc(ctx, func() {
		hangUp()
		time.AfterFunc(patience, func() { child.Kill() }) // if it hangs
	})()
	var b [1]byte
	var err error
	if !c.ready {
		_, err = io.ReadFull(out, b[:])
	}
	if err == nil {
		c.setReady(true)
		io.Copy(io.Discard, out) // until it ends
	}
	c.setReady(false)
	hangUp()
	state, werr := child.Wait()
	if werr == nil && !state.Success() {
		werr = errors.New(state.String())
	}
	c.mu.Lock()
	c.child, c.out = nil, nil
	c.mu.Unlock()
	return errors.Join(err, werr, out.Close())
}

func (c *companion) setReady(ready bool) {
	c.mu.Lock()
	if c.ready && !ready {
		c.lost = time.Now()
	}
	c.ready = ready
	c.mu.Unlock()
	c.changed()
}

// protects reports whether an address may be held: the companion is ready, or it ended a moment ago and is being
// restarted.
func (c *companion) protects(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready || !c.lost.IsZero() && now.Sub(c.lost) <= c.maxAge
}

// starting reports whether the companion is being started for the first time.
func (c *companion) starting(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ready && c.lost.IsZero() && now.Sub(c.begun) <= c.maxAge
}

// feed tells the companion that the answer is yes. It does not wait.
func (c *companion) feed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pipe < 0 {
		return
	}
	if _, err := unix.Write(c.pipe, []byte{1}); err == unix.EAGAIN {
		c.child.Kill() // it has not read for minutes
	}
}

// Guard is the main function of the companion process. It removes the addresses when nothing comes on stdin for maxAge.
// When stdin ends, it removes them and returns. It writes one byte to ready when it is able to.
func Guard(stdin io.Reader, ready io.Writer, interfaceName string, addresses []netip.Prefix, maxAge time.Duration,
	logger *slog.Logger) error {
	// It ends after the daemon, and by nothing else.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	k, err := openKernel(interfaceName)
	if err != nil {
		return err
	}
	defer k.close()
	l, _ := k.link() // an interface that is renamed keeps its index
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		buf := make([]byte, 4096)
		for {
			if _, err := stdin.Read(buf); err != nil {
				return
			}
			fed <- struct{}{}
		}
	}()
	ready.Write([]byte{1}) // nobody can have closed it but the daemon at its end, and then stdin has ended as well
	starved := time.NewTimer(maxAge)
	defer starved.Stop()
	last, late := time.Now(), false
	for {
		select {
		case _, open := <-fed:
			if open {
				starved.Reset(maxAge)
				last, late = time.Now(), false
				continue
			}
			removed, killed, err := k.clear(l.index, addresses, true)
			logRemoval(logger, "the daemon is gone", removed, killed, err)
			return err
		case <-starved.C:
			if !late && time.Since(last) > maxAge+readdDelay {
				late = true // it was this process that did not run: what came meanwhile is still to be read
				starved.Reset(readdDelay)
				continue
			}
			removed, killed, err := k.clear(l.index, addresses, false)
			logRemoval(logger, fmt.Sprintf("the daemon has not said yes for %v", maxAge), removed, killed, err)
			if err != nil {
				starved.Reset(readdDelay)
			}
		}
	}
}

func logRemoval(logger *slog.Logger, why string, removed []netip.Prefix, killed int, err error) {
	if err != nil {
		logger.Error("companion: "+why+": cannot remove the addresses", "error", err)
	}
	if len(removed) > 0 {
		logger.Warn("companion: "+why+": the addresses are removed", "addresses", removed, "connections", killed)
	}
}

// Remove removes the addresses from the interface and ends their connections, after a daemon that could not do so.
func Remove(interfaceName string, addresses []netip.Prefix) error {
	k, err := openKernel(interfaceName)
	if err != nil {
		return err
	}
	defer k.close()
	_, _, err = k.clear(0, addresses, true)
	return err
}

// clear drops the addresses from the interface of the kernel's name, and from that of an index, and returns those that
// it removed and how many of their connections it ended. If insist is set, it tries again for two seconds. An interface
// that does not exist has no addresses.
func (k *kernel) clear(index int, addresses []netip.Prefix, insist bool) (
	removed []netip.Prefix, killed int, err error) {
	for try := range 100 {
		err = nil
		indexes := []int{index}
		if l, lerr := k.link(); lerr == nil && l.index != index {
			indexes = append(indexes, l.index)
		}
		for _, i := range indexes {
			for _, d := range k.drop(i, addresses...) {
				removed, killed, err = append(removed, d.found...), killed+d.killed, errors.Join(err, d.err)
			}
		}
		if err == nil || !insist || try == 99 {
			break
		}
		time.Sleep(readdDelay)
	}
	return removed, killed, err
}
