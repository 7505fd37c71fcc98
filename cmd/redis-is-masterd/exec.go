package main

import (
	"redis-is-master/checker/hook"
	"redis-is-master/checker/report"
)

// hook is what runs the program of --exec.
func (d *daemon) hook() *hook.Hook {
	return &hook.Hook{Program: d.exec, Address: d.Redis.Address, Environ: without(d.environ, notForPrograms...),
		Changed: func(err error) {
			if err != nil {
				d.logger.Error("the program of --exec has failed, and is run again until it exits 0", "error", err)
			} else {
				d.logger.Info("the program of --exec has exited 0 again")
			}
		}}
}

// notForPrograms are the variables that are for this program alone.
var notForPrograms = []string{"REDISCLI_AUTH", "VALKEYCLI_AUTH", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
	"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "JOURNAL_STREAM", handoverVariable}

// stateOf is for the document.
func stateOf(h *hook.Hook) *report.Exec {
	s := h.State()
	return report.NewExec(s.Done, s.Behind, s.Err)
}
