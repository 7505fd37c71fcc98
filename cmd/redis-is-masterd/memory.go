package main

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"strings"
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
// cannot be written costs the next start a few seconds, and nothing else.
func (d *daemon) stateOutput(c *watch.Confirmer, m *checker.Monitor) output {
	if d.stateFile() == "" {
		return output{Run: idle}
	}
	now := func() state {
		status, _ := m.Status()
		return state{Guard: c.Memory(m), Switches: report.Transitions(status)}
	}
	var looked time.Time
	var latest state
	var failed atomic.Bool
	news := make(chan state, 1)
	checked := func(checker.Check) {
		if time.Since(looked) < time.Second {
			return
		}
		looked = time.Now()
		s := state{Guard: c.Memory(m), Switches: latest.Switches}
		status, _ := m.Status()
		if h := status.History; len(h) > 0 && (len(s.Switches) == 0 || !s.Switches[0].Time.Equal(h[0].Time)) {
			s.Switches = report.Transitions(status)
		}
		if reflect.DeepEqual(s, latest) && !failed.Load() {
			return
		}
		select {
		case news <- s:
			latest = s
		default: // the disk hangs
		}
	}
	write := func(s state) {
		err := s.write(d.stateFile(), d.Redis.Address)
		if was := failed.Swap(err != nil); err != nil && !was {
			d.logger.Warn("the state file cannot be written, so the next start may wait for the Sentinels", "error", err)
		}
	}
	return output{Checked: checked, Run: func(ctx context.Context, _ *checker.Monitor) error {
		for {
			select {
			case <-ctx.Done():
				write(now())
				return nil
			case s := <-news:
				write(s)
			}
		}
	}}
}
