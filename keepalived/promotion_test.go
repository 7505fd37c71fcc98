package keepalived_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
	"redis-is-master/keepalived"
)

// believed is a master with what the Sentinels make of it.
func believed(trust checker.State, epoch uint64, words ...checker.TimedClaim) checker.Observation {
	o := master
	o.Standing = checker.Standing{State: trust, Epoch: epoch, Claims: words}
	return o
}

func named(epoch uint64, here bool) checker.TimedClaim {
	return checker.TimedClaim{Claim: checker.Claim{Hello: checker.Hello{Epoch: epoch}, NamesUs: here}}
}

func TestPromotion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		node checker.Observation
		was  int
		want int
	}{
		{"a replica", replica, 7, 0},
		{"a master that is denied", believed(checker.StateDenied, 8), 7, 0},
		{"a master that is not confirmed", believed(checker.StateUnconfirmed, 8), 7, 0},
		{"confirmed", believed(checker.StateConfirmed, 8, named(8, true)), 0, 8},
		{"confirmed at a later epoch", believed(checker.StateConfirmed, 9, named(9, true)), 8, 9},
		{"confirmed, of Sentinels that were set up anew", believed(checker.StateConfirmed, 0, named(0, true)), 8, 0},
		{"promoted before it is announced", believed(checker.StatePromoted, 7, named(7, false)), 0, 8},
		{"promoted, and some know", believed(checker.StatePromoted, 8, named(7, false), named(8, true)), 0, 8},
		{"promoted, and no Sentinel was heard", believed(checker.StatePromoted, 0), 0, 0},
		{"followed", believed(checker.StateFollowed, 7, named(7, false)), 0, 0},
		{"followed, after a promotion", believed(checker.StateFollowed, 7, named(7, false)), 8, 8},
		{"no Sentinels", believed(checker.StateNoSentinels, 0), 8, 8},
		{"nobody listens", believed("", 0), 0, 0},
		{"epoch 99", believed(checker.StateConfirmed, 99), 98, 99},
		{"epoch 100", believed(checker.StateConfirmed, 100), 99, 0},
		{"promoted at epoch 100", believed(checker.StatePromoted, 99, named(99, false)), 0, 0},
		{"epoch 101", believed(checker.StateConfirmed, 101), 0, 1},
	}
	for _, tt := range tests {
		s := checker.Status{Observation: tt.node, Verdict: checker.Policy{}.Judge(tt.node, nil)}
		if got := keepalived.Promotion(s, tt.was); got != tt.want {
			t.Errorf("%s (%s): %d, want %d", tt.name, s.Verdict.Reason, got, tt.want)
		}
	}
}

// TestPromotionFile: it follows the node, heals, and ends with 0.
func TestPromotionFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "promotion")
	lab.Check(t, os.WriteFile(path, []byte("42\n"), 0o644))
	file, err := keepalived.NewPromotionFile(path, nil)
	lab.Check(t, err)
	if got := content(t, path); got != no {
		t.Errorf("a new daemon begins with %q", got)
	}
	synctest.Test(t, func(t *testing.T) {
		r := runRig(t, file)
		r.reads(no)
		r.becomes(believed(checker.StatePromoted, 6, named(6, false)))
		r.reads("7\n")
		lab.Check(t, os.WriteFile(path, []byte("99\n"), 0o644))
		r.becomes(believed(checker.StateConfirmed, 7, named(7, true)))
		r.pass(time.Second)
		r.reads("7\n")
		r.becomes(believed(checker.StateConfirmed, 12, named(12, true)))
		r.pass(time.Second)
		r.reads("12\n")
		r.becomes(replica)
		r.reads(no)
		r.becomes(believed(checker.StateFollowed, 12, named(12, false)))
		r.reads(no)
		r.becomes(believed(checker.StateConfirmed, 13, named(13, true)))
		r.pass(time.Second)
		r.reads("13\n")
		r.end()
		r.reads(no)
		r.failed()
	})
	alone(t, path)
}

// TestKeptPromotion: a daemon that replaces itself and keeps its answer keeps
// the number, even one that it could not find out anew.
func TestKeptPromotion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "promotion")
	lab.Check(t, os.WriteFile(path, []byte("13\n"), 0o644))
	synctest.Test(t, func(t *testing.T) {
		m := &checker.Monitor{Probe: func(context.Context) (checker.Observation, error) {
			return believed(checker.StateFollowed, 12, named(12, false)), nil
		}}
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		synctest.Wait()
		file := &keepalived.TrackFile{Path: path, Number: keepalived.Promotion}
		running.Go(func() { file.Run(ctx, m) })
		for range 5 {
			synctest.Wait()
			if got := content(t, path); got != "13\n" {
				t.Fatalf("it reads %q", got)
			}
			<-time.After(time.Second)
		}
		end()
		running.Wait()
		if got := content(t, path); got != no {
			t.Errorf("it ends with %q", got)
		}
	})
}

// TestPromotionWithoutRoom: a number of another length fits into the old file.
func TestPromotionWithoutRoom(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=64k")
	path := filepath.Join(dir, "promotion")
	synctest.Test(t, func(t *testing.T) {
		file, err := keepalived.NewPromotionFile(path, nil)
		lab.Check(t, err)
		r := runRig(t, file)
		lab.Check(t, fillBytes(dir))
		for epoch, want := range map[uint64]string{8: "8\n", 42: "42\n", 99: "99\n", 3: "3\n"} {
			r.becomes(believed(checker.StateConfirmed, epoch))
			r.pass(time.Second)
			r.reads(want)
		}
		r.becomes(replica)
		r.reads(no)
		r.behind(false)
		r.failed(true)
	})
}
