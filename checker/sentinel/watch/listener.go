// Package watch keeps the daemon's long-lived connections about the Sentinels, by
// go-redis. It is apart from package sentinel because the one-shot, which needs
// that one, pays at every exec for what is linked.
package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"redis-is-master/checker"
)

// Channel is where the Sentinels say, every two seconds, whom they take for
// the master.
const Channel = "__sentinel__:hello"

// Grant is what a user lacks who may not subscribe.
const Grant = "ACL SETUSER NAME +subscribe &" + Channel

// A Listener listens to what the Sentinels publish on a Redis node, by a
// subscription of go-redis. The end of its connection is an event of its own: a
// Sentinel that changes the role of a node closes the connection in the same
// transaction, long before it announces anything. Set the fields before
// [Listener.Run].
type Listener struct {
	// Node is the one to listen to; only what tells how to reach it is used.
	Node *checker.Redis
	// Retry is how long after a failed dial the next one begins. A connection
	// that was made and lost is made again at once.
	Retry time.Duration
	// Subscribed is called when a subscription stands; may be nil.
	Subscribed func()
	// Closed is called when a subscription that stood has ended: the node's
	// role was changed, it was restarted, or it died.
	Closed func()
	// Message is called with every message; nil drops them.
	Message func(payload string)
	// Forbidden is called each time the node refuses the subscription to this
	// user, or has no such command; it is tried again after [forbiddenRetry].
	Forbidden func()
}

// forbiddenRetry is after how long a missing right is asked for again.
const forbiddenRetry = 10 * time.Second

// breath is the least time from one dial to the next, for a server that
// accepts every subscription and ends it.
const breath = 10 * time.Millisecond

// dialTimeout bounds the dial and the handshake.
const dialTimeout = time.Second

// Run listens until ctx is done.
func (l *Listener) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		begun := time.Now()
		stood, err := l.listen(ctx)
		wait := l.Retry
		switch {
		case ctx.Err() != nil:
			return nil
		case stood:
			l.Closed()
			wait = breath - time.Since(begun)
		case err != nil && (redis.IsPermissionError(err) || redis.HasErrorPrefix(err, "ERR unknown command")):
			l.Forbidden()
			wait = forbiddenRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// listen makes one subscription, and reports whether it stood before it ended.
func (l *Listener) listen(ctx context.Context) (stood bool, err error) {
	spent := false
	client := redis.NewClient(&redis.Options{
		// A connection is never replaced silently: its end is the event.
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if spent {
				return nil, net.ErrClosed
			}
			spent = true
			return l.dial(ctx)
		},
		CredentialsProviderContext: l.credentials,
		Protocol:                   2,
		DisableIdentity:            true,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:                 -1,
		DialerRetries:              1,
		DialTimeout:                dialTimeout,
		ReadTimeout:                dialTimeout,
		WriteTimeout:               dialTimeout,
		PoolSize:                   1,
		PipelinePoolSize:           -1,
	})
	defer client.Close()
	subscription := client.Subscribe(ctx)
	defer context.AfterFunc(ctx, func() { subscription.Close() })()
	defer subscription.Close()
	reply, err := receive(func() (any, error) {
		if err := subscription.Subscribe(ctx, Channel); err != nil {
			return nil, err
		}
		return subscription.ReceiveTimeout(ctx, dialTimeout)
	})
	if err != nil {
		return false, err
	}
	if s, ok := reply.(*redis.Subscription); !ok || s.Kind != "subscribe" {
		return false, errors.New("no subscription")
	}
	if l.Subscribed != nil {
		l.Subscribed()
	}
	for {
		reply, err := receive(func() (any, error) { return subscription.Receive(ctx) })
		if err != nil {
			return true, err
		}
		m, ok := reply.(*redis.Message)
		if !ok || m.Channel != Channel {
			return true, errors.New("more came than was asked for")
		}
		if l.Message != nil {
			l.Message(m.Payload)
		}
	}
}

// receive calls go-redis, which panics where a server pushes other types than
// Redis does. That is the end of the connection, as any other error.
func receive(f func() (any, error)) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("go-redis: %v", p)
		}
	}()
	return f()
}

func (l *Listener) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := l.Node.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &bounded{Conn: c}, nil
}

// credentials are read at every dial, as the prober's are. go-redis takes a
// server without a password for one that accepted it, which the prober does
// not; here it does no harm.
func (l *Listener) credentials(ctx context.Context) (user, password string, err error) {
	if l.Node.Password == nil {
		return "", "", nil
	}
	password, err = l.Node.Password(ctx)
	return l.Node.Username, password, err
}
