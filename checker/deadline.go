package checker

import (
	"context"
	"sync"
	"time"
)

// deadline is a context with a deadline, and with a timer only if somebody
// waits for it: a timer wakes another thread, ten times a second in a daemon,
// and a probe waits for its socket alone.
type deadline struct {
	context.Context
	at time.Time

	once   sync.Once
	timed  context.Context
	cancel context.CancelFunc
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadline) Done() <-chan struct{} {
	d.once.Do(func() { d.timed, d.cancel = context.WithDeadline(d.Context, d.at) })
	return d.timed.Done()
}

func (d *deadline) Err() error {
	if err := d.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// stop ends the timer, if there is one, and makes none possible later.
func (d *deadline) stop() {
	d.once.Do(func() {
		ctx, cancel := context.WithCancel(d.Context)
		d.timed, d.cancel = ctx, cancel
	})
	d.cancel()
}
