package sim

import (
	"time"

	"redis-is-master/checker"
)

// Naive is a daemon that believes every role:master, as a shell script does.
// A silence ends its yes when the last answer is older than a second.
type Naive struct {
	asked time.Time // when the last question was put that was answered
	role  checker.Role
	loads bool
	none  bool // nothing listens there
}

// NewNaive is the daemon of every node for [New].
func NewNaive(*World, int) Daemon { return &Naive{} }

// maxAge is how old a yes may be.
const maxAge = time.Second

// Start implements [Daemon].
func (d *Naive) Start(time.Time) { *d = Naive{} }

// Probed implements [Daemon].
func (d *Naive) Probed(asked, _ time.Time, o checker.Observation, err error) {
	if err == nil {
		d.asked, d.role, d.loads, d.none = asked, o.Role, o.Loading, false
	}
	if e, ok := err.(*checker.Error); ok {
		d.none = e.Reason == checker.ReasonRefused
	}
}

// Subscribed implements [Daemon].
func (d *Naive) Subscribed(time.Time) {}

// Unsubscribed implements [Daemon].
func (d *Naive) Unsubscribed(time.Time) {}

// Heard implements [Daemon].
func (d *Naive) Heard(time.Time, Hello, Match, bool) {}

// Timer implements [Daemon].
func (d *Naive) Timer(time.Time) {}

// Next implements [Daemon]: when the last answer becomes stale.
func (d *Naive) Next() time.Time {
	if d.role != checker.RoleMaster || d.none {
		return time.Time{}
	}
	return d.asked.Add(maxAge + time.Millisecond)
}

// Wake implements [Daemon].
func (d *Naive) Wake() bool { return false }

// Answer implements [Daemon].
func (d *Naive) Answer(now time.Time) Answer {
	switch {
	case d.asked.IsZero():
		return Answer{Reason: string(checker.ReasonStarting)}
	case d.none:
		return Answer{Reason: string(checker.ReasonRefused)}
	case now.Sub(d.asked) > maxAge:
		return Answer{Reason: string(checker.ReasonStale)}
	case d.role != checker.RoleMaster:
		return Answer{Reason: string(checker.ReasonRole)}
	case d.loads:
		return Answer{Reason: string(checker.ReasonLoading)}
	}
	return Answer{Yes: true, Reason: string(checker.OK)}
}
