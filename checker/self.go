package checker

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Self tells which addresses are those of the watched node, always with its
// own port: what is announced, if anything; else the one at which it is asked,
// and where that is the loopback or a unix socket, all of this host's. Its
// methods may be called concurrently.
type Self struct {
	// Node is the watched node; only its Network and Address are used.
	Node *Redis
	// Announced is what the Sentinels call the node, host or host:port, where
	// they know it by another address than its own. May be empty.
	Announced string

	mu    sync.Mutex
	names map[string]*name
}

// A name is what a host name has led to.
type name struct {
	addrs []netip.Addr
	asked time.Time
}

// nameAge is how long an answer of the resolver is good for; a failure is, too,
// so that a silent resolver does not hold up every word of a Sentinel.
const nameAge = 5 * time.Second

// Word is what a hello means for the node, and sure false if that cannot be
// told. TCPPort is the one that the node reports, for one that is asked on a
// unix socket.
func (s *Self) Word(ctx context.Context, h Hello, tcpPort int) (w Word, sure bool) {
	w = Word{Hello: h, Local: s.Local(ctx, h.From)}
	w.Here, sure = s.Is(ctx, h.Master, tcpPort)
	return w, sure && (w.Local || !isLoopback(h.Master))
}

// named is the same for what a Sentinel answers that is asked at an address.
func (s *Self) named(ctx context.Context, sentinel, master string, tcpPort int) (here, sure bool) {
	here, sure = s.Is(ctx, master, tcpPort)
	return here, sure && (!isLoopback(master) || s.Local(ctx, sentinel))
}

// isLoopback reports whether an address leads every host to itself.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.HasPrefix(host, "localhost") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, "-localhost")
}

// Is reports whether address is the node's, and sure false if that cannot be
// told. TCPPort is as for [Self.Word].
func (s *Self) Is(ctx context.Context, address string, tcpPort int) (is, sure bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, false
	}
	announced, announcedPort := strings.Trim(s.Announced, "[]"), ""
	if h, p, err := net.SplitHostPort(s.Announced); err == nil {
		announced, announcedPort = h, p
	}
	own := announcedPort
	if own == "" {
		if own = strconv.Itoa(tcpPort); s.Node.Network != "unix" {
			_, own, _ = net.SplitHostPort(s.Node.Address)
		}
	}
	if own == "0" || own == "" {
		return false, false
	}
	if port != own {
		return false, true
	}
	if announced != "" && host == announced {
		return true, true
	}
	addrs := s.resolve(ctx, host)
	mine := s.resolve(ctx, announced)
	if announced == "" {
		mine = s.addresses(ctx)
	}
	return meet(addrs, mine), len(addrs) > 0 && len(mine) > 0
}

// Local reports whether an address is one of this host.
func (s *Self) Local(ctx context.Context, address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && meet(s.resolve(ctx, host), interfaces())
}

// addresses are the node's own; none if that cannot be told.
func (s *Self) addresses(ctx context.Context) []netip.Addr {
	if s.Node.Network == "unix" {
		return interfaces()
	}
	host, _, err := net.SplitHostPort(s.Node.Address)
	if err != nil {
		return nil
	}
	at := s.resolve(ctx, host)
	for _, a := range at {
		if usual(a) {
			return append(interfaces(), at...)
		}
	}
	return at
}

// usual is an address by which every host calls itself, the last of them by
// Debian's /etc/hosts. Another of 127.0.0.0/8 may be that of one server among
// several.
func usual(a netip.Addr) bool {
	switch a.String() {
	case "127.0.0.1", "::1", "127.0.1.1":
		return true
	}
	return false
}

// interfaces are this host's addresses; none if that cannot be told.
func interfaces() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	addrs := make([]netip.Addr, 0, len(all)+1)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, ip.Unmap())
			}
		}
	}
	return append(addrs, netip.AddrFrom4([4]byte{127, 0, 1, 1}))
}

// resolve returns what a host leads to, or has led to. A name that was asked
// for before is answered at once, and asked for again beside.
func (s *Self) resolve(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap().WithZone("")}
	}
	s.mu.Lock()
	n := s.names[host]
	known := n != nil
	if !known {
		if len(s.names) >= maxSentinels {
			s.mu.Unlock()
			return nil
		}
		if s.names == nil {
			s.names = make(map[string]*name)
		}
		n = &name{}
		s.names[host] = n
	}
	addrs, fresh := n.addrs, known && time.Since(n.asked) < nameAge
	if !fresh {
		n.asked = time.Now()
	}
	s.mu.Unlock()
	if fresh {
		return addrs
	}
	if known {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), nameAge)
			defer cancel()
			s.lookup(ctx, host, n)
		}()
		return addrs
	}
	return s.lookup(ctx, host, n)
}

// lookup asks the resolver; what it does not know stays as it was.
func (s *Self) lookup(ctx context.Context, host string, n *name) []netip.Addr {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		for i, a := range addrs {
			addrs[i] = a.Unmap().WithZone("")
		}
		n.addrs = addrs
	}
	return n.addrs
}

// meet reports whether two lists share an address. Those by which every host
// calls itself are as good as one.
func meet(a, b []netip.Addr) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y || usual(x) && usual(y) {
				return true
			}
		}
	}
	return false
}
