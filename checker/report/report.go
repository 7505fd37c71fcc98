// Package report renders a check for people and machines. Its functions are
// pure; what a server said of itself is made safe for a line of output.
package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"redis-is-master/checker"
)

// A Report is one check of one node against one policy.
type Report struct {
	Address string // of the node, as it was asked for
	Policy  checker.Policy
	Check   checker.Check
}

// Text is one line without its newline: the answer, the address, the role (-
// if it is not known), the reason and the facts behind it.
//
//	no 127.0.0.1:6379 replica role: role:slave, not a master, follows 10.0.0.2:6379
func (r Report) Text() string {
	role := string(r.Check.Observation.Role)
	if role == "" {
		role = "-"
	}
	v := r.Check.Verdict
	return line(fmt.Sprintf("%s %s %s %s: %s", v.Answer(), r.Address, role, v.Reason, v.Detail))
}

// Explain is the text line, every fact, every rule in the order in which they
// decide, and which one did.
func (r Report) Explain() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Text())
	if hint := r.Check.Verdict.Hint; hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", line(hint))
	}
	fmt.Fprintf(&b, "took %v\n", r.Check.Duration.Round(10*time.Microsecond))
	if r.Check.Err != nil {
		fmt.Fprintln(&b, "nothing is known of the node, so no rule was applied")
		return b.String()
	}
	fmt.Fprintln(&b, "facts:")
	for _, f := range facts(r.Check.Observation) {
		fmt.Fprintf(&b, "  %-12s %s\n", f.name, line(f.value))
	}
	fmt.Fprintln(&b, "rules, of which the first broken one decides:")
	for _, rule := range r.Policy.Rules(r.Check.Observation) {
		detail := rule.Detail
		if rule.State == checker.RuleOff {
			detail = ""
		}
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %-12s %-7s %s", rule.Reason, rule.State, line(detail)), " "))
	}
	return b.String()
}

type fact struct{ name, value string }

func facts(o checker.Observation) []fact {
	all := []fact{
		{"role", fmt.Sprintf("%s (role:%s)", o.Role, o.WireRole)},
		{"version", o.Version},
		{"run id", o.RunID},
		{"uptime", o.Uptime.String()},
		{"loading", fmt.Sprint(o.Loading)},
		{"cluster", fmt.Sprint(o.Cluster)},
		{"offset", fmt.Sprintf("%d bytes", o.Offset)},
	}
	switch o.Role {
	case checker.RoleMaster:
		all = append(all, fact{"replicas", fmt.Sprintf("%d online", o.Replicas)}, fact{"failover", o.Failover})
	case checker.RoleReplica, checker.RoleActiveReplica:
		heard := "never"
		if o.LastIO >= 0 {
			heard = o.LastIO.String() + " ago"
		}
		all = append(all, fact{"master", o.MasterAddr}, fact{"link up", fmt.Sprint(o.LinkUp)},
			fact{"syncing", fmt.Sprint(o.Syncing)}, fact{"last heard", heard})
	}
	for i, f := range all {
		if f.value == "" {
			all[i].value = "not reported"
		}
	}
	return all
}

// Schema is the version of the JSON document; a field is added within a
// version, and never renamed or removed.
const Schema = 1

// Document is the JSON form of a report.
type Document struct {
	Schema          int            `json:"schema"`
	Answer          checker.Answer `json:"answer"`
	Reason          checker.Reason `json:"reason"`
	Detail          string         `json:"detail"`
	Hint            string         `json:"hint,omitempty"`
	Address         string         `json:"address"`
	Stage           checker.Stage  `json:"stage,omitempty"` // that failed
	Time            time.Time      `json:"time"`
	DurationSeconds float64        `json:"duration_seconds"`
	Want            checker.Role   `json:"want"`
	Observation     *Observation   `json:"observation"` // null if the node gave no answer that can be trusted
	Rules           []Rule         `json:"rules"`       // in the order in which they decide; empty without an observation
}

// Observation is the JSON form of a [checker.Observation].
type Observation struct {
	Role          checker.Role `json:"role"`
	WireRole      string       `json:"wire_role"`
	Version       string       `json:"version"`
	RunID         string       `json:"run_id"`
	UptimeSeconds float64      `json:"uptime_seconds"`
	Loading       bool         `json:"loading"`
	Cluster       bool         `json:"cluster"`
	Replicas      int          `json:"replicas"`
	OffsetBytes   int64        `json:"offset_bytes"`
	Failover      string       `json:"failover_state,omitempty"`
	Master        string       `json:"master,omitempty"`
	LinkUp        bool         `json:"link_up"`
	Syncing       bool         `json:"syncing"`
	LastIOSeconds *float64     `json:"last_io_seconds"` // null if it never was, or is not a replica's
}

// Rule is the JSON form of a [checker.Rule].
type Rule struct {
	Reason checker.Reason    `json:"reason"`
	State  checker.RuleState `json:"state"`
	Detail string            `json:"detail,omitempty"`
}

// JSON is the report as one line without its newline.
func (r Report) JSON() string {
	c := r.Check
	d := Document{
		Schema: Schema, Answer: c.Verdict.Answer(), Reason: c.Verdict.Reason, Detail: c.Verdict.Detail, Hint: c.Verdict.Hint,
		Address: r.Address, Time: c.Time, DurationSeconds: c.Duration.Seconds(), Want: r.Policy.Want(), Rules: []Rule{},
	}
	d.Stage = stage(c.Err)
	if c.Err == nil {
		o := c.Observation
		d.Observation = &Observation{
			Role: o.Role, WireRole: o.WireRole, Version: o.Version, RunID: o.RunID, UptimeSeconds: o.Uptime.Seconds(),
			Loading: o.Loading, Cluster: o.Cluster, Replicas: o.Replicas, OffsetBytes: o.Offset, Failover: o.Failover,
			Master: o.MasterAddr, LinkUp: o.LinkUp, Syncing: o.Syncing,
		}
		if o.LastIO >= 0 {
			s := o.LastIO.Seconds()
			d.Observation.LastIOSeconds = &s
		}
		for _, rule := range r.Policy.Rules(o) {
			if rule.State == checker.RuleOff {
				rule.Detail = ""
			}
			d.Rules = append(d.Rules, Rule{rule.Reason, rule.State, rule.Detail})
		}
	}
	b, err := json.Marshal(d)
	if err != nil { // no field can make it fail
		panic(err)
	}
	return string(b)
}

// line replaces what could end a line, or act on a terminal.
func line(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' {
			return '?'
		}
		return c
	}, s)
}
