package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
)

// A notifier tells systemd. Without NOTIFY_SOCKET it says nothing.
type notifier struct {
	address  string
	watchdog time.Duration // 0 for none
	fed      time.Time
	ready    atomic.Bool
}

func newNotifier(address string) *notifier {
	interval, _ := sd.SdWatchdogEnabled(false)
	return &notifier{address: address, watchdog: interval}
}

func (n *notifier) output() output { return output{Run: n.status, Checked: n.checked} }

// checked feeds the watchdog, whatever the check found: the goroutine that
// checks is alive.
func (n *notifier) checked(checker.Check) {
	if !n.ready.Load() && notify(sd.SdNotifyReady) == nil {
		n.ready.Store(true)
	}
	if n.watchdog > 0 && time.Since(n.fed) >= n.watchdog/4 && notify(sd.SdNotifyWatchdog) == nil {
		n.fed = time.Now()
	}
}

// notifyTime is how long a message to systemd may take: where its socket is full,
// a check must not wait for it.
const notifyTime = 10 * time.Millisecond

// notify sends a message to systemd, where it listens. Unlike that of go-systemd it
// never waits for long.
func notify(message string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(notifyTime))
	_, err = c.Write([]byte(message))
	return err
}

// reloading tells that the program is about to be replaced: whoever reads it waits for
// a READY=1.
func (n *notifier) reloading() {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // a kernel without it is none
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, t.Nano()/1000))
}

// reloaded tells that the program was not replaced, or has no need to be.
func (n *notifier) reloaded() { n.ready.Store(notify(sd.SdNotifyReady) == nil) }

// stopping is the last message but the status.
func (n *notifier) stopping() { notify(sd.SdNotifyStopping) }

func (n *notifier) status(ctx context.Context, m *checker.Monitor) error {
	m.Watch(ctx, 10*time.Second, func(s checker.Status) {
		text := string(s.Verdict.Answer()) + ", " + n.address
		if role := s.Observation.Role; role != "" {
			text += " is " + string(role)
		}
		since := s.Since.Local().Format(time.DateTime)
		notify("STATUS=" + text + ": " + string(s.Verdict.Reason) + ", since " + since)
	})
	return nil
}

// idle is the Run of an output that only counts checks.
func idle(ctx context.Context, _ *checker.Monitor) error {
	<-ctx.Done()
	return nil
}

// sockDiagFile is the name of what is handed over.
const sockDiagFile = "sock-diag"

// inheritSockDiag takes what redis-is-masterd.socket passes, so that the owner of
// Redis's port can be told under PrivateUsers=. After a reload the program before has
// handed it over.
func (d *daemon) inheritSockDiag() error {
	if d.inherited != nil {
		f, err := d.inherited.Files.TakeFile(sockDiagFile)
		if err != nil { // there was none
			return nil
		}
		return d.useSockDiag(f)
	}
	for _, f := range activation.Files(true) {
		if f.Name() != sockDiagFile {
			f.Close()
			continue
		}
		if err := d.useSockDiag(f); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) useSockDiag(f *os.File) error {
	if err := checker.InheritSockDiag(f); err != nil {
		f.Close()
		return err
	}
	d.sockDiag = f
	return nil
}
