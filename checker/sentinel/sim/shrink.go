package sim

import (
	"slices"
	"time"
)

// tries is with how many seeds a smaller history is tried: what is left out
// changes what is drawn after it.
const tries = 12

// Shrink finds a smaller history that violates the same invariant: fewer
// faults, then shorter ones, then a shorter end. It returns c itself if it
// finds none.
func Shrink(c Config, daemon func(*World, int) Daemon, bounds func(Config) Bounds, invariant string) Config {
	violates := func(c Config) (Config, bool) {
		for i := range tries {
			d := c
			d.Seed += uint64(i)
			h := New(d, daemon).Run()
			for _, v := range h.Violations(bounds(h.Config)) {
				if v.Invariant == invariant {
					return d, true
				}
			}
		}
		return c, false
	}
	for smaller := true; smaller; {
		smaller = false
		for i := len(c.Faults) - 1; i >= 0 && len(c.Faults) > 1; i-- {
			d := c
			d.Faults = slices.Delete(slices.Clone(c.Faults), i, i+1)
			if d, ok := violates(d); ok {
				c, smaller = d, true
			}
		}
	}
	for i := range c.Faults {
		for c.Faults[i].For > 100*time.Millisecond {
			d := c
			d.Faults = slices.Clone(c.Faults)
			d.Faults[i].For /= 2
			d, ok := violates(d)
			if !ok {
				break
			}
			c = d
		}
	}
	return shorten(c, violates)
}

// shorten makes the history plainer and ends it earlier.
func shorten(c Config, violates func(Config) (Config, bool)) Config {
	for _, plainer := range []func(*Config){
		func(c *Config) { c.Sentinels = 3 },
		func(c *Config) { c.HostNames = false },
		func(c *Config) { c.Blind = 0 },
		func(c *Config) { c.Profile = ProfileTrackFile },
		func(c *Config) { c.PromotionFile = false },
		func(c *Config) { c.DownAfter = time.Second },
		func(c *Config) { c.FailoverTimeout = 10 * time.Second },
	} {
		d := c
		plainer(&d)
		if d, ok := violates(d); ok {
			c = d
		}
	}
	for c.Length > 10*time.Second {
		d := c
		d.Length -= 5 * time.Second
		d, ok := violates(d)
		if !ok {
			break
		}
		c = d
	}
	return c
}
