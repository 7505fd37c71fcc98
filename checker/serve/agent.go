// Package serve offers what a monitor knows over TCP, and to the file of the node
// exporter: [Agent] for HAProxy's agent-check, [HTTP] for its httpchk, for people
// and for Prometheus, whose [Metrics] are also in a [Textfile]. The unix socket
// is in package cached. It is the only place with net/http and client_golang.
//
// No check waits for a client, and no client for another: a status is read
// without a lock, and rendered once for all who ask.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// patience bounds what a client may take to read an answer and hang up.
const patience = time.Second

// maxLingering bounds the clients that have their answer and do not hang up;
// further ones are cut off.
const maxLingering = 256

// An Agent answers every connection with the line of an HAProxy agent, and
// closes it. A line fits into a socket's buffer, so no client can make another
// wait.
type Agent struct {
	listener net.Listener
}

// Run answers until ctx is done.
func (a *Agent) Run(ctx context.Context, m *checker.Monitor) error {
	defer context.AfterFunc(ctx, func() { a.listener.Close() })()
	lingering := make(chan struct{}, maxLingering)
	for {
		c, err := a.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // no descriptor is free: it passes
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s, _ := m.Status()
		io.WriteString(c, report.Agent(s.Verdict))
		// A close while something unread has come would reset the connection,
		// and HAProxy may send a word before it reads.
		c.SetDeadline(time.Now().Add(patience))
		c.(*net.TCPConn).CloseWrite()
		select {
		case lingering <- struct{}{}:
			go func() {
				io.Copy(io.Discard, io.LimitReader(c, 4096))
				c.Close()
				<-lingering
			}()
		default:
			c.Close()
		}
	}
}

// NewAgent listens on a TCP address as an HAProxy agent.
func NewAgent(address string) (*Agent, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--agent: %w", err)
	}
	return &Agent{listener: l}, nil
}

// Addr is where it listens.
func (a *Agent) Addr() net.Addr { return a.listener.Addr() }
