package sim

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	fromSeed = flag.Uint64("first", 1, "the first seed")
	seeds    = flag.Uint64("seeds", 60, "fixed seeds to attack with")
	attack   = flag.Duration("attack", 0, "how long to go on with new seeds")
)

// TestReal attacks the real daemon: with the same seeds each time, and then with
// new ones. A history that it finds becomes a case of the Guard's tests.
func TestReal(t *testing.T) {
	begun := time.Now()
	report := func(found []Finding) {
		for _, f := range found {
			t.Errorf("%d of %d: %s", f.Times, *seeds, f)
		}
	}
	report(Attack(*fromSeed, *seeds, NewReal, BoundsOf))
	next, n := rand.Uint64()>>1, *seeds
	t.Logf("new seeds from %d on", next)
	for more := true; more && !t.Failed(); more = time.Since(begun) < *attack {
		report(Attack(next, 1, NewReal, BoundsOf))
		next, n = next+1, n+1
	}
	t.Logf("%d histories, %.0f a second", n, float64(n)/time.Since(begun).Seconds())
}

// TestFound repeats drawn histories that once violated an invariant.
func TestFound(t *testing.T) {
	for seed, what := range map[uint64]string{
		1007058: "two masters are named at one epoch, and one of them follows the node",
		1001421: "a host is suspended for less than a second",
	} {
		for _, f := range Attack(seed, 1, NewReal, BoundsOf) {
			t.Errorf("%s: %s", what, f)
		}
	}
}
