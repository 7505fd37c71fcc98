package main

import (
	"errors"
	"log/slog"

	"redis-is-master/checker"
)

// credentialsOutput logs that the node or a listed Sentinel refuses the password
// that its next connection would need, and that it accepts it again.
func credentialsOutput(logger *slog.Logger, node string) output {
	logged := make(map[string]string) // by address
	log := func(address string, stale error) {
		now, hint := "", ""
		if e, ok := errors.AsType[*checker.Error](stale); ok {
			now, hint = e.Error(), e.Hint
		}
		switch last := logged[address]; {
		case now == last:
		case now != "":
			logger.Warn("the password is refused, and this connection lives on an older one: the next one will fail",
				"redis", address, "error", now, "hint", hint)
		default:
			logger.Info("the password is accepted again", "redis", address)
		}
		logged[address] = now
	}
	return output{Run: idle, Checked: func(c checker.Check) {
		if c.Err != nil {
			return
		}
		log(node, c.Observation.StaleCredentials)
		for _, a := range c.Observation.Quorum.Answers {
			if a.Err == nil || a.StaleCredentials != nil { // else it may not have answered
				log(a.Address, a.StaleCredentials)
			}
		}
	}}
}
