package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/keepalived/lint"
)

// A Replica is what a Sentinel has seen last of one that it knows.
type Replica struct {
	Address string
	Role    string // of INFO: master or slave
	Down    bool
	Offset  int64 // negative if it did not tell
}

// maxReplicas bounds what is read of a Sentinel.
const maxReplicas = 64

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
// --http. It changes nothing, and sends no password of Redis to another node.
func GatherCluster(ctx context.Context, t Target) Cluster {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	var f Facts
	f.Daemon = gatherDaemon(ctx, t)
	var heard []checker.Hello
	f.Redis, heard = gatherRedis(ctx, t, len(t.Listed) == 0 && !knowsSentinels(f.Daemon.Document))
	f.Sentinels = gatherSentinels(ctx, t, f, heard)
	c := newCluster(f)
	vips, missing := virtualAddresses(t)
	c.VIP, c.VIPError = texts(vips), brief(missing)
	own := ownAddresses()
	ask := newDaemonClient(ctx, t, vips)
	var asking sync.WaitGroup
	for i := range c.Nodes {
		n := &c.Nodes[i]
		asking.Go(func() {
			known := addressesOf(ctx, n.Address)
			if isHere(f, n.Address) {
				n.learn(f.Daemon.Document, f.Daemon.SocketErr)
				n.look(vips, known, func(a netip.Addr) (present, known bool) {
					return slices.Contains(own, a), len(own) > 0
				})
			} else {
				doc, err := ask.ask(ctx, n.Address, known)
				n.learn(doc, err)
				n.look(vips, known, saysOf(doc))
			}
			n.VIPKnown = n.VIPKnown && missing == ""
		})
	}
	asking.Wait()
	c.behind()
	c.judge()
	return c
}

// newCluster is what the Sentinels say.
func newCluster(f Facts) Cluster {
	c := Cluster{Schema: Schema, Name: f.Sentinels.Name, VIP: []string{}, Nodes: []Member{},
		Sentinels: []Voice{}}
	node := func(address string) *Member {
		i := slices.IndexFunc(c.Nodes, func(n Member) bool { return n.Address == address })
		if i < 0 {
			i = len(c.Nodes)
			c.Nodes = append(c.Nodes, Member{Address: address, VIP: []string{}, NamedBy: []string{}})
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
		a, err := netip.ParseAddr(host)
		return err == nil && slices.Contains(ownAddresses(), a.Unmap())
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
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
}

// learn notes what a daemon says. Any program may have said it.
func (n *Member) learn(doc *report.Document, err error) {
	if doc == nil {
		if err == nil {
			err = fmt.Errorf("%w: there is no --socket", errUnasked)
		}
		n.Error, n.unasked = brief(err.Error()), errors.Is(err, errUnasked)
		return
	}
	n.Answer, n.Reason = doc.Answer, checker.Reason(brief(string(doc.Reason)))
	for _, v := range doc.VIP[:min(len(doc.VIP), maxVIPs)] {
		if p, err := netip.ParsePrefix(v.Address); err == nil && v.Held {
			n.has(p.Addr())
		}
	}
	if o := doc.Observation; o != nil {
		n.Role, n.OffsetBytes = checker.Role(brief(string(o.Role))), new(o.OffsetBytes)
	}
}

// has notes a virtual address that the node's host has.
func (n *Member) has(vip netip.Addr) {
	if text := vip.Unmap().String(); !slices.Contains(n.VIP, text) {
		n.VIP = append(n.VIP, text)
	}
}

// look notes which of the virtual addresses the host has, given whether it has an address
// and by which addresses the node is known. Where the host has none of these, it is not in
// the network of the node, as a container is not, so that what it lacks says nothing.
func (n *Member) look(vips, node []netip.Addr, has func(netip.Addr) (present, known bool)) {
	n.VIPKnown = slices.ContainsFunc(node, func(a netip.Addr) bool {
		present, known := has(a)
		return present && known
	})
	for _, a := range vips {
		present, known := has(a)
		n.VIPKnown = n.VIPKnown && known
		if present && known {
			n.has(a)
		}
	}
}

// maxVIPs bounds how many addresses are looked for, and by how many a node is known: a
// daemon tells of 16.
const maxVIPs = 8

// virtualAddresses are those of keepalived here that follow Redis, or all of it if none
// does, and those that the daemon is told of. The error says why some may be missing.
func virtualAddresses(t Target) (all []netip.Addr, missing string) {
	add := func(a netip.Addr) {
		if a = a.Unmap(); !slices.Contains(all, a) && len(all) < maxVIPs {
			all = append(all, a)
		}
	}
	for _, p := range t.VIP {
		add(p.Addr())
	}
	for _, a := range t.WatchedVIP {
		add(a)
	}
	host := lint.ThisHost()
	k := findKeepalived(host)
	if k.File == "" {
		return all, k.Err
	}
	s, err := lint.Summarize(host, k.File)
	if err != nil {
		return all, k.File + ": " + reason(err)
	}
	follows := slices.ContainsFunc(s.Instances, func(i lint.Instance) bool { return i.Follows })
	for _, i := range s.Instances {
		for _, p := range i.Addresses {
			if i.Follows == follows {
				add(p.Addr())
			}
		}
	}
	return all, ""
}

// addressesOf are those of a node, which the Sentinels may know by name.
func addressesOf(ctx context.Context, node string) []netip.Addr {
	host, _, _ := net.SplitHostPort(node)
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ctx, cancel := within(ctx)
	defer cancel()
	all, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	all = all[:min(len(all), maxVIPs)]
	for i := range all {
		all[i] = all[i].Unmap()
	}
	return all
}
