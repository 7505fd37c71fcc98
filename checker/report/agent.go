package report

import (
	"fmt"
	"slices"
	"strings"

	"redis-is-master/checker"
)

// DownWords are the words by which an agent can say that a server is out:
// "down" takes it out, "drain" lets sessions end, "maint" also stops checks.
var DownWords = []string{"down", "drain", "maint"}

// Agent is the line of an HAProxy agent, with its newline: all three
// categories for a yes, because "up" alone undoes neither "drain" nor "maint",
// and one of [DownWords] with the reason else.
//
// Format: agent-check of
// https://docs.haproxy.org/2.6/configuration.html#5.2-agent-check .
func Agent(v checker.Verdict, downWord string) string {
	if v.Answer() == checker.Yes {
		return "up ready 100%\n"
	}
	if !slices.Contains(DownWords, downWord) {
		downWord = DownWords[0]
	}
	if downWord == "drain" {
		downWord = "drain up"
	}
	return shorten(line(fmt.Sprintf("%s # %s %s", downWord, v.Reason, v.Detail)), 200) + "\n"
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}
