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

// A companion is a process that removes the addresses when this one is killed
// or stops feeding it. It holds the other end of a pipe: a byte means that the
// answer was yes a moment ago, the end of the file that this process is gone.
type companion struct {
	argv    []string
	maxAge  time.Duration
	logger  *slog.Logger
	changed func()

	mu    sync.Mutex
	pipe  int       // our end, -1 if there is none
	ready bool      // it has said that it would act
	lost  time.Time // when it was ready last, and is no more
	begun time.Time // when it was started first; set before run
	kill  func()
}

// run starts it, and again when it has ended, until ctx is done; then it ends
// it and waits for that.
func (c *companion) run(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		c.logger.Error("the companion process, which removes the addresses when this one is killed, has ended: it is started again", "error", err)
		if time.Since(begun) < c.maxAge {
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
		}
	}
}

// once runs it until it ends.
func (c *companion) once(ctx context.Context) error {
	var in [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	// Small, so that it is full soon if the companion hangs.
	unix.FcntlInt(uintptr(in[1]), unix.F_SETPIPE_SZ, os.Getpagesize())
	stdin := os.NewFile(uintptr(in[0]), "pipe")
	cmd := exec.Command("/proc/self/exe", c.argv[1:]...)
	cmd.Args[0] = c.argv[0]
	cmd.Env = []string{} // there may be a password in ours
	cmd.Stdin, cmd.Stderr = stdin, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what ends our group must not end it
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	stdin.Close()
	if err != nil {
		unix.Close(in[1])
		return err
	}
	c.mu.Lock()
	c.pipe, c.kill = in[1], func() { cmd.Process.Kill() }
	c.mu.Unlock()
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
		time.AfterFunc(patience, c.kill) // if it hangs
	})()
	var b [1]byte
	if _, err = io.ReadFull(out, b[:]); err == nil {
		c.set(true)
		io.Copy(io.Discard, out) // until it ends
	}
	c.set(false)
	hangUp()
	return errors.Join(err, cmd.Wait())
}

func (c *companion) set(ready bool) {
	c.mu.Lock()
	if c.ready && !ready {
		c.lost = time.Now()
	}
	c.ready = ready
	c.mu.Unlock()
	c.changed()
}

// guards reports whether an address may be held: it is there, or was a moment
// ago and is being started again.
func (c *companion) guards(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready || !c.lost.IsZero() && now.Sub(c.lost) <= c.maxAge
}

// starting reports whether it is being started for the first time.
func (c *companion) starting(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ready && c.lost.IsZero() && now.Sub(c.begun) <= c.maxAge
}

// feed says that the answer is yes. It does not wait.
func (c *companion) feed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pipe < 0 {
		return
	}
	if _, err := unix.Write(c.pipe, []byte{1}); err == unix.EAGAIN {
		c.kill() // it has not read for minutes
	}
}

// Guard is what the companion process does: it removes the addresses when
// nothing comes on stdin for maxAge, and returns, having removed them, when
// stdin ends. It writes one byte when it is ready.
func Guard(stdin io.Reader, ready io.Writer, interfaceName string, addresses []netip.Prefix, maxAge time.Duration, logger *slog.Logger) error {
	// It ends when the daemon does, and not before.
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
	ready.Write([]byte{1}) // if nobody reads it, stdin has ended as well
	starved := time.NewTimer(maxAge)
	defer starved.Stop()
	for {
		select {
		case _, open := <-fed:
			if open {
				starved.Reset(maxAge)
				continue
			}
			removed, err := k.clear(l.index, addresses, true)
			tell(logger, "the daemon is gone", removed, err)
			return err
		case <-starved.C:
			removed, err := k.clear(l.index, addresses, false)
			tell(logger, fmt.Sprintf("the daemon has not said yes for %v", maxAge), removed, err)
			if err != nil {
				starved.Reset(fight)
			}
		}
	}
}

func tell(logger *slog.Logger, why string, removed []netip.Prefix, err error) {
	if err != nil {
		logger.Error("companion: "+why+": cannot remove the addresses", "error", err)
	}
	if len(removed) > 0 {
		logger.Warn("companion: "+why+": the addresses are removed", "addresses", removed)
	}
}

// Remove removes the addresses from the interface, for whoever cleans up
// after a daemon.
func Remove(interfaceName string, addresses []netip.Prefix) error {
	k, err := openKernel(interfaceName)
	if err != nil {
		return err
	}
	defer k.close()
	_, err = k.clear(0, addresses, true)
	return err
}

// clear removes the addresses from the interface of the kernel's name, and
// from that of an index, and returns those that were there. An interface that
// does not exist has none.
func (k *kernel) clear(index int, addresses []netip.Prefix, insist bool) (removed []netip.Prefix, err error) {
	for try := range 100 {
		err = nil
		indexes := []int{index}
		if l, lerr := k.link(); lerr == nil && l.index != index {
			indexes = append(indexes, l.index)
		}
		for _, i := range indexes {
			for _, p := range addresses {
				was, rerr := k.removeAll(i, p)
				removed, err = append(removed, was...), errors.Join(err, rerr)
			}
		}
		if err == nil || !insist || try == 99 {
			break
		}
		time.Sleep(fight)
	}
	return removed, err
}

// removeAll removes an address, whatever length somebody has added it with,
// and returns what was there.
func (k *kernel) removeAll(index int, p netip.Prefix) (removed []netip.Prefix, err error) {
	if index == 0 {
		return nil, nil
	}
	gone, err := k.remove(index, p)
	if gone {
		removed = append(removed, p)
	}
	found, lerr := k.list(index)
	err = errors.Join(err, lerr)
	for _, other := range found {
		if other.Addr() == p.Addr() {
			gone, rerr := k.remove(index, other)
			if err = errors.Join(err, rerr); gone {
				removed = append(removed, other)
			}
		}
	}
	return removed, err
}
