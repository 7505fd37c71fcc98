package checker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

var errUserOnly = errors.New("a user name without a password")

// fail closes the connection and says what went wrong with it.
func (r *Redis) fail(stage Stage, err error) *Error {
	r.Close()
	e := &Error{Stage: stage, Address: r.Address, Err: err}
	var (
		reply    replyError
		protocol protocolError
	)
	switch {
	case errors.Is(err, syscall.EAGAIN): // connect to a unix socket
		e.Reason, e.Err, e.Hint = ReasonTimeout, errors.New("the server's queue of new connections is full"), timeoutHints[StageReply]
	case timedOut(err):
		e.Reason, e.Hint = ReasonTimeout, timeoutHints[stage]
		e.Err = fmt.Errorf("no answer after %v", time.Since(r.started).Round(time.Millisecond))
	case stage == StagePassword:
		e.Reason = ReasonAuth
	case stage == StageDial:
		e.dialing()
	case stage == StageTLS:
		e.handshaking()
	case errors.As(err, &reply):
		e.refused(string(reply))
	case err == errSpeaksTLS:
		e.Reason, e.Hint = ReasonTLS, "use --tls, with --cacert for the CA that signed its certificate"
	case remoteAlert(err):
		e.Reason, e.Hint = ReasonTLS, "the server wants a client certificate that it knows: see --cert and --key"
	case errors.As(err, &protocol):
		e.Reason, e.Hint = ReasonProtocol, "is this the port of a Redis server?"
	case closed(err):
		e.Reason, e.Err, e.Hint = ReasonProtocol, errHungUp, "see the server's log"
		if r.TLS == nil {
			e.Hint = "does this port want --tls? else see the server's log"
		}
	case r.TLS != nil:
		e.Reason, e.Hint = ReasonTLS, "see the server's log"
	default:
		e.Reason, e.Hint = ReasonUnreachable, "see --host, and the routes to it"
	}
	return e
}

var errHungUp = errors.New("the server hung up before it had answered")

var timeoutHints = map[Stage]string{
	StagePassword: "the password file does not end; is it a pipe?",
	StageDial:     "is the host up, and does a firewall drop packets? see --timeout",
	StageTLS:      "does this port speak TLS? else is redis-server hung or stopped? see --timeout",
	StageReply:    "is redis-server hung, stopped, or busy with a slow command? see --timeout",
}

func (e *Error) dialing() {
	e.Reason, e.Hint = ReasonUnreachable, "see --host, and the routes to it"
	if e.Err == errManyHosts {
		e.Hint = "give the address of the one node, or 127.0.0.1"
		return
	}
	if dns, ok := errors.AsType[*net.DNSError](e.Err); ok {
		e.Err, e.Hint = dns, "see --host and the resolver"
		return
	}
	code, ok := errors.AsType[syscall.Errno](e.Err)
	if !ok {
		return
	}
	e.Err = code
	switch code {
	case syscall.ECONNREFUSED, syscall.ENOENT:
		e.Reason, e.Hint = ReasonRefused, "is redis-server running, and does it listen here? see bind, port and unixsocket in redis.conf"
	case syscall.EACCES, syscall.EPERM:
		e.Reason, e.Hint = ReasonPermission, "see unixsocketperm in redis.conf, and the groups of this user; for a port, what the firewall, SELinux or the unit forbids"
	}
}

func (e *Error) handshaking() {
	e.Reason = ReasonTLS
	if h, ok := errors.AsType[*HandshakeError](e.Err); ok {
		e.Err, e.Hint = h.Err, h.Hint
	} else if closed(e.Err) {
		e.Err, e.Hint = errHungUp, "leave out --tls, or give its tls-port; or it is restarting, or has reached maxclients"
	} else if remoteAlert(e.Err) {
		e.Hint = "the server refused: see --cert, --key and its log"
	}
}

// refused classifies an error reply, in words of our own: a server may echo
// what it was sent.
func (e *Error) refused(text string) {
	for _, r := range refusals {
		if strings.Contains(text, r.says) {
			e.Reason, e.Err, e.Hint = r.reason, errors.New(r.meaning), r.hint
			if r.reason == ReasonAuth {
				e.Stage = StageAuth
			}
			return
		}
	}
	e.Reason, e.Err, e.Hint = ReasonProtocol, errors.New("the server answered with an error that INFO has not"), "is INFO renamed or forbidden in redis.conf?"
	if e.Stage == StageAuth {
		e.Reason, e.Err, e.Hint = ReasonAuth, errors.New("the server refused AUTH"), "see the server's log"
	}
}

// refusals are the error replies of Redis 2.8 to 8 that a check can meet. The
// first that matches counts.
var refusals = []struct {
	says          string
	reason        Reason
	meaning, hint string
}{
	{saysMaxClients, ReasonMaxClients, "the server has reached its maximum of clients", "see maxclients in redis.conf, and redis-cli client list"},
	{saysDenied, ReasonPermission, "the server is in protected mode, which refuses other hosts", "ask over loopback, or set a password in redis.conf"},
	{"without any password configured", ReasonAuth, "a password was given, and the server has none", "give none, or set requirepass in redis.conf"},
	{"no password is set", ReasonAuth, "a password was given, and the server has none", "give none, or set requirepass in redis.conf"},
	{"wrong number of arguments for 'auth'", ReasonAuth, "this server is older than Redis 6 and has no users", "leave out --user"},
	{"WRONGPASS", ReasonAuth, "wrong user name or password, or the user is disabled", "see requirepass in redis.conf, or redis-cli ACL GETUSER"},
	{"invalid password", ReasonAuth, "wrong password", "see requirepass in redis.conf"},
	{"NOAUTH", ReasonAuth, "the server wants a password", "give --password-file FILE, or set REDISCLI_AUTH"},
	{"operation not permitted", ReasonAuth, "the server wants a password", "give --password-file FILE, or set REDISCLI_AUTH"},
	{"NOPERM", ReasonPermission, "the user may not run INFO", "redis-cli ACL SETUSER NAME +info"},
	{"LOADING", ReasonLoading, "the data set is still loading", "wait until it is loaded"},
	{"BUSY", ReasonBusy, "a script or function blocks the server", "see SCRIPT KILL and FUNCTION KILL"},
}

const (
	saysMaxClients = "max number of clients reached"
	saysDenied     = "DENIED"
)

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout()
}

// closed reports whether err is the end of a connection.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// remoteAlert reports whether the other side ended TLS with an alert; a
// missing client certificate shows only at the first read.
func remoteAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}
