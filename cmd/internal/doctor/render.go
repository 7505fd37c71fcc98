package doctor

import (
	"encoding/json"
	"fmt"
	"strings"

	"redis-is-master/checker/report"
)

// marks are how a state is shown, and its colour.
var marks = map[State][2]string{
	OK:      {"✓", "\x1b[32m"},
	Warning: {"!", "\x1b[33m"},
	Failed:  {"✗", "\x1b[31m"},
}

const plain = "\x1b[0m"

// Text renders results for people: the groups, a line for each result, and below
// each that is no tick what to do.
func Text(all []Result, colour bool) string {
	var b strings.Builder
	mark := func(s State) string {
		if colour {
			return marks[s][1] + marks[s][0] + plain
		}
		return marks[s][0]
	}
	width := 0
	count := make(map[State]int)
	for _, r := range all {
		width = max(width, len(r.ID))
		count[r.State]++
	}
	group := Group("")
	for _, r := range all {
		if r.Group != group {
			if group != "" {
				b.WriteByte('\n')
			}
			group = r.Group
			fmt.Fprintf(&b, "%s\n", group)
		}
		fmt.Fprintf(&b, "  %s %-*s  %s\n", mark(r.State), width, r.ID, report.Line(r.Detail))
		if r.Hint != "" {
			fmt.Fprintf(&b, "    %-*s  do: %s\n", width, "", report.Line(r.Hint))
		}
		if r.Run != "" {
			fmt.Fprintf(&b, "    %-*s  run: %s\n", width, "", report.Line(r.Run))
		}
	}
	fmt.Fprintf(&b, "\n%s %s\n", mark(Worst(all)), summary(count))
	return b.String()
}

// summary counts the states in words.
func summary(count map[State]int) string {
	parts := []string{fmt.Sprintf("%d ok", count[OK])}
	for _, s := range []struct {
		state     State
		one, many string
	}{{Warning, "warning", "warnings"}, {Failed, "failure", "failures"}} {
		switch n := count[s.state]; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+s.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, s.many))
		}
	}
	return strings.Join(parts, ", ")
}

// Schema is the version of [JSON]'s document; within it fields are only added.
const Schema = 1

// JSON renders results as one line for tools.
func JSON(all []Result) string {
	lines := make([]Result, 0, len(all))
	for _, r := range all {
		r.Detail, r.Hint, r.Run = report.Line(r.Detail), report.Line(r.Hint), report.Line(r.Run)
		lines = append(lines, r)
	}
	b, err := json.Marshal(struct {
		Schema int      `json:"schema"`
		State  State    `json:"state"`
		Checks []Result `json:"checks"`
	}{Schema, Worst(all), lines})
	if err != nil {
		return "" // there is nothing in it that cannot be marshalled
	}
	return string(b) + "\n"
}
