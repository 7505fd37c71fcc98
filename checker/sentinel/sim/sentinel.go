package sim

import (
	"fmt"
	"strings"
	"time"
)

// Periods of a Sentinel, named in sentinel.c as sentinel_*_period and so on.
const (
	infoPeriod      = 10 * time.Second
	pingPeriod      = time.Second
	askPeriod       = time.Second
	publishPeriod   = 2 * time.Second
	tiltTrigger     = 2 * time.Second
	tiltPeriod      = 30 * time.Second
	reconfTimeout   = 10 * time.Second // sentinel_slave_reconf_timeout
	minReconnectAge = 15 * time.Second // sentinel_min_link_reconnect_period
	electionTimeout = 10 * time.Second
	maxDesync       = time.Second // SENTINEL_MAX_DESYNC
	maxPending      = 100         // SENTINEL_MAX_PENDING_COMMANDS
	convertAfter    = 4 * publishPeriod
	leastHz         = 10 // server.hz is drawn anew at every timer
	mostHz          = 19
)

// A kind is what an instance is to a Sentinel.
type kind string

const (
	kindMaster   kind = "master"
	kindSlave    kind = "slave"
	kindSentinel kind = "sentinel"
)

// A Sentinel is one process of the Sentinels.
type Sentinel struct {
	process
	id           int
	currentEpoch uint64
	masters      []*instance
	tilt         bool
	tiltSince    time.Duration
	previous     time.Duration
	saved        []savedMaster // its configuration file
	savedEpoch   uint64
	crashAt      string // the step of a failover at which it crashes; empty for none
	watchers     []*watching
}

// A savedMaster is a master in a Sentinel's configuration file.
type savedMaster struct {
	name                     string
	node                     int
	configEpoch, leaderEpoch uint64
	slaves, sentinels        []int
}

// An instance is a sentinelRedisInstance: what a Sentinel knows of a master, of
// a replica of it, or of another Sentinel that watches it.
type instance struct {
	kind   kind
	name   string // of a master
	node   int    // its number, which stands for its address
	master *instance
	link   *instanceLink

	sdown, odown, masterDown, killSent     bool
	failover, forced, coordinated          bool
	promoted, reconfSent, reconfInProgress bool
	reconfDone                             bool

	lastPublished, lastMasterDownReply time.Duration
	sdownSince, odownSince             time.Duration
	downAfter                          time.Duration

	runID         string
	infoAt        time.Duration // info_refresh
	reported      kind          // role_reported
	reportedSince time.Duration
	confChanged   time.Duration // slave_conf_change_time
	follows       int           // slave_master_host and port
	linkUp        bool
	linkDown      time.Duration // master_link_down_time
	priority      int
	offset        int64
	reconfSentAt  time.Duration

	leader      int // whom this Sentinel, or the instance, has voted for; none for nobody
	leaderEpoch uint64

	configEpoch, failoverEpoch uint64
	state                      failoverStep
	stateSince, failoverStart  time.Duration
	slaves, sentinels          []*instance
	selected                   *instance // promoted_slave
}

// owner is the master that an instance belongs to.
func (ri *instance) owner() *instance {
	if ri.kind == kindMaster {
		return ri
	}
	return ri.master
}

func newSentinel(w *World, id int) *Sentinel {
	s := &Sentinel{process: process{w: w, host: id}, id: id}
	for _, name := range w.Config.Names {
		m := savedMaster{name: name}
		for i := range w.Config.Nodes {
			if i != 0 {
				m.slaves = append(m.slaves, i)
			}
		}
		for i := range w.Config.Sentinels {
			if i != id {
				m.sentinels = append(m.sentinels, i)
			}
		}
		for _, all := range [][]int{m.slaves, m.sentinels} { // a dict has an order of its own
			w.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		s.saved = append(s.saved, m)
	}
	return s
}

// boot is the begin of a history: after a second, the Sentinel is as one that
// has run for long.
func (s *Sentinel) boot() {
	s.start()
	s.after(time.Second, func() {
		for _, m := range s.masters {
			for _, ri := range s.instancesOf(m) {
				ri.link.commandsAt -= s.w.between(0, time.Minute)
				ri.link.pubsubAt -= s.w.between(0, time.Minute)
				if ri.infoAt > 0 {
					ri.infoAt -= s.w.between(0, infoPeriod-time.Second)
				}
				ri.lastPublished -= s.w.between(0, publishPeriod)
			}
		}
	})
}

// instancesOf are a master and all that belongs to it.
func (s *Sentinel) instancesOf(m *instance) []*instance {
	return append(append([]*instance{m}, m.slaves...), m.sentinels...)
}

// start starts the process with what its configuration file says: the run id
// stays.
func (s *Sentinel) start() {
	if s.alive || !s.w.hosts[s.host].up {
		return
	}
	s.begin()
	s.w.History.add(s.w.now, s.id, SentinelEvent, Up)
	s.currentEpoch, s.tilt, s.previous = s.savedEpoch, false, s.w.now
	s.masters, s.watchers = nil, nil
	for _, saved := range s.saved {
		m := s.newInstance(kindMaster, saved.node, nil)
		m.name, m.configEpoch, m.leaderEpoch = saved.name, saved.configEpoch, saved.leaderEpoch
		s.masters = append(s.masters, m)
		for _, node := range saved.slaves {
			m.slaves = append(m.slaves, s.newInstance(kindSlave, node, m))
		}
		for _, id := range saved.sentinels {
			s.addSentinel(m, id)
		}
		s.names(m)
	}
	s.every(func() time.Duration {
		return time.Second / time.Duration(leastHz+s.w.random.IntN(mostHz-leastHz+1))
	}, s.timer)
}

func (s *Sentinel) kill(power bool) {
	if s.alive {
		s.end(power)
		s.crashAt = ""
		s.w.History.add(s.w.now, s.id, SentinelEvent, Down)
	}
}

// flush models sentinelFlushConfig.
func (s *Sentinel) flush() {
	s.savedEpoch = s.currentEpoch
	s.saved = s.saved[:0:0]
	for _, m := range s.masters {
		saved := savedMaster{name: m.name, node: m.address(), configEpoch: m.configEpoch, leaderEpoch: m.leaderEpoch}
		for _, ri := range m.slaves {
			node := ri.node
			if node == saved.node { // the promoted one: the old master takes its place
				node = m.node
			}
			saved.slaves = append(saved.slaves, node)
		}
		for _, ri := range m.sentinels {
			saved.sentinels = append(saved.sentinels, ri.node)
		}
		s.saved = append(s.saved, saved)
	}
}

// newInstance models createSentinelRedisInstance.
func (s *Sentinel) newInstance(k kind, node int, master *instance) *instance {
	now := s.w.now
	return &instance{
		kind: k, node: node, master: master, link: newLink(now), lastPublished: now, lastMasterDownReply: now,
		downAfter: s.w.Config.DownAfter, reported: k, reportedSince: now, confChanged: now,
		follows: none, priority: 100, leader: none,
	}
}

// addSentinel adds another Sentinel; the link to it is shared by all masters
// (sentinelTryConnectionSharing).
func (s *Sentinel) addSentinel(m *instance, id int) *instance {
	ri := s.newInstance(kindSentinel, id, m)
	for _, other := range s.masters {
		for _, same := range other.sentinels {
			if other != m && same.node == id {
				ri.link = same.link
				ri.link.users++
			}
		}
	}
	m.sentinels = append(m.sentinels, ri)
	return ri
}

// address models sentinelGetCurrentMasterAddress.
func (ri *instance) address() int {
	if ri.failover && ri.selected != nil && ri.state >= stepReconfSlaves {
		return ri.selected.node
	}
	return ri.node
}

// names writes into the history whom the Sentinel names.
func (s *Sentinel) names(m *instance) {
	s.w.History.names(s.w.now, s.id, m.name, m.address(), m.configEpoch)
}

// event models sentinelEvent: it is published on the Sentinel itself.
func (s *Sentinel) event(what string, ri *instance, more string) {
	about := ri.node
	if ri.kind == kindSentinel {
		about = none
	}
	s.w.History.said(s.w.now, s.id, what, about, s.currentEpoch)
	if len(s.watchers) == 0 {
		return
	}
	payload := s.payload(ri) + more
	if what == "+switch-master" || what == "+vote-for-leader" || what == "+new-epoch" {
		payload = strings.TrimSpace(more)
	}
	for _, x := range s.watchers {
		x.published(what, payload)
	}
}

// payload models what sentinelEvent writes for %@.
func (s *Sentinel) payload(ri *instance) string {
	m := ri.owner()
	of := fmt.Sprintf("%s %s", s.w.Config.Host(m.node), fmt.Sprint(port))
	switch ri.kind {
	case kindMaster:
		return fmt.Sprintf("master %s %s", m.name, of)
	case kindSlave:
		host := s.w.Config.Host(ri.node)
		return fmt.Sprintf("slave %s:%d %s %d @ %s %s", host, port, host, port, m.name, of)
	}
	ip := s.w.Config.hostIP(ri.node)
	return fmt.Sprintf("sentinel %s %s %d @ %s %s", sentinelID(ri.node), ip, sentinelPort, m.name, of)
}

// sentinelID is the run id of a Sentinel.
func sentinelID(id int) string { return fmt.Sprintf("%040x", 0xa0+id) }

// A Hello is what a Sentinel publishes.
type Hello struct {
	Sentinel string // its run id
	From     string // its host:port
	Current  uint64 // its current epoch
	Name     string // of the master
	Master   string // host:port of the node that it names
	Epoch    uint64 // the config epoch

	sentinel, node int
}

// String is the message as it is published: host, port, run id and current
// epoch of the Sentinel, name, host, port and config epoch of the master.
func (h Hello) String() string {
	from, master := strings.Replace(h.From, ":", ",", 1), strings.Replace(h.Master, ":", ",", 1)
	return fmt.Sprintf("%s,%s,%d,%s,%s,%d", from, h.Sentinel, h.Current, h.Name, master, h.Epoch)
}

// hello models sentinelSendHello: what the message says.
func (s *Sentinel) hello(m *instance) Hello {
	node := m.address()
	c := &s.w.Config
	return Hello{
		Sentinel: c.sentinelIDs[s.id], From: c.sentinelAddresses[s.id], Current: s.currentEpoch,
		Name: m.name, Master: c.Address(node), Epoch: m.configEpoch, sentinel: s.id, node: node,
	}
}

// processHello models sentinelProcessHelloMessage.
func (s *Sentinel) processHello(h Hello) {
	m := s.masterByName(h.Name)
	if m == nil {
		return
	}
	var si *instance
	for _, ri := range m.sentinels {
		if ri.node == h.sentinel {
			si = ri
		}
	}
	if si == nil {
		si = s.addSentinel(m, h.sentinel)
		s.event("+sentinel", si, "")
		s.flush()
	}
	if h.Current > s.currentEpoch {
		s.currentEpoch = h.Current
		s.flush()
		s.event("+new-epoch", m, fmt.Sprint(s.currentEpoch))
	}
	if m.configEpoch < h.Epoch {
		m.configEpoch = h.Epoch
		if h.node != m.node {
			s.event("+config-update-from", si, "")
			s.switchMaster(m, h.node)
		} else {
			s.names(m)
		}
	}
}

func (s *Sentinel) masterByName(name string) *instance {
	for _, m := range s.masters {
		if m.name == name {
			return m
		}
	}
	return nil
}

// switchMaster models sentinelResetMasterAndChangeAddress and the event before
// it.
func (s *Sentinel) switchMaster(m *instance, node int) {
	from, to := s.w.Config.Host(m.node), s.w.Config.Host(node)
	s.event("+switch-master", m, fmt.Sprintf("%s %s %d %s %d", m.name, from, port, to, port))
	var slaves []int
	for _, ri := range m.slaves {
		if ri.node != node {
			slaves = append(slaves, ri.node)
		}
	}
	if node != m.node {
		slaves = append(slaves, m.node)
	}
	s.resetMaster(m)
	m.node, m.odownSince, m.sdownSince = node, 0, 0
	for _, n := range slaves {
		ri := s.newInstance(kindSlave, n, m)
		m.slaves = append(m.slaves, ri)
		s.event("+slave", ri, "")
	}
	s.flush()
	s.names(m)
}

// resetMaster models sentinelResetMaster, which keeps the other Sentinels.
func (s *Sentinel) resetMaster(m *instance) {
	now := s.w.now
	for _, ri := range m.slaves {
		ri.link.release()
	}
	m.slaves = nil
	m.link.closeCommands()
	m.link.closePubsub()
	m.sdown, m.odown, m.killSent = false, false, false
	m.failover, m.forced, m.coordinated = false, false, false
	m.leader, m.state, m.stateSince, m.failoverStart, m.selected = none, stepNone, 0, 0, nil
	m.runID, m.follows = "", none
	m.link.pingSince, m.link.lastPing, m.link.lastAvailable, m.link.lastPong = now, 0, now, now
	m.reportedSince, m.reported = now, kindMaster
}

// Reset is SENTINEL RESET *: the other Sentinels are forgotten, too.
func (s *Sentinel) Reset() {
	for _, m := range s.masters {
		for _, ri := range m.sentinels {
			ri.link.release()
		}
		m.sentinels = nil
		s.resetMaster(m)
		s.event("+reset-master", m, "")
	}
}

// Rename is SENTINEL REMOVE and then SENTINEL MONITOR by another name: all that
// is known of the master is lost, but not the current epoch.
func (s *Sentinel) Rename(name string, node int) {
	for _, m := range s.masters {
		for _, ri := range s.instancesOf(m) {
			ri.link.release()
		}
		s.w.History.names(s.w.now, s.id, m.name, none, 0)
	}
	m := s.newInstance(kindMaster, node, nil)
	m.name = name
	s.masters = []*instance{m}
	s.flush()
	s.names(m)
}

// refresh models sentinelRefreshInstanceInfo.
func (s *Sentinel) refresh(ri *instance, i info) {
	now := s.w.now
	if ri.runID != "" && ri.runID != i.runID {
		s.event("+reboot", ri, "")
	}
	ri.runID = i.runID
	if ri.kind == kindMaster {
		for _, node := range i.replicas {
			s.addSlave(ri, node)
		}
	}
	ri.linkDown = i.linkDown
	reported := kindMaster
	if i.master != none {
		reported = kindSlave
		if ri.follows != i.master {
			ri.follows, ri.confChanged = i.master, now
		}
		ri.linkUp, ri.priority, ri.offset = i.linkUp, i.priority, i.offset
	}
	ri.infoAt = now
	if reported != ri.reported {
		ri.reported, ri.reportedSince = reported, now
		if reported == kindSlave {
			ri.confChanged = now
		}
		what := "+role-change"
		if reported != ri.kind {
			what = "-role-change"
		}
		s.event(what, ri, " new reported role is "+string(reported))
	}
	if s.tilt || ri.kind != kindSlave {
		return
	}
	if reported == kindMaster {
		s.slaveIsMaster(ri)
		return
	}
	s.fixSlave(ri)
	s.reconfigured(ri)
}

// addSlave is the part of sentinelRefreshInstanceInfo about the replicas that a
// master lists.
func (s *Sentinel) addSlave(m *instance, node int) {
	for _, ri := range m.slaves {
		if ri.node == node {
			return
		}
	}
	ri := s.newInstance(kindSlave, node, m)
	m.slaves = append(m.slaves, ri)
	s.event("+slave", ri, "")
	s.flush()
}

// slaveIsMaster is the part of sentinelRefreshInstanceInfo about a replica that
// says master: it was promoted, or is made a replica again.
func (s *Sentinel) slaveIsMaster(ri *instance) {
	m := ri.master
	if ri.promoted && m.failover && m.state == stepWaitPromotion {
		m.configEpoch = m.failoverEpoch
		m.state, m.stateSince = stepReconfSlaves, s.w.now
		s.flush()
		s.event("+promoted-slave", ri, "")
		s.names(m)
		if s.crashes(CrashAfterPromotion) {
			return
		}
		s.event("+failover-state-reconf-slaves", m, "")
		s.forceHello(m)
		if m.coordinated {
			s.killClientsOf(ri)
			s.killClientsOf(m)
		}
		return
	}
	if !ri.promoted && s.looksSane(m) && s.upFor(ri, convertAfter) && s.w.now-ri.reportedSince > convertAfter {
		if s.sendSlaveOf(ri, m.node, Cause{}) {
			s.event("+convert-to-slave", ri, "")
		}
	}
}

// killClientsOf is what Valkey's COORDINATED does when it has seen the
// promotion, for FAILOVER closes nothing.
func (s *Sentinel) killClientsOf(ri *instance) {
	if c, r := ri.link.commands, s.w.nodes[ri.node]; c != nil {
		request(c, r, command{class: classExec, run: func(denied string) {
			if denied == "" {
				r.killClients(c.server.(*redisClient))
			}
		}})
	}
}

// fixSlave is the part of sentinelRefreshInstanceInfo about a replica of
// another master.
func (s *Sentinel) fixSlave(ri *instance) {
	m := ri.master
	wait := s.w.Config.FailoverTimeout
	if ri.follows != m.node && s.looksSane(m) && s.upFor(ri, wait) && s.w.now-ri.confChanged > wait {
		if s.sendSlaveOf(ri, m.node, Cause{}) {
			s.event("+fix-slave-config", ri, "")
		}
	}
}

// reconfigured is the part of sentinelRefreshInstanceInfo about a replica that
// was told to follow the promoted one.
func (s *Sentinel) reconfigured(ri *instance) {
	if ri.reconfSent && ri.master.selected != nil && ri.follows == ri.master.selected.node {
		ri.reconfSent, ri.reconfInProgress = false, true
		s.event("+slave-reconf-inprog", ri, "")
	}
	if ri.reconfInProgress && ri.linkUp {
		ri.reconfInProgress, ri.reconfDone = false, true
		s.event("+slave-reconf-done", ri, "")
	}
}

// looksSane models sentinelMasterLooksSane.
func (s *Sentinel) looksSane(m *instance) bool {
	return m.reported == kindMaster && !m.sdown && !m.odown && s.w.now-m.infoAt < 2*infoPeriod
}

// upFor models sentinelRedisInstanceNoDownFor.
func (s *Sentinel) upFor(ri *instance, d time.Duration) bool {
	last := max(ri.sdownSince, ri.odownSince)
	return last == 0 || s.w.now-last > d
}

// checkSubjectivelyDown models its namesake.
func (s *Sentinel) checkSubjectivelyDown(ri *instance) {
	l, now := ri.link, s.w.now
	var elapsed time.Duration
	if l.pingSince > 0 {
		elapsed = now - l.pingSince
	} else if l.disconnected {
		elapsed = now - l.lastAvailable
	}
	late := l.pingSince > 0 && now-l.pingSince > ri.downAfter/2 && now-l.lastPong > ri.downAfter/2
	if l.commands != nil && now-l.commandsAt > minReconnectAge && late {
		l.closeCommands()
	}
	if l.pubsub != nil && now-l.pubsubAt > minReconnectAge && now-l.pubsubActivity > 3*publishPeriod {
		l.closePubsub()
	}
	down := elapsed > ri.downAfter ||
		ri.kind == kindMaster && ri.reported == kindSlave && now-ri.reportedSince > ri.downAfter+2*infoPeriod
	switch {
	case down && !ri.sdown:
		s.event("+sdown", ri, "")
		ri.sdown, ri.sdownSince = true, now
	case !down && ri.sdown:
		s.event("-sdown", ri, "")
		ri.sdown, ri.killSent = false, false
	}
}

// checkObjectivelyDown models its namesake.
func (s *Sentinel) checkObjectivelyDown(m *instance) {
	votes := 0
	if m.sdown {
		votes = 1
		for _, ri := range m.sentinels {
			if ri.masterDown {
				votes++
			}
		}
	}
	down := votes >= s.w.Config.Quorum
	switch {
	case down && !m.odown:
		s.event("+odown", m, fmt.Sprintf(" #quorum %d/%d", votes, s.w.Config.Quorum))
		m.odown, m.odownSince = true, s.w.now
	case !down && m.odown:
		s.event("-odown", m, "")
		m.odown = false
	}
}

// timer models sentinelTimer and sentinelHandleDictOfRedisInstances.
func (s *Sentinel) timer() {
	if d := s.w.now - s.previous; d > tiltTrigger { // sentinelCheckTiltCondition
		s.tilt, s.tiltSince = true, s.w.now
		s.w.History.said(s.w.now, s.id, "+tilt", none, s.currentEpoch)
	}
	s.previous = s.w.now
	life := s.life
	for _, m := range s.masters {
		s.handle(m)
		for _, ri := range m.slaves {
			s.handle(ri)
		}
		for _, ri := range m.sentinels {
			s.handle(ri)
		}
		if s.life != life {
			return // it crashed on purpose
		}
		if m.state == stepUpdateConfig {
			s.switchMaster(m, m.selected.node)
		}
	}
}

// handle models sentinelHandleRedisInstance.
func (s *Sentinel) handle(ri *instance) {
	if !s.alive {
		return
	}
	s.reconnect(ri)
	s.sendPeriodic(ri)
	if s.tilt {
		if s.w.now-s.tiltSince < tiltPeriod {
			return
		}
		s.tilt = false
		s.w.History.said(s.w.now, s.id, "-tilt", none, s.currentEpoch)
	}
	s.checkSubjectivelyDown(ri)
	if ri.kind != kindMaster {
		return
	}
	s.checkObjectivelyDown(ri)
	if s.startFailoverIfNeeded(ri) {
		s.askOthers(ri, true)
	}
	s.step(ri)
	s.askOthers(ri, false)
}
