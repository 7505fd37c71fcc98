package lab

import (
	"strings"
	"testing"
	"time"
)

// TestJudged: what may never be is found, and what may be for a while is not.
// The events are those of a site whose master is a, which has the VIP, from
// then on, each with the milliseconds at which it was seen.
func TestJudged(t *testing.T) {
	t.Parallel()
	type at struct {
		ms   int
		node string
		kind Kind
		what string
	}
	dead := []at{{0, "a", Role, Down}, {5, "a", VIP, "down"}}
	promoted := append(dead[:2:2], at{1400, "b", Role, Master}, at{1440, "b", VIP, "up"})
	announced := append(
		promoted[:4:4],
		at{2300, "a", Names, "b"},
		at{2310, "b", Names, "b"},
		at{2320, "c", Names, "b"},
	)
	for _, test := range []struct {
		name   string
		events []at
		want   string // a part of the only violation, empty for none
	}{
		{"nothing", nil, ""},
		{"a failover", announced, ""},
		{"a failover that is never announced", promoted, "b has the VIP and the Sentinels agree on another"},
		{"the dead master keeps it", dead[:1], "a has the VIP and its Redis is no master"},
		{"the dead master keeps it for long", []at{{0, "a", Role, Down}, {500, "a", VIP, "down"}},
			"a has the VIP and its Redis is no master"},
		{"keepalived does not obey", []at{{0, "a", Answer, "no, role"}, {200, "a", Answer, "yes"}},
			"a has the VIP and its daemon says no"},
		{"a hung one keeps it for a second", []at{{0, "a", Role, Hung}, {1500, "a", VIP, "down"}}, ""},
		{"a hung one keeps it", []at{{0, "a", Role, Hung}, {5000, "a", VIP, "down"}}, "a has the VIP and its Redis hangs"},
		{"two holders for a moment", []at{{0, "b", Role, Master}, {10, "b", VIP, "up"}, {11, "b", VIP, "down"}},
			"two nodes have the VIP"},
		{"a replica takes it", []at{{0, "a", VIP, "down"}, {1, "b", VIP, "up"}, {2, "b", VIP, "down"}},
			"b has the VIP and the Sentinels agree on another"},
		{"its role is seen a moment after the VIP",
			append(dead[:2:2], append([]at{{1400, "b", VIP, "up"}, {1403, "b", Role, Master}}, announced[4:]...)...), ""},
		{"it is promoted when it has the VIP",
			append(dead[:2:2], append([]at{{1300, "b", VIP, "up"}, {1400, "b", Role, Master}}, announced[4:]...)...),
			"b has the VIP and the Sentinels agree on another"},
		{"the restarted master takes it back", append(announced[:7:7], at{4000, "a", Role, Master},
			at{4100, "b", VIP, "down"}, at{4200, "a", VIP, "up"}, at{4210, "a", VIP, "down"}),
			"a has the VIP and the Sentinels agree on another"},
		{"the woken master takes it back",
			append(append([]at{{-1000, "a", Role, Replica}, {-900, "a", Role, Master}, {0, "a", Role, Hung}}, announced[1:]...),
				at{4000, "a", Role, Master}, at{4100, "b", VIP, "down"}, at{4200, "a", VIP, "up"}, at{4210, "a", VIP, "down"}),
			"a has the VIP and the Sentinels agree on another"},
		{"a planned failover", []at{{0, "b", Role, Master}, {900, "a", Names, "b"}, {910, "b", Names, "b"},
			{1200, "a", VIP, "down"}, {1240, "b", VIP, "up"}}, ""},
		{"the old master keeps it", []at{{0, "b", Role, Master}, {900, "a", Names, "b"}, {910, "b", Names, "b"},
			{9000, "a", VIP, "down"}, {9040, "b", VIP, "up"}},
			"a has the VIP and the Sentinels agree on another"},
		{"one that is cut off keeps it", append([]at{{-1, "a", Link, Isolated}},
			append(announced[2:7:7], at{3000, "a", Link, Cut}, at{3001, "a", VIP, "down"})...), ""},
		{"one that is back has not heard the other yet",
			append([]at{{0, "a", Link, Isolated}, {1400, "b", Role, Master}, {1500, "a", Link, Healed}, {1510, "b", VIP, "up"},
				{1600, "a", VIP, "down"}}, announced[4:]...), ""},
	} {
		start := time.Now()
		var events []Event
		add := func(all ...at) {
			for _, e := range all {
				events = append(
					events,
					Event{start.Add(time.Duration(e.ms) * time.Millisecond), e.node, e.kind, e.what},
				)
			}
		}
		add(
			at{-5000, "a", Role, Master},
			at{-5000, "b", Role, Replica},
			at{-5000, "c", Role, Replica},
			at{
				-5000,
				"a",
				Names,
				"a",
			},
			at{-5000, "b", Names, "a"},
			at{-5000, "c", Names, "a"},
			at{-4000, "a", VIP, "up"},
		)
		add(test.events...)
		found := judged(events, FaultBounds, start.Add(time.Minute))
		switch {
		case test.want == "" && len(found) > 0:
			t.Errorf("%s: found %v", test.name, found)
		case test.want != "" && (len(found) != 1 || !strings.Contains(found[0].What, test.want)):
			t.Errorf("%s: found %v, want %q", test.name, found, test.want)
		}
	}
}

// TestStrayWrites: a write is acknowledged by the holder of the VIP alone.
func TestStrayWrites(t *testing.T) {
	t.Parallel()
	start := time.Now()
	after := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	a, b := &Node{Host: &Host{Name: "a"}}, &Node{Host: &Host{Name: "b"}}
	events := []Event{{after(0), "a", VIP, "up"}, {after(1000), "a", VIP, "down"}, {after(2000), "b", VIP, "up"}}
	for _, test := range []struct {
		node  *Node
		ms    int
		stray bool
	}{{a, 500, false}, {a, 1010, false}, {a, 1500, true}, {b, 1500, true}, {b, 2500, false}, {a, 2500, true}} {
		if found := strayWrites(events, []Ack{{Sent: after(test.ms), At: after(test.ms + 1), Node: test.node}}); len(
			found,
		) > 0 != test.stray {
			t.Errorf("%s at %d ms: %v", test.node.Name, test.ms, found)
		}
	}
}
