package lab

import (
	"io"
	"net"
	"sync"
)

// A Line carries connections to a server, and can be held: then what the
// server sends on the connections that stand waits, and nothing is closed.
type Line struct {
	Port int // of 127.0.0.1, where it begins

	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
	gates    []*sync.Mutex // of the connections, one each
	held     []*sync.Mutex
}

// NewLine makes a line to an address. End it by [Line.Close].
func NewLine(address string) (*Line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Line{Port: listener.Addr().(*net.TCPAddr).Port, listener: listener}
	l.running.Go(func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			if there, err := net.Dial("tcp", address); err == nil {
				l.join(here, there)
			} else {
				here.Close()
			}
		}
	})
	return l, nil
}

func (l *Line) join(here, there net.Conn) {
	gate := new(sync.Mutex)
	l.mu.Lock()
	l.conns, l.gates = append(l.conns, here, there), append(l.gates, gate)
	l.mu.Unlock()
	l.running.Go(func() {
		defer there.Close()
		io.Copy(there, here)
	})
	l.running.Go(func() {
		defer here.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := there.Read(buf)
			gate.Lock()
			_, failed := here.Write(buf[:n])
			gate.Unlock()
			if err != nil || failed != nil {
				return
			}
		}
	})
}

// Hold holds all connections that stand; later ones are free.
func (l *Line) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, gate := range l.gates {
		gate.Lock()
	}
	l.held, l.gates = append(l.held, l.gates...), nil
}

// Release lets go what waits.
func (l *Line) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, gate := range l.held {
		gate.Unlock()
	}
	l.held = nil
}

// Close ends it and its connections.
func (l *Line) Close() {
	l.listener.Close()
	l.mu.Lock()
	for _, c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.Release()
	l.running.Wait()
}
