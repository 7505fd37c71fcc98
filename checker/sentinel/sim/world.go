package sim

import (
	"math/rand/v2"
	"time"
)

// Epoch is the wall clock at the begin of every history.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// start is the virtual time at which a history begins: zero means "never" to
// a Sentinel, so it may not be near.
const start = time.Hour

// A World is everything in one history. Its methods may be called by one
// goroutine at a time.
type World struct {
	Config  Config
	History *History

	now       time.Duration
	seq       uint64
	queue     []entry
	events    []event
	free      []int32 // places in events
	random    *rand.Rand
	network   network
	hosts     []*host
	nodes     []*Redis
	sentinels []*Sentinel
	daemons   []*runner
	vrrp      []*keepalived
	client    *client

	quietAfter time.Duration // the end of the last fault
	renames    int
	noResolver int // faults that keep host names from being resolved
}

// A host is a machine. Redis, its Sentinel, the daemon and keepalived of one
// number run on the host of that number; the client has one of its own.
type host struct {
	up        bool
	boots     int
	suspended time.Duration // for how long it ever was, which its monotonic clock does not count
}

// New returns the world at the begin of a history. daemon returns that of a
// node; nil means that there is none, and no VIP either.
func New(c Config, daemon func(w *World, node int) Daemon) *World {
	c = c.withDefaults()
	w := &World{Config: c, now: start, random: rand.New(rand.NewPCG(c.Seed, c.Seed>>32+1))}
	w.History = &History{Config: c}
	hosts := max(c.Nodes, c.Sentinels) + 1
	w.network.init(w, hosts)
	for range hosts {
		w.hosts = append(w.hosts, &host{up: true})
	}
	for i := range c.Nodes {
		w.nodes = append(w.nodes, newRedis(w, i))
	}
	for i := range c.Sentinels {
		w.sentinels = append(w.sentinels, newSentinel(w, i))
	}
	for _, r := range w.nodes {
		r.boot()
	}
	for _, s := range w.sentinels {
		s.boot()
	}
	if daemon != nil {
		for i := range c.Nodes {
			w.daemons = append(w.daemons, newRunner(w, i, daemon(w, i)))
			w.vrrp = append(w.vrrp, newKeepalived(w, i))
		}
		for i := range c.Nodes {
			w.vrrp[i].boot()
			w.daemons[i].boot()
		}
		w.client = newClient(w)
	}
	for _, f := range c.Faults {
		w.schedule(f)
	}
	return w
}

// Run lets the history happen and returns it.
func (w *World) Run() *History {
	end := start + w.Config.Length
	for len(w.queue) > 0 {
		at, e := w.pop()
		if at > end || w.settled(at) {
			end = min(end, at)
			break
		}
		w.now = at
		switch {
		case e.conn != nil:
			e.conn.arrive(e.side, e.fn)
		case e.proc != nil:
			e.proc.run(e.life, e.fn)
		default:
			e.fn()
		}
	}
	w.now = end
	w.History.Config.Length = end - start
	w.History.finish(w)
	return w.History
}

// settled reports whether nothing more will happen: a Sentinel that still has
// something to do does it within 10 s or so.
func (w *World) settled(at time.Duration) bool {
	last := w.History.Events[len(w.History.Events)-1].At + start
	return w.Config.UntilSettled && at > w.quietAfter && at-last > settledFor
}

// settledFor is how long nothing happens before a history ends by itself.
const settledFor = 20 * time.Second

// Clock is the time of a host as its daemon is told it: it stands still while the
// host is suspended.
func (w *World) Clock(host int) time.Time { return w.time(w.now - w.hosts[host].suspended) }

func (w *World) time(t time.Duration) time.Time { return Epoch.Add(t - start) }

// between draws a duration.
func (w *World) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(w.random.Int64N(int64(most-least)))
}

// clientHost is the host of the client.
func (w *World) clientHost() int { return len(w.hosts) - 1 }

// An event is something that will happen. One of a process does not happen
// once the process has ended, and waits while it is stopped. One of a
// connection is a packet that arrives on a side of it.
type event struct {
	proc *process
	life uint32
	conn *conn
	side int
	fn   func()
}

// An entry is an event in the queue. It has no pointers, so that the garbage
// collector has nothing to do with the queue.
type entry struct {
	at    time.Duration
	seq   uint64
	event int32 // its place in World.events
}

func (e entry) before(f entry) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// after lets fn happen outside of all processes.
func (w *World) after(d time.Duration, fn func()) { w.push(w.now+d, event{fn: fn}) }

// push adds to the queue, a heap with four children a node.
func (w *World) push(at time.Duration, e event) {
	place := int32(len(w.events))
	if n := len(w.free); n > 0 {
		place = w.free[n-1]
		w.free = w.free[:n-1]
		w.events[place] = e
	} else {
		w.events = append(w.events, e)
	}
	w.seq++
	x := entry{at: at, seq: w.seq, event: place}
	w.queue = append(w.queue, x)
	q, i := w.queue, len(w.queue)-1
	for i > 0 {
		parent := (i - 1) / 4
		if !x.before(q[parent]) {
			break
		}
		q[i] = q[parent]
		i = parent
	}
	q[i] = x
}

// pop takes the next event from the queue.
func (w *World) pop() (time.Duration, event) {
	q := w.queue
	first, last := q[0], q[len(q)-1]
	q = q[:len(q)-1]
	w.queue = q
	for i := 0; len(q) > 0; {
		child := 4*i + 1
		for c := child + 1; c < min(4*i+5, len(q)); c++ {
			if q[c].before(q[child]) {
				child = c
			}
		}
		if child >= len(q) || !q[child].before(last) {
			q[i] = last
			break
		}
		q[i] = q[child]
		i = child
	}
	e := w.events[first.event]
	w.events[first.event] = event{}
	w.free = append(w.free, first.event)
	return first.at, e
}

// A process is a program that runs on a host: it can be killed, stopped and
// started again. What comes to a stopped one waits.
type process struct {
	w       *World
	host    int
	alive   bool
	stops   int    // reasons for which it does not run: SIGSTOP, a stall, a stunned host
	life    uint32 // counts its starts and ends
	waiting []func()
	conns   []*conn
}

// run runs fn in the process, if it still is the one that fn was meant for.
func (p *process) run(life uint32, fn func()) {
	if !p.alive || p.life != life {
		return
	}
	if p.stops > 0 {
		p.waiting = append(p.waiting, fn)
		return
	}
	fn()
}

// after lets fn happen in the process.
func (p *process) after(d time.Duration, fn func()) {
	p.w.push(p.w.now+d, event{proc: p, life: p.life, fn: fn})
}

// every runs fn again and again, after a pause that next draws.
func (p *process) every(next func() time.Duration, fn func()) {
	var tick func()
	tick = func() {
		p.after(next(), tick)
		fn()
	}
	p.after(next(), tick)
}

func (p *process) stop() { p.stops++ }

// resume takes back one stop. What has waited happens now, in its order.
func (p *process) resume(life uint32) {
	if p.life != life || p.stops == 0 {
		return
	}
	p.stops--
	for p.stops == 0 && p.alive && p.life == life && len(p.waiting) > 0 {
		fn := p.waiting[0]
		p.waiting = p.waiting[1:]
		fn()
	}
}

func (p *process) begin() {
	p.alive = true
	p.stops = 0
	p.life++
	p.waiting = nil
}

// end ends the process. Its kernel closes the connections, and says so to the
// other ends unless the host has no power.
func (p *process) end(power bool) {
	p.alive = false
	p.life++
	p.waiting = nil
	conns := p.conns
	p.conns = nil
	for _, c := range conns {
		c.abandon(p, power)
	}
}
