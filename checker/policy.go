package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Policy is what a node must be for a yes. The zero Policy wants a master
// that has its data set loaded and is no Redis Cluster node.
//
// A replica that is accepted ([RoleReplica] or [RoleAny]) must have its link
// up and must not be syncing: one that is cut off serves stale data for as
// long as nobody looks.
type Policy struct {
	Role         Role // [RoleMaster] if empty
	AllowLoading bool // accept a node that is still loading its data set
	AllowCluster bool // accept a Redis Cluster node

	MaxLag      time.Duration // since a replica heard its master, at most; 0 means any
	MaxLagBytes int64         // of its master's stream that a replica has not applied, at most; 0 means any. It needs [Others.Master].
	MinReplicas int           // online replicas of a master, at least
	Sentinels   bool          // a majority of the listed ones must name a master; it needs [Others.Sentinels]
	// MinUptime is the age below which the process of a master is not
	// believed, unless Sentinels vouch for it; 0 means any.
	MinUptime time.Duration
}

// A RuleState is what became of one rule.
type RuleState string

// The states of a [Rule]. Any other than RuleBroken lets the check go on.
const (
	RuleHeld   RuleState = "held"
	RuleBroken RuleState = "broken"
	RuleOff    RuleState = "off" // switched off, or about another role
)

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
	for _, r := range p.Rules(o) {
		if r.State == RuleBroken {
			return Verdict{Reason: r.Reason, Detail: r.Detail, Hint: r.Hint}
		}
	}
	return Verdict{Reason: OK, Detail: summary(o)}
}

// Rules applies every rule in the order in which [Policy.Judge] decides.
func (p Policy) Rules(o Observation) []Rule {
	master, replica := o.Role == RoleMaster, o.Role == RoleReplica
	rules := []Rule{
		{Reason: ReasonRole, State: must(p.accepts(o.Role)), Detail: p.roleDetail(o)},
		{Reason: ReasonLoading, State: must(!o.Loading).unless(p.AllowLoading), Detail: detail(o.Loading, "the data set is still loading", "the data set is loaded"),
			Hint: "wait until it is loaded; --allow-loading accepts it"},
		{Reason: ReasonCluster, State: must(!o.Cluster).unless(p.AllowCluster), Detail: detail(o.Cluster, "a Redis Cluster node, whose master may own no slots", "no Redis Cluster node"),
			Hint: "--allow-cluster accepts it"},
		{Reason: ReasonLink, State: must(o.LinkUp).unless(!replica), Detail: linkDetail(o),
			Hint: "see master_host, masterauth and the log of this replica"},
		{Reason: ReasonSyncing, State: must(!o.Syncing).unless(!replica), Detail: detail(o.Syncing, "the data set is being copied from the master", "no synchronisation is under way")},
		{Reason: ReasonLag, State: must(p.near(o)).unless(!replica || p.MaxLag == 0 && p.MaxLagBytes == 0), Detail: p.lagDetail(o),
			Hint: "see the network and the load of this replica and its master"},
		{Reason: ReasonReplicas, State: must(good(o) >= p.MinReplicas).unless(!master || p.MinReplicas == 0), Detail: fmt.Sprintf("%s in touch, at least %d wanted", count(good(o), "replica"), p.MinReplicas),
			Hint: "is this master cut off? see the replicas, and min-replicas-to-write in redis.conf"},
	}
	asked := !slices.ContainsFunc(rules, func(r Rule) bool { return r.State == RuleBroken })
	here, answered := o.Quorum.Here()
	vouched := o.Hellos.Trust == TrustConfirmed || o.Hellos.Trust == TrustPromoted || o.Hellos.Trust == TrustFollowed || p.Sentinels && (here || o.Quorum.Waived)
	waived := !p.Sentinels || o.Quorum.Waived || !asked && o.Quorum.Time.IsZero()
	rules = append(rules,
		Rule{Reason: ReasonSentinel, State: must(o.Hellos.Trust != TrustDenied && (waived || here || !answered)).unless(!master || o.Hellos.Trust == "" && waived),
			Detail: strings.Trim(o.Hellos.Detail+"; "+o.Quorum.detail(), "; "),
			Hint:   "wait for the Sentinels to make this node a replica; if what they name is this node, give --announce-addr; if they are gone for good, restart the daemon"},
		Rule{Reason: ReasonNoQuorum, State: must(here || answered).unless(!master || waived), Detail: cmp.Or(o.Quorum.detail(), "no Sentinel has answered"),
			Hint: "see the Sentinels, --sentinel, --sentinel-master and --sentinel-password-file"},
		Rule{Reason: ReasonUnconfirmed, State: must(o.Hellos.Trust.believes() || o.Hellos.Trust == TrustDenied).unless(!master || o.Hellos.Trust == ""), Detail: o.Hellos.Detail,
			Hint: "wait for the Sentinels; where there are none, --hello off"},
		Rule{Reason: ReasonUptime, State: must(vouched || o.Uptime >= p.MinUptime).unless(!master || p.MinUptime == 0), Detail: fmt.Sprintf("the process is %v old, at least %v wanted", o.Uptime, p.MinUptime),
			Hint: "a dead master that was restarted calls itself master for some ten seconds; wait"},
	)
	if o.Role == RoleSentinel {
		rules[0].Hint = "this is a Sentinel, which has no data: give the port of the Redis node beside it, 6379 by default"
	}
	if o.Role == RoleActiveReplica {
		rules[0].Hint = "an active replica takes writes and follows another node: neither a master nor a replica"
	}
	return rules
}

// asksOthers reports whether the verdict on o depends on other servers.
func (p Policy) asksOthers(o Observation) bool {
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
	return (p.MaxLag == 0 || o.LastIO >= 0 && o.LastIO <= p.MaxLag) && (p.MaxLagBytes == 0 || o.Behind >= 0 && o.Behind <= p.MaxLagBytes)
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
	var here, other int
	named, why := "", ""
	for _, a := range q.Answers {
		switch {
		case a.Err != nil && why == "":
			why = fmt.Sprintf("; %v", a.Err)
		case a.Err != nil:
		case a.Here:
			here++
		default:
			other++
			named = " (" + a.Master + ")"
		}
	}
	return fmt.Sprintf("of %s %d name this node and %d another%s%s", count(len(q.Answers), "Sentinel"), here, other, named, why)
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
	if !p.accepts(o.Role) {
		s += map[Role]string{RoleMaster: ", not a master", RoleReplica: ", not a replica"}[p.Want()]
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
	for _, detail := range []string{o.Hellos.Detail, o.Quorum.detail()} {
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
