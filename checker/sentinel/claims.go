package sentinel

import (
	"net/netip"
	"slices"
	"time"

	"redis-is-master/checker"
)

// claims is the record of what the Sentinels said of each master name.
type claims struct {
	names    []*nameView       // in the order in which they were first heard
	several  bool              // more than one Sentinel was ever heard
	recalled map[string]uint64 // settled epochs of an earlier Guard
}

// A nameView is what is known of one master name.
type nameView struct {
	best              checker.Claim // the last claim at the highest epoch
	vetoAbove         *uint64       // the epoch that a claim against this node must exceed; nil for any
	heard             time.Time     // the last claim
	epochWhenFollowed uint64        // the best epoch when the node began to follow its present master
	said              []checker.TimedClaim
	sentinels         int // how many there are, or were when one was last heard

	staleSince   time.Time // since when all claims are below the best epoch
	staleSenders []string  // the Sentinels that made them
	newSender    bool      // one of these was not heard before

	current      uint64 // the highest current epoch heard
	settledEpoch uint64 // the same, when this node was last beyond doubt
	pendingEpoch uint64 // the epoch of an election that the confirmation does not know of

	confirmedSince time.Time // since when a confirmation stands; zero for none
	confirmers     []confirmer

	followingSince time.Time // since when the master that it names follows this node
	followingSeen  time.Time // when it was last seen to
	followingNot   time.Time // when it was last seen not to
}

// A confirmer is a Sentinel that names this node.
type confirmer struct {
	sentinel    string
	local       bool      // it runs on this node's host
	first, last time.Time // when it did since the confirmation stands
}

func (c *claims) view(name string) *nameView {
	for _, v := range c.names {
		if v.best.Name == name {
			return v
		}
	}
	return nil
}

// knows reports whether there is room for the name of a claim, and makes it.
func (c *claims) knows(first checker.Claim, followed string) bool {
	if c.view(first.Name) != nil {
		return true
	}
	if len(c.names) >= maxNames {
		return false
	}
	v := &nameView{best: first, settledEpoch: max(first.Epoch, c.recalled[first.Name])}
	// A host name may be another name of the master that the node follows.
	_, err := netip.ParseAddrPort(first.Master)
	if err != nil || first.NamesUs || !differ(first.Master, followed) {
		v.epochWhenFollowed = first.Epoch
	}
	c.names = append(c.names, v)
	return true
}

// hear notes a claim, and reports whether it contradicts a node that is believed
// and whether it names this node at the best epoch.
func (c *claims) hear(now time.Time, claim checker.Claim, believed, master bool) (contradicts, names bool) {
	v := c.view(claim.Name)
	known := v.remember(now, claim, c.room(now))
	c.several = c.several || len(v.said) > 1
	c.forget(now, claim.Name)
	v.current = max(v.current, claim.Current)
	if claim.Epoch < v.best.Epoch && !v.setUpAnew(now, claim, known) {
		return false, false
	}
	v.staleSince = time.Time{}
	before := v.best
	if v.best = claim; claim.Master != before.Master {
		v.followingSince = time.Time{}
	}
	switch {
	case !claim.NamesUs:
		v.confirmedSince, v.confirmers = time.Time{}, nil
		return v.vetoAbove == nil || claim.Epoch > *v.vetoAbove ||
			before.NamesUs && claim.Epoch == before.Epoch && claim.Epoch > 0, false
	case believed:
		v.vetoAbove = new(claim.Epoch)
	case master:
		v.confirm(now, claim, before.Epoch)
	}
	return false, true
}

// remember notes who said what, and reports whether this Sentinel has spoken
// before.
func (v *nameView) remember(now time.Time, claim checker.Claim, room bool) (known bool) {
	if now.Sub(v.heard) > silentAfter {
		v.staleSince = time.Time{}
	}
	v.heard = now
	for i, said := range v.said {
		if said.Sentinel == claim.Sentinel {
			v.said[i] = checker.TimedClaim{Claim: claim, Time: now}
			return true
		}
	}
	if room {
		v.said = append(v.said, checker.TimedClaim{Claim: claim, Time: now})
	}
	return false
}

// setUpAnew reports whether claims below the best epoch stand for Sentinels that
// were set up anew. At first they count as old: from a queue, or from a Sentinel
// that was cut off.
func (v *nameView) setUpAnew(now time.Time, claim checker.Claim, known bool) bool {
	if v.staleSince.IsZero() {
		v.staleSince, v.staleSenders, v.newSender = now, nil, false
	}
	v.staleSenders = add(v.staleSenders, claim.Sentinel)
	v.newSender = v.newSender || !known
	if now.Sub(v.staleSince) < holdReconnect || len(v.staleSenders) < minConfirmations && !v.newSender && len(v.said) > 1 {
		return false
	}
	v.vetoAbove, v.confirmedSince, v.settledEpoch, v.epochWhenFollowed = nil, time.Time{}, claim.Epoch, claim.Epoch
	return true
}

// confirm notes that a Sentinel names this node, which is not believed yet.
func (v *nameView) confirm(now time.Time, claim checker.Claim, bestBefore uint64) {
	var pending uint64
	if claim.Current > max(v.settledEpoch, claim.Epoch) {
		pending = claim.Current
	}
	if v.confirmedSince.IsZero() || claim.Epoch != bestBefore || pending > v.pendingEpoch {
		v.confirmedSince, v.confirmers, v.pendingEpoch = now, nil, pending
	}
	for i := range v.confirmers {
		if c := &v.confirmers[i]; c.sentinel == claim.Sentinel {
			if now.Sub(c.last) > holdInterrupted {
				c.first = now
			}
			c.last = now
			return
		}
	}
	if len(v.confirmers) < maxClaims {
		v.confirmers = append(v.confirmers, confirmer{claim.Sentinel, claim.Local, now, now})
	}
}

// voices counts the confirmers. Where nothing shows that the node was not cut
// off before, a claim may be of long ago: TCP delivers it when the network is
// back, and a new connection with the news may come seconds later. Then only a
// Sentinel counts that was heard twice, further apart than such claims come.
//
// One that has fallen silent does not count either: a host whose packets are lost
// still receives, until the Sentinels hang up.
func (v *nameView) voices(now time.Time, attended bool) int {
	n := 0
	for _, c := range v.confirmers {
		if now.Sub(c.last) <= holdSilent && (attended || c.last.Sub(c.first) >= holdRepeated) {
			n++
		}
	}
	return n
}

// remote reports whether a Sentinel on another host names this node, and has done so
// twice: one claim may be of long ago, see [nameView.voices].
func (v *nameView) remote() bool {
	return slices.ContainsFunc(v.confirmers, func(c confirmer) bool {
		return !c.local && c.last.Sub(c.first) >= holdRepeated
	})
}

// add adds a name to a set of few.
func add(set []string, name string) []string {
	if len(set) >= maxClaims || slices.Contains(set, name) {
		return set
	}
	return append(set, name)
}

// wait is how long the confirmation must stand; negative for ever.
func (c *claims) wait(now time.Time, v *nameView, hold time.Duration, attended bool) time.Duration {
	if v.pendingEpoch > 0 {
		hold = max(hold, holdPendingElection)
	}
	if v.voices(now, attended) < minConfirmations {
		if c.several && !attended && !v.remote() {
			return -1 // the host may be cut off, together with its own Sentinel
		}
		hold = max(hold, holdReconnect)
	}
	return hold
}

// observe notes who follows the node.
func (c *claims) observe(now time.Time, o checker.Observation, gap, followed bool) {
	for _, v := range c.names {
		if !slices.Contains(o.Followers, v.best.Master) {
			v.followingNot = now
		}
		switch {
		case o.Role == checker.RoleMaster && v.followingNot.Before(now):
			if v.followingSeen = now; v.followingSince.IsZero() {
				v.followingSince = now
			}
		case !followed || gap || o.Role != checker.RoleMaster || now.Sub(v.followingSeen) > holdElection:
			v.followingSince = time.Time{}
		}
	}
}

// nameAnother reports whether some name's best claim names another node, and
// whether every node that is so named is known to follow this one.
func (c *claims) nameAnother(now, doubted time.Time) (another, follow bool) {
	follow = true
	for _, v := range c.names {
		if !v.best.NamesUs {
			another = true
			follow = follow && v.follows(now, doubted) && !v.disputed(now)
		}
	}
	return another, another && follow
}

// follows reports whether the master that the name stands for follows the node,
// by an acknowledgement that came since the doubt began.
func (v *nameView) follows(now, doubted time.Time) bool {
	began := !v.followingNot.Before(doubted)
	fresh := began || v.followingSeen.Sub(doubted) >= holdAcknowledged
	return !v.followingSince.IsZero() && now.Sub(v.followingSince) >= holdFollowed && fresh
}

// disputed reports whether a Sentinel that was heard of late names another master at
// the best epoch: two that were made to fail over at once took the same one.
func (v *nameView) disputed(now time.Time) bool {
	return slices.ContainsFunc(v.said, func(said checker.TimedClaim) bool {
		return said.Epoch == v.best.Epoch && differ(said.Master, v.best.Master) && now.Sub(said.Time) <= holdSilent
	})
}

// confirmed reports whether a confirmation of some name stood for long enough.
func (c *claims) confirmed(now time.Time, hold time.Duration, attended bool) bool {
	return slices.ContainsFunc(c.names, func(v *nameView) bool {
		wait := c.wait(now, v, hold, attended)
		return !v.confirmedSince.IsZero() && wait >= 0 && now.Sub(v.confirmedSince) >= wait
	})
}

// naming counts the Sentinels whose last claim since a moment names a master.
func (c *claims) naming(master string, since time.Time) int {
	var senders []string
	for _, v := range c.names {
		for _, sender := range v.senders(since, func(claim checker.Claim) bool {
			return !claim.NamesUs && !differ(claim.Master, master)
		}) {
			senders = add(senders, sender)
		}
	}
	return len(senders)
}

// namingUs counts the Sentinels whose last claim since a moment names this node.
func (v *nameView) namingUs(since time.Time) int {
	return len(v.senders(since, func(claim checker.Claim) bool { return claim.NamesUs }))
}

// heardSince are the Sentinels whose last claim was made since a moment.
func (v *nameView) heardSince(since time.Time) []string {
	return v.senders(since, func(checker.Claim) bool { return true })
}

// senders are the Sentinels whose last claim since a moment is of some kind.
func (v *nameView) senders(since time.Time, is func(checker.Claim) bool) (senders []string) {
	for _, said := range v.said {
		if said.Time.After(since) && is(said.Claim) {
			senders = add(senders, said.Sentinel)
		}
	}
	return senders
}

// superseded reports whether another node was promoted since this one began to
// follow its last master. Then this node's own promotion is older than that: it
// arrived late, because the network was down.
func (c *claims) superseded(followed string) bool {
	return slices.ContainsFunc(c.names, func(v *nameView) bool {
		return !v.best.NamesUs && v.best.Epoch > v.epochWhenFollowed && differ(v.best.Master, followed)
	})
}

// renames reports whether a hello calls the master otherwise than this node, at
// a higher epoch than the one at which it named this node.
func (c *claims) renames(h checker.Hello) bool {
	v := c.view(h.Name)
	return v != nil && v.best.NamesUs && h.Master != v.best.Master && h.Epoch > v.best.Epoch
}

// discard forgets every confirmation.
func (c *claims) discard() {
	for _, v := range c.names {
		v.confirmedSince, v.confirmers, v.vetoAbove = time.Time{}, nil, nil
	}
}

// raiseVetoes sets each name's veto threshold to its best epoch.
func (c *claims) raiseVetoes() {
	for _, v := range c.names {
		v.vetoAbove = new(v.best.Epoch)
	}
}

// settle notes that the node is beyond doubt.
func (c *claims) settle() {
	for _, v := range c.names {
		v.settledEpoch = v.current
	}
}

// followAnew notes that the node has begun to follow another master.
func (c *claims) followAnew() {
	for _, v := range c.names {
		v.epochWhenFollowed = v.best.Epoch
	}
}

// forget drops names that no Sentinel publishes any more: all who did have used
// another name since.
func (c *claims) forget(now time.Time, but string) {
	all := slices.Clone(c.names)
	c.names = slices.DeleteFunc(c.names, func(old *nameView) bool {
		if old.best.Name == but || now.Sub(old.heard) <= holdReconnect || len(old.said) == 0 {
			return false
		}
		return !slices.ContainsFunc(old.said, func(said checker.TimedClaim) bool {
			return !slices.ContainsFunc(all, func(v *nameView) bool {
				return slices.ContainsFunc(v.said, func(later checker.TimedClaim) bool {
					return later.Sentinel == said.Sentinel && later.Time.Sub(old.heard) > holdReconnect
				})
			})
		})
	})
}

// room reports whether one more claim may be remembered. Where there is none,
// those of Sentinels that are silent for long are dropped.
func (c *claims) room(now time.Time) bool {
	n := 0
	for _, v := range c.names {
		n += len(v.said)
	}
	for _, v := range c.names {
		if n >= maxClaims {
			before := len(v.said)
			v.said = slices.DeleteFunc(v.said, func(s checker.TimedClaim) bool { return now.Sub(s.Time) > holdReconnect })
			n += len(v.said) - before
		}
	}
	return n < maxClaims
}
