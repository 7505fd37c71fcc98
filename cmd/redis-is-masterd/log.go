package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/flags"
)

// background writes in a goroutine of its own, for a log whose reader hangs
// must not keep anybody from publishing a no. What does not fit is dropped.
type background struct {
	lines chan []byte
	done  chan struct{}
}

func newBackground(w io.Writer) *background {
	b := &background{lines: make(chan []byte, 1000), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for line := range b.lines {
			if line == nil {
				return
			}
			w.Write(line)
		}
	}()
	return b
}

func (b *background) Write(line []byte) (int, error) {
	select {
	case b.lines <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// flush ends it and waits a second at most for what is left.
func (b *background) flush() {
	timeout := time.After(time.Second)
	select {
	case b.lines <- nil:
	case <-timeout:
		return
	}
	select {
	case <-b.done:
	case <-timeout:
	}
}

// logPublisher logs changes of the reason, and nothing else.
type logPublisher struct {
	logger  *slog.Logger
	address string
}

func (l *logPublisher) Run(ctx context.Context, m *checker.Monitor) error {
	last := checker.Verdict{Reason: checker.ReasonStarting}
	since := time.Now()
	m.Watch(ctx, time.Hour, func(s checker.Status) {
		v := s.Verdict
		if v.Reason == last.Reason {
			return
		}
		level := slog.LevelInfo
		if v.Answer() == checker.Unknown {
			level = slog.LevelWarn
		}
		l.logger.Log(ctx, level, "answer", "redis", l.address, "from", last.Answer(), "to", v.Answer(), "reason", v.Reason, "detail", v.Detail,
			"was", last.Reason, "lasted", time.Since(since).Round(time.Millisecond), "age", s.Age.Round(time.Microsecond))
		last, since = v, time.Now()
	})
	return nil
}

// notifier tells systemd. Without NOTIFY_SOCKET it says nothing.
type notifier struct {
	m        *checker.Monitor
	address  string
	watchdog time.Duration // 0 for none
	fed      time.Time
	ready    atomic.Bool
}

func newNotifier(m *checker.Monitor, s flags.Settings) *notifier {
	interval, _ := daemon.SdWatchdogEnabled(false)
	return &notifier{m: m, address: s.Redis.Address, watchdog: interval}
}

// checked is called by the goroutine that checks, after every check: that is
// what feeds the watchdog, whatever the check has found.
func (n *notifier) checked() {
	if n.ready.CompareAndSwap(false, true) {
		daemon.SdNotify(false, daemon.SdNotifyReady)
	}
	if n.watchdog > 0 && time.Since(n.fed) >= n.watchdog/4 {
		n.fed = time.Now()
		daemon.SdNotify(false, daemon.SdNotifyWatchdog)
	}
}

// stopping is the last word but the status.
func (n *notifier) stopping() { daemon.SdNotify(false, daemon.SdNotifyStopping) }

func (n *notifier) Run(ctx context.Context, m *checker.Monitor) error {
	m.Watch(ctx, 10*time.Second, func(s checker.Status) {
		role := string(s.Observation.Role)
		if role == "" {
			role = "no role known"
		}
		daemon.SdNotify(false, "STATUS="+string(s.Verdict.Answer())+", "+n.address+" is "+role+": "+string(s.Verdict.Reason)+", known for "+s.Age.Round(time.Millisecond).String())
	})
	return nil
}
