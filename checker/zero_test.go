package checker

import (
	"errors"
	"testing"
	"time"
)

// TestZeroValues: what nobody has filled in is never a yes.
func TestZeroValues(t *testing.T) {
	master := Observation{Role: RoleMaster}
	for what, answer := range map[string]Answer{
		"a Reason":       Reason("").Answer(),
		"a Verdict":      Verdict{}.Answer(),
		"an Observation": Policy{}.Judge(Observation{}, nil).Answer(),
		"an Observation, whatever is allowed": Policy{AllowLoading: true, AllowCluster: true, AllowUnconfirmed: true,
			Role: RoleAny}.Judge(Observation{}, nil).Answer(),
		"a Policy":   Policy{}.Judge(master, nil).Answer(),
		"a Standing": Policy{}.Judge(Observation{Role: RoleMaster, Standing: Standing{Detail: "said"}}, nil).Answer(),
		"a Quorum":   Policy{AllowUnconfirmed: true, Sentinels: true}.Judge(master, nil).Answer(),
		"a Quorum with a SentinelAnswer": Policy{AllowUnconfirmed: true, Sentinels: true}.Judge(
			Observation{Role: RoleMaster, Quorum: Quorum{Time: time.Now(), Answers: make([]SentinelAnswer, 1)}}, nil).Answer(),
		"an Error":                      Policy{AllowUnconfirmed: true}.Judge(master, &Error{}).Answer(),
		"an Error that calls itself ok": Policy{AllowUnconfirmed: true}.Judge(master, &Error{Reason: OK}).Answer(),
		"an error":                      Policy{AllowUnconfirmed: true}.Judge(master, errors.New("")).Answer(),
		"a Check":                       Check{}.Verdict.Answer(),
		"a Status":                      Status{}.Verdict.Answer(),
		"a Status, for a role":          Status{}.For(RoleMaster).Answer(),
		"a Ledger that has not begun":   (&Ledger{}).Status(time.Now(), 0, "").Verdict.Answer(),
		"a Monitor without a check":     func() Answer { s, _ := new(Monitor).Status(); return s.Verdict.Answer() }(),
		"a Ledger that took a Check of nothing": func() Answer {
			l := &Ledger{}
			l.Begin(time.Now())
			l.Take(Check{}, time.Now())
			return l.Status(time.Now(), 0, "").Verdict.Answer()
		}(),
	} {
		if answer == Yes {
			t.Errorf("the zero value of %s is a yes", what)
		}
	}
	if RuleState("").passes() || RuleState("new").passes() || RuleBroken.passes() {
		t.Error("a rule that is neither held nor off lets the check go on")
	}
	if State("").Believed() || State("new").Believed() {
		t.Error("a state outside the closed set is believed")
	}
}
