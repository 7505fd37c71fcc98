package sentinel

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"

	"redis-is-master/checker"
)

// A Former asks the former master of a node that was promoted, and not announced
// yet, whether it is still there: if the Sentinel that led the failover has died,
// nobody ever announces the promotion, and the former master goes on. It is a
// [checker.Witness].
//
// It sends no password, for the address is only what the node once followed: any
// answer but that of a replica counts.
type Former struct {
	// TLS is how to reach it, as for [checker.Redis]; nil means no TLS.
	TLS func(context.Context) (*tls.Config, error)

	mu    sync.Mutex // held while it is being asked
	redis checker.Redis
}

// Asks is of [checker.Witness]: only a node that was promoted has a former master.
func (f *Former) Asks(o checker.Observation) bool {
	return o.Role == checker.RoleMaster && o.Standing.Former != ""
}

// Ask is of [checker.Witness].
func (f *Former) Ask(ctx context.Context, o checker.Observation) (add func(*checker.Observation)) {
	former := o.Standing.Former
	if !f.Asks(o) || !f.mu.TryLock() {
		return nil
	}
	defer f.mu.Unlock()
	if f.redis.Address != former {
		f.redis.Close()
		f.redis = checker.Redis{Address: former, TLS: f.TLS}
	}
	answers := f.answers(ctx)
	return func(o *checker.Observation) {
		o.FormerAnswers = answers && o.Role == checker.RoleMaster
	}
}

func (f *Former) answers(ctx context.Context) bool {
	o, err := f.redis.Probe(ctx)
	if err == nil {
		return o.Role == checker.RoleMaster
	}
	e, _ := errors.AsType[*checker.Error](err)
	if e == nil {
		return false
	}
	switch e.Reason {
	case checker.ReasonAuth, checker.ReasonPermission, checker.ReasonLoading, checker.ReasonBusy, checker.ReasonMaxClients:
		return e.Stage != checker.StageDial
	}
	return false
}

// Redial is of [checker.Witness].
func (f *Former) Redial() {}

// Close is of [checker.Witness].
func (f *Former) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.redis.Close()
}
