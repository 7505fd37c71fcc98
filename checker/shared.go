package checker

import (
	"sync"
	"sync/atomic"
	"time"
)

// sharedFor is how long a rendering is used while nothing else is known: the
// ages in it are older by that at most.
const sharedFor = 100 * time.Millisecond

// Shared returns a function that renders the status of m: once after each
// check, however many ask. The verdicts in what it returns are those of the
// moment of the call. It may be called concurrently; render is not, and no
// check waits for it.
func Shared[T any](m *Monitor, render func(Status) T) func() T {
	type rendering struct {
		of    moment
		until time.Time
		value T
	}
	var (
		mu     sync.Mutex
		latest atomic.Pointer[rendering]
	)
	return func() T {
		status, _ := m.Status()
		if r := latest.Load(); r != nil && r.of == status.moment() && time.Now().Before(r.until) {
			return r.value
		}
		mu.Lock()
		defer mu.Unlock()
		status, _ = m.Status() // another has rendered meanwhile, or much has happened
		r := latest.Load()
		if r == nil || r.of != status.moment() || !time.Now().Before(r.until) {
			r = &rendering{status.moment(), time.Now().Add(sharedFor), render(status)}
			latest.Store(r)
		}
		return r.value
	}
}

// A moment tells apart two statuses that do not say the same.
type moment struct {
	serial  uint64
	reasons [3]Reason // time alone makes them stale
}

func (s Status) moment() moment {
	return moment{s.serial, [3]Reason{s.For(RoleMaster).Reason, s.For(RoleReplica).Reason, s.For(RoleAny).Reason}}
}
