package main

import (
	"errors"
	"fmt"
	"log"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"redis-is-master/e2e/lab"
)

// A setup is a way to let clients find the master, on three nodes of its own.
type setup struct {
	name   string
	ours   bool
	conf   string // of keepalived or HAProxy
	advert string // advert_int in place of that in conf
	flags  string // of redis-is-master in conf in place of the Sentinels
	hook   string // client-reconfig-script in place of conf
	daemon bool
	held   []string // flags of a daemon that holds the VIP itself
	more   []string // flags of a daemon beside these
	often  bool     // what is promised of it is a p99
	uptime int      // seconds that every Redis must be up before a failover, because of --min-uptime
	edits  []string // of conf: pairs, each for the other
	newer  bool     // needs a newer keepalived or HAProxy, so that -setup must name it
	busy   int      // loops beside it
}

// setups are those that are compared, in the order of the tables and the
// picture. Another way is another row.
var setups = []setup{
	{name: "keepalived, classic script", conf: "e2e/bench/classic.conf"},
	{name: "Sentinel hook", hook: "e2e/bench/hook.sh"},
	{name: "HAProxy, tcp-check 1 s", conf: "e2e/bench/haproxy-tcp-check.cfg"},

	{name: "HAProxy, httpchk + agent", ours: true, conf: "docker/haproxy.cfg", daemon: true},
	{name: shipped, ours: true, conf: "keepalived/track-file.conf", advert: "0.01", daemon: true, often: true},
	{name: asking, ours: true, conf: "keepalived/track-file.conf", advert: "0.01", daemon: true, more: []string{asks}},
	{name: "track file, advert_int 0.02", ours: true, conf: "keepalived/track-file.conf", advert: "0.02", daemon: true},
	{name: "track file, advert_int 0.1", ours: true, conf: "keepalived/track-file.conf", advert: "0.1", daemon: true},
	{name: "track file, advert_int 1", ours: true, conf: "keepalived/track-file.conf", advert: "1", daemon: true},
	{name: "--vip, no keepalived", ours: true, held: []string{}, daemon: true, often: true},
	{name: "--vip --vip-probe-ahead", ours: true, held: []string{"--vip-probe-ahead"}, daemon: true, often: true},
	{name: "script, advert_int 0.02", ours: true, conf: "keepalived/script.conf", advert: "0.02"},
	{name: "script, advert_int 0.1", ours: true, conf: "keepalived/script.conf", advert: "0.1"},
	{name: "script, advert_int 1", ours: true, conf: "keepalived/script.conf", advert: "1"},
	{name: "script, no Sentinels, 0.1", ours: true, conf: "keepalived/script.conf", advert: "0.1",
		flags: "--min-uptime 15s", uptime: 15},
	{name: "weight, advert_int 0.02", ours: true, conf: "keepalived/weight.conf", advert: "0.02", daemon: true},
	{name: "weight, advert_int 0.1", ours: true, conf: "keepalived/weight.conf", advert: "0.1", daemon: true},
	{name: "weight, advert_int 1", ours: true, conf: "keepalived/weight.conf", advert: "1", daemon: true},
	{name: "cached, advert_int 0.02", ours: true, conf: "keepalived/cached.conf", advert: "0.02", daemon: true,
		often: true, newer: true},
	{name: "cached, two busy loops", ours: true, conf: "keepalived/cached.conf", advert: "0.02", daemon: true,
		often: true, newer: true, busy: 2},
	{name: "HAProxy 3.2, agent", ours: true, conf: "docker/haproxy.cfg", daemon: true, newer: true},
	{name: "HAProxy 3.2, 10 ms checks", ours: true, conf: "docker/haproxy.cfg", daemon: true, newer: true,
		edits: []string{" agent-check agent-port 9737 agent-inter 100ms", " check-reuse-pool", "inter 100ms", "inter 10ms",
			"option httpchk GET /master\n",
			"option httpchk\n    http-check send meth GET uri /master ver HTTP/1.1 hdr Host redis\n",
			" agent-addr 10.0.0.1", "", " agent-addr 10.0.0.2", "", " agent-addr 10.0.0.3", ""}},
}

// shipped is the profile that the project recommends.
const shipped = "track file, advert_int 0.01"

// asking is that profile with --failover-on-crash.
const asking = "track file, asks on crash *"

var (
	advertInt = regexp.MustCompile(`advert_int \S+`)
	sentinels = regexp.MustCompile(`--sentinel[^"]*`)
)

func (u setup) start(bin string) (*lab.Site, error) {
	o := lab.SiteOptions{Bin: bin, NoDaemon: !u.daemon, Hook: u.hook, Programs: []string{"e2e/bench/classic.sh"}}
	if u.held != nil {
		o.Held, o.Daemon = lab.HookVIP+"/32", u.held
	}
	o.Daemon = slices.Concat(o.Daemon, u.more)
	if u.conf != "" {
		conf, err := lab.Profile(u.conf)
		if err != nil {
			return nil, err
		}
		conf = strings.NewReplacer(u.edits...).Replace(conf)
		if strings.HasSuffix(u.conf, ".cfg") {
			o.HAProxy = conf
		} else {
			o.Keepalived = conf
		}
		if u.advert != "" {
			o.Keepalived = advertInt.ReplaceAllString(conf, "advert_int "+u.advert)
		}
		if u.flags != "" {
			o.Keepalived = sentinels.ReplaceAllString(o.Keepalived, u.flags)
		}
	}
	return lab.StartSite(o)
}

// What is done to the master.
const (
	killed    = iota // kill -9; it comes back as a replica
	restarted        // kill -9; it comes back, as the master that it was, when another is one
	planned          // SENTINEL FAILOVER
	ways
)

// A result is what was seen of a set-up.
type result struct {
	setup
	// Of killed, in milliseconds: from the death to the promotion and to the
	// VIP gone from the old node, and from death and promotion to the VIP on
	// the promoted node, and to the first write that it acknowledged.
	role, gone, killVIP, killWrite, roleVIP, roleWrite sample
	// How long a node that was not the master had the VIP, and how many
	// writes were acknowledged by one that was no longer, and so were lost.
	wrong, lost [ways]sample
	rounds      int
	failed      []error
}

// follow measures how the VIP follows, several set-ups side by side.
func (b *bench) follow() error {
	wanted, err := regexp.Compile(b.setup)
	if err != nil {
		return err
	}
	setups := slices.DeleteFunc(slices.Clone(setups), func(u setup) bool {
		return !wanted.MatchString(u.name) || u.newer && b.setup == ""
	})
	results := make([]*result, len(setups))
	var all sync.WaitGroup
	free := make(chan struct{}, b.labs)
	for i, u := range setups {
		free <- struct{}{}
		all.Go(func() {
			begun := time.Now()
			results[i] = b.run(u)
			log.Printf("  %s: %d rounds in %v, %d failed", u.name, results[i].rounds, time.Since(begun).Round(time.Second),
				len(results[i].failed))
			<-free
		})
	}
	all.Wait()
	return b.show(results)
}

// run runs all rounds of one set-up. After one that failed it begins anew on
// fresh nodes, and after three it gives up.
func (b *bench) run(u setup) *result {
	r := &result{setup: u}
	var rounds []int
	failovers := b.failovers
	if u.often {
		failovers = failovers * 5 / 2
	}
	for range failovers {
		rounds = append(rounds, killed)
	}
	for range (b.failovers + 2) / 3 {
		rounds = append(rounds, restarted, planned)
	}
	for range u.busy {
		loop := exec.Command("sh", "-c", "while :; do :; done")
		if err := lab.Start(loop); err != nil { // it ends with this process
			r.failed = append(r.failed, err)
			return r
		}
		defer loop.Wait()
		defer loop.Process.Kill()
	}
	var s *lab.Site
	for i := 0; i < len(rounds); i++ {
		way := rounds[i]
		var err error
		if s == nil {
			s, err = u.start(b.bin)
		}
		if err == nil {
			r.rounds++
			err = r.round(s, way)
		}
		if errors.Is(err, errTwice) && len(rounds) < 2*failovers+10 {
			r.rounds--
			rounds = append(rounds, way)
			continue
		}
		if err != nil {
			log.Printf("  %s: %v", u.name, err)
			r.failed = append(r.failed, err)
			if s != nil {
				s.Close()
			}
			if s = nil; len(r.failed) == 3 {
				break
			}
		}
	}
	if s != nil {
		s.Close()
	}
	return r
}

// errTwice is of a round that says nothing about a set-up, and is repeated.
var errTwice = errors.New("the Sentinels have promoted two, one after the other")

func (r *result) round(s *lab.Site, way int) error {
	m := s.Master()
	if m == nil {
		return errors.New("there is no master")
	}
	if way == planned {
		if err := s.Calm(); err != nil {
			return err
		}
	}
	for _, n := range s.Others(m) {
		if err := lab.Wait(n.Name+" is not young", func() (bool, error) {
			info, err := n.Ask("INFO", "server")
			_, up, _ := strings.Cut(info, "uptime_in_seconds:")
			up, _, _ = strings.Cut(up, "\r")
			seconds, _ := strconv.Atoi(up)
			return seconds >= r.uptime, err
		}); err != nil {
			return err
		}
	}
	if err := r.ready(m); way != planned && err != nil {
		return err
	}
	from := s.Note("failover from %s", m.Name)
	if way != planned {
		m.Redis.Kill()
	} else if err := lab.Wait("a Sentinel begins a failover", func() (bool, error) {
		reply, _ := m.AskSentinel("SENTINEL", "FAILOVER", lab.MasterName)
		return reply == "OK", nil
	}); err != nil {
		return err
	}
	var next *lab.Node
	err := s.Timeline.Until("another is promoted", func(now lab.State) bool {
		for _, n := range s.Others(m) {
			if now.Role[n.Name] == lab.Master {
				next = n
			}
		}
		return next != nil
	})
	if err != nil {
		return err
	}
	switch way {
	case killed:
		if err := s.Moved(m); err != nil {
			return err
		}
		// So that the Sentinels need not make it a replica.
		if err := m.Redis.Start("--replicaof", next.Addr.String(), "6379"); err != nil {
			return err
		}
	case restarted:
		if err := m.Redis.Start(); err != nil {
			return err
		}
	}
	if err := s.Settle(); err != nil {
		return err
	}
	if s.Master() != next {
		return errTwice
	}
	promoted, _ := s.Timeline.First(from, next.Name, lab.Role, lab.Master)
	master := func(at time.Time) string {
		switch {
		case !at.Before(promoted.At):
			return next.Name
		case way == planned || at.Before(from):
			return m.Name
		}
		return ""
	}
	r.wrong[way].add(wrongHolder(s.Timeline.Since(time.Time{}), from, time.Now(), master, promoted.At))
	lost := 0
	acks := s.Client.Acks(from)
	for _, a := range acks {
		if a.Node != next && a.Sent.After(promoted.At) {
			lost++
		}
	}
	r.lost[way].all = append(r.lost[way].all, float64(lost))
	if way != killed {
		return nil
	}
	vip, ok := s.Timeline.First(from, next.Name, lab.VIP, "up")
	if !ok {
		return errors.New("the VIP was not seen to come")
	}
	gone, ok := s.Timeline.First(from, m.Name, lab.VIP, "down")
	if !ok {
		return errors.New("the VIP was not seen to go")
	}
	for _, a := range acks {
		if a.Node == next {
			r.gone.add(gone.At.Sub(from))
			r.role.add(promoted.At.Sub(from))
			r.killVIP.add(vip.At.Sub(from))
			r.roleVIP.add(vip.At.Sub(promoted.At))
			r.killWrite.add(a.At.Sub(from))
			r.roleWrite.add(a.At.Sub(promoted.At))
			return nil
		}
	}
	return errors.New("no write was acknowledged")
}

// wrongHolder is how long a node had the VIP that was not the master, who is
// another from a change on.
func wrongHolder(events []lab.Event, from, to time.Time,
	master func(time.Time) string, change time.Time) (wrong time.Duration) {
	holds := map[string]bool{}
	last := from
	until := func(at time.Time) {
		for node, has := range holds {
			if has && at.After(last) && node != master(last) {
				wrong += at.Sub(last)
				break
			}
		}
		if at.After(last) {
			last = at
		}
	}
	step := func(at time.Time) {
		if last.Before(change) && at.After(change) {
			until(change)
		}
		until(at)
	}
	for _, e := range events {
		if e.Kind == lab.VIP {
			step(e.At)
			holds[e.Node] = e.What == "up"
		}
	}
	step(to)
	return wrong
}

// show writes the tables, and draws the picture.
func (b *bench) show(results []*result) (failed error) {
	b.printf(`Three nodes with Redis and Sentinel each (down-after-milliseconds 1000), and a client that writes to the VIP
every 4 ms; %d labs at a time. Milliseconds, p50 / p99 / max, from kill -9 of the master to the VIP gone from its node,
and from that and from the moment in which another says role:master to the VIP on that node, and to the first write
that it acknowledges.
With HAProxy, which is on a host of its own, to have the VIP is to be sent new connections. No replica is younger than
the --min-uptime of the script.
`, b.labs)
	b.head("set-up", "failovers", "kill to VIP gone", "kill to VIP", "role to VIP", "kill to write", "role to write")
	for _, r := range results {
		b.row(r.name, len(r.role.all), three(r.gone), three(r.killVIP), three(r.roleVIP),
			three(r.killWrite), three(r.roleWrite))
	}
	b.printf(`
Wrong holders: for how many milliseconds the VIP was on a node that was not the master, sampled at each change; and how
many writes were acknowledged by a node after another had been promoted, and so were lost. The worst of all rounds.
Dead: the master is killed, and comes back as a replica. Restarted: it comes back as the master that it was, when
another has been promoted. Planned: SENTINEL FAILOVER, from the promotion on.
`)
	b.head("set-up", "rounds", "wrong, dead", "wrong, restarted", "wrong, planned",
		"lost, dead", "lost, restarted", "lost, planned", "failed")
	for _, r := range results {
		why := ""
		if len(r.failed) > 0 {
			failed = errors.Join(failed, fmt.Errorf("%s: %s", r.name, short(r.failed[0])))
			why = fmt.Sprintf("%d rounds: %s", len(r.failed), short(r.failed[0]))
		}
		cells := []any{r.name, r.rounds}
		for _, of := range [][ways]sample{r.wrong, r.lost} {
			for _, s := range of {
				cells = append(cells, worst(s))
			}
		}
		b.row(append(cells, why)...)
	}
	b.targets()
	for _, r := range results {
		switch r.name {
		case shipped:
			b.target("track file as shipped, role to VIP, p50, ms", quantile(r.roleVIP.all, 0.5), 60)
			b.target("track file as shipped, role to VIP, p99, ms", quantile(r.roleVIP.all, 0.99), 100)
			b.target("track file as shipped, kill to VIP gone, p99, ms", quantile(r.gone.all, 0.99), 50)
		case "--vip, no keepalived":
			b.target("--vip, role to VIP, p99, ms, with the probe of 60", quantile(r.roleVIP.all, 0.99), 120)
		case "--vip --vip-probe-ahead":
			b.target("--vip-probe-ahead, role to VIP, p99, ms", quantile(r.roleVIP.all, 0.99), 60)
		}
		if r.newer {
			b.target(r.name+", role to VIP, p99, ms", quantile(r.roleVIP.all, 0.99), 350)
		}
	}
	b.picture = draw(results)
	if failed == nil && b.setup == "" {
		b.lines = append(b.lines, headline(results))
	}
	return failed
}

// headline is the README's line on the worst that a round of any kind did.
func headline(results []*result) string {
	of := func(name string) *result {
		return results[slices.IndexFunc(results, func(r *result) bool { return r.name == name })]
	}
	us, script := of(shipped), of("keepalived, classic script")
	hook, tcp := of("Sentinel hook"), of("HAProxy, tcp-check 1 s")
	wrong := func(r *result) string {
		return fmt.Sprintf("%.1f s and %.0f", r.worstWrong()/1000, r.worstLost())
	}
	return fmt.Sprintf("In the worst of %d crashes, restarts and planned failovers (%d for the others) the VIP was on a "+
		"wrong node for %.1f s, and %.0f writes were lost; "+
		"%s with the usual script, %s with tcp-check, %s with the hook.",
		us.rounds, script.rounds, us.worstWrong()/1000, us.worstLost(), wrong(script), wrong(tcp), wrong(hook))
}

// worstWrong is the longest time of a wrong holder in a round, in
// milliseconds.
func (r *result) worstWrong() float64 { return worstOf(r.wrong) }

// worstLost is how many writes were lost at most in a round.
func (r *result) worstLost() float64 { return worstOf(r.lost) }

func worstOf(all [ways]sample) (most float64) {
	for _, s := range all {
		most = max(most, quantile(s.all, 1))
	}
	return most
}

func three(s sample) string {
	if len(s.all) == 0 {
		return "failed"
	}
	return fmt.Sprintf("%.0f / %.0f / %.0f", quantile(s.all, 0.5), quantile(s.all, 0.99), quantile(s.all, 1))
}

func worst(s sample) string {
	if len(s.all) == 0 {
		return "failed"
	}
	return fmt.Sprintf("%.0f", math.Round(quantile(s.all, 1)))
}
