package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// An observer sees when something became true, by asking once a millisecond.
type observer struct {
	mu   sync.Mutex
	is   bool
	when time.Time
}

func (o *observer) run(ctx context.Context, ask func() bool) {
	for ctx.Err() == nil {
		is := ask()
		o.mu.Lock()
		if is != o.is {
			o.is, o.when = is, time.Now()
		}
		o.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// since waits until it is as wanted, and returns since when.
func (o *observer) since(wanted bool) (when time.Time, err error) {
	err = lab.Wait("an observer has seen it", func() (bool, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		when = o.when
		return o.is == wanted && !o.when.IsZero(), nil
	})
	return when, err
}

// A watched node has a daemon, and three observers of its own.
type watched struct {
	daemon            *lab.Daemon
	role, track, http observer
}

func watch(ctx context.Context, bin string, r *lab.Redis, args ...string) (*watched, error) {
	port, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	w := &watched{}
	if w.daemon, err = lab.StartDaemon(filepath.Join(bin, "redis-is-masterd"), r,
		append(args, "--http", addr)...); err != nil {
		return nil, err
	}
	node := &checker.Redis{Network: "unix", Address: r.Socket}
	if r.Password != "" {
		node.Password = func(context.Context) (string, error) { return r.Password, nil }
	}
	go w.role.run(ctx, func() bool {
		o, err := node.Probe(ctx)
		return err == nil && o.Role == checker.RoleMaster
	})
	go w.track.run(ctx, func() bool { return w.daemon.Track() == "1" })
	var c *client
	go w.http.run(ctx, func() bool {
		if c == nil {
			if c, _ = connect(addr); c == nil {
				return false
			}
		}
		code, err := c.get("/master")
		if err != nil {
			c = nil
		}
		return code == 200
	})
	return w, nil
}

// client is one HTTP connection with keep-alive, as small as can be.
type client struct {
	net.Conn
	*bufio.Reader
}

func connect(addr string) (*client, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{c, bufio.NewReader(c)}, nil
}

func (c *client) get(path string) (code int, err error) {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c.Conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if first {
			if f := strings.Fields(line); len(f) > 1 {
				code, _ = strconv.Atoi(f[1])
			}
		}
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(n))
		}
		if line == "\r\n" {
			_, err := c.Discard(length)
			return code, err
		}
	}
}

// flips measures how long the daemon takes to say what happened.
func (b *bench) flips() error {
	b.printf("In milliseconds, `--interval` %v. A poller asks Redis, the track file and /master once a millisecond.\n",
		checker.DefaultInterval)
	b.samples()
	return errors.Join(b.crashes(), b.demotions(), b.promotions())
}

// crashes is what happens to one node without a Sentinel.
func (b *bench) crashes() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interval := float64(checker.DefaultInterval.Milliseconds())
	timeout := float64(checker.DefaultTimeout.Milliseconds())
	killed := sample{name: "kill -9 of Redis to track file 0", atMost: 20}
	manual := sample{name: "manual REPLICAOF to track file 0", atMost: interval + 20}
	back := sample{name: "manual REPLICAOF NO ONE to track file 1", atMost: interval + 20}
	stopped := sample{name: "SIGSTOP of Redis to track file 0",
		atMost: float64(checker.DefaultFall)*(interval+timeout) + 50}
	refused := sample{name: "Redis back after 5 s of refusals, to track file 1", atMost: interval + 20}

	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := lab.StartRedis(lab.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { r.Close() }()
	w, err := watch(ctx, b.bin, r, "--hello=off")
	if err != nil {
		return err
	}
	defer w.daemon.Close()
	measure := func(s *sample, wanted bool, do func() error) error {
		begun := time.Now()
		if err := do(); err != nil {
			return err
		}
		if s == &manual || s == &back || s == &refused {
			begun = time.Now()
		}
		when, err := w.track.since(wanted)
		s.add(when.Sub(begun))
		return err
	}
	up := func() error {
		_, err := w.track.since(true)
		return err
	}
	for range 20 {
		if err := up(); err != nil {
			return err
		}
		if err := measure(&manual, false, func() error {
			_, err := r.Do("REPLICAOF", "127.0.0.1", "1")
			return err
		}); err != nil {
			return err
		}
		if err := measure(&back, true, func() error { _, err := r.Do("REPLICAOF", "NO", "ONE"); return err }); err != nil {
			return err
		}
		if err := measure(&killed, false, func() error { return r.Signal(syscall.SIGKILL) }); err != nil {
			return err
		}
		r.Kill()
		if r, err = lab.StartRedis(lab.Options{Dir: dir}); err != nil {
			return err
		}
	}
	for range 5 {
		if err := up(); err != nil {
			return err
		}
		if err := measure(&stopped, false, func() error { return r.Signal(syscall.SIGSTOP) }); err != nil {
			return err
		}
		if err := r.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	for range 4 {
		if err := up(); err != nil {
			return err
		}
		r.Kill()
		time.Sleep(5 * time.Second)
		if err := measure(&refused, true, func() error {
			r, err = lab.StartRedis(lab.Options{Dir: dir})
			return err
		}); err != nil {
			return err
		}
	}
	for _, s := range []*sample{&killed, &manual, &back, &stopped, &refused} {
		b.sample(s)
	}
	return nil
}

// promotions lets real Sentinels move the role between two nodes.
func (b *bench) promotions() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := lab.StartCluster(2, lab.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	nodes := make([]*watched, len(c.Nodes))
	for i, r := range c.Nodes {
		if nodes[i], err = watch(ctx, b.bin, r); err != nil {
			return err
		}
		defer nodes[i].daemon.Close()
	}
	track := sample{name: "Sentinel promotes to track file 1, after a 1 ms poller saw it", atMost: 10}
	http := sample{name: "Sentinel promotes to /master 200, after a 1 ms poller saw it", atMost: 10}
	master, other := nodes[0], nodes[1]
	for range 20 {
		for _, s := range c.Sentinels {
			if err := s.Until("slave", "SENTINEL", "REPLICAS", lab.MasterName); err != nil {
				return err
			}
		}
		err := lab.Wait("a Sentinel begins a failover", func() (bool, error) {
			out, _ := c.Sentinels[0].Do("SENTINEL", "FAILOVER", lab.MasterName)
			return out == "OK", nil
		})
		if err == nil {
			err = other.flip(true, &track, &http)
		}
		if err == nil {
			_, err = master.role.since(false)
		}
		if err == nil {
			err = c.Ready()
		}
		if err == nil {
			_, err = c.Master()
		}
		if err != nil {
			return err
		}
		master, other = other, master
	}
	b.sample(&track)
	b.sample(&http)
	return nil
}

// flip waits until a change of the role has reached the track file and
// /master, and adds how long that took.
func (w *watched) flip(wanted bool, track, http *sample) error {
	seen, err := w.role.since(wanted)
	if err != nil {
		return err
	}
	for o, s := range map[*observer]*sample{&w.track: track, &w.http: http} {
		when, err := o.since(wanted)
		if err != nil {
			return err
		}
		s.add(when.Sub(seen))
	}
	return nil
}

// demotions sends a node what a Sentinel sends it. A real Sentinel demotes a
// master ten seconds after another was promoted, and by then the guard has
// ended the yes.
func (b *bench) demotions() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := lab.StartRedis(lab.Options{Args: []string{"--replicaof", "127.0.0.1 1"}})
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := watch(ctx, b.bin, r)
	if err != nil {
		return err
	}
	defer w.daemon.Close()
	track := sample{name: "Sentinel's demotion to track file 0, after a 1 ms poller saw it", atMost: 10}
	http := sample{name: "Sentinel's demotion to /master 503, after a 1 ms poller saw it", atMost: 10}
	for range 20 {
		for _, step := range []struct {
			to          string
			master      bool
			track, http *sample
		}{{"NO ONE", true, &sample{}, &sample{}}, {"127.0.0.1 1", false, &track, &http}} {
			if err := r.Until("cmd=subscribe", "CLIENT", "LIST"); err != nil {
				return err
			}
			sentinel, err := net.Dial("unix", r.Socket)
			if err != nil {
				return err
			}
			fmt.Fprintf(sentinel, "MULTI\r\nSLAVEOF %s\r\nCONFIG REWRITE\r\nCLIENT KILL TYPE normal\r\n"+
				"CLIENT KILL TYPE pubsub\r\nEXEC\r\n", step.to)
			err = w.flip(step.master, step.track, step.http)
			sentinel.Close()
			if err != nil {
				return err
			}
		}
	}
	b.sample(&track)
	b.sample(&http)
	return nil
}

// idle measures what a daemon costs that has nothing to say.
func (b *bench) idle() error {
	const period = time.Minute
	r, err := lab.StartRedis(lab.Options{TCP: true, Password: password})
	if err != nil {
		return err
	}
	defer r.Close()
	alone := cpu(r.Pid())
	time.Sleep(period / 2)
	alone = 2 * (cpu(r.Pid()) - alone)
	d, err := lab.StartDaemon(filepath.Join(b.bin, "redis-is-masterd"), r, "--http", "127.0.0.1:0",
		"--agent", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer d.Close()
	us, them := cpu(d.Pid()), cpu(r.Pid())
	time.Sleep(period)
	us, them = cpu(d.Pid())-us, cpu(r.Pid())-them
	b.printf("Over %v, `--interval` %v.\n", period, checker.DefaultInterval)
	b.targets()
	percent := func(t time.Duration) float64 { return 100 * t.Seconds() / period.Seconds() }
	b.target("CPU of the daemon, % of a core", percent(us), 1)
	b.target("CPU of Redis, % of a core", percent(them), 0.5)
	b.row("CPU of Redis without the daemon, % of a core", percent(alone), "", "")
	b.target("RSS of the daemon, MiB", rss(d.Pid()), 25)
	return nil
}

// cpu is the user and system time of a process.
//
// Format: /proc/PID/task/TID/schedstat, field 1, in nanoseconds; proc(5).
func cpu(pid int) time.Duration {
	var total time.Duration
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		if f := strings.Fields(string(b)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

func rss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// throughput asks for /master as fast as one client can, while the daemon
// goes on checking.
func (b *bench) throughput() error {
	r, err := lab.StartRedis(lab.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	port, err := lab.FreePort()
	if err != nil {
		return err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	d, err := lab.StartDaemon(filepath.Join(b.bin, "redis-is-masterd"), r, "--hello=off", "--http", addr)
	if err != nil {
		return err
	}
	defer d.Close()
	const period, connections = 10 * time.Second, 8
	ctx, cancel := context.WithTimeout(context.Background(), period)
	defer cancel()
	var requests, wrong atomic.Int64
	var all sync.WaitGroup
	for range connections {
		c, err := connect(addr)
		if err != nil {
			return err
		}
		all.Go(func() {
			defer c.Close()
			for ctx.Err() == nil {
				if code, err := c.get("/master"); err != nil || code != 200 {
					wrong.Add(1)
					return
				}
				requests.Add(1)
			}
		})
	}
	var last time.Time
	late := time.Duration(0)
	for ctx.Err() == nil {
		doc, err := d.Document()
		if err != nil {
			return err
		}
		if !last.IsZero() && doc.Time.After(last) {
			late = max(late, doc.Time.Sub(last)-checker.DefaultInterval)
		}
		last = doc.Time
		time.Sleep(10 * time.Millisecond)
	}
	all.Wait()
	b.printf("/master from one client with %d connections, client and daemon on the same cores: "+
		"%.0f answers a second, at least 20000 wanted.\n", connections, float64(requests.Load())/period.Seconds())
	b.targets()
	b.target("wrong answers", float64(wrong.Load()), 0)
	b.target("the poller was late by at most, ms", milliseconds(late), float64(checker.DefaultInterval.Milliseconds()))
	return nil
}
