package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A Conn is one connection to Redis or Sentinel, as small as can be: an error
// closes it, nothing is tried twice, and nothing is hidden.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// NewConn takes over c and sends AUTH where there is a password.
func NewConn(c net.Conn, password string, timeout time.Duration) (*Conn, error) {
	conn := &Conn{c, bufio.NewReader(c)}
	if password != "" {
		if _, err := conn.Do(timeout, []string{"AUTH", password}); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// An ErrorReply is what Redis answered with a minus.
type ErrorReply string

func (e ErrorReply) Error() string { return string(e) }

// Do sends the commands in one write and returns their replies, an array as
// its elements on lines of their own. An error reply is a reply, and the
// first one is the error, too. After any other error c is closed.
func (c *Conn) Do(timeout time.Duration, commands ...[]string) (replies []string, err error) {
	c.SetDeadline(time.Now().Add(timeout))
	var b strings.Builder
	for _, args := range commands {
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if _, err := io.WriteString(c.Conn, b.String()); err != nil {
		c.Close()
		return nil, err
	}
	for range commands {
		reply, rerr := c.Reply()
		var refused ErrorReply
		if rerr != nil && !errors.As(rerr, &refused) {
			c.Close()
			return replies, rerr
		}
		if err == nil {
			err = rerr
		}
		replies = append(replies, reply)
	}
	return replies, err
}

// Reply reads one reply.
func (c *Conn) Reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty line is no reply")
	}
	kind, line := line[0], line[1:]
	switch kind {
	case '-':
		return line, ErrorReply(line)
	case '$', '*':
		n, err := strconv.Atoi(line)
		if err != nil || n < 0 {
			return "", err
		}
		if kind == '$' {
			b := make([]byte, n+2)
			_, err := io.ReadFull(c.r, b)
			return string(b[:n]), err
		}
		all := make([]string, n)
		for i := range all {
			var refused ErrorReply
			if all[i], err = c.Reply(); err != nil && !errors.As(err, &refused) {
				return "", err
			}
		}
		return strings.Join(all, "\n"), nil
	}
	return line, nil
}
