package sentinel_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

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
		if got := s.Match(t.Context(), tt.named, checker.Observation{TCPPort: port}); got != tt.want {
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
		if s.Match(t.Context(), own, checker.Observation{}) != sentinel.Same {
			t.Errorf("%s is not this host", own)
		}
		s = &sentinel.Self{Node: &checker.Redis{Address: own}}
		if s.Match(t.Context(), own, checker.Observation{}) != sentinel.Same {
			t.Errorf("%s is not itself", own)
		}
		loopback := a.(*net.IPNet).IP.IsLoopback()
		want := sentinel.Different
		if loopback {
			want = sentinel.Same
		}
		if got := s.Match(t.Context(), "127.0.0.1:6379", checker.Observation{}); got != want {
			t.Errorf("%s is the loopback: %d", own, got)
		}
		nobody := &sentinel.Self{Node: new(checker.Redis)}
		if c, _ := nobody.Claim(t.Context(), checker.Hello{From: own}, checker.Observation{}); !c.Local {
			t.Errorf("%s is not on this host", own)
		}
	}
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	for from, want := range map[string]bool{"127.0.0.1:26379": true, "localhost:1": true, "[::1]:1": true,
		"203.0.113.7:26379": false, nowhere + ":26379": false, "127.0.0.1": false, "": false} {
		c, match := s.Claim(t.Context(), checker.Hello{From: from, Master: "127.0.0.1:6379"}, checker.Observation{})
		if c.Local != want {
			t.Errorf("%q is on this host: %t", from, c.Local)
		}
		// What another host calls its own address may be any node.
		_, byName := s.Claim(t.Context(), checker.Hello{From: from, Master: "localhost:6379"}, checker.Observation{})
		if sure := match != sentinel.Unresolved; sure != want || (byName != sentinel.Unresolved) != want {
			t.Errorf("%q names the loopback: %d, by name %d", from, match, byName)
		}
	}
}

// TestSelfWithoutResolver: a name leads where it has led before.
func TestSelfWithoutResolver(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	if s.Match(t.Context(), "localhost:6379", checker.Observation{}) != sentinel.Same {
		t.Fatal("localhost leads elsewhere")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if got := s.Match(ctx, "localhost:6379", checker.Observation{}); got != sentinel.Same {
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
		c, match := s.Claim(t.Context(), h, checker.Observation{})
		if (match != sentinel.Unresolved) != want || c.Local != want {
			t.Errorf("%s names 127.0.0.1: %+v, %d", from, c, match)
		}
	}
}

// of is what a node said whose process has a run id.
func of(runID string) checker.Observation { return checker.Observation{RunID: runID} }

// met is an answer of a Sentinel that names 203.0.113.1, and has met the given nodes.
func met(now time.Time, nodes ...sentinel.Known) sentinel.Report {
	return sentinel.Report{Address: "203.0.113.7:26379", Time: now, Name: "mymaster", Master: "203.0.113.1:6379",
		Nodes: nodes}
}

// TestMetByRunID: an address that is none of the node's is the node's if a Sentinel
// has met its process there, and only then.
func TestMetByRunID(t *testing.T) {
	now := time.Now()
	known := func(address, runID string, age time.Duration) sentinel.Known {
		return sentinel.Known{Address: address, RunID: runID, Age: age}
	}
	const nat, other, far = "203.0.113.1:6379", "203.0.113.2:6379", "203.0.113.1:7000"
	for _, tt := range []struct {
		what    string
		reports []sentinel.Report
		address string
		now     string // the run id of the node
		want    sentinel.Match
	}{
		{"nobody has met anybody", nil, nat, "a", sentinel.Different},
		{"met", []sentinel.Report{met(now, known(nat, "a", time.Second))}, nat, "a", sentinel.Same},
		{"met at another port", []sentinel.Report{met(now, known(far, "a", time.Second))}, far, "a", sentinel.Same},
		{"met, but not there", []sentinel.Report{met(now, known(nat, "a", time.Second))}, other, "a", sentinel.Different},
		{"as a replica", []sentinel.Report{met(now, known(nat, "b", 0), known(other, "a", 0))}, other, "a",
			sentinel.Same},
		{"another process is there", []sentinel.Report{met(now, known(nat, "b", 0))}, nat, "a", sentinel.Different},
		{"a run id of nobody", []sentinel.Report{met(now, known(nat, "", 0))}, nat, "", sentinel.Different},
		{"long ago", []sentinel.Report{met(now, known(nat, "a", time.Minute))}, nat, "a", sentinel.Different},
		{"the node was restarted since", []sentinel.Report{met(now, known(nat, "a", 0))}, nat, "b", sentinel.Unresolved},
		{"long since", []sentinel.Report{met(now.Add(-time.Minute), known(nat, "a", 0))}, nat, "b", sentinel.Different},
		{"the address leads elsewhere since", []sentinel.Report{met(now.Add(-time.Minute), known(nat, "a", 0)),
			met(now, known(nat, "b", 0))}, nat, "a", sentinel.Different},
		{"one says so, and one that another is there", []sentinel.Report{met(now, known(nat, "a", 0)),
			met(now, known(nat, "b", 5*time.Second)), met(now, known(nat, "a", 0))}, nat, "a", sentinel.Different},
		{"one said so, and all know better", []sentinel.Report{met(now.Add(-20*time.Second), known(nat, "a", 0)),
			met(now.Add(-10*time.Second), known(nat, "b", 15*time.Second)), met(now, known(nat, "a", 0))}, nat, "a",
			sentinel.Same},
		{"nobody has said so of late", []sentinel.Report{met(now.Add(-time.Minute), known(nat, "a", 0))}, nat, "a",
			sentinel.Unresolved},
	} {
		s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
		for _, r := range tt.reports {
			s.Told(t.Context(), r, of("a"))
		}
		if got := s.Match(t.Context(), tt.address, of(tt.now)); got != tt.want {
			t.Errorf("%s: %s matches: %d, want %d", tt.what, tt.address, got, tt.want)
		}
	}
}

// TestMetAgain: a restart of the node, as its Sentinels learn of it one after the
// other.
func TestMetAgain(t *testing.T) {
	now := time.Now()
	const nat = "203.0.113.1:6379"
	var calls []string
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}, Met: func(sentinel, address string) {
		calls = append(calls, sentinel+" "+address)
	}}
	told := func(at time.Duration, runID string, o checker.Observation) sentinel.Told {
		return s.Told(t.Context(), met(now.Add(at), sentinel.Known{Address: nat, RunID: runID}), o)
	}
	if t1 := told(0, "a", of("a")); !t1.NamesUs || t1.Unresolved || !s.Listed(of("a")) || !s.WasOurs(nat) {
		t.Errorf("%+v", t1)
	}
	if s.Listed(of("b")) {
		t.Error("the next process is listed before anybody has met it")
	}
	if t1 := told(time.Second, "a", of("b")); t1.NamesUs || !t1.Unresolved {
		t.Errorf("an old run id says something: %+v", t1)
	}
	if t1 := told(2*time.Second, "b", of("b")); !t1.NamesUs {
		t.Errorf("%+v", t1)
	}
	if t1 := told(3*time.Second, "a", of("b")); !t1.NamesUs {
		t.Errorf("the old run id of a Sentinel that is late takes the address away: %+v", t1)
	}
	if t1 := told(4*time.Second, "c", of("b")); t1.NamesUs || t1.Unresolved || s.WasOurs(nat) {
		t.Errorf("it leads to another, and is the node's: %+v", t1)
	}
	if told(5*time.Second, "b", of("b")); s.Match(t.Context(), nat, of("b")) == sentinel.Same {
		t.Error("one that says more than the others is believed")
	}
	if len(calls) != 1 || calls[0] != "203.0.113.7:26379 "+nat {
		t.Errorf("it was told of %q", calls)
	}
}

// TestMetBeforeSuspend: what was met before the host was suspended says nothing, until
// a Sentinel has met the node there again.
func TestMetBeforeSuspend(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	const nat = "203.0.113.1:6379"
	for _, want := range []sentinel.Match{sentinel.Same, sentinel.Unresolved, sentinel.Same} {
		if want == sentinel.Same {
			s.Told(t.Context(), met(time.Now(), sentinel.Known{Address: nat, RunID: "a"}), of("a"))
		} else {
			s.Doubt()
		}
		if got := s.Match(t.Context(), nat, of("a")); got != want {
			t.Errorf("it matches: %d, want %d", got, want)
		}
	}
}

// TestMetAtLoopback: the loopback of another host is an address of this node for
// the Sentinel that has met it there, and for no other.
func TestMetAtLoopback(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "203.0.113.1:6379"}}
	r := met(time.Now(), sentinel.Known{Address: "127.0.0.1:6379", RunID: "a"})
	r.Master = "127.0.0.1:6379"
	if told := s.Told(t.Context(), r, of("a")); !told.NamesUs || told.Unresolved {
		t.Errorf("%+v", told)
	}
	r.Nodes = nil
	if told := s.Told(t.Context(), r, of("a")); told.NamesUs {
		t.Errorf("another Sentinel's loopback is the node: %+v", told)
	}
}

// TestFullOfAliases: a Sentinel that makes up addresses does not fill the memory.
func TestFullOfAliases(t *testing.T) {
	s := &sentinel.Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	now := time.Now()
	address := func(i int) string { return fmt.Sprintf("203.0.113.%d:6379", i) }
	for i := range 100 {
		at := now.Add(time.Duration(i) * time.Second)
		s.Told(t.Context(), met(at, sentinel.Known{Address: address(i), RunID: "a"}), of("a"))
	}
	kept := 0
	for i := range 100 {
		if s.WasOurs(address(i)) {
			kept++
		}
	}
	if kept != 16 || !s.WasOurs(address(99)) {
		t.Errorf("%d addresses are remembered", kept)
	}
}
