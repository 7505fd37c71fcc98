package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"redis-is-master/checker"
)

// A background writer has a goroutine of its own: a log whose reader hangs must
// not keep an output from publishing a no. What does not fit is dropped.
type background struct {
	lines   chan []byte
	done    chan struct{}
	pending atomic.Int64 // lines that are not written yet
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
			b.pending.Add(-1)
		}
	}()
	return b
}

// wait waits for what is to be written, a moment at most.
func (b *background) wait() {
	for until := time.Now().Add(50 * time.Millisecond); b.pending.Load() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

func (b *background) Write(line []byte) (int, error) {
	b.pending.Add(1)
	select {
	case b.lines <- bytes.Clone(line):
	default:
		b.pending.Add(-1)
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

// isJournal reports whether w is the stream by which systemd connects standard
// error to the journal.
func isJournal(w io.Writer, getenv func(string) string) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var stat syscall.Stat_t
	err := syscall.Fstat(int(f.Fd()), &stat)
	return err == nil && getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// newLogger logs to w: for the journal without the time, which it knows, and
// with the priority in front.
//
// Format: https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html
func newLogger(w io.Writer, format string, journal bool) *slog.Logger {
	var line bytes.Buffer
	out, options := w, &slog.HandlerOptions{}
	if journal {
		out = &line
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	var h slog.Handler = slog.NewTextHandler(out, options)
	if format == "json" {
		h = slog.NewJSONHandler(out, options)
	}
	if journal {
		h = &journalHandler{Handler: h, line: &line, mu: new(sync.Mutex), w: w}
	}
	return slog.New(h)
}

// A journalHandler puts the priority before each line of its Handler, which
// writes to line.
type journalHandler struct {
	slog.Handler
	mu   *sync.Mutex // held while line is in use
	line *bytes.Buffer
	w    io.Writer
}

// Handle writes r as one line.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	h.line.WriteString(priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.w.Write(h.line.Bytes())
	return err
}

// WithAttrs returns a handler that shares the line.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.mu, h.line, h.w}
}

// WithGroup returns a handler that shares the line.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.mu, h.line, h.w}
}

// priority is the prefix of a line for the journal.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// logOutput logs changes of the reason, and nothing else. What the answer is before m runs
// has been logged, if there is one: by the program before.
func logOutput(logger *slog.Logger, address string, m *checker.Monitor) output {
	status, _ := m.Status()
	last, since := checker.Verdict{Reason: checker.ReasonStarting}, time.Now()
	if !status.Check.Time.IsZero() {
		last, since = status.Verdict, status.Since
	}
	return output{Run: func(ctx context.Context, _ *checker.Monitor) error {
		m.Watch(ctx, time.Hour, func(s checker.Status) {
			v := s.Verdict
			if v.Reason == last.Reason {
				return
			}
			level := slog.LevelInfo
			if v.Answer() == checker.Unknown {
				level = slog.LevelWarn
			}
			logger.Log(ctx, level, "answer", "redis", address, "from", last.Answer(), "to", v.Answer(), "reason", v.Reason,
				"detail", v.Detail, "was", last.Reason, "lasted", time.Since(since).Round(time.Millisecond),
				"age", s.Age.Round(time.Microsecond))
			last, since = v, time.Now()
		})
		return nil
	}}
}
