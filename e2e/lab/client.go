package lab

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// counter is the key that the client increments.
const counter = "counter"

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
}

// A Client increments a counter through the VIP, and reads it beside that,
// each over a connection that it makes anew at once when it is lost.
type Client struct {
	host *Host
	site *Site

	mu    sync.Mutex
	addr  string
	acks  []Ack
	reads int
}

func newClient(h *Host, s *Site) *Client {
	return &Client{host: h, site: s, addr: net.JoinHostPort(s.VIP.String(), strconv.Itoa(redisPort))}
}

func (c *Client) run(ctx context.Context) {
	var reader sync.WaitGroup
	reader.Go(func() {
		c.loop(ctx, []string{"GET", counter}, func(Ack) {
			c.mu.Lock()
			c.reads++
			c.mu.Unlock()
		})
	})
	var last *Node
	c.loop(ctx, []string{"INCR", counter}, func(a Ack) {
		if a.Node != last && a.Node != nil {
			last = a.Node
			c.site.Timeline.Add(a.At, a.Node.Name, Write, strconv.Itoa(a.Value))
		}
		c.mu.Lock()
		c.acks = append(c.acks, a)
		c.mu.Unlock()
	})
	reader.Wait()
}

func (c *Client) loop(ctx context.Context, command []string, done func(Ack)) {
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
			if s, err := c.host.Dial("tcp", at, clientDial); err == nil {
				conn, _ = NewConn(s, c.site.Password(), clientPatience)
			}
		}
		if conn != nil {
			sent := time.Now()
			// The second reply tells which node it is.
			replies, err := conn.Do(clientPatience, command, []string{"CONFIG", "GET", "replica-announce-ip"})
			if err == nil {
				value, _ := strconv.Atoi(replies[0])
				_, addr, _ := strings.Cut(replies[1], "\n")
				node := slices.IndexFunc(c.site.Nodes, func(n *Node) bool { return n.Addr.String() == addr })
				if node >= 0 {
					done(Ack{sent, time.Now(), c.site.Nodes[node], value})
				}
			} else {
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
