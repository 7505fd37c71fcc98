package checker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A Redis is one node and how to reach it. Set the fields before the first
// [Redis.Probe]; the methods must not be called concurrently.
//
// The connection is kept between probes and made anew when it was lost. A
// probe that fails closes it, so that a late reply is never read as that of a
// later probe. End it by [Redis.Close]: nothing else closes its descriptor.
//
// go-redis logs to standard error by itself; a program that does not want
// this calls logging.Disable of go-redis.
type Redis struct {
	// Network is "tcp" (the default) or "unix".
	Network string
	// Address is host:port or the path of a socket.
	Address string
	// Username is the ACL user; the default user if empty. It needs Password.
	Username string
	// Password is called at every dial, before any network I/O, so that a new
	// password needs no restart. It must honour the context's deadline. Nil
	// means no AUTH.
	Password func(context.Context) (string, error)
	// TLS is called at every dial, so that a new certificate needs no restart.
	// An empty ServerName becomes the host of Address. Nil means no TLS.
	TLS func(context.Context) (*tls.Config, error)

	conn              *conn
	client            *redis.Client
	started, deadline time.Time // of the probe
}

// Probe asks the node for facts, by the deadline of ctx or within
// [DefaultTimeout]; a context that is cancelled earlier ends only what comes
// before the dial. Every error is an [*Error].
//
// A kept connection that turns out to be gone is replaced at once, and the
// question repeated once: the server was restarted, or a Sentinel closed its
// connections while it changed its role.
func (r *Redis) Probe(ctx context.Context) (Observation, error) {
	r.started = time.Now()
	var ok bool
	if r.deadline, ok = ctx.Deadline(); !ok {
		r.deadline = r.started.Add(DefaultTimeout)
	}
	if r.conn != nil && r.conn.socket.quiet() {
		o, err := r.ask("")
		if err == nil || !errors.Is(err, errHungUp) {
			return o, err
		}
	}
	r.Close()
	password, err := r.dial(ctx)
	if err != nil {
		return Observation{}, err
	}
	return r.ask(password)
}

// Close closes the connection, if there is one. A later probe makes a new one.
func (r *Redis) Close() error {
	if r.client == nil {
		return nil
	}
	err := r.client.Close()
	r.conn.socket.Close()
	r.conn, r.client = nil, nil
	return err
}

// dial makes a connection, on which the password is still to be sent.
func (r *Redis) dial(ctx context.Context) (password string, err error) {
	if password, err = r.password(ctx); err != nil {
		return "", r.fail(StagePassword, err)
	}
	config, err := r.tlsConfig(ctx)
	if err != nil {
		return "", r.fail(StageTLS, err)
	}
	network := r.Network
	if network == "" {
		network = "tcp"
	}
	s, err := dial(ctx, network, r.Address, r.deadline)
	if err != nil {
		return "", r.fail(StageDial, err)
	}
	c := &conn{Conn: s, socket: s}
	if config != nil {
		t := tls.Client(s, config)
		if err := t.Handshake(); err != nil {
			s.Close()
			return "", r.fail(StageTLS, err)
		}
		c.Conn = t
	}
	r.conn, r.client = c, newClient(c)
	return password, nil
}

func (r *Redis) password(ctx context.Context) (string, error) {
	if r.Password == nil {
		if r.Username != "" {
			return "", errUserOnly
		}
		return "", nil
	}
	password, err := r.Password(ctx)
	if err == nil && password == "" {
		err = errors.New("the password is empty")
	}
	return password, err
}

// tlsConfig is nil without TLS.
func (r *Redis) tlsConfig(ctx context.Context) (*tls.Config, error) {
	if r.TLS == nil {
		return nil, nil
	}
	config, err := r.TLS(ctx)
	if err != nil || config.ServerName != "" {
		return config, err
	}
	host, _, err := net.SplitHostPort(r.Address)
	config = config.Clone()
	config.ServerName = host
	return config, err
}

// newClient is go-redis on one connection that exists. It is given no
// credentials, for it would take a server that has no password for one that
// accepted it.
func newClient(c net.Conn) *redis.Client {
	spent := false
	client := redis.NewClient(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			if spent {
				return nil, net.ErrClosed
			}
			spent = true
			return c, nil
		},
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              -1, // the deadline is the connection's own
		PoolSize:                 1,
		PipelinePoolSize:         -1,
		ConnMaxIdleTime:          -1,
		ReadBufferSize:           4096,
		WriteBufferSize:          512,
	})
	client.AddHook(noHello{})
	return client
}

// noHello answers the HELLO of go-redis without the server, as one older than
// Redis 6 would: it is a round trip, and RESP2 is what a connection begins
// with.
type noHello struct{}

func (noHello) DialHook(next redis.DialHook) redis.DialHook { return next }

func (noHello) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (noHello) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hello" {
			return next(ctx, cmd)
		}
		cmd.SetErr(replyError("ERR unknown command 'HELLO'"))
		return cmd.Err()
	}
}

// ask puts one question, the same in every probe, on the connection. It goes
// with AUTH in one write if there is a password.
func (r *Redis) ask(password string) (Observation, error) {
	r.conn.begin(r.deadline)
	ctx := context.Background() // the connection has the deadline
	pipe := r.client.Pipeline()
	var auth *redis.Cmd
	switch {
	case password == "":
	case r.Username != "":
		auth = pipe.Do(ctx, "AUTH", r.Username, password)
	default:
		auth = pipe.Do(ctx, "AUTH", password)
	}
	var sections [len(infoSections)]*redis.StringCmd
	for i, name := range infoSections {
		sections[i] = pipe.Info(ctx, name)
	}
	cmds, err := pipe.Exec(ctx)

	if r.conn.err != nil {
		return Observation{}, r.fail(StageReply, r.conn.cause())
	}
	if auth != nil && auth.Err() != nil {
		return Observation{}, r.fail(StageAuth, auth.Err())
	}
	if err != nil {
		return Observation{}, r.fail(StageReply, err)
	}
	if !r.conn.frames.complete(len(cmds)) {
		return Observation{}, r.fail(StageReply, protocolError("more or less came than was asked for"))
	}
	var replies [len(infoSections)]string
	for i, cmd := range sections {
		replies[i] = cmd.Val()
	}
	o, err := parseInfo(replies)
	if err != nil {
		return Observation{}, r.fail(StageReply, protocolError(err.Error()))
	}
	return o, nil
}
