package checker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"redis-is-master/checker"
)

// recorded is the record of a Monitor that has done the checks of a script, one every 100 ms.
func recorded(t *testing.T, script string) (record []byte, at time.Time, of checker.Status) {
	t.Helper()
	n := 0
	m := &checker.Monitor{Policy: unconfirmed, Probe: func(context.Context) (checker.Observation, error) {
		result := outcomes[script[min(n, len(script)-1)]]
		n++
		return result.o, result.err
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.Run(ctx); close(ended) }()
	// By the clock of the bubble, as all that follows.
	time.Sleep(time.Duration(len(script)-1)*checker.DefaultInterval + checker.DefaultInterval/2)
	defer func() { cancel(); <-ended }()
	defer m.Hold()()
	at = time.Now()
	record, err := m.Record(at)
	if err != nil {
		t.Fatal(err)
	}
	of, _ = m.Status()
	return record, at, of
}

// TestRestore: the status that is handed over has its age, and is believed for no longer than if nothing had happened.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record, at, before := recorded(t, "rmtt")
		m := &checker.Monitor{Policy: unconfirmed}
		if err := m.Restore(at, record); err != nil {
			t.Fatal(err)
		}
		now, _ := m.Status()
		if now.Verdict != before.Verdict || now.Verdict.Answer() != checker.Yes || !now.Since.Equal(before.Since) ||
			now.Age < before.Age || len(now.History) != len(before.History) ||
			now.Transitions[checker.Yes] != before.Transitions[checker.Yes] {
			t.Errorf("%+v, and before it was %+v", now, before)
		}
		if now.For(checker.RoleReplica).Reason != checker.ReasonRole {
			t.Errorf("as a replica it is %v", now.For(checker.RoleReplica))
		}
		time.Sleep(checker.DefaultMaxAge - now.Age) // by the clock of the bubble
		if s, _ := m.Status(); s.Verdict.Reason != checker.OK {
			t.Errorf("at the age of %v it is %v", s.Age, s.Verdict)
		}
		time.Sleep(time.Millisecond) // by the same clock
		if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonStale {
			t.Errorf("at the age of %v it is %v", s.Age, s.Verdict)
		}
		// The moment of the record is long past: so is what it says.
		late := &checker.Monitor{Policy: unconfirmed}
		if err := late.Restore(time.Now().Add(-time.Hour), record); err != nil {
			t.Fatal(err)
		}
		if s, _ := late.Status(); s.Verdict.Reason != checker.ReasonStale || s.Age < time.Hour {
			t.Errorf("after an hour it is %v, at the age of %v", s.Verdict, s.Age)
		}
	})
}

// TestRestoredCounts: checks that fail are counted on where the other Monitor was, and definite answers act at once.
func TestRestoredCounts(t *testing.T) {
	for then, want := range map[string]checker.Reason{"t": checker.ReasonTimeout, "m": checker.OK, "r": checker.ReasonRole,
		"x": checker.ReasonRefused} {
		synctest.Test(t, func(t *testing.T) {
			record, at, _ := recorded(t, "mtt")
			m := &checker.Monitor{Policy: unconfirmed, Probe: func(context.Context) (checker.Observation, error) {
				return outcomes[then[0]].o, outcomes[then[0]].err
			}}
			if err := m.Restore(at, record); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { m.Run(ctx); close(ended) }()
			synctest.Wait()
			if s, _ := m.Status(); s.Verdict.Reason != want {
				t.Errorf("after %s: %v", then, s.Verdict)
			}
			cancel()
			<-ended
		})
	}
}

// TestNoRestore: a record that cannot be read leaves a new Monitor, and one that stops makes none.
func TestNoRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record, at, _ := recorded(t, "m")
		for _, spoilt := range []string{"", "null", "{}", strings.Replace(string(record), `"shape":"`, `"shape":"0`, 1),
			strings.Replace(string(record), `"answered"`, `"asked"`, 1), string(record[:len(record)/2])} {
			m := &checker.Monitor{Policy: unconfirmed}
			if err := m.Restore(at, []byte(spoilt)); err == nil {
				t.Errorf("%.50q is a record", spoilt)
			}
			if s, _ := m.Status(); s.Verdict.Reason != checker.ReasonStarting {
				t.Errorf("after %.50q it is %v", spoilt, s.Verdict)
			}
		}
		m := &checker.Monitor{Policy: unconfirmed}
		m.Stop()
		defer m.Hold()()
		if _, err := m.Record(at); err == nil {
			t.Error("a Monitor that stops is recorded")
		}
	})
}

// TestRestoredRedis: the next connection is another one, and the password goes to no other user.
func TestRestoredRedis(t *testing.T) {
	var before, after checker.Redis
	now := time.Now()
	record, err := before.Record(now)
	if err == nil {
		err = after.Restore(now, record)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := after.Restore(now, []byte("{}")); err == nil {
		t.Error("an empty record")
	}
}
