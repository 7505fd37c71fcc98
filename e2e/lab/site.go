package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SiteOptions say what kind of site to start.
type SiteOptions struct {
	Bin        string // directory with the built commands
	Keepalived string // the keepalived.conf of every node; see [Profile]; empty for no keepalived
	Hook       string // instead, the client-reconfig-script of the Sentinels, which moves [HookVIP]
	// HAProxy is, instead, the haproxy.cfg of a host that the client connects
	// to: who has the VIP is whom HAProxy sends to.
	HAProxy    string
	Daemon     []string // more flags of redis-is-masterd
	NoDaemon   bool     // keepalived asks Redis itself
	Programs   []string // more of them for /usr/local/bin of every node
	Priorities bool     // of keepalived decide, so that somebody always has the VIP
	Held       string   // by the daemon itself: the VIP, with its length, instead of a keepalived.conf
	Seen       func(Event)
	Nodes      int // 3 if 0
}

// A Site is three nodes with Redis, Sentinel, redis-is-masterd and keepalived
// each, and a client that writes to the VIP, on a [Network] of their own.
type Site struct {
	Nodes    []*Node
	Client   *Client
	Timeline *Timeline
	VIP      netip.Addr

	options SiteOptions
	net     *Network
	proxy   *Process // nil without HAProxy
	stop    context.CancelFunc
	watches sync.WaitGroup
	closing sync.Once

	mu       sync.Mutex
	password string
}

// SitePassword is what Redis wants at first.
const SitePassword = "a-password-of-the-lab"

// Profile reads a configuration, as this project ships it or as it is set up
// today, and sets what belongs to the lab: the password, or its path.
func Profile(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.NewReplacer("/etc/redis-is-master/password", PasswordFile, "PASSWORD", SitePassword).
		Replace(string(b)), err
}

// HookVIP is the VIP of a site without keepalived.
const HookVIP = "10.0.0.100"

// vip is the address that it is all about.
func (o SiteOptions) vip() (netip.Addr, error) {
	if o.Held != "" {
		p, err := netip.ParsePrefix(o.Held)
		return p.Addr(), err
	}
	if o.Keepalived == "" {
		return netip.ParseAddr(HookVIP)
	}
	vip := vipIn.FindStringSubmatch(o.Keepalived)
	if vip == nil {
		return netip.Addr{}, errors.New("the keepalived.conf has no virtual_ipaddress that is a single host")
	}
	return netip.ParseAddr(vip[1])
}

var vipIn = regexp.MustCompile(`virtual_ipaddress \{\s+(\S+)/(?:32|128)\s`)

// StartSite starts a site, the first node as the master, and returns when all
// is as it should be. End it by [Site.Close].
func StartSite(o SiteOptions) (s *Site, err error) {
	addr, err := o.vip()
	if err != nil {
		return nil, err
	}
	if o.Hook != "" {
		o.Programs = append(o.Programs, o.Hook)
	}
	s = &Site{options: o, VIP: addr, Timeline: &Timeline{Seen: o.Seen}, password: SitePassword}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.options.Bin, err = filepath.Abs(o.Bin); err != nil {
		return s, err
	}
	if s.net, err = NewNetwork(); err != nil {
		return s, err
	}
	for i := range cmp.Or(o.Nodes, 3) {
		if _, err := s.net.Add(fmt.Sprintf("node%d", i+1)); err != nil {
			return s, err
		}
	}
	for _, h := range s.net.Hosts {
		n, err := newNode(s, h)
		if err != nil {
			return s, err
		}
		s.Nodes = append(s.Nodes, n)
	}
	host, err := s.net.Add("client")
	if err != nil {
		return s, err
	}
	if err := s.watch(ctx); err != nil {
		return s, err
	}
	s.Client = newClient(host, s)
	if o.HAProxy != "" {
		if err := s.startHAProxy(ctx); err != nil {
			return s, err
		}
	}
	s.watches.Go(func() { s.Client.run(ctx) })
	// A Sentinel that begins before the replicas are there looks for them
	// again only after ten seconds.
	for _, n := range s.Nodes {
		if err := n.Redis.Start(); err != nil {
			return s, err
		}
	}
	for _, n := range s.Nodes[1:] {
		err := Wait("the replicas follow", func() (bool, error) {
			info, _ := n.Ask("INFO", "replication")
			return strings.Contains(info, "master_link_status:up"), nil
		})
		if err != nil {
			return s, fmt.Errorf("%w\n%s", err, s.logs())
		}
	}
	for _, n := range s.Nodes {
		if err := n.start(); err != nil {
			return s, err
		}
	}
	if o.Hook != "" { // which is called only when something changes
		first := s.Nodes[0].Addr.String()
		if err := s.Nodes[0].Run("/usr/local/bin/"+filepath.Base(o.Hook), MasterName, "leader", "start", first,
			fmt.Sprint(redisPort), first, fmt.Sprint(redisPort)); err != nil {
			return s, err
		}
	}
	return s, s.Settle()
}

func (s *Site) startHAProxy(ctx context.Context) error {
	h, err := s.net.Add("proxy")
	if err != nil {
		return err
	}
	if s.proxy, err = HAProxy(h, s.options.HAProxy); err != nil {
		return err
	}
	s.Client.Use(net.JoinHostPort(h.Addr.String(), fmt.Sprint(redisPort)))
	for _, n := range s.Nodes {
		s.watches.Go(func() { n.watchRoute(ctx, h) })
	}
	return s.proxy.Start()
}

// AddHost puts another host onto its network.
func (s *Site) AddHost(name string) (*Host, error) { return s.net.Add(name) }

// Plug puts the network of a process onto its own, as eth0 of an address.
func (s *Site) Plug(pid int, address netip.Prefix) error { return s.net.plug(pid, address) }

// HAProxy is HAProxy with a configuration, to be started on a host.
func HAProxy(h *Host, config string) (*Process, error) {
	err := os.WriteFile(h.Path("/run/haproxy.cfg"), []byte(config), 0o600)
	return newProcess(h, "haproxy", "-db", "-f", "/run/haproxy.cfg"), err
}

// Close ends all that runs on it; nothing of it is left.
func (s *Site) Close() {
	s.closing.Do(s.close)
}

func (s *Site) close() {
	s.stop()
	for _, n := range s.Nodes {
		for _, p := range n.Processes() {
			p.Kill()
		}
	}
	if s.proxy != nil {
		s.proxy.Kill()
	}
	s.watches.Wait()
	if s.net != nil {
		s.net.Close()
	}
}

// Password is the one that Redis wants now.
func (s *Site) Password() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password
}

// SetPassword changes it, at first where it is presented.
func (s *Site) SetPassword(password string) error {
	s.mu.Lock()
	old := s.password
	s.mu.Unlock()
	for _, n := range s.Nodes {
		c, err := n.Dial(time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := n.AskSentinel("SENTINEL", "SET", MasterName, "auth-pass", password); err != nil {
			return err
		}
		file := n.Path(PasswordFile)
		if err := os.WriteFile(file+".new", []byte(password+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
		for _, key := range []string{"masterauth", "requirepass"} {
			if _, err := c.Do(time.Second, []string{"CONFIG", "SET", key, password}); err != nil {
				return err
			}
		}
		if _, err := c.Do(time.Second, []string{"CONFIG", "REWRITE"}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.password == old {
		s.password = password
	}
	return nil
}

// Node is the one of a name.
func (s *Site) Node(name string) *Node {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Master is the node that the Sentinels agree on now, nil if there is none.
func (s *Site) Master() *Node {
	s.Timeline.mu.Lock()
	defer s.Timeline.mu.Unlock()
	return s.Node(s.Timeline.now.Agreed())
}

// Others are all nodes but one.
func (s *Site) Others(but *Node) (all []*Node) {
	for _, n := range s.Nodes {
		if n != but {
			all = append(all, n)
		}
	}
	return all
}

// Settle waits until all is as it should be: all Sentinels know each other and
// name the same node, that alone is master and has the VIP, its daemon says
// yes, the other two follow it, and the client writes to it.
func (s *Site) Settle() error {
	err := s.Timeline.Until("the site has settled", func(now State) bool {
		master := now.Agreed()
		for _, n := range s.Nodes {
			want := Replica
			if n.Name == master {
				want = Master
			}
			if s.hasDaemon() && n.Name == master && now.Answer[n.Name] != "yes" {
				return false
			}
			if now.Names[n.Name] != master || now.Role[n.Name] != want || now.VIP[n.Name] != (n.Name == master) {
				return false
			}
		}
		return master != ""
	})
	if err == nil {
		err = Wait("the replicas follow and the Sentinels know each other", func() (bool, error) { return s.linked(), nil })
	}
	if err == nil {
		from := time.Now()
		err = Wait("the client writes", func() (bool, error) {
			last, ok := s.Client.Last()
			return ok && last.Sent.After(from) && last.Node == s.Master(), nil
		})
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.logs())
	}
	return nil
}

func (s *Site) linked() bool {
	master := s.Master()
	for _, n := range s.Nodes {
		info, _ := n.Ask("INFO", "replication")
		if n == master {
			if strings.Count(info, "state=online") != len(s.Nodes)-1 {
				return false
			}
		} else {
			if master == nil || !strings.Contains(info, "master_link_status:up") ||
				!strings.Contains(info, "master_host:"+master.Addr.String()) {
				return false
			}
		}
		known, _ := n.AskSentinel("SENTINEL", "MASTER", MasterName)
		f := strings.Split(known, "\n")
		fields := map[string]string{}
		for i := 0; i+1 < len(f); i += 2 {
			fields[f[i]] = f[i+1]
		}
		if fields["num-slaves"] != strconv.Itoa(len(s.Nodes)-1) ||
			fields["num-other-sentinels"] != strconv.Itoa(len(s.Nodes)-1) || fields["flags"] != "master" {
			return false
		}
	}
	return true
}

// Calm waits until all Sentinels have heard from the replicas that they are
// replicas, which may take them ten seconds after it became so. Before that
// they may undo a planned failover.
func (s *Site) Calm() error {
	return Wait("the Sentinels have heard from all replicas", func() (bool, error) {
		for _, n := range s.Nodes {
			known, err := n.AskSentinel("SENTINEL", "REPLICAS", MasterName)
			if err != nil || strings.Count(known, "role-reported\nslave") != len(s.Nodes)-1 ||
				strings.Count(known, "flags\nslave\n") != len(s.Nodes)-1 {
				return false, err
			}
		}
		return true, nil
	})
}

// Note records in the timeline what is about to be done.
func (s *Site) Note(format string, args ...any) time.Time {
	at := time.Now()
	s.Timeline.Add(at, "", Fault, fmt.Sprintf(format, args...))
	return at
}

// Moved waits until the VIP is on another node than one, and on that alone,
// and a majority of the Sentinels names it.
func (s *Site) Moved(from *Node) error {
	return s.Timeline.Until("the VIP has moved from "+from.Name, func(now State) bool {
		holders := now.Holders()
		return len(holders) == 1 && holders[0] != from.Name && now.Agreed() == holders[0]
	})
}

// Announced waits until all Sentinels name the same node.
func (s *Site) Announced() error {
	return s.Timeline.Until("all Sentinels name the same node", func(now State) bool {
		for _, n := range s.Nodes {
			if agreed := now.Agreed(); agreed == "" || now.Names[n.Name] != agreed {
				return false
			}
		}
		return true
	})
}

// Nobody waits until no node has the VIP; where priorities decide, until none
// has it whose daemon says yes.
func (s *Site) Nobody() error {
	return s.Timeline.Until("nobody has the VIP", func(now State) bool {
		return !slices.ContainsFunc(now.Holders(), func(node string) bool {
			return !s.options.Priorities || now.Answer[node] == "yes"
		})
	})
}

func (s *Site) hasDaemon() bool { return !s.options.NoDaemon && s.options.Hook == "" }

func (s *Site) hasKeepalived() bool { return s.options.Keepalived != "" }

func (s *Site) logs() string {
	var b strings.Builder
	for _, n := range s.Nodes {
		for _, p := range n.Processes() {
			fmt.Fprintf(&b, "--- %s, running %v:\n%s\n", p.Name, p.Running(), p.Tail(8))
		}
	}
	if s.proxy != nil {
		fmt.Fprintf(&b, "--- %s, running %v:\n%s\n", s.proxy.Name, s.proxy.Running(), s.proxy.Tail(8))
	}
	return b.String()
}
