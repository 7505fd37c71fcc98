package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A milestone is a step of a failover, what was measured of it with Redis
// 7.0.15, and by how much the median of the simulated ones may differ.
type milestone struct {
	name        string
	least, most time.Duration // the measured range, or the median twice
	within      time.Duration
	of          func(*History) (time.Duration, bool)
}

// first is when a Sentinel published an event, after the fault.
func first(what string) func(*History) (time.Duration, bool) {
	return nth(what, 0)
}

func nth(what string, n int) func(*History) (time.Duration, bool) {
	return func(h *History) (time.Duration, bool) {
		left := n
		for _, e := range h.Events {
			if e.At >= faultAt && e.Kind == SaidEvent && e.What == what {
				if left--; left < 0 {
					return e.At - faultAt, true
				}
			}
		}
		return 0, false
	}
}

// role is when the Redis of a node got a role; node says which, by the
// promoted one.
func role(what string, node func(promoted, n int) bool) func(*History) (time.Duration, bool) {
	return func(h *History) (time.Duration, bool) {
		promoted := none
		for _, e := range h.Events {
			if e.Kind == PromotionEvent && promoted == none {
				promoted = e.Node
			}
			if promoted != none && e.Kind == RoleEvent && e.What == what && node(promoted, e.Node) {
				return e.At - faultAt, true
			}
		}
		return 0, false
	}
}

func isPromoted(promoted, n int) bool { return n == promoted }
func isOther(promoted, n int) bool    { return n != promoted && n != 0 }
func isOld(_, n int) bool             { return n == 0 }

// since is a step after another.
func since(a, b func(*History) (time.Duration, bool)) func(*History) (time.Duration, bool) {
	return func(h *History) (time.Duration, bool) {
		from, ok1 := a(h)
		to, ok2 := b(h)
		return to - from, ok1 && ok2
	}
}

// contradicted is when the daemon of the old master heard of the new one first.
func contradicted(h *History) (time.Duration, bool) {
	for _, e := range h.Events {
		if e.Node == 0 && e.Kind == AnswerEvent && e.What == heardOther {
			return e.At - faultAt, true
		}
	}
	return 0, false
}

// heardOther is the reason of an ear.
const heardOther = "heard of another"

// An ear says when it hears of another master than its node.
type ear struct {
	Naive
	heard bool
}

func (d *ear) Heard(_ time.Time, _ Hello, names Match, _ bool) {
	d.heard = d.heard || names == NamesOther
}

func (d *ear) Answer(time.Time) Answer {
	if d.heard {
		return Answer{Reason: heardOther}
	}
	return Answer{Reason: "heard of none"}
}

const faultAt = 12 * time.Second

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestDistributions(t *testing.T) {
	flip := role(Master, isPromoted)
	for _, tc := range []struct {
		name  string
		fault Fault
		steps []milestone
	}{
		{"kill -9 of the master, restarted after 14 s", Fault{Kind: KillRedis, For: 14 * time.Second}, []milestone{
			{"+sdown", ms(1040), ms(1090), ms(60), first("+sdown")},
			{"+odown", ms(1211), ms(1211), ms(100), first("+odown")},
			{"elected", ms(1348), ms(1348), ms(150), first("+elected-leader")},
			{"command queued", ms(1481), ms(1481), ms(130), first("+failover-state-wait-promotion")},
			{"role:master", ms(1330), ms(1744), ms(60), flip},
			{"+promoted-slave after that", ms(770), ms(850), ms(150), since(flip, first("+promoted-slave"))},
			{"other replica re-pointed", ms(820), ms(1000), ms(150), since(flip, role(Replica, isOther))},
			{"first +switch-master", ms(855), ms(1050), ms(150), since(flip, first("+switch-master"))},
			{"the leader's +switch-master", ms(1900), ms(1920), ms(250), since(flip, nth("+switch-master", 2))},
			{"demotion after the restart", ms(10300), ms(11500), ms(250), func(h *History) (time.Duration, bool) {
				d, ok := role(Replica, isOld)(h)
				return d - 14*time.Second, ok
			}},
		}},
		{"SENTINEL FAILOVER", Fault{Kind: Planned}, []milestone{
			{"role:master", ms(143), ms(224), ms(40), flip},
			{"+selected-slave before that", ms(57), ms(98), ms(20), since(first("+selected-slave"), flip)},
			{"command queued before that", ms(2), ms(12), ms(5), since(first("+failover-state-wait-promotion"), flip)},
			{"+promoted-slave after that", ms(840), ms(950), ms(60), since(flip, first("+promoted-slave"))},
			{"first +switch-master", ms(900), ms(1010), ms(60), since(flip, first("+switch-master"))},
			{"first contradicting hello", ms(900), ms(1100), ms(80), since(flip, contradicted)},
			{"demotion of the old master", ms(10900), ms(11100), ms(120), since(flip, role(Replica, isOld))},
		}},
	} {
		var b strings.Builder
		fmt.Fprintf(&b, "%s, in ms\n%-30s %14s  %6s %6s %6s %6s\n",
			tc.name, "", "measured", "least", "median", "p90", "most")
		of := make([][]time.Duration, len(tc.steps))
		for seed := range uint64(150) {
			tc.fault.At = faultAt
			h := New(Config{Seed: seed, Length: 40 * time.Second, Faults: []Fault{tc.fault}, WriteEvery: time.Second},
				func(*World, int) Daemon { return &ear{} }).Run()
			for i, m := range tc.steps {
				if d, ok := m.of(h); ok {
					of[i] = append(of[i], d)
				}
			}
		}
		for i, m := range tc.steps {
			all := of[i]
			if len(all) < 140 {
				t.Errorf("%s: %s: only %d of 150 failovers had it", tc.name, m.name, len(all))
				continue
			}
			slices.Sort(all)
			median := all[len(all)/2]
			fmt.Fprintf(&b, "%-30s %6d to %5d ", m.name, m.least.Milliseconds(), m.most.Milliseconds())
			for _, d := range []time.Duration{all[0], median, all[len(all)*9/10], all[len(all)-1]} {
				fmt.Fprintf(&b, " %6d", d.Milliseconds())
			}
			b.WriteByte('\n')
			if median < m.least-m.within || median > m.most+m.within {
				t.Errorf("%s: %s: median %v, measured %v to %v", tc.name, m.name, median, m.least, m.most)
			}
		}
		t.Log("\n" + b.String())
	}
}
