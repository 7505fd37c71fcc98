package vip

import (
	"net/netip"
	"time"
)

// The number of probes in a round, and the pauses between rounds.
const (
	probes      = 3
	reprobe     = 20 * time.Millisecond  // pause after another host has claimed an address that is wanted here
	slowReprobe = 250 * time.Millisecond // the same pause once the other host has claimed it for slowAfter
	slowAfter   = 3 * time.Second        // longer than a planned failover
	aheadPause  = 100 * time.Millisecond // pause between rounds while the address is not wanted yet
	aheadValid  = 300 * time.Millisecond // how long the result of such a round is valid
	retryDelay  = 100 * time.Millisecond // pause after a failure
	readdDelay  = 20 * time.Millisecond  // shortest time between two additions of an address that somebody else removes
)

// The holder announces an address three times within a second, then once a minute.
const (
	announcements = 3
	announceGap   = 500 * time.Millisecond
	announceEvery = time.Minute
)

// conflictFor is how long a claim of another host counts as a conflict.
const conflictFor = 5 * time.Second

type state int

const (
	off       state = iota // not wanted: must not be on the interface
	probing                // wanted, but not on the interface until a round of probes is unanswered
	verifying              // on the interface, where it was found or put back; probes check that nobody else has it
	held                   // on the interface
)

type action int

const (
	remove action = iota
	add
	renew     // extend the lifetime after which the kernel removes it
	sendProbe // send one probe
	announce  // tell the neighbours
)

// facts are the input of one step of an address.
type facts struct {
	now     time.Time
	want    bool      // the answer is yes, and the daemon is able to hold an address
	ahead   bool      // the address may be wanted soon: probe already
	claimed time.Time // when another host last claimed the address
}

// An address is the state machine of one address. It does no I/O and reads no clock.
type address struct {
	prefix  netip.Prefix
	gap     time.Duration // between two probes of a round
	force   time.Duration // how long another host may claim the address before it is taken anyway; 0 for ever
	state   state
	present bool // on the interface, as far as is known
	stuck   bool // it could not be removed

	roundBegun time.Time // claims before it do not count; zero if no round has begun
	sent       int       // probes of this round
	next       time.Time // when the next probe is due, or the round ends

	free           time.Time // when an unanswered round ended
	freeRoundBegun time.Time // when that round began
	contested      time.Time // since when another host claims an address that is wanted here
	forced         bool
	taken          time.Time // when it was last taken or adopted
	added          time.Time // when it was last put on the interface
	announced      int
	nextAnnounce   time.Time
}

// step returns the actions that are due now, in order. The caller carries them out and updates present.
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
		before := a.roundBegun
		free, claimed := a.probe(f, &do)
		if free {
			a.free, a.freeRoundBegun = f.now, before
		}
		if free || claimed {
			a.round(f.now.Add(aheadPause))
		}
		return do
	}
	switch a.state {
	case off:
		switch {
		case a.present:
			a.state = verifying
			a.round(f.now)
			a.hold(f.now)
		case !a.free.IsZero() && f.now.Sub(a.free) <= aheadValid && f.claimed.Before(a.freeRoundBegun):
			return a.take(f.now, do)
		default:
			a.state = probing
			if a.roundBegun.IsZero() {
				a.round(f.now)
			}
		}
	case held:
		if !a.present && f.now.Sub(a.added) >= readdDelay {
			a.state, a.added = verifying, f.now
			a.round(f.now)
			a.hold(f.now)
			do = append(do, add)
		}
	}
	switch a.state {
	case probing:
		if a.present {
			do = append(do, remove)
		}
		free, claimed := a.probe(f, &do)
		switch {
		case claimed:
			if a.contested.IsZero() {
				a.contested = f.now
			}
			pause := reprobe
			if f.now.Sub(a.contested) > slowAfter {
				pause = slowReprobe
			}
			a.round(f.now.Add(pause))
		case free:
			return a.take(f.now, do)
		}
		if a.force > 0 && !a.contested.IsZero() && f.now.Sub(a.contested) >= a.force {
			a.forced = true
			return a.take(f.now, do)
		}
	case verifying:
		free, claimed := a.probe(f, &do)
		switch {
		case claimed && !a.forced:
			a.state, a.contested = probing, f.now
			a.round(f.now.Add(reprobe))
			return append(do, remove)
		case free, claimed:
			a.state = held
		}
		fallthrough
	case held:
		if !a.present && f.now.Sub(a.added) >= readdDelay {
			a.added = f.now
			do = append(do, add)
		}
		if !f.now.Before(a.nextAnnounce) {
			do = append(do, announce)
			a.announced++
			a.nextAnnounce = f.now.Add(announceEvery)
			if a.announced < announcements {
				a.nextAnnounce = f.now.Add(announceGap)
			}
		}
	}
	return do
}

// round makes a new round of probes begin at a time.
func (a *address) round(at time.Time) { a.roundBegun, a.sent, a.next = time.Time{}, 0, at }

// probe continues the round. It reports free when the round has ended without
// an answer, and claimed when another host has claimed the address since it began.
func (a *address) probe(f facts, do *[]action) (free, claimed bool) {
	switch {
	case !a.roundBegun.IsZero() && f.claimed.After(a.roundBegun):
		return false, true
	case f.now.Before(a.next):
		return false, false
	case a.sent == probes && f.now.Sub(a.roundBegun) <= 2*probes*a.gap:
		return true, false
	case a.sent == probes:
		a.round(f.now) // the process was stopped meanwhile, and may have missed an answer
		a.roundBegun = f.now
	case a.sent == 0:
		a.roundBegun = f.now
	}
	a.sent++
	a.next = f.now.Add(a.gap)
	*do = append(*do, sendProbe)
	return false, false
}

// take puts the address on the interface and announces it.
func (a *address) take(now time.Time, do []action) []action {
	a.state, a.added = held, now
	a.hold(now)
	a.announced, a.nextAnnounce = 1, now.Add(announceGap)
	return append(do, add, announce)
}

// hold begins a new period of holding the address.
func (a *address) hold(now time.Time) {
	a.contested, a.taken, a.announced, a.nextAnnounce = time.Time{}, now, 0, now
}

// failed notes that an action has failed.
func (a *address) failed(what action, now time.Time) {
	switch what {
	case sendProbe:
		a.round(now.Add(retryDelay)) // without all its probes a round proves nothing
	case add:
		a.state = probing
		a.round(now.Add(retryDelay))
	}
}

// due is when the next step is needed if no fact changes.
func (a *address) due(f facts) time.Time {
	idle := f.now.Add(time.Hour)
	switch {
	case a.present && !f.want:
		return f.now.Add(readdDelay)
	case !f.want && !f.ahead:
		return idle
	case a.state == held && !a.present:
		return a.added.Add(readdDelay)
	case a.state == held:
		return a.nextAnnounce
	case a.state == probing && a.force > 0 && !a.contested.IsZero():
		return earlier(a.next, a.contested.Add(a.force))
	case a.state == verifying:
		return earlier(a.next, a.nextAnnounce)
	}
	return a.next
}

// conflict reports whether another host claims an address that is wanted here.
func (a *address) conflict(f facts) bool {
	switch a.state {
	case probing:
		return !a.contested.IsZero()
	case held, verifying:
		return f.claimed.After(a.taken) && f.now.Sub(f.claimed) < conflictFor
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
