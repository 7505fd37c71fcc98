package report

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"redis-is-master/checker"
)

// A State is a Nagios service state and its exit code.
type State int

// The states of https://www.monitoring-plugins.org/doc/guidelines.html .
const (
	StateOK State = iota
	StateWarning
	StateCritical
	StateUnknown
)

func (s State) String() string {
	return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s]
}

// ParseState reads a state that a failure may have, by name or number; OK is
// none.
func ParseState(s string) (State, error) {
	for state := StateWarning; state <= StateUnknown; state++ {
		if strings.EqualFold(s, state.String()) || s == strconv.Itoa(int(state)) {
			return state, nil
		}
	}
	return 0, errors.New("none of warning, critical, unknown")
}

// A Range alerts outside of [Start, End], or inside of it.
//
// Format: "10", "10:", "~:10", "10:20", "@10:20", of the guidelines.
type Range struct {
	Start, End float64
	Inside     bool
	text       string
}

// ParseRange reads a range.
func ParseRange(s string) (Range, error) {
	r := Range{End: math.Inf(1), text: s}
	body, inside := strings.CutPrefix(s, "@")
	r.Inside = inside
	start, end, both := strings.Cut(body, ":")
	if !both {
		start, end = "", body
		if body == "" {
			return r, errors.New("an empty range")
		}
	}
	var err error
	if start == "~" {
		r.Start = math.Inf(-1)
	} else if start != "" {
		if r.Start, err = decimal(start); err != nil {
			return r, err
		}
	}
	if end != "" {
		if r.End, err = decimal(end); err != nil {
			return r, err
		}
	}
	if body == ":" || r.Start > r.End {
		return r, errors.New("a range that begins after its end, or has neither")
	}
	return r, nil
}

func decimal(s string) (float64, error) {
	if strings.Trim(s, "-.0123456789") != "" {
		return 0, errors.New("no number")
	}
	return strconv.ParseFloat(s, 64)
}

// Alerts reports whether v is out of order. What is not known (NaN) is.
func (r Range) Alerts(v float64) bool {
	return math.IsNaN(v) || (v >= r.Start && v <= r.End) == r.Inside
}

func (r Range) String() string { return r.text }

// Thresholds are the ranges of one figure; nil is none.
type Thresholds struct{ Warning, Critical *Range }

func (t Thresholds) state(v float64) State {
	switch {
	case t.Critical != nil && t.Critical.Alerts(v):
		return StateCritical
	case t.Warning != nil && t.Warning.Alerts(v):
		return StateWarning
	}
	return StateOK
}

// Nagios says how a check becomes a service state.
type Nagios struct {
	Replicas Thresholds // of a master, in online replicas
	Lag      Thresholds // of a replica, in seconds since it heard its master
	Timeout  State      // of a timeout; StateOK stands for [StateCritical]
}

// Nagios is one line, and the exit code that says the same. Every answer but
// yes is CRITICAL, a timeout may be what n says.
//
// Format: "REDIS STATE: text | 'label'=value[UOM];warn;crit;min;max", of
// https://www.monitoring-plugins.org/doc/guidelines.html .
func (d Document) Nagios(n Nagios) (string, State) {
	state := StateCritical
	switch {
	case d.Answer == checker.Yes:
		state = StateOK
	case d.Reason == checker.ReasonTimeout && n.Timeout != StateOK:
		state = n.Timeout
	}
	perf := "time=" + strconv.FormatFloat(d.DurationSeconds, 'f', 6, 64) + "s;;;0"
	note := ""
	if o := d.Observation; d.Answer == checker.Yes && o != nil {
		name, value, unit, t := "replicas", float64(o.Replicas), "", n.Replicas
		if o.Role == checker.RoleReplica {
			name, value, unit, t = "lag", math.NaN(), "s", n.Lag
			if o.LastIOSeconds != nil {
				value = *o.LastIOSeconds
			}
		}
		if state = t.state(value); state != StateOK {
			note = fmt.Sprintf("%s is %s: ", name, figure(value, unit))
		}
		perf = fmt.Sprintf("%s=%s;%s;%s;0 %s", name, figure(value, unit), rangeText(t.Warning), rangeText(t.Critical), perf)
	}
	text := strings.ReplaceAll(fmt.Sprintf("%s%s %s: %s", note, d.Address, d.Reason, d.Detail), "|", "/")
	return line(fmt.Sprintf("REDIS %s: %s | %s", state, text, perf)), state
}

func figure(v float64, unit string) string {
	if math.IsNaN(v) {
		return "U"
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + unit
}

func rangeText(r *Range) string {
	if r == nil {
		return ""
	}
	return r.String()
}
