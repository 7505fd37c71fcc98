package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Draw draws a history: mostly short distances between its faults, for what
// happens inside of a failover is what goes wrong.
func Draw(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(d ...time.Duration) time.Duration { return d[r.IntN(len(d))] }
	c := Config{
		Seed: seed, Sentinels: []int{3, 3, 3, 5}[r.IntN(4)], DownAfter: pick(time.Second, 2*time.Second, 5*time.Second),
		FailoverTimeout: pick(3*time.Second, 6*time.Second, 10*time.Second),
		SyncTime:        pick(100*time.Millisecond, 500*time.Millisecond, 3*time.Second),
		HostNames:       r.IntN(5) == 0,
		Profile:         []Profile{ProfileTrackFile, ProfileTrackFile, ProfileWeight, ProfileScript}[r.IntN(4)],
		Version:         []string{"6.0.16", "7.0.15", "8.0.2", "valkey 8.1.1", "valkey 9.1.2"}[r.IntN(5)],
		PromotionFile:   r.IntN(2) == 0,
		WriteEvery:      50 * time.Millisecond,
		Advert:          pick(10*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond),
		UntilSettled:    true,
	}
	c.Watch = seed%3 > 0 && c.Profile != ProfileScript // which asks for itself
	c.CrashFailover = c.Watch && seed%2 == 0
	at := 5*time.Second + time.Duration(r.Int64N(int64(3*time.Second)))
	planned := time.Duration(0)
	for range 1 + r.IntN(5) {
		f := drawFault(r, c)
		if f.Kind == Planned || f.Kind == Coordinated || f.Kind == HandFailover {
			// Operators who race each other get what they ask for: two Sentinels
			// that are told at once to fail over promote two nodes at one epoch,
			// and disagree for good.
			at = max(at, planned)
			planned = at + c.FailoverTimeout
		}
		f.At = at
		c.Faults = append(c.Faults, f)
		at += logarithmic(r, time.Millisecond, 10*time.Second)
		if r.IntN(3) == 0 { // the next one after this one's end
			at += min(f.For, 20*time.Second)
		}
	}
	c.Faults = append(c.Faults, drawReloads(seed, c.Faults)...)
	last := at
	for _, f := range c.Faults {
		last = max(last, f.At+f.For)
	}
	c.Length = last + 40*time.Second
	if c.Watch && r.IntN(3) == 0 { // some daemons reach some of the Sentinels
		c.Blind = r.Uint64()
		if r.IntN(2) == 0 { // or all reach most of them
			c.Blind &= r.Uint64() & r.Uint64()
		}
	}
	return c
}

// drawReloads draws upgrades and restarts of the daemons, each while something else
// happens. They have random numbers of their own: the rest of a history is as without them.
func drawReloads(seed uint64, others []Fault) (faults []Fault) {
	for i, kind := range []FaultKind{ReloadDaemon, RestartDaemon} {
		r := rand.New(rand.NewPCG(seed, 3+uint64(i)))
		for range r.IntN(5 - 2*i) {
			f := Fault{Kind: kind, Node: []int{OnMaster, OnReplica, OnOther}[r.IntN(3)],
				At:  others[r.IntN(len(others))].At + logarithmic(r, time.Millisecond, 10*time.Second),
				For: logarithmic(r, 10*time.Millisecond, 80*time.Millisecond)}
			faults = append(faults, f)
		}
	}
	return faults
}

// logarithmic draws a duration whose logarithm is evenly distributed.
func logarithmic(r *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), r.Float64()))
}

// A draw is a fault and how often it is drawn.
type draw struct {
	kind   FaultKind
	weight int
	most   time.Duration // of its duration
}

// Rename is not drawn: a node that the Sentinels were told to forget never hears
// of another master again.
var draws = []draw{
	{KillRedis, 14, 20 * time.Second},
	{HangRedis, 10, 15 * time.Second},
	{SlowDisk, 3, 30 * time.Second},
	{NoRewrite, 2, 30 * time.Second},
	{BusyScript, 2, 12 * time.Second},
	{Misconf, 2, 20 * time.Second},
	{PauseWrites, 2, 8 * time.Second},
	{PauseAll, 1, 5 * time.Second},
	{PromoteByHand, 2, 0},
	{DemoteByHand, 1, 0},
	{HandFailover, 3, 0},
	{KillSentinel, 4, 20 * time.Second},
	{HangSentinel, 4, 10 * time.Second},
	{ResetSentinel, 1, 0},
	{Planned, 14, 0},
	{CrashAt, 6, 0},
	{OtherElection, 2, 0},
	{Isolate, 8, 30 * time.Second},
	{Deaf, 3, 15 * time.Second},
	{Mute, 3, 15 * time.Second},
	{CutPair, 4, 15 * time.Second},
	{Loss, 3, 15 * time.Second},
	{Delay, 2, 15 * time.Second},
	{InterfaceDown, 2, 15 * time.Second},
	{PowerOff, 3, 20 * time.Second},
	{StunHost, 4, 10 * time.Second}, // or suspended
	{KillDaemon, 4, 3 * time.Second},
	{HangDaemon, 2, 5 * time.Second},
	{NoResolver, 1, 10 * time.Second},
}

func drawFault(r *rand.Rand, c Config) Fault {
	total := 0
	for _, d := range draws {
		total += d.weight
	}
	n := r.IntN(total)
	var d draw
	for _, d = range draws {
		if n -= d.weight; n < 0 {
			break
		}
	}
	on := []int{OnMaster, OnMaster, OnMaster, OnReplica, OnOther, OnLeader}
	f := Fault{Kind: d.kind, Node: on[r.IntN(len(on))], Other: OnReplica}
	if d.most > 0 { // short ones are as likely as long ones
		f.For = logarithmic(r, 10*time.Millisecond, d.most)
	}
	switch f.Kind {
	case KillRedis, PowerOff:
		f.AsMaster = r.IntN(4) == 0 && f.Node == OnMaster
		f.Extra = time.Duration(r.Int64N(int64(2*time.Second))) / time.Duration(1+r.IntN(20))
	case StunHost:
		if r.IntN(2) == 0 {
			f.Kind = SuspendHost
		}
	case SlowDisk:
		f.Extra = time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
	case Delay:
		f.Extra = time.Duration(r.Int64N(int64(500 * time.Millisecond)))
	case CrashAt:
		f.Step = []string{CrashAfterElection, CrashAfterSelection, CrashAfterCommand, CrashAfterPromotion}[r.IntN(4)]
	case Planned:
		f.Node = r.IntN(c.Sentinels)
		if c.Version == "valkey 9.1.2" && r.IntN(2) == 0 {
			f.Kind = Coordinated
		}
	case PromoteByHand, DemoteByHand:
		f.Node, f.Other = OnOther, OnReplica
	case HandFailover:
		f.Node = OnMaster
	case CutPair:
		f.Node, f.Other = OnMaster, OnReplica
	}
	return f
}
