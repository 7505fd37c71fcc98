package checker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker/internal/wire"
)

// A Redis is one node and how to reach it. Set the fields before the first
// [Redis.Probe]; the methods must not be called concurrently.
//
// The connection is kept between probes, and replaced when it was lost. A
// probe that fails closes it, so that a late reply is never taken for the reply
// to a later question. Call [Redis.Close] at the end: nothing else closes the
// descriptor.
type Redis struct {
	// Network is "tcp" (the default) or "unix".
	Network string
	// Address is host:port or the path of a socket.
	Address string
	// Username is the ACL user; the default user if empty. It needs Password.
	Username string
	// Password is called at every dial, before any network I/O, so that a new
	// password needs no restart; and once a second while a connection is kept. It
	// must honour the context's deadline, and may be called concurrently. Nil
	// means no AUTH.
	Password func(context.Context) (string, error)
	// PasswordHint says what else to look at where the password is refused. May
	// be empty.
	PasswordHint string
	// TLS is called at every dial, before any network I/O, so that a new
	// certificate needs no restart. An empty ServerName in what it returns
	// means the host of Address. Nil means no TLS.
	TLS func(context.Context) (*tls.Config, error)
	// Owner is the user who must be the one that listens: no password is sent to
	// another's listener, nor to one of which that cannot be told. Nil means the
	// one who listened when the node had answered, or root; where that could not
	// be told, anybody.
	Owner *uint32

	socket            *wire.Socket
	peer              wire.Endpoint // of the last connection that was made
	file              unix.Stat_t   // of the path, before it was dialled
	conn              net.Conn      // the socket, or TLS over it
	started, deadline time.Time     // of the probe
	dials             int
	answered          bool // the server has answered on this connection
	closedByUs        bool // we closed the last connection on which it had answered

	owner      atomic.Pointer[uint32] // who listened when the node had answered; nil if not known
	ownerAsked int                    // the connection on which that was asked
	password   renewal
}

// Probe asks the node for facts, by the deadline of ctx or within
// [DefaultTimeout]; a context that is cancelled earlier ends only what comes
// before the dial. Every error is an [*Error].
//
// A kept connection that turns out to be gone is replaced at once, and the
// question repeated once: the server was restarted, or a Sentinel closed its
// connections while it changed its role.
func (r *Redis) Probe(ctx context.Context) (o Observation, err error) {
	err = r.Do(ctx, infoCommands, func(replies []string) (err error) {
		o, err = parseInfo([len(infoSections)]string(replies))
		return err
	})
	o.Connection, o.Redialled, o.StaleCredentials = r.dials, r.closedByUs, r.StaleCredentials()
	if err == nil {
		r.closedByUs = false
	}
	return o, err
}

// Do sends the commands and has read judge the replies, with the connection,
// the deadline and the errors of [Redis.Probe]. An error of read is one of the
// protocol.
func (r *Redis) Do(ctx context.Context, commands [][]string, read func(replies []string) error) error {
	r.started = time.Now()
	var ok bool
	if r.deadline, ok = ctx.Deadline(); !ok {
		r.deadline = r.started.Add(DefaultTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.deadline)
		defer cancel()
	}
	if r.socket != nil {
		if r.socket.Quiet() && r.samePath() {
			r.RememberOwner()
			err := r.ask(r.renewed(), commands, read)
			if err == nil || !errors.Is(err, errHungUp) {
				return err
			}
		}
		r.Close()
		r.closedByUs = false
	}
	password, err := r.dial(ctx)
	if err != nil {
		return err
	}
	return r.ask(password, commands, read)
}

// Close closes the connection, if there is one. A later probe makes a new one.
func (r *Redis) Close() error {
	if r.socket == nil {
		return nil
	}
	err := r.socket.Close()
	r.closedByUs = r.closedByUs || r.answered
	r.socket, r.conn, r.answered = nil, nil, false
	return err
}

// dial makes a connection, on which the password is still to be sent.
func (r *Redis) dial(ctx context.Context) (password string, err error) {
	if password, err = r.readPassword(ctx); err != nil {
		return "", r.fail(StagePassword, err)
	}
	r.password = renewal{readAt: r.started}
	var config *tls.Config
	if r.TLS != nil {
		if config, err = r.TLS(ctx); err != nil {
			return "", r.fail(StageTLS, err)
		}
	}
	if r.Network == "unix" {
		unix.Stat(r.Address, &r.file) // the dial says it if there is none
	}
	r.dials++
	s, err := r.connect(ctx, r.deadline)
	if err != nil {
		return "", r.fail(StageDial, err)
	}
	r.use(s)
	if config != nil {
		host, _, _ := net.SplitHostPort(r.Address)
		if r.conn, err = wire.Secure(s, config, host); err != nil {
			return "", r.fail(StageTLS, err)
		}
	}
	return password, nil
}

// use goes on with a new connection. One that was reset at once, as by a process that is
// being killed, does not tell where it was.
func (r *Redis) use(s *wire.Socket) {
	r.socket, r.conn = s, s
	if peer, ok := s.Peer(); ok {
		r.peer = peer
	}
}

// connect dials, and refuses another user's listener.
func (r *Redis) connect(ctx context.Context, deadline time.Time) (*wire.Socket, error) {
	s, err := wire.Dial(ctx, cmp.Or(r.Network, "tcp"), r.Address, deadline)
	if err != nil {
		return nil, err
	}
	if err := r.checkOwner(s); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Connect makes a connection of the caller's own, for what is no probe: by TLS if
// that is wanted, and without AUTH. It needs a deadline. It may be called
// concurrently with the other methods. Its errors are [*Error]s.
func (r *Redis) Connect(ctx context.Context) (net.Conn, error) {
	started := time.Now()
	deadline, _ := ctx.Deadline()
	fail := func(stage Stage, err error) (net.Conn, error) {
		return nil, classify(stage, r.Address, started, r.TLS != nil, err)
	}
	var config *tls.Config
	if r.TLS != nil {
		var err error
		if config, err = r.TLS(ctx); err != nil {
			return fail(StageTLS, err)
		}
	}
	s, err := r.connect(ctx, deadline)
	if err != nil {
		return fail(StageDial, err)
	}
	c, err := s.Conn()
	if err != nil {
		return fail(StageDial, err)
	}
	if config == nil {
		return c, nil
	}
	host, _, _ := net.SplitHostPort(r.Address)
	secure := tls.Client(c, wire.Expect(config, host))
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return fail(StageTLS, err)
	}
	return secure, nil
}

func (r *Redis) readPassword(ctx context.Context) (string, error) {
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

// samePath reports whether the path still leads to the socket that was
// dialled, and not to that of a later server.
func (r *Redis) samePath() bool {
	if r.Network != "unix" {
		return true
	}
	var now unix.Stat_t
	return unix.Stat(r.Address, &now) == nil && now.Dev == r.file.Dev && now.Ino == r.file.Ino
}

// ask puts one question on the connection. It goes with AUTH in one write if
// there is a password.
func (r *Redis) ask(password string, commands [][]string, read func(replies []string) error) error {
	first := 1
	switch {
	case password == "":
		first = 0
	case r.Username != "":
		commands = append([][]string{{"AUTH", r.Username, password}}, commands...)
	default:
		commands = append([][]string{{"AUTH", password}}, commands...)
	}
	r.socket.Deadline = r.deadline
	replies, errs, err := wire.Exchange(r.conn, commands)
	if err != nil {
		return r.fail(StageReply, err)
	}
	if first == 1 {
		if err := r.authenticated(password, errs[0]); err != nil {
			return err
		}
	}
	for _, err := range errs[first:] {
		if err != nil {
			return r.refused(StageReply, err)
		}
	}
	if err := read(replies[first:]); err != nil {
		return r.fail(StageReply, wire.ProtocolError(err.Error()))
	}
	r.answered = true
	return nil
}
