package main

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

// cached asks the daemon behind socket for what it knows: a line as an HAProxy
// agent gives it, and the document. Both must say yes for a yes.
func cached(ctx context.Context, socket string, timeout time.Duration, alive bool, wanted checker.Role) (report.Document, error) {
	var said []byte
	c := checker.Run(ctx, timeout, func(ctx context.Context) (o checker.Observation, err error) {
		said, err = checker.ReadSocket(ctx, socket)
		return o, err
	}, checker.Policy{})
	if c.Err != nil {
		d := report.New(socket, checker.Policy{Role: wanted}, c)
		d.Hint = "is redis-is-masterd running, and is this its --socket?"
		return d, nil
	}
	line, rest, _ := bytes.Cut(said, []byte("\n"))
	var d report.Document
	err := json.Unmarshal(rest, &d)
	up := string(line)+"\n" == report.Agent(checker.Verdict{Reason: checker.OK}, "")
	if err != nil || d.Schema != report.Schema || d.Daemon == nil || d.Answer != d.Reason.Answer() || up != (d.Answer == checker.Yes) {
		c.Verdict = checker.Verdict{Reason: checker.ReasonProtocol, Detail: "this is not what redis-is-masterd says", Hint: "is this the --socket of a redis-is-masterd of the same version?"}
		return report.New(socket, checker.Policy{Role: wanted}, checker.Check{Time: c.Time, Duration: c.Duration, Err: &checker.Error{Reason: checker.ReasonProtocol, Stage: checker.StageReply}, Verdict: c.Verdict}), nil
	}
	if d.Want != wanted && !alive {
		return d, flags.Errorf("the daemon's --role and --role %s contradict each other: its yes would be none to this question", wanted)
	}
	d.DurationSeconds = c.Duration.Seconds()
	if alive && d.Reason != checker.ReasonStale {
		d.Detail = "the daemon is alive, and says " + string(d.Reason) + ": " + d.Detail
		d.Answer, d.Reason, d.Hint = checker.Yes, checker.OK, ""
	}
	return d, nil
}
