package sentinel

import (
	"slices"
	"time"

	"redis-is-master/checker"
)

// process is the record of what the node said of itself.
type process struct {
	asked         time.Time // when the last question was put that was answered
	before        time.Time // the one before it
	runID         string
	role          checker.Role
	masterSince   time.Time // when it was first seen to be master
	connection    int
	kept          bool          // the last two answers came over one connection
	start         time.Time     // when the process was first seen; zero if that was not at its start
	downtime      time.Duration // for how long nothing had answered before that
	followed      string        // the master that it named when it last was a replica
	followsAnew   bool          // it names another one since the last answer
	formerAnswers bool          // that master answers, and is no replica
	followedBack  time.Time     // since when that master follows the node, which is master now
	first         bool          // there was no answer before the last
	late          bool          // and it came long after the watch had begun
	restarted     bool          // the last answer is the first of another process
	uptime, pause time.Duration // at the last answer, and before it
	acknowledged  time.Time     // when a replica was last seen to be there right now
	ackedSince    time.Time     // since when that is so without a pause
	reached       time.Time     // when one was there at the earliest, also where that is seen only a second later
	took          time.Duration // the last answer, from question to reply
	hung          bool          // it did not answer for long, and is the same process
	handingOver   bool          // a FAILOVER is under way, which pauses writes and hellos
}

// observe notes an answer and returns its evidence.
func (p *process) observe(a Answer, gap time.Duration, began time.Time) Evidence {
	o, was := a.Observation, p.role
	p.took = a.Now.Sub(a.Asked)
	p.first, p.pause, p.uptime = p.asked.IsZero(), a.Now.Sub(p.asked)+o.Suspended, o.Uptime
	p.late = p.first && !began.IsZero() && a.Now.Sub(began) > gap
	p.kept = o.Connection == p.connection
	p.restarted = !p.first && (o.RunID != p.runID || o.RunID == "" && !p.kept && o.Uptime <= p.pause)
	watched := !p.first && !p.restarted &&
		(p.pause <= gap || was == checker.RoleReplica && p.pause <= maxPromotionStall)
	if p.restarted {
		if p.start, p.downtime = a.Now, p.pause; o.Uptime > maxFreshUptime {
			p.start = time.Time{}
		}
	}
	p.followsAnew = o.Role == checker.RoleReplica && (o.MasterAddr != p.followed || was == checker.RoleMaster)
	if p.followsAnew {
		p.followed = o.MasterAddr
	}
	if o.Role == checker.RoleMaster && was != checker.RoleMaster {
		p.masterSince = a.Asked
	}
	switch follows := slices.ContainsFunc(o.Followers, func(f string) bool { return !differ(f, p.followed) }); {
	case !follows || o.Role != checker.RoleMaster || o.Failover != noFailover:
		p.followedBack = time.Time{}
	case p.followedBack.IsZero():
		p.followedBack = a.Now
	}
	p.before, p.asked = p.asked, a.Asked
	switch {
	case o.Acknowledged > 0:
		if a.Asked.Sub(p.acknowledged) > holdAcknowledged {
			p.ackedSince = a.Asked
		}
		p.acknowledged, p.reached = a.Asked, a.Asked
	case len(o.Followers) > 0: // one that acknowledges at the end of Redis' second is always a second late
		p.reached = later(p.reached, a.Asked.Add(-time.Second))
	}
	p.handingOver = o.Failover != "" && o.Failover != noFailover
	p.runID, p.role, p.connection, p.formerAnswers = o.RunID, o.Role, o.Connection, o.FormerAnswers
	return Evidence{
		Answered: true,
		Gap:      !watched,
		Flipped:  was == checker.RoleReplica && o.Role == checker.RoleMaster,
	}
}

// holdAfter is how long a confirmation must stand after the doubt that the last
// answer raised.
func (p *process) holdAfter(e Evidence, _ time.Time) time.Duration {
	switch {
	case e.Gap && p.restarted && p.pause <= quickRestart:
		return 0
	case e.Gap && p.first && !p.late && p.uptime >= holdReconnect, !e.Gap && e.InTouch && !e.Superseded:
		return holdAfterWake
	}
	return holdElection
}
