package watch

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// FailoverGrant is what a user needs at a Sentinel beside [SentinelGrant] to ask for
// a failover.
const FailoverGrant = "ACL SETUSER NAME +sentinel|failover +sentinel|master"

// failoverRight is the one of them that is needed for nothing else.
const failoverRight = "+sentinel|failover"

// noSuchMaster is a name that no Sentinel knows: a failover of it is refused, and
// shows whether the user may ask for one.
const noSuchMaster = "redis-is-masterd: may this user ask for a failover?"

// orderWithin is for how long a question waits until its Sentinel's connection is
// free.
const orderWithin = 200 * time.Millisecond

// An order is a failover that one Sentinel is asked for.
type order struct {
	name string
	// valid is asked just before.
	valid func() bool
	done  func(checker.FailoverResult)

	once sync.Once // of who takes it: the connection, or the timer
}

// take runs f unless the order was taken before.
func (o *order) take(f func()) { o.once.Do(f) }

// Failover asks a Sentinel to promote a replica, on the connection on which it is
// asked all else, so that its later answers know of it. Just before, valid must still
// hold. Done is called once, by another goroutine: with [checker.FailoverAsked] if the
// Sentinel accepted.
//
// A question that is not answered in time is taken back: its connection is reset,
// so that TCP does not deliver it later. A Sentinel that hangs and has received it
// carries it out when it wakes.
func (w *Watcher) Failover(to sentinel.Watched, valid func() bool, done func(checker.FailoverResult)) {
	o := &order{name: to.Name, valid: valid, done: done}
	unsent := func() { o.take(func() { o.done(checker.FailoverUnsent) }) }
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		if p.address != to.Address {
			continue
		}
		select {
		case p.orders <- o:
			time.AfterFunc(orderWithin, func() { w.guard(unsent) })
			return
		default:
		}
	}
	go w.guard(unsent)
}

// failover carries out an order. An error ends the connection.
func (d *dialogue) failover(ctx context.Context, o *order) (err error) {
	o.take(func() {
		if !o.valid() {
			o.done(checker.FailoverUnsent)
			return
		}
		linger(d.conn, 0)
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		d.asked = time.Now()
		err = guarded(func() error { return d.Do(ctx, "SENTINEL", "FAILOVER", o.name).Err() })
		result := failoverResult(err)
		if result == checker.FailoverSilent {
			d.conn.Close()
		} else {
			err = nil
			linger(d.conn, -1)
		}
		o.done(result)
	})
	return err
}

// failoverResult is what the reply to SENTINEL FAILOVER means.
//
// Format: sentinelCommand in Redis's sentinel.c.
func failoverResult(err error) checker.FailoverResult {
	said := redis.Error(nil)
	switch {
	case err == nil:
		return checker.FailoverAsked
	case !errors.As(err, &said):
		return checker.FailoverSilent
	case redis.HasErrorPrefix(err, "NOGOODSLAVE"):
		return checker.FailoverNoReplica
	case redis.HasErrorPrefix(err, "INPROG"):
		return checker.FailoverOther
	case redis.IsPermissionError(err):
		return checker.FailoverForbidden
	}
	return checker.FailoverRefused
}

// linger sets what becomes of what was not sent when a connection is closed: with 0
// seconds it is thrown away, with -1 it is sent in the background.
func linger(c net.Conn, seconds int) {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(seconds)
	}
}
