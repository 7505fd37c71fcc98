package sim

import "time"

// What TCP does of itself on Linux.
const (
	firstRetransmission = 200 * time.Millisecond // RTO_MIN; it doubles
	lastRetransmission  = 120 * time.Second      // RTO_MAX
	firstSYNRetry       = time.Second            // then 3, 7 and 15 s after the first
)

// A network carries packets between hosts, or loses them.
type network struct {
	w     *World
	cut   [][]int           // how many faults cut the way from one host to another
	loss  [][]float64       // the share of packets that get lost
	extra [][]time.Duration // what is added to the delay
}

func (n *network) init(w *World, hosts int) {
	n.w = w
	for range hosts {
		n.cut = append(n.cut, make([]int, hosts))
		n.loss = append(n.loss, make([]float64, hosts))
		n.extra = append(n.extra, make([]time.Duration, hosts))
	}
}

// open reports whether packets pass at all; none passes to or from a host
// without power.
func (n *network) open(from, to int) bool {
	return n.w.hosts[from].up && n.w.hosts[to].up && (from == to || n.cut[from][to] == 0)
}

// passes reports whether one packet passes.
func (n *network) passes(from, to int) bool {
	return n.open(from, to) && (from == to || n.loss[from][to] == 0 || n.w.random.Float64() >= n.loss[from][to])
}

// delay is that of one packet: a fresh loopback or a switch, and now and then
// a busy machine.
func (n *network) delay(from, to int) time.Duration {
	d := time.Duration(30+n.w.random.Int64N(60)) * time.Microsecond
	if from != to {
		d += time.Duration(100+n.w.random.Int64N(200))*time.Microsecond + n.extra[from][to]
	}
	if n.w.random.Uint32()&1023 == 0 {
		d += n.w.between(0, 20*time.Millisecond)
	}
	return d
}

// A conn is a TCP connection. Side 0 is who dialled, side 1 who accepted.
type conn struct {
	w      *World
	end    [2]connEnd
	server any // what the accepting process knows of it
}

// A connEnd is one side of a connection, and what is under way from it.
type connEnd struct {
	proc    *process
	life    uint32
	open    bool
	ready   bool     // the handshake is done, so that it can send
	queue   []packet // not acknowledged: sent again when the timer expires, or the handshake ends
	rto     time.Duration
	last    time.Duration // when the last packet arrives, for none overtakes another
	onClose func()        // the other side has ended it, or it could not be made
}

// A packet is what the other side does when it comes; a nil one ends the
// connection.
type packet = func()

// dial connects a process to another. accept runs in the other when the
// connection has come there. What is sent before that waits. closed runs in p
// when the connection could not be made, or was ended by the other side.
func (w *World) dial(p, to *process, accept func(*conn), closed func()) *conn {
	c := &conn{w: w}
	c.end[0] = connEnd{proc: p, life: p.life, open: true, onClose: closed}
	c.end[1] = connEnd{proc: to, life: to.life}
	p.conns = append(p.conns, c)
	c.handshake(accept, 0)
	return c
}

// handshake sends a SYN, and again after one, two, four seconds and so on.
func (c *conn) handshake(accept func(*conn), wait time.Duration) {
	if !c.end[0].open {
		return
	}
	from, to := c.end[0].proc, c.end[1].proc
	n := &c.w.network
	if !n.passes(from.host, to.host) || !n.passes(to.host, from.host) {
		wait = max(firstSYNRetry, 2*wait)
		c.w.after(wait, func() { c.handshake(accept, wait) })
		return
	}
	there := n.delay(from.host, to.host)
	c.w.after(there, func() {
		if !to.alive {
			c.refuse(0)
			return
		}
		c.end[1] = connEnd{proc: to, life: to.life, open: true, ready: true}
		to.conns = append(to.conns, c)
		to.run(to.life, func() { accept(c) })
		c.w.after(n.delay(to.host, from.host), func() {
			if c.end[0].open {
				c.end[0].ready = true
				c.flush(0)
			}
		})
	})
}

// refuse sends a RST to a side, where it ends the connection.
func (c *conn) refuse(side int) {
	e, from := &c.end[side], c.end[1-side].proc.host
	if !e.open || !c.w.network.passes(from, e.proc.host) {
		return
	}
	c.w.after(c.w.network.delay(from, e.proc.host), func() {
		e.proc.run(e.life, func() { c.hangUp(side) })
	})
}

// hangUp is what the process of a side does when it reads the end.
func (c *conn) hangUp(side int) {
	e := &c.end[side]
	if !e.open {
		return
	}
	e.open = false
	e.proc.forget(c)
	if e.onClose != nil {
		e.onClose()
	}
}

// send lets fn run on the other side when the packet has come.
func (c *conn) send(side int, fn packet) {
	e := &c.end[side]
	if !e.open {
		return
	}
	if len(e.queue) > 0 || !e.ready {
		e.queue = append(e.queue, fn)
		return
	}
	c.transmit(side, fn)
}

// transmit sends a packet, and keeps it to be sent again if it is lost.
func (c *conn) transmit(side int, fn packet) {
	e, f := &c.end[side], &c.end[1-side]
	if !c.w.network.passes(e.proc.host, f.proc.host) {
		e.queue = append(e.queue, fn)
		if len(e.queue) == 1 {
			e.rto = firstRetransmission
			c.w.after(e.rto, func() { c.retransmit(side) })
		}
		return
	}
	at := max(c.w.now+c.w.network.delay(e.proc.host, f.proc.host), e.last)
	e.last = at
	c.w.push(at, event{conn: c, side: 1 - side, fn: fn})
}

// arrive is what the kernel of a side does with a packet.
func (c *conn) arrive(side int, fn packet) {
	e := &c.end[side]
	if !e.open || !e.proc.alive || e.proc.life != e.life {
		if fn != nil {
			c.refuse(1 - side)
		}
		return
	}
	if e.proc.stops > 0 {
		e.proc.run(e.life, func() { c.read(side, fn) })
		return
	}
	c.read(side, fn)
}

// read is what the process of a side does with a packet.
func (c *conn) read(side int, fn packet) {
	switch {
	case fn == nil:
		c.hangUp(side)
	case c.end[side].open:
		fn()
	}
}

// retransmit is the timer of a side: all that is queued goes out, or the timer
// doubles.
func (c *conn) retransmit(side int) {
	e := &c.end[side]
	if len(e.queue) == 0 || !c.w.hosts[e.proc.host].up {
		return
	}
	if !c.w.network.passes(e.proc.host, c.end[1-side].proc.host) {
		e.rto = min(2*e.rto, lastRetransmission)
		c.w.after(e.rto, func() { c.retransmit(side) })
		return
	}
	c.flush(side)
}

func (c *conn) flush(side int) {
	e := &c.end[side]
	queue := e.queue
	e.queue = nil
	for i, fn := range queue {
		c.transmit(side, fn)
		if len(e.queue) > 0 {
			e.queue = append(e.queue, queue[i+1:]...)
			return
		}
	}
}

// close ends the connection on a side; the other is told.
func (c *conn) close(side int) {
	if !c.isOpen(side) {
		return
	}
	e := &c.end[side]
	e.open = false
	c.tell(side)
	e.proc.forget(c)
}

// reset ends the connection on a side, and what was not sent is lost.
func (c *conn) reset(side int) {
	c.end[side].queue = nil
	c.close(side)
}

// tell sends the end of the connection.
func (c *conn) tell(side int) {
	e := &c.end[side]
	if !e.ready {
		return
	}
	if len(e.queue) > 0 {
		e.queue = append(e.queue, nil)
		return
	}
	c.transmit(side, nil)
}

// abandon is the end of a process on one side.
func (c *conn) abandon(p *process, power bool) {
	for side := range c.end {
		e := &c.end[side]
		if e.proc == p && e.open {
			e.open = false
			if power {
				c.tell(side)
			} else {
				e.queue = nil
			}
		}
	}
}

func (c *conn) isOpen(side int) bool { return c != nil && c.end[side].open }

// forget drops a connection of which the process has no more need.
func (p *process) forget(c *conn) {
	for i, d := range p.conns {
		if d == c {
			last := len(p.conns) - 1
			p.conns[i] = p.conns[last]
			p.conns = p.conns[:last]
			return
		}
	}
}
