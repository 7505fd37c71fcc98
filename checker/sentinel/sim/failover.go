package sim

import (
	"fmt"
	"time"

	"redis-is-master/checker"
)

// A failoverStep is a state of the failover state machine of a Sentinel.
type failoverStep int

const (
	stepNone failoverStep = iota
	stepWaitStart
	stepSelectSlave
	stepSendSlaveOfNoOne
	stepWaitPromotion
	stepReconfSlaves
	stepUpdateConfig
)

// String is the state as SENTINEL MASTER calls it.
func (f failoverStep) String() string {
	return [...]string{
		"none", "wait_start", "select_slave", "send_slaveof_noone", "wait_promotion", "reconf_slaves", "update_config",
	}[f]
}

// The steps of a failover at which a Sentinel can be made to crash.
const (
	CrashAfterElection  = "after its election"
	CrashAfterSelection = "after it has selected a replica"
	CrashAfterCommand   = "after SLAVEOF NO ONE"
	CrashAfterPromotion = "after it has seen the promotion"
)

// crashes ends the Sentinel if it was told to crash at this step.
func (s *Sentinel) crashes(step string) bool {
	if s.crashAt != step {
		return false
	}
	s.w.History.add(s.w.now, s.id, FaultEvent, "its Sentinel crashes "+step)
	s.kill(true)
	s.w.after(s.w.between(time.Second, 20*time.Second), s.start)
	return true
}

// askOthers models sentinelAskMasterStateToOtherSentinels and
// sentinelReceiveIsMasterDownReply.
func (s *Sentinel) askOthers(m *instance, forced bool) {
	now := s.w.now
	for _, ri := range m.sentinels {
		elapsed := now - ri.lastMasterDownReply
		if elapsed > 5*askPeriod {
			ri.masterDown, ri.leader = false, none
		}
		if !m.sdown || ri.link.disconnected || ri.link.commands == nil || !forced && elapsed < askPeriod {
			continue
		}
		candidate := none
		if m.state > stepNone {
			candidate = s.id
		}
		l, c, other := ri.link, ri.link.commands, s.w.sentinels[ri.node]
		node, epoch := m.node, s.currentEpoch
		l.pending++
		c.send(0, func() {
			down, leader, leaderEpoch := other.isMasterDown(node, epoch, candidate)
			s.reply(l, c, func() {
				ri.lastMasterDownReply, ri.masterDown = s.w.now, down
				if leader != none {
					ri.leader, ri.leaderEpoch = leader, leaderEpoch
				}
			})
		})
	}
}

// isMasterDown models SENTINEL is-master-down-by-addr: it knows a master by its
// address.
func (s *Sentinel) isMasterDown(node int, epoch uint64, candidate int) (down bool, leader int, leaderEpoch uint64) {
	for _, m := range s.masters {
		if m.node != node {
			continue
		}
		if leader = none; candidate != none {
			leader, leaderEpoch = s.vote(m, epoch, candidate)
		}
		return !s.tilt && m.sdown, leader, leaderEpoch
	}
	return false, none, 0
}

// vote models sentinelVoteLeader.
func (s *Sentinel) vote(m *instance, epoch uint64, candidate int) (leader int, leaderEpoch uint64) {
	if epoch > s.currentEpoch {
		s.currentEpoch = epoch
		s.flush()
		s.event("+new-epoch", m, fmt.Sprint(epoch))
	}
	if m.leaderEpoch < epoch && s.currentEpoch <= epoch {
		m.leader, m.leaderEpoch = candidate, s.currentEpoch
		s.flush()
		s.event("+vote-for-leader", m, fmt.Sprintf("%s %d", sentinelID(candidate), m.leaderEpoch))
		if candidate != s.id {
			m.failoverStart = s.w.now + s.w.between(0, maxDesync)
		}
	}
	return m.leader, m.leaderEpoch
}

// leaderOf models sentinelGetLeader.
func (s *Sentinel) leaderOf(m *instance, epoch uint64) int {
	votes := make([]int, s.w.Config.Sentinels)
	winner, most := none, 0
	count := func(leader int) {
		if votes[leader]++; votes[leader] > most {
			winner, most = leader, votes[leader]
		}
	}
	for _, ri := range m.sentinels {
		if ri.leader != none && ri.leaderEpoch == s.currentEpoch {
			count(ri.leader)
		}
	}
	candidate := s.id
	if winner != none {
		candidate = winner
	}
	if mine, at := s.vote(m, epoch, candidate); mine != none && at == epoch {
		count(mine)
	}
	voters := len(m.sentinels) + 1
	if most < voters/2+1 || most < s.w.Config.Quorum {
		return none
	}
	return winner
}

// startFailover models sentinelStartFailover.
func (s *Sentinel) startFailover(m *instance) {
	m.state, m.failover = stepWaitStart, true
	s.currentEpoch++
	m.failoverEpoch = s.currentEpoch
	s.event("+new-epoch", m, fmt.Sprint(s.currentEpoch))
	s.event("+try-failover", m, "")
	m.failoverStart = s.w.now + s.w.between(0, maxDesync)
	m.stateSince = s.w.now
}

// startFailoverIfNeeded models its namesake.
func (s *Sentinel) startFailoverIfNeeded(m *instance) bool {
	if !m.odown || m.failover || s.w.now-m.failoverStart < 2*s.w.Config.FailoverTimeout {
		return false
	}
	s.startFailover(m)
	return true
}

// Failover is SENTINEL FAILOVER, with COORDINATED if that is asked for. It
// reports whether it was accepted.
func (s *Sentinel) Failover(coordinated bool) bool {
	if !s.alive || s.stops > 0 {
		return false
	}
	return s.failoverCommand(s.masters[0], coordinated) == checker.FailoverAsked
}

// failoverCommand models sentinelCommand's FAILOVER.
func (s *Sentinel) failoverCommand(m *instance, coordinated bool) checker.FailoverResult {
	switch {
	case m == nil:
		return checker.FailoverRefused
	case m.failover:
		return checker.FailoverOther
	case s.selectSlave(m) == nil:
		return checker.FailoverNoReplica
	}
	s.startFailover(m)
	m.forced, m.coordinated = true, coordinated
	return checker.FailoverAsked
}

// selectSlave models sentinelSelectSlave.
func (s *Sentinel) selectSlave(m *instance) *instance {
	now := s.w.now
	maxDown := 10 * m.downAfter
	validity := 3 * infoPeriod
	if m.sdown {
		maxDown += now - m.sdownSince
		validity = 5 * pingPeriod
	}
	var best *instance
	for _, ri := range m.slaves {
		if ri.sdown || ri.link.disconnected || now-ri.link.lastAvailable > 5*pingPeriod || ri.priority == 0 ||
			now-ri.infoAt > validity || ri.linkDown > maxDown {
			continue
		}
		if best == nil || ri.betterThan(best) {
			best = ri
		}
	}
	return best
}

// betterThan models compareSlavesForPromotion.
func (ri *instance) betterThan(other *instance) bool {
	switch {
	case ri.priority != other.priority:
		return ri.priority < other.priority
	case ri.offset != other.offset:
		return ri.offset > other.offset
	case ri.runID == "" || other.runID == "":
		return ri.runID != ""
	}
	return ri.runID < other.runID
}

// step models sentinelFailoverStateMachine.
func (s *Sentinel) step(m *instance) {
	if !m.failover {
		return
	}
	switch m.state {
	case stepWaitStart:
		s.waitStart(m)
	case stepSelectSlave:
		s.selectStep(m)
	case stepSendSlaveOfNoOne:
		s.sendSlaveOfNoOne(m)
	case stepWaitPromotion:
		if s.w.now-m.stateSince > s.w.Config.FailoverTimeout {
			s.event("-failover-abort-slave-timeout", m, "")
			s.abort(m)
		}
	case stepReconfSlaves:
		s.reconfNextSlave(m)
	}
}

// waitStart models sentinelFailoverWaitStart.
func (s *Sentinel) waitStart(m *instance) {
	if s.leaderOf(m, m.failoverEpoch) != s.id && !m.forced {
		if s.w.now-m.failoverStart > min(electionTimeout, s.w.Config.FailoverTimeout) {
			s.event("-failover-abort-not-elected", m, "")
			s.abort(m)
		}
		return
	}
	s.event("+elected-leader", m, "")
	if s.crashes(CrashAfterElection) {
		return
	}
	m.state, m.stateSince = stepSelectSlave, s.w.now
	s.event("+failover-state-select-slave", m, "")
}

// selectStep models sentinelFailoverSelectSlave.
func (s *Sentinel) selectStep(m *instance) {
	ri := s.selectSlave(m)
	if ri == nil {
		s.event("-failover-abort-no-good-slave", m, "")
		s.abort(m)
		return
	}
	s.event("+selected-slave", ri, "")
	ri.promoted, m.selected = true, ri
	m.state, m.stateSince = stepSendSlaveOfNoOne, s.w.now
	s.event("+failover-state-send-slaveof-noone", ri, "")
	s.crashes(CrashAfterSelection)
}

// sendSlaveOfNoOne models sentinelFailoverSendSlaveOfNoOne, and
// sentinelFailoverSendFailover of Valkey 9, which has the master do it.
func (s *Sentinel) sendSlaveOfNoOne(m *instance) {
	cause := Cause{Kind: CauseElected}
	if m.forced {
		cause.Kind = CauseForced
	}
	to := m.selected
	if m.coordinated {
		to = m
	}
	if to.link.disconnected {
		if s.w.now-m.stateSince > s.w.Config.FailoverTimeout {
			s.event("-failover-abort-slave-timeout", m, "")
			s.abort(m)
		}
		return
	}
	if m.coordinated {
		s.sendFailover(m)
	} else if !s.sendSlaveOf(to, none, cause) {
		return
	}
	s.event("+failover-state-wait-promotion", m.selected, "")
	m.state, m.stateSince = stepWaitPromotion, s.w.now
	s.crashes(CrashAfterCommand)
}

// sendFailover has the master run FAILOVER TO the selected replica.
func (s *Sentinel) sendFailover(m *instance) {
	c, r, target := m.link.commands, s.w.nodes[m.node], m.selected.node
	if c == nil {
		return
	}
	request(c, r, command{class: classExec, run: func(denied string) {
		if denied == "" {
			r.startFailover(target, s.w.Config.FailoverTimeout)
		}
	}})
}

// abort models sentinelAbortFailover.
func (s *Sentinel) abort(m *instance) {
	m.failover, m.forced, m.coordinated = false, false, false
	m.state, m.stateSince = stepNone, s.w.now
	if m.selected != nil {
		m.selected.promoted, m.selected = false, nil
	}
}

// reconfNextSlave models sentinelFailoverReconfNextSlave.
func (s *Sentinel) reconfNextSlave(m *instance) {
	inProgress := 0
	for _, ri := range m.slaves {
		if ri.reconfSent || ri.reconfInProgress {
			inProgress++
		}
	}
	for _, ri := range m.slaves {
		if inProgress >= s.w.Config.ParallelSyncs {
			break
		}
		if ri.promoted || ri.reconfDone {
			continue
		}
		if ri.reconfSent && s.w.now-ri.reconfSentAt > reconfTimeout {
			s.event("-slave-reconf-sent-timeout", ri, "")
			ri.reconfSent, ri.reconfDone = false, true
		}
		if ri.reconfSent || ri.reconfInProgress || ri.link.disconnected {
			continue
		}
		if s.sendSlaveOf(ri, m.selected.node, Cause{}) {
			ri.reconfSent, ri.reconfSentAt = true, s.w.now
			s.event("+slave-reconf-sent", ri, "")
			inProgress++
		}
	}
	s.detectEnd(m)
}

// detectEnd models sentinelFailoverDetectEnd.
func (s *Sentinel) detectEnd(m *instance) {
	if m.selected == nil || m.selected.sdown {
		return
	}
	left := 0
	for _, ri := range m.slaves {
		if !ri.promoted && !ri.reconfDone && !ri.sdown {
			left++
		}
	}
	timeout := s.w.now-m.stateSince > s.w.Config.FailoverTimeout
	if timeout {
		left = 0
		s.event("+failover-end-for-timeout", m, "")
	}
	if left == 0 {
		s.event("+failover-end", m, "")
		m.state, m.stateSince = stepUpdateConfig, s.w.now
	}
	if !timeout {
		return
	}
	for _, ri := range m.slaves {
		if ri.promoted || ri.reconfDone || ri.reconfSent || ri.link.disconnected {
			continue
		}
		if s.sendSlaveOf(ri, m.selected.node, Cause{}) {
			ri.reconfSent = true
			s.event("+slave-reconf-sent-be", ri, "")
		}
	}
}
