package sentinel

import (
	"time"

	"redis-is-master/checker"
)

// hearing is the record of whether and when the Sentinels were heard.
type hearing struct {
	subscribed      time.Time // since when the subscription stands; zero while it does not
	firstSubscribed time.Time
	unsubscribed    time.Time // when it ended last
	refused         bool      // this user may not subscribe
	noSentinels     bool      // none was ever heard, and it was waited for
	heard           time.Time // the last claim
	remoteHeard     time.Time // the last claim from another host
	resumed         time.Time // the first claim after a silence
	unresolved      time.Time // the last hello that names an unresolvable host
	vouched         time.Time // since when a majority of the listed Sentinels names the node; zero if none does
}

func (h *hearing) subscribe(s Subscription) {
	h.refused = s.Refused
	switch {
	case s.Refused:
		h.subscribed = time.Time{}
	case !s.Stands:
		h.subscribed, h.unsubscribed = time.Time{}, s.Now
	default:
		if h.subscribed = s.Now; h.firstSubscribed.IsZero() {
			h.firstSubscribed = s.Now
		}
	}
}

func (h *hearing) hear(now time.Time, local bool, p *process) {
	if h.silent(now, h.heard, p) || !local && h.silent(now, h.remoteHeard, p) {
		h.resumed = now
	}
	if h.heard, h.noSentinels = now, false; !local {
		h.remoteHeard = now
	}
}

// silent reports whether no claim was heard for long. Before the first one the
// Sentinels need a while to find the node. Time in which the process was dead
// does not count: there was nothing to hear.
func (h *hearing) silent(now, heard time.Time, p *process) bool {
	if heard.IsZero() {
		return !h.firstSubscribed.IsZero() && now.Sub(h.firstSubscribed) > holdReconnect
	}
	if heard.Before(p.start) {
		if heard = heard.Add(p.downtime); heard.After(p.start) {
			heard = p.start
		}
	}
	return now.Sub(heard) > silentAfter
}

// inTouch reports whether the Sentinels were heard of late; there is one if the
// connection was closed. Sentinels that are not heard have not promoted the node
// now: they did so long ago, and may have promoted another since. What the
// network has lost comes late, with the first claims after the silence.
func (h *hearing) inTouch(now time.Time, closed bool) bool {
	heard := h.heard
	if heard.IsZero() && closed {
		if heard = h.firstSubscribed; h.unresolved.After(heard) {
			heard = h.unresolved
		}
	}
	for _, t := range []time.Time{heard, h.remoteHeard} {
		if !t.IsZero() && now.Sub(t) > silentAfter {
			return false
		}
	}
	return h.resumed.IsZero() || now.Sub(h.resumed) >= holdElection
}

// poll notes what the listed Sentinels answered.
func (h *hearing) poll(q checker.Quorum) {
	if namesUs, _ := q.NamesUs(); !namesUs {
		h.vouched = time.Time{}
	} else if h.vouched.IsZero() {
		h.vouched = q.Time
	}
}

// vouchedFor reports whether they have named the node since the doubt began, for
// as long as an election could take that they did not know of.
func (h *hearing) vouchedFor(now, doubted time.Time) bool {
	return !h.vouched.IsZero() && now.Sub(h.vouched) >= holdPendingElection && now.Sub(doubted) >= holdPendingElection
}

// nobody reports whether there is no Sentinel, as far as that can be known: none
// was heard since the doubt began, for as long as one may take to connect, in which
// the subscription stood.
func (h *hearing) nobody(now, doubted time.Time) bool {
	return h.noSentinels || !h.refused && !h.subscribed.IsZero() && h.heard.Before(doubted) &&
		now.Sub(later(doubted, h.subscribed)) >= holdReconnect && now.Sub(h.unresolved) >= holdReconnect
}

// knowNobody notes that there is no Sentinel, if that was the state and nothing
// was heard for twice as long as one is ever silent. A restart of Redis does not
// bring it into doubt again.
func (h *hearing) knowNobody(now time.Time, is bool) {
	if is && !h.subscribed.IsZero() && now.Sub(h.subscribed) >= 2*silentAfter {
		h.noSentinels = true
	}
}
