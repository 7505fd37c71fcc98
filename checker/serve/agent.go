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
	"os"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
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
	listener  *net.TCPListener
	answering gate
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
		case errors.Is(err, os.ErrDeadlineExceeded):
			a.answering.pass(ctx, func() bool { return len(lingering) == 0 })
			continue
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
	return &Agent{listener: l.(*net.TCPListener)}, nil
}

// agentFile is the name of what [Agent.Hold] hands over.
const agentFile = "agent"

// Hold adds to files what [ResumeAgent] needs, and accepts nobody until release is called: who connects waits. It
// returns when everybody who was accepted has the answer, or is slow to take it.
func (a *Agent) Hold(files handover.Files) (release func(), err error) {
	release = a.answering.close(a.listener)
	if err := files.Add(agentFile, a.listener); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// ResumeAgent is [NewAgent] with what another Agent has handed over.
func ResumeAgent(files handover.Files) (*Agent, error) {
	l, err := files.TakeListener(agentFile)
	if err != nil {
		return nil, err
	}
	return &Agent{listener: l}, nil
}

// Addr is where it listens.
func (a *Agent) Addr() net.Addr { return a.listener.Addr() }
