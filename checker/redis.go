package checker

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A Redis is one node and how to reach it. Set the fields before the first
// [Redis.Probe]; the methods must not be called concurrently.
//
// The connection is kept between probes and made anew when it was lost. A
// probe that fails closes it, so that a late reply is never read as that of a
// later probe. End it by [Redis.Close]: nothing else closes its descriptor.
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
	// TLS is called at every dial, before any network I/O, so that a new
	// certificate needs no restart. Nil means no TLS. Package secure has it.
	TLS func(context.Context) (Handshake, error)

	socket            *socket
	file              unix.Stat_t // of the path, before it was dialled
	conn              net.Conn    // the socket, or TLS over it
	started, deadline time.Time   // of the probe
	dials             int
	spoke             bool // the server has answered on it
	ours              bool // the last on which it had was closed on this side
}

// A Handshake puts TLS over a connection to host. What it takes is bounded by
// the connection's deadline.
type Handshake func(conn net.Conn, host string) (net.Conn, error)

// A HandshakeError is one of a [Handshake] that knows what to do about it.
type HandshakeError struct {
	Err  error
	Hint string
}

func (e *HandshakeError) Error() string { return e.Err.Error() }
func (e *HandshakeError) Unwrap() error { return e.Err }

// Probe asks the node for facts, by the deadline of ctx or within
// [DefaultTimeout]; a context that is cancelled earlier ends only what comes
// before the dial. Every error is an [*Error].
//
// A kept connection that turns out to be gone is replaced at once, and the
// question repeated once: the server was restarted, or a Sentinel closed its
// connections while it changed its role.
func (r *Redis) Probe(ctx context.Context) (o Observation, err error) {
	err = r.do(ctx, infoCommands, func(replies []string) (err error) {
		o, err = parseInfo([len(infoSections)]string(replies))
		return err
	})
	o.Connection, o.Redialled = r.dials, r.ours
	if err == nil {
		r.ours = false
	}
	return o, err
}

// do sends the commands and reads the replies to them, as [Redis.Probe] says.
func (r *Redis) do(ctx context.Context, commands [][]string, read func(replies []string) error) error {
	r.started = time.Now()
	var ok bool
	if r.deadline, ok = ctx.Deadline(); !ok {
		r.deadline = r.started.Add(DefaultTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.deadline)
		defer cancel()
	}
	if r.socket != nil {
		if r.socket.quiet() && r.same() {
			err := r.ask("", commands, read)
			if err == nil || !errors.Is(err, errHungUp) {
				return err
			}
		}
		r.Close()
		r.ours = false
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
	r.ours = r.ours || r.spoke
	r.socket, r.conn, r.spoke = nil, nil, false
	return err
}

// dial makes a connection, on which the password is still to be sent.
func (r *Redis) dial(ctx context.Context) (password string, err error) {
	if password, err = r.password(ctx); err != nil {
		return "", r.fail(StagePassword, err)
	}
	var handshake Handshake
	if r.TLS != nil {
		if handshake, err = r.TLS(ctx); err != nil {
			return "", r.fail(StageTLS, err)
		}
	}
	network := r.Network
	if network == "" {
		network = "tcp"
	}
	if network == "unix" {
		unix.Stat(r.Address, &r.file) // the dial says it if there is none
	}
	r.dials++
	s, err := dial(ctx, network, r.Address, r.deadline)
	if err != nil {
		return "", r.fail(StageDial, err)
	}
	r.socket, r.conn = s, s
	if handshake != nil {
		host, _, _ := net.SplitHostPort(r.Address)
		if r.conn, err = handshake(&records{Conn: s}, host); err != nil {
			return "", r.fail(StageTLS, err)
		}
	}
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

// same reports whether the path still leads to the socket that was dialled,
// and not to that of a server which came after.
func (r *Redis) same() bool {
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
	r.socket.deadline = r.deadline
	room := plainRoom
	if r.TLS != nil {
		room = tlsRoom
	}
	replies, errs, err := exchange(r.conn, commands, room)
	if err != nil {
		return r.fail(StageReply, err)
	}
	for i, err := range errs {
		if err != nil && i < first {
			return r.fail(StageAuth, err)
		}
		if err != nil {
			return r.fail(StageReply, err)
		}
	}
	if err := read(replies[first:]); err != nil {
		return r.fail(StageReply, protocolError(err.Error()))
	}
	r.spoke = true
	return nil
}
