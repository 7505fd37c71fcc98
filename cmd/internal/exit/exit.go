// Package exit holds the exit codes: a contract with keepalived, cron and shell
// scripts.
package exit

import "redis-is-master/checker"

// The exit codes of both commands. Zero means yes and nothing else for whatever
// asks for the role; for the daemon, and the subcommands that do something, it
// means that it was done.
const (
	Yes     = 0
	No      = 1
	Unknown = 2
	Usage   = 3 // also --help and --version, which are no yes

	OK     = 0
	Failed = 1
)

// Of is the exit code of an answer.
func Of(a checker.Answer) int {
	switch a {
	case checker.Yes:
		return Yes
	case checker.No:
		return No
	}
	return Unknown
}
