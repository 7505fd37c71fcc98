package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel"
)

// A state is what a daemon leaves to the next one of the same node. Nothing of it
// makes an answer.
type state struct {
	Version  int                 `json:"version"`
	Boot     string              `json:"boot"`    // of the host: epochs of an earlier boot say nothing
	Node     string              `json:"node"`    // the address that is watched
	Written  time.Duration       `json:"written"` // since the boot, suspensions counted
	RunID    string              `json:"run_id"`  // of the node, when it last answered
	Guard    sentinel.Memory     `json:"guard"`
	Switches []report.Transition `json:"history"` // of the reason, the newest first
}

const (
	stateVersion = 2
	maxState     = 256 << 10
	maxSwitches  = 32
)

// readState reads the state file of a node. A file that is missing, spoilt, of
// another boot or another node is an error, and means that nothing is known.
func readState(path, node string) (s state, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, errors.New("it is spoilt")
	}
	switch {
	case s.Version != stateVersion:
		return state{}, fmt.Errorf("it is of version %d, not %d", s.Version, stateVersion)
	case s.Boot == "" || s.Boot != bootID():
		return state{}, errors.New("it is of another boot")
	case s.Node != node:
		return state{}, errors.New("it is of another node")
	case s.Written > sinceBoot():
		return state{}, errors.New("it is of the future")
	}
	s.Switches = s.Switches[:min(len(s.Switches), maxSwitches)]
	return s, nil
}

// write replaces the state file of a node.
func (s state) write(path, node string) error {
	s.Version, s.Boot, s.Node, s.Written = stateVersion, bootID(), node, sinceBoot()
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".state-") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// history is the past of a Monitor.
func (s state) history() (all []checker.Transition) {
	for _, t := range s.Switches {
		all = append(all, checker.Transition{Time: t.Time, From: checker.Verdict{Reason: t.From},
			To:     checker.Verdict{Reason: t.To, Detail: t.Detail},
			Lasted: time.Duration(t.LastedSeconds * float64(time.Second))})
	}
	return all
}

// bootID changes with every boot of the host; empty if it cannot be told. The units
// give it, for they hide all of /proc but the processes.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return os.Getenv("BOOT_ID")
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
}
