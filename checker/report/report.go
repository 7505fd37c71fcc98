// Package report renders a check for people and machines. Its functions are
// pure; what a server said of itself is made safe for a line of output.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	Others          []RoleAnswer   `json:"other_roles,omitempty"` // a daemon's answers about roles that it does not want
	VIP             []VIP          `json:"vip,omitempty"`         // addresses that the daemon itself holds
	// HostAddresses are those of --watch-vip, and those that /status?vip= names.
	HostAddresses []HostAddress `json:"host_addresses,omitempty"`
}

// A HostAddress is an address that this host may have, whoever put it there.
type HostAddress struct {
	Address string `json:"address"` // without a length
	Present *bool  `json:"present"` // null if that is not known
}

// RoleAnswer is the answer to who wants another role than the daemon.
type RoleAnswer struct {
	Want   checker.Role   `json:"want"`
	Answer checker.Answer `json:"answer"`
	Reason checker.Reason `json:"reason"`
	Detail string         `json:"detail"`
	Hint   string         `json:"hint,omitempty"`
	Rules  []Rule         `json:"rules"`
}

// For is the document for who wants a role; what is in Daemon stays that of the
// role which the daemon wants. It reports whether the document knows.
func (d Document) For(role checker.Role) (Document, bool) {
	if role == d.Want {
		return d, true
	}
	for _, o := range d.Others {
		if o.Want == role {
			d.Want, d.Answer, d.Reason, d.Rules, d.Others = o.Want, o.Answer, o.Reason, o.Rules, nil
			d.Detail, d.Hint = o.Detail, o.Hint
			return d, true
		}
	}
	return d, false
}

// Observation is the JSON form of a [checker.Observation].
type Observation struct {
	Role          checker.Role `json:"role"`
	WireRole      string       `json:"wire_role"`
	Server        string       `json:"server"` // the name of the product
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
	Links         []Link       `json:"links,omitempty"` // a master's online replicas
	BehindBytes   *int64       `json:"behind_bytes"`    // null if the master was not asked, or did not say
	Standing      *Standing    `json:"standing,omitempty"`
	Quorum        *Quorum      `json:"quorum,omitempty"`
}

// Link is the JSON form of a [checker.Link]. What is not known is null.
type Link struct {
	Address     string `json:"address"`      // host:port
	LagSeconds  *int64 `json:"lag_seconds"`  // since it was heard, in whole seconds
	BehindBytes *int64 `json:"behind_bytes"` // that it has not acknowledged
}

// Standing is the JSON form of a [checker.Standing].
type Standing struct {
	State     checker.State `json:"state"`
	Because   string        `json:"because"` // the rule of the guard that decided
	Detail    string        `json:"detail"`
	LastHello *time.Time    `json:"last_hello"` // null if none was heard
	Epoch     uint64        `json:"epoch"`
	Claims    []Claim       `json:"claims"`
	Asked     []Asked       `json:"asked"`
}

// Asked is the JSON form of a [checker.Asked]. What was not told is null.
type Asked struct {
	Sentinel               string    `json:"sentinel"` // host:port
	Time                   time.Time `json:"time"`
	Name                   string    `json:"name"`
	Master                 string    `json:"master"`
	NamesUs                bool      `json:"names_us"`
	Epoch                  *int64    `json:"epoch"`
	Subscribed             bool      `json:"subscribed"`
	FailingOver            bool      `json:"failing_over"`
	Down                   bool      `json:"down"`
	Tilt                   bool      `json:"tilt"`
	DownAfterSeconds       *float64  `json:"down_after_seconds"`
	FailoverTimeoutSeconds *float64  `json:"failover_timeout_seconds"`
	Quorum                 *int64    `json:"quorum"`
	Sentinels              *int64    `json:"sentinels"` // that it knows, itself included
}

// Claim is the JSON form of a [checker.TimedClaim].
type Claim struct {
	Sentinel     string    `json:"sentinel"` // host:port
	RunID        string    `json:"run_id"`
	Name         string    `json:"name"`     // of the master
	Master       string    `json:"master"`   // host:port that it names
	NamesUs      bool      `json:"names_us"` // that is this node
	Epoch        uint64    `json:"epoch"`
	CurrentEpoch uint64    `json:"current_epoch"`
	Time         time.Time `json:"time"`
}

// Quorum is the JSON form of a [checker.Quorum].
type Quorum struct {
	Time    time.Time        `json:"time"`
	NamesUs bool             `json:"names_us"` // a majority names this node
	Waived  bool             `json:"waived"`   // a watched promotion does not wait for it
	Answers []SentinelAnswer `json:"answers"`
}

// SentinelAnswer is the JSON form of a [checker.SentinelAnswer].
type SentinelAnswer struct {
	Sentinel string `json:"sentinel"`         // host:port
	Master   string `json:"master,omitempty"` // host:port that it names
	NamesUs  bool   `json:"names_us"`         // that is this node, and the answer counts
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
	// TrackFile is why the track file does not say the answer, Credentials why
	// the node refuses the password that the connection no longer needs,
	// Sentinels what is wrong with the settings of the Sentinels, WatchedVIP how
	// the addresses of this host contradict the answer, and KillConnections why no
	// connection can be ended.
	TrackFile       string   `json:"track_file,omitempty"`
	Credentials     string   `json:"credentials,omitempty"`
	Sentinels       []string `json:"sentinels,omitempty"`
	WatchedVIP      []string `json:"watched_vip,omitempty"`
	KillConnections string   `json:"kill_connections,omitempty"`
	// CrashFailover is there if the daemon may ask for a failover.
	CrashFailover *CrashFailover `json:"crash_failover,omitempty"`
	// Exec is there if the daemon runs a program at every change.
	Exec *Exec `json:"exec,omitempty"`
}

// Exec is what is known of the program of --exec.
type Exec struct {
	Answer        checker.Answer `json:"answer"`         // that the program last exited 0 for; empty if it has run since
	BehindSeconds float64        `json:"behind_seconds"` // for how long that is not the answer that stands
	Error         string         `json:"error,omitempty"`
}

// NewExec is for the answer that the last run exited 0 for, how long that is not the
// answer that stands, and the error of the last run.
func NewExec(done checker.Answer, behind time.Duration, err error) *Exec {
	e := &Exec{Answer: done, BehindSeconds: behind.Seconds()}
	if err != nil {
		e.Error = sentence(err.Error())
	}
	return e
}

// Text says it in words.
func (e Exec) Text() string {
	switch {
	case e.Error != "":
		return "fails, and is repeated: " + e.Error
	case e.BehindSeconds > 0:
		return "runs"
	}
	return "knows the answer"
}

// CrashFailover is the JSON form of a [checker.CrashFailover].
type CrashFailover struct {
	Ready   bool             `json:"ready"`             // a failover would be asked for if Redis died now
	Missing string           `json:"missing,omitempty"` // why not
	Last    *FailoverRequest `json:"last"`              // null if none was asked for since the start
}

// FailoverRequest is the JSON form of a [checker.FailoverRequest].
type FailoverRequest struct {
	Time     time.Time              `json:"time"`
	Sentinel string                 `json:"sentinel"` // host:port
	Name     string                 `json:"name"`     // of the master
	Result   checker.FailoverResult `json:"result"`
}

// NewCrashFailover is the JSON form of c.
func NewCrashFailover(c checker.CrashFailover) *CrashFailover {
	out := &CrashFailover{Ready: c.Missing == "", Missing: sentence(c.Missing)}
	if r := c.Last; !r.Time.IsZero() {
		out.Last = &FailoverRequest{r.Time, name(r.Sentinel), name(r.Name), r.Result}
	}
	return out
}

// Text says it in words.
func (c CrashFailover) Text() string {
	text := "would be asked for"
	if !c.Ready {
		text = "could not be asked for: " + c.Missing
	}
	if c.Last != nil {
		text += fmt.Sprintf("; the last one was asked of %s at %s: %s", c.Last.Sentinel,
			c.Last.Time.Format("15:04:05.000"), c.Last.Result)
	}
	return text
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
		Schema: Schema, Answer: c.Verdict.Answer(), Reason: c.Verdict.Reason,
		Detail: sentence(c.Verdict.Detail), Hint: sentence(c.Verdict.Hint),
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
		Role: o.Role, WireRole: name(o.WireRole), Server: name(o.Server), Version: name(o.Version), RunID: name(o.RunID),
		UptimeSeconds: o.Uptime.Seconds(), Loading: o.Loading, Cluster: o.Cluster, Replicas: o.Replicas,
		OffsetBytes: o.Offset,
		Failover:    name(o.Failover), Master: name(o.MasterAddr), LinkUp: o.LinkUp, Syncing: o.Syncing,
	}
	if o.LastIO >= 0 {
		s := o.LastIO.Seconds()
		d.Observation.LastIOSeconds = &s
	}
	if o.GoodReplicas >= 0 && o.Role == checker.RoleMaster {
		d.Observation.GoodReplicas = &o.GoodReplicas
	}
	for _, l := range o.Links[:min(len(o.Links), maxLinks)] {
		one := Link{Address: name(l.Address), LagSeconds: count(l.Lag)}
		if l.Offset >= 0 {
			one.BehindBytes = new(max(0, o.Offset-l.Offset))
		}
		d.Observation.Links = append(d.Observation.Links, one)
	}
	if o.Behind >= 0 && o.Role == checker.RoleReplica {
		d.Observation.BehindBytes = &o.Behind
	}
	if o.Standing.State != "" {
		d.Observation.Standing = standing(o.Standing)
	}
	if !o.Quorum.Time.IsZero() {
		d.Observation.Quorum = quorum(o.Quorum)
	}
	d.Rules = rules(p, o)
	return d
}

func rules(p checker.Policy, o checker.Observation) []Rule {
	all := []Rule{}
	for _, r := range p.Rules(o) {
		if r.State == checker.RuleOff {
			r.Detail = ""
		}
		all = append(all, Rule{r.Reason, r.State, sentence(r.Detail)})
	}
	return all
}

func standing(s checker.Standing) *Standing {
	out := &Standing{State: s.State, Because: s.Because, Detail: sentence(s.Detail), Epoch: s.Epoch, Claims: []Claim{},
		Asked: []Asked{}}
	if !s.LastHello.IsZero() {
		out.LastHello = &s.LastHello
	}
	for _, c := range s.Claims[:min(len(s.Claims), maxClaims)] {
		out.Claims = append(out.Claims,
			Claim{name(c.From), name(c.Sentinel), name(c.Name), name(c.Master), c.NamesUs, c.Epoch, c.Current, c.Time})
	}
	for _, a := range s.Asked[:min(len(s.Asked), maxAsked)] {
		out.Asked = append(out.Asked, asked(a))
	}
	return out
}

// count is null for what is negative.
func count(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func asked(a checker.Asked) Asked {
	seconds := func(d time.Duration) *float64 {
		if d < 0 {
			return nil
		}
		return new(d.Seconds())
	}
	return Asked{name(a.Sentinel), a.Time, name(a.Name), name(a.Master), a.NamesUs, count(a.Epoch), a.Subscribed,
		a.FailingOver, a.Down, a.Tilt, seconds(a.DownAfter), seconds(a.FailoverTimeout), count(a.Quorum), count(a.Sentinels)}
}

func quorum(q checker.Quorum) *Quorum {
	namesUs, _ := q.NamesUs()
	out := &Quorum{Time: q.Time, NamesUs: namesUs, Waived: q.Waived, Answers: []SentinelAnswer{}}
	for _, a := range q.Answers[:min(len(q.Answers), maxAnswers)] {
		answer := SentinelAnswer{Sentinel: name(a.Address), Master: name(a.Master), NamesUs: a.NamesUs && a.Err == nil}
		if a.Err != nil {
			answer.Error = sentence(a.Err.Error())
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

// FromStatus is the document of a daemon: its last check, or for a yes the
// last that was answered, under the verdict that it serves.
func FromStatus(address, version string, p checker.Policy, s checker.Status) Document {
	roles := []checker.Role{checker.RoleMaster, checker.RoleReplica, checker.RoleAny}
	c := s.Check
	if slices.ContainsFunc(roles, func(r checker.Role) bool { return s.For(r).Answer() == checker.Yes }) {
		c.Observation, c.Err = s.Observation, nil // a silence of less than --fall does not end a yes
	}
	d := New(address, p, c)
	d.Answer, d.Reason = s.Verdict.Answer(), s.Verdict.Reason
	d.Detail, d.Hint = sentence(s.Verdict.Detail), sentence(s.Verdict.Hint)
	for _, role := range roles {
		if role == p.Want() {
			continue
		}
		v, other := s.For(role), RoleAnswer{Want: role, Rules: []Rule{}}
		other.Answer, other.Reason, other.Detail, other.Hint = v.Answer(), v.Reason, sentence(v.Detail), sentence(v.Hint)
		if d.Observation != nil {
			p.Role = role
			other.Rules = rules(p, c.Observation)
		}
		d.Others = append(d.Others, other)
	}
	d.Daemon = &Daemon{Version: version, AgeSeconds: s.Age.Seconds(), Since: s.Since, LastCheck: s.Check.Verdict.Reason,
		Transitions: s.Transitions, History: Transitions(s)}
	if err := s.Observation.StaleCredentials; err != nil {
		d.Daemon.Credentials = sentence(err.Error())
		if e, ok := errors.AsType[*checker.Error](err); ok && e.Hint != "" {
			d.Daemon.Credentials = sentence(err.Error() + "; " + e.Hint)
		}
	}
	for _, m := range checker.Misconfigurations(s.Observation.Standing.Asked) {
		if len(d.Daemon.Sentinels) < maxMisconfigurations {
			d.Daemon.Sentinels = append(d.Daemon.Sentinels, sentence(m.Detail+"; "+m.Hint))
		}
	}
	return d
}

// Transitions are those of a status, the newest first.
func Transitions(s checker.Status) []Transition {
	all := []Transition{}
	for _, t := range s.History {
		all = append(all, Transition{t.Time, t.From.Reason, t.To.Reason, sentence(t.To.Detail), t.Lasted.Seconds()})
	}
	return all
}

// Troubles are what an operator has to mend although the answer stands.
func (d Document) Troubles() (all []string) {
	if d.Daemon == nil {
		return nil
	}
	for _, trouble := range []string{d.Daemon.TrackFile, d.Daemon.Credentials, d.Daemon.KillConnections} {
		if trouble != "" {
			all = append(all, trouble)
		}
	}
	return slices.Concat(all, d.Daemon.Sentinels, d.Daemon.WatchedVIP)
}

// Text is one line without its newline: the answer, the address, the role (-
// if it is not known), the reason and the facts behind it.
//
//	no 127.0.0.1:6379 replica role: role:slave, not a master, follows 10.0.0.2:6379
func (d Document) Text() string {
	role := "-"
	if d.Observation != nil {
		role = string(d.Observation.Role)
	}
	return line(fmt.Sprintf("%s %s %s %s: %s", d.Answer, d.Address, role, d.Reason, d.Detail))
}

// JSON is the document as one line without its newline.
func (d Document) JSON() string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil { // no field can make it fail
		panic(err)
	}
	return escape(strings.TrimSuffix(b.String(), "\n"))
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
		fmt.Fprintf(&b, "the daemon knows this as of %v ago; its last check alone says %s\n",
			seconds(d.Daemon.AgeSeconds).Round(time.Millisecond), line(string(d.Daemon.LastCheck)))
	}
	for _, trouble := range d.Troubles() {
		fmt.Fprintf(&b, "trouble: %s\n", line(trouble))
	}
	for _, v := range d.VIP {
		fmt.Fprintf(&b, "address %s\n", line(v.Text()))
	}
	if d.Daemon != nil && d.Daemon.CrashFailover != nil {
		fmt.Fprintf(&b, "if Redis died, a failover %s\n", line(d.Daemon.CrashFailover.Text()))
	}
	if d.Daemon != nil && d.Daemon.Exec != nil {
		fmt.Fprintf(&b, "the program of --exec %s\n", line(d.Daemon.Exec.Text()))
	}
	if d.Observation == nil {
		fmt.Fprintln(&b, "nothing is known of the node, so no rule was applied")
		return b.String()
	}
	fmt.Fprintln(&b, "facts:")
	for _, f := range append(d.Observation.Facts(), d.Observation.heard()...) {
		fmt.Fprintf(&b, "  %-12s %s\n", f.Name, line(f.Value))
	}
	fmt.Fprintln(&b, "rules, of which the first broken one decides:")
	for _, rule := range d.Rules {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %-12s %-7s %s", rule.Reason, rule.State, line(rule.Detail)), " "))
	}
	return b.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Text says what became of the address.
func (v VIP) Text() string {
	text := v.Address + map[bool]string{true: " is held", false: " is not held"}[v.Held]
	if v.Conflict {
		text += ": another host has it, " + v.By
	}
	return text
}
