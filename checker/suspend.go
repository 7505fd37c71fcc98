package checker

import (
	"time"

	"golang.org/x/sys/unix"
)

// HostSuspended is for how long this host was suspended since it was booted, or for
// a guest, as far as its kernel took part. It is for [Monitor.Suspended].
func HostSuspended() time.Duration {
	var all, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(all.Nano() - awake.Nano())
}
