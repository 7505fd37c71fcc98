package checker

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds what one probe reads; a real one is some 3 KiB.
const maxReply = 1 << 20

// maxOpen bounds the elements of an array; nothing that is asked for is one.
const maxOpen = 64

// A protocolError is a reply that no Redis server gives.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// conn stands between go-redis and the socket. It keeps what go-redis leaves
// open: a bound on the bytes, where it would allocate what a length
// announces, and the error line that a server sends before it hangs up, where
// it would report a broken pipe.
type conn struct {
	net.Conn // the socket, or TLS over it
	socket   *socket
	frames   frames
	err      error // the first that Read or Write returned
}

// begin readies the connection for one probe.
func (c *conn) begin(deadline time.Time) {
	c.frames, c.err, c.socket.deadline = frames{budget: maxReply}, nil, deadline
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.frames.feed(p[:n]); bad != nil {
		n, err = 0, bad
	}
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		// A server that refuses a client says why and closes; its words are
		// still in the receive buffer.
		for buf := make([]byte, 1024); err != nil; {
			if _, rerr := c.Read(buf); rerr != nil {
				break
			}
		}
		if c.err == nil {
			c.err = err
		}
	}
	return n, err
}

// frames follows a stream of RESP2 replies without keeping them.
//
// Format: https://redis.io/docs/latest/develop/reference/protocol-spec/ .
type frames struct {
	budget int // bytes that may still come

	replies int    // complete ones
	open    int    // values that complete the current one
	line    []byte // so far
	bulk    int    // bytes of a bulk string that are missing, its CRLF included
	refusal string // the last error line
}

// feed takes the next bytes. After an error the stream is unusable.
func (f *frames) feed(p []byte) error {
	if f.budget -= len(p); f.budget < 0 {
		return protocolError("the reply is larger than 1 MiB")
	}
	for len(p) > 0 {
		if f.bulk > 0 {
			n := min(f.bulk, len(p))
			if end := max(0, f.bulk-2); end < n && !strings.HasPrefix("\r\n"[2-min(2, f.bulk):], string(p[end:n])) {
				return protocolError("a bulk string is longer than announced")
			}
			p = p[n:]
			if f.bulk -= n; f.bulk == 0 {
				f.value(0)
			}
			continue
		}
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		f.line = append(f.line, p[:n]...)
		p = p[n:]
		if err := f.begun(); err != nil {
			return err
		}
		if f.line[len(f.line)-1] == '\n' {
			if err := f.header(); err != nil {
				return err
			}
			f.line = f.line[:0]
		}
	}
	return nil
}

// begun judges a line by its first byte, for one that is no RESP may never
// end.
func (f *frames) begun() error {
	switch f.line[0] {
	case '+', '-', ':', '$', '*':
		return nil
	case 0x15: // a TLS alert record
		return errSpeaksTLS
	case 'H':
		return protocolError("the server speaks HTTP, not Redis")
	}
	return protocolError(fmt.Sprintf("the reply begins with %q, which no Redis reply does", f.line[:1]))
}

func (f *frames) header() error {
	text, ok := strings.CutSuffix(string(f.line), "\r\n")
	if !ok {
		return protocolError("a reply line does not end in CRLF")
	}
	switch text[0] {
	case '-':
		f.refusal = text[1:]
	case '$', '*':
		n, err := strconv.Atoi(text[1:])
		if err != nil || n < -1 {
			return protocolError("a length in the reply is no number")
		}
		if n > maxReply {
			return protocolError("the reply is larger than 1 MiB")
		}
		if text[0] == '$' && n >= 0 {
			f.bulk = n + 2
			return nil
		}
		if f.open+n > maxOpen {
			return protocolError("the reply has more elements than any that was asked for")
		}
		f.value(max(n, 0))
		return nil
	}
	f.value(0)
	return nil
}

// value counts one complete value, or the head of an array of n.
func (f *frames) value(n int) {
	if f.open > 0 {
		f.open--
	}
	if f.open += n; f.open == 0 {
		f.replies++
	}
}

// complete reports whether exactly n replies have come, and nothing after.
func (f *frames) complete(n int) bool {
	return f.replies == n && f.open == 0 && f.bulk == 0 && len(f.line) == 0
}

var errSpeaksTLS = protocolError("the server speaks TLS")
