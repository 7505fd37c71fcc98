package main

import (
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel/watch"
)

// replacement asks for a failover when Redis is gone; nil if that is not wanted.
func (d *daemon) replacement(c *watch.Confirmer) *watch.Replacement {
	if !d.failoverOnCrash {
		return nil
	}
	return &watch.Replacement{
		Confirmer: c,
		MaxLag:    int64(d.failoverMaxLag),
		Listening: d.Redis.Listening,
		Suspended: checker.HostSuspended,
		Remember:  func() {},
		Changed:   d.logFailover,
		Disabled: func() bool {
			if d.disableFile == "" {
				return false
			}
			_, disabled := d.disabled()
			return disabled
		},
	}
}

// logFailover logs that a Sentinel was asked, and what came of it.
func (d *daemon) logFailover(r checker.FailoverRequest) {
	log, what := d.logger.Warn, "the failover that was asked for has not happened; the Sentinels will see for themselves"
	switch r.Result {
	case checker.FailoverAsked:
		what = "Redis is gone, so a Sentinel is asked for a failover"
	case checker.FailoverPromoted:
		log, what = d.logger.Info, "the Sentinels have promoted another node"
	case checker.FailoverForbidden:
		log("the user may not ask for a failover", "sentinel", r.Sentinel, "grant", watch.FailoverGrant)
		return
	}
	log(what, "sentinel", r.Sentinel, "master", r.Name, "result", r.Result)
}

// crashOutput lets the replacement see each check, and logs once why no failover
// could be asked for although the node is the master.
func (d *daemon) crashOutput(r *watch.Replacement, m *checker.Monitor) output {
	var since time.Time
	logged := ""
	return output{Run: idle, Checked: func(c checker.Check) {
		r.Checked(m, c)
		missing := r.State().Missing
		switch {
		case c.Verdict.Answer() != checker.Yes || missing == logged:
			since = c.Time
		case c.Time.Sub(since) < settledFor:
		case missing == "":
			d.logger.Info("a failover could be asked for if Redis died")
			logged = ""
		default:
			d.logger.Warn("no failover could be asked for if Redis died", "why", missing, "grant", watch.FailoverGrant)
			logged = missing
		}
	}}
}
