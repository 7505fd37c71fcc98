package checker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Witness is a server beside the node whose word a policy wants. Its methods
// may be called concurrently.
type Witness interface {
	// Asks reports whether there is anything to ask about what the node said of
	// itself. It does not block.
	Asks(o Observation) bool
	// Ask asks about what the node said of itself, by the deadline of ctx, and
	// returns how to add the answer to an observation; nil adds nothing.
	Ask(ctx context.Context, o Observation) (add func(*Observation))
	// Redial makes the next question use a new connection, with new
	// credentials.
	Redial()
	// Close closes the connections, once pending questions are answered.
	Close()
}

// WithWitnesses returns a probe that asks node first and then, if the policy
// still holds, all witnesses at once, by the same deadline. A witness that does
// not answer does not make the others' answers late.
func WithWitnesses(node ProbeFunc, policy Policy, witnesses ...Witness) ProbeFunc {
	return func(ctx context.Context) (Observation, error) {
		o, err := node(ctx)
		if err != nil || !policy.asksWitnesses(o) {
			return o, err
		}
		at := time.Now().Add(DefaultTimeout)
		if d, ok := ctx.Deadline(); ok {
			at = d
		}
		ctx, cancel := context.WithDeadline(ctx, at.Add(-time.Until(at)/10))
		defer cancel()
		added := make([]func(*Observation), len(witnesses))
		var asking sync.WaitGroup
		for i, w := range witnesses {
			asking.Go(func() { added[i] = w.Ask(ctx, o) })
		}
		asking.Wait()
		for _, add := range added {
			if add != nil {
				add(&o)
			}
		}
		return o, nil
	}
}

// An Upstream asks the master that a replica follows how far ahead it is. It
// is a [Witness]. Set the fields before the first use.
type Upstream struct {
	// Master tells how to reach it; its Address is ignored.
	Master *Redis

	busy   sync.Mutex // held while it is being asked
	redial atomic.Bool
}

// Asks is of [Witness].
func (u *Upstream) Asks(Observation) bool { return true }

// Ask is of [Witness]. Of a node that follows nobody it asks nothing.
func (u *Upstream) Ask(ctx context.Context, o Observation) (add func(*Observation)) {
	master, behind := o.MasterAddr, int64(-1)
	if o.Role == RoleReplica && master != "" {
		behind = u.behind(ctx, o)
	}
	return func(o *Observation) {
		if o.Role == RoleReplica && o.MasterAddr == master {
			o.Behind = behind
		}
	}
}

// behind is how many bytes the replica is behind its master, at least;
// negative if that is not known.
func (u *Upstream) behind(ctx context.Context, o Observation) int64 {
	if !u.busy.TryLock() {
		return -1
	}
	defer u.busy.Unlock()
	if u.redial.Swap(false) || u.Master.Address != o.MasterAddr {
		u.Master.Close()
		u.Master.Address = o.MasterAddr
		u.Master.owner.Store(nil)
	}
	m, err := u.Master.Probe(ctx)
	if err != nil || m.Role != RoleMaster {
		return -1
	}
	return max(m.Offset-o.Offset, 0) // it was asked later, so this is no less than the truth
}

// Redial is of [Witness].
func (u *Upstream) Redial() { u.redial.Store(true) }

// Close is of [Witness].
func (u *Upstream) Close() {
	u.busy.Lock()
	defer u.busy.Unlock()
	u.Master.Close()
}
