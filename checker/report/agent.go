package report

import (
	"fmt"

	"redis-is-master/checker"
)

// Agent is the line of an HAProxy agent, with its newline. A yes names all three
// categories, because "up" alone undoes neither "drain" nor "maint"; everything
// else is "down" with the reason.
//
// Format: agent-check of
// https://docs.haproxy.org/2.6/configuration.html#5.2-agent-check .
func Agent(v checker.Verdict) string {
	if v.Answer() == checker.Yes {
		return "up ready 100%\n"
	}
	return shorten(line(fmt.Sprintf("down # %s %s", v.Reason, v.Detail)), 200) + "\n"
}
