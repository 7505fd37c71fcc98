package e2e

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestChaos draws scenarios at random. The seed that it prints draws the same
// again.
func TestChaos(t *testing.T) {
	t.Parallel()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d rounds; repeat them by make chaos ROUNDS=%[1]d SEED=%d", *rounds, *seed)
	draw := rand.New(rand.NewPCG(*seed, 0))
	p := profiles[0]
	suitable := slices.DeleteFunc(slices.Clone(scenarios), func(sc scenario) bool { return !sc.suits(p) })
	s := start(t, p)
	for range *rounds {
		sc := suitable[draw.IntN(len(suitable))]
		settled := true
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) { settled = sc.run(t, s, p) })
		if !settled {
			s.Close()
			s = start(t, p)
		}
	}
}
