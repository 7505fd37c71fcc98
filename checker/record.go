package checker

import (
	"strings"
	"time"

	"redis-is-master/checker/handover"
)

// A ledgerRecord is what a [Ledger] hands over. What it says is as old as before, so that it becomes stale at the same
// time.
type ledgerRecord struct {
	status            Status
	started, answered time.Time
	slept             time.Duration
	dampers           [len(ledgerRoles)]damper
	disabled          bool
	note              string
	vouch             Vouch
	// witnessed is when the oldest answer of a witness was asked for that is part of the observation; zero for none.
	witnessed time.Time
}

// Hold keeps the status, and all else under the Monitor's lock, as it is until release is called. Meanwhile the status
// can be read, and grows old.
func (m *Monitor) Hold() (release func()) {
	m.mu.Lock()
	m.init()
	return m.mu.Unlock
}

// Record is what another Monitor needs to go on, see [Monitor.Restore]. It must be called during [Monitor.Hold]. A
// Monitor that stops has none.
func (m *Monitor) Record(at time.Time) ([]byte, error) {
	l := &m.ledger
	if l.stopping || m.stopped.Load() {
		return nil, errStopping
	}
	r := ledgerRecord{l.status, l.started, l.answered, l.slept, l.dampers, l.disabled, l.note, l.vouch, time.Time{}}
	for _, t := range m.heard {
		if t.add != nil && (r.witnessed.IsZero() || t.asked.Before(r.witnessed)) {
			r.witnessed = t.asked
		}
	}
	return handover.Encode(at, r, (*Error)(nil))
}

// errStopping is that of [Monitor.Record].
var errStopping = &Error{Reason: ReasonStopping}

// Restore makes the status what another Monitor has recorded, before [Monitor.Run]. It is believed as the other one
// would have been: for [Monitor.MaxAge] after its question, and while no check says otherwise. After an error it is
// that of a new Monitor.
func (m *Monitor) Restore(at time.Time, record []byte) error {
	r, err := handover.Decode[ledgerRecord](at, record, (*Error)(nil))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	l := &m.ledger
	l.status, l.started, l.answered, l.slept = r.status, r.started, r.answered, r.slept
	l.dampers, l.disabled, l.note, l.vouch = r.dampers, r.disabled, r.note, r.vouch
	if l.status.Transitions == nil {
		l.status.Transitions = make(map[Answer]int)
	}
	if !r.witnessed.IsZero() {
		m.inherited = testimony{asked: r.witnessed, suspended: r.slept, add: r.status.Observation.addWitnessed}
	}
	m.publish(false)
	return nil
}

// addWitnessed adds what witnesses said of the same node before.
func (was Observation) addWitnessed(o *Observation) {
	if o.Role != was.Role || o.RunID != was.RunID {
		return
	}
	o.Quorum, o.FormerAnswers = was.Quorum, was.FormerAnswers
	if o.MasterAddr == was.MasterAddr {
		o.Behind = was.Behind
	}
}

// Renew asks all witnesses again that had anything to say, and reports by the returned function whether all have
// answered since.
func (m *Monitor) Renew() (renewed func() bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	begun := time.Now()
	for i, c := range m.askNow {
		if m.heard[i].add != nil {
			signal(c)
		}
	}
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, t := range m.heard {
			if t.add != nil && t.asked.Before(begun) {
				return false
			}
		}
		return true
	}
}

// A redisRecord is what a [Redis] hands over.
type redisRecord struct {
	dials      int
	closedByUs bool
	owner      *uint32
}

// Record is what another Redis needs to go on, see [Redis.Restore].
func (r *Redis) Record(at time.Time) ([]byte, error) {
	return handover.Encode(at, redisRecord{r.dials, r.closedByUs || r.socket != nil && r.answered, r.owner.Load()})
}

// Restore makes the next connection another one than that of which another Redis has recorded, and closed by that. The
// password is given to no other user's listener than before.
func (r *Redis) Restore(at time.Time, record []byte) error {
	was, err := handover.Decode[redisRecord](at, record)
	if err != nil {
		return err
	}
	r.dials, r.closedByUs = was.dials, was.closedByUs
	r.owner.Store(was.owner)
	return nil
}

// RecordShape changes with what the records of this package hold.
func RecordShape() string {
	return strings.Join([]string{handover.Shape[ledgerRecord]((*Error)(nil)), handover.Shape[redisRecord]()}, "-")
}
