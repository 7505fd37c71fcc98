package checker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// deadline is a context with a deadline, and with a timer only if somebody
// waits for it: a timer wakes another thread, ten times a second in a daemon,
// and a probe waits for its socket alone.
type deadline struct {
	context.Context
	at time.Time

	once  sync.Once
	timed atomic.Pointer[timed] // nil as long as nobody has waited
}

type timed struct {
	context.Context
	cancel context.CancelFunc
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadline) Done() <-chan struct{} { return d.wait().Done() }

func (d *deadline) wait() *timed {
	d.once.Do(func() {
		ctx, cancel := context.WithDeadline(d.Context, d.at)
		d.timed.Store(&timed{ctx, cancel})
	})
	return d.timed.Load()
}

// Err agrees with Done for whoever has called it: a channel that is closed
// must come with an error.
func (d *deadline) Err() error {
	if t := d.timed.Load(); t != nil {
		return t.Err()
	}
	if err := d.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// stop ends the wait of those who have asked, if any.
func (d *deadline) stop() {
	if t := d.timed.Load(); t != nil {
		t.cancel()
	}
}
