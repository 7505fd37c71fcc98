// Package doctor says whether a node will do the right thing: what of Redis, the
// Sentinels, the daemon, keepalived, the host and HAProxy is as it should be, and
// what to do about the rest.
//
// [Gather] asks, changes nothing, and returns [Facts]. [Examine] holds them
// against [Checks]; it is pure.
package doctor

import (
	"fmt"
	"slices"
)

// A State is what became of a check.
type State string

// The states. A check that does not apply to a node has none.
const (
	OK      State = "ok"
	Warning State = "warning" // it may be meant so, or could not be told
	Failed  State = "failed"
)

// A Group is what a check is about.
type Group string

// The groups in the order of the output.
const (
	GroupRedis      Group = "redis"
	GroupSentinels  Group = "sentinels"
	GroupDaemon     Group = "daemon"
	GroupKeepalived Group = "keepalived"
	GroupHost       Group = "host"
	GroupHAProxy    Group = "haproxy"
)

// Groups are all of them.
func Groups() []Group {
	return []Group{GroupRedis, GroupSentinels, GroupDaemon, GroupKeepalived, GroupHost, GroupHAProxy}
}

// A Check looks at some of the facts.
type Check struct {
	ID    string
	Group Group
	About string // the paragraph of the manual page: what it looks at, and why

	judge func(Facts) []Result
}

// A Result is one line about one check. All but an OK has a hint, or a command.
type Result struct {
	ID     string `json:"id"`
	Group  Group  `json:"group"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what to do, in words
	// Run mends it if root's shell runs it as it is. What only the operator knows it takes
	// from a variable, as in ${VIP:?the virtual IP}.
	Run string `json:"run,omitempty"`
}

// Checks returns all checks in the order of the output. Their IDs are a closed
// set.
func Checks() []Check {
	return slices.Concat(redisChecks, sentinelChecks, daemonChecks, keepalivedChecks, hostChecks, haproxyChecks)
}

// Examine returns the results of all checks that apply, in the order of
// [Checks].
func Examine(f Facts) (all []Result) {
	for _, c := range Checks() {
		for _, r := range c.judge(f) {
			r.ID, r.Group = c.ID, c.Group
			all = append(all, r)
		}
	}
	return all
}

// Worst is the state of all results together.
func Worst(all []Result) State {
	worst := OK
	for _, r := range all {
		if r.State == Failed || r.State == Warning && worst == OK {
			worst = r.State
		}
	}
	return worst
}

// The judges return one of these.

func tick(format string, args ...any) []Result {
	return []Result{{State: OK, Detail: fmt.Sprintf(format, args...)}}
}

func warn(hint, format string, args ...any) []Result {
	return []Result{{State: Warning, Detail: fmt.Sprintf(format, args...), Hint: hint}}
}

func fail(hint, format string, args ...any) []Result {
	return []Result{{State: Failed, Detail: fmt.Sprintf(format, args...), Hint: hint}}
}

// by adds what to run.
func by(command string, results []Result) []Result {
	results[0].Run = command
	return results
}

// off is the result of a check that does not apply.
var off []Result
