package sentinel

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"redis-is-master/checker"
)

// A Self tells which addresses are those of the watched node, always with its
// own port: what is announced, if anything; else the one at which it is asked,
// and where that is the loopback or a unix socket, all of this host's. Another
// address, as of NAT, a container or a TLS port, is this node's, too, if a
// Sentinel has met it there: the Sentinels keep the run id of whom they meet. Its
// methods may be called concurrently.
type Self struct {
	// Node is the watched node; only its Network and Address are used.
	Node *checker.Redis
	// Announced is what the Sentinels call the node, host or host:port, where
	// they know it by another address than its own. May be empty.
	Announced string

	// Met is called when a Sentinel turns out to know the node by an address that is
	// none of its own. It must not call the Self. Nil calls nothing.
	Met func(sentinel, address string)

	mu      sync.Mutex
	hosts   map[string]*host
	aliases map[string]alias // by the address
	runID   string           // of the node, as it was seen last
	was     string           // its run id before that one
	listed  string           // its run id when a Sentinel was last seen to list it under an address that matches
}

// An alias is an address at which a Sentinel has met the node.
type alias struct {
	runID   string    // that the node had; empty since another process was met there
	met     time.Time // or later
	another time.Time // when a Sentinel last said that it has met another process there
}

// aliasAge is for how long an address at which the node was met is the node's: a
// Sentinel asks for the run id every ten seconds. After a restart of the node it
// says so long neither that it is the node nor that it is another.
const aliasAge = 30 * time.Second

// contestedFor is for how long an address is not the node's after a Sentinel has met
// another process there: each is asked once a second, and one that goes on saying so
// must not lose against another that says more.
const contestedFor = 5 * time.Second

// maxAliases bounds the addresses that are remembered.
const maxAliases = 16

// A host is what a host name has led to.
type host struct {
	addrs []netip.Addr
	asked time.Time
	first chan struct{} // closed when the first look-up is done
}

// hostAge is how long an answer of the resolver is good for; a failure is, too,
// so that a silent resolver does not hold up every hello.
const hostAge = 5 * time.Second

// maxHosts bounds the names that are remembered: anybody who may publish hellos
// can make them up.
const maxHosts = 64

// A Match says whether two addresses lead to the same node.
type Match int

// The three matches. The zero one says nothing.
const (
	Unresolved Match = iota // a name does not lead anywhere, or the node's own address is not known
	Different
	Same
)

// Claim is what a hello means for the node. Its NamesUs counts only if the match
// is not [Unresolved]. O is what the node said last: its port is needed where it is
// asked on a unix socket, and its run id where it has other addresses.
func (s *Self) Claim(ctx context.Context, h checker.Hello, o checker.Observation) (checker.Claim, Match) {
	c := checker.Claim{Hello: h, Local: s.IsLocal(ctx, h.From)}
	match := s.Match(ctx, h.Master, o)
	if c.NamesUs = match == Same; isLoopback(h.Master) && !c.Local {
		match = Unresolved
	}
	return c, match
}

// namedBy is the same for a Sentinel that was asked at an address.
func (s *Self) namedBy(ctx context.Context, sentinel, master string, o checker.Observation) Match {
	match := s.Match(ctx, master, o)
	if isLoopback(master) && !s.IsLocal(ctx, sentinel) {
		return Unresolved
	}
	return match
}

// Told is what the answer of a Sentinel means for the node. O is as for
// [Self.Claim].
func (s *Self) Told(ctx context.Context, r Report, o checker.Observation) Told {
	t := Told{Report: r}
	if r.Err != nil {
		return t
	}
	s.learn(ctx, r, o)
	match := s.namedBy(ctx, r.Address, r.Master, o)
	if r.met(r.Master, o.RunID) {
		match = Same
	}
	t.NamesUs, t.Unresolved, t.Local = match == Same, match == Unresolved, s.IsLocal(ctx, r.Address)
	return t
}

// learn notes at which addresses a Sentinel has met the node. Only its run id is a
// proof: that of an earlier process is known for some seconds more. Another one is
// a proof of the opposite where the Sentinel has met it later.
func (s *Self) learn(ctx context.Context, r Report, o checker.Observation) {
	if o.RunID == "" {
		return
	}
	matched, local := s.Listed(o), s.IsLocal(ctx, r.Address)
	var met []string
	for _, k := range r.Nodes {
		matched = matched || s.Match(ctx, k.Address, o) == Same
		if k.is(o.RunID) && (local || !isLoopback(k.Address)) && s.compare(ctx, k.Address, o.TCPPort) != Same {
			met = append(met, k.Address)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.RunID != s.runID {
		s.was, s.runID = s.runID, o.RunID
	}
	if matched || len(met) > 0 {
		s.listed = o.RunID
	}
	for _, k := range r.Nodes {
		switch {
		case slices.Contains(met, k.Address):
			s.meet(r, k, o.RunID)
		case k.RunID != o.RunID && k.RunID != s.was && k.Age <= maxKnownAge:
			s.metAnother(r, k)
		}
	}
}

// metAnother must be called with mu held.
func (s *Self) metAnother(r Report, k Known) {
	a, known := s.aliases[k.Address]
	if !known {
		return
	}
	if a.another = later(a.another, r.Time); r.Time.Add(-k.Age).After(a.met) {
		a.runID, a.met = "", time.Time{}
	}
	s.aliases[k.Address] = a
}

// meet must be called with mu held.
func (s *Self) meet(r Report, k Known, runID string) {
	a, known := s.aliases[k.Address]
	if !known && len(s.aliases) >= maxAliases {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(s.aliases)), func(x, y string) int {
			return s.aliases[x].met.Compare(s.aliases[y].met)
		})
		delete(s.aliases, oldest)
	}
	if s.aliases == nil {
		s.aliases = make(map[string]alias)
	}
	if seen := r.Time.Add(-k.Age); a.runID != runID || seen.After(a.met) {
		a.runID, a.met = runID, seen
	}
	if s.aliases[k.Address] = a; !known && s.Met != nil {
		s.Met(r.Address, k.Address)
	}
}

// Doubt makes the addresses at which the node was met say nothing until a Sentinel
// has met it there again: the host was suspended, and its clock stood still.
func (s *Self) Doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, a := range s.aliases {
		a.met = time.Time{}
		s.aliases[address] = a
	}
}

// Listed reports whether some Sentinel was seen to list this process of the node
// under an address that matches.
func (s *Self) Listed(o checker.Observation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.RunID == "" || s.listed == o.RunID
}

// isLoopback reports whether an address leads every host to itself.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.HasPrefix(host, "localhost") || strings.HasSuffix(host, ".localhost") ||
		strings.HasSuffix(host, "-localhost")
}

// Match compares an address with the node's. O is as for [Self.Claim].
func (s *Self) Match(ctx context.Context, address string, o checker.Observation) Match {
	s.mu.Lock()
	a, known := s.aliases[address]
	s.mu.Unlock()
	match := s.compare(ctx, address, o.TCPPort)
	if !known || match != Different || a.contested() {
		return match
	}
	fresh := time.Since(a.met) < aliasAge
	switch {
	case fresh && a.runID == o.RunID:
		return Same
	case fresh || a.runID == o.RunID:
		return Unresolved // it was the node's, and nobody says that it is another's
	}
	return Different
}

// contested reports whether a Sentinel says that the address leads to another.
func (a alias) contested() bool { return time.Since(a.another) < contestedFor }

// WasOurs reports whether a Sentinel has met the node at an address, though maybe
// not the process that runs now.
func (s *Self) WasOurs(address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aliases[address].runID != ""
}

// compare compares an address with those that are known to be the node's.
func (s *Self) compare(ctx context.Context, address string, tcpPort int) Match {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Unresolved
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
		return Unresolved
	}
	if port != own {
		return Different
	}
	if announced != "" && host == announced {
		return Same
	}
	addrs := s.resolve(ctx, host)
	var ours []netip.Addr
	if announced == "" {
		ours = s.addresses(ctx)
	} else {
		ours = s.resolve(ctx, announced)
	}
	switch {
	case overlap(addrs, ours):
		return Same
	case len(addrs) == 0 || len(ours) == 0:
		return Unresolved
	}
	return Different
}

// IsLocal reports whether an address is one of this host.
func (s *Self) IsLocal(ctx context.Context, address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && overlap(s.resolve(ctx, host), interfaces())
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
		if isLoopbackAlias(a) {
			return append(interfaces(), at...)
		}
	}
	return at
}

// isLoopbackAlias reports whether every host calls itself by this address;
// 127.0.1.1 is of Debian's /etc/hosts. Another address of 127.0.0.0/8 may belong
// to one server among several.
func isLoopbackAlias(a netip.Addr) bool {
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

// resolve returns what a host leads to, or has led to. For a known name it
// returns at once, and looks it up again in the background; who comes while it is
// looked up for the first time waits.
func (s *Self) resolve(ctx context.Context, name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a.Unmap().WithZone("")}
	}
	s.mu.Lock()
	n := s.hosts[name]
	known := n != nil
	if known && n.first != nil {
		first := n.first
		s.mu.Unlock()
		select {
		case <-first:
		case <-ctx.Done():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return n.addrs
	}
	if !known {
		if s.hosts == nil {
			s.hosts = make(map[string]*host)
		}
		if len(s.hosts) >= maxHosts {
			s.evict()
		}
		n = &host{first: make(chan struct{})}
		s.hosts[name] = n
	}
	addrs, fresh := n.addrs, known && time.Since(n.asked) < hostAge
	if !fresh {
		n.asked = time.Now()
	}
	s.mu.Unlock()
	if fresh {
		return addrs
	}
	if known {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), hostAge)
			defer cancel()
			s.lookup(ctx, name, n)
		}()
		return addrs
	}
	return s.lookup(ctx, name, n)
}

// evict forgets the name that was of least use: one that leads nowhere before one
// that does, and then the one that was not asked for the longest. It must be
// called with mu held.
func (s *Self) evict() {
	least := slices.MinFunc(slices.Collect(maps.Keys(s.hosts)), func(a, b string) int {
		x, y := s.hosts[a], s.hosts[b]
		return cmp.Or(min(len(x.addrs), 1)-min(len(y.addrs), 1), x.asked.Compare(y.asked))
	})
	delete(s.hosts, least)
}

// lookup asks the resolver; what it does not know stays as it was.
func (s *Self) lookup(ctx context.Context, host string, n *host) []netip.Addr {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.first != nil {
		close(n.first)
		n.first = nil
	}
	if err == nil {
		for i, a := range addrs {
			addrs[i] = a.Unmap().WithZone("")
		}
		n.addrs = addrs
	}
	return n.addrs
}

// overlap reports whether two lists share an address. Loopback aliases count as
// one.
func overlap(a, b []netip.Addr) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y || isLoopbackAlias(x) && isLoopbackAlias(y) {
				return true
			}
		}
	}
	return false
}

// differ reports whether two host:port are certainly not the same; a name and an
// IP address may be the same.
func differ(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	ipA, errA := netip.ParseAddr(hostA)
	ipB, errB := netip.ParseAddr(hostB)
	switch {
	case portA != portB:
		return true
	case errA == nil && errB == nil:
		return ipA.Unmap() != ipB.Unmap()
	}
	return (errA == nil) == (errB == nil) && !strings.EqualFold(hostA, hostB)
}
