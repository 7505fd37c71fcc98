package sentinel

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
)

// A guardRecord is what a [Guard] hands over.
type guardRecord struct {
	began     time.Time
	process   process
	hearing   hearing
	claims    claims
	peers     peers
	state     checker.State
	row       string // its sentence; empty for none
	doubted   time.Time
	hold      time.Duration
	promoted  time.Time
	unproven  bool
	remembers bool
	unknown   promotion
	agreed    time.Time
	request   Request
}

// Record is what another Guard needs to go on, see [Guard.Restore].
func (g *Guard) Record(at time.Time) ([]byte, error) {
	r := guardRecord{g.Began, g.process, g.hearing, g.claims, g.peers, g.state, "", g.doubted, g.hold, g.promoted,
		g.unproven, g.remembers, g.unknown, g.agreed, g.request}
	if g.row != nil {
		r.row = g.row.Sentence
	}
	return handover.Encode(at, r, (*checker.Error)(nil))
}

// Restore gives a Guard the record of another one, before the first event. The next answer ends a gap of the length
// that it had; all connections are made anew. So what a Sentinel published meanwhile was missed: no notice of before
// proves who promotes this node, and a promotion that falls into the gap is doubted as one by hand is.
func (g *Guard) Restore(at time.Time, record []byte) error {
	r, err := handover.Decode[guardRecord](at, record, (*checker.Error)(nil))
	if err != nil {
		return err
	}
	var row *Row
	for i := range Rows {
		if Rows[i].Sentence == r.row {
			row = &Rows[i]
		}
	}
	if row == nil && r.row != "" {
		return errors.New("it is of a Guard with other rules")
	}
	r.hearing.subscribed = time.Time{}
	r.unproven = false
	for _, q := range r.peers.all {
		q.answer.Report.Subscribed = time.Time{}
		if q.move != nil {
			q.move.led, q.move.pending = false, false // the reply to a question was missed
		}
	}
	g.Began, g.process, g.hearing, g.claims, g.peers, g.state, g.row = r.began, r.process, r.hearing, r.claims, r.peers,
		r.state, row
	g.doubted, g.hold, g.promoted, g.unproven, g.remembers, g.unknown, g.agreed, g.request = r.doubted, r.hold,
		r.promoted, r.unproven, r.remembers, r.unknown, r.agreed, r.request
	return nil
}

// A selfRecord is what a [Self] hands over.
type selfRecord struct {
	hosts              map[string]hostRecord
	aliases            map[string]alias
	runID, was, listed string
}

// A hostRecord is a host name that was looked up.
type hostRecord struct {
	addrs []netip.Addr
	asked time.Time
}

// Record is what another Self needs to know the node by the same addresses, see [Self.Restore].
func (s *Self) Record(at time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := selfRecord{make(map[string]hostRecord), s.aliases, s.runID, s.was, s.listed}
	for name, h := range s.hosts {
		if h.first == nil {
			r.hosts[name] = hostRecord{h.addrs, h.asked}
		}
	}
	return handover.Encode(at, r)
}

// Restore gives a Self the record of another one, before its first use.
func (s *Self) Restore(at time.Time, record []byte) error {
	r, err := handover.Decode[selfRecord](at, record)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = make(map[string]*host)
	for name, h := range r.hosts {
		s.hosts[name] = &host{addrs: h.addrs, asked: h.asked}
	}
	s.aliases, s.runID, s.was, s.listed = r.aliases, r.runID, r.was, r.listed
	return nil
}

// RecordShape changes with what the records of this package hold.
func RecordShape() string {
	return strings.Join([]string{handover.Shape[guardRecord]((*checker.Error)(nil)), handover.Shape[selfRecord]()}, "-")
}
