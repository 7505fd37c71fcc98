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
	return checker.Observation{Role: checker.RoleMaster, WireRole: "master", LastIO: -1}
}

func replica() checker.Observation {
	return checker.Observation{Role: checker.RoleReplica, WireRole: "slave", LinkUp: true, MasterAddr: "10.0.0.2:6379"}
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
	}
	seen := map[checker.Reason]bool{}
	for _, tt := range tests {
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
			if v := (checker.Policy{}).Judge(master(), fmt.Errorf("wrapped: %w", e)); v.Reason != r || v.Answer() != checker.Unknown {
				t.Errorf("%s: %+v", r, v)
			}
		} else if !seen[r] {
			t.Errorf("no case gives %s", r)
		}
	}
	for _, err := range []error{errors.New("other"), &checker.Error{Err: errors.New("no reason")}, &checker.Error{Reason: checker.OK, Err: errors.New("a yes in an error")}} {
		if v := (checker.Policy{}).Judge(master(), err); v.Reason != checker.ReasonProtocol {
			t.Errorf("%v: %+v", err, v)
		}
	}
	if a := checker.Reason("new").Answer(); a != checker.Unknown {
		t.Errorf("a reason outside the set is %s", a)
	}
}

// TestRulesAreTheOrder: what --explain shows is what decides.
func TestRulesAreTheOrder(t *testing.T) {
	o := checker.Observation{Role: checker.RoleReplica, Loading: true, Cluster: true, Syncing: true}
	for p := (checker.Policy{Role: checker.RoleReplica}); ; {
		rules := p.Rules(o)
		i := slices.IndexFunc(rules, func(r checker.Rule) bool { return r.State == checker.RuleBroken })
		if i < 0 {
			break
		}
		if v := p.Judge(o, nil); v.Reason != rules[i].Reason {
			t.Errorf("%s decided, %s is the first that is broken", v.Reason, rules[i].Reason)
		}
		switch rules[i].Reason {
		case checker.ReasonLoading:
			o.Loading = false
		case checker.ReasonCluster:
			o.Cluster = false
		case checker.ReasonLink:
			o.LinkUp = true
		case checker.ReasonSyncing:
			o.Syncing = false
		}
	}
	if v := (checker.Policy{Role: checker.RoleReplica}).Judge(o, nil); v.Reason != checker.OK {
		t.Errorf("all mended, and still %+v", v)
	}
}

func TestRunBelievesNoLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) (checker.Observation, error) {
			<-ctx.Done()
			<-time.After(time.Millisecond) // a probe that ignores its deadline
			return master(), nil
		}
		c := checker.Run(t.Context(), 10*time.Millisecond, late, checker.Policy{})
		if c.Verdict.Reason != checker.ReasonTimeout || c.Observation.Role != "" {
			t.Errorf("%+v", c)
		}
	})
	failed := func(context.Context) (checker.Observation, error) { return master(), errors.New("no") }
	if c := checker.Run(t.Context(), 0, failed, checker.Policy{}); c.Verdict.Answer() != checker.Unknown || c.Observation.Role != "" {
		t.Errorf("%+v", c)
	}
}
