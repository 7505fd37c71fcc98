package checker

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deadline{Context: t.Context(), at: time.Now().Add(time.Second)}
		defer d.stop()
		if at, ok := d.Deadline(); !ok || !at.Equal(d.at) || d.Err() != nil {
			t.Errorf("%v, %v, %v", at, ok, d.Err())
		}
		begun := time.Now()
		<-d.Done()
		if waited := time.Since(begun); waited != time.Second || !errors.Is(d.Err(), context.DeadlineExceeded) {
			t.Errorf("%v after %v", d.Err(), waited)
		}
		// A child of it ends with it.
		e := &deadline{Context: t.Context(), at: time.Now().Add(time.Second)}
		child, cancel := context.WithCancel(e)
		defer cancel()
		<-child.Done()
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Error(child.Err())
		}
		e.stop()
	})
	parent, cancel := context.WithCancel(t.Context())
	d := &deadline{Context: parent, at: time.Now().Add(time.Hour)}
	cancel()
	<-d.Done()
	if !errors.Is(d.Err(), context.Canceled) {
		t.Error(d.Err())
	}
	d.stop()
	// A child that outlives the probe ends with it, and is told why.
	over := &deadline{Context: context.Background(), at: time.Now().Add(time.Hour)}
	child, end := context.WithCancel(over)
	defer end()
	over.stop()
	<-child.Done()
	if !errors.Is(child.Err(), context.Canceled) || !errors.Is(over.Err(), context.Canceled) {
		t.Errorf("%v, %v", child.Err(), over.Err())
	}
}

// BenchmarkDeadline is the CPU time of a check that waits 200 µs in the kernel, as a
// probe does, every 10 ms: with a deadline
// of [context], and with ours. Run it by -benchtime 1000x.
func BenchmarkDeadline(b *testing.B) {
	for name, begin := range map[string]func(at time.Time) (stop func()){
		"context": func(at time.Time) func() {
			_, cancel := context.WithDeadline(context.Background(), at)
			return cancel
		},
		"ours": func(at time.Time) func() {
			return (&deadline{Context: context.Background(), at: at}).stop
		},
	} {
		b.Run(name, func(b *testing.B) {
			ticker := time.NewTicker(10 * time.Millisecond)
			defer ticker.Stop()
			cpu := func() int64 {
				var u syscall.Rusage
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
					b.Fatal(err)
				}
				return u.Utime.Nano() + u.Stime.Nano()
			}
			before, pause := cpu(), syscall.Timespec{Nsec: 200_000}
			for b.Loop() {
				<-ticker.C
				stop := begin(time.Now().Add(500 * time.Millisecond))
				syscall.Nanosleep(&pause, nil)
				stop()
			}
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
