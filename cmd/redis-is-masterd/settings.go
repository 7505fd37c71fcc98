package main

import (
	"log/slog"
	"time"

	"redis-is-master/checker"
)

// settledFor is for how long something must be wrong with the settings of the
// Sentinels until the log says so: they are changed at one after the other.
const settledFor = 10 * time.Second

// A settingsLog says once for each master what is wrong with the settings of its
// Sentinels, again when that has changed, and that it was mended.
type settingsLog struct {
	logger *slog.Logger
	wrong  map[problem]*finding
}

// A problem is what a line of the log is about.
type problem struct {
	kind   checker.Problem
	master string
}

// A finding is what was found last.
type finding struct {
	checker.Misconfiguration // nothing if it is mended
	since                    time.Time
	logged                   string // what the log says; empty if it says that nothing is wrong
}

// settingsOutput logs what is wrong with the settings of the Sentinels.
func settingsOutput(logger *slog.Logger) output {
	l := &settingsLog{logger: logger, wrong: make(map[problem]*finding)}
	return output{Run: idle, Checked: func(c checker.Check) {
		if c.Err == nil {
			l.check(c.Time, c.Observation.Standing.Asked)
		}
	}}
}

func (l *settingsLog) check(now time.Time, asked []checker.Asked) {
	found := make(map[problem]checker.Misconfiguration)
	for _, m := range checker.Misconfigurations(asked) {
		p := problem{m.Problem, m.Master}
		found[p] = m
		if l.wrong[p] == nil {
			l.wrong[p] = &finding{since: now}
		}
	}
	for p, f := range l.wrong {
		m := found[p]
		switch {
		case m != f.Misconfiguration:
			f.Misconfiguration, f.since = m, now
		case m.Detail == "" && f.logged == "":
			delete(l.wrong, p)
		case m.Detail == f.logged || now.Sub(f.since) < settledFor:
		case m.Detail == "":
			l.logger.Info("the settings of the Sentinels are mended", "master", p.master, "problem", p.kind)
			delete(l.wrong, p)
		default:
			l.logger.Warn("the settings of the Sentinels are not safe", "master", p.master, "problem", p.kind,
				"detail", m.Detail, "hint", m.Hint)
			f.logged = m.Detail
		}
	}
}
