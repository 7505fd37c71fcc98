package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// A listener notes what the Sentinels say.
type listener struct {
	Naive
	connected map[string]int
	events    []string // sentinel, channel and payload
	replies   []MasterReply
}

func (l *listener) Connected(_ time.Time, sentinel string)    { l.connected[sentinel]++ }
func (l *listener) Disconnected(_ time.Time, sentinel string) { l.connected[sentinel]-- }
func (l *listener) Published(_ time.Time, sentinel, channel, payload string) {
	l.events = append(l.events, sentinel+" "+channel+" "+payload)
}
func (l *listener) Replied(_, _ time.Time, sentinel string, m MasterReply, ok bool) {
	if ok && strings.HasPrefix(sentinel, "10.0.0.2:") {
		l.replies = append(l.replies, m)
	}
}

func (l *listener) Ask() bool    { return false }
func (l *listener) Silent() bool { return false }

func (l *listener) Failover(time.Time) (sentinel, name string) { return "", "" }
func (l *listener) FailoverReplied(time.Time, string, string, checker.FailoverResult) {
}

// TestWatcher shows what a daemon that is connected to the Sentinels is told of
// a planned failover, in its order and by its words.
func TestWatcher(t *testing.T) {
	l := &listener{connected: map[string]int{}}
	planned := Fault{Kind: Planned, Node: 1, At: 6 * time.Second}
	c := Config{Seed: 1, Length: 15 * time.Second, Watch: true, Faults: []Fault{planned}}
	New(c, func(_ *World, node int) Daemon {
		if node == 2 {
			return l
		}
		return &Naive{}
	}).Run()
	if len(l.connected) != 3 {
		t.Errorf("it is connected to %v", l.connected)
	}
	var said []string
	for _, e := range l.events {
		if rest, ok := strings.CutPrefix(e, "10.0.0.2:26379 "); ok && !strings.Contains(e, "slave-reconf") {
			said = append(said, rest)
		}
	}
	want := []string{
		"+new-epoch 1",
		"+try-failover master mymaster 10.0.0.1 6379",
		"+vote-for-leader " + sentinelID(1) + " 1",
		"+elected-leader master mymaster 10.0.0.1 6379",
		"+failover-state-select-slave master mymaster 10.0.0.1 6379",
		"+selected-slave slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379",
		"+failover-state-send-slaveof-noone slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379",
		"+failover-state-wait-promotion slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379",
		"-role-change slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379 new reported role is master",
		"+promoted-slave slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379",
		"+failover-state-reconf-slaves master mymaster 10.0.0.1 6379",
		"+failover-end master mymaster 10.0.0.1 6379",
		"+switch-master mymaster 10.0.0.1 6379 10.0.0.3 6379",
		"+slave slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.3 6379",
		"+slave slave 10.0.0.1:6379 10.0.0.1 6379 @ mymaster 10.0.0.3 6379",
	}
	if len(said) < len(want) || !slices.Equal(said[:len(want)], want) {
		t.Errorf("the leader said\n%s", strings.Join(said, "\n"))
	}
	// From +promoted-slave to +switch-master the epoch is new and the address old.
	between := func(m MasterReply) bool {
		return m.FailoverState == "reconf_slaves" && m.ConfigEpoch == 1 && m.Address == "10.0.0.1:6379" &&
			m.Current == "10.0.0.3:6379" && m.Flags == "master,failover_in_progress,force_failover"
	}
	if !slices.ContainsFunc(l.replies, between) {
		t.Errorf("the leader answered %+v", l.replies)
	}
	if m := l.replies[len(l.replies)-1]; m.FailoverState != "" || m.ConfigEpoch != 1 || m.Address != "10.0.0.3:6379" {
		t.Errorf("at the end it answers %+v", m)
	}
}

// A hearer notes the hellos.
type hearer struct {
	Naive
	heard []string
	match map[Match]int
}

func (d *hearer) Heard(_ time.Time, h Hello, names Match, _ bool) {
	d.heard = append(d.heard, h.String())
	d.match[names]++
}

// TestHellos shows what a daemon hears: each name, each Sentinel, twice on a
// replica, and by host names what it cannot resolve.
func TestHellos(t *testing.T) {
	noResolver := Fault{Kind: NoResolver, At: 10 * time.Second, For: 10 * time.Second}
	c := Config{Seed: 1, Length: 20 * time.Second, HostNames: true, Names: []string{"a", "b"}}
	c.Faults = []Fault{noResolver}
	daemons := make([]*hearer, 3)
	New(c, func(_ *World, node int) Daemon {
		daemons[node] = &hearer{match: map[Match]int{}}
		return daemons[node]
	}).Run()
	for _, want := range []string{
		"10.0.0.1,26379," + sentinelID(0) + ",0,a,node1.example,6379,0",
		"10.0.0.3,26379," + sentinelID(2) + ",0,b,node1.example,6379,0",
	} {
		if !slices.Contains(daemons[1].heard, want) {
			t.Errorf("it does not hear %s but %s", want, daemons[1].heard[0])
		}
	}
	master, replica := daemons[0], daemons[1]
	if n := len(master.heard); n < 50 || n > 65 { // six each 2.05 s
		t.Errorf("on the master it hears %d hellos", n)
	}
	if n := len(replica.heard); n < 100 || n > 130 {
		t.Errorf("on a replica it hears %d hellos", n)
	}
	if m := master.match; m[NamesUs] < 20 || m[NamesUnknown] < 20 || m[NamesOther] > 0 {
		t.Errorf("on the master they match %v", m)
	}
	if m := replica.match; m[NamesOther] < 40 || m[NamesUnknown] < 40 || m[NamesUs] > 0 {
		t.Errorf("on a replica they match %v", m)
	}
}
