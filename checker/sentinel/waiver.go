package sentinel

import (
	"time"

	"redis-is-master/checker"
)

// Waive sets q.Waived where the listed Sentinels cannot have agreed yet on a
// promotion that was watched, and reports whether they must be asked at once:
// their answers are older than the promotion.
func (g *Guard) Waive(now time.Time, q *checker.Quorum) (askNow bool) {
	namesUs, _ := q.NamesUs()
	w := waiver{
		Promoted: !g.promoted.IsZero(),
		Recent:   now.Sub(g.promoted) < holdPendingElection,
		Fresh:    q.Time.After(g.promoted),
		Former:   agreeOn(*q, g.process.followed),
	}
	if namesUs && w.Fresh {
		g.agreed = g.promoted
	}
	w.Agreed = g.agreed.Equal(g.promoted)
	q.Waived = w.holds()
	return w.Promoted && !w.Fresh
}

// A waiver is the evidence for not waiting for the listed Sentinels.
type waiver struct {
	Promoted bool // the node became master while it was watched
	Recent   bool // too lately for the Sentinels to have agreed on it
	Fresh    bool // they were asked since
	Former   bool // a majority names the former master, or this node already, and none a third
	Agreed   bool // a majority has named this node since
}

func (w waiver) holds() bool { return w.Promoted && w.Recent && w.Fresh && w.Former && !w.Agreed }
