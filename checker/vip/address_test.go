package vip

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"redis-is-master/checker"
)

// A world is one address, a clock, and another host that may have it, too.
type world struct {
	t       *testing.T
	a       address
	now     time.Time
	want    bool
	ahead   bool
	other   bool // the other host has the address, and answers
	claimed time.Time
	done    []action // all that was done
}

var zero = time.Unix(1000, 0)

func newWorld(t *testing.T) *world {
	return &world{t: t, a: address{gap: 20 * time.Millisecond}, now: zero}
}

func (w *world) facts() facts { return facts{w.now, w.want, w.ahead, w.claimed} }

// step lets the address act once, and checks what must always be so.
func (w *world) step() {
	w.t.Helper()
	before := w.a.state
	do := w.a.step(w.facts())
	for _, what := range do {
		switch what {
		case remove:
			w.a.present = false
		case add:
			if !w.want {
				w.t.Fatal("added without a yes")
			}
			onInterface := before == held || before == verifying
			if w.other && !w.a.forced && !onInterface && w.claimed.After(w.now.Add(-aheadValid)) {
				w.t.Fatalf("taken at %v from a host that answers", w.now.Sub(zero))
			}
			w.a.present = true
		case sendProbe:
			if w.other {
				w.claimed = w.now.Add(time.Millisecond)
			}
		}
	}
	w.done = append(w.done, do...)
	if !w.want && w.a.present {
		w.t.Fatal("on the interface without a yes")
	}
	if w.a.present != (w.a.state == held || w.a.state == verifying) && w.now.Sub(w.a.added) > readdDelay {
		w.t.Fatalf("present %v in state %v", w.a.present, w.a.state)
	}
	if !w.a.due(w.facts()).After(w.now) && w.a.due(w.facts()).Before(w.now.Add(-time.Second)) {
		w.t.Fatal("due in the past")
	}
}

// run lets d pass, a step each millisecond.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Millisecond) {
		w.step()
	}
}

// until runs until the address is present or not, and returns how long that
// took; at most d.
func (w *world) until(present bool, d time.Duration) time.Duration {
	w.t.Helper()
	begun := w.now
	for w.step(); w.a.present != present; w.step() {
		if w.now = w.now.Add(time.Millisecond); w.now.Sub(begun) > d {
			w.t.Fatalf("present %v after %v", w.a.present, d)
		}
	}
	return w.now.Sub(begun)
}

func (w *world) count(what action) (n int) {
	for _, a := range w.done {
		if a == what {
			n++
		}
	}
	return n
}

const ms = time.Millisecond

func TestAddress(t *testing.T) {
	between := func(t *testing.T, what string, got, least, most time.Duration) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s after %v, want %v to %v", what, got, least, most)
		}
	}
	for name, test := range map[string]func(*testing.T, *world){
		"nobody has it": func(t *testing.T, w *world) {
			w.want = true
			between(t, "taken", w.until(true, time.Second), 60*ms, 61*ms)
			if w.count(sendProbe) != probes {
				t.Errorf("%d probes", w.count(sendProbe))
			}
		},
		"the answer ends": func(t *testing.T, w *world) {
			w.want = true
			w.until(true, time.Second)
			w.want = false
			between(t, "removed", w.until(false, time.Second), 0, 0)
		},
		"the answer ends during the probes": func(t *testing.T, w *world) {
			w.want = true
			w.run(40 * ms)
			w.want = false
			w.run(40 * ms)
			w.want = true
			between(t, "taken", w.until(true, time.Second), 60*ms, 61*ms)
		},
		"another host has it for a while": func(t *testing.T, w *world) {
			w.want, w.other = true, true
			w.run(time.Second)
			if n := w.count(sendProbe); n < 40 {
				t.Errorf("%d probes in the second of a planned failover", n)
			}
			w.run(9 * time.Second)
			if n := w.count(sendProbe); n > 200 {
				t.Errorf("%d probes in ten seconds", n)
			}
			if w.count(add) > 0 || !w.a.conflict(w.facts()) {
				t.Error("taken, or no conflict")
			}
			w.other = false
			between(t, "taken", w.until(true, time.Second), 60*ms, 60*ms+slowReprobe+ms)
			if w.a.conflict(w.facts()) {
				t.Error("still a conflict")
			}
		},
		"probed ahead, and nobody has it": func(t *testing.T, w *world) {
			w.ahead = true
			w.run(time.Second)
			w.want, w.ahead = true, false
			between(t, "taken", w.until(true, time.Second), 0, 0)
		},
		"probed ahead, and another has it": func(t *testing.T, w *world) {
			w.ahead, w.other = true, true
			w.run(time.Second)
			if w.a.conflict(w.facts()) {
				t.Error("a conflict, though it is not wanted here")
			}
			w.want, w.ahead = true, false
			w.run(time.Second)
			if w.count(add) > 0 {
				t.Error("taken")
			}
		},
		"probed ahead, and then another takes it": func(t *testing.T, w *world) {
			w.ahead = true
			w.run(170 * ms)
			w.other, w.claimed = true, w.now // by its announcement
			w.want, w.ahead = true, false
			w.run(time.Second)
			if w.count(add) > 0 {
				t.Error("taken")
			}
		},
		"probed ahead, too long ago": func(t *testing.T, w *world) {
			w.ahead = true
			w.run(time.Second)
			w.ahead = false
			w.now = w.now.Add(aheadValid + 61*ms)
			w.other, w.want = true, true
			w.run(time.Second)
			if w.count(add) > 0 {
				t.Error("taken")
			}
		},
		"force": func(t *testing.T, w *world) {
			w.a.force, w.want, w.other = 5*time.Second, true, true
			between(t, "taken", w.until(true, 10*time.Second), 5*time.Second, 5*time.Second+10*ms)
			w.run(time.Second)
			if !w.a.present {
				t.Error("given up again")
			}
			w.claimed = w.now
			if !w.a.conflict(w.facts()) {
				t.Error("no conflict, though another answers")
			}
		},
		"found, and nobody else has it": func(t *testing.T, w *world) {
			w.a.present, w.want = true, true
			w.run(time.Second)
			if w.count(remove)+w.count(add) > 0 || w.a.state != held {
				t.Errorf("done %v", w.done)
			}
		},
		"found, and another has it": func(t *testing.T, w *world) {
			w.a.present, w.want, w.other = true, true, true
			between(t, "removed", w.until(false, time.Second), ms, 3*ms)
			w.run(time.Second)
			if w.count(add) > 0 {
				t.Error("taken")
			}
		},
		"found, and the answer is no": func(t *testing.T, w *world) {
			w.a.present = true
			between(t, "removed", w.until(false, time.Second), 0, 0)
		},
		"somebody removes it": func(t *testing.T, w *world) {
			w.want = true
			w.until(true, time.Second)
			w.run(time.Second)
			w.a.present = false
			between(t, "back", w.until(true, time.Second), 0, 0)
			for range 1000 { // and goes on doing so
				w.a.present = false
				w.step()
				w.now = w.now.Add(ms)
			}
			if n := w.count(add); n > 60 {
				t.Errorf("added %d times in two seconds", n)
			}
		},
		"somebody removes it, and another host has taken it": func(t *testing.T, w *world) {
			w.want = true
			w.until(true, time.Second)
			w.run(time.Second)
			w.a.present, w.other = false, true
			w.step()
			w.now = w.now.Add(2 * ms)
			between(t, "given up", w.until(false, time.Second), 0, 2*ms)
		},
		"somebody adds it during the probes": func(t *testing.T, w *world) {
			w.want, w.other = true, true
			w.run(20 * ms)
			w.a.present = true
			between(t, "removed", w.until(false, time.Second), 0, 0)
		},
		"announced": func(t *testing.T, w *world) {
			w.want = true
			w.until(true, time.Second)
			var at []time.Duration
			for begun := w.now; w.now.Sub(begun) < 3*time.Minute; w.now = w.now.Add(ms) {
				before := w.count(announce)
				if w.step(); w.count(announce) > before {
					at = append(at, w.now.Sub(begun))
				}
			}
			// The first announcement is made with the addition.
			want := []time.Duration{500 * ms, time.Second, 61 * time.Second, 121 * time.Second}
			if !slices.Equal(at, want) {
				t.Errorf("after %v, want %v", at, want)
			}
		},
		"a probe cannot be sent": func(t *testing.T, w *world) {
			w.want = true
			for begun := w.now; w.now.Sub(begun) < time.Second; w.now = w.now.Add(ms) {
				for _, what := range w.a.step(w.facts()) {
					if what != sendProbe {
						t.Fatalf("%v, though no probe could be sent", what)
					}
					w.a.failed(sendProbe, w.now)
				}
			}
		},
		"it cannot be added": func(t *testing.T, w *world) {
			w.want = true
			tries := 0
			for begun := w.now; w.now.Sub(begun) < time.Second; w.now = w.now.Add(ms) {
				for _, what := range w.a.step(w.facts()) {
					if what == add {
						tries++
						w.a.failed(add, w.now)
						break
					}
				}
			}
			if tries < 3 || tries > 10 {
				t.Errorf("%d tries in a second", tries)
			}
		},
		"stopped during the probes": func(t *testing.T, w *world) {
			w.want = true
			w.run(45 * ms)
			asked := w.count(sendProbe)
			w.now = w.now.Add(time.Second)
			w.step()
			if w.a.present || w.count(sendProbe) == asked {
				t.Error("taken after probes whose answers may have been missed")
			}
			between(t, "taken", w.until(true, time.Second), 60*ms, 61*ms)
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, newWorld(t)) })
	}
}

// TestAddressAtRandom: whatever happens in whatever order, an address is on
// the interface only while that is right; [world.step] checks it.
func TestAddressAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		draw := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t)
		if seed%3 == 0 {
			w.a.force = MinForceAfter
		}
		for range 200 {
			switch draw.IntN(6) {
			case 0:
				w.want, w.ahead = !w.want, false
			case 1:
				w.ahead = !w.want && !w.ahead
			case 2:
				// The other host does as we do: it does not take what we have.
				w.other = !w.other && !w.a.present && w.now.Sub(w.a.free) > aheadValid && w.a.roundBegun.IsZero()
			case 3:
				w.a.present = draw.IntN(2) == 0
			case 4:
				w.now = w.now.Add(time.Duration(draw.IntN(2000)) * ms)
			}
			w.run(time.Duration(draw.IntN(150)) * ms)
		}
	}
}

// TestCheckedBeforeRun: a check that ends before Run feeds no companion, for there is none.
func TestCheckedBeforeRun(t *testing.T) { new(VIP).Checked(checker.Check{}) }
