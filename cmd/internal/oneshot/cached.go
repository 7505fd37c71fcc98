package oneshot

import (
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

// ask asks the daemon behind --cached for what it knows.
func (o *options) ask(timeout time.Duration, wanted checker.Role) (d report.Document, err error) {
	lines := 0
	if o.output == "text" && !o.explain {
		lines = report.HeadLines
	}
	c := checker.Check{Time: time.Now()}
	said, err := checker.ReadSocket(o.cached, timeout, lines)
	if err == nil {
		if d, err = report.ReadWire(said); err != nil {
			err = &checker.Error{Reason: checker.ReasonProtocol, Stage: checker.StageReply, Address: o.cached, Err: err}
		}
	}
	c.Duration = time.Since(c.Time)
	switch {
	case err != nil:
		p := checker.Policy{Role: wanted}
		c.Err, c.Verdict = err, p.Judge(checker.Observation{}, err)
		d = report.New(o.cached, p, c)
		d.Hint = "is redis-is-masterd running, of this version, and is this its --socket?"
	case o.alive:
		if d.Reason != checker.ReasonStale {
			d = report.Document{Schema: report.Schema, Answer: checker.Yes, Reason: checker.OK, Detail: "the daemon is alive, and says " + string(d.Reason),
				Address: o.cached, Time: c.Time, Want: d.Want, Rules: []report.Rule{}, Daemon: d.Daemon}
		}
	case d.Want != wanted:
		return d, flags.Errorf("the daemon's --role and --role %s contradict each other: its yes would be none to this question", wanted)
	}
	d.DurationSeconds = c.Duration.Seconds()
	return d, nil
}
