package sim

import (
	"cmp"
	"time"
)

// An instanceLink is what a Sentinel has to one instance: a connection for
// commands, and one for Pub/Sub where the instance is a Redis.
type instanceLink struct {
	commands, pubsub        *conn
	disconnected            bool
	pending                 int
	commandsAt, pubsubAt    time.Duration // when they were made
	lastReconnect           time.Duration
	pubsubActivity          time.Duration
	pingSince               time.Duration // act_ping_time: of the first ping that is not answered, 0 for none
	lastPing                time.Duration
	lastAvailable, lastPong time.Duration
	users                   int
}

// newLink models createInstanceLink.
func newLink(now time.Duration) *instanceLink {
	return &instanceLink{disconnected: true, pingSince: now, lastAvailable: now, lastPong: now, users: 1}
}

// closeCommands and closePubsub model instanceLinkCloseConnection.
func (l *instanceLink) closeCommands() {
	if l.commands != nil {
		l.commands.close(0)
		l.commands, l.pending, l.disconnected = nil, 0, true
	}
}

func (l *instanceLink) closePubsub() {
	if l.pubsub != nil {
		l.pubsub.close(0)
		l.pubsub, l.disconnected = nil, true
	}
}

// release models releaseInstanceLink.
func (l *instanceLink) release() {
	if l.users--; l.users == 0 {
		l.closeCommands()
		l.closePubsub()
	}
}

// reconnect models sentinelReconnectInstance.
func (s *Sentinel) reconnect(ri *instance) {
	l := ri.link
	if !l.disconnected || s.w.now-l.lastReconnect < pingPeriod {
		return
	}
	l.lastReconnect = s.w.now
	if l.commands == nil {
		s.connectCommands(ri)
	}
	if ri.kind != kindSentinel && l.pubsub == nil {
		s.subscribe(ri)
	}
	l.disconnected = false
}

func (s *Sentinel) connectCommands(ri *instance) {
	l := ri.link
	to, accept := s.server(ri)
	var c *conn
	c = s.w.dial(&s.process, to, accept, func() { // instanceLinkConnectionError
		if l.commands == c {
			l.commands, l.disconnected, l.pending = nil, true, 0
		}
	})
	l.commands, l.pending, l.commandsAt = c, 0, s.w.now
	s.ping(ri)
}

// server is the process of an instance, and what it does with a connection.
func (s *Sentinel) server(ri *instance) (*process, func(*conn)) {
	if ri.kind == kindSentinel {
		other := s.w.sentinels[ri.node]
		return &other.process, func(*conn) {}
	}
	r := s.w.nodes[ri.node]
	return &r.process, r.accept
}

func (s *Sentinel) subscribe(ri *instance) {
	l, r := ri.link, s.w.nodes[ri.node]
	var c *conn
	c = s.w.dial(&s.process, &r.process, r.accept, func() {
		if l.pubsub == c {
			l.pubsub, l.disconnected = nil, true
		}
	})
	l.pubsub, l.pubsubAt = c, s.w.now
	request(c, r, command{class: classSubscribe, run: func(denied string) {
		if denied != "" {
			return
		}
		c.server.(*redisClient).subscribed = func(h Hello) { s.hear(ri, h) }
	}})
}

// hear models sentinelReceiveHelloMessages.
func (s *Sentinel) hear(ri *instance, h Hello) {
	ri.link.pubsubActivity = s.w.now
	if h.sentinel != s.id {
		s.processHello(h)
	}
}

// reply lets fn run when the answer to a command on c has come back.
func (s *Sentinel) reply(l *instanceLink, c *conn, fn func()) {
	c.send(1, func() {
		if l.commands == c {
			l.pending--
			fn()
		}
	})
}

// ping models sentinelSendPing and sentinelPingReplyCallback.
func (s *Sentinel) ping(ri *instance) {
	l, c := ri.link, ri.link.commands
	if c == nil {
		return
	}
	l.pending++
	if l.lastPing = s.w.now; l.pingSince == 0 {
		l.pingSince = s.w.now
	}
	pong := func(reply string) {
		if reply == "BUSY" && ri.sdown && !ri.killSent {
			ri.killSent = true
			r := s.w.nodes[ri.node]
			c.send(0, r.killScript)
		}
		if l.lastPong = s.w.now; reply == "PONG" || reply == "LOADING" {
			l.lastAvailable, l.pingSince = s.w.now, 0
		}
	}
	if ri.kind == kindSentinel {
		c.send(0, func() { s.reply(l, c, func() { pong("PONG") }) })
		return
	}
	request(c, s.w.nodes[ri.node], command{class: classPing, run: func(denied string) {
		s.reply(l, c, func() { pong(cmp.Or(denied, "PONG")) })
	}})
}

// askInfo sends INFO.
func (s *Sentinel) askInfo(ri *instance) {
	l, c, r := ri.link, ri.link.commands, s.w.nodes[ri.node]
	l.pending++
	request(c, r, command{class: classInfo, run: func(denied string) {
		i := r.info()
		s.reply(l, c, func() {
			if denied == "" {
				s.refresh(ri, i)
			}
		})
	}})
}

// sendHello models sentinelSendHello and sentinelPublishReplyCallback.
func (s *Sentinel) sendHello(ri *instance) {
	l, c := ri.link, ri.link.commands
	if l.disconnected || c == nil {
		return
	}
	master := ri.owner()
	h := s.hello(master)
	l.pending++
	published := func() { ri.lastPublished = s.w.now }
	if ri.kind == kindSentinel {
		other := s.w.sentinels[ri.node]
		c.send(0, func() {
			other.processHello(h)
			s.reply(l, c, published)
		})
		return
	}
	r := s.w.nodes[ri.node]
	request(c, r, command{class: classPublish, run: func(denied string) {
		if denied != "" {
			s.reply(l, c, func() {})
			return
		}
		s.reply(l, c, published)
		r.publish(h)
	}})
}

// forceHello models sentinelForceHelloUpdateForMaster.
func (s *Sentinel) forceHello(m *instance) {
	m.lastPublished -= publishPeriod + time.Millisecond
	for _, ri := range m.sentinels {
		ri.lastPublished -= publishPeriod + time.Millisecond
	}
	for _, ri := range m.slaves {
		ri.lastPublished -= publishPeriod + time.Millisecond
	}
}

// sendPeriodic models sentinelSendPeriodicCommands.
func (s *Sentinel) sendPeriodic(ri *instance) {
	l, now := ri.link, s.w.now
	if l.disconnected || l.commands == nil || l.pending >= maxPending*l.users {
		return
	}
	if ri.kind != kindSentinel {
		period := infoPeriod
		if ri.kind == kindSlave && (ri.master.odown || ri.master.failover || ri.linkDown != 0) {
			period = time.Second
		}
		if ri.infoAt == 0 || now-ri.infoAt > period {
			s.askInfo(ri)
		}
	}
	period := min(ri.downAfter, pingPeriod)
	if now-l.lastPong > period && now-l.lastPing > period/2 {
		s.ping(ri)
	}
	if now-ri.lastPublished > publishPeriod {
		s.sendHello(ri)
	}
}

// sendSlaveOf models sentinelSendSlaveOf, with none for NO ONE.
func (s *Sentinel) sendSlaveOf(ri *instance, master int, cause Cause) bool {
	c, r := ri.link.commands, s.w.nodes[ri.node]
	if c == nil {
		return false
	}
	cause.Sentinel, cause.Epoch = s.id, s.currentEpoch
	if m := ri.owner(); m.failover {
		cause.Epoch = m.failoverEpoch
	}
	request(c, r, command{class: classExec, run: func(denied string) {
		if denied == "" {
			r.reconfigure(c.server.(*redisClient), master, cause)
		}
	}})
	return true
}
