package sentinel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Memory is what a [Guard] knows that outlives the daemon.
type Memory struct {
	// Settled is for each master name the current epoch of the Sentinels when
	// the node was last beyond doubt. Only a higher one is the sign of an
	// election.
	Settled map[string]uint64 `json:"settled_epochs"`
	// Several says that more than one Sentinel was heard.
	Several bool `json:"several_sentinels"`
	// Sentinels are those that have answered, to be asked at once.
	Sentinels []Watched `json:"sentinels"`
}

// A Watched is a Sentinel, and a name that it was asked about.
type Watched struct {
	Address string `json:"address"` // host:port
	Name    string `json:"name"`
}

// Memory returns what is to be remembered. The caller owns it.
func (g *Guard) Memory() Memory {
	m := Memory{Settled: make(map[string]uint64), Several: g.claims.several, Sentinels: g.peers.watched()}
	maps.Copy(m.Settled, g.claims.recalled)
	for _, v := range g.claims.names {
		m.Settled[v.best.Name] = v.settledEpoch
	}
	return m
}

// Recall gives a Guard what another one remembered, before the first event.
func (g *Guard) Recall(m Memory) { g.claims.recalled, g.claims.several = m.Settled, m.Several }

// memoryFile is the form of a state file.
type memoryFile struct {
	Version int    `json:"version"`
	Boot    string `json:"boot"` // of the host: epochs of an earlier boot say nothing
	Node    string `json:"node"` // the address that is watched
	Memory
}

const (
	memoryVersion = 1
	maxMemory     = 64 << 10
)

// ReadMemory reads the state file of a node. A file that is missing, spoilt, of
// another boot or another node is an error, and means that nothing is known.
func ReadMemory(path, node string) (m Memory, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return m, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMemory))
	if err != nil {
		return m, err
	}
	var file memoryFile
	if err := json.Unmarshal(b, &file); err != nil {
		return m, errors.New("it is spoilt")
	}
	switch {
	case file.Version != memoryVersion:
		return m, fmt.Errorf("it is of version %d, not %d", file.Version, memoryVersion)
	case file.Boot == "" || file.Boot != bootID():
		return m, errors.New("it is of another boot")
	case file.Node != node:
		return m, errors.New("it is of another node")
	}
	return file.Memory, nil
}

// WriteMemory replaces the state file of a node.
func WriteMemory(path, node string, m Memory) error {
	b, err := json.Marshal(memoryFile{memoryVersion, bootID(), node, m})
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

// bootID changes with every boot of the host; empty if it cannot be read.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
