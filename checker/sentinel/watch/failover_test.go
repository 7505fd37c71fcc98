package watch_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/e2e/lab"
)

// failover asks a Sentinel for a failover and returns what came of it.
func failover(t *testing.T, w interface {
	Failover(sentinel.Watched, func() bool, func(checker.FailoverResult))
}, address string, valid bool) checker.FailoverResult {
	t.Helper()
	results := make(chan checker.FailoverResult, 2)
	w.Failover(sentinel.Watched{Address: address, Name: lab.MasterName}, func() bool { return valid },
		func(r checker.FailoverResult) { results <- r })
	r := next(t, "the result", results)
	select {
	case again := <-results:
		t.Errorf("it is told twice: %s, %s", r, again)
	default:
	}
	return r
}

// TestFailover asks real Sentinels, and each kind of reply is told apart.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 3, lab.Options{})
	w, r := newWatcher(&checker.Redis{})
	w.WantFailover = true
	for _, s := range c.Sentinels {
		w.Know(s.Addr(), lab.MasterName)
	}
	run(t, w)
	for _, s := range c.Sentinels {
		r.until(t, "a Sentinel answers", func() bool { return r.last(s.Addr()).Address != "" })
		r.mu.Lock()
		if a := r.last(s.Addr()); len(a.Refused) > 0 {
			t.Errorf("the default user lacks %v", a.Refused)
		}
		r.mu.Unlock()
	}
	s := c.Sentinels
	if got := failover(t, w, "127.0.0.1:1", true); got != checker.FailoverUnsent {
		t.Errorf("an unknown Sentinel: %s", got)
	}
	if got := failover(t, w, s[0].Addr(), false); got != checker.FailoverUnsent {
		t.Errorf("it is too late: %s", got)
	}
	lab.Check(t, lab.Wait("a failover is accepted", func() (bool, error) {
		return failover(t, w, s[0].Addr(), true) == checker.FailoverAsked, nil
	}))
	if got := failover(t, w, s[0].Addr(), true); got != checker.FailoverOther {
		t.Errorf("while it is under way: %s", got)
	}
	r.until(t, "another node is promoted", func() bool {
		return r.order(s[0].Addr(), sentinel.TryFailover, sentinel.SelectedReplica, sentinel.PromotedReplica)
	})
	lab.Check(t, s[1].Signal(syscall.SIGSTOP))
	begun := time.Now()
	got := failover(t, w, s[1].Addr(), true)
	if got != checker.FailoverSilent && got != checker.FailoverUnsent { // its connection may wait for another answer
		t.Errorf("a Sentinel that hangs: %s", got)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("that took %v", took)
	}
	lab.Check(t, s[1].Signal(syscall.SIGCONT)) // it may carry out now what it has received
	r.until(t, "it answers again", func() bool { return r.last(s[1].Addr()).Time.After(begun.Add(time.Second)) })
}

// TestFailoverForbidden: a user who may not ask for a failover is known beforehand,
// and where there is no replica the Sentinel says so.
func TestFailoverForbidden(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 1, lab.Options{})
	s := c.Sentinels[0]
	s.Must(t, "ACL", "SETUSER", "default", "-sentinel|failover")
	w, r := newWatcher(&checker.Redis{})
	w.WantFailover = true
	w.Know(s.Addr(), lab.MasterName)
	run(t, w)
	r.until(t, "the right is missing", func() bool {
		return slices.Contains(r.last(s.Addr()).Refused, "+sentinel|failover")
	})
	if got := failover(t, w, s.Addr(), true); got != checker.FailoverForbidden {
		t.Errorf("without the right: %s", got)
	}
	s.Must(t, "ACL", "SETUSER", "default", "+sentinel|failover")
	if got := failover(t, w, s.Addr(), true); got != checker.FailoverNoReplica {
		t.Errorf("without a replica: %s", got)
	}
}
