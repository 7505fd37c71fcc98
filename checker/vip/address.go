package vip

import (
	"net/netip"
	"time"
)

// Probes of a round, and how soon the next round begins.
const (
	probes     = 3
	again      = 20 * time.Millisecond  // after another host has answered, while the address is wanted
	againLater = 250 * time.Millisecond // and when that has lasted for longer than a planned failover
	soon       = 3 * time.Second
	aheadEvery = 100 * time.Millisecond // after a round, while it is not wanted yet
	aheadGood  = 300 * time.Millisecond // how long what such a round found is good for
	retry      = 100 * time.Millisecond // after something has failed
	fight      = 20 * time.Millisecond  // between two additions of an address that somebody else removes
)

// Announcements: three over a second, then one a minute.
const (
	announcements = 3
	announceGap   = 500 * time.Millisecond
	announceEvery = time.Minute
)

// recent is how long a claim of another host is told of.
const recent = 5 * time.Second

type state int

const (
	off      state = iota // not wanted: must not be on the interface
	asking                // wanted: not on the interface until nobody else has it
	checking              // on the interface, found or put back there: others are asked nevertheless
	held                  // on the interface
)

type action int

const (
	remove action = iota
	add
	renewal  // of the time after which the kernel removes it
	ask      // send one probe
	announce // tell the neighbours
)

// facts are what an address is judged by at one moment.
type facts struct {
	now     time.Time
	want    bool      // the answer is yes, and all that a holder needs is there
	ahead   bool      // it may be wanted soon: ask already
	claimed time.Time // when another host last said that it has the address
}

// An address is what is known of one, and what is to be done next. It does no
// I/O and reads no clock.
type address struct {
	prefix  netip.Prefix
	gap     time.Duration // from a probe to the next
	force   time.Duration // after which it is taken from a host that still answers; 0 for never
	state   state
	present bool // on the interface, as far as is known
	stuck   bool // and could not be removed

	begun time.Time // the round under way; what was claimed before does not count
	sent  int       // its probes
	next  time.Time // when the next one is due, or the round is done

	free      time.Time // when a round ended in which nobody answered,
	freeBegun time.Time // and when it began
	contested time.Time // since when another host keeps it from us
	forced    bool
	taken     time.Time // when it was taken
	added     time.Time // when it was put onto the interface last
	announced int
	announce  time.Time // when the next announcement is due
}

// step says what is to be done now, in this order. Present is as it was
// before, and whoever does it sets it.
func (a *address) step(f facts) (do []action) {
	if !f.want {
		if a.state != off {
			a.round(f.now)
			a.state, a.contested, a.forced, a.free = off, time.Time{}, false, time.Time{}
		}
		if a.present {
			do = append(do, remove)
		}
		if !f.ahead {
			a.free = time.Time{}
			a.round(f.now)
			return do
		}
		before := a.begun
		free, claimed := a.probe(f, &do)
		if free {
			a.free, a.freeBegun = f.now, before
		}
		if free || claimed {
			a.round(f.now.Add(aheadEvery))
		}
		return do
	}
	switch a.state {
	case off:
		switch {
		case a.present:
			a.state = checking
			a.round(f.now)
			a.hold(f.now)
		case !a.free.IsZero() && f.now.Sub(a.free) <= aheadGood && f.claimed.Before(a.freeBegun):
			return a.take(f.now, do)
		default:
			a.state = asking
			if a.begun.IsZero() {
				a.round(f.now)
			}
		}
	case held:
		if !a.present && f.now.Sub(a.added) >= fight {
			a.state, a.added = checking, f.now
			a.round(f.now)
			a.hold(f.now)
			do = append(do, add)
		}
	}
	switch a.state {
	case asking:
		if a.present {
			do = append(do, remove)
		}
		free, claimed := a.probe(f, &do)
		switch {
		case claimed:
			if a.contested.IsZero() {
				a.contested = f.now
			}
			pause := again
			if f.now.Sub(a.contested) > soon {
				pause = againLater
			}
			a.round(f.now.Add(pause))
		case free:
			return a.take(f.now, do)
		}
		if a.force > 0 && !a.contested.IsZero() && f.now.Sub(a.contested) >= a.force {
			a.forced = true
			return a.take(f.now, do)
		}
	case checking:
		free, claimed := a.probe(f, &do)
		switch {
		case claimed && !a.forced:
			a.state, a.contested = asking, f.now
			a.round(f.now.Add(again))
			return append(do, remove)
		case free, claimed:
			a.state = held
		}
		fallthrough
	case held:
		if !a.present && f.now.Sub(a.added) >= fight {
			a.added = f.now
			do = append(do, add)
		}
		if !f.now.Before(a.announce) {
			do = append(do, announce)
			a.announced++
			a.announce = f.now.Add(announceEvery)
			if a.announced < announcements {
				a.announce = f.now.Add(announceGap)
			}
		}
	}
	return do
}

// round begins a new round of probes at a time.
func (a *address) round(at time.Time) { a.begun, a.sent, a.next = time.Time{}, 0, at }

// probe goes on with the round, and reports whether it is done and nobody has
// answered, or somebody has.
func (a *address) probe(f facts, do *[]action) (free, claimed bool) {
	switch {
	case !a.begun.IsZero() && f.claimed.After(a.begun):
		return false, true
	case f.now.Before(a.next):
		return false, false
	case a.sent == probes && f.now.Sub(a.begun) <= 2*probes*a.gap:
		return true, false
	case a.sent == probes:
		a.round(f.now) // it was kept from running, and so, perhaps, from hearing
		a.begun = f.now
	case a.sent == 0:
		a.begun = f.now
	}
	a.sent++
	a.next = f.now.Add(a.gap)
	*do = append(*do, ask)
	return false, false
}

// take is what follows when nobody else has the address.
func (a *address) take(now time.Time, do []action) []action {
	a.state, a.added = held, now
	a.hold(now)
	a.announced, a.announce = 1, now.Add(announceGap)
	return append(do, add, announce)
}

func (a *address) hold(now time.Time) {
	a.contested, a.taken, a.announced, a.announce = time.Time{}, now, 0, now
}

// failed takes what could not be done.
func (a *address) failed(what action, now time.Time) {
	switch what {
	case ask:
		a.round(now.Add(retry)) // a probe that was not sent proves nothing
	case add:
		a.state = asking
		a.round(now.Add(retry))
	}
}

// due is when the next step is to be taken if nothing happens.
func (a *address) due(f facts) time.Time {
	idle := f.now.Add(time.Hour)
	switch {
	case a.present && !f.want:
		return f.now.Add(fight)
	case !f.want && !f.ahead:
		return idle
	case a.state == held && !a.present:
		return a.added.Add(fight)
	case a.state == held:
		return a.announce
	case a.state == asking && a.force > 0 && !a.contested.IsZero():
		return earlier(a.next, a.contested.Add(a.force))
	case a.state == checking:
		return earlier(a.next, a.announce)
	}
	return a.next
}

// conflict reports whether another host has an address that is wanted here.
func (a *address) conflict(f facts) bool {
	switch a.state {
	case asking:
		return !a.contested.IsZero()
	case held, checking:
		return f.claimed.After(a.taken) && f.now.Sub(f.claimed) < recent
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
