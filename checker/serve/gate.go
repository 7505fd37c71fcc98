package serve

import (
	"context"
	"net"
	"sync"
	"time"
)

// holdPatience is how long clients that were accepted may still take to ask and to read, before the program is
// replaced.
const holdPatience = 250 * time.Millisecond

// A gate keeps a listener from accepting for a while: whoever connects waits in the queue of the kernel.
type gate struct {
	mu     sync.Mutex
	idle   chan struct{} // closed when nobody accepts any more
	opened chan struct{} // closed by who has closed the gate
}

// close makes the accept of the listener fail by its deadline, and waits until its goroutine has called pass and all
// clients have gone, or not for much longer than [holdPatience].
func (g *gate) close(l *net.TCPListener) (open func()) {
	idle, opened := make(chan struct{}), make(chan struct{})
	g.mu.Lock()
	g.idle, g.opened = idle, opened
	g.mu.Unlock()
	l.SetDeadline(time.Unix(1, 0))
	select {
	case <-idle:
	case <-time.After(2 * holdPatience):
	}
	return func() {
		g.mu.Lock()
		g.idle, g.opened = nil, nil
		g.mu.Unlock()
		l.SetDeadline(time.Time{})
		close(opened)
	}
}

// pass waits until gone, tells that nobody accepts any more, and returns when the gate is open or ctx is done. It does
// not wait for gone for longer than [holdPatience].
func (g *gate) pass(ctx context.Context, gone func() bool) {
	g.mu.Lock()
	idle, opened := g.idle, g.opened
	g.mu.Unlock()
	if opened == nil {
		return
	}
	for until := time.Now().Add(holdPatience); !gone() && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	close(idle)
	select {
	case <-opened:
	case <-ctx.Done():
	}
}
