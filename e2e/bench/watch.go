package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/e2e/lab"
)

// A watcher is a way to watch one Redis.
type watcher struct {
	name   string
	conf   string // of keepalived or HAProxy
	script string // in place of that in conf
	daemon bool
}

func (w watcher) haproxy() bool { return strings.HasSuffix(w.conf, ".cfg") }

// watchers are compared with the second. The first costs what there would be
// without a check.
var watchers = []watcher{
	{name: "keepalived without a check", conf: "e2e/bench/classic.conf", script: "none"},
	{name: "keepalived, the classic script", conf: "e2e/bench/classic.conf"},
	{name: "keepalived, `redis-is-master`", conf: "keepalived/script.conf",
		script: "/usr/bin/env redis-is-master -q --password-file " + lab.PasswordFile},
	{name: "keepalived, `redis-is-master --cached`", conf: "keepalived/script.conf",
		script: "/usr/bin/env redis-is-master -q --cached", daemon: true},
	{name: "keepalived, track file", conf: "keepalived/track-file.conf", daemon: true},
	{name: "HAProxy, tcp-check", conf: "e2e/bench/haproxy-tcp-check.cfg"},
	{name: "HAProxy, our httpchk and agent-check", conf: "docker/haproxy.cfg", daemon: true},
}

// A cost is what was used in a period.
type cost struct {
	watcher, daemon, redis time.Duration // CPU
	asked                  float64       // INFO of Redis
}

func (c cost) all() float64 { return (c.watcher + c.daemon + c.redis).Seconds() }

func (c cost) less(other cost) cost {
	return cost{c.watcher - other.watcher, c.daemon - other.daemon, c.redis - other.redis, c.asked - other.asked}
}

// watching measures what it costs to watch one Redis.
func (b *bench) watching() (failed error) {
	b.printf(`CPU seconds in %v; keepalived's are with its children. Keepalived 2.2 runs a script once a second at most, so
10 and 50 checks a second are as many vrrp_script side by side; the daemon and HAProxy have an interval for that. With
the track file goes one exec a second, which notices a dead daemon. HAProxy has one server. Each set-up is in a network
of its own, and those of a rate run at the same time.
`, b.period)
	b.head("checks a second", "set-up", "keepalived or HAProxy", "daemon", "Redis", "all",
		"of the classic script", "INFO commands a second")
	for _, rate := range []int{1, 10, 50} {
		log.Printf("  %d a second", rate)
		costs, errs := make([]cost, len(watchers)), make([]error, len(watchers))
		var starting, all sync.WaitGroup
		starting.Add(len(watchers))
		for i, w := range watchers {
			all.Go(func() { costs[i], errs[i] = b.watch(w, rate, &starting) })
		}
		all.Wait()
		for i, w := range watchers {
			if c := costs[i]; errs[i] == nil {
				b.row(rate, w.name, c.watcher.Seconds(), c.daemon.Seconds(), c.redis.Seconds(), c.all(),
					fmt.Sprintf("%.0f %%", 100*c.all()/costs[1].all()), fmt.Sprintf("%.1f", c.asked/b.period.Seconds()))
				continue
			}
			failed = errors.Join(failed, errs[i])
			b.row(rate, w.name, "failed: "+short(errs[i]), "", "", "", "", "")
		}
	}
	return failed
}

// watch starts one set-up, waits until all others have been, and measures it.
func (b *bench) watch(w watcher, rate int, starting *sync.WaitGroup) (c cost, err error) {
	started := sync.OnceFunc(starting.Done)
	defer started()
	network, err := lab.NewNetwork()
	if err != nil {
		return c, err
	}
	defer network.Close()
	node, err := network.Add("node1")
	if err != nil {
		return c, err
	}
	proxy, err := network.Add("proxy")
	if err != nil {
		return c, err
	}
	conf, err := lab.Profile(w.conf)
	if err != nil {
		return c, err
	}
	interval := time.Second / time.Duration(rate)
	if w.haproxy() {
		conf = oneServer(conf, interval)
	} else {
		conf = manyScripts(conf, w.script, rate)
	}
	bin, err := filepath.Abs(b.bin)
	if err == nil {
		err = errors.Join(node.Install(bin+"/redis-is-master", "e2e/bench/classic.sh"),
			os.Mkdir(node.Path(lab.DaemonDir), 0o755),
			os.WriteFile(node.Path(lab.PasswordFile), []byte(password), 0o600),
			os.WriteFile(node.Path("/run/keepalived.conf"), []byte(conf), 0o600))
	}
	if err != nil {
		return c, err
	}
	redis := node.Process("redis-server", "--port", "6379", "--bind", "*", "--save", "", "--requirepass", password)
	daemon := node.Process(bin+"/redis-is-masterd", "--password-file", lab.PasswordFile, "--track-file", lab.TrackFile,
		"--interval", interval.String(), "--max-age", "3s",
		"--http", "10.0.0.1:9736", "--agent", "10.0.0.1:9737")
	watcher := node.Process("keepalived", "--dont-fork", "--log-console", "--log-detail", "--no-syslog", "--vrrp",
		"--use-file", "/run/keepalived.conf")
	to := "10.0.0.100:6379"
	if w.haproxy() {
		if watcher, err = lab.HAProxy(proxy, conf); err != nil {
			return c, err
		}
		to = proxy.Addr.String() + ":6379"
	}
	defer func() {
		for _, p := range []*lab.Process{watcher, daemon, redis} {
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, p.Tail(5))
			}
			p.Stop()
		}
	}()
	if err := redis.Start(); err != nil {
		return c, err
	}
	if w.daemon {
		if err := daemon.Start(); err != nil {
			return c, err
		}
	}
	if err := watcher.Start(); err != nil {
		return c, err
	}
	err = lab.Wait(w.name+" says yes", func() (bool, error) {
		if w.daemon {
			doc, err := cached.Ask(node.Path(lab.DaemonSocket), checker.DefaultTimeout, "")
			if err != nil || doc.Reason != checker.OK {
				return false, nil
			}
		}
		_, err := asked(node, to)
		return err == nil, nil
	})
	if err != nil {
		return c, err
	}
	started()
	starting.Wait()
	now := func() (c cost, err error) {
		c = cost{watcher: cpuWithChildren(watcher.Pid()), redis: cpu(redis.Pid())}
		if w.daemon {
			c.daemon = cpu(daemon.Pid())
		}
		c.asked, err = asked(node, "127.0.0.1:6379")
		return c, err
	}
	before, err := now()
	if err != nil {
		return c, err
	}
	time.Sleep(b.period)
	after, err := now()
	return after.less(before), err
}

// asked is how often a Redis was sent INFO.
func asked(h *lab.Host, addr string) (times float64, err error) {
	s, err := h.Dial("tcp", addr, time.Second)
	if err != nil {
		return 0, err
	}
	c, err := lab.NewConn(s, password, time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	said, err := c.Do(time.Second, []string{"INFO", "commandstats"})
	if err != nil {
		return 0, err
	}
	if m := regexp.MustCompile(`cmdstat_info:calls=(\d+)`).FindStringSubmatch(said[0]); m != nil {
		return strconv.ParseFloat(m[1], 64)
	}
	return 0, nil
}

var (
	scriptBlock   = regexp.MustCompile(`(?ms)^vrrp_script (redis|redis_is_master) \{.*?^\}\n`)
	scriptLine    = regexp.MustCompile(`script ".*"`)
	trackedScript = regexp.MustCompile(`(?m)^    track_script \{\n +(redis|redis_is_master)\n    \}\n`)
)

// manyScripts has the script of a keepalived.conf run several times a second,
// and another one if there is one.
func manyScripts(conf, script string, rate int) string {
	block := scriptBlock.FindString(conf)
	if block == "" {
		return conf
	}
	if script == "none" {
		rate = 0
	} else if script != "" {
		block = scriptLine.ReplaceAllLiteralString(block, fmt.Sprintf("script %q", script))
	}
	var blocks, tracked strings.Builder
	for i := range rate {
		name := fmt.Sprintf("check%d", i)
		blocks.WriteString(scriptBlock.ReplaceAllStringFunc(block, func(s string) string {
			_, rest, _ := strings.Cut(s, "{")
			return "vrrp_script " + name + " {" + rest
		}))
		fmt.Fprintf(&tracked, "        %s\n", name)
	}
	conf = scriptBlock.ReplaceAllLiteralString(conf, blocks.String())
	if rate == 0 {
		return trackedScript.ReplaceAllLiteralString(conf, "")
	}
	return trackedScript.ReplaceAllLiteralString(conf, "    track_script {\n"+tracked.String()+"    }\n")
}

var (
	forReaders = regexp.MustCompile(`(?m)^(frontend read|backend replicas)\n(.+\n)+`)
	others     = regexp.MustCompile(`(?m)^ +server node[23] .*\n`)
	inter      = regexp.MustCompile(`inter \w+`)
)

// oneServer leaves one server of a haproxy.cfg, that for writers, and sets its
// interval.
func oneServer(conf string, interval time.Duration) string {
	conf = others.ReplaceAllString(forReaders.ReplaceAllString(conf, ""), "")
	return inter.ReplaceAllString(conf, fmt.Sprintf("inter %dms", interval.Milliseconds()))
}

// cpuWithChildren is the user and system time of a process and of all that
// descend from it, those that have ended, too.
//
// Format: /proc/PID/stat, fields 16 and 17, in ticks of 10 ms; proc(5).
func cpuWithChildren(pid int) time.Duration {
	total := cpu(pid)
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	if f := strings.Fields(after); len(f) > 14 {
		for _, ticks := range f[13:15] {
			n, _ := strconv.Atoi(ticks)
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for child := range strings.FieldsSeq(string(b)) {
			n, _ := strconv.Atoi(child)
			total += cpuWithChildren(n)
		}
	}
	return total
}
