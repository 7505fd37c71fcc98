package checker

import (
	"context"
	"errors"
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
