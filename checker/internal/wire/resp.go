package wire

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// MaxReply bounds what one exchange reads; a real one is some 3 KiB.
const MaxReply = 1 << 20

// The size of the buffer that a read is offered. For TLS it is larger than a
// record, so that no part of one stays unread where [Socket.Quiet] cannot see
// it.
const (
	plainRoom = 4096
	tlsRoom   = 16<<10 + 1
)

// maxLine bounds a line outside of a bulk string.
const maxLine = 4096

// A ProtocolError is about a reply that no Redis server gives.
type ProtocolError string

func (e ProtocolError) Error() string { return string(e) }

// A ReplyError is the text of an error reply.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// ErrSpeaksTLS is the error of an [Exchange] without TLS with a server that
// expects it.
const ErrSpeaksTLS = ProtocolError("the server speaks TLS")

// What the two error replies say after which a server hangs up.
const (
	SaysMaxClients = "max number of clients reached"
	SaysDenied     = "DENIED"
)

// Exchange sends the commands in one write and returns exactly one reply for
// each: a string, or a [ReplyError] in errs. The stream must be flawless RESP2,
// end with the last reply, and be at most 1 MiB. After any error the
// connection is unusable.
//
// Format: https://redis.io/docs/latest/develop/reference/protocol-spec/ .
func Exchange(c net.Conn, commands [][]string) (replies []string, errs []error, err error) {
	room := tlsRoom
	if _, plain := c.(*Socket); plain {
		room = plainRoom
	}
	if _, err := c.Write(encode(commands)); err != nil {
		return nil, nil, lastWords(c, err)
	}
	replies, errs = make([]string, len(commands)), make([]error, len(commands))
	buf := make([]byte, 0, room)
	for i, done := 0, 0; ; {
		for i < len(commands) {
			text, n, err := decode(buf[done:])
			if n == 0 && err == nil {
				break
			}
			if _, refused := err.(ReplyError); err != nil && !refused {
				return nil, nil, err
			}
			replies[i], errs[i] = text, err
			i, done = i+1, done+n
		}
		if i == len(commands) {
			if done < len(buf) {
				return nil, nil, ProtocolError("more came than was asked for")
			}
			return replies, errs, nil
		}
		if len(buf) >= MaxReply {
			return nil, nil, ErrTooLarge
		}
		buf = slices.Grow(buf, room)
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && n == 0 {
			if i > 0 && refusal(errs[0]) {
				err = errs[0]
			}
			return nil, nil, err
		}
	}
}

// lastWords is why a write failed: a server that refuses a client says so and
// hangs up, and what it said is still in the receive buffer.
func lastWords(c net.Conn, err error) error {
	buf := make([]byte, maxLine)
	n, rerr := c.Read(buf)
	if n == 0 && RemoteAlert(rerr) {
		return rerr
	}
	if _, _, said := decode(buf[:n]); refusal(said) {
		return said
	}
	return err
}

// refusal reports whether err is an error reply after which a server hangs
// up, instead of answering what was asked.
func refusal(err error) bool {
	e, ok := err.(ReplyError)
	return ok && (strings.Contains(string(e), SaysMaxClients) || strings.HasPrefix(string(e), SaysDenied))
}

func encode(commands [][]string) []byte {
	var b []byte
	for _, c := range commands {
		b = appendHeader(b, '*', len(c))
		for _, arg := range c {
			b = append(append(appendHeader(b, '$', len(arg)), arg...), "\r\n"...)
		}
	}
	return b
}

func appendHeader(b []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(b, kind), int64(n), 10), "\r\n"...)
}

var ErrTooLarge = ProtocolError("the reply is larger than 1 MiB")

// decode reads the first reply in buf and returns its length, which is 0 if
// it is not whole yet. Of the types of RESP2 it knows the strings and the
// errors; nothing that is asked for is a number or an array.
func decode(buf []byte) (text string, n int, err error) {
	if len(buf) == 0 {
		return "", 0, nil
	}
	switch buf[0] {
	case '+', '-', '$':
	case 0x15: // a TLS alert record
		return "", 0, ErrSpeaksTLS
	case 'H':
		return "", 0, ProtocolError("the server speaks HTTP, not Redis")
	default:
		return "", 0, ProtocolError(fmt.Sprintf("the reply begins with %q, which no reply to INFO does", buf[:1]))
	}
	end := bytes.IndexByte(buf[:min(len(buf), maxLine)], '\n')
	if end < 0 {
		if len(buf) >= maxLine {
			return "", 0, ProtocolError("a reply line does not end")
		}
		return "", 0, nil
	}
	if buf[end-1] != '\r' {
		return "", 0, ProtocolError("a reply line does not end in CRLF")
	}
	line, n := string(buf[1:end-1]), end+1
	switch buf[0] {
	case '+':
		return line, n, nil
	case '-':
		return "", n, ReplyError(line)
	}
	size, err := strconv.ParseUint(line, 10, 63)
	if err != nil {
		return "", 0, ProtocolError("a length in the reply is no number")
	}
	if size > MaxReply {
		return "", 0, ErrTooLarge
	}
	whole := n + int(size) + 2
	if len(buf) < whole {
		return "", 0, nil
	}
	if string(buf[whole-2:whole]) != "\r\n" {
		return "", 0, ProtocolError("a bulk string is longer than announced")
	}
	return string(buf[n : whole-2]), whole, nil
}
