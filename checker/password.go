package checker

import (
	"context"
	"strings"
	"time"

	"redis-is-master/checker/internal/wire"
)

// How often the password of a kept connection is read anew, and after how long
// it is sent anew even if it is the same. Redis notes every wrong one in its ACL
// log.
const (
	rereadPassword = time.Second
	resendPassword = 30 * time.Second
)

// A renewal keeps the password of a connection up to date. A connection stays
// authenticated when the password is changed on the server, so that a file that
// was forgotten would show when the next failover closes all connections at once.
type renewal struct {
	reading chan reading // nil if none is under way
	readAt  time.Time    // when the last reading began
	sent    string       // on this connection; empty to send the next one anyway
	sentAt  time.Time
	stale   error // see Observation.StaleCredentials
}

// A reading is a result of [Redis.Password].
type reading struct {
	password string
	err      error
}

// StaleCredentials is that of an [Observation], for who calls [Redis.Do].
func (r *Redis) StaleCredentials() error { return r.password.stale }

// renewed returns the password that is to be sent on a kept connection, empty for
// none. It does not block: the file is read beside the checks.
func (r *Redis) renewed() string {
	if r.Password == nil {
		return ""
	}
	p := &r.password
	select {
	case got := <-p.reading:
		p.reading = nil
		if got.err != nil {
			p.sent, p.stale = "", classify(StagePassword, r.Address, p.readAt, r.TLS != nil, got.err)
		} else if got.password != p.sent || r.started.Sub(p.sentAt) >= resendPassword {
			return got.password
		}
	default:
		if p.reading == nil && r.started.Sub(p.readAt) >= rereadPassword {
			done := make(chan reading, 1)
			p.reading, p.readAt = done, r.started
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), DefaultTimeout)
				defer cancel()
				password, err := r.readPassword(ctx)
				done <- reading{password, err}
			}()
		}
	}
	return ""
}

// authenticated takes the reply to AUTH. A refusal ends the probe on a new
// connection; a kept one stays as it was, from Redis 6 on.
func (r *Redis) authenticated(password string, refusal error) error {
	r.password.sent, r.password.sentAt = password, r.started
	if refusal == nil {
		r.password.stale = nil
		return nil
	}
	if !r.answered {
		err := r.refused(StageAuth, refusal)
		err.Hint = r.passwordHint(password, err)
		return err
	}
	if err := classify(StageAuth, r.Address, r.started, r.TLS != nil, refusal); err.Reason == ReasonAuth {
		err.Hint = r.passwordHint(password, err)
		r.password.stale = err
	}
	return nil
}

// passwordHint adds to a hint what may be wrong with a password that was refused.
func (r *Redis) passwordHint(password string, err *Error) string {
	hints := []string{err.Hint}
	if err.Reason != ReasonAuth || err.Hint == sentinelHint {
		return err.Hint
	}
	if strings.HasPrefix(password, "\ufeff") {
		hints = append(hints, "the password file begins with a byte-order mark, which counts")
	}
	if n := len(password); n > 1 && password[0] == password[n-1] && strings.ContainsRune(`"'`, rune(password[0])) {
		hints = append(hints, "the password stands in quotes, which count")
	}
	if password != strings.TrimSpace(password) {
		hints = append(hints, "the password begins or ends with a blank, which counts")
	}
	if r.PasswordHint != "" {
		hints = append(hints, r.PasswordHint)
	}
	return strings.Join(hints, "; ")
}

const sentinelHint = "this is a Sentinel, which has no data: give the port of the Redis node beside it, 6379 by default"

// refused ends a probe with an error reply.
func (r *Redis) refused(stage Stage, reply error) *Error {
	err := classify(stage, r.Address, r.started, r.TLS != nil, reply)
	if err.Reason == ReasonAuth && r.isSentinel() {
		err.Hint = sentinelHint
	}
	r.Close()
	return err
}

// isSentinel asks a server that wants a password whether it is a Sentinel: only
// one has this command, and whether a server has a command it says without AUTH.
func (r *Redis) isSentinel() bool {
	_, errs, err := wire.Exchange(r.conn, [][]string{{"SENTINEL", "MYID"}})
	return err == nil && errs[0] != nil && strings.HasPrefix(errs[0].Error(), "NOAUTH")
}
