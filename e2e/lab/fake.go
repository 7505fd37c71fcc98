package lab

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
)

// Fake serves every connection by f, with the connection's number from 1, and
// by TLS if there is a configuration. It stands in for what no real server can
// be made to say.
func Fake(t testing.TB, config *tls.Config, f func(n int, c net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Check(t, err)
	if config != nil {
		l = tls.NewListener(l, config)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				f(n, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// FakeReplies serves every connection with the same bulk strings as the reply
// to each question.
func FakeReplies(t testing.TB, texts ...string) (address string) {
	t.Helper()
	return Fake(t, nil, func(_ int, c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			for _, text := range texts {
				fmt.Fprintf(c, "$%d\r\n%s\r\n", len(text), text)
			}
		}
	})
}
