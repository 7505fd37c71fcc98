package sentinel

import (
	"maps"
	"time"
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
	// Request is the failover that the daemon asked for last; nil if there is none.
	Request *Request `json:"request,omitempty"`
}

// A Request is a failover that a daemon asked a Sentinel for, and that may have
// begun.
type Request struct {
	Watched
	RunID string    `json:"run_id"` // of the Sentinel's process
	Time  time.Time `json:"time"`
	Over  bool      `json:"over"` // what came of it is known
}

// A Watched is a Sentinel, and a name that it was asked about.
type Watched struct {
	Address string `json:"address"` // host:port
	Name    string `json:"name"`
}

// Memory returns what is to be remembered. The caller owns it.
func (g *Guard) Memory() Memory {
	if g.hearing.noSentinels {
		return Memory{Settled: make(map[string]uint64)}
	}
	m := Memory{Settled: make(map[string]uint64), Several: g.claims.several, Sentinels: g.peers.watched()}
	maps.Copy(m.Settled, g.claims.recalled)
	for _, v := range g.claims.names {
		m.Settled[v.best.Name] = v.settledEpoch
	}
	if !g.request.Time.IsZero() {
		m.Request = new(g.request)
		m.Request.Over = g.peers.peer(g.request.Address, g.request.Name).move == nil
	}
	return m
}

// Recall gives a Guard what another one remembered, before the first event.
func (g *Guard) Recall(m Memory) {
	g.claims.recalled, g.claims.several = m.Settled, m.Several
	g.remembers = len(m.Settled) > 0 || len(m.Sentinels) > 0
	if r := m.Request; r != nil {
		if g.request = *r; !r.Over {
			g.peers.peer(r.Address, r.Name).move = &move{last: r.Time, runID: r.RunID}
		}
	}
}
