package lab

import (
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// Hostile are servers that mean harm, by what they do to a connection until its
// client has had enough.
var Hostile = map[string]func(c net.Conn){
	"silence":                  func(c net.Conn) { io.Copy(io.Discard, c) },
	"the end at once":          func(net.Conn) {},
	"a reset":                  reset,
	"one byte after the other": func(c net.Conn) { forever(c, "$", "1", "0", "0", "0", "\r", "\n", "x", "") },
	"an endless line":          func(c net.Conn) { forever(c, strings.Repeat("+role:master", 1000)) },
	"an endless bulk string":   func(c net.Conn) { say(c, "$1073741824\r\n", strings.Repeat("x", 64<<10)) },
	"a length beyond all":      func(c net.Conn) { say(c, "$9000000000000000000\r\n", "") },
	"an array beyond all":      func(c net.Conn) { say(c, "*9000000000000000000\r\n", "") },
	"arrays in arrays":         func(c net.Conn) { forever(c, strings.Repeat("*1\r\n", 1000)) },
	"a long array":             func(c net.Conn) { say(c, "*1000000\r\n", strings.Repeat(":1\r\n", 1000)) },
	"negative lengths":         func(c net.Conn) { forever(c, "*-7\r\n$-7\r\n*-1\r\n$-1\r\n") },
	"empty arrays":             func(c net.Conn) { forever(c, strings.Repeat("*0\r\n", 1000)) },
	"other types":              func(c net.Conn) { forever(c, "*3\r\n:1\r\n*1\r\n:1\r\n$-1\r\n:7\r\n+message\r\n") },
	"more than was asked for":  func(c net.Conn) { forever(c, strings.Repeat("+OK\r\n", 1000)) },
	"RESP3": func(c net.Conn) {
		forever(c, "%1\r\n+a\r\n+b\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+a\r\n+b\r\n#t\r\n")
	},
	"noise": func(c net.Conn) {
		seed := rand.NewChaCha8([32]byte{7})
		io.Copy(c, seed)
	},
}

// say says one thing first, and then another forever; an empty one is silence.
func say(c net.Conn, first, then string) {
	io.WriteString(c, first)
	if then == "" {
		io.Copy(io.Discard, c)
	}
	forever(c, then)
}

// reset ends a connection without a farewell.
func reset(c net.Conn) {
	if c, ok := c.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
}

// forever writes the texts again and again; after an empty one it waits.
func forever(c net.Conn, texts ...string) {
	for {
		for _, text := range texts {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			if text == "" || len(texts) > 1 {
				c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if _, err := c.Read(make([]byte, 4096)); err == io.EOF {
					return
				}
			}
		}
	}
}
