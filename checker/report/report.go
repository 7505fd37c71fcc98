// Package report renders a check for people and machines. Its functions are
// pure; what a server said of itself is made safe for a line of output.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"redis-is-master/checker"
)

// Schema is the version of the JSON document; a field is added within a
// version, and never renamed or removed.
const Schema = 1

// A Document is one check of one node against one policy, or what a daemon
// made of its checks. It is what all outputs are rendered from, and is itself
// the JSON output.
type Document struct {
	Schema          int            `json:"schema"`
	Answer          checker.Answer `json:"answer"`
	Reason          checker.Reason `json:"reason"`
	Detail          string         `json:"detail"`
	Hint            string         `json:"hint,omitempty"`
	Address         string         `json:"address"`         // of the node, as it was asked for
	Stage           checker.Stage  `json:"stage,omitempty"` // that failed
	Time            time.Time      `json:"time"`            // when the check began
	DurationSeconds float64        `json:"duration_seconds"`
	Want            checker.Role   `json:"want"`
	Observation     *Observation   `json:"observation"` // null if the node gave no answer that can be trusted
	Rules           []Rule         `json:"rules"`       // in the order in which they decide; empty without an observation
	Daemon          *Daemon        `json:"daemon,omitempty"`
	VIP             []VIP          `json:"vip,omitempty"` // addresses that the daemon itself holds

	text string // where only that is known
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
	GoodReplicas  *int         `json:"good_replicas"`   // of them, those that lag little; null if it is no master
	BehindBytes   *int64       `json:"behind_bytes"`    // null if the master was not asked, or did not say
	Hellos        *Hellos      `json:"hellos,omitempty"`
	Quorum        *Quorum      `json:"quorum,omitempty"`
}

// Hellos is the JSON form of a [checker.Hellos].
type Hellos struct {
	Trust  checker.Trust `json:"trust"`
	Detail string        `json:"detail"`
	Last   *time.Time    `json:"last"` // null if none was heard
	Epoch  uint64        `json:"epoch"`
	Words  []Word        `json:"words"`
}

// Word is the JSON form of a [checker.Heard].
type Word struct {
	Sentinel     string    `json:"sentinel"` // host:port
	RunID        string    `json:"run_id"`
	Name         string    `json:"name"`   // of the master
	Master       string    `json:"master"` // host:port that it names
	Here         bool      `json:"here"`   // that is this node
	Epoch        uint64    `json:"epoch"`
	CurrentEpoch uint64    `json:"current_epoch"`
	Time         time.Time `json:"time"`
}

// Quorum is the JSON form of a [checker.Quorum].
type Quorum struct {
	Time    time.Time        `json:"time"`
	Here    bool             `json:"here"`   // a majority names this node
	Waived  bool             `json:"waived"` // a watched promotion does not wait for it
	Answers []SentinelAnswer `json:"answers"`
}

// SentinelAnswer is the JSON form of a [checker.SentinelAnswer].
type SentinelAnswer struct {
	Sentinel string `json:"sentinel"`         // host:port
	Master   string `json:"master,omitempty"` // host:port that it names
	Here     bool   `json:"here"`             // that is this node, and it counts
	Error    string `json:"error,omitempty"`  // why it does not count
}

// Rule is the JSON form of a [checker.Rule].
type Rule struct {
	Reason checker.Reason    `json:"reason"`
	State  checker.RuleState `json:"state"`
	Detail string            `json:"detail,omitempty"`
}

// Daemon is what a daemon adds to its document.
type Daemon struct {
	Version     string                 `json:"version"`
	AgeSeconds  float64                `json:"age_seconds"` // of what the document says
	Since       time.Time              `json:"since"`       // when the answer became what it is
	LastCheck   checker.Reason         `json:"last_check"`  // the reason of the last check alone, not damped
	Transitions map[checker.Answer]int `json:"transitions"` // of the answer since the start, by what it became
	History     []Transition           `json:"history"`     // of the reason, the newest first
}

// VIP is an address that a daemon holds while the answer is yes.
type VIP struct {
	Address  string `json:"address"`      // with its length
	Held     bool   `json:"held"`         // it is on the interface
	Conflict bool   `json:"conflict"`     // another host has it, though it is wanted here
	By       string `json:"by,omitempty"` // that host, by its Ethernet address
}

// Transition is the JSON form of a [checker.Transition].
type Transition struct {
	Time          time.Time      `json:"time"`
	From          checker.Reason `json:"from"`
	To            checker.Reason `json:"to"`
	Detail        string         `json:"detail"`
	LastedSeconds float64        `json:"lasted_seconds"` // how long From stood
}

// New is the document of one check.
func New(address string, p checker.Policy, c checker.Check) Document {
	d := Document{
		Schema: Schema, Answer: c.Verdict.Answer(), Reason: c.Verdict.Reason, Detail: c.Verdict.Detail, Hint: c.Verdict.Hint,
		Address: address, Time: c.Time, DurationSeconds: c.Duration.Seconds(), Want: p.Want(), Rules: []Rule{},
	}
	if e, ok := errors.AsType[*checker.Error](c.Err); ok {
		d.Stage = e.Stage
	}
	if c.Err != nil || c.Time.IsZero() {
		return d
	}
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
	if o.GoodReplicas >= 0 && o.Role == checker.RoleMaster {
		d.Observation.GoodReplicas = &o.GoodReplicas
	}
	if o.Behind >= 0 && o.Role == checker.RoleReplica {
		d.Observation.BehindBytes = &o.Behind
	}
	if o.Hellos.Trust != "" {
		d.Observation.Hellos = hellos(o.Hellos)
	}
	if !o.Quorum.Time.IsZero() {
		d.Observation.Quorum = quorum(o.Quorum)
	}
	for _, rule := range p.Rules(o) {
		if rule.State == checker.RuleOff {
			rule.Detail = ""
		}
		d.Rules = append(d.Rules, Rule{rule.Reason, rule.State, rule.Detail})
	}
	return d
}

func hellos(h checker.Hellos) *Hellos {
	out := &Hellos{Trust: h.Trust, Detail: h.Detail, Epoch: h.Epoch, Words: []Word{}}
	if !h.Last.IsZero() {
		out.Last = &h.Last
	}
	for _, w := range h.Words {
		out.Words = append(out.Words, Word{w.From, w.Sentinel, w.Name, w.Master, w.Here, w.Epoch, w.Current, w.Time})
	}
	return out
}

func quorum(q checker.Quorum) *Quorum {
	here, _ := q.Here()
	out := &Quorum{Time: q.Time, Here: here, Waived: q.Waived, Answers: []SentinelAnswer{}}
	for _, a := range q.Answers {
		answer := SentinelAnswer{Sentinel: a.Address, Master: a.Master, Here: a.Here}
		if a.Err != nil {
			answer.Error = a.Err.Error()
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

// FromStatus is the document of a daemon: its last check, or for a yes the
// last that was answered, under the verdict that it serves.
func FromStatus(address, version string, p checker.Policy, s checker.Status) Document {
	c := s.Check
	if s.Verdict.Answer() == checker.Yes { // which a silence of less than --fall does not end
		c.Observation, c.Err = s.Observation, nil
	}
	d := New(address, p, c)
	d.Answer, d.Reason, d.Detail, d.Hint = s.Verdict.Answer(), s.Verdict.Reason, s.Verdict.Detail, s.Verdict.Hint
	d.Daemon = &Daemon{Version: version, AgeSeconds: s.Age.Seconds(), Since: s.Since, LastCheck: s.Check.Verdict.Reason, Transitions: s.Transitions, History: []Transition{}}
	for _, t := range s.History {
		d.Daemon.History = append(d.Daemon.History, Transition{t.Time, t.From.Reason, t.To.Reason, t.To.Detail, t.Lasted.Seconds()})
	}
	return d
}

// Text is one line without its newline: the answer, the address, the role (-
// if it is not known), the reason and the facts behind it.
//
//	no 127.0.0.1:6379 replica role: role:slave, not a master, follows 10.0.0.2:6379
func (d Document) Text() string {
	if d.text != "" {
		return d.text
	}
	role := "-"
	if d.Observation != nil {
		role = string(d.Observation.Role)
	}
	return line(fmt.Sprintf("%s %s %s %s: %s", d.Answer, d.Address, role, d.Reason, d.Detail))
}

// JSON is the document as one line without its newline.
func (d Document) JSON() string {
	b, err := json.Marshal(d)
	if err != nil { // no field can make it fail
		panic(err)
	}
	return string(b)
}

// Explain is the text line, every fact, every rule in the order in which they
// decide, and which one did.
func (d Document) Explain() string {
	var b strings.Builder
	fmt.Fprintln(&b, d.Text())
	if d.Hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", line(d.Hint))
	}
	fmt.Fprintf(&b, "took %v\n", seconds(d.DurationSeconds).Round(10*time.Microsecond))
	if d.Daemon != nil {
		fmt.Fprintf(&b, "the daemon knows this since %v; its last check alone says %s\n", seconds(d.Daemon.AgeSeconds).Round(time.Millisecond), line(string(d.Daemon.LastCheck)))
	}
	for _, v := range d.VIP {
		fmt.Fprintf(&b, "address %s\n", line(v.Text()))
	}
	if d.Observation == nil {
		fmt.Fprintln(&b, "nothing is known of the node, so no rule was applied")
		return b.String()
	}
	fmt.Fprintln(&b, "facts:")
	for _, f := range facts(*d.Observation) {
		fmt.Fprintf(&b, "  %-12s %s\n", f.name, line(f.value))
	}
	fmt.Fprintln(&b, "rules, of which the first broken one decides:")
	for _, rule := range d.Rules {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %-12s %-7s %s", rule.Reason, rule.State, line(rule.Detail)), " "))
	}
	return b.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

type fact struct{ name, value string }

func facts(o Observation) []fact {
	all := []fact{
		{"role", fmt.Sprintf("%s (role:%s)", o.Role, o.WireRole)},
		{"version", o.Version},
		{"run id", o.RunID},
		{"uptime", seconds(o.UptimeSeconds).String()},
		{"loading", fmt.Sprint(o.Loading)},
		{"cluster", fmt.Sprint(o.Cluster)},
		{"offset", fmt.Sprintf("%d bytes", o.OffsetBytes)},
	}
	switch o.Role {
	case checker.RoleMaster:
		good := ""
		if o.GoodReplicas != nil {
			good = fmt.Sprintf(", %d good", *o.GoodReplicas)
		}
		all = append(all, fact{"replicas", fmt.Sprintf("%d online%s", o.Replicas, good)}, fact{"failover", o.Failover})
	case checker.RoleReplica, checker.RoleActiveReplica:
		heard := "never"
		if o.LastIOSeconds != nil {
			heard = seconds(*o.LastIOSeconds).String() + " ago"
		}
		all = append(all, fact{"master", o.Master}, fact{"link up", fmt.Sprint(o.LinkUp)},
			fact{"syncing", fmt.Sprint(o.Syncing)}, fact{"last heard", heard})
		if o.BehindBytes != nil {
			all = append(all, fact{"behind", fmt.Sprintf("%d bytes", *o.BehindBytes)})
		}
	}
	if o.Hellos != nil {
		all = append(all, fact{"hellos", string(o.Hellos.Trust) + ": " + o.Hellos.Detail})
		for _, w := range o.Hellos.Words {
			all = append(all, fact{"heard", fmt.Sprintf("%s names %s as %s, epoch %d of %d, at %s", w.Sentinel, whom(w.Master, w.Here), w.Name, w.Epoch, w.CurrentEpoch, w.Time.Format("15:04:05.000"))})
		}
	}
	if o.Quorum != nil {
		for _, a := range o.Quorum.Answers {
			said := "names " + whom(a.Master, a.Here)
			if a.Error != "" {
				said = "does not count: " + a.Error
			}
			all = append(all, fact{"asked", a.Sentinel + " " + said})
		}
	}
	for i, f := range all {
		if f.value == "" {
			all[i].value = "not reported"
		}
	}
	return all
}

func whom(master string, here bool) string {
	if here {
		return "this node (" + master + ")"
	}
	return master
}

// Line makes a text safe for a line of output.
func Line(s string) string { return line(s) }

// Text says what became of the address.
func (v VIP) Text() string {
	text := v.Address + map[bool]string{true: " is held", false: " is not held"}[v.Held]
	if v.Conflict {
		text += ": another host has it, " + v.By
	}
	return text
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
