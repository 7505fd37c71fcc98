package sim

import "time"

// clientTimeout is after how long the client gives a write up: what comes later
// is no acknowledgement.
const clientTimeout = 500 * time.Millisecond

// A client writes a counter to the VIP, each write by a connection of its own.
type client struct {
	process
	holder int // whose gratuitous ARP was heard last; none for nobody's
	next   int
}

func newClient(w *World) *client {
	c := &client{process: process{w: w, host: w.clientHost()}, holder: none}
	c.begin()
	c.after(w.Config.WriteEvery, c.write)
	return c
}

// learn takes the gratuitous ARP of a node that has taken the VIP.
func (c *client) learn(node int) {
	if c.w.network.open(node, c.host) {
		c.holder = node
	}
}

// target is the node to which the VIP leads: the last that was heard, or who
// answers an ARP request now.
func (c *client) target() int {
	if c.reaches(c.holder) {
		return c.holder
	}
	for _, k := range c.w.vrrp {
		if c.reaches(k.node) {
			c.holder = k.node
			return k.node
		}
	}
	return none
}

func (c *client) reaches(node int) bool {
	n := &c.w.network
	return node != none && c.w.vrrp[node].state == vrrpMaster && n.open(c.host, node) && n.open(node, c.host)
}

// write sends the next number, and notes if it was acknowledged.
func (c *client) write() {
	c.after(c.w.Config.WriteEvery, c.write)
	node := c.target()
	if node == none {
		return
	}
	c.next++
	id, sent, r := c.next, c.w.now, c.w.nodes[node]
	n := &c.w.network
	c.w.after(n.delay(c.host, node), func() {
		r.run(r.life, func() {
			if r.refuses(classWrite) != "" || r.postpones(classWrite) {
				return
			}
			r.write(id)
			if n.passes(node, c.host) {
				c.after(n.delay(node, c.host), func() { c.acknowledged(id, node, sent) })
			}
		})
	})
}

func (c *client) acknowledged(id, node int, sent time.Duration) {
	if c.w.now-sent <= clientTimeout {
		c.w.History.ack(c.w.now, Ack{ID: id, Node: node, Sent: sent - start, At: c.w.now - start})
	}
}
