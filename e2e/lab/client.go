package lab

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counter is the key that the client increments, and written one in which it sets a
// bit for each write, so that a lost one can be told.
const (
	counter = "counter"
	written = "written"
)

// clientEvery is the pause between two writes, clientPatience the time that
// each gets, and clientDial that of a dial, which nobody answers while the VIP
// is nowhere.
const (
	clientEvery    = 4 * time.Millisecond
	clientPatience = 200 * time.Millisecond
	clientDial     = 60 * time.Millisecond
)

// An Ack is a write that was acknowledged.
type Ack struct {
	Sent, At time.Time
	Node     *Node // that acknowledged it
	Value    int   // of the counter after it
	ID       int   // of the write
}

// A Client increments a counter through the VIP, and reads it beside that,
// each over a connection that it makes anew at once when it is lost.
type Client struct {
	host *Host
	site *Site
	ids  atomic.Int64 // of the writes

	mu       sync.Mutex
	addr     string
	short    bool
	acks     []Ack
	reads    int
	failures []error
}

func newClient(h *Host, s *Site) *Client {
	return &Client{host: h, site: s, addr: net.JoinHostPort(s.VIP.String(), strconv.Itoa(redisPort))}
}

func (c *Client) run(ctx context.Context) {
	var reader sync.WaitGroup
	reader.Go(func() {
		c.loop(ctx, false, func(Ack) {
			c.mu.Lock()
			c.reads++
			c.mu.Unlock()
		})
	})
	var last *Node
	c.loop(ctx, true, func(a Ack) {
		if a.Node != last && a.Node != nil {
			last = a.Node
			c.site.Timeline.Add(a.At, a.Node.Name, Write, strconv.Itoa(a.Value))
		}
		c.acknowledged(a)
	})
	reader.Wait()
}

func (c *Client) loop(ctx context.Context, write bool, done func(Ack)) {
	tick := time.NewTicker(clientEvery)
	defer tick.Stop()
	var conn *Conn
	for at := ""; ctx.Err() == nil; {
		if addr := c.target(); addr != at && conn != nil {
			conn.Close()
			conn = nil
		}
		if conn == nil {
			at = c.target()
			s, err := c.host.Dial("tcp", at, clientDial)
			if err == nil {
				conn, err = NewConn(s, c.site.Password(), clientPatience)
			}
			c.fails(err)
		}
		if conn != nil {
			sent, id := time.Now(), 0
			// The first reply tells which node it is.
			commands := [][]string{{"CONFIG", "GET", "replica-announce-ip"}, {"GET", counter}}
			if write {
				id = int(c.ids.Add(1))
				commands = [][]string{commands[0], {"INCR", counter}, {"SETBIT", written, strconv.Itoa(id), "1"}}
			}
			replies, err := conn.Do(clientPatience, commands...)
			if err == nil {
				value, _ := strconv.Atoi(replies[1])
				_, addr, _ := strings.Cut(replies[0], "\n")
				node := slices.IndexFunc(c.site.Nodes, func(n *Node) bool { return n.Addr.String() == addr })
				if node >= 0 {
					done(Ack{sent, time.Now(), c.site.Nodes[node], value, id})
				}
			}
			c.fails(err)
			if err != nil || write && c.reconnects() {
				conn.Close()
				conn = nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if conn != nil {
		conn.Close()
	}
}

func (c *Client) fails(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, err)
}

// Failed is why dials, writes and reads have failed.
func (c *Client) Failed() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failures)
}

// Beside starts a client on the host of a node, which writes to the VIP. Stop ends
// it.
func (s *Site) Beside(n *Node) (c *Client, stop func()) {
	c = newClient(n.Host, s)
	c.ids.Store(1 << 20) // not those of the client of the site
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.loop(ctx, true, c.acknowledged) })
	return c, func() {
		cancel()
		running.Wait()
	}
}

func (c *Client) acknowledged(a Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = append(c.acks, a)
}

// Short makes it connect anew for each write, or no more.
func (c *Client) Short(short bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.short = short
}

func (c *Client) reconnects() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.short
}

// Lost are the acknowledged writes from a time on that a node does not have.
func (c *Client) Lost(from time.Time, on *Node) (lost []Ack, err error) {
	acks := c.Acks(from) // before those are asked for that it has
	bits, err := on.Ask("GET", written)
	if err != nil {
		return nil, err
	}
	for _, a := range acks {
		if a.ID/8 >= len(bits) || bits[a.ID/8]>>(7-a.ID%8)&1 == 0 {
			lost = append(lost, a)
		}
	}
	return lost, nil
}

// Use makes it connect to another address than the VIP.
func (c *Client) Use(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr = addr
}

func (c *Client) target() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// Acks are the acknowledged writes from a time on.
func (c *Client) Acks(from time.Time) (all []Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, _ := slices.BinarySearchFunc(c.acks, from, func(a Ack, t time.Time) int { return a.At.Compare(t) })
	return slices.Clone(c.acks[i:])
}

// Last is the newest acknowledged write.
func (c *Client) Last() (Ack, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acks) == 0 {
		return Ack{}, false
	}
	return c.acks[len(c.acks)-1], true
}

// Reads is how often the reader was answered.
func (c *Client) Reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}
