package checker

import (
	"fmt"
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
	replica := o.Role == RoleReplica
	rules := []Rule{
		{Reason: ReasonRole, State: must(p.accepts(o.Role)), Detail: p.roleDetail(o)},
		{Reason: ReasonLoading, State: must(!o.Loading).unless(p.AllowLoading), Detail: detail(o.Loading, "the data set is still loading", "the data set is loaded"),
			Hint: "wait until it is loaded; --allow-loading accepts it"},
		{Reason: ReasonCluster, State: must(!o.Cluster).unless(p.AllowCluster), Detail: detail(o.Cluster, "a Redis Cluster node, whose master may own no slots", "no Redis Cluster node"),
			Hint: "--allow-cluster accepts it"},
		{Reason: ReasonLink, State: must(o.LinkUp).unless(!replica), Detail: linkDetail(o),
			Hint: "see master_host, masterauth and the log of this replica"},
		{Reason: ReasonSyncing, State: must(!o.Syncing).unless(!replica), Detail: detail(o.Syncing, "the data set is being copied from the master", "no synchronisation is under way")},
	}
	if o.Role == RoleSentinel {
		rules[0].Hint = "this is a Sentinel, which has no data: give the port of the Redis node beside it, 6379 by default"
	}
	if o.Role == RoleActiveReplica {
		rules[0].Hint = "an active replica takes writes and follows another node: neither a master nor a replica"
	}
	return rules
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
	noun := "replicas"
	if o.Replicas == 1 {
		noun = "replica"
	}
	return fmt.Sprintf("role:%s, %d %s online, up %v", o.WireRole, o.Replicas, noun, o.Uptime)
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
