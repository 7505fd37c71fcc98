package sentinel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"redis-is-master/checker"
)

// TestSilentResolver: one name that hangs does not hold up every hello.
func TestSilentResolver(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	stop := make(chan struct{})
	defer close(stop)
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case <-ctx.Done():
			case <-stop:
			}
			return nil, errors.New("silent")
		},
	}
	s := &Self{
		Node:  &checker.Redis{Address: "127.0.0.1:6379"},
		hosts: map[string]*host{"db-1.example": {addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	for range 100 {
		if s.Match(ctx, "db-1.example:6379", checker.Observation{}) != Same {
			t.Fatal("what is known is forgotten")
		}
	}
	if took := time.Since(begun); took > 200*time.Millisecond {
		t.Errorf("a known name took %v", took)
	}
	for range 100 {
		if s.Match(ctx, "db-2.example:6379", checker.Observation{}) != Unresolved {
			t.Fatal("a name that leads nowhere is told")
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a name that leads nowhere was asked for again and again, for %v", took)
	}
}

// TestMadeUpNames: who may publish hellos makes up names. They neither fill the
// memory nor keep a name from being known.
func TestMadeUpNames(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name server")
		},
	}
	s := &Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}, hosts: map[string]*host{
		"db-1.example": {addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, asked: time.Now().Add(-time.Second)}}}
	for i := range maxHosts + 10 {
		s.Match(t.Context(), fmt.Sprintf("made-up-%d.example:6379", i), checker.Observation{})
	}
	if len(s.hosts) > maxHosts {
		t.Errorf("%d names are remembered", len(s.hosts))
	}
	if s.Match(t.Context(), "db-1.example:6379", checker.Observation{}) != Same {
		t.Error("a name that had led somewhere is forgotten before those that had not")
	}
	if s.Match(t.Context(), "localhost:6379", checker.Observation{}) != Same {
		t.Error("a new name is not looked up any more")
	}
	for i := range maxHosts {
		led := &host{addrs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}, asked: time.Now()}
		s.hosts[fmt.Sprintf("made-up-%d.example", i)] = led
	}
	for len(s.hosts) > maxHosts {
		s.evict()
	}
	if s.hosts["localhost"] != nil || s.hosts["made-up-1.example"] == nil {
		t.Error("not the oldest name is forgotten")
	}
}

// TestFirstLookup: who comes while a name is looked up for the first time waits for
// the answer, and does not take it for a name that leads nowhere.
func TestFirstLookup(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	var asked atomic.Int32
	begun, answer := make(chan struct{}, 100), make(chan struct{})
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			asked.Add(1)
			begun <- struct{}{}
			<-answer
			return nil, errors.New("no name server")
		},
	}
	s := &Self{Node: &checker.Redis{Address: "127.0.0.1:6379"}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	first := make(chan struct{})
	go func() {
		defer close(first)
		s.Match(ctx, "db-1.example:6379", checker.Observation{})
	}()
	<-begun
	later := make(chan struct{}, 10)
	for range cap(later) {
		go func() {
			s.Match(ctx, "db-1.example:6379", checker.Observation{})
			later <- struct{}{}
		}()
	}
	select {
	case <-later:
		t.Error("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	s.mu.Lock()
	s.hosts["db-1.example"].addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} // as if the answer were that
	s.mu.Unlock()
	close(answer)
	<-first
	before := asked.Load()
	for range cap(later) {
		<-later
	}
	if s.Match(ctx, "db-1.example:6379", checker.Observation{}) != Same {
		t.Error("the answer is lost")
	}
	if after := asked.Load(); after != before {
		t.Errorf("it was asked for %d times more", after-before)
	}
}
