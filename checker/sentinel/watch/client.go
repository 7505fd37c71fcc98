package watch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/wire"
)

// A link is go-redis over one connection to a Sentinel. It is of no use any more
// when that is lost.
type link struct {
	*redis.Client
	address string
	conn    net.Conn
	asked   time.Time // when the dial or the last question began
}

// dial makes a connection within timeout; every reply is waited for that long as
// well. Its errors are [*checker.Error]s. The link is closed when ctx is done, and
// by Close.
func dial(ctx context.Context, node *checker.Redis, timeout time.Duration) (*link, error) {
	l := &link{address: node.Address, asked: time.Now()}
	password := ""
	if node.Password != nil {
		var err error
		if password, err = node.Password(ctx); err == nil && password == "" {
			err = errors.New("the password is empty")
		}
		if err != nil {
			return nil, l.explain(checker.StagePassword, err)
		}
	}
	var err error
	if l.conn, err = l.connect(ctx, node, timeout); err != nil {
		return nil, err
	}
	spent := false
	l.Client = redis.NewClient(&redis.Options{
		// A connection is never replaced silently: its end is the event.
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			if spent {
				return nil, net.ErrClosed
			}
			spent = true
			return &bounded{Conn: l.conn}, nil
		},
		Username:                 node.Username,
		Password:                 password,
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ContextTimeoutEnabled:    true,
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              timeout,
		ReadTimeout:              timeout,
		WriteTimeout:             timeout,
		PoolSize:                 1,
		PipelinePoolSize:         -1,
	})
	return l, nil
}

// Close closes the connection, whoever reads from it.
func (l *link) Close() {
	l.conn.Close()
	l.Client.Close()
}

// keepAlive notices within some seconds that a host is gone: nothing is sent on a
// connection that only listens.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

func (l *link) connect(ctx context.Context, node *checker.Redis, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var config *tls.Config
	if node.TLS != nil {
		var err error
		if config, err = node.TLS(ctx); err != nil {
			return nil, l.explain(checker.StageTLS, err)
		}
	}
	c, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", node.Address)
	if err != nil {
		return nil, l.explain(checker.StageDial, err)
	}
	if config == nil {
		return c, nil
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(node.Address)
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, l.explain(checker.StageTLS, err)
	}
	return secure, nil
}

// explain says in our words what went wrong. What the server wrote is not
// repeated.
func (l *link) explain(stage checker.Stage, err error) error {
	var said redis.Error
	if errors.As(err, &said) {
		err = wire.ReplyError(said.Error())
	}
	e := checker.Classify(stage, l.address, l.asked, err)
	if hint := sentinelHints[e.Reason]; hint != "" {
		e.Hint = hint
	}
	if e.Reason == checker.ReasonPermission && said != nil {
		e.Err = errors.New("the user may not do this at the Sentinel")
	}
	return e
}

// sentinelHints are what to do where the server is a Sentinel.
var sentinelHints = map[checker.Reason]string{
	checker.ReasonRefused:    "is redis-sentinel running, and does it listen there?",
	checker.ReasonTimeout:    "is redis-sentinel hung or stopped, or its port filtered?",
	checker.ReasonAuth:       "see --sentinel-password-file and --sentinel-user",
	checker.ReasonPermission: "redis-cli -p 26379 " + SentinelGrant,
	checker.ReasonProtocol:   "is this the port of a Sentinel, and does it want --sentinel-tls?",
	checker.ReasonTLS:        "see --sentinel-tls, --sentinel-cacert and --sentinel-cert",
}

// guarded calls go-redis, which panics where a server sends other types than a
// real one does. That is the end of the connection, as any other error.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = wire.ProtocolError(fmt.Sprintf("the reply has the wrong types: %.100v", p))
		}
	}()
	return f()
}
