package lab

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Kind is what an [Event] is about.
type Kind string

// The kinds, and what their events say.
const (
	Fault  Kind = "fault"    // what was done, in words
	Role   Kind = "role"     // what the node's Redis is: one of the roles below
	Link   Kind = "link"     // whether others reach the node: one of the states of a link below
	VIP    Kind = "vip"      // "up" or "down": the address on the node's interface
	Names  Kind = "names"    // whom the node's Sentinel names as master: a node, or nothing
	Said   Kind = "sentinel" // an event that the node's Sentinel published
	Answer Kind = "answer"   // what the node's daemon says: yes or no, and the reason
	Write  Kind = "write"    // the first of several writes through the VIP that the node acknowledged
)

// What an observer sees of a Redis.
const (
	Master  = "master"
	Replica = "replica"
	Loading = "loading"
	Hung    = "hung" // does not answer
	Down    = "down" // cannot be connected to
)

// What a link of a node is.
const (
	Cut      = "cut"      // down, and the node sees that
	Isolated = "isolated" // up, and nothing passes
	Deaf     = "deaf"     // what is sent to the node is lost
	Mute     = "mute"     // what the node sends is lost
	Late     = "late"     // all comes and goes after 20 ms
	Healed   = "healed"
)

// An Event is a change that an observer saw.
type Event struct {
	At   time.Time
	Node string // empty for what belongs to no node
	Kind Kind
	What string
}

// A State is all that was known at one moment, by node.
type State struct {
	Role, Names, Answer map[string]string
	VIP                 map[string]bool
}

func newState() State {
	return State{Role: map[string]string{}, Names: map[string]string{}, Answer: map[string]string{},
		VIP: map[string]bool{}}
}

func (s State) apply(e Event) {
	switch e.Kind {
	case Role:
		s.Role[e.Node] = e.What
	case Names:
		s.Names[e.Node] = e.What
	case Answer:
		s.Answer[e.Node] = e.What
	case VIP:
		s.VIP[e.Node] = e.What == "up"
	}
}

// Holders are the nodes that have the VIP.
func (s State) Holders() (all []string) {
	for node, has := range s.VIP {
		if has {
			all = append(all, node)
		}
	}
	slices.Sort(all)
	return all
}

// Agreed is the node that a majority of three Sentinels names as master,
// empty if there is none.
func (s State) Agreed() string {
	votes := map[string]int{}
	for _, node := range s.Names {
		if votes[node]++; node != "" && votes[node] == 2 {
			return node
		}
	}
	return ""
}

func (s State) String() string {
	return fmt.Sprintf("roles %v, VIP on %v, Sentinels name %v, daemons say %v", s.Role, s.Holders(), s.Names, s.Answer)
}

// A Timeline is what all observers saw, merged. Its methods may be called at
// any time.
type Timeline struct {
	// Seen is called with every event, one at a time; nil for nothing.
	Seen func(Event)

	mu     sync.Mutex
	events []Event
	now    State
}

// Add records an event that happened at a time.
func (t *Timeline) Add(at time.Time, node string, kind Kind, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now.Role == nil {
		t.now = newState()
	}
	e := Event{at, node, kind, what}
	t.events = append(t.events, e)
	t.now.apply(e)
	if t.Seen != nil {
		t.Seen(e)
	}
}

// Until waits until what is known now is as wanted. After a change by hand it
// is half a minute until the Sentinels have put things right.
func (t *Timeline) Until(what string, holds func(State) bool) error {
	err := WaitFor(2*Patience, what, func() (bool, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.now.Role != nil && holds(t.now), nil
	})
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Errorf("%w; %s", err, t.now)
	}
	return nil
}

// Since are the events from a time on, in their order.
func (t *Timeline) Since(from time.Time) (all []Event) {
	for _, e := range t.all() {
		if !e.At.Before(from) {
			all = append(all, e)
		}
	}
	return all
}

func (t *Timeline) all() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(t.events)
	slices.SortStableFunc(all, func(a, b Event) int { return a.At.Compare(b.At) })
	return all
}

// First is the first event of a kind from a time on that says what.
func (t *Timeline) First(from time.Time, node string, kind Kind, what string) (Event, bool) {
	for _, e := range t.Since(from) {
		if e.Kind == kind && (node == "" || e.Node == node) && strings.HasPrefix(e.What, what) {
			return e, true
		}
	}
	return Event{}, false
}

// Text is the timeline from a time on, in milliseconds since then.
func (t *Timeline) Text(from time.Time) string {
	var b strings.Builder
	for _, e := range t.Since(from) {
		fmt.Fprintf(&b, "%9.1f ms  %-6s %-8s %s\n", float64(e.At.Sub(from).Microseconds())/1000, e.Node, e.Kind, e.What)
	}
	return b.String()
}
