package checker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"redis-is-master/checker"
)

func master() checker.Observation {
	return checker.Observation{Role: checker.RoleMaster, WireRole: "master", GoodReplicas: -1, LastIO: -1, Behind: -1}
}

func replica() checker.Observation {
	return checker.Observation{
		Role:         checker.RoleReplica,
		WireRole:     "slave",
		LinkUp:       true,
		MasterAddr:   "10.0.0.2:6379",
		GoodReplicas: -1,
		Behind:       -1,
	}
}

// trusted is a master of which the hellos say something.
func trusted(trust checker.State) checker.Observation {
	return with(
		master(),
		func(o *checker.Observation) { o.Standing = checker.Standing{State: trust, Detail: "said"} },
	)
}

// asked is a master of which each listed Sentinel says t (this node), o
// (another) or nothing that counts (-).
func asked(says string) checker.Observation {
	q := checker.Quorum{Time: time.Unix(1000, 0)}
	for i, c := range says {
		a := checker.SentinelAnswer{
			Address: fmt.Sprintf("10.0.0.%d:26379", i+1),
			Master:  "10.0.0.9:6379",
			NamesUs: c == 't',
		}
		if c == '-' {
			a.Err = errors.New("no answer")
		}
		q.Answers = append(q.Answers, a)
	}
	return with(master(), func(o *checker.Observation) { o.Quorum = q })
}

func with(o checker.Observation, change func(*checker.Observation)) checker.Observation {
	change(&o)
	return o
}

func TestJudge(t *testing.T) {
	wantReplica, wantAny := checker.Policy{Role: checker.RoleReplica}, checker.Policy{Role: checker.RoleAny}
	loading := func(o *checker.Observation) { o.Loading = true }
	cluster := func(o *checker.Observation) { o.Cluster = true }
	linkDown := func(o *checker.Observation) { o.LinkUp = false }
	syncing := func(o *checker.Observation) { o.Syncing = true }
	heard := func(d time.Duration) func(*checker.Observation) {
		return func(o *checker.Observation) { o.LastIO = d }
	}
	behind := func(n int64) func(*checker.Observation) {
		return func(o *checker.Observation) { o.Behind = n }
	}
	up := func(d time.Duration) func(*checker.Observation) {
		return func(o *checker.Observation) { o.Uptime = d }
	}
	role := func(r checker.Role) checker.Observation { return checker.Observation{Role: r, WireRole: string(r)} }
	tests := []struct {
		name   string
		policy checker.Policy
		o      checker.Observation
		want   checker.Reason
	}{
		{"a master", checker.Policy{}, master(), checker.OK},
		{"nothing known", checker.Policy{}, checker.Observation{}, checker.ReasonRole},
		{"nothing known, any role", wantAny, checker.Observation{}, checker.ReasonRole},
		{"a replica", checker.Policy{}, replica(), checker.ReasonRole},
		{"an active replica", checker.Policy{}, role(checker.RoleActiveReplica), checker.ReasonRole},
		{"an active replica is no replica", wantReplica, role(checker.RoleActiveReplica), checker.ReasonRole},
		{"a Sentinel", wantAny, role(checker.RoleSentinel), checker.ReasonRole},
		{"any is no role to have", wantAny, role(checker.RoleAny), checker.ReasonRole},
		{"an unknown role is not wanted", checker.Policy{Role: "king"}, role("king"), checker.ReasonRole},
		{"a replica wanted", wantReplica, replica(), checker.OK},
		{"a replica wanted, a master found", wantReplica, master(), checker.ReasonRole},
		{"any, a master", wantAny, master(), checker.OK},
		{"any, a replica", wantAny, replica(), checker.OK},
		{"loading", checker.Policy{}, with(master(), loading), checker.ReasonLoading},
		{"loading allowed", checker.Policy{AllowLoading: true}, with(master(), loading), checker.OK},
		{"cluster", checker.Policy{}, with(master(), cluster), checker.ReasonCluster},
		{"cluster allowed", checker.Policy{AllowCluster: true}, with(master(), cluster), checker.OK},
		{"loading before cluster", checker.Policy{}, with(with(master(), loading), cluster), checker.ReasonLoading},
		{"role before loading", checker.Policy{}, with(replica(), loading), checker.ReasonRole},
		{"link down", wantReplica, with(replica(), linkDown), checker.ReasonLink},
		{"link down, any", wantAny, with(replica(), linkDown), checker.ReasonLink},
		{"syncing", wantReplica, with(replica(), syncing), checker.ReasonSyncing},
		{"syncing with the link down", wantReplica, with(with(replica(), syncing), linkDown), checker.ReasonLink},
		{
			"heard in time",
			checker.Policy{Role: checker.RoleReplica, MaxLag: 3 * time.Second},
			with(replica(), heard(3*time.Second)),
			checker.OK,
		},
		{
			"heard too long ago",
			checker.Policy{Role: checker.RoleReplica, MaxLag: 3 * time.Second},
			with(replica(), heard(4*time.Second)),
			checker.ReasonLag,
		},
		{
			"never heard",
			checker.Policy{Role: checker.RoleReplica, MaxLag: 3 * time.Second},
			with(replica(), heard(-1)),
			checker.ReasonLag,
		},
		{
			"near",
			checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 100},
			with(replica(), behind(100)),
			checker.OK,
		},
		{
			"far",
			checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 100},
			with(replica(), behind(101)),
			checker.ReasonLag,
		},
		{
			"how far is not known",
			checker.Policy{Role: checker.RoleReplica, MaxLagBytes: 100},
			replica(),
			checker.ReasonLag,
		},
		{
			"near, but not heard",
			checker.Policy{Role: checker.RoleReplica, MaxLag: time.Second, MaxLagBytes: 100},
			with(with(replica(), behind(1)), heard(-1)),
			checker.ReasonLag,
		},
		{
			"a master has no lag",
			checker.Policy{Role: checker.RoleAny, MaxLag: time.Second, MaxLagBytes: 1},
			master(),
			checker.OK,
		},
		{
			"too few replicas",
			checker.Policy{MinReplicas: 2},
			with(master(), func(o *checker.Observation) { o.Replicas = 1 }),
			checker.ReasonReplicas,
		},
		{
			"enough replicas",
			checker.Policy{MinReplicas: 2},
			with(master(), func(o *checker.Observation) { o.Replicas = 2 }),
			checker.OK,
		},
		{
			"too few good ones",
			checker.Policy{MinReplicas: 2},
			with(master(), func(o *checker.Observation) { o.Replicas, o.GoodReplicas = 2, 1 }),
			checker.ReasonReplicas,
		},
		{"a replica needs none", checker.Policy{Role: checker.RoleAny, MinReplicas: 2}, replica(), checker.OK},
		{
			"young",
			checker.Policy{MinUptime: 15 * time.Second},
			with(master(), up(14*time.Second)),
			checker.ReasonUptime,
		},
		{"old enough", checker.Policy{MinUptime: 15 * time.Second}, with(master(), up(15*time.Second)), checker.OK},
		{"of unknown age", checker.Policy{MinUptime: 15 * time.Second}, with(master(), up(-1)), checker.ReasonUptime},
		{
			"a young replica",
			checker.Policy{Role: checker.RoleAny, MinUptime: 15 * time.Second},
			replica(),
			checker.OK,
		},
		{
			"young and confirmed",
			checker.Policy{MinUptime: 15 * time.Second},
			trusted(checker.StateConfirmed),
			checker.OK,
		},
		{
			"young and promoted",
			checker.Policy{MinUptime: 15 * time.Second},
			trusted(checker.StatePromoted),
			checker.OK,
		},
		{
			"young and alone",
			checker.Policy{MinUptime: 15 * time.Second},
			trusted(checker.StateNoSentinels),
			checker.ReasonUptime,
		},
		{"unconfirmed", checker.Policy{}, trusted(checker.StateUnconfirmed), checker.ReasonUnconfirmed},
		{"denied", checker.Policy{}, trusted(checker.StateDenied), checker.ReasonSentinel},
		{"another is promoted", checker.Policy{}, trusted(checker.StateFailover), checker.ReasonFailover},
		{"isolated", checker.Policy{}, trusted(checker.StateIsolated), checker.ReasonIsolated},
		{"nobody has listened", checker.Policy{}, master(), checker.ReasonUnconfirmed},
		{
			"nobody has listened, and a majority",
			checker.Policy{Sentinels: true},
			asked("ttt"),
			checker.ReasonUnconfirmed,
		},
		{"a state that is none", checker.Policy{}, trusted("trust me"), checker.ReasonUnconfirmed},
		{
			"the state of a replica is no belief in a master",
			checker.Policy{},
			trusted(checker.StateReplica),
			checker.ReasonUnconfirmed,
		},
		{
			"handing over",
			checker.Policy{},
			with(master(), func(o *checker.Observation) { o.Failover = "waiting-for-sync" }),
			checker.ReasonFailover,
		},
		{
			"not handing over",
			checker.Policy{},
			with(master(), func(o *checker.Observation) { o.Failover = "no-failover" }),
			checker.OK,
		},
		{"a majority", checker.Policy{Sentinels: true}, asked("tt-"), checker.OK},
		{"a majority against a minority", checker.Policy{Sentinels: true}, asked("tto"), checker.OK},
		{"a majority for another", checker.Policy{Sentinels: true}, asked("too"), checker.ReasonSentinel},
		{"no agreement", checker.Policy{Sentinels: true}, asked("to-"), checker.ReasonSentinel},
		{"half is no majority", checker.Policy{Sentinels: true}, asked("tt--"), checker.ReasonNoQuorum},
		{"one of three", checker.Policy{Sentinels: true}, asked("t--"), checker.ReasonNoQuorum},
		{"none answers", checker.Policy{Sentinels: true}, asked("---"), checker.ReasonNoQuorum},
		{"one alone", checker.Policy{Sentinels: true}, asked("t"), checker.OK},
		{"none was asked", checker.Policy{Sentinels: true}, master(), checker.ReasonNoQuorum},
		{"none is listed", checker.Policy{Sentinels: true}, asked(""), checker.ReasonNoQuorum},
		{
			"young with a majority",
			checker.Policy{Sentinels: true, MinUptime: 15 * time.Second},
			asked("tt-"),
			checker.OK,
		},
		{
			"a watched promotion does not wait",
			checker.Policy{Sentinels: true},
			with(asked("too"), func(o *checker.Observation) { o.Quorum.Waived = true }),
			checker.OK,
		},
		{
			"a majority does not outvote the hellos",
			checker.Policy{Sentinels: true},
			with(asked("ttt"), func(o *checker.Observation) { o.Standing.State = checker.StateDenied }),
			checker.ReasonSentinel,
		},
		{
			"the hellos do not outvote a majority",
			checker.Policy{Sentinels: true},
			with(asked("ooo"), func(o *checker.Observation) { o.Standing.State = checker.StateConfirmed }),
			checker.ReasonSentinel,
		},
		{
			"replicas before Sentinels",
			checker.Policy{Sentinels: true, MinReplicas: 1},
			asked("ooo"),
			checker.ReasonReplicas,
		},
	}
	seen := map[checker.Reason]bool{}
	for _, tt := range tests {
		tt.policy.AllowUnconfirmed = tt.want != checker.ReasonUnconfirmed || tt.o.Standing.State != ""
		v := tt.policy.Judge(tt.o, nil)
		if v.Reason != tt.want || v.Detail == "" {
			t.Errorf("%s: %+v, want %s", tt.name, v, tt.want)
		}
		if (v.Answer() == checker.Yes) != (tt.want == checker.OK) {
			t.Errorf("%s: %s", tt.name, v.Answer())
		}
		seen[v.Reason] = true
	}
	for _, r := range checker.Reasons() {
		switch r {
		case checker.ReasonStarting, checker.ReasonDisabled, checker.ReasonStopping:
			continue // said by a Monitor
		}
		if r.Answer() == checker.Unknown {
			e := &checker.Error{Reason: r, Stage: checker.StageReply, Err: errors.New("cause")}
			// Even beside a perfect observation an error decides.
			if v := (checker.Policy{}).Judge(master(), fmt.Errorf("wrapped: %w", e)); v.Reason != r ||
				v.Answer() != checker.Unknown {
				t.Errorf("%s: %+v", r, v)
			}
		} else if !seen[r] {
			t.Errorf("no case gives %s", r)
		}
	}
	for _, err := range []error{
		errors.New("other"), &checker.Error{Err: errors.New("no reason")},
		&checker.Error{Reason: checker.OK, Err: errors.New("a yes in an error")},
	} {
		if v := (checker.Policy{}).Judge(master(), err); v.Reason != checker.ReasonProtocol {
			t.Errorf("%v: %+v", err, v)
		}
	}
	if a := checker.Reason("new").Answer(); a != checker.Unknown {
		t.Errorf("a reason outside the set is %s", a)
	}
}

// TestRulesAreTheOrder: what --explain shows is what decides, in the order of
// the closed set.
func TestRulesAreTheOrder(t *testing.T) {
	policy := checker.Policy{MinReplicas: 1, Sentinels: true, MinUptime: time.Minute, MaxLag: time.Second}
	for role, broken := range map[checker.Role]checker.Observation{
		checker.RoleReplica: {Role: checker.RoleReplica, Loading: true, Cluster: true, Syncing: true, LastIO: -1},
		checker.RoleMaster: with(asked("---"), func(o *checker.Observation) {
			o.Loading, o.Cluster, o.Failover, o.Standing.State = true, true, "failover-in-progress", checker.StateDenied
		}),
	} {
		o, p := broken, policy
		p.Role = role
		var order []checker.Reason
		for range 20 {
			rules := p.Rules(o)
			i := slices.IndexFunc(rules, func(r checker.Rule) bool { return r.State == checker.RuleBroken })
			if i < 0 {
				break
			}
			if v := p.Judge(o, nil); v.Reason != rules[i].Reason {
				t.Errorf("%s decided, %s is the first that is broken", v.Reason, rules[i].Reason)
			}
			order = append(order, rules[i].Reason)
			switch rules[i].Reason {
			case checker.ReasonLoading:
				o.Loading = false
			case checker.ReasonCluster:
				o.Cluster = false
			case checker.ReasonLink:
				o.LinkUp = true
			case checker.ReasonSyncing:
				o.Syncing = false
			case checker.ReasonLag:
				o.LastIO = 0
			case checker.ReasonReplicas:
				o.GoodReplicas = 1
			case checker.ReasonSentinel:
				o.Standing.State = checker.StateUnconfirmed
			case checker.ReasonFailover:
				o.Failover = "no-failover"
			case checker.ReasonNoQuorum:
				o.Quorum = asked("ttt").Quorum
				p.Sentinels = false // or the majority vouches for its age
			case checker.ReasonUnconfirmed:
				o.Standing.State = checker.StateNoSentinels
			case checker.ReasonUptime:
				o.Uptime = time.Minute
			}
		}
		if v := p.Judge(o, nil); v.Reason != checker.OK {
			t.Errorf("all mended, and still %+v", v)
		}
		all := checker.Reasons()
		if !slices.IsSortedFunc(
			order,
			func(a, b checker.Reason) int { return slices.Index(all, a) - slices.Index(all, b) },
		) ||
			len(order) < 5 {
			t.Errorf("%s: the order is %v", role, order)
		}
	}
}

func TestRunBelievesNoLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) (checker.Observation, error) {
			<-ctx.Done()
			<-time.After(time.Millisecond) // a probe that ignores its deadline
			return master(), nil
		}
		c := checker.Run(t.Context(), 10*time.Millisecond, late, checker.Policy{AllowUnconfirmed: true})
		if c.Verdict.Reason != checker.ReasonTimeout || c.Observation.Role != "" {
			t.Errorf("%+v", c)
		}
	})
	failed := func(context.Context) (checker.Observation, error) { return master(), errors.New("no") }
	if c := checker.Run(t.Context(), 0, failed, checker.Policy{}); c.Verdict.Answer() != checker.Unknown ||
		c.Observation.Role != "" {
		t.Errorf("%+v", c)
	}
}
