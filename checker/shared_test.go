package checker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"redis-is-master/checker"
)

// TestShared: many who ask cost one rendering a check, and a verdict is never
// older than the question.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang, role, linkUp := false, checker.RoleMaster, true
		impaired := ""
		m := &checker.Monitor{
			Interval: time.Second,
			MaxAge:   5 * time.Second,
			Policy:   checker.Policy{AllowUnconfirmed: true},
			Impaired: func() string { return impaired },
		}
		m.Probe = func(ctx context.Context) (checker.Observation, error) {
			if hang {
				<-t.Context().Done()
				return checker.Observation{}, errors.New("over")
			}
			return checker.Observation{Role: role, LinkUp: linkUp, GoodReplicas: -1}, nil
		}
		rendered := 0
		says := checker.Shared(m, func(s checker.Status) [2]checker.Reason {
			rendered++
			return [2]checker.Reason{s.Verdict.Reason, s.For(checker.RoleReplica).Reason}
		})
		is := func(master, replica checker.Reason) {
			t.Helper()
			before := rendered
			for range 1000 {
				if got := says(); got != [2]checker.Reason{master, replica} {
					t.Fatalf("it says %v", got)
				}
			}
			if rendered > before+1 {
				t.Errorf("1000 questions took %d renderings", rendered-before)
			}
		}
		is(checker.ReasonStarting, checker.ReasonStarting)
		go m.Run(t.Context())
		synctest.Wait()
		is(checker.OK, checker.ReasonRole)
		impaired = "a reason"
		is(checker.ReasonStale, checker.ReasonStale)
		impaired = ""
		is(checker.OK, checker.ReasonRole)
		next := func() {
			m.Wake()
			synctest.Wait()
		}
		role = checker.RoleReplica
		next()
		is(checker.ReasonRole, checker.OK)
		linkUp = false // the reason of the policy's own role stays
		next()
		is(checker.ReasonRole, checker.ReasonLink)
		role = checker.RoleMaster
		next()
		is(checker.OK, checker.ReasonRole)
		hang = true
		next()
		time.Sleep(5 * time.Second) // by the clock of the bubble
		is(checker.OK, checker.ReasonRole)
		time.Sleep(time.Nanosecond) // by the same clock
		is(checker.ReasonStale, checker.ReasonStale)
		m.Stop()
		is(checker.ReasonStopping, checker.ReasonStopping)
	})
}
