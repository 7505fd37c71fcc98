package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"text/tabwriter"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A Cluster is what the Sentinels, and the daemons of the nodes, say of all nodes
// of one master.
type Cluster struct {
	Schema    int      `json:"schema"`
	Name      string   `json:"name"`                // by which the Sentinels know the master; empty if that is not known
	VIP       []string `json:"vip"`                 // the virtual addresses that were looked for
	VIPError  string   `json:"vip_error,omitempty"` // why some of keepalived's may be missing
	Nodes     []Member `json:"nodes"`               // by address
	Sentinels []Voice  `json:"sentinels"`           // by address
	Faults    []string `json:"faults"`              // what is not as it should be
}

// A Member is a node. What is not known is empty or null.
type Member struct {
	Address     string         `json:"address"`
	Role        checker.Role   `json:"role"` // as its daemon knows it, or as the Sentinels have seen it last
	Down        bool           `json:"down"` // a Sentinel takes it for down
	Answer      checker.Answer `json:"answer,omitempty"`
	Reason      checker.Reason `json:"reason,omitempty"`
	Error       string         `json:"error,omitempty"` // why its daemon gave no answer
	VIP         []string       `json:"vip"`             // the virtual addresses that its host has
	VIPKnown    bool           `json:"vip_known"`       // it has no other; else it may have
	OffsetBytes *int64         `json:"offset_bytes"`
	BehindBytes *int64         `json:"behind_bytes"` // a replica: by how much, at the most
	Epoch       *int64         `json:"epoch"`        // the highest at which a Sentinel names it
	NamedBy     []string       `json:"named_by"`     // the Sentinels that name it as the master

	unasked bool // its daemon was not asked, for it is not known where
}

// A Voice is a Sentinel.
type Voice struct {
	Address string `json:"address"`
	Master  string `json:"master,omitempty"` // that it names
	Epoch   *int64 `json:"epoch"`
	Error   string `json:"error,omitempty"` // why it names none
}

// judge notes what is not as it should be.
func (c *Cluster) judge() {
	fault := func(format string, args ...any) { c.Faults = append(c.Faults, fmt.Sprintf(format, args...)) }
	c.Faults = []string{}
	named := make(map[string][]string)
	for _, s := range c.Sentinels {
		if s.Error != "" {
			fault("the Sentinel %s names nobody: %s", s.Address, s.Error)
		} else {
			named[s.Master] = append(named[s.Master], s.Address)
		}
	}
	switch {
	case len(named) == 0:
		fault("no Sentinel names a master")
	case len(named) > 1:
		var all []string
		for master, by := range named {
			all = append(all, fmt.Sprintf("%s (%s)", master, strings.Join(by, ", ")))
		}
		slices.Sort(all)
		fault("the Sentinels name different masters: %s", strings.Join(all, "; "))
	}
	var yes []string
	asked := 0
	for _, n := range c.Nodes {
		_, isNamed := named[n.Address]
		if n.Answer != "" {
			asked++
		}
		if n.Answer == "" && !n.unasked {
			fault("the daemon of %s gives no answer: %s", n.Address, n.Error)
		}
		if n.Answer == checker.Yes {
			yes = append(yes, n.Address)
		}
		if n.Answer == checker.Yes && !isNamed && len(named) > 0 {
			fault("the daemon of %s says yes, and no Sentinel names it", n.Address)
		}
		if n.Down {
			fault("a Sentinel takes %s for down", n.Address)
		}
	}
	switch {
	case len(yes) > 1:
		fault("%d daemons say yes: %s", len(yes), strings.Join(yes, ", "))
	case len(yes) == 0 && asked == len(c.Nodes) && asked > 0:
		fault("no daemon says yes")
	}
	vips := slices.Clone(c.VIP)
	for _, n := range c.Nodes {
		vips = append(vips, n.VIP...)
	}
	slices.Sort(vips)
	for _, v := range slices.Compact(vips) {
		c.judgeVIP(v, fault)
	}
}

// judgeVIP notes where a virtual address is that should be elsewhere. What is not known is
// no fault.
func (c *Cluster) judgeVIP(vip string, fault func(string, ...any)) {
	var here []string             // the hosts
	yes := make(map[string]bool)  // of a host, a node is believed
	told := make(map[string]bool) // of a host, an answer is known
	host := func(n Member) string {
		h, _, _ := net.SplitHostPort(n.Address)
		return h
	}
	for _, n := range c.Nodes {
		yes[host(n)] = yes[host(n)] || n.Answer == checker.Yes
		told[host(n)] = told[host(n)] || n.Answer != ""
		if slices.Contains(n.VIP, vip) && !slices.Contains(here, host(n)) {
			here = append(here, host(n))
		}
	}
	if len(here) > 1 {
		fault("%d hosts have %s: %s", len(here), vip, strings.Join(here, ", "))
	}
	for _, h := range here {
		if told[h] && !yes[h] {
			fault("%s has %s, and its daemon does not say yes", h, vip)
		}
	}
	for _, n := range c.Nodes {
		if n.Answer == checker.Yes && n.VIPKnown && slices.Contains(c.VIP, vip) && !slices.Contains(n.VIP, vip) {
			fault("the daemon of %s says yes, and its host lacks %s", n.Address, vip)
		}
	}
}

// behind fills in by how much the replicas are behind the node that all Sentinels
// name.
func (c *Cluster) behind() {
	i := slices.IndexFunc(c.Nodes, func(n Member) bool { return len(n.NamedBy) > 0 && n.Role == checker.RoleMaster })
	if i < 0 || c.Nodes[i].OffsetBytes == nil {
		return
	}
	for j := range c.Nodes {
		if n := &c.Nodes[j]; n.Role == checker.RoleReplica && n.OffsetBytes != nil {
			n.BehindBytes = new(max(0, *c.Nodes[i].OffsetBytes-*n.OffsetBytes))
		}
	}
}

// Text renders it for people: a table, and below it what is not as it should be.
func (c Cluster) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which %d Sentinels know\n\n", cmp.Or(c.Name, "a master without a known name"), len(c.Sentinels))
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tDAEMON\tVIP\tBEHIND\tNAMED BY")
	for _, n := range c.Nodes {
		role := string(n.Role)
		if n.Down {
			role = strings.TrimPrefix(role+", down", ", ")
		}
		daemon := n.Error
		if n.Answer != "" {
			daemon = fmt.Sprintf("%s (%s)", n.Answer, n.Reason)
		}
		behind, by := "", strings.Join(n.NamedBy, ", ")
		if n.BehindBytes != nil {
			behind = fmt.Sprintf("%d bytes", *n.BehindBytes)
		}
		if n.Epoch != nil && by != "" {
			by += fmt.Sprintf(" at epoch %d", *n.Epoch)
		}
		vip := slices.Clone(n.VIP)
		if !n.VIPKnown {
			vip = append(vip, "?")
		}
		row := []string{n.Address, role, daemon, strings.Join(vip, ", "), behind, by}
		for i := range row {
			row[i] = cmp.Or(report.Line(row[i]), "–")
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
	if c.VIPError != "" {
		fmt.Fprintf(&b, "\n? which addresses keepalived holds: %s; run it as root\n", report.Line(c.VIPError))
	}
	for _, f := range c.Faults {
		fmt.Fprintf(&b, "\n✗ %s", report.Line(f))
	}
	if len(c.Faults) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// JSON renders it as one line for tools.
func (c Cluster) JSON() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // there is nothing in it that cannot be marshalled
	}
	return report.Escape(string(b)) + "\n"
}
