package sim

import (
	"fmt"
	"strings"
)

// A Finding is an invariant that was violated, and the smallest history that
// was found to violate it.
type Finding struct {
	Seed       uint64 // of the drawn history
	Times      int    // how many of the drawn histories violate it
	Config     Config // of the smallest history
	History    *History
	Violations []Violation
}

func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "drawn by seed %d and shrunk", f.Seed)
	for _, fault := range f.Config.Faults {
		fmt.Fprintf(&b, "; at %v %v", rounded(fault.At), fault)
	}
	b.WriteByte('\n')
	for _, v := range f.Violations {
		fmt.Fprintln(&b, v)
	}
	return b.String() + f.History.String()
}

// Attack lets n drawn histories happen, of the seeds from first on, and returns
// one finding for each invariant that any of them violates, in the order of
// [Invariants]. It takes a few milliseconds for each history.
func Attack(first, n uint64, daemon func(*World, int) Daemon, bounds func(Config) Bounds) (found []Finding) {
	seeds, times := map[string]uint64{}, map[string]int{}
	for seed := first; seed < first+n; seed++ {
		h := New(Draw(seed), daemon).Run()
		seen := map[string]bool{}
		for _, v := range h.Violations(bounds(h.Config)) {
			if seen[v.Invariant] {
				continue
			}
			seen[v.Invariant] = true
			if times[v.Invariant]++; times[v.Invariant] == 1 {
				seeds[v.Invariant] = seed
			}
		}
	}
	for _, i := range Invariants() {
		if times[i.Name] == 0 {
			continue
		}
		c := Shrink(Draw(seeds[i.Name]), daemon, bounds, i.Name)
		f := Finding{Seed: seeds[i.Name], Times: times[i.Name], Config: c, History: New(c, daemon).Run()}
		f.Violations = f.History.Violations(bounds(f.History.Config))
		found = append(found, f)
	}
	return found
}
