// Command client writes to Redis through the VIP, and prints each change of
// the node that answers, and each pause. At a change it looks whether the node
// has every write that was acknowledged and had reached a replica.
//
// The writes are numbered, and write n sets bit n of the key "writes".
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/e2e/lab"
)

const key = "writes"

func main() {
	addr := pflag.String("addr", "", "address of the VIP, with the port")
	passwordFile := pflag.String("password-file", "", "file with the password")
	nodes := pflag.StringSlice("nodes", nil, "addresses of node1, node2, ...")
	every := pflag.Duration("every", 10*time.Millisecond, "pause between two writes")
	patience := pflag.Duration("patience", 300*time.Millisecond, "time for a connection, and for a write")
	pflag.Parse()
	b, err := os.ReadFile(*passwordFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := &client{
		addr: *addr, password: strings.TrimRight(string(b), "\r\n"), patience: *patience, nodes: *nodes,
		safe: map[int]bool{}, last: time.Now(),
	}
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := c.write(); err != nil {
			c.fail(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	say("stopped: %d writes were acknowledged, %d of them had reached a replica, %d of these were lost",
		c.acknowledged, len(c.safe), c.lost)
}

type client struct {
	addr, password string
	patience       time.Duration
	nodes          []string

	conn         *lab.Conn
	node         string       // that answered last
	next         int          // number of the next write
	acknowledged int          // how many were
	safe         map[int]bool // those that had reached a replica
	lost         int          // how many of those are gone
	last         time.Time    // when one was acknowledged last
	failing      string       // why none is
}

// write writes once, and connects before that where it must.
func (c *client) write() error {
	if c.conn == nil {
		s, err := net.DialTimeout("tcp", c.addr, c.patience)
		if err != nil {
			return err
		}
		if c.conn, err = lab.NewConn(s, c.password, c.patience); err != nil {
			s.Close()
			c.conn = nil
			return err
		}
		// What others wrote before is left alone.
		length, err := c.conn.Do(c.patience, []string{"STRLEN", key})
		if err != nil {
			return err
		}
		if n, _ := strconv.Atoi(length[0]); c.next < 8*n {
			c.next = 8 * n
		}
	}
	n := c.next
	c.next++
	replies, err := c.conn.Do(c.patience,
		[]string{"SETBIT", key, strconv.Itoa(n), "1"},
		[]string{"WAIT", "1", strconv.FormatInt(c.patience.Milliseconds()/2, 10)},
		[]string{"CONFIG", "GET", "replica-announce-ip"})
	if err != nil {
		return err
	}
	_, node, _ := strings.Cut(replies[2], "\n")
	if node != c.node {
		if err := c.changed(node); err != nil {
			return err
		}
	} else if c.failing != "" {
		say("%s acknowledges again, after %d ms without", c.name(node), time.Since(c.last).Milliseconds())
	}
	c.acknowledged++
	if replies[1] != "0" {
		c.safe[n] = true
	}
	c.last, c.failing = time.Now(), ""
	return nil
}

// changed looks whether the node that answers now has what it must.
func (c *client) changed(node string) error {
	replies, err := c.conn.Do(5*time.Second, []string{"GET", key})
	if err != nil {
		return err
	}
	bits := replies[0]
	lost := 0
	for n := range c.safe {
		if n/8 >= len(bits) || bits[n/8]&(0x80>>(n%8)) == 0 {
			lost++
			delete(c.safe, n)
		}
	}
	c.lost += lost
	all := fmt.Sprintf("has all %d writes that had reached a replica", len(c.safe))
	if lost > 0 {
		all = fmt.Sprintf("HAS LOST %d of %d writes that had reached a replica", lost, lost+len(c.safe))
	}
	say("%s acknowledges, after %d ms without; it %s", c.name(node), time.Since(c.last).Milliseconds(), all)
	c.node = node
	return nil
}

// fail closes the connection, and says why when that is news.
func (c *client) fail(err error) {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	why := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		why = op.Op + ": " + op.Err.Error()
	}
	if why != c.failing {
		c.failing = why
		say("no acknowledgement: %s", why)
	}
}

func (c *client) name(node string) string {
	for i, addr := range c.nodes {
		if addr == node {
			return fmt.Sprintf("node%d", i+1)
		}
	}
	return node
}

func say(format string, args ...any) {
	fmt.Println(time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), "client", fmt.Sprintf(format, args...))
}
