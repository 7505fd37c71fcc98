package sentinel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"redis-is-master/checker"
)

// Standing is what the Guard makes of the node now.
func (g *Guard) Standing(now time.Time) checker.Standing {
	s := checker.Standing{State: g.state, LastHello: g.hearing.heard, Claims: g.claims.all(), Asked: g.peers.shown}
	if s.State == "" {
		s.State = checker.StateUnconfirmed
	}
	decides := g.claims.decides(s.State == checker.StateDenied)
	if decides != nil {
		s.Epoch = decides.best.Epoch
	}
	if g.row != nil {
		s.Because = g.row.Sentence
	}
	if s.State == checker.StatePromoted {
		s.Former = g.former()
	}
	s.Detail = g.detail(now, s.State, decides)
	return s
}

func (g *Guard) detail(now time.Time, s checker.State, v *nameView) string {
	ago := func(t time.Time) time.Duration { return max(now.Sub(t), 0).Round(time.Millisecond) }
	switch {
	case s == checker.StateDenied && v != nil:
		return fmt.Sprintf(
			"the Sentinels name %s as master of %s, at epoch %d",
			v.best.Master,
			v.best.Name,
			v.best.Epoch,
		)
	case s == checker.StateConfirmed && v != nil:
		return fmt.Sprintf("the Sentinels name this node as master of %s, at epoch %d", v.best.Name, v.best.Epoch)
	case s == checker.StateFailover:
		return g.moving()
	case s == checker.StateIsolated:
		return fmt.Sprintf("no majority of the Sentinels was in touch for %v, and no replica has acknowledged for %v",
			isolatedAfter, ago(g.process.reached))
	case s == checker.StatePromoted:
		return fmt.Sprintf("promoted %v ago while it was watched", ago(g.promoted))
	case s == checker.StateReplica:
		return "its promotion would be believed at once"
	case s == checker.StateFollowed:
		return "the master that the Sentinels still name follows this node"
	case s == checker.StateNoSentinels:
		return "there is no Sentinel, so its own role decides"
	case s == checker.StateRefused:
		return "found to be master, and this user may not hear whom the Sentinels name"
	case v != nil && !v.confirmedSince.IsZero():
		return g.confirming(now, v)
	case !g.hearing.unresolved.IsZero() && now.Sub(g.hearing.unresolved) < holdReconnect:
		return fmt.Sprintf(
			"found to be master; the Sentinel heard %v ago names a host that cannot be resolved",
			ago(g.hearing.unresolved),
		)
	}
	if g.misses() {
		return "found to be master; the Sentinels that an earlier daemon knew are not heard, and no replica is in touch"
	}
	return fmt.Sprintf(
		"found to be master, and no Sentinel has confirmed it in %v; without any Sentinel it is believed after %v",
		ago(g.doubted),
		holdReconnect,
	)
}

// moving says who promotes whom.
func (g *Guard) moving() string {
	m, by := g.peers.moving()
	switch {
	case m == nil:
		return "a Sentinel has promoted another node"
	case m.node == "":
		return fmt.Sprintf("the Sentinel %s promotes a replica of this node", by)
	}
	return fmt.Sprintf("the Sentinel %s promotes %s", by, m.node)
}

// confirming says how far a confirmation has come.
func (g *Guard) confirming(now time.Time, v *nameView) string {
	wait := g.claims.wait(now, v, g.hold, g.attended(now))
	if wait < 0 {
		return fmt.Sprintf("only the Sentinel of this host names it as master of %s, and no replica is in touch", v.best.Name)
	}
	return fmt.Sprintf("the Sentinels name this node as master of %s; believed if nobody contradicts for %v more",
		v.best.Name, max(wait-now.Sub(v.confirmedSince), 0).Round(time.Millisecond))
}

// decides is the name at the best epoch; of those that name another node, if
// denied.
func (c *claims) decides(denied bool) (best *nameView) {
	for _, v := range c.names {
		if denied && v.best.NamesUs {
			continue
		}
		if best == nil || v.best.Epoch > best.best.Epoch {
			best = v
		}
	}
	return best
}

// all returns every Sentinel's last claim, by name and run id.
func (c *claims) all() (all []checker.TimedClaim) {
	for _, v := range c.names {
		all = append(all, v.said...)
	}
	slices.SortFunc(all, func(a, b checker.TimedClaim) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return strings.Compare(a.Sentinel, b.Sentinel)
	})
	return all
}
