package sentinel

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"redis-is-master/checker"
)

// every calls f with every state and every evidence.
func every(f func(s checker.State, e Evidence)) {
	states := append(checker.States(), "")
	fields := reflect.TypeFor[Evidence]().NumField()
	for bits := range 1 << fields {
		e := evidence(bits)
		for _, s := range states {
			f(s, e)
		}
	}
}

// evidence sets one field for each bit.
func evidence(bits int) (e Evidence) {
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		v.Field(i).SetBool(bits>>i&1 == 1)
	}
	return e
}

// after is the state after an event.
func after(s checker.State, e Evidence) checker.State {
	if next := Decide(s, e).Then; next != Unchanged {
		return next
	}
	return s
}

// TestTable walks every state and every evidence.
func TestTable(t *testing.T) {
	for _, r := range Rows {
		if r.Sentence == "" {
			t.Errorf("a row to %s has no sentence", r.Then)
		}
	}
	deciding := make(map[*Row]bool)
	begins := make(map[string]checker.State) // a yes, by the sentence of the row
	fails := make(map[string]int)
	holds := func(property string, ok bool, s checker.State, e Evidence) {
		if fails[property]++; ok {
			fails[property]--
		} else if fails[property] == 1 {
			t.Errorf("%s: %q becomes %s: %q: %+v", property, s, after(s, e), Decide(s, e).Sentence, e)
		}
	}
	every(func(s checker.State, e Evidence) {
		row, next := Decide(s, e), after(s, e)
		deciding[row] = true
		yes, wasYes := next.Believed(), s.Believed()
		if yes && !wasYes {
			begins[row.Sentence] = next
		}
		holds("only a node that calls itself master is believed", !yes || e.Master, s, e)
		holds("a newer claim against the node ends every yes", !yes || !e.Contradicted, s, e)
		holds("while a Sentinel promotes another node there is no yes", !yes || !e.Moving, s, e)
		holds("a master that is cut off does not stay believed", !yes || !e.Isolated || !wasYes, s, e)
		holds("where nobody may be heard there is no yes", !yes || !e.Refused, s, e)
		holds("after a gap only the absence of Sentinels is a yes",
			!yes || !e.Answered || !e.Gap || next == checker.StateNoSentinels && e.NoSentinels, s, e)
		holds("a doubtful promotion is no promotion",
			!yes || !e.doubts() || next == checker.StateNoSentinels && e.NoSentinels, s, e)
		holds("a yes begins with an answer of the node, or with the proof of its promotion",
			!yes || wasYes || e.Answered || e.Proof, s, e)
		promoted := next == checker.StatePromoted
		holds("a yes begins against what the Sentinels say only by a promotion, or if their master follows the node",
			!yes || wasYes || !e.NamesAnother || promoted || e.Followed, s, e)
		holds(
			"a promotion that was disowned is no yes",
			s != checker.StatePromoted || !yes || !e.Disowned || e.Named || e.promotes(),
			s,
			e,
		)
		holds("a state is one of the closed set", s == "" && next == "" || contains(next), s, e)
	})
	want := map[string]checker.State{
		"it is known who made the node master: a Sentinel, or the former master, which follows it":  checker.StatePromoted,
		"the node became master while it was watched as a replica":                                  checker.StatePromoted,
		"Sentinels name this node, and nobody can contradict: all were asked, or it was waited for": checker.StateConfirmed,
		"the master that the Sentinels still name follows this node":                                checker.StateFollowed,
		"a majority of the listed Sentinels has named this node for long enough":                    checker.StateConfirmed,
		"no Sentinel was heard for long enough to know that there is none":                          checker.StateNoSentinels,
	}
	if !reflect.DeepEqual(begins, want) {
		t.Errorf("a yes begins by %v, want %v", begins, want)
	}
	for i := range Rows {
		if !deciding[&Rows[i]] {
			t.Errorf("no evidence reaches the row %q", Rows[i].Sentence)
		}
	}
}

func contains(s checker.State) bool {
	for _, known := range checker.States() {
		if s == known {
			return true
		}
	}
	return false
}

// TestMoreDoubt: evidence against the node never makes a yes of a no.
func TestMoreDoubt(t *testing.T) {
	against := map[string]func(*Evidence){
		"another master is named":         func(e *Evidence) { e.NamesAnother, e.Followed = true, false },
		"its master follows no more":      func(e *Evidence) { e.Followed = false },
		"a gap":                           func(e *Evidence) { e.Gap = true },
		"Sentinels out of touch":          func(e *Evidence) { e.InTouch = false },
		"a newer master":                  func(e *Evidence) { e.Superseded = true },
		"a promotion by hand":             func(e *Evidence) { e.ByHand = true },
		"a contradiction":                 func(e *Evidence) { e.Contradicted = true },
		"another is promoted":             func(e *Evidence) { e.Moving = true },
		"out of touch":                    func(e *Evidence) { e.Isolated = true },
		"no right to hear":                func(e *Evidence) { e.Refused = true },
		"a promotion that is disowned":    func(e *Evidence) { e.Disowned = true },
		"no proof":                        func(e *Evidence) { e.Proof = false },
		"a confirmation that has not yet": func(e *Evidence) { e.Confirmed = false },
		"no majority":                     func(e *Evidence) { e.Vouched = false },
		"Sentinels that may be there":     func(e *Evidence) { e.NoSentinels = false },
		"no claim for the node":           func(e *Evidence) { e.Named = false },
		"a role that is none of a master": func(e *Evidence) { e.Master = false },
	}
	for what, add := range against {
		failed := 0
		every(func(s checker.State, less Evidence) {
			more := less
			add(&more)
			if after(s, more).Believed() && !after(s, less).Believed() {
				if failed++; failed == 1 {
					t.Errorf("%s: %q becomes %s by %q, without it %s by %q: %+v", what, s,
						after(s, more), Decide(s, more).Sentence, after(s, less), Decide(s, less).Sentence, less)
				}
			}
		})
	}
}

// TestReadme: the documentation has the rows in their order.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, r := range Rows {
		state := "`" + string(r.Then) + "`"
		if r.Then == Unchanged {
			state = "unchanged"
		}
		fmt.Fprintf(&want, "| %s | %s |\n", state, r.Sentence)
	}
	if !strings.Contains(string(readme), want.String()) {
		t.Errorf("README.md lacks\n%s", want.String())
	}
}

// TestWaiver: the listed Sentinels are not waited for after a promotion that was
// watched, as long as they cannot know better.
func TestWaiver(t *testing.T) {
	for bits := range 1 << 5 {
		w := waiver{bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0, bits&16 > 0}
		if got, want := w.holds(), bits == 0b01111; got != want {
			t.Errorf("%+v: %t", w, got)
		}
	}
}
