package watch

import (
	"errors"
	"sync/atomic"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// A Replacement has the Sentinels replace a master whose process is gone: it carries
// out what a [sentinel.Crash] decides. Set the fields before the first use.
type Replacement struct {
	Confirmer *Confirmer
	// MaxLag is as that of [sentinel.Crash].
	MaxLag int64
	// Listening reports whether a process of this host listens where the node was
	// connected to: [checker.Redis.Listening].
	Listening func() (bool, error)
	// Disabled reports whether the operator has taken the node out: then nobody is
	// asked.
	Disabled func() bool
	// Suspended is as [checker.Monitor.Suspended].
	Suspended func() time.Duration
	// Remember is called before a Sentinel is asked, so that a daemon that is started
	// meanwhile knows of it; and it is waited for.
	Remember func()
	// Changed is called when a Sentinel is asked, and with each result.
	Changed func(checker.FailoverRequest)

	crash      sentinel.Crash
	state      atomic.Pointer[checker.CrashFailover]
	connection int
	seen       bool // the process of that connection listens on this host
	again      *time.Timer
}

// validFor is for how long a Sentinel may be asked after it was decided: a host or a
// process that stood still meanwhile does not know what has happened.
const validFor = 250 * time.Millisecond

// Checked is called after each check, by the goroutine of [checker.Monitor.Run].
func (r *Replacement) Checked(m *checker.Monitor, c checker.Check) {
	o, refused := c.Observation, false
	if e, ok := errors.AsType[*checker.Error](c.Err); ok && e.Reason == checker.ReasonRefused {
		listening, err := r.Listening()
		refused = err == nil && !listening && !r.Disabled()
	}
	if c.Err == nil && (o.Connection != r.connection || !r.seen) {
		listening, err := r.Listening()
		r.connection, r.seen = o.Connection, err == nil && listening
	}
	m.Update(func(now time.Time) checker.Update {
		r.init()
		switch {
		case c.Err == nil:
			r.crash.Answered(sentinel.Answer{Asked: c.Time, Now: now, Observation: o}, c.Suspended, r.seen)
		case refused:
			again, gone := r.crash.Refused(c.Time)
			if !again.IsZero() {
				r.recheck(m, time.Until(again))
			}
			if gone {
				r.Confirmer.Watcher.Ask()
			}
		default:
			r.crash.Silent()
		}
		r.publish(now)
		return checker.Update{}
	})
}

// init must be called under the Monitor's lock.
func (r *Replacement) init() { r.crash.Guard, r.crash.MaxLag = &r.Confirmer.Guard, r.MaxLag }

// recheck has the next check begin early.
func (r *Replacement) recheck(m *checker.Monitor, wait time.Duration) {
	if r.again == nil {
		r.again = time.AfterFunc(wait, m.Wake)
		return
	}
	r.again.Reset(wait)
}

func (r *Replacement) publish(now time.Time) { r.state.Store(new(r.crash.State(now))) }

// State is what is known. It may be called concurrently.
func (r *Replacement) State() checker.CrashFailover {
	if s := r.state.Load(); s != nil {
		return *s
	}
	return checker.CrashFailover{Missing: "no check is done yet"}
}

// told looks what an answer of a Sentinel means. It runs under the Monitor's lock.
func (r *Replacement) told(m *checker.Monitor, now time.Time, event sentinel.Event) {
	r.init()
	if t, ok := event.(sentinel.Told); ok && t.Report.Err == nil {
		r.crash.Refuses(t.Report.Address, t.Report.Lacks(failoverRight))
	}
	before := r.crash.Request()
	r.crash.Follow(now)
	if after := r.crash.Request(); after != before {
		go r.Changed(after)
	}
	r.ask(m, now)
	r.publish(now)
}

// ask asks a Sentinel if it is time. It runs under the Monitor's lock.
func (r *Replacement) ask(m *checker.Monitor, now time.Time) {
	suspended := r.Suspended()
	to, ok := r.crash.Next(now, suspended)
	if !ok {
		return
	}
	r.Confirmer.Guard.On(sentinel.Requested{Now: now, To: to})
	r.crash.Ask(now, to)
	request := r.crash.Request()
	valid := func() bool { return time.Since(now)+r.Suspended()-suspended < validFor }
	go r.Confirmer.Watcher.guard(func() {
		r.Remember()
		r.Confirmer.Watcher.Failover(to, valid, func(result checker.FailoverResult) { r.replied(m, to, result) })
		r.Changed(request)
	})
}

func (r *Replacement) replied(m *checker.Monitor, to sentinel.Watched, result checker.FailoverResult) {
	var request checker.FailoverRequest
	m.Update(func(now time.Time) checker.Update {
		u := r.Confirmer.on(m, now, sentinel.Replied{Now: now, To: to, Result: result})
		r.crash.Replied(now, result)
		request = r.crash.Request()
		r.ask(m, now)
		r.publish(now)
		return u
	})
	if request.Result != checker.FailoverAsked {
		r.Changed(request)
	}
}
