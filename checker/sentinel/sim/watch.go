package sim

import (
	"fmt"
	"strings"
	"time"

	"redis-is-master/checker"
)

// A MasterReply is what SENTINEL MASTER name says (addReplySentinelRedisInstance),
// with what SENTINEL MYID, INFO and SENTINEL IS-MASTER-DOWN-BY-ADDR add.
type MasterReply struct {
	Name              string
	Address           string // host:port; of the old master until +switch-master, though ConfigEpoch is new before
	Current           string // of SENTINEL get-master-addr-by-name: the promoted node as soon as its promotion is seen
	Flags             string // such as "s_down,o_down,master,failover_in_progress"
	FailoverState     string // empty while there is no failover
	ConfigEpoch       uint64
	NumSlaves         int
	NumOtherSentinels int
	Quorum            int
	DownAfter         time.Duration
	FailoverTimeout   time.Duration
	RoleReported      string
	Tilt              bool // of INFO sentinel
	TiltFor           time.Duration
	ID                string // that its hellos carry
	RunID             string // of its process
	VotedEpoch        uint64 // leader_epoch
}

// masterReply is what a Sentinel says of a master.
func (s *Sentinel) masterReply(name string) (MasterReply, bool) {
	m := s.masterByName(name)
	if m == nil {
		return MasterReply{}, false
	}
	c := &s.w.Config
	reply := MasterReply{
		Name: name, Address: c.Address(m.node), Current: c.Address(m.address()), Flags: m.flags(),
		ConfigEpoch: m.configEpoch, NumSlaves: len(m.slaves), NumOtherSentinels: len(m.sentinels),
		Quorum: c.Quorum, DownAfter: m.downAfter,
		FailoverTimeout: c.FailoverTimeout, RoleReported: string(m.reported), Tilt: s.tilt,
		TiltFor: (s.w.now - s.tiltSince).Truncate(time.Second), ID: sentinelID(s.id),
		RunID: fmt.Sprint(s.life), VotedEpoch: m.leaderEpoch,
	}
	if m.failover {
		reply.FailoverState = m.state.String()
	}
	return reply, true
}

func (ri *instance) flags() string {
	var all []string
	for _, f := range []struct {
		is   bool
		name string
	}{
		{ri.sdown, "s_down"}, {ri.odown, "o_down"}, {true, "master"}, {ri.link.disconnected, "disconnected"},
		{ri.failover, "failover_in_progress"}, {ri.forced, "force_failover"}, {ri.killSent, "script_kill_sent"},
	} {
		if f.is {
			all = append(all, f.name)
		}
	}
	return strings.Join(all, ",")
}

// Times of the connection to a Sentinel.
const (
	watchAskEvery   = time.Second
	watchSilentEach = 4 // as often where the node is silent
	watchTimeout    = time.Second
)

// A watching is the connection of a daemon to a Sentinel.
type watching struct {
	d        *runner
	watcher  Watcher
	sentinel *Sentinel
	address  string
	conn     *conn
	stood    bool
	heard    time.Duration // when it answered last
	ticks    int
}

// watch connects the daemon to all Sentinels that it can reach, if it wants that.
func (d *runner) watch() {
	watcher, ok := d.daemon.(Watcher)
	if d.watching = nil; !ok || !d.w.Config.Watch {
		return
	}
	for _, s := range d.w.sentinels {
		if d.w.Config.blind(d.node, s.id) {
			continue
		}
		x := &watching{d: d, watcher: watcher, sentinel: s, address: d.w.Config.sentinelAddresses[s.id]}
		d.watching = append(d.watching, x)
		x.connect()
		d.every(func() time.Duration { return watchAskEvery / watchSilentEach }, x.tick)
	}
}

func (x *watching) connect() {
	s := x.sentinel
	x.stood, x.heard = false, x.d.w.now
	var c *conn
	c = x.d.w.dial(&x.d.process, &s.process, func(c *conn) {
		s.watchers = append(s.watchers, x)
		c.end[1].onClose = func() { s.unwatch(x) }
		c.send(1, func() {
			if x.conn == c {
				x.stood = true
				x.watcher.Connected(x.d.now(), x.address)
				x.d.update()
				x.ask()
			}
		})
	}, func() { x.lost(c) })
	x.conn = c
}

func (s *Sentinel) unwatch(x *watching) {
	for i, y := range s.watchers {
		if x == y {
			s.watchers = append(s.watchers[:i:i], s.watchers[i+1:]...)
			return
		}
	}
}

// lost is the end of the connection; it is made again after a pause.
func (x *watching) lost(c *conn) {
	if x.conn != c {
		return
	}
	x.conn = nil
	if x.stood {
		x.stood = false
		x.watcher.Disconnected(x.d.now(), x.address)
		x.d.update()
	}
}

// tick asks, and gives up a connection that does not answer.
func (x *watching) tick() {
	x.ticks++
	switch {
	case x.ticks%watchSilentEach > 0 && !x.watcher.Silent():
	case x.conn == nil:
		x.connect()
	case x.d.w.now-x.heard > watchTimeout+watchAskEvery:
		c := x.conn
		c.close(0)
		x.lost(c)
	case x.stood:
		x.ask()
	}
}

func (x *watching) ask() {
	c, clock := x.conn, x.d.now()
	for _, name := range x.d.w.Config.Names {
		c.send(0, func() {
			m, ok := x.sentinel.masterReply(name)
			c.send(1, func() {
				if x.conn == c {
					x.heard = x.d.w.now
					x.watcher.Replied(clock, x.d.now(), x.address, m, ok)
					x.d.update()
				}
			})
		})
	}
}

// published carries an event to the daemon, which asks after it.
func (x *watching) published(channel, payload string) {
	c := x.conn
	if c == nil {
		return
	}
	c.send(1, func() {
		if x.conn == c {
			x.heard = x.d.w.now
			x.watcher.Published(x.d.now(), x.address, channel, payload)
			x.d.update()
			x.ask()
		}
	})
}

// Times of asking for a failover, see watch.Confirmer.
const (
	failoverWrite   = 2 * time.Millisecond // to the state file, at most
	failoverValid   = 250 * time.Millisecond
	failoverTimeout = 500 * time.Millisecond
)

// failover asks a Sentinel for a failover if the daemon wants it. The host may stand
// still between the decision and the question.
func (d *runner) failover() {
	if len(d.watching) == 0 || !d.w.Config.CrashFailover {
		return
	}
	address, name := d.watching[0].watcher.Failover(d.now())
	if address == "" {
		return
	}
	decided, suspended, program := d.w.now, d.w.hosts[d.host].suspended, d.program
	d.after(d.w.between(0, failoverWrite), func() {
		if program != d.program {
			return
		}
		for _, x := range d.watching {
			if x.address == address && x.stood && d.w.now-decided+d.w.hosts[d.host].suspended-suspended < failoverValid {
				x.failover(name)
				return
			}
		}
		d.watching[0].watcher.FailoverReplied(d.now(), address, name, checker.FailoverUnsent)
		d.update()
	})
}

// failover asks the Sentinel. A question that is not answered is taken back, as far
// as it has not arrived.
func (x *watching) failover(name string) {
	c, done, program := x.conn, false, x.d.program
	x.d.w.History.asks(x.d.w.now, x.d.node, x.sentinel.id)
	replied := func(r checker.FailoverResult) {
		if !done && program == x.d.program {
			done = true
			x.watcher.FailoverReplied(x.d.now(), x.address, name, r)
			x.d.update()
		}
	}
	c.send(0, func() {
		r := x.sentinel.failoverCommand(x.sentinel.masterByName(name), false)
		c.send(1, func() { replied(r) })
	})
	x.d.after(failoverTimeout, func() {
		if !done && program == x.d.program {
			c.reset(0)
			x.lost(c)
			replied(checker.FailoverSilent)
		}
	})
}
