package sentinel

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// replaced is the Guard of the next program, which runs from now on.
func replaced(t *testing.T, g *Guard, now time.Time) *Guard {
	t.Helper()
	record, err := g.Record(now)
	if err != nil {
		t.Fatal(err)
	}
	next := &Guard{Gap: g.Gap}
	if err := next.Restore(now, record); err != nil {
		t.Fatal(err)
	}
	return next
}

// TestRecord: the next program believes what the one before has believed, as after a gap of the same length.
func TestRecord(t *testing.T) {
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	hello := func(sentinel string, epoch uint64, us bool) checker.Claim {
		master := "10.0.0.2:6379"
		if us {
			master = "10.0.0.1:6379"
		}
		return checker.Claim{NamesUs: us, Hello: checker.Hello{Sentinel: sentinel, From: sentinel + ":26379",
			Name: "mymaster", Master: master, Epoch: epoch, Current: epoch}}
	}
	answer := func(d time.Duration, role checker.Role, connection int, redialled bool) Answer {
		o := checker.Observation{Role: role, RunID: "a", Uptime: time.Hour, Connection: connection, Redialled: redialled,
			Acknowledged: 1}
		if role == checker.RoleReplica {
			o.MasterAddr = "10.0.0.2:6379"
		}
		return Answer{Asked: at(d), Now: at(d), Observation: o}
	}
	// watched is a Guard that has seen a role for ten seconds.
	watched := func(role checker.Role) *Guard {
		g := &Guard{Gap: time.Second}
		g.On(Subscription{Now: start, Stands: true})
		for d := time.Duration(0); d <= 10*time.Second; d += 100 * time.Millisecond {
			g.On(answer(d, role, 1, false))
			if d%(2*time.Second) == 0 {
				g.On(Heard{Now: at(d), Claim: hello("s1", 3, role == checker.RoleMaster)})
				g.On(Heard{Now: at(d), Claim: hello("s2", 3, role == checker.RoleMaster)})
			}
		}
		return g
	}
	const end = 10 * time.Second

	g := replaced(t, watched(checker.RoleMaster), at(end))
	if s := g.On(answer(end+100*time.Millisecond, checker.RoleMaster, 2, true)); s != checker.StateConfirmed {
		t.Errorf("a master after a short gap is %s", s)
	}
	if s := g.On(Heard{Now: at(end + 200*time.Millisecond), Claim: hello("s1", 4, false)}); s != checker.StateDenied {
		t.Errorf("one that is denied then is %s", s)
	}
	g = replaced(t, watched(checker.RoleMaster), at(end))
	if s := g.On(answer(end+2*time.Second, checker.RoleMaster, 2, true)); s != checker.StateUnconfirmed {
		t.Errorf("a master after a long gap is %s", s)
	}
	g = watched(checker.RoleMaster)
	g.On(Heard{Now: at(end), Claim: hello("s1", 4, false)})
	g = replaced(t, g, at(end))
	if s := g.On(answer(end+100*time.Millisecond, checker.RoleMaster, 2, true)); s != checker.StateDenied {
		t.Errorf("one that was denied before is %s", s)
	}

	// A promotion in the gap may be one by hand: no connection can have told of it.
	g = replaced(t, watched(checker.RoleReplica), at(end))
	if s := g.On(answer(end+100*time.Millisecond, checker.RoleMaster, 2, true)); s.Believed() {
		t.Errorf("a replica that is a master after the gap is %s", s)
	}
	// One that comes later is believed as ever.
	g = replaced(t, watched(checker.RoleReplica), at(end))
	g.On(answer(end+100*time.Millisecond, checker.RoleReplica, 2, true))
	g.On(Subscription{Now: at(end + 150*time.Millisecond), Stands: true})
	g.On(Subscription{Now: at(end + 290*time.Millisecond)})
	if s := g.On(answer(end+300*time.Millisecond, checker.RoleMaster, 3, false)); s != checker.StatePromoted {
		t.Errorf("a replica that is promoted after the gap is %s", s)
	}
	// A failover that a Sentinel has under way goes on.
	g = watched(checker.RoleMaster)
	g.On(Noticed{Now: at(end), Notice: Notice{Address: "s1:26379", Name: "mymaster", Kind: "+selected-slave",
		Node: "10.0.0.2:6379", Time: at(end)}})
	if g.State() != checker.StateFailover {
		t.Fatalf("a master that is being replaced is %s", g.State())
	}
	g = replaced(t, g, at(end))
	if s := g.On(answer(end+100*time.Millisecond, checker.RoleMaster, 2, true)); s != checker.StateFailover {
		t.Errorf("a master that is being replaced is %s after the gap", s)
	}
}

// TestSpoiltRecord: a record that is not whole changes nothing.
func TestSpoiltRecord(t *testing.T) {
	g := &Guard{Gap: time.Second}
	now := time.Now()
	g.On(Subscription{Now: now, Stands: true})
	g.On(Answer{Asked: now, Now: now, Observation: checker.Observation{Role: checker.RoleMaster}})
	good, err := g.Record(now)
	if err != nil {
		t.Fatal(err)
	}
	for what, record := range map[string]string{
		"empty": "", "of another type": strings.Replace(string(good), `"shape":"`, `"shape":"0`, 1),
		"of other rules": strings.Replace(string(good), g.row.Sentence, "the moon is full", 1),
		"cut off":        string(good[:len(good)-10]),
	} {
		next := &Guard{Gap: time.Second}
		if err := next.Restore(now, []byte(record)); err == nil || next.state != "" || !next.process.asked.IsZero() {
			t.Errorf("a record that is %s: %v, state %q", what, err, next.state)
		}
	}
}

// TestRecordIsWhole: whatever a Guard keeps is handed over.
func TestRecordIsWhole(t *testing.T) {
	recorded := reflect.TypeFor[guardRecord]()
	for f := range reflect.TypeFor[Guard]().Fields() {
		switch f.Name {
		case "Gap", "Listed", "Decide": // flags
			continue
		case "Began":
			f.Name = "began"
		}
		if _, ok := recorded.FieldByName(f.Name); !ok {
			t.Errorf("%s is not handed over", f.Name)
		}
	}
}
