package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// asks are the questions for a failover in a history.
func (h *History) asked() (all []Event) {
	for _, e := range h.Events {
		if e.Kind == AsksEvent {
			all = append(all, e)
		}
	}
	return all
}

// after is when the first node was promoted after a time; 0 for never.
func (h *History) promotedAfter(at time.Duration) time.Duration {
	for _, e := range h.Events {
		if e.Kind == PromotionEvent && e.At > at {
			return e.At - at
		}
	}
	return 0
}

// TestCrash lets the master's Redis die where its daemon may ask for a failover, and
// other things happen around it.
func TestCrash(t *testing.T) {
	const at = 10 * time.Second
	kill := Fault{Kind: KillRedis, Node: OnMaster, At: at}
	for _, tc := range []struct {
		name    string
		faults  func(r *rand.Rand) []Fault
		asks    int           // at most, or all histories must if it is below 0
		within  time.Duration // the next promotion is, if it is not 0
		another bool          // another node may be promoted as well
	}{
		{"nothing else", func(*rand.Rand) []Fault { return []Fault{kill} }, -1, 450 * time.Millisecond, false},
		{"it comes back at any time", func(r *rand.Rand) []Fault {
			back := kill
			back.For = time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
			return []Fault{back}
		}, 1, 0, true},
		{"the host was cut off with its Sentinel", func(r *rand.Rand) []Fault {
			cut := Fault{Kind: Isolate, Node: OnMaster, For: 20 * time.Second}
			cut.At = at - 600*time.Millisecond - time.Duration(r.Int64N(int64(300*time.Millisecond)))
			return []Fault{cut, kill}
		}, 0, 0, true},
		{"the host is cut off at any moment", func(r *rand.Rand) []Fault {
			cut := Fault{Kind: Isolate, Node: OnMaster, For: time.Duration(r.Int64N(int64(20 * time.Second)))}
			cut.At = at + time.Duration(r.Int64N(int64(300*time.Millisecond)))
			return []Fault{kill, cut}
		}, 1, 0, true},
		{"a Sentinel dies in any step", func(r *rand.Rand) []Fault {
			steps := []string{CrashAfterElection, CrashAfterSelection, CrashAfterCommand, CrashAfterPromotion}
			back := kill
			back.For = time.Duration(r.Int64N(int64(3 * time.Second)))
			return []Fault{{Kind: CrashAt, At: at - time.Second, Step: steps[r.IntN(len(steps))]}, back}
		}, 1, 0, true},
		{"the host stands still between the check and the question", func(r *rand.Rand) []Fault {
			kinds := []FaultKind{StunHost, SuspendHost}
			stun := Fault{Kind: kinds[r.IntN(2)], Node: OnMaster, For: time.Duration(r.Int64N(int64(10 * time.Second)))}
			stun.At = at + time.Duration(r.Int64N(int64(80*time.Millisecond)))
			back := kill
			back.For = time.Duration(r.Int64N(int64(3 * time.Second)))
			return []Fault{back, stun}
		}, 1, 0, true},
		{"a Sentinel hangs before it is asked", func(r *rand.Rand) []Fault {
			hang := Fault{Kind: HangSentinel, Node: 1 + r.IntN(2), For: time.Duration(r.Int64N(int64(10 * time.Second)))}
			hang.At = at + time.Duration(r.Int64N(int64(60*time.Millisecond)))
			back := kill
			back.For = time.Duration(r.Int64N(int64(3 * time.Second)))
			return []Fault{back, hang}
		}, 1, 0, true},
		{"the daemon dies when it has asked", func(r *rand.Rand) []Fault {
			dies := Fault{Kind: KillDaemon, Node: OnMaster, For: time.Duration(r.Int64N(int64(time.Second)))}
			dies.At = at + time.Duration(r.Int64N(int64(200*time.Millisecond)))
			back := kill
			back.For = time.Duration(r.Int64N(int64(3 * time.Second)))
			return []Fault{back, dies}
		}, 1, 0, true},
		{"the replicas are cut off", func(r *rand.Rand) []Fault {
			var all []Fault
			for _, node := range []int{1, 2} {
				all = append(all, Fault{Kind: HangRedis, Node: node, At: at - 4*time.Second, For: 20 * time.Second})
			}
			return append(all, kill)
		}, 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				r := rand.New(rand.NewPCG(seed, 3))
				c := Config{Seed: seed, Length: 45 * time.Second, Watch: true, CrashFailover: true, Faults: tc.faults(r),
					FailoverTimeout: 6 * time.Second, DownAfter: []time.Duration{2 * time.Second, 5 * time.Second}[r.IntN(2)]}
				h := New(c, NewReal).Run()
				asked := h.asked()
				if v := h.Violations(BoundsOf(h.Config)); len(v) > 0 {
					t.Fatalf("%v\n%v", v, h)
				}
				switch next := h.promotedAfter(at); {
				case tc.asks < 0 && len(asked) == 0, tc.asks >= 0 && len(asked) > tc.asks:
					t.Fatalf("it asked %d times\n%v", len(asked), h)
				case tc.within > 0 && (next == 0 || next > tc.within):
					t.Fatalf("the next promotion came after %v\n%v", next, h)
				case !tc.another && slices.ContainsFunc(h.Events, func(e Event) bool {
					return e.Kind == PromotionEvent && e.At > at+next
				}):
					t.Fatalf("two nodes were promoted\n%v", h)
				}
			}
		})
	}
}
