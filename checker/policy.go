package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Policy is what a node must be for a yes. The zero Policy is the strict one:
// it wants a master that has its data set loaded, is no Redis Cluster node, and
// is confirmed by the Sentinels.
//
// A replica that is accepted ([RoleReplica] or [RoleAny]) must have its link
// up and must not be syncing: one that is cut off serves stale data for as
// long as nobody looks.
type Policy struct {
	Role         Role // [RoleMaster] if empty
	AllowLoading bool // accept a node that is still loading its data set
	AllowCluster bool // accept a Redis Cluster node
	// AllowUnconfirmed accepts a master without a [Standing]: nobody listens to
	// the Sentinels, or there are none.
	AllowUnconfirmed bool

	MaxLag time.Duration // since a replica heard its master, at most; 0 means any
	// MaxLagBytes is what a replica has not applied of its master's stream, at
	// most; 0 means any. It needs an [Upstream].
	MaxLagBytes int64
	MinReplicas int  // online replicas of a master, at least
	Sentinels   bool // a majority of the listed Sentinels must name a master; they are a [Witness]
	// MinUptime is the age below which the process of a master is not
	// believed, unless Sentinels vouch for it; 0 means any.
	MinUptime time.Duration
}

// A RuleState is what became of one rule.
type RuleState string

// The states of a [Rule]. Only RuleHeld and RuleOff let the check go on.
const (
	RuleHeld   RuleState = "held"
	RuleBroken RuleState = "broken"
	RuleOff    RuleState = "off" // switched off, or about another role
)

// passes fails closed: what is neither held nor off is no yes.
func (s RuleState) passes() bool { return s == RuleHeld || s == RuleOff }

// A Rule is one line of a policy, applied to an observation.
type Rule struct {
	Reason Reason // the verdict's, if it is broken and no rule before it is
	State  RuleState
	Detail string // the fact it looked at
	Hint   string
}

// Judge decides. A probe's error decides alone; else the first broken rule
// does. It is a pure function.
func (p Policy) Judge(o Observation, err error) Verdict {
	if err != nil {
		return verdictOf(err)
	}
	if !p.accepts(o.Role) {
		r := p.worded(Rule{Reason: ReasonRole, State: RuleBroken}, o)
		return Verdict{Reason: r.Reason, Detail: r.Detail, Hint: r.Hint}
	}
	for _, r := range p.states(o) {
		if !r.State.passes() {
			r = p.worded(r, o)
			return Verdict{Reason: r.Reason, Detail: r.Detail, Hint: r.Hint}
		}
	}
	return Verdict{Reason: OK, Detail: summary(o)}
}

// Rules applies every rule in the order in which [Policy.Judge] decides.
func (p Policy) Rules(o Observation) []Rule {
	rules := p.states(o)
	for i, r := range rules {
		rules[i] = p.worded(r, o)
	}
	return rules
}

// states applies every rule, without words.
func (p Policy) states(o Observation) []Rule {
	master, replica := o.Role == RoleMaster, o.Role == RoleReplica
	rules := append(make([]Rule, 0, 12),
		Rule{Reason: ReasonRole, State: must(p.accepts(o.Role))},
		Rule{Reason: ReasonLoading, State: must(!o.Loading).unless(p.AllowLoading)},
		Rule{Reason: ReasonCluster, State: must(!o.Cluster).unless(p.AllowCluster)},
		Rule{Reason: ReasonLink, State: must(o.LinkUp).unless(!replica)},
		Rule{Reason: ReasonSyncing, State: must(!o.Syncing).unless(!replica)},
		Rule{Reason: ReasonLag, State: must(p.near(o)).unless(!replica || p.MaxLag == 0 && p.MaxLagBytes == 0)},
		Rule{Reason: ReasonReplicas, State: must(good(o) >= p.MinReplicas).unless(!master || p.MinReplicas == 0)},
	)
	broken := slices.ContainsFunc(rules, func(r Rule) bool { return !r.State.passes() })

	// What the Sentinels, or their absence, make of a role:master. Where an
	// earlier rule is broken, nobody may have been asked.
	state := o.Standing.State
	moving, isolated := state == StateFailover, state == StateIsolated
	namesUs, answered := o.Quorum.NamesUs()
	unheard := state == "" && p.AllowUnconfirmed
	denied := state == StateDenied
	waived := !p.Sentinels || o.Quorum.Waived || broken && o.Quorum.Time.IsZero()
	vouched := state.Believed() && state != StateNoSentinels || p.Sentinels && (namesUs || o.Quorum.Waived)
	told := denied || moving || isolated // by a rule before
	unconfirmed := ReasonUnconfirmed
	if state == StateRefused {
		unconfirmed = ReasonPermission
	}
	return append(rules,
		Rule{Reason: ReasonSentinel,
			State: must(!denied && (waived || namesUs || !answered)).unless(!master || unheard && waived)},
		Rule{Reason: ReasonFailover, State: must(!handingOver(o) && !moving).unless(!master)},
		Rule{Reason: ReasonIsolated, State: must(!isolated).unless(!master || unheard)},
		Rule{Reason: ReasonNoQuorum, State: must(namesUs || answered).unless(!master || waived)},
		Rule{Reason: unconfirmed, State: must(state.Believed() || told).unless(!master || unheard)},
		Rule{Reason: ReasonUptime, State: must(vouched || o.Uptime >= p.MinUptime).unless(!master || p.MinUptime == 0)},
	)
}

// worded adds the fact that the rule looked at, and what to do about it.
func (p Policy) worded(r Rule, o Observation) Rule {
	switch r.Reason {
	case ReasonRole:
		r.Detail = p.roleDetail(o)
		switch o.Role {
		case RoleSentinel:
			r.Hint = sentinelHint
		case RoleActiveReplica:
			r.Hint = "an active replica takes writes and follows another node: neither a master nor a replica"
		}
	case ReasonLoading:
		r.Detail = detail(o.Loading, "the data set is still loading", "the data set is loaded")
		r.Hint = "wait until it is loaded; --allow-loading accepts it"
	case ReasonCluster:
		r.Detail = detail(o.Cluster, "a Redis Cluster node, whose master may own no slots", "no Redis Cluster node")
		r.Hint = "--allow-cluster accepts it"
	case ReasonLink:
		r.Detail, r.Hint = linkDetail(o), "see master_host, masterauth and the log of this replica"
	case ReasonSyncing:
		r.Detail = detail(o.Syncing, "the data set is being copied from the master", "no synchronisation is under way")
	case ReasonLag:
		r.Detail, r.Hint = p.lagDetail(o), "see the network and the load of this replica and its master"
	case ReasonReplicas:
		r.Detail = fmt.Sprintf("%s in touch, at least %d wanted", count(good(o), "replica"), p.MinReplicas)
		r.Hint = "is this master cut off? see the replicas, and min-replicas-to-write in redis.conf"
	case ReasonSentinel:
		r.Detail = cmp.Or(o.Quorum.detail(), "no Sentinel names another node")
		if o.Standing.State == StateDenied {
			r.Detail = strings.TrimSuffix(o.Standing.Detail+"; "+o.Quorum.detail(), "; ")
		}
		r.Hint = "wait for the Sentinels to make this node a replica; if the node that they name is this one, " +
			"give --announce-addr; if they are gone for good, restart the daemon"
	case ReasonFailover:
		r.Detail = detail(handingOver(o), "the node is handing over to a replica, and accepts no writes",
			"no hand-over is under way")
		r.Hint = "wait for the FAILOVER command to end, or end it: redis-cli FAILOVER ABORT"
		if o.Standing.State == StateFailover {
			r.Detail, r.Hint = o.Standing.Detail, "wait for the Sentinels; see their logs"
		}
	case ReasonIsolated:
		r.Detail = "the node is not cut off"
		r.Hint = "is this host cut off? see its network, the Sentinels and the replicas; " +
			"if all of them are gone for good, --hello off"
		if o.Standing.State == StateIsolated {
			r.Detail = o.Standing.Detail
		}
	case ReasonNoQuorum:
		r.Detail = cmp.Or(o.Quorum.detail(), "no Sentinel has answered")
		r.Hint = "see the Sentinels, --sentinel, --sentinel-master and --sentinel-password-file"
	case ReasonUnconfirmed:
		r.Detail = cmp.Or(o.Standing.Detail, "nobody has listened to the Sentinels")
		switch o.Standing.State {
		case StateDenied, StateFailover, StateIsolated:
			r.Detail = "the Sentinels have been heard"
		}
		r.Hint = "wait for the Sentinels; where there are none, --hello off"
	case ReasonPermission:
		r.Detail = o.Standing.Detail
		r.Hint = "redis-cli ACL SETUSER NAME +subscribe '&__sentinel__:hello'; where there are no Sentinels, --hello off"
	case ReasonUptime:
		r.Detail = fmt.Sprintf("the process is %v old, at least %v wanted", o.Uptime, p.MinUptime)
		r.Hint = "a dead master that was restarted calls itself master for some ten seconds; wait"
	}
	return r
}

// handingOver reports whether the command FAILOVER is under way: see
// master_failover_state of INFO, Redis 6.2 and later.
func handingOver(o Observation) bool { return o.Failover != "" && o.Failover != "no-failover" }

// asksWitnesses reports whether the verdict on o depends on other servers.
func (p Policy) asksWitnesses(o Observation) bool {
	if o.Role == RoleReplica && p.MaxLagBytes > 0 {
		p.MaxLagBytes = 0
		return p.Judge(o, nil).Reason == OK
	}
	if o.Role != RoleMaster || !p.Sentinels {
		return false
	}
	p.Sentinels, p.MinUptime = false, 0
	return p.Judge(o, nil).Reason == OK
}

// near reports whether a replica is near enough to its master; what is not
// known is not near.
func (p Policy) near(o Observation) bool {
	return (p.MaxLag == 0 || o.LastIO >= 0 && o.LastIO <= p.MaxLag) &&
		(p.MaxLagBytes == 0 || o.Behind >= 0 && o.Behind <= p.MaxLagBytes)
}

func (p Policy) lagDetail(o Observation) string {
	var parts []string
	if p.MaxLag > 0 {
		heard := "never heard its master"
		if o.LastIO >= 0 {
			heard = fmt.Sprintf("heard its master %v ago", o.LastIO)
		}
		parts = append(parts, fmt.Sprintf("%s, at most %v wanted", heard, p.MaxLag))
	}
	if p.MaxLagBytes > 0 {
		behind := "its master does not say how far it is behind"
		if o.Behind >= 0 {
			behind = fmt.Sprintf("%s behind its master", count(int(o.Behind), "byte"))
		}
		parts = append(parts, fmt.Sprintf("%s, at most %d wanted", behind, p.MaxLagBytes))
	}
	return strings.Join(parts, "; ")
}

// good is how many replicas count.
func good(o Observation) int {
	if o.GoodReplicas >= 0 {
		return o.GoodReplicas
	}
	return o.Replicas
}

func (q Quorum) detail() string {
	if q.Waived {
		return "not waited for: this promotion was watched"
	}
	if q.Time.IsZero() {
		return ""
	}
	var us, other int
	named, why := "", ""
	for _, a := range q.Answers {
		switch {
		case a.Err != nil && why == "":
			why = fmt.Sprintf("; %v", a.Err)
		case a.Err != nil:
		case a.NamesUs:
			us++
		default:
			other++
			named = " (" + a.Master + ")"
		}
	}
	return fmt.Sprintf("of %s %d name this node and %d another%s%s",
		count(len(q.Answers), "Sentinel"), us, other, named, why)
}

// accepts is the only place where a role can become a yes.
func (p Policy) accepts(have Role) bool {
	switch p.Want() {
	case RoleAny:
		return have == RoleMaster || have == RoleReplica
	case RoleMaster, RoleReplica:
		return have == p.Want()
	}
	return false
}

// Want is the role that is wanted, the default resolved.
func (p Policy) Want() Role {
	if p.Role == "" {
		return RoleMaster
	}
	return p.Role
}

func (p Policy) roleDetail(o Observation) string {
	s := "role:" + o.WireRole
	if o.Role == RoleSentinel {
		s = "a Sentinel"
	}
	if want := p.Want(); !p.accepts(o.Role) && (want == RoleMaster || want == RoleReplica) {
		s += ", not a " + string(want)
	}
	if o.MasterAddr != "" {
		s += ", follows " + o.MasterAddr
	}
	return s
}

// summary is the detail of a yes.
func summary(o Observation) string {
	if o.Role == RoleReplica {
		return fmt.Sprintf("role:%s, follows %s, %s", o.WireRole, o.MasterAddr, linkDetail(o))
	}
	said := ""
	for _, detail := range []string{o.Standing.Detail, o.Quorum.detail()} {
		if detail != "" {
			said += "; " + detail
		}
	}
	return fmt.Sprintf("role:%s, %s online, up %v%s", o.WireRole, count(o.Replicas, "replica"), o.Uptime, said)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func linkDetail(o Observation) string {
	if !o.LinkUp {
		return "the link to the master is down"
	}
	if o.LastIO < 0 {
		return "the link to the master is up"
	}
	return fmt.Sprintf("the link to the master is up, last heard %v ago", o.LastIO.Round(time.Second))
}

func must(ok bool) RuleState {
	if ok {
		return RuleHeld
	}
	return RuleBroken
}

func (s RuleState) unless(off bool) RuleState {
	if off {
		return RuleOff
	}
	return s
}

func detail(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
