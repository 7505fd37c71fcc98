package checker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"redis-is-master/checker/internal/wire"
)

var errUserOnly = errors.New("a user name without a password")

// fail closes the connection and says what went wrong with it.
func (r *Redis) fail(stage Stage, err error) *Error {
	r.Close()
	return classify(stage, r.Address, r.started, r.TLS != nil, err)
}

// Classify says what went wrong between started and now, at a stage of a
// question to a server without TLS.
func Classify(stage Stage, address string, started time.Time, err error) *Error {
	return classify(stage, address, started, false, err)
}

func classify(stage Stage, address string, started time.Time, byTLS bool, err error) *Error {
	e := &Error{Stage: stage, Address: address, Err: err}
	var (
		reply    wire.ReplyError
		protocol wire.ProtocolError
	)
	switch {
	case errors.Is(err, syscall.EAGAIN): // connect to a unix socket
		e.Reason, e.Err, e.Hint = ReasonTimeout, errors.New("the server's queue of new connections is full"),
			timeoutHints[StageReply]
	case wire.TimedOut(err):
		e.Reason, e.Hint = ReasonTimeout, timeoutHints[stage]
		e.Err = fmt.Errorf("no answer after %v", time.Since(started).Round(time.Millisecond))
	case stage == StagePassword:
		e.Reason = ReasonAuth
	case stage == StageDial:
		e.dialing()
	case stage == StageTLS:
		e.handshaking()
	case errors.As(err, &reply):
		e.refused(string(reply))
	case err == wire.ErrSpeaksTLS:
		e.Reason, e.Hint = ReasonTLS, "use --tls, with --cacert for the CA that signed its certificate"
	case wire.RemoteAlert(err):
		e.Reason, e.Hint = ReasonTLS, "the server wants a client certificate that it knows: see --cert and --key"
	case errors.As(err, &protocol):
		e.Reason, e.Hint = ReasonProtocol, "is this the port of a Redis server?"
	case wire.Closed(err):
		e.Reason, e.Err, e.Hint = ReasonProtocol, errHungUp, "see the server's log"
		if !byTLS {
			e.Hint = "does this port want --tls? else see the server's log"
		}
	case byTLS:
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
	if err, ok := e.Err.(ownerError); ok {
		e.Reason, e.Hint = ReasonPermission, err.hint
		return
	}
	if e.Err == wire.ErrManyHosts {
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
		e.Reason, e.Hint = ReasonRefused, "is redis-server running, and does it listen here? "+
			"see bind, port and unixsocket in redis.conf"
	case syscall.EACCES, syscall.EPERM:
		e.Reason, e.Hint = ReasonPermission, "see unixsocketperm in redis.conf, and the groups of this user; "+
			"for a port, what the firewall, SELinux or the unit forbids"
	}
}

func (e *Error) handshaking() {
	e.Reason = ReasonTLS
	if _, ok := errors.AsType[tls.RecordHeaderError](e.Err); ok {
		e.Err, e.Hint = errors.New("the server does not speak TLS"), "leave out --tls, or give its tls-port"
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
		e.Hint = "give the CA that signed the server's certificate with --cacert"
	} else if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		e.Hint = "give a name that is in the server's certificate with --sni"
	} else if _, ok := errors.AsType[x509.CertificateInvalidError](e.Err); ok {
		e.Hint = "see the dates of the server's certificate, and the clock"
	} else if wire.Closed(e.Err) {
		e.Err, e.Hint = errHungUp, "leave out --tls, or give its tls-port; or it is restarting, or has reached maxclients"
	} else if wire.RemoteAlert(e.Err) {
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
	e.Reason, e.Err, e.Hint = ReasonProtocol, errors.New("the server answered with an error that INFO has not"),
		"is INFO renamed or forbidden in redis.conf?"
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
	{wire.SaysMaxClients, ReasonMaxClients, "the server has reached its maximum of clients",
		"see maxclients in redis.conf, and redis-cli client list"},
	{wire.SaysDenied, ReasonPermission, "the server is in protected mode, which refuses other hosts",
		"ask over loopback, or set a password in redis.conf"},
	{"without any password configured", ReasonAuth, "a password was given, and the server has none",
		"give none, or set requirepass in redis.conf"},
	{"no password is set", ReasonAuth, "a password was given, and the server has none",
		"give none, or set requirepass in redis.conf"},
	{"wrong number of arguments for 'auth'", ReasonAuth, "this server is older than Redis 6 and has no users",
		"leave out --user"},
	{"WRONGPASS", ReasonAuth, "wrong user name or password, or the user is disabled",
		"see requirepass in redis.conf, or redis-cli ACL GETUSER"},
	{"invalid password", ReasonAuth, "wrong password", "see requirepass in redis.conf"},
	{"NOAUTH", ReasonAuth, "the server wants a password", "give --password-file FILE, or set REDISCLI_AUTH"},
	{"operation not permitted", ReasonAuth, "the server wants a password",
		"give --password-file FILE, or set REDISCLI_AUTH"},
	{"NOPERM", ReasonPermission, "the user may not run INFO", "redis-cli ACL SETUSER NAME +info"},
	{"LOADING", ReasonLoading, "the data set is still loading", "wait until it is loaded"},
	{"BUSY", ReasonBusy, "a script or function blocks the server", "see SCRIPT KILL and FUNCTION KILL"},
}
