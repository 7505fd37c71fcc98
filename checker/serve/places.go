package serve

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections bounds the connections.
const maxConnections = 1024

// places are the connections. For one too many, the one is closed that has been
// without an answer for longest: idle, or silent since it came, or with half a
// request, or waiting for its turn. One that is being given its answer is never
// closed.
type places struct {
	mu      sync.Mutex
	taken   map[net.Conn]*place
	waiting list.List // of net.Conn, the longest first: all that are not being given an answer
}

type place struct {
	pace    pace
	waiting *list.Element // nil while an answer is given
	idle    bool          // it has had its answer, and has not asked again
}

// state is that of [http.Server.ConnState].
func (p *places) state(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		if p.taken == nil {
			p.taken = make(map[net.Conn]*place)
		}
		p.taken[c] = &place{pace: pace{every: 100 * time.Millisecond, burst: 5}, waiting: p.waiting.PushBack(c)}
		if len(p.taken) > maxConnections {
			p.close(p.waiting.Front().Value.(net.Conn))
		}
	case http.StateActive, http.StateIdle:
		p.wait(c)
		if a := p.taken[c]; a != nil {
			a.idle = state == http.StateIdle
		}
	case http.StateClosed, http.StateHijacked:
		p.remove(c)
	}
}

// any reports whether there is a connection.
func (p *places) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken) > 0
}

// idle reports whether all who are connected have had their answer.
func (p *places) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.taken {
		if !a.idle {
			return false
		}
	}
	return true
}

// answering keeps the connection open until answered is called.
func (p *places) answering(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.taken[c]; a != nil && a.waiting != nil {
		p.waiting.Remove(a.waiting)
		a.waiting = nil
	}
}

func (p *places) answered(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait(c)
}

// turn waits for the pace of a connection, and reports whether it is still open
// then.
func (p *places) turn(ctx context.Context, c net.Conn) bool {
	p.mu.Lock()
	a := p.taken[c]
	p.mu.Unlock()
	return a != nil && a.pace.wait(ctx, time.Minute)
}

// wait puts a connection last. It must be called with mu held, as must what
// follows.
func (p *places) wait(c net.Conn) {
	switch a := p.taken[c]; {
	case a == nil:
	case a.waiting == nil:
		a.waiting = p.waiting.PushBack(c)
	default:
		p.waiting.MoveToBack(a.waiting)
	}
}

func (p *places) close(c net.Conn) {
	p.remove(c)
	if t, ok := c.(*tls.Conn); ok { // whose Close says goodbye, which may take seconds
		c = t.NetConn()
	}
	c.Close()
}

func (p *places) remove(c net.Conn) {
	if a := p.taken[c]; a != nil && a.waiting != nil {
		p.waiting.Remove(a.waiting)
	}
	delete(p.taken, c)
}

// A pace lets one pass every so often, and a few at once after a pause.
type pace struct {
	every time.Duration
	burst int

	mu   sync.Mutex
	next time.Time
}

// wait waits for a turn, and reports whether it came before the end of ctx. It
// waits no longer than most, whether or not there is a turn by then.
func (p *pace) wait(ctx context.Context, most time.Duration) bool {
	p.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-time.Duration(p.burst) * p.every); p.next.Before(earliest) {
		p.next = earliest
	}
	left := p.next.Sub(now)
	taken := left <= most
	if taken {
		p.next = p.next.Add(p.every)
	}
	p.mu.Unlock()
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(min(left, most))
	defer timer.Stop()
	select {
	case <-timer.C:
		return taken
	case <-ctx.Done():
		return false
	}
}
