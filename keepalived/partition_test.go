package keepalived_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// A node runs keepalived with the profile, and a redis-is-master that says that
// the daemon is alive.
type node struct {
	*lab.Host
	t          *testing.T
	keepalived *lab.Process
}

func newNode(t *testing.T, net *lab.Network, name, program string) *node {
	t.Helper()
	h, err := net.Add(name)
	lab.Check(t, err)
	n := &node{Host: h, t: t, keepalived: h.Process("keepalived", "--dont-fork", "--log-console", "--log-detail",
		"--no-syslog", "--vrrp", "--use-file", "/run/keepalived.conf", "--config-id", name)}
	lab.Check(t, h.Install(program))
	lab.Check(t, os.Mkdir(h.Path("/run/redis-is-master"), 0o755))
	n.write("keepalived.conf", read(t, "track-file.conf"))
	lab.Check(t, n.keepalived.Start())
	n.says("Startup complete")
	return n
}

func (n *node) write(file, text string) {
	n.t.Helper()
	lab.Check(n.t, os.WriteFile(n.Path(filepath.Join("/run", file)), []byte(text), 0o644))
}

func (n *node) master(yes int)     { n.write("redis-is-master/master", fmt.Sprintln(yes)) }
func (n *node) promoted(epoch int) { n.write("redis-is-master/promotion", fmt.Sprintln(epoch)) }

func (n *node) said(what string) int {
	b, err := os.ReadFile(n.Path(n.keepalived.Log))
	lab.Check(n.t, err)
	return strings.Count(string(b), what)
}

func (n *node) says(what string) {
	n.t.Helper()
	lab.Check(n.t, lab.Wait(n.Name+" says "+what, func() (bool, error) { return n.said(what) > 0, nil }))
}

// TestLaterPromotion: of two nodes that say yes, the one that was promoted later
// has the VIP, also after a partition and against a higher address. Without a
// difference the holder keeps it.
func TestLaterPromotion(t *testing.T) {
	t.Parallel()
	lab.RequireNetwork(t)
	requireKeepalived(t)
	program := filepath.Join(t.TempDir(), "redis-is-master")
	lab.Check(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o755))
	net, err := lab.NewNetwork()
	lab.Check(t, err)
	t.Cleanup(net.Close)
	low, high := newNode(t, net, "node1", program), newNode(t, net, "node2", program)
	t.Cleanup(func() {
		for _, n := range []*node{low, high} {
			if t.Failed() {
				t.Log(n.keepalived.Tail(100))
			}
			n.keepalived.Stop()
		}
	})

	var mu sync.Mutex
	var moves []string
	vip := netip.MustParseAddr("10.0.0.100")
	ctx, end := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end()
	watching.Go(func() {
		net.Watch(ctx, func(_ time.Time, h *lab.Host, a netip.Addr, up bool) {
			if a == vip {
				mu.Lock()
				defer mu.Unlock()
				moves = append(moves, fmt.Sprint(h.Name, " ", up))
			}
		})
	})
	// moved waits for the next things that happen to the VIP, in any order.
	moved := func(why string, want ...string) {
		t.Helper()
		err := lab.Wait(why, func() (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return len(moves) >= len(want), nil
		})
		lab.Check(t, err)
		mu.Lock()
		defer mu.Unlock()
		for _, w := range want {
			if strings.Count(strings.Join(moves, ","), w) != 1 || len(moves) != len(want) {
				t.Fatalf("%s: %v, want %v", why, moves, want)
			}
		}
		moves = nil
	}

	high.promoted(7)
	high.master(1)
	moved("the only master has the VIP", "node2 true")
	low.promoted(7)
	low.master(1)
	low.says("Entering BACKUP STATE")
	low.promoted(8)
	moved("a later promotion takes it", "node1 true", "node2 false")
	low.master(0)
	moved("the only master has it", "node1 false", "node2 true")

	lab.Check(t, high.Isolate())
	low.master(1)
	moved("both have it", "node1 true")
	announced := low.said("Sending gratuitous ARP")
	lab.Check(t, high.Heal())
	moved("the later promotion keeps it", "node2 false")
	lab.Check(t, lab.Wait("it announces the VIP again", func() (bool, error) {
		return low.said("Sending gratuitous ARP") > announced && low.said("forcing new election") > 0, nil
	}))
	high.master(0)
	high.says("now FAULT state")
	moved("nothing else has happened")
}
