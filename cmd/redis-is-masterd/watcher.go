package main

import (
	"errors"
	"sync"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
)

// watcher asks the Sentinels; nil where their hellos are not listened to.
func (d *daemon) watcher() *watch.Watcher {
	if d.hello == "off" {
		return nil
	}
	told := &sentinelLog{daemon: d, since: make(map[string]time.Time), said: make(map[string]bool)}
	w := &watch.Watcher{
		Template:     d.Sentinel,
		WantFailover: d.failoverOnCrash,
		KeptOnly:     len(d.Listed) > 0 && d.Sentinel.Password != nil && d.Sentinel.TLS == nil,
		Reported:     told.reported,
		Noticed:      func(sentinel.Notice) {},
		Unreachable:  told.unreachable,
		Forbidden:    told.forbidden,
	}
	for _, address := range d.Listed {
		w.Keep(address, d.Name)
	}
	return w
}

// grant is what a user needs at a Sentinel.
func (l *sentinelLog) grant() string {
	if l.failoverOnCrash {
		return watch.SentinelGrant + "; " + watch.FailoverGrant
	}
	return watch.SentinelGrant
}

// unreachableFor is after how long the log says that a Sentinel cannot be asked: a
// restart takes less.
const unreachableFor = 10 * time.Second

// A sentinelLog says once for each Sentinel why it cannot be asked, and that it can
// be asked again.
type sentinelLog struct {
	*daemon

	mu    sync.Mutex
	since map[string]time.Time // by address: when it could not be asked first
	said  map[string]bool
}

func (l *sentinelLog) reported(r sentinel.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(r.Refused) > 0 {
		l.say(r.Address, "a Sentinel refuses some questions, so less is known of a failover before it happens",
			errors.New("the user lacks a right"), "grant", l.grant())
		return
	}
	if r.Subscribed.IsZero() { // only half of what is wanted
		return
	}
	if l.said[r.Address] {
		l.logger.Info("a Sentinel can be asked again", "sentinel", r.Address)
	}
	delete(l.since, r.Address)
	delete(l.said, r.Address)
}

func (l *sentinelLog) unreachable(address string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch since, known := l.since[address]; {
	case !known:
		if len(l.since) < maxSentinelsLogged {
			l.since[address] = time.Now()
		}
	case time.Since(since) >= unreachableFor:
		l.say(address, "a Sentinel cannot be asked, so only what it publishes counts", err, "hint", hint(err))
	}
}

func (l *sentinelLog) forbidden(address string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(address, "a Sentinel refuses to be asked, so only what it publishes counts", err, "hint", hint(err))
}

// maxSentinelsLogged bounds what is remembered: anybody who may publish hellos can
// make up Sentinels.
const maxSentinelsLogged = 64

// say must be called with mu held.
func (l *sentinelLog) say(address, what string, err error, key, value string) {
	if !l.said[address] && len(l.said) < maxSentinelsLogged {
		l.said[address] = true
		l.logger.Warn(what, "sentinel", address, "error", err, key, value)
	}
}

func hint(err error) string {
	if e, ok := errors.AsType[*checker.Error](err); ok {
		return e.Hint
	}
	return ""
}
