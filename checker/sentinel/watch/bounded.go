package watch

import (
	"bytes"
	"errors"
	"net"
	"strconv"
)

// Bounds on one reply of a server. The largest that is asked for are those of
// SENTINEL REPLICAS: some 60 strings for each replica.
const (
	maxReplyLine  = 1 << 10
	maxReplyBytes = 64 << 10
	maxReplyParts = 4 << 10
	maxReplyDepth = 4
)

var errUnbounded = errors.New("the server's reply is larger than any that was asked for, or none of RESP2")

// A bounded connection ends with the first reply that is too large, before its
// reader sees it: go-redis makes room for whatever a length announces, and panics
// where none can be made. To follow the stream is less code than to do without
// go-redis: it logs in, subscribes, keeps subscriptions alive and reads the replies.
type bounded struct {
	net.Conn

	line    []byte // of a header that is not whole yet
	skip    int    // bytes of a bulk string that are still to come
	pending []int  // elements that are still to come, of each array around
	bytes   int    // of the present reply
	parts   int
	err     error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.Conn.Read(p)
	if b.err = b.take(p[:n]); b.err != nil {
		return 0, b.err
	}
	return n, err
}

// take follows the stream.
//
// Format: RESP2 of https://redis.io/docs/latest/develop/reference/protocol-spec/ .
func (b *bounded) take(p []byte) error {
	for len(p) > 0 {
		n := min(b.skip, len(p))
		bulk := n > 0
		if !bulk {
			if n = bytes.IndexByte(p, '\n') + 1; n == 0 {
				n = len(p)
			}
			b.line = append(b.line, p[:n]...)
		}
		if b.bytes += n; b.bytes > maxReplyBytes || len(b.line) > maxReplyLine {
			return errUnbounded
		}
		p = p[n:]
		switch {
		case bulk:
			if b.skip -= n; b.skip == 0 {
				b.whole()
			}
		case bytes.HasSuffix(b.line, []byte{'\n'}):
			if err := b.header(); err != nil {
				return err
			}
			b.line = b.line[:0]
		}
	}
	return nil
}

// header takes a line outside of a bulk string.
func (b *bounded) header() error {
	kind, rest, crlf := b.line[0], b.line[1:], false
	if rest, crlf = bytes.CutSuffix(rest, []byte("\r\n")); !crlf {
		return errUnbounded
	}
	if b.parts++; b.parts > maxReplyParts {
		return errUnbounded
	}
	switch kind {
	case '+', '-', ':':
		b.whole()
		return nil
	case '$', '*':
	default:
		return errUnbounded
	}
	size, err := strconv.Atoi(string(rest))
	switch {
	case err != nil, size < -1, size > maxReplyBytes:
		return errUnbounded
	case kind == '$' && size >= 0:
		b.skip = size + len("\r\n")
	case kind == '*' && size > 0:
		if b.pending = append(b.pending, size); len(b.pending) > maxReplyDepth || size > maxReplyParts {
			return errUnbounded
		}
	default:
		b.whole()
	}
	return nil
}

// whole notes that an element is whole, and with the last one its array.
func (b *bounded) whole() {
	for i := len(b.pending) - 1; i >= 0; i-- {
		if b.pending[i]--; b.pending[i] > 0 {
			return
		}
		b.pending = b.pending[:i]
	}
	b.bytes, b.parts = 0, 0
}
