package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// TimedOut reports whether err is the end of a deadline.
func TimedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout()
}

// Closed reports whether err is the end of a connection.
func Closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// RemoteAlert reports whether the other side ended TLS with an alert. A
// missing client certificate shows only at the first read.
func RemoteAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}
