package sentinel_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// A name that leads nowhere, and for which no name server is asked (RFC 7686).
const nowhere = "nowhere.onion"

// TestSelf: whether what the Sentinels name is the watched node.
func TestSelf(t *testing.T) {
	const here, remote = "127.0.0.1:6379", "203.0.113.7:6379"
	const yes, no, unsure = sentinel.Same, sentinel.Different, sentinel.Unresolved
	tests := []struct {
		node, announced, named string
		want                   sentinel.Match
	}{
		{here, "", "127.0.0.1:6379", yes},
		{here, "", "127.0.0.1:6380", no},
		{here, "", "127.0.1.1:6379", yes}, // by Debian's /etc/hosts
		{here, "", "127.0.0.5:6379", no},  // another server may be there
		{"127.0.0.5:6379", "", "127.0.0.5:6379", yes},
		{"127.0.0.5:6379", "", "127.0.0.6:6379", no},
		{"127.0.0.5:6379", "", "127.0.0.1:6379", no},
		{here, "", "[::1]:6379", yes},
		{here, "", "[::1%lo]:6379", yes},
		{here, "", "[::ffff:127.0.0.1]:6379", yes},
		{here, "", "localhost:6379", yes},
		{here, "", "localhost:6380", no},
		{here, "", "203.0.113.7:6379", no},
		{here, "", "[2001:db8::7]:6379", no},
		{here, "", nowhere + ":6379", unsure},
		{here, "", nowhere + ":6380", no},
		{here, "", "127.0.0.1", unsure},
		{here, "", ":6379", unsure},
		{here, "", "", unsure},
		{"localhost:6379", "", "127.0.0.1:6379", yes},
		{nowhere + ":6379", "", "127.0.0.1:6379", unsure},
		{"[::1]:6379", "", "127.0.0.1:6379", yes},

		// One on another host: this host's addresses are not its.
		{remote, "", "203.0.113.7:6379", yes},
		{remote, "", "[::ffff:203.0.113.7]:6379", yes},
		{remote, "", "203.0.113.8:6379", no},
		{remote, "", "127.0.0.1:6379", no},
		{remote, "", "localhost:6379", no},
		{"[2001:db8::7]:6379", "", "[2001:DB8:0::7]:6379", yes},
		{"[2001:db8::7]:6379", "", "[2001:db8::8]:6379", no},
		{"[fe80::7%eth9]:6379", "", "[fe80::7]:6379", yes},

		// The port is the one that the node reports.
		{"unix", "", "127.0.0.1:7000", yes},
		{"unix", "", "127.0.0.1:6379", no},
		{"unix", "", "203.0.113.7:7000", no},
		{"unix", "203.0.113.9", "203.0.113.9:7000", yes},
		{"unix", "203.0.113.9:6379", "203.0.113.9:6379", yes},
		{"unix without a port", "", "127.0.0.1:6379", unsure},
		{"unix without a port", "203.0.113.9", "203.0.113.9:6379", unsure},
		{"unix without a port", "203.0.113.9:6379", "203.0.113.9:6379", yes},

		// What is announced stands instead of the own addresses.
		{here, "203.0.113.9", "203.0.113.9:6379", yes},
		{here, "203.0.113.9", "[::ffff:203.0.113.9]:6379", yes},
		{here, "203.0.113.9", "203.0.113.9:6380", no},
		{here, "203.0.113.9", "127.0.0.1:6379", no},
		{here, "203.0.113.9:16379", "203.0.113.9:16379", yes},
		{here, "203.0.113.9:16379", "203.0.113.9:6379", no},
		{here, "203.0.113.9:16379", "127.0.0.1:6379", no},
		{remote, "203.0.113.9", "203.0.113.7:6379", no},
		{here, "2001:db8::1", "[2001:db8::1]:6379", yes},
		{here, "2001:DB8:0::1", "[2001:db8::1]:6379", yes},
		{here, "[2001:db8::1]:7000", "[2001:db8::1]:7000", yes},
		{here, "[2001:db8::1]:7000", "[2001:db8::1]:6379", no},
		{here, "localhost", "127.0.0.1:6379", yes},
		{here, "localhost", "203.0.113.9:6379", no},
		{here, nowhere, nowhere + ":6379", yes},
		{here, nowhere + ":7000", nowhere + ":7000", yes},
		{here, nowhere, "203.0.113.9:6379", unsure},
		{here, "203.0.113.9", nowhere + ":6379", unsure},
	}
	for _, tt := range tests {
		node, port := &checker.Redis{Address: tt.node}, 1 // which is only for a unix socket
		if strings.HasPrefix(tt.node, "unix") {
			node, port = &checker.Redis{Network: "unix", Address: "/run/redis.sock"}, 7000
			if tt.node != "unix" {
				port = 0
			}
		}
		s := &sentinel.Self{Node: node, Announced: tt.announced}
		if got := s.Match(t.Context(), tt.named, port); got != tt.want {
			t.Errorf("%s, announced as %q: %s matches: %d, want %d", tt.node, tt.announced, tt.named, got, tt.want)
		}
	}
}

// TestSelfOfThisHost: a node that is asked at the loopback has all of this
// host's addresses; one that is asked at another has that one, for there may
// be a server at each.
func TestSelfOfThisHost(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	lab.Check(t, err)
	for _, a := range addrs {
		own := net.JoinHostPort(a.(*net.IPNet).IP.String(), "6379")
		s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
		if s.Match(t.Context(), own, 0) != sentinel.Same {
			t.Errorf("%s is not this host", own)
		}
		s = &sentinel.Self{Node: &checker.Redis{Address: own}}
		if s.Match(t.Context(), own, 0) != sentinel.Same {
			t.Errorf("%s is not itself", own)
		}
		loopback := a.(*net.IPNet).IP.IsLoopback()
		want := sentinel.Different
		if loopback {
			want = sentinel.Same
		}
		if got := s.Match(t.Context(), "127.0.0.1:6379", 0); got != want {
			t.Errorf("%s is the loopback: %d", own, got)
		}
		if c, _ := (&sentinel.Self{Node: new(checker.Redis)}).Claim(t.Context(), checker.Hello{From: own}, 0); !c.Local {
			t.Errorf("%s is not on this host", own)
		}
	}
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	for from, want := range map[string]bool{"127.0.0.1:26379": true, "localhost:1": true, "[::1]:1": true,
		"203.0.113.7:26379": false, nowhere + ":26379": false, "127.0.0.1": false, "": false} {
		c, match := s.Claim(t.Context(), checker.Hello{From: from, Master: "127.0.0.1:6379"}, 0)
		if c.Local != want {
			t.Errorf("%q is on this host: %t", from, c.Local)
		}
		// What another host calls its own address may be any node.
		_, byName := s.Claim(t.Context(), checker.Hello{From: from, Master: "localhost:6379"}, 0)
		if sure := match != sentinel.Unresolved; sure != want || (byName != sentinel.Unresolved) != want {
			t.Errorf("%q names the loopback: %d, by name %d", from, match, byName)
		}
	}
}

// TestSelfWithoutResolver: a name leads where it has led before.
func TestSelfWithoutResolver(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	if s.Match(t.Context(), "localhost:6379", 0) != sentinel.Same {
		t.Fatal("localhost leads elsewhere")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if got := s.Match(ctx, "localhost:6379", 0); got != sentinel.Same {
			t.Errorf("without a resolver: %d", got)
		}
	}
}

// TestClaimOfAnotherHost: what a Sentinel elsewhere calls the loopback is its
// own host.
func TestClaimOfAnotherHost(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	for from, want := range map[string]bool{"127.0.0.1:26379": true, "192.0.2.7:26379": false} {
		h := checker.Hello{Sentinel: "abc", From: from, Name: "mymaster", Master: "127.0.0.1:6379"}
		if c, match := s.Claim(t.Context(), h, 0); (match != sentinel.Unresolved) != want || c.Local != want {
			t.Errorf("%s names 127.0.0.1: %+v, %d", from, c, match)
		}
	}
}
