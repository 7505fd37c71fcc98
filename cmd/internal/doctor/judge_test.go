package doctor

import (
	"net/netip"
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
			"the daemon of b:1 says yes", "2 daemons say yes: a:1, b:1",
			"2 hosts have 10.0.0.100: a, b"}},
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
				if b := c.Nodes[1].BehindBytes; b == nil || *b != 10 || !slices.Equal(c.Nodes[0].VIP, []string{"10.0.0.100"}) {
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

// TestJudgeVIP: where a virtual address is that should be elsewhere is named; what is not
// known is shown as unknown, and is no fault.
func TestJudgeVIP(t *testing.T) {
	const vip = "10.0.0.100"
	node := func(address string, a checker.Answer, known bool, vips ...string) Member {
		return Member{Address: address, Answer: a, Reason: "role", VIP: vips, VIPKnown: known}
	}
	dark := Member{Address: "c:1", Error: "not asked", unasked: true}
	for name, tt := range map[string]struct {
		nodes []Member
		text  string
		want  []string
	}{
		"all is well": {[]Member{node("a:1", checker.Yes, true, vip), node("b:1", checker.No, true)}, vip, nil},
		"not known":   {[]Member{node("a:1", checker.Yes, false), node("b:1", checker.No, true), dark}, "?", nil},
		"on two hosts": {[]Member{node("a:1", checker.Yes, true, vip), node("b:1", checker.No, true, vip)}, vip,
			[]string{"2 hosts have 10.0.0.100: a, b", "b has 10.0.0.100, and its daemon does not say yes"}},
		"on none": {[]Member{node("a:1", checker.Yes, true), node("b:1", checker.No, true)}, "–",
			[]string{"the daemon of a:1 says yes, and its host lacks 10.0.0.100"}},
		"one of another daemon": {
			[]Member{node("a:1", checker.Yes, true, vip), node("b:1", checker.No, true, "10.0.0.7")}, "10.0.0.7",
			[]string{"b has 10.0.0.7, and its daemon does not say yes"}},
		"two nodes of one host": {
			[]Member{node("a:1", checker.Yes, true, vip), node("a:2", checker.No, true, vip)}, vip, nil},
		"no answer": {[]Member{node("a:1", checker.Yes, true, vip), {Address: "c:1", unasked: true, VIP: []string{vip}}},
			vip + ", ?", []string{"2 hosts have 10.0.0.100: a, c"}},
	} {
		c := Cluster{VIP: []string{vip}, Nodes: tt.nodes, Sentinels: []Voice{{Address: "s0", Master: "a:1"}}}
		c.judge()
		if !slices.Equal(c.Faults, tt.want) && len(c.Faults)+len(tt.want) > 0 {
			t.Errorf("%s: %q, want %q", name, c.Faults, tt.want)
		}
		if !strings.Contains(c.Text(), "  "+tt.text+"  ") {
			t.Errorf("%s: no %s in %s", name, tt.text, c.Text())
		}
	}
	c := Cluster{VIPError: "keepalived.conf: permission denied"}
	if text := c.Text(); !strings.Contains(text, "? which addresses keepalived holds: "+c.VIPError+"; run it as root\n") {
		t.Error(text)
	}
}

// TestLook: what a host lacks is believed only of one that has the node's own address.
func TestLook(t *testing.T) {
	vips := []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.101")}
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	for name, tt := range map[string]struct {
		here, unknown []string
		vip           []string
		known         bool
	}{
		"one of them":          {here: []string{"10.0.0.1", "10.0.0.101"}, vip: []string{"10.0.0.101"}, known: true},
		"none":                 {here: []string{"10.0.0.1"}, known: true},
		"in a container":       {here: []string{"172.17.0.2"}},
		"seen though":          {here: []string{"10.0.0.100"}, vip: []string{"10.0.0.100"}},
		"one was not told":     {here: []string{"10.0.0.1"}, unknown: []string{"10.0.0.101"}},
		"its own was not told": {unknown: []string{"10.0.0.1"}},
		"one is not known":     {here: []string{"10.0.0.1", "10.0.0.100"}, unknown: []string{"10.0.0.100"}},
	} {
		doc := &report.Document{}
		for _, a := range slices.Concat(own, vips) {
			one := report.HostAddress{Address: a.String(), Present: new(slices.Contains(tt.here, a.String()))}
			if slices.Contains(tt.unknown, a.String()) {
				one.Present = nil
			}
			doc.HostAddresses = append(doc.HostAddresses, one)
		}
		var n Member
		n.look(vips, own, saysOf(doc))
		if !slices.Equal(n.VIP, tt.vip) || n.VIPKnown != tt.known {
			t.Errorf("%s: %v %v, want %v %v", name, n.VIP, n.VIPKnown, tt.vip, tt.known)
		}
		n = Member{}
		if n.look(vips, own, saysOf(nil)); n.VIPKnown || n.VIP != nil {
			t.Errorf("of no daemon: %+v", n)
		}
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
		_, err := newDaemonClient(t.Context(), Target{HTTP: listens}, nil).ask(t.Context(), "192.0.2.1:6379", nil)
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
