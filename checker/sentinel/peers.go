package sentinel

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"redis-is-master/checker"
)

// peers is the record of the Sentinels themselves: what each answered, and
// published, about each master name.
type peers struct {
	all   []*peer         // in the order in which they were first reached
	shown []checker.Asked // of those that have answered; made anew with every answer
	// abandoned is when a Sentinel was last found to have given up a promotion that may be
	// this node's: it asked for that, and did not see it in time.
	abandoned time.Time
}

// A peer is the word of one Sentinel on one master name.
type peer struct {
	address, name string
	answer        Told // the last one that counts; its Report has no Address before there is one
	move          *move
	over          time.Time // when the failover that its answers still show was found to be over
}

// A move is a failover that a Sentinel leads.
type move struct {
	node  string    // host:port that is promoted; empty if only its answers show the failover
	us    bool      // that is the watched node
	last  time.Time // the last notice, or the first answer that shows it
	runID string    // of the Sentinel's process; empty if it did not tell
	epoch *uint64   // the best epoch of the name before; nil if it was not known
	led   bool      // an answer asked for since the last notice shows the failover, and no notice can have been missed
	back  time.Time // since when the node follows this one; zero if it does not
	// pending says that this daemon has asked for it, and has no reply yet.
	pending bool
}

// maxPeers bounds the record: the Sentinels that are watched, by their names.
const maxPeers = 64

func (p *peers) peer(address, name string) *peer {
	for _, q := range p.all {
		if q.address == address && q.name == name {
			return q
		}
	}
	if len(p.all) >= maxPeers {
		last := slices.MinFunc(p.all, func(a, b *peer) int { return a.answer.Report.Time.Compare(b.answer.Report.Time) })
		p.forget(last.address, last.name)
	}
	q := &peer{address: address, name: name}
	p.all = append(p.all, q)
	return q
}

// forget drops what a Sentinel said of a name that it does not know any more.
func (p *peers) forget(address, name string) {
	p.all = slices.DeleteFunc(p.all, func(q *peer) bool { return q.address == address && q.name == name })
}

// told notes an answer that counts.
func (q *peer) told(t Told) {
	q.answer = t
	r := t.Report
	whole := r.ConfigEpoch >= 0 // that of SENTINEL MASTER, not of INFO
	switch {
	case q.move == nil && r.FailingOver():
		if slices.Contains(promotingStates, r.FailoverState) && t.NamesUs && !q.listenedSince(q.over) {
			// It promotes a replica of the node that it names, which is this one.
			q.move = &move{last: t.Now, runID: r.RunID}
		}
	case q.move == nil || q.move.pending || !r.Time.After(q.move.last):
	case r.FailingOver():
		q.move.led = q.listenedSince(q.move.last)
	case whole && r.RunID != "" && r.RunID == q.move.runID:
		q.move = nil
	case !whole && !t.NamesUs && !t.Unresolved:
		q.move = nil // the hellos say the rest
	}
}

// listenedSince reports whether all that the Sentinel has published since a time was
// received.
func (q *peer) listenedSince(since time.Time) bool {
	s := q.answer.Report.Subscribed
	return !s.IsZero() && !s.After(since)
}

// promotingStates are those of a failover from which on a replica is promoted.
var promotingStates = []string{"send_slaveof_noone", "wait_promotion", "reconf_slaves", "update_config"}

// abandons reports whether the Sentinel's process gave up a promotion since its answer
// before: it names whom it named then.
func (t Told) abandons(before Report) bool {
	r := t.Report
	return slices.Contains(promotingStates, before.FailoverState) && before.RunID != "" && r.RunID == before.RunID &&
		r.ConfigEpoch >= 0 && !r.FailingOver() && !t.NamesUs && r.Master == before.Master
}

// noticed notes whom a Sentinel promotes, or that it gave up.
func (p *peers) noticed(n Noticed) {
	q := p.peer(n.Notice.Address, n.Notice.Name)
	switch {
	case n.Notice.Promotes():
		if n.NamesUs {
			p.abandoned = time.Time{}
		}
		if q.move == nil || q.move.node != n.Notice.Node {
			q.move = &move{node: n.Notice.Node, us: n.NamesUs, runID: q.answer.Report.RunID}
		}
		q.move.last, q.move.led = n.Now, false
	case n.Notice.Aborts():
		if q.move != nil && q.move.us {
			p.abandoned = n.Now
		}
		q.move = nil
	}
}

// end ends the moves whose outcome is known.
func (p *peers) end(now time.Time, c *claims) {
	for _, q := range p.all {
		m := q.move
		if m == nil {
			continue
		}
		v := c.view(q.name)
		if m.epoch == nil && v != nil {
			m.epoch = new(v.best.Epoch)
		}
		switch {
		case v != nil && v.best.Epoch > *m.epoch: // it was announced
		case !m.us && !m.back.IsZero() && now.Sub(later(m.back, m.last)) >= holdAcknowledged:
		case !q.leads(now) && v != nil && now.Sub(m.last) >= holdUnannounced &&
			2*v.namingUs(m.last.Add(holdUnannounced)) > p.known(now, v):
		default:
			continue
		}
		q.move, q.over = nil, now
	}
}

// leads reports whether the process that had the failover under way still answers.
func (q *peer) leads(now time.Time) bool {
	r := q.answer.Report
	return now.Sub(r.Time) <= peerSilent && r.RunID != "" && r.RunID == q.move.runID
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// followed notes which nodes follow this one: the promotion of one of them has
// failed if that lasts.
func (p *peers) followed(now time.Time, followers []string) {
	for _, q := range p.all {
		if q.move == nil {
			continue
		}
		follows := slices.ContainsFunc(followers, func(f string) bool { return !differ(f, q.move.node) })
		switch {
		case !follows:
			q.move.back = time.Time{}
		case q.move.back.IsZero():
			q.move.back = now
		}
	}
}

// moving is a promotion of another node, and the address of the Sentinel that makes
// it; nil if there is none.
func (p *peers) moving() (m *move, by string) {
	for _, q := range p.all {
		if q.move != nil && !q.move.us {
			return q.move, q.address
		}
	}
	return nil, ""
}

// promotesUs reports whether a Sentinel, asked since it said so, promotes this
// node.
func (p *peers) promotesUs(now time.Time) bool {
	return slices.ContainsFunc(p.all, func(q *peer) bool {
		return q.move != nil && q.move.us && q.move.led && q.leads(now)
	})
}

// answeredSince reports whether some Sentinel was asked since, and answered.
func (p *peers) answeredSince(t time.Time) bool {
	return slices.ContainsFunc(p.all, func(q *peer) bool { return q.answer.Report.Time.After(t) })
}

// known is how many Sentinels there are for a name, by their own count or by whom
// was heard.
func (p *peers) known(now time.Time, v *nameView) int {
	n := 0
	for _, q := range p.all {
		if q.name == v.best.Name && now.Sub(q.answer.Report.Time) <= sentinelForgotten {
			n = max(n, int(min(q.answer.Report.OtherSentinels, maxClaims))+1)
		}
	}
	return max(n, len(v.heardSince(now.Add(-sentinelForgotten))))
}

// id is what the Sentinel calls itself in its hellos; empty if that is not known.
func (q *peer) id(v *nameView) string {
	if q.answer.Report.ID != "" {
		return q.answer.Report.ID
	}
	for _, said := range v.said {
		if said.From == q.address {
			return said.Sentinel
		}
	}
	return ""
}

// names reports whether the Sentinel names this node and knows of nobody who
// could name another.
func (q *peer) names(v *nameView) bool {
	r := q.answer.Report
	return q.answer.NamesUs && !q.answer.Unresolved && !r.FailingOver() && !r.TakesForDown() && !r.inFreshTilt() &&
		r.ConfigEpoch >= 0 && uint64(r.ConfigEpoch) >= v.best.Epoch && r.VotedEpoch >= 0 &&
		uint64(r.VotedEpoch) <= max(uint64(r.ConfigEpoch), v.settledEpoch)
}

// inFreshTilt reports whether the Sentinel's clock or host was in trouble just
// now. Later in TILT what it says is current, for it processes hellos.
func (r Report) inFreshTilt() bool { return r.Tilt && r.TiltFor < tiltFresh }

// agree reports whether all Sentinels that there are were asked since the doubt
// began, and lately, and name this node.
func (p *peers) agree(now, doubted time.Time, v *nameView) bool {
	var ids []string
	for _, q := range p.all {
		asked := q.answer.Report.Time
		if q.name != v.best.Name || asked.Before(doubted) || now.Sub(asked) > peerSilent {
			continue
		}
		id := q.id(v)
		if id == "" || !q.names(v) {
			return false
		}
		ids = add(ids, id)
	}
	for _, id := range v.heardSince(now.Add(-sentinelForgotten)) {
		if !slices.Contains(ids, id) {
			return false
		}
	}
	return v.best.NamesUs && len(ids) > 0 && len(ids) >= p.known(now, v)
}

// inTouch counts the Sentinels that were heard or have answered since a time.
func (p *peers) inTouch(since time.Time, v *nameView) int {
	ids := v.heardSince(since)
	for _, q := range p.all {
		if id := q.id(v); q.name == v.best.Name && id != "" && q.answer.Report.Time.After(since) {
			ids = add(ids, id)
		}
	}
	return len(ids)
}

// vouch is when a majority of the Sentinels was asked that names this node, and for
// how long its silence can be no cause of an election: the shortest time after
// which one of them takes it for down, less a second. It is none if they do not
// name it, or if somebody knows of an election.
func (p *peers) vouch(now time.Time, v *nameView) checker.Vouch {
	var asked []time.Time
	var ids, tellDownAfter []string
	var silence time.Duration
	for _, q := range p.all {
		r, id := q.answer.Report, q.id(v)
		if q.name != v.best.Name || id == "" || now.Sub(r.Time) > sentinelForgotten {
			continue
		}
		if r.DownAfter > 0 {
			if tellDownAfter = add(tellDownAfter, id); silence == 0 || r.DownAfter < silence {
				silence = r.DownAfter
			}
		}
		if now.Sub(r.Time) > peerSilent || slices.Contains(ids, id) {
			continue
		}
		if !q.names(v) {
			return checker.Vouch{}
		}
		ids, asked = append(ids, id), append(asked, r.Time)
	}
	known := p.known(now, v)
	majority := known/2 + 1
	if !v.best.NamesUs || known == 0 || len(asked) < majority || len(tellDownAfter) < known {
		return checker.Vouch{}
	}
	slices.SortFunc(asked, func(a, b time.Time) int { return b.Compare(a) })
	return checker.Vouch{AsOf: asked[majority-1], Silence: max(silence-quickRestart, 0)}
}

// show makes what people are shown.
func (p *peers) show() {
	p.shown = make([]checker.Asked, 0, len(p.all))
	for _, q := range p.all {
		if t := q.answer; t.Report.Address != "" {
			r, sentinels := t.Report, t.Report.OtherSentinels
			if sentinels >= 0 {
				sentinels++ // itself
			}
			p.shown = append(p.shown, checker.Asked{Sentinel: r.Address, Time: r.Time, Name: r.Name, Master: r.Master,
				NamesUs: t.NamesUs && !t.Unresolved, Epoch: r.ConfigEpoch, Subscribed: !r.Subscribed.IsZero(),
				FailingOver: r.FailingOver(), Down: r.TakesForDown(), Tilt: r.Tilt, DownAfter: r.DownAfter,
				FailoverTimeout: r.FailoverTimeout, Quorum: r.Quorum, Sentinels: sentinels})
		}
	}
}

// watched are the Sentinels that have answered, sorted.
func (p *peers) watched() (all []Watched) {
	for _, q := range p.all {
		if q.answer.Report.Address != "" {
			all = append(all, Watched{q.address, q.name})
		}
	}
	slices.SortFunc(all, func(a, b Watched) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Name, b.Name))
	})
	return all
}
