package checker

import (
	"time"

	"golang.org/x/sys/unix"
)

// HostSuspended is for how long this host was suspended since it was booted; of a
// guest, as far as its kernel took part in that. It is for [Monitor.Suspended].
func HostSuspended() (suspended time.Duration) {
	narrowest := time.Duration(-1)
	for range 5 {
		before, all, after := clock(unix.CLOCK_MONOTONIC), clock(unix.CLOCK_BOOTTIME), clock(unix.CLOCK_MONOTONIC)
		if between := after - before; narrowest < 0 || between < narrowest {
			narrowest, suspended = between, all-before
		}
		if narrowest < 100*time.Microsecond { // the process was not interrupted
			break
		}
	}
	return suspended
}

// clock reads a clock of the kernel; one that it does not have stands still.
func clock(id int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
