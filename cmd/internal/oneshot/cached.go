package oneshot

import (
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/checker/report"
)

// ask asks the daemon behind --cached for what it knows.
func (o *options) ask(timeout time.Duration, wanted checker.Role) report.Document {
	ask := cached.Ask
	if o.output == "text" && !o.explain {
		ask = cached.AskHead
	}
	c := checker.Check{Time: time.Now()}
	d, err := ask(o.cached, timeout, wanted)
	c.Duration = time.Since(c.Time)
	switch {
	case err != nil:
		p := checker.Policy{Role: wanted}
		c.Err, c.Verdict = err, p.Judge(checker.Observation{}, err)
		d = report.New(o.cached, p, c)
		d.Hint = "is redis-is-masterd running, is it of this version, and is this its --socket?"
	case o.alive && d.Daemon != nil && d.Daemon.TrackFile != "":
		d = report.Document{Schema: report.Schema, Answer: checker.Unknown, Reason: checker.ReasonStale,
			Detail: d.Daemon.TrackFile, Address: o.cached, Time: c.Time, Want: d.Want, Rules: []report.Rule{}, Daemon: d.Daemon}
	case o.alive && d.Reason != checker.ReasonStale:
		d = report.Document{Schema: report.Schema, Answer: checker.Yes, Reason: checker.OK,
			Detail: "the daemon is alive, and says " + string(d.Reason), Address: o.cached, Time: c.Time, Want: d.Want,
			Rules: []report.Rule{}, Daemon: d.Daemon}
	}
	d.DurationSeconds = c.Duration.Seconds()
	return d
}
