package main

import (
	"context"
	"time"

	"redis-is-master/checker"
	"redis-is-master/keepalived"
)

// publishTime is how long the outputs have to publish the last no; on a busy host
// that takes more than a moment.
const publishTime = time.Second

// deny runs f. If f panics, every output says no before the process dies.
func (o *options) deny(m *checker.Monitor, f func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		inTime(m.Stop) // does not return if f held the Monitor's lock, but acts all the same
		inTime(o.writeNo)
		time.Sleep(publishTime)
		inTime(o.writeNo) // a write of a 1 may have been under way
	}()
	f()
	returned = true
}

// inTime runs f, and does not wait for it for long: the disk may hang.
func inTime(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(publishTime):
	}
}

// writeNo writes a 0 into the files that keepalived reads.
func (o *options) writeNo() {
	for _, path := range []string{o.trackFile, o.promotionFile} {
		if path != "" {
			(&keepalived.TrackFile{Path: path}).Write(false)
		}
	}
}

// A denyingWitness is one whose panic is no yes either.
type denyingWitness struct {
	checker.Witness
	deny func(f func())
}

// Ask asks the witness in a goroutine of the Monitor.
func (w denyingWitness) Ask(ctx context.Context, o checker.Observation) (add func(*checker.Observation)) {
	w.deny(func() { add = w.Witness.Ask(ctx, o) })
	return add
}
