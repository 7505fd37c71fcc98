package doctor

import (
	"slices"
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// TestJudge: what no lab can hold for long, several masters, is named.
func TestJudge(t *testing.T) {
	yes := &report.Document{Answer: checker.Yes, Reason: checker.OK,
		VIP:         []report.VIP{{Address: "10.0.0.100/32", Held: true}, {Address: "10.0.0.101/32"}},
		Observation: &report.Observation{Role: checker.RoleMaster, OffsetBytes: 100}}
	no := &report.Document{Answer: checker.No, Reason: "role",
		Observation: &report.Observation{Role: checker.RoleReplica, OffsetBytes: 90}}
	for name, tt := range map[string]struct {
		one, two *report.Document
		names    []string
		want     []string // how the faults begin
	}{
		"all is well": {yes, no, []string{"a:1", "a:1"}, nil},
		"two say yes": {yes, yes, []string{"a:1", "a:1"}, []string{
			"the daemon of b:1 says yes", "2 daemons say yes: a:1, b:1"}},
		"nobody says it": {no, no, []string{"a:1", "a:1"}, []string{"no daemon says yes"}},
		"one is unasked": {no, nil, []string{"a:1", "a:1"}, nil},
		"they differ": {yes, no, []string{"a:1", "b:1"},
			[]string{"the Sentinels name different masters: a:1 (s0); b:1 (s1)"}},
		"none names one": {yes, no, []string{""}, []string{"the Sentinel s0 names nobody", "no Sentinel names a master"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Cluster{Nodes: []Member{{Address: "a:1"}, {Address: "b:1"}}}
			for i, named := range tt.names {
				v := Voice{Address: "s" + string(rune('0'+i)), Master: named}
				if named == "" {
					v.Error = "refused"
				}
				if named == "a:1" {
					c.Nodes[0].NamedBy = append(c.Nodes[0].NamedBy, v.Address)
				}
				c.Sentinels = append(c.Sentinels, v)
			}
			c.Nodes[0].learn(tt.one, nil)
			c.Nodes[1].learn(tt.two, nil)
			c.behind()
			c.judge()
			if !slices.EqualFunc(c.Faults, tt.want, strings.HasPrefix) {
				t.Errorf("%q, want %q", c.Faults, tt.want)
			}
			if name == "all is well" {
				if b := c.Nodes[1].BehindBytes; b == nil || *b != 10 || !slices.Equal(c.Nodes[0].VIP, []string{"10.0.0.100/32"}) {
					t.Errorf("%+v", c.Nodes)
				}
			}
			for _, f := range tt.want {
				if !strings.Contains(c.Text(), "✗ "+f) {
					t.Errorf("no %q in %s", f, c.Text())
				}
			}
		})
	}
}

// TestSafeJSON: what others have put into it cannot act on a terminal.
func TestSafeJSON(t *testing.T) {
	c := Cluster{Name: "a\u009b2J", Faults: []string{"\x1b[31m"}}
	if text := c.JSON(); strings.ContainsAny(text, "\u009b\x1b") || !strings.Contains(text, `a\u009b2J`) {
		t.Errorf("%q", text)
	}
}

// TestNotAsked: it is said why a daemon was not asked, and that is no fault.
func TestNotAsked(t *testing.T) {
	for _, listens := range []string{"", "127.0.0.1:9736", "localhost:9736", "[::1]:9736"} {
		_, err := askDaemon(t.Context(), listens, "192.0.2.1:6379")
		var n Member
		n.learn(nil, err)
		if !n.unasked || !strings.HasPrefix(n.Error, "not asked: ") {
			t.Errorf("%q: %+v", listens, n)
		}
	}
}

// TestReplicasSeen: what is no replica of a Sentinel's reply is left out.
func TestReplicasSeen(t *testing.T) {
	all := replicasSeen([]any{
		[]any{"name", "x", "ip", "10.0.0.2", "port", "6379", "flags", "s_down,slave", "role-reported", "slave",
			"slave-repl-offset", "7"},
		[]any{"ip", "10.0.0.3"}, "x", []any{"ip", 3}, nil,
		[]any{"ip", "10.0.0.4", "port", "6379", "slave-repl-offset", "x"},
	})
	want := []Replica{{"10.0.0.2:6379", "slave", true, 7}, {"10.0.0.4:6379", "", false, -1}}
	if !slices.Equal(all, want) || replicasSeen("x") != nil {
		t.Errorf("%+v", all)
	}
}
