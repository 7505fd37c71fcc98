package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// How often the observers look at what tells nothing by itself. The VIP is
// watched by its events.
const (
	roleEvery  = 3 * time.Millisecond
	trackEvery = 4 * time.Millisecond
	namesEvery = 10 * time.Millisecond
)

// hungAfter is how long a Redis may be silent before an observer says so.
const hungAfter = 100 * time.Millisecond

// watch starts all observers; they end with ctx.
func (s *Site) watch(ctx context.Context) error {
	for _, n := range s.Nodes {
		s.watches.Go(func() { n.watchRole(ctx) })
		s.watches.Go(func() { n.watchNames(ctx) })
		s.watches.Go(func() { n.watchSentinel(ctx) })
		if s.hasDaemon() {
			s.watches.Go(func() { n.watchAnswer(ctx) })
		}
	}
	return s.net.watchAddresses(ctx, true, func(at time.Time, h *Host, a netip.Addr, up bool) {
		if a == s.VIP {
			s.Timeline.Add(at, h.Name, VIP, map[bool]string{true: "up", false: "down"}[up])
		}
	})
}

// each calls look at once and then again and again, and records what it saw
// when that has changed.
func (n *Node) each(ctx context.Context, every time.Duration, kind Kind, look func() string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := ""; ctx.Err() == nil; {
		if saw := look(); saw != last {
			last = saw
			n.site.Timeline.Add(time.Now(), n.Name, kind, saw)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (n *Node) watchRole(ctx context.Context) {
	var c *Conn
	n.each(ctx, roleEvery, Role, func() string {
		var err error
		var replies []string
		for range 2 { // a Sentinel that changes a role closes all connections
			if c == nil {
				c, err = n.Dial(hungAfter)
			}
			if err == nil {
				replies, err = c.Do(hungAfter, []string{"ROLE"}, []string{"PING"})
			}
			if len(replies) == 2 {
				break
			}
			c = nil
			if timedOut(err) {
				return Hung
			}
		}
		var refused ErrorReply
		switch {
		case len(replies) < 2 && errors.As(err, &refused) && strings.HasPrefix(string(refused), "LOADING"):
			return Loading
		case len(replies) < 2:
			return Down
		case strings.HasPrefix(replies[1], "LOADING"):
			return Loading
		case strings.HasPrefix(replies[0], "master"):
			return Master
		}
		return Replica
	})
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, syscall.EAGAIN)
}

func (n *Node) watchNames(ctx context.Context) {
	var c *Conn
	n.each(ctx, namesEvery, Names, func() string {
		if c == nil {
			s, err := net.DialTimeout("unix", n.Path(sentinelSocket), hungAfter)
			if err != nil {
				return ""
			}
			if c, err = NewConn(s, "", hungAfter); err != nil {
				return ""
			}
		}
		replies, err := c.Do(time.Second, []string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName})
		if err != nil {
			c = nil
			return ""
		}
		addr, _, _ := strings.Cut(replies[0], "\n")
		for _, other := range n.site.Nodes {
			if other.Addr.String() == addr {
				return other.Name
			}
		}
		return ""
	})
}

// watchRoute records as the VIP whether HAProxy sends connections to the node.
//
// Format: "show servers state" of HAProxy's Management Guide: the name of the
// server is field 4, its state field 6, 2 for up.
func (n *Node) watchRoute(ctx context.Context, proxy *Host) {
	n.each(ctx, trackEvery, VIP, func() string {
		c, err := net.DialTimeout("unix", proxy.Path("/run/haproxy.sock"), hungAfter)
		if err != nil {
			return "down"
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(hungAfter))
		fmt.Fprintln(c, "show servers state master")
		said, _ := io.ReadAll(c)
		for line := range strings.Lines(string(said)) {
			if f := strings.Fields(line); len(f) > 5 && f[3] == n.Name && f[5] == "2" {
				return "up"
			}
		}
		return "down"
	})
}

// watchSentinel records what a Sentinel publishes of the failover.
func (n *Node) watchSentinel(ctx context.Context) {
	for ctx.Err() == nil {
		n.subscribe(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *Node) subscribe(ctx context.Context) {
	s, err := net.DialTimeout("unix", n.Path(sentinelSocket), hungAfter)
	if err != nil {
		return
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	c, err := NewConn(s, "", time.Second)
	if err != nil {
		return
	}
	if _, err := c.Do(time.Second, []string{"PSUBSCRIBE", "*"}); err != nil {
		return
	}
	c.SetDeadline(time.Time{})
	for {
		message, err := c.Reply()
		if err != nil {
			return
		}
		// pmessage, the pattern, the event, its arguments.
		f := strings.SplitN(message, "\n", 4)
		if len(f) == 4 && n.worthSaying(f[2]) {
			n.site.Timeline.Add(time.Now(), n.Name, Said, f[2]+" "+n.site.names(f[3]))
		}
	}
}

func (n *Node) worthSaying(event string) bool {
	switch event {
	case "+sdown", "-sdown", "+odown", "+try-failover", "+elected-leader", "+promoted-slave",
		"+switch-master", "+convert-to-slave",
		"-failover-abort-no-good-slave", "-failover-abort-not-elected", "-failover-abort-slave-timeout":
		return true
	}
	return false
}

// names puts the names of the nodes for their addresses.
func (s *Site) names(text string) string {
	for _, n := range s.Nodes {
		text = strings.ReplaceAll(text, n.Addr.String(), n.Name)
	}
	return text
}

// watchAnswer reads the track file, and asks the daemon for its reason each
// time that it was written.
func (n *Node) watchAnswer(ctx context.Context) {
	var last os.FileInfo
	said := ""
	n.each(ctx, trackEvery, Answer, func() string {
		info, err := os.Stat(n.Path(TrackFile))
		if err != nil {
			last = nil
			return "no, there is no track file"
		}
		if last != nil && os.SameFile(info, last) && info.ModTime().Equal(last.ModTime()) {
			return said
		}
		last = info
		b, _ := os.ReadFile(n.Path(TrackFile))
		switch text := strings.TrimSpace(string(b)); text {
		case "1":
			said = "yes"
		case "0":
			said = "no"
			if doc, err := n.Document(); err == nil {
				said += ", " + string(doc.Reason)
			}
		default:
			said = "no, the track file holds " + text
		}
		return said
	})
}
