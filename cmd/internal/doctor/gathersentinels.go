package doctor

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
)

// maxSentinels bounds how many are asked: whoever may publish hellos can make
// up others.
const maxSentinels = 16

// gatherSentinels asks all that are known, and then those that they know.
func gatherSentinels(ctx context.Context, t Target, f Facts, heard []checker.Hello) Sentinels {
	s := Sentinels{Off: t.NoSentinels, User: or(t.Sentinel.Username, "default"), Password: t.SentinelPasswordFile}
	if s.Off {
		return s
	}
	known := &acquaintance{keptOnly: len(t.Listed) > 0 && t.Sentinel.Password != nil && t.Sentinel.TLS == nil}
	for _, a := range t.Listed {
		known.add(a, "--sentinel", true)
	}
	if doc := f.Daemon.Document; knowsSentinels(doc) {
		for _, a := range doc.Observation.Standing.Asked {
			known.add(a.Sentinel, "the daemon", false)
		}
		for _, c := range doc.Observation.Standing.Claims {
			known.add(c.Sentinel, "the daemon", false)
		}
	}
	for _, h := range heard {
		known.add(h.From, "its hello", false)
	}
	if len(t.Listed) == 0 {
		known.add("127.0.0.1:26379", "a guess", false)
	}
	begin := 0
	for range 2 { // those that are known, and those that they know
		end := len(known.all)
		var asking sync.WaitGroup
		for _, p := range known.all[begin:end] {
			if p.asked = p.listed || !known.keptOnly; p.asked {
				asking.Go(func() { p.ask(ctx, t, f) })
			}
		}
		asking.Wait()
		for _, p := range known.all[begin:end] {
			for _, a := range p.others {
				known.add(a, p.Address, false)
			}
		}
		begin = end
	}
	// One by several addresses is one.
	ids := make(map[string]bool)
	for _, p := range known.all {
		guessed := slices.Equal(p.From, []string{"a guess"}) && p.Err != nil
		if !p.asked || guessed || p.id != "" && ids[p.id] {
			continue
		}
		ids[p.id] = true
		s.All = append(s.All, p.Sentinel)
	}
	slices.SortFunc(s.All, func(a, b Sentinel) int { return strings.Compare(a.Address, b.Address) })
	s.Name = nameOf(t.Name, known.all)
	for i := range s.All {
		one := &s.All[i]
		for _, p := range known.all {
			if p.Address == one.Address {
				one.Report, one.Met, one.Replicas = p.reports[s.Name], p.met[s.Name], p.replicas[s.Name]
				one.Quorum, one.QuorumErr = p.quorum[s.Name], or(p.quorumErr[s.Name], "it gave no answer")
			}
		}
		if one.Report != nil && one.Report.Err == nil {
			one.resolve(ctx)
		}
	}
	if len(s.All) == 0 && (f.Redis.Forbidden || f.Redis.Err != nil) {
		s.Trouble = "their hellos cannot be heard, see the checks of Redis"
	}
	return s
}

// An acquaintance is the Sentinels that are known so far.
type acquaintance struct {
	all      []*peer
	keptOnly bool // only listed ones may be sent the password
}

// A peer is a Sentinel, and what it said of each master.
type peer struct {
	Sentinel

	listed, asked bool
	id            string
	others        []string // Sentinels that it knows
	reports       map[string]*sentinel.Report
	met           map[string]bool
	quorum        map[string]string
	quorumErr     map[string]string
	replicas      map[string][]Replica
}

func (k *acquaintance) add(address, from string, listed bool) {
	for _, p := range k.all {
		if p.Address == address {
			if !slices.Contains(p.From, from) && len(p.From) < 2 {
				p.From = append(p.From, from)
			}
			return
		}
	}
	if len(k.all) < maxSentinels {
		k.all = append(k.all, &peer{Sentinel: Sentinel{Address: address, From: []string{from}}, listed: listed})
	}
}

// nameOf is the name of the master to look at: the listed one, the only one, or
// that of the node.
func nameOf(listed string, all []*peer) string {
	if listed != "" {
		return listed
	}
	var names []string
	for _, p := range all {
		for name, r := range p.reports {
			if p.met[name] {
				return name
			}
			if r.Err == nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return ""
}

// ask learns all of one Sentinel.
func (p *peer) ask(ctx context.Context, t Target, f Facts) {
	p.reports, p.met = make(map[string]*sentinel.Report), make(map[string]bool)
	p.quorum, p.quorumErr = make(map[string]string), make(map[string]string)
	p.replicas = make(map[string][]Replica)
	node := fresh(t.Sentinel, p.Address)
	defer node.Close()
	asking, cancel := within(ctx)
	defer cancel()
	info := ""
	p.Err = node.Do(asking, [][]string{{"INFO", "sentinel"}}, func(replies []string) error {
		info = replies[0]
		if !strings.HasPrefix(info, "# Sentinel") {
			return errors.New("this is no Sentinel")
		}
		return nil
	})
	if p.Err != nil {
		p.Err = explain(p.Err)
		return
	}
	for key, value := range section(info, "# Sentinel") {
		rest, isName := strings.CutPrefix(value, "name=")
		if isName && strings.HasPrefix(key, "master") && len(p.Names) < 8 {
			name, _, _ := strings.Cut(rest, ",")
			p.Names = append(p.Names, name)
		}
	}
	slices.Sort(p.Names)
	c, err := client(asking, node)
	if err != nil {
		return
	}
	defer c.Close()
	for _, name := range p.Names {
		guarded(func() { p.about(ctx, c, name, info, f.Redis) })
	}
	if t.Name != "" && p.reports[t.Name] == nil {
		r := sentinel.Failed(t.Name, sentinel.ErrNoSuchMaster)
		p.reports[t.Name] = &r
	}
	guarded(func() { p.subscribe(ctx, c) })
	slices.Sort(p.Refused)
	p.Refused = slices.Compact(p.Refused)
}

// about asks for what the Sentinel knows of one master.
func (p *peer) about(ctx context.Context, c *redis.Client, name, info string, node Redis) {
	asking, cancel := within(ctx)
	defer cancel()
	pipe := c.Pipeline()
	id := pipe.Do(asking, "SENTINEL", "MYID")
	master, replicas := pipe.Do(asking, "SENTINEL", "MASTER", name), pipe.Do(asking, "SENTINEL", "REPLICAS", name)
	others := pipe.Do(asking, "SENTINEL", "SENTINELS", name)
	quorum := pipe.Do(asking, "SENTINEL", "CKQUORUM", name)
	hosts := pipe.Do(asking, "SENTINEL", "CONFIG", "GET", "resolve-hostnames")
	_, _ = pipe.Exec(asking) // each has an error of its own
	p.id, _ = id.Val().(string)
	p.replicas[name] = replicasSeen(replicas.Val())
	if r, err := sentinel.ParseMaster(name, master.Val()); err == nil {
		if state, err := sentinel.ParseSentinelInfo(name, info); err == nil {
			r.Tilt = state.Tilt
		}
		if replicas.Err() == nil {
			_ = r.AddReplicas(replicas.Val()) // what is not understood is not met
		}
		p.reports[name] = &r
	} else if r, err := sentinel.ParseSentinelInfo(name, info); err == nil {
		p.reports[name] = &r
	}
	if r := p.reports[name]; r != nil && node.Err == nil {
		p.met[name] = slices.ContainsFunc(r.Nodes, func(k sentinel.Known) bool {
			return k.RunID == node.Observation.RunID
		})
	}
	for _, cmd := range []*redis.Cmd{id, master, replicas} {
		if redis.IsPermissionError(cmd.Err()) {
			p.Refused = append(p.Refused, "+sentinel|"+strings.ToLower(cmd.Args()[1].(string)))
		}
	}
	if list, ok := others.Val().([]any); ok {
		for _, one := range list {
			fields := fieldsOf(one)
			if fields["ip"] != "" && fields["port"] != "" {
				p.others = append(p.others, net.JoinHostPort(fields["ip"], fields["port"]))
			}
		}
	}
	switch err := quorum.Err(); {
	case err == nil:
		p.quorum[name] = "yes"
	case redis.HasErrorPrefix(err, "NOQUORUM"), redis.HasErrorPrefix(err, "NOGOODSLAVE"):
		p.quorum[name] = "no"
	case redis.IsPermissionError(err):
		p.quorumErr[name] = "the user lacks +sentinel|ckquorum"
	}
	if fields := fieldsOf(hosts.Val()); fields["resolve-hostnames"] != "" {
		p.Hosts = fields["resolve-hostnames"]
	}
	if address := p.reports[name]; address != nil && address.Err == nil {
		if host, port, err := net.SplitHostPort(address.Master); err == nil {
			vote := c.Do(asking, "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, port, "0", "*")
			if redis.IsPermissionError(vote.Err()) {
				p.Refused = append(p.Refused, "+sentinel|is-master-down-by-addr")
			}
		}
	}
}

// subscribe learns whether the user may hear the events of the Sentinel.
func (p *peer) subscribe(ctx context.Context, c *redis.Client) {
	sub := c.Subscribe(ctx)
	defer sub.Close()
	err := sub.Subscribe(ctx, "+switch-master")
	if err == nil {
		_, err = sub.ReceiveTimeout(ctx, question)
	}
	if redis.IsPermissionError(err) {
		p.Refused = append(p.Refused, "+subscribe")
	}
}

// resolve looks a host name up by which the Sentinel names the master.
func (s *Sentinel) resolve(ctx context.Context) {
	host, _, _ := net.SplitHostPort(s.Report.Master)
	if net.ParseIP(host) != nil {
		return
	}
	ctx, cancel := within(ctx)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
		s.Hosts = "unresolved"
	}
}

// fieldsOf reads keys and values by turns.
func fieldsOf(reply any) map[string]string {
	fields := make(map[string]string)
	list, _ := reply.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		key, _ := list[i].(string)
		fields[key], _ = list[i+1].(string)
	}
	return fields
}

// explain gives an error the hint for a Sentinel.
func explain(err error) error {
	e := *cause(err)
	switch e.Reason {
	case checker.ReasonRefused:
		e.Hint = "there: systemctl enable --now redis-sentinel, and let it listen on that address"
	case checker.ReasonTimeout, checker.ReasonUnreachable:
		e.Hint = "there: see whether redis-sentinel hangs; open its port to this host in the firewall"
	case checker.ReasonAuth:
		e.Hint = "see --sentinel-password-file and --sentinel-user"
	case checker.ReasonPermission:
		e.Hint, e.Err = rights, errors.New("the user may not ask this Sentinel")
	case checker.ReasonProtocol:
		e.Hint = "is this the port of a Sentinel, and does it want --sentinel-tls?"
	case checker.ReasonTLS:
		e.Hint = "see --sentinel-tls, --sentinel-cacert and --sentinel-cert"
	}
	return &e
}
