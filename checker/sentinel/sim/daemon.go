package sim

import (
	"errors"
	"slices"
	"time"

	"redis-is-master/checker"
)

// A Daemon is what decides on one node whether that is the master. The world
// probes the node and listens to the hellos for it, as the real daemon does,
// and tells it what comes of that. After each call it asks Wake, Next and
// Answer.
//
// A node's daemon is called by one goroutine at a time. The times are those of
// the world; asked is when the question was put.
type Daemon interface {
	// Start is the begin of the process; what an earlier one knew is lost.
	Start(now time.Time)
	// Probed is the end of a probe. err is an [*checker.Error] or nil.
	Probed(asked, now time.Time, o checker.Observation, err error)
	// Subscribed is the begin of the subscription to the hellos, Unsubscribed
	// its end: the world subscribes again at once.
	Subscribed(now time.Time)
	Unsubscribed(now time.Time)
	// Heard is a hello. local says that its Sentinel runs on this host.
	Heard(now time.Time, h Hello, names Match, local bool)
	// Timer is called at the time that Next gave.
	Timer(now time.Time)
	// Next is when Timer shall be called; never if that has passed.
	Next() time.Time
	// Wake reports whether a probe shall begin at once, not at the next tick,
	// since the last call.
	Wake() bool
	// Answer is what the outputs say at a time.
	Answer(now time.Time) Answer
}

// An Answer is what a daemon says.
type Answer struct {
	Yes    bool
	Reason string
	Epoch  uint64 // of the promotion, for the promotion file
}

// A Match is whether an address is that of the daemon's node.
type Match int

// The matches.
const (
	NamesOther Match = iota
	NamesUs
	NamesUnknown // the name could not be resolved
)

// A Watcher is a [Daemon] that is connected to the Sentinels, too, where
// [Config.Watch] is set. A Sentinel is called by its address.
type Watcher interface {
	Daemon
	// Connected is the begin of a subscription to all events of a Sentinel,
	// Disconnected its end.
	Connected(now time.Time, sentinel string)
	Disconnected(now time.Time, sentinel string)
	// Published is an event of a Sentinel.
	Published(now time.Time, sentinel, channel, payload string)
	// Replied is the answer to SENTINEL MASTER name. A Sentinel is asked when
	// it was connected, after each of its events, and once a second. ok is
	// false where it knows no such master.
	Replied(asked, now time.Time, sentinel string, m MasterReply, ok bool)
	// Ask reports whether all Sentinels shall be asked at once, since the last
	// call, and Silent whether they shall be asked four times a second.
	Ask() bool
	Silent() bool
	// Failover is the Sentinel to be asked for a failover now, and the name of the
	// master; the address is empty for none. FailoverReplied is what came of that.
	Failover(now time.Time) (sentinel, name string)
	FailoverReplied(now time.Time, sentinel, name string, r checker.FailoverResult)
}

// A Reloader is a [Daemon] that can be replaced in its process.
type Reloader interface {
	Daemon
	// Reload replaces the program: all connections are lost, and Unsubscribed and
	// Disconnected are not called.
	Reload(now time.Time)
	// Remember writes the state file, at the end.
	Remember(now time.Time)
}

// What the daemon does when, see Monitor and hello.Listener.
const (
	probeEvery      = 100 * time.Millisecond
	probeTimeout    = 500 * time.Millisecond
	subscribeRetry  = 100 * time.Millisecond
	subscribeBreath = 10 * time.Millisecond
	subscribeWithin = time.Second
)

// Errors of a probe.
var (
	errRefused = probeError(checker.ReasonRefused, checker.StageDial, "connection refused")
	errHungUp  = probeError(checker.ReasonProtocol, checker.StageReply, "the server hung up before it had answered")
	errTimeout = probeError(checker.ReasonTimeout, checker.StageReply, "no answer")
	errBusy    = probeError(checker.ReasonBusy, checker.StageReply, "a script blocks the server")
)

func probeError(reason checker.Reason, stage checker.Stage, text string) *checker.Error {
	return &checker.Error{Reason: reason, Stage: stage, Err: errors.New(text)}
}

// A runner is the process of a daemon.
type runner struct {
	process
	node   int
	daemon Daemon
	lifetime
}

// A lifetime is what a runner knows for as long as its process lives.
type lifetime struct {
	answer Answer
	told   bool          // the answer has been written
	timer  time.Duration // when the timer expires that is set, 0 for none
	due    time.Duration // when the daemon wants it to

	conn         *conn
	dials        int
	spoke        bool // the server has answered on conn
	closedByUs   bool // the one before was closed on this side after it had spoken
	probing      bool
	limited      bool   // a timer is set that ends the probe
	probe        uint64 // its number
	asked        time.Duration
	clock        time.Time     // of the host then
	suspended    time.Duration // for how long the host had ever been suspended then
	again        bool          // a tick or a wake came while a probe was under way
	subscription uint64        // its number
	watching     []*watching
	program      int // raised by every reload
}

func newRunner(w *World, node int, d Daemon) *runner {
	return &runner{process: process{w: w, host: node}, node: node, daemon: d}
}

func (d *runner) boot() { d.start() }

func (d *runner) now() time.Time { return d.w.Clock(d.host) }

// start starts the daemon.
func (d *runner) start() {
	if d.alive || !d.w.hosts[d.host].up {
		return
	}
	d.begin()
	d.lifetime = lifetime{subscription: d.subscription, probe: d.probe}
	d.daemon.Start(d.now())
	d.after(d.w.between(0, probeEvery), func() {
		d.check()
		d.every(func() time.Duration { return probeEvery }, d.check)
	})
	d.subscribe()
	d.watch()
	d.update()
}

// kill ends the daemon; ExecStopPost writes the 0 if the host has power.
func (d *runner) kill(power bool) {
	if !d.alive {
		return
	}
	d.end(power)
	d.say(Answer{Reason: "dead"})
	life := d.life
	d.w.after(d.w.between(20*time.Millisecond, 100*time.Millisecond), func() {
		if d.life == life {
			d.w.vrrp[d.node].track(Answer{})
		}
	})
}

// reload replaces the program. What its outputs have said stands until the next one runs,
// which makes all connections anew.
func (d *runner) reload() (end func()) {
	r, ok := d.daemon.(Reloader)
	if !ok || !d.alive || d.stops > 0 {
		return nil
	}
	r.Reload(d.now())
	d.program++
	d.closedByUs = d.closedByUs || d.spoke
	d.conn, d.spoke, d.probing = nil, false, false
	d.subscription++
	for _, x := range d.watching {
		x.conn, x.stood = nil, false
	}
	for _, c := range slices.Clone(d.conns) {
		c.close(0)
	}
	life := d.life
	d.stop()
	return func() {
		d.run(life, func() {
			d.check()
			d.subscribe()
			for _, x := range d.watching {
				if x.conn == nil {
					x.connect()
				}
			}
			d.update()
		})
		d.resume(life)
	}
}

// update asks the daemon for its answer and what it wants.
func (d *runner) update() {
	if a := d.daemon.Answer(d.now()); !d.told || a != d.answer {
		d.told = true
		d.say(a)
		d.w.vrrp[d.node].track(a)
	}
	if next := d.daemon.Next(); next.After(d.now()) {
		d.arm(next.Sub(Epoch) + start + d.w.hosts[d.host].suspended)
	}
	if len(d.watching) > 0 && d.watching[0].watcher.Ask() {
		for _, x := range d.watching {
			if x.stood {
				x.ask()
			}
		}
	}
	d.failover()
	if d.daemon.Wake() {
		d.check()
	}
}

func (d *runner) say(a Answer) {
	if d.answer = a; d.w.History != nil {
		d.w.History.answer(d.w.now, d.node, a)
	}
}

// arm calls Timer at a time. A timer that is set too early is set again when it
// expires: most are moved before that.
func (d *runner) arm(at time.Duration) {
	if d.due = at; d.timer > 0 && d.timer <= at {
		return
	}
	set := at
	d.timer = set
	d.after(set-d.w.now, func() {
		if d.timer != set {
			return
		}
		d.timer = 0
		if d.due > d.w.now {
			d.arm(d.due)
			return
		}
		d.daemon.Timer(d.now())
		d.update()
	})
}

// check models Monitor.check and Redis.Probe.
func (d *runner) check() {
	if d.probing {
		d.again = true
		return
	}
	d.probing, d.asked, d.clock, d.suspended = true, d.w.now, d.now(), d.w.hosts[d.host].suspended
	d.probe++
	d.limit()
	if d.conn.isOpen(0) {
		d.ask()
		return
	}
	d.dial()
}

// limit ends a probe that takes too long. One timer looks after all of them.
func (d *runner) limit() {
	if d.limited {
		return
	}
	d.limited = true
	d.after(d.asked+probeTimeout-d.w.now, func() {
		d.limited = false
		switch {
		case !d.probing:
		case d.w.now < d.asked+probeTimeout:
			d.limit()
		default:
			d.hangUp()
			d.probed(checker.Observation{}, errTimeout)
		}
	})
}

func (d *runner) dial() {
	r := d.w.nodes[d.node]
	d.dials++
	d.spoke = false
	var c *conn
	c = d.w.dial(&d.process, &r.process, r.accept, func() {
		if d.conn != c {
			return
		}
		kept, refused := d.spoke, !c.end[0].ready
		d.conn, d.spoke = nil, false
		if kept {
			d.closedByUs = false
		}
		switch {
		case !d.probing:
		case kept: // replaced at once, and the question repeated
			d.dial()
		case refused:
			d.probed(checker.Observation{}, errRefused)
		default:
			d.probed(checker.Observation{}, errHungUp)
		}
	})
	d.conn = c
	d.ask()
}

func (d *runner) ask() {
	r, c, probe := d.w.nodes[d.node], d.conn, d.probe
	request(c, r, command{class: classInfo, run: func(denied string) {
		o := r.observe()
		c.send(1, func() {
			switch {
			case !d.probing || d.probe != probe || d.conn != c:
			case denied != "":
				d.hangUp()
				d.probed(checker.Observation{}, errBusy)
			default:
				o.Connection, o.Redialled = d.dials, d.closedByUs
				d.spoke, d.closedByUs = true, false
				d.probed(o, nil)
			}
		})
	}})
}

// hangUp models Redis.Close.
func (d *runner) hangUp() {
	d.closedByUs = d.closedByUs || d.spoke
	if d.conn != nil {
		d.conn.close(0)
	}
	d.conn, d.spoke = nil, false
}

func (d *runner) probed(o checker.Observation, err *checker.Error) {
	d.probing = false
	var e error
	if err != nil {
		e = err
	}
	d.daemon.Probed(d.clock, d.now(), o, e)
	d.update()
	if d.again && !d.probing {
		d.again = false
		d.check()
	}
}

// subscribe models hello.Listener.
func (d *runner) subscribe() {
	r, begun := d.w.nodes[d.node], d.w.now
	d.subscription++
	this, stood := d.subscription, false
	var c *conn
	retry := func() {
		if d.subscription != this {
			return
		}
		d.subscription++
		wait := subscribeRetry
		if stood {
			wait = max(0, subscribeBreath-(d.w.now-begun))
		}
		d.after(wait, d.subscribe)
		if stood {
			d.daemon.Unsubscribed(d.now())
			d.update()
		}
	}
	c = d.w.dial(&d.process, &r.process, r.accept, retry)
	request(c, r, command{class: classSubscribe, run: func(denied string) {
		if denied != "" {
			return // the subscription is given up after a second
		}
		c.server.(*redisClient).subscribed = func(h Hello) { d.hear(h) }
		c.send(1, func() {
			if d.subscription == this {
				stood = true
				d.daemon.Subscribed(d.now())
				d.update()
			}
		})
	}})
	d.after(subscribeWithin, func() {
		if d.subscription == this && !stood {
			c.close(0)
			retry()
		}
	})
}

func (d *runner) hear(h Hello) {
	names := NamesOther
	switch {
	case d.w.Config.HostNames && d.w.noResolver > 0:
		names = NamesUnknown
	case h.node == d.node:
		names = NamesUs
	}
	d.daemon.Heard(d.now(), h, names, h.sentinel == d.node)
	d.update()
}
