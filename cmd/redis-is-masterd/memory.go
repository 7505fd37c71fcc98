package main

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
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
func (d *daemon) recall(c *watch.Confirmer) {
	if d.stateFile() == "" {
		return
	}
	memory, err := sentinel.ReadMemory(d.stateFile(), d.Redis.Address)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.logger.Info("the state file is ignored", "file", d.stateFile(), "why", err)
		}
		return
	}
	c.Guard.Recall(memory)
	for _, s := range memory.Sentinels {
		if c.Watcher != nil {
			c.Watcher.Know(s.Address, s.Name)
		}
	}
}

// memoryOutput keeps the state file. That it cannot be written costs the next
// start a few seconds, and nothing else.
func (d *daemon) memoryOutput(c *watch.Confirmer) output {
	return output{Run: func(ctx context.Context, m *checker.Monitor) error {
		var written sentinel.Memory
		var failed bool
		m.Watch(ctx, time.Second, func(checker.Status) {
			memory := c.Memory(m)
			if d.stateFile() == "" || len(memory.Settled) == 0 || reflect.DeepEqual(memory, written) {
				return
			}
			err := sentinel.WriteMemory(d.stateFile(), d.Redis.Address, memory)
			if err != nil && !failed {
				d.logger.Warn("the state file cannot be written, so the next start may wait for the Sentinels", "error", err)
			}
			if failed = err != nil; !failed {
				written = memory
			}
		})
		return nil
	}}
}
