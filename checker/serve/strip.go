package serve

import (
	"fmt"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A strip is the states of a span of time up to now, as bars on a line of
// stripWidth.
type strip struct {
	Span  string
	Parts []part
}

type part struct{ Tone, Reason, X, Width, From, Lasted string }

const stripWidth = 1000

// thinnest is the width of a state too short to be seen otherwise: the five
// seconds of a failover count most.
const thinnest = 4

// newStrip draws what the history tells of the span. What was before the
// history begins is left empty.
func newStrip(d report.Document, now time.Time, span time.Duration, name string) strip {
	s := strip{Span: name}
	begin := now.Add(-span)
	add := func(r checker.Reason, from, to time.Time) {
		whole := from
		if from.Before(begin) {
			from = begin
		}
		if !to.After(from) {
			return
		}
		x := float64(from.Sub(begin)) / float64(span) * stripWidth
		width := max(float64(to.Sub(from))/float64(span)*stripWidth, thinnest)
		s.Parts = append(s.Parts, part{tone(r), string(r), fmt.Sprintf("%.2f", min(x, stripWidth-thinnest)),
			fmt.Sprintf("%.2f", width),
			whole.Format("15:04:05"), duration(to.Sub(whole).Seconds())})
	}
	history := d.Daemon.History
	if len(history) == 0 {
		add(d.Reason, d.Daemon.Since, now)
		return s
	}
	// The oldest first, so that a short state lies on the long one before it.
	oldest := history[len(history)-1]
	add(oldest.From, oldest.Time.Add(-time.Duration(oldest.LastedSeconds*float64(time.Second))), oldest.Time)
	for i := len(history) - 1; i > 0; i-- {
		add(history[i].To, history[i].Time, history[i-1].Time)
	}
	// Time alone makes an answer stale, which is no transition.
	last, known := history[0], now
	if d.Reason != last.To {
		known = now.Add(-time.Duration(d.Daemon.AgeSeconds * float64(time.Second)))
	}
	add(last.To, last.Time, known)
	if d.Reason != last.To {
		add(d.Reason, known, now)
	}
	return s
}
