package sim

import (
	"fmt"
	"strings"
	"time"
)

// A Kind is what an [Event] is about.
type Kind string

// The kinds, and what their events say.
const (
	FaultEvent     Kind = "fault"    // what was done, in words
	RoleEvent      Kind = "role"     // what the node's Redis is: one of the roles below
	VIPEvent       Kind = "VIP"      // "up" or "down": the address on the host
	NamesEvent     Kind = "names"    // the host's Sentinel names Other as master, at Epoch; What is the master's name
	SaidEvent      Kind = "sentinel" // an event that the host's Sentinel published, about Other
	SentinelEvent  Kind = "process"  // the host's Sentinel is [Up] or [Down]
	AnswerEvent    Kind = "answer"   // what the node's daemon says: Yes, and the reason
	PromotionEvent Kind = "promoted" // the node became master by Cause
	AsksEvent      Kind = "asks"     // the node's daemon asks the Sentinel of Other for a failover
	WriteEvent     Kind = "write"    // the first of several writes through the VIP that the node acknowledged
)

// What the Redis of a node is.
const (
	Master  = "master"
	Replica = "replica"
	Loading = "loading"
	Hung    = "hung" // does not answer
	Down    = "down" // cannot be connected to; also of a Sentinel
	Up      = "up"   // of a Sentinel
)

// A CauseKind is why a replica became master.
type CauseKind string

// The causes.
const (
	CauseElected CauseKind = "elected" // a Sentinel that was elected
	CauseForced  CauseKind = "forced"  // SENTINEL FAILOVER
	CauseCommand CauseKind = "command" // FAILOVER, by hand or by SENTINEL FAILOVER ... COORDINATED
	CauseAborted CauseKind = "aborted" // such a FAILOVER that failed: the old master is master again
	CauseByHand  CauseKind = "by hand" // REPLICAOF NO ONE
)

// A Cause is why a replica became master, and who did it.
type Cause struct {
	Kind     CauseKind
	Sentinel int // none if it was no Sentinel
	Epoch    uint64
}

// An Event is a change in the world.
type Event struct {
	At    time.Duration // since the begin of the history
	Node  int           // the host
	Kind  Kind
	What  string
	Other int // the node that the event is about, none for no other
	Epoch uint64
	Cause Cause
	Fault FaultKind // of a fault
	For   time.Duration
	Ends  bool // it is the end of the fault
	Yes   bool
}

// An Ack is a write that a node acknowledged.
type Ack struct {
	ID       int
	Node     int
	Sent, At time.Duration
}

// A History is what happened, in its order.
type History struct {
	Config Config
	Events []Event
	Acks   []Ack
	// Lost are the acknowledged writes that the last master does not have.
	Lost []Ack
	// LastMaster is the node that the Sentinels agree on at the end; none for
	// none.
	LastMaster int
}

func (h *History) put(at time.Duration, e Event) {
	e.At = at - start
	h.Events = append(h.Events, e)
}

func (h *History) add(at time.Duration, node int, kind Kind, what string) {
	h.put(at, Event{Node: node, Kind: kind, What: what, Other: none})
}

func (h *History) said(at time.Duration, sentinel int, what string, about int, epoch uint64) {
	h.put(at, Event{Node: sentinel, Kind: SaidEvent, What: what, Other: about, Epoch: epoch})
}

func (h *History) names(at time.Duration, sentinel int, name string, node int, epoch uint64) {
	h.put(at, Event{Node: sentinel, Kind: NamesEvent, What: name, Other: node, Epoch: epoch})
}

func (h *History) promoted(at time.Duration, node int, cause Cause) {
	h.put(at, Event{Node: node, Kind: PromotionEvent, What: string(cause.Kind), Other: none, Epoch: cause.Epoch,
		Cause: cause})
}

func (h *History) asks(at time.Duration, node, sentinel int) {
	h.put(at, Event{Node: node, Kind: AsksEvent, What: "for a failover", Other: sentinel})
}

func (h *History) answer(at time.Duration, node int, a Answer) {
	h.put(at, Event{Node: node, Kind: AnswerEvent, What: a.Reason, Other: none, Epoch: a.Epoch, Yes: a.Yes})
}

func (h *History) ack(at time.Duration, a Ack) {
	if n := len(h.Acks); n == 0 || h.Acks[n-1].Node != a.Node || a.At-h.Acks[n-1].At > time.Second {
		h.add(at, a.Node, WriteEvent, "acknowledged")
	}
	h.Acks = append(h.Acks, a)
}

// finish looks what became of the writes.
func (h *History) finish(w *World) {
	if h.LastMaster = w.agreed(); h.LastMaster == none {
		return
	}
	has := make(map[int]bool)
	for _, id := range w.nodes[h.LastMaster].data {
		has[id] = true
	}
	for _, a := range h.Acks {
		if !has[a.ID] {
			h.Lost = append(h.Lost, a)
		}
	}
}

// agreed is the node that a majority of the Sentinels names at the end.
func (w *World) agreed() int {
	votes := make([]int, len(w.nodes))
	for _, s := range w.sentinels {
		if s.alive && len(s.masters) > 0 {
			node := s.masters[0].address()
			if votes[node]++; 2*votes[node] > len(w.sentinels) {
				return node
			}
		}
	}
	return none
}

// String is the history as a timeline, in milliseconds since its begin.
func (h *History) String() string {
	var b strings.Builder
	c := h.Config
	fmt.Fprintf(&b, "seed %d: %d nodes, %d Sentinels, down-after %v, failover-timeout %v, %s, profile %s\n",
		c.Seed, c.Nodes, c.Sentinels, c.DownAfter, c.FailoverTimeout, c.Version, c.Profile)
	for _, e := range h.Events {
		ms := float64(e.At.Microseconds()) / 1000
		fmt.Fprintf(&b, "%9.1f ms  %-6s %-8s %s\n", ms, hostName(e.Node), e.Kind, e.text())
	}
	return b.String()
}

func hostName(host int) string {
	if host == none {
		return ""
	}
	return fmt.Sprintf("node%d", host+1)
}

// text is the event in words.
func (e Event) text() string {
	switch e.Kind {
	case NamesEvent:
		if e.Other == none {
			return e.What + ": nothing any more"
		}
		return fmt.Sprintf("%s: %s, config epoch %d", e.What, hostName(e.Other), e.Epoch)
	case SaidEvent:
		if e.Other == none {
			return e.What
		}
		return fmt.Sprintf("%s %s, epoch %d", e.What, hostName(e.Other), e.Epoch)
	case AnswerEvent:
		answer := "no"
		if e.Yes {
			answer = "yes"
		}
		return answer + " " + e.What
	case PromotionEvent:
		if e.Cause.Sentinel == none {
			return "to master, " + e.What
		}
		by := hostName(e.Cause.Sentinel)
		return fmt.Sprintf("to master, %s, by the Sentinel of %s, epoch %d", e.What, by, e.Epoch)
	}
	if e.Kind == AsksEvent {
		return "the daemon asks the Sentinel of " + hostName(e.Other) + " for a failover"
	}
	if e.Kind == SentinelEvent {
		return "the Sentinel is " + e.What
	}
	return e.What
}
