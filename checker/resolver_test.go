package checker

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestSilentResolver: one name that hangs does not hold up every word.
func TestSilentResolver(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	stop := make(chan struct{})
	defer close(stop)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case <-ctx.Done():
		case <-stop:
		}
		return nil, errors.New("silent")
	}}
	s := &Self{Node: &Redis{Address: "127.0.0.1:6379"}, names: map[string]*name{"db-1.example": {addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	for range 100 {
		if is, sure := s.Is(ctx, "db-1.example:6379", 6379); !is || !sure {
			t.Fatal("what is known is forgotten")
		}
	}
	if took := time.Since(begun); took > 200*time.Millisecond {
		t.Errorf("a known name took %v", took)
	}
	for range 100 {
		if _, sure := s.Is(ctx, "db-2.example:6379", 6379); sure {
			t.Fatal("a name that leads nowhere is told")
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a name that leads nowhere was asked for again and again, for %v", took)
	}
}
