package main

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel/watch"
)

// stateFile is beside the unix socket; empty if there is none.
func (d *daemon) stateFile() string {
	if d.socket == "" {
		return ""
	}
	return strings.TrimSuffix(d.socket, ".sock") + ".state"
}

// recall reads what an earlier daemon remembered. It must be called after the
// unix socket's lock is held.
func (d *daemon) recall(c *watch.Confirmer, m *checker.Monitor) {
	if d.stateFile() == "" {
		return
	}
	s, err := readState(d.stateFile(), d.Redis.Address)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.logger.Info("the state file is ignored", "file", d.stateFile(), "why", err)
		}
		return
	}
	m.Past = s.history()
	c.Guard.Recall(s.Guard)
	for _, s := range s.Guard.Sentinels {
		if c.Watcher != nil {
			c.Watcher.Know(s.Address, s.Name)
		}
	}
}

// stateOutput keeps the state file, within a second of what it is about. That it
// cannot be written costs the next start a few seconds, and nothing else. Remember
// writes it at once, and returns when that is done.
func (d *daemon) stateOutput(c *watch.Confirmer, m *checker.Monitor) (o output, remember func()) {
	if d.stateFile() == "" {
		return output{Run: idle}, func() {}
	}
	var looked time.Time
	var latest state
	var failed atomic.Bool
	var writing sync.Mutex // so that the newest state is written last
	news := make(chan struct{}, 1)
	checked := func(checker.Check) {
		if time.Since(looked) < time.Second {
			return
		}
		looked = time.Now()
		status, _ := m.Status()
		s := state{Guard: c.Memory(m), RunID: status.Observation.RunID, Switches: latest.Switches}
		if h := status.History; len(h) > 0 && (len(s.Switches) == 0 || !s.Switches[0].Time.Equal(h[0].Time)) {
			s.Switches = report.Transitions(status)
		}
		if reflect.DeepEqual(s, latest) && !failed.Load() {
			return
		}
		select {
		case news <- struct{}{}:
			latest = s
		default: // the disk hangs
		}
	}
	var serial, written int // the first one under the Monitor's lock, the second one under writing
	write := func() {
		var s state
		var mine int
		m.Update(func(time.Time) (u checker.Update) {
			serial++
			s.Guard, mine = c.Guard.Memory(), serial
			return u
		})
		status, _ := m.Status()
		s.RunID, s.Switches = status.Observation.RunID, report.Transitions(status)
		writing.Lock()
		defer writing.Unlock()
		if mine < written {
			return
		}
		written = mine
		err := s.write(d.stateFile(), d.Redis.Address)
		if was := failed.Swap(err != nil); err != nil && !was {
			d.logger.Warn("the state file cannot be written, so the next start may wait for the Sentinels", "error", err)
		}
	}
	hold := func(h *handing) error { return h.lock(&writing, d.stateFile()) }
	return output{Checked: checked, Hold: hold, Run: func(ctx context.Context, _ *checker.Monitor) error {
		for {
			select {
			case <-ctx.Done():
				write()
				return nil
			case <-news:
				write()
			}
		}
	}}, write
}
