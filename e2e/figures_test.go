package e2e

import (
	"math"
	"slices"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// TestFigures measures what the Sentinels being asked is worth: -figures 50 makes
// that many planned failovers in each profile that drops the VIP at once, with
// clients that connect anew for each write, and 20 stalls and restarts at most,
// which takes half an hour.
func TestFigures(t *testing.T) {
	lab.Require(t, "haproxy")
	for _, p := range append(slices.DeleteFunc(slices.Clone(profiles), func(p profile) bool { return !p.fences }),
		haproxies...) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, p)
			s.Client.Short(true)
			planned(t, s, p)
			if p.haproxy == "" {
				stalls(t, s, p)
				restarted(t, s)
			}
			s.Close()
		})
	}
}

// promised reports whether the figures are held to what is promised: not those of one
// round, which a busy host may draw out.
func promised() bool { return *figures >= 20 }

func planned(t *testing.T, s *lab.Site, p profile) {
	var pauses, no, both []time.Duration
	var lost, older, most, early, taken int
	for len(pauses) < *figures && taken < *figures {
		lab.Check(t, s.Settle())
		m := s.Master()
		from := time.Now()
		lab.Check(t, find(planning).do(s, m))
		lab.Check(t, s.Settle())
		h, err := handedOver(s, m, from)
		if err != nil {
			t.Log(err)
			taken++
			continue
		}
		pauses, no, both = append(pauses, h.pause), append(no, h.no), append(both, h.both)
		lost, older, most = lost+h.lost, older+h.older, max(most, h.lost)
		if h.no < 0 {
			early++
		}
		t.Log(h)
		older := h.older > 0 && p.haproxy == "" // what an interval of HAProxy's agent may cost is in p.loses
		if promised() && (older || h.lost > p.loses || h.both > 50*time.Millisecond || h.pause > 400*time.Millisecond) {
			t.Errorf("%v\n%s", h, s.Timeline.Text(from))
		}
	}
	n := len(pauses)
	t.Logf("%d planned failovers: %d acknowledged writes lost, at most %d in one, %d of them older than the flip; "+
		"the old node's no before the flip in %d, at %v (median), %v (worst); both yes for %v at most; without an "+
		"acknowledged write for %v (median), %v (p99)", n, lost, most, older, early, quantile(no, .5), quantile(no, 1),
		quantile(both, 1), quantile(pauses, .5), quantile(pauses, .99))
	if promised() && early < n-max(1, n/25) {
		t.Errorf("the old node's no came before the flip in %d of %d only", early, n)
	}
	if p99 := quantile(pauses, .99); promised() && p99 > 400*time.Millisecond {
		t.Errorf("the time without an acknowledged write is %v at p99", p99)
	}
}

func stalls(t *testing.T, s *lab.Site, p profile) {
	n := min(*figures, 20)
	for range n {
		m := s.Master()
		from := time.Now()
		lab.Check(t, stall(s, m))
		lab.Check(t, s.Settle())
		kept(t, s, p, m, from)
	}
	t.Logf("%d stalls of 0.5 to %v with down-after 5000: one that took something would be above", n, longestStall)
}

func restarted(t *testing.T, s *lab.Site) {
	n := min(*figures, 20)
	var all []time.Duration
	for range n {
		m := s.Master()
		lab.Check(t, raiseEpoch(s, m))
		m.Daemon.Stop()
		begun := time.Now()
		lab.Check(t, m.Daemon.Start())
		took, err := yesAfter(s, m, begun)
		lab.Check(t, err)
		all = append(all, took)
		lab.Check(t, s.Settle())
	}
	t.Logf("%d restarts on the true master: yes after %v (median), %v (p99)", n, quantile(all, .5), quantile(all, .99))
	if p99 := quantile(all, .99); promised() && p99 > 300*time.Millisecond {
		t.Errorf("after a restart the yes comes after %v at p99", p99)
	}
}

// quantile is the smallest of the values that at least a share of them does not
// exceed.
func quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)].Round(time.Millisecond)
}
