package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"redis-is-master/e2e/lab"
)

// A contestant is one way to ask, and what it took.
type contestant struct {
	name   string
	argv   []string
	exit   int
	walls  []float64 // milliseconds
	cpus   []float64 // milliseconds, user and system
	faults []float64
	rss    float64 // MiB
	failed error
}

// execs compares what one check costs as an exec.
func (b *bench) execs() error {
	tmp, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	floor, limit := filepath.Join(tmp, "floor"), filepath.Join(tmp, "limit")
	for _, argv := range [][]string{
		{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", floor, "./e2e/bench/floor"},
		{"gcc", "-O2", "-static", "-o", limit, "e2e/bench/limit/limit.c"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	credentials := filepath.Join(tmp, "credentials")
	if err := errors.Join(lab.WriteCerts(tmp), os.WriteFile(credentials, []byte(password+"\n"), 0o600)); err != nil {
		return err
	}
	server, err := lab.StartRedis(lab.Options{TCP: true, Password: password})
	if err != nil {
		return err
	}
	defer server.Close()
	secure, err := lab.StartRedis(lab.Options{TLS: true, Password: password, Dir: tmp,
		Args: []string{"--tls-auth-clients", "no"}})
	if err != nil {
		return err
	}
	defer secure.Close()
	check := filepath.Join(b.bin, "redis-is-master")
	daemon, err := lab.StartDaemon(filepath.Join(b.bin, "redis-is-masterd"), server, "--hello=off")
	if err != nil {
		return err
	}
	defer daemon.Close()

	port, tls := strconv.Itoa(server.Port),
		[]string{"--tls", "--cacert", filepath.Join(tmp, "ca.pem"), "-p", strconv.Itoa(secure.Port)}
	us := &contestant{name: "`redis-is-master`", argv: []string{check, "-q", "-p", port}}
	unix := &contestant{name: "`redis-is-master`, unix socket", argv: []string{check, "-q", "-s", server.Socket}}
	overTLS := &contestant{name: "`redis-is-master`, TLS", argv: append([]string{check, "-q"}, tls...)}
	cached := &contestant{name: "`redis-is-master --cached`", argv: []string{check, "-q", "--cached=" + daemon.Socket}}
	cli := &contestant{name: "redis-cli info replication", argv: []string{"redis-cli", "-p", port, "info", "replication"}}
	cliUnix := &contestant{name: "redis-cli, unix socket",
		argv: []string{"redis-cli", "-s", server.Socket, "info", "replication"}}
	cliTLS := &contestant{name: "redis-cli, TLS",
		argv: append(append([]string{"redis-cli"}, tls...), "info", "replication")}
	script := &contestant{name: "the classic script (classic.sh)", argv: []string{"e2e/bench/classic.sh", port, password}}
	plugin := &contestant{name: "Debian's check_redis",
		argv: []string{"/usr/lib/nagios/plugins/check_redis", "-H", "127.0.0.1", "-p", port, "-C", credentials,
			"-a", "role", "-w", "!master", "-c", "!master"}}
	static := &contestant{name: "static C, one write (limit.c): the limit", argv: []string{limit, port}}
	net := &contestant{name: "Go that imports net and does nothing: the limit of Go", argv: []string{floor}}
	nothing := &contestant{name: "/bin/true", argv: []string{"/bin/true"}}
	all := []*contestant{us, unix, overTLS, cached, cli, cliUnix, cliTLS, script, plugin, static, net, nothing}

	env := append(os.Environ(), "REDISCLI_AUTH="+password)
	order := make([]*contestant, 0, b.runs*len(all))
	for _, c := range all {
		c.failed = c.resolve()
		for range b.runs {
			order = append(order, c)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, c := range order {
		c.measure(env)
	}
	for _, c := range all {
		c.measureRSS(env)
	}

	b.printf("%d execs of each, in one run, in random order. CPU is user and system time with all children.\n", b.runs)
	b.head("program", "median ms", "p95 ms", "CPU ms", "peak RSS MiB", "page faults",
		"`redis-is-master` takes", "`--cached` takes")
	of := func(one, other *contestant) float64 { return quantile(one.walls, 0.5) / quantile(other.walls, 0.5) }
	for _, c := range all {
		if c.failed != nil {
			b.row(c.name, "failed: "+c.failed.Error(), "", "", "", "", "", "")
			continue
		}
		b.row(c.name, quantile(c.walls, 0.5), quantile(c.walls, 0.95), quantile(c.cpus, 0.5), fmt.Sprintf("%.1f", c.rss),
			fmt.Sprintf("%.0f", quantile(c.faults, 0.5)),
			fmt.Sprintf("%.2f of it", of(us, c)), fmt.Sprintf("%.2f of it", of(cached, c)))
	}
	b.targets()
	for _, t := range []struct {
		what       string
		one, other *contestant
		atMost     float64
	}{
		{"`redis-is-master` against redis-cli", us, cli, 0.55},
		{"`redis-is-master` against the classic script", us, script, 0.33},
		{"`redis-is-master` against Go that imports net", us, net, 2.0},
		{"`redis-is-master` against redis-cli, unix socket", unix, cliUnix, 0.60},
		{"`redis-is-master` against redis-cli, TLS", overTLS, cliTLS, 0.50},
		{"`--cached` against redis-cli", cached, cli, 0.47},
		{"`--cached` against the classic script", cached, script, 0.25},
		{"`--cached` against Go that imports net", cached, net, 1.5},
	} {
		if err := errors.Join(t.one.failed, t.other.failed); err != nil {
			b.row(t.what, "failed", t.atMost, "**missed**")
			continue
		}
		b.target(t.what, of(t.one, t.other), t.atMost)
	}
	b.target("peak RSS above that of redis-cli, MiB", us.rss-cli.rss, 1)

	closed, err := lab.FreePort()
	if err != nil {
		return err
	}
	refused, err := slowest(50, env, &contestant{argv: []string{us.argv[0], "-q", "-p", strconv.Itoa(closed)}, exit: 2})
	if err != nil {
		return err
	}
	b.target("refused, slowest of 50, ms", refused, 20)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stopped, err := slowest(20, env, &contestant{argv: []string{us.argv[0], "-q", "-p", port, "-t", "200ms"}, exit: 2})
	if err != nil {
		return err
	}
	b.target("a stopped server, slowest of 20, ms beyond the timeout", stopped-200, 50)
	if err := errors.Join(us.failed, cached.failed, cli.failed, script.failed, plugin.failed); err != nil {
		return err
	}
	median := func(c *contestant) float64 { return quantile(c.walls, 0.5) }
	b.lines = append(b.lines, fmt.Sprintf("One check takes %.1f ms, or %.1f ms from the daemon's socket; "+
		"redis-cli takes %.1f ms, the usual shell script %.1f ms, Debian's check_redis %.0f ms.",
		median(us), median(cached), median(cli), median(script), median(plugin)))
	return nil
}

func (c *contestant) resolve() error {
	path, err := exec.LookPath(c.argv[0])
	if err == nil {
		c.argv[0], err = filepath.Abs(path)
	}
	return err
}

// measure runs it once more, unless it has failed.
func (c *contestant) measure(env []string) {
	if c.failed != nil {
		return
	}
	wall, used, err := c.run(env)
	if c.failed = err; err != nil {
		return
	}
	c.walls = append(c.walls, wall)
	c.cpus = append(c.cpus, milliseconds(time.Duration(used.Utime.Nano()+used.Stime.Nano())))
	c.faults = append(c.faults, float64(used.Minflt+used.Majflt))
}

// run takes the time from before the fork until the exit is known, without
// os/exec around it.
func (c *contestant) run(env []string) (wall float64, used syscall.Rusage, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, used, err
	}
	defer null.Close()
	start := time.Now()
	pid, err := syscall.ForkExec(c.argv[0], c.argv,
		&syscall.ProcAttr{Env: env, Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
	if err != nil {
		return 0, used, err
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &used); err != syscall.EINTR {
			break
		}
	}
	wall = milliseconds(time.Since(start))
	if err == nil && status.ExitStatus() != c.exit {
		err = fmt.Errorf("%s: exit code %d, want %d", filepath.Base(c.argv[0]), status.ExitStatus(), c.exit)
	}
	return wall, used, err
}

// measureRSS takes the median of 11. A process that is forked by a large one
// inherits its peak, so the small time(1) stands between.
func (c *contestant) measureRSS(env []string) {
	var all []float64
	for i := 0; i < 11 && c.failed == nil; i++ {
		cmd := exec.Command("/usr/bin/time", append([]string{"-q", "-f", "%M"}, c.argv...)...)
		cmd.Env = env
		var stderr strings.Builder
		cmd.Stderr = &stderr
		cmd.Run()
		lines := strings.Fields(stderr.String())
		if len(lines) == 0 {
			c.failed = errors.New("time(1) said nothing of it")
			return
		}
		kib, err := strconv.ParseFloat(lines[len(lines)-1], 64)
		if err != nil {
			c.failed = err
		}
		all = append(all, kib/1024)
	}
	c.rss = quantile(all, 0.5)
}

// slowest is the slowest of n runs, in milliseconds.
func slowest(n int, env []string, c *contestant) (float64, error) {
	worst := 0.0
	for range n {
		wall, _, err := c.run(env)
		if err != nil {
			return 0, err
		}
		worst = max(worst, wall)
	}
	return worst, nil
}
