package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A Replica is what a Sentinel has seen last of one that it knows.
type Replica struct {
	Address string
	Role    string // of INFO: master or slave
	Down    bool
	Offset  int64 // negative if it did not tell
}

// maxReplicas and maxStatus bound what is read of a Sentinel and of a daemon.
const (
	maxReplicas = 64
	maxStatus   = 1 << 20
)

// replicasSeen reads the reply to SENTINEL REPLICAS.
//
// Format: addReplySentinelRedisInstance in Redis's sentinel.c.
func replicasSeen(reply any) (all []Replica) {
	list, _ := reply.([]any)
	for _, one := range list[:min(len(list), maxReplicas)] {
		fields := fieldsOf(one)
		if fields["ip"] == "" || fields["port"] == "" {
			continue
		}
		r := Replica{Address: net.JoinHostPort(fields["ip"], fields["port"]), Role: fields["role-reported"], Offset: -1,
			Down: slices.Contains(strings.Split(fields["flags"], ","), "s_down")}
		if n, err := strconv.ParseInt(fields["slave-repl-offset"], 10, 64); err == nil {
			r.Offset = n
		}
		all = append(all, r)
	}
	return all
}

// GatherCluster asks the Sentinels for the nodes, and the daemons of these for their
// answers, within some seconds. The daemons of other hosts are asked on the port of
// --http. It changes nothing, and sends no password to another node.
func GatherCluster(ctx context.Context, t Target) Cluster {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	var f Facts
	f.Daemon = gatherDaemon(ctx, t)
	var heard []checker.Hello
	f.Redis, heard = gatherRedis(ctx, t, len(t.Listed) == 0 && !knowsSentinels(f.Daemon.Document))
	f.Sentinels = gatherSentinels(ctx, t, f, heard)
	c := newCluster(f)
	var asking sync.WaitGroup
	for i := range c.Nodes {
		n := &c.Nodes[i]
		asking.Go(func() {
			doc, err := f.Daemon.Document, f.Daemon.SocketErr
			if !isHere(f, n.Address) {
				doc, err = askDaemon(ctx, t.HTTP, n.Address)
			}
			n.learn(doc, err)
		})
	}
	asking.Wait()
	c.behind()
	c.judge()
	return c
}

// newCluster is what the Sentinels say.
func newCluster(f Facts) Cluster {
	c := Cluster{Schema: Schema, Name: f.Sentinels.Name, Nodes: []Member{}, Sentinels: []Voice{}}
	node := func(address string) *Member {
		i := slices.IndexFunc(c.Nodes, func(n Member) bool { return n.Address == address })
		if i < 0 {
			i = len(c.Nodes)
			c.Nodes = append(c.Nodes, Member{Address: address, NamedBy: []string{}})
		}
		return &c.Nodes[i]
	}
	for _, s := range f.Sentinels.All {
		v := Voice{Address: s.Address}
		switch r := s.Report; {
		case s.Err != nil:
			v.Error = s.Err.Error()
		case r == nil:
			v.Error = "it does not watch this master"
		case r.Err != nil:
			v.Error = r.Err.Error()
		default:
			v.Master = r.Master
			n := node(r.Master)
			n.NamedBy, n.Down = append(n.NamedBy, s.Address), n.Down || r.TakesForDown()
			if r.ConfigEpoch >= 0 {
				v.Epoch = new(r.ConfigEpoch)
				if n.Epoch == nil || *n.Epoch < r.ConfigEpoch {
					n.Epoch = new(r.ConfigEpoch)
				}
			}
		}
		c.Sentinels = append(c.Sentinels, v)
		for _, r := range s.Replicas {
			n := node(r.Address)
			n.Down = n.Down || r.Down
			if n.Role == "" && r.Role != "" {
				n.Role = checker.RoleMaster
				if r.Role == "slave" {
					n.Role = checker.RoleReplica
				}
			}
			if r.Offset >= 0 && (n.OffsetBytes == nil || *n.OffsetBytes < r.Offset) {
				n.OffsetBytes = new(r.Offset)
			}
		}
	}
	slices.SortFunc(c.Nodes, func(a, b Member) int { return strings.Compare(a.Address, b.Address) })
	return c
}

// isHere reports whether an address is that of the node that was asked: some Sentinel
// has met its process there.
func isHere(f Facts, address string) bool {
	if f.Redis.Err != nil {
		host, _, _ := net.SplitHostPort(address)
		own, err := netip.ParseAddr(host)
		return err == nil && slices.Contains(ownAddresses(), own)
	}
	for _, s := range f.Sentinels.All {
		if s.Report == nil {
			continue
		}
		for _, k := range s.Report.Nodes {
			if k.Address == address && k.RunID == f.Redis.Observation.RunID {
				return true
			}
		}
	}
	return false
}

// ownAddresses are those of this host.
func ownAddresses() (all []netip.Addr) {
	found, _ := net.InterfaceAddrs()
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr())
		}
	}
	return all
}

// direct uses no proxy, whatever the environment says: the nodes are neighbours.
var direct = &http.Transport{DisableKeepAlives: true}

var errUnasked = errors.New("not asked")

// askDaemon asks the daemon of another node.
func askDaemon(ctx context.Context, listens, node string) (*report.Document, error) {
	at, port, err := net.SplitHostPort(listens)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no --http", errUnasked)
	}
	if ip, err := netip.ParseAddr(at); at == "localhost" || err == nil && ip.IsLoopback() {
		return nil, fmt.Errorf("%w: --http is on loopback", errUnasked)
	}
	host, _, _ := net.SplitHostPort(node)
	ctx, cancel := within(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://"+net.JoinHostPort(host, port)+"/status", nil)
	if err != nil {
		return nil, err
	}
	reply, err := direct.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	var doc report.Document
	switch {
	case reply.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("it wants a user's password")
	case json.Unmarshal(body, &doc) != nil || doc.Schema != report.Schema:
		return nil, fmt.Errorf("another program answers on port %s, or it wants TLS", port)
	}
	return &doc, nil
}

// learn notes what a daemon says.
func (n *Member) learn(doc *report.Document, err error) {
	if doc == nil {
		if err == nil {
			err = fmt.Errorf("%w: there is no --socket", errUnasked)
		}
		n.Error, n.unasked = err.Error(), errors.Is(err, errUnasked)
		return
	}
	n.Answer, n.Reason = doc.Answer, doc.Reason
	for _, v := range doc.VIP {
		if v.Held {
			n.VIP = append(n.VIP, v.Address)
		}
	}
	if o := doc.Observation; o != nil {
		n.Role, n.OffsetBytes = o.Role, new(o.OffsetBytes)
	}
}
