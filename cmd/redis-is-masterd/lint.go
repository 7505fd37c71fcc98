package main

import (
	"fmt"

	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/keepalived/lint"
)

// lintFile is the subcommand lint: it prints what fails open in a keepalived
// configuration. A hint is no failure.
func lintFile(p process, args []string) int {
	if len(args) != 1 {
		return p.fail(exit.Usage, flags.Errorf("lint needs one FILE, such as /etc/keepalived/keepalived.conf"))
	}
	findings, err := lint.File(lint.ThisHost(), args[0])
	if err != nil {
		return p.fail(exit.Usage, fmt.Errorf("lint: %w", err))
	}
	code := exit.OK
	for _, f := range findings {
		fmt.Fprintln(p.stdout, f)
		if !f.Hint {
			code = exit.Failed
		}
	}
	return code
}
