package main

import (
	"errors"
	"fmt"
	"log"
	"slices"
	"sync"
	"time"

	"redis-is-master/e2e/lab"
)

// onCrash marks the set-ups whose daemon asks for a failover.
const onCrash = ", " + asks

const asks = "--failover-on-crash"

// downAfters are the down-after-milliseconds that a crash is measured with: what the
// lab has, what many recommend, and the default of the Sentinels.
var downAfters = []int{1000, 5000, 30000}

// crashSetups are those of the table of failovers, each with one advert_int, and ours
// with --failover-on-crash as well.
func crashSetups() (all []setup) {
	for _, u := range setups {
		switch u.name {
		case "keepalived, classic script", "Sentinel hook", "HAProxy, tcp-check 1 s", "script, advert_int 0.02":
			all = append(all, u)
		case "HAProxy, httpchk + agent", shipped, "--vip, no keepalived", "weight, advert_int 0.02":
			with := u
			with.name, with.more = u.name+onCrash, []string{asks}
			all = append(all, u, with)
		}
	}
	return all
}

// A crashResult is what was seen of a set-up with one down-after.
type crashResult struct {
	setup
	downAfter int
	write     sample // from the death to the first write that another node acknowledged
	lost      sample // writes that were acknowledged 100 ms and more before, and all that were lost
	all       sample
	failed    error
}

// dying measures how long clients cannot write when the master's Redis dies.
func (b *bench) dying() error {
	var results []*crashResult
	for _, u := range crashSetups() {
		for _, ms := range downAfters {
			results = append(results, &crashResult{setup: u, downAfter: ms})
		}
	}
	var all sync.WaitGroup
	free := make(chan struct{}, b.labs)
	for _, r := range results {
		free <- struct{}{}
		all.Go(func() {
			begun := time.Now()
			r.failed = r.run(b)
			log.Printf("  %s, down-after %d: %d crashes in %v", r.name, r.downAfter, len(r.write.all),
				time.Since(begun).Round(time.Second))
			<-free
		})
	}
	all.Wait()
	return b.showCrashes(results)
}

// rounds is how often the master is killed: more often where a p99 is promised, and
// less where each takes half a minute.
func (r *crashResult) rounds(b *bench) int {
	switch {
	case r.promised():
		return b.failovers * 5 / 2
	case r.downAfter > 10000 && r.more == nil:
		return max(b.failovers/3, 1)
	}
	return b.failovers
}

func (r *crashResult) promised() bool { return r.often && r.more != nil }

func (r *crashResult) run(b *bench) error {
	s, err := r.start(b.bin)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, n := range s.Nodes {
		for _, setting := range [][]string{
			{"down-after-milliseconds", fmt.Sprint(r.downAfter)}, {"failover-timeout", "3000"},
		} {
			if _, err := n.AskSentinel("SENTINEL", "SET", lab.MasterName, setting[0], setting[1]); err != nil {
				return err
			}
		}
	}
	for range r.rounds(b) {
		if err := r.round(s); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until the daemon of the master could ask for a failover, if it may.
func (u setup) ready(m *lab.Node) error {
	if !slices.Contains(u.more, asks) {
		return nil
	}
	return lab.Wait("a failover could be asked for", func() (bool, error) {
		d, err := m.Document()
		return err == nil && d.Daemon.CrashFailover.Ready, nil
	})
}

// crashPatience is how long a crash may take.
const crashPatience = 2 * time.Minute

func (r *crashResult) round(s *lab.Site) error {
	m := s.Master()
	if m == nil {
		return errors.New("there is no master")
	}
	if err := r.ready(m); err != nil {
		return err
	}
	at := s.Note("kill -9 of Redis on %s", m.Name)
	m.Redis.Kill()
	var next lab.Ack
	for next.Node == nil {
		for _, a := range s.Client.Acks(at) {
			if a.Node != m {
				next = a
				break
			}
		}
		if time.Since(at) > crashPatience {
			return fmt.Errorf("no other node has acknowledged a write within %v", crashPatience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.write.add(next.At.Sub(at))
	lost, old := 0, 0
	for _, a := range s.Client.Acks(at.Add(-10 * time.Second)) {
		if a.Node == m && a.Value >= next.Value {
			if lost++; at.Sub(a.At) > 100*time.Millisecond {
				old++
			}
		}
	}
	r.all.all, r.lost.all = append(r.all.all, float64(lost)), append(r.lost.all, float64(old))
	if err := m.Redis.Start("--replicaof", next.Node.Addr.String(), "6379"); err != nil {
		return err
	}
	return s.Settle()
}

func (b *bench) showCrashes(results []*crashResult) (failed error) {
	b.printf(`Three nodes with Redis and Sentinel each, and a client that writes to the VIP every 4 ms and gives a
dial 60 ms; %d labs at a time. Milliseconds, p50 / p99 / max, from kill -9 of the master's Redis to the first write
that another node acknowledges, by the down-after-milliseconds of the Sentinels. Its host lives on. With
--failover-on-crash, which is off unless it is given, the daemon asks a Sentinel for a failover at once: that needs
nobody's consent but its own. Lost: writes of all rounds that were acknowledged and are gone, and those of them that
were older than 100 ms.
`, b.labs)
	b.head("set-up", "down-after", "crashes", "kill to write", "lost", "older", "failed")
	for _, r := range results {
		why := ""
		if r.failed != nil {
			why = short(r.failed)
			failed = errors.Join(failed, fmt.Errorf("%s, down-after %d: %w", r.name, r.downAfter, r.failed))
		}
		b.row(r.name, r.downAfter, len(r.write.all), three(r.write), sum(r.all), sum(r.lost), why)
	}
	b.targets()
	for _, r := range results {
		if r.promised() {
			what := fmt.Sprintf("%s, down-after %d, kill to write, ", r.name, r.downAfter)
			b.target(what+"p50, ms", quantile(r.write.all, 0.5), 350)
			b.target(what+"p99, ms", quantile(r.write.all, 0.99), 500)
			b.target(what+"lost and older than 100 ms", quantile(r.lost.all, 1), 0)
		}
	}
	if failed == nil {
		b.lines = append(b.lines, crashLine(results))
	}
	return failed
}

func sum(s sample) (n int) {
	for _, v := range s.all {
		n += int(v)
	}
	return n
}

// crashLine is the README's line on a crash.
func crashLine(results []*crashResult) string {
	of := func(name string, downAfter int) float64 {
		i := slices.IndexFunc(results, func(r *crashResult) bool { return r.name == name && r.downAfter == downAfter })
		return quantile(results[i].write.all, 0.5) / 1000
	}
	return fmt.Sprintf("From `kill -9` of the master's Redis to the next write through the VIP: %.2f s with "+
		"`--failover-on-crash` (opt-in: a forced failover asks nobody's consent but ours). Without it, with "+
		"`down-after-milliseconds` 1000 and 5000: %.1f and %.1f s; with the usual script %.1f and %.1f s, with HAProxy's "+
		"tcp-check %.1f and %.1f s.",
		of(shipped+onCrash, 5000), of(shipped, 1000), of(shipped, 5000), of(setups[0].name, 1000), of(setups[0].name, 5000),
		of(setups[2].name, 1000), of(setups[2].name, 5000))
}
