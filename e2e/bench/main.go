// Bench measures what one check costs, side by side with what people use
// today, and prints ratios: run it by make bench.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"redis-is-master/e2e/lab"
)

const password = "bench-password"

// A contestant is one way to ask, and what it took.
type contestant struct {
	name  string
	argv  []string
	exit  int
	walls []float64 // milliseconds
	rss   int       // KiB
}

func main() {
	log.SetFlags(0)
	runs := flag.Int("runs", 400, "execs of each contestant")
	bin := flag.String("bin", "bin", "directory with the built commands")
	only := flag.String("only", "", "a part alone: exec, flip, idle or http")
	flag.Parse()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"exec", func() error { return execs(*runs, *bin) }},
		{"flip", func() error { return flips(*bin) }},
		{"idle", func() error { return idle(*bin) }},
		{"http", func() error { return throughput(*bin) }},
	} {
		if *only == "" || *only == part.name {
			if err := part.run(); err != nil {
				log.Fatal("bench: ", err)
			}
			fmt.Println()
		}
	}
}

// execs compares what one check costs as an exec.
func execs(runs int, bin string) error {
	server, err := lab.StartRedis(lab.Options{TCP: true, Password: password})
	if err != nil {
		return err
	}
	defer server.Close()
	tmp, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	floor := filepath.Join(tmp, "floor")
	build := exec.Command("go", "build", "-trimpath", "-o", floor, "./e2e/bench/floor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}

	port := strconv.Itoa(server.Port)
	check := filepath.Join(bin, "redis-is-master")
	daemon, err := lab.StartDaemon(filepath.Join(bin, "redis-is-masterd"), server)
	if err != nil {
		return err
	}
	defer daemon.Close()
	contestants := []*contestant{
		{name: "redis-is-master", argv: []string{check, "-q", "-p", port}},
		{name: "redis-is-master, unix socket", argv: []string{check, "-q", "-s", server.Socket}},
		{name: "redis-cli info replication", argv: []string{"redis-cli", "-p", port, "info", "replication"}},
		{name: "the classic script", argv: []string{"e2e/bench/classic.sh", port, password}},
		{name: "a Go program that only imports net", argv: []string{floor}},
		{name: "redis-is-master --cached", argv: []string{check, "-q", "--cached=" + daemon.Socket}},
		{name: "/bin/true", argv: []string{"/bin/true"}},
	}
	env := append(os.Environ(), "REDISCLI_AUTH="+password)
	for _, c := range contestants {
		if err := c.resolve(); err != nil {
			return err
		}
	}
	order := make([]*contestant, 0, runs*len(contestants))
	for range runs {
		order = append(order, contestants...)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, c := range order {
		wall, err := c.run(env)
		if err != nil {
			return err
		}
		c.walls = append(c.walls, wall)
	}
	for _, c := range contestants {
		if err := c.measureRSS(env); err != nil {
			return err
		}
	}

	fmt.Printf("One check, %d execs each in one run in random order, on %s.\n\n", runs, machine())
	fmt.Println("| program | median ms | p95 ms | redis-is-master is | peak RSS MiB |\n|---|---|---|---|---|")
	us := contestants[0]
	for _, c := range contestants {
		fmt.Printf("| %s | %.2f | %.2f | %.2f of it | %.1f |\n", c.name, quantile(c.walls, 0.5), quantile(c.walls, 0.95),
			quantile(us.walls, 0.5)/quantile(c.walls, 0.5), float64(c.rss)/1024)
	}
	fmt.Println()
	against := func(one, other int) float64 {
		return quantile(contestants[one].walls, 0.5) / quantile(contestants[other].walls, 0.5)
	}
	verdict("against redis-cli alone", against(0, 2), 0.60)
	verdict("against the classic script", against(0, 3), 0.33)
	verdict("against a Go program that only imports net", against(0, 4), 2.0)
	verdict("--cached against redis-cli alone", against(5, 2), 0.45)
	verdict("--cached against the classic script", against(5, 3), 0.25)
	verdict("--cached against a Go program that only imports net", against(5, 4), 1.5)
	verdict("peak RSS above that of redis-cli, MiB", float64(us.rss-contestants[2].rss)/1024, 1)

	closed, err := lab.FreePort()
	if err != nil {
		return err
	}
	refused, err := repeat(50, env, &contestant{argv: []string{us.argv[0], "-q", "-p", strconv.Itoa(closed)}, exit: 2})
	if err != nil {
		return err
	}
	verdict("refused, slowest of 50, ms", refused, 20)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stopped, err := repeat(20, env, &contestant{argv: []string{us.argv[0], "-q", "-p", port, "-t", "200ms"}, exit: 2})
	if err != nil {
		return err
	}
	verdict("a stopped server, slowest of 20, ms beyond the timeout", stopped-200, 50)
	return nil
}

func (c *contestant) resolve() error {
	path, err := exec.LookPath(c.argv[0])
	if err == nil {
		c.argv[0], err = filepath.Abs(path)
	}
	return err
}

// run takes the time from before the fork until the exit is known, without
// os/exec around it.
func (c *contestant) run(env []string) (float64, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	start := time.Now()
	pid, err := syscall.ForkExec(c.argv[0], c.argv, &syscall.ProcAttr{Env: env, Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	wall := float64(time.Since(start).Microseconds()) / 1000
	if err == nil && status.ExitStatus() != c.exit {
		err = fmt.Errorf("%s: exit code %d, want %d", c.argv[0], status.ExitStatus(), c.exit)
	}
	return wall, err
}

// measureRSS is the median of 11. A process that is forked by a large one
// inherits its peak, so the small time(1) stands between.
func (c *contestant) measureRSS(env []string) error {
	var all []float64
	for range 11 {
		cmd := exec.Command("/usr/bin/time", append([]string{"-q", "-f", "%M"}, c.argv...)...)
		cmd.Env = env
		var stderr strings.Builder
		cmd.Stderr = &stderr
		cmd.Run()
		lines := strings.Fields(stderr.String())
		if len(lines) == 0 {
			return fmt.Errorf("time said nothing of %s", c.name)
		}
		kib, err := strconv.ParseFloat(lines[len(lines)-1], 64)
		if err != nil {
			return err
		}
		all = append(all, kib)
	}
	c.rss = int(quantile(all, 0.5))
	return nil
}

// repeat returns the slowest of n runs.
func repeat(n int, env []string, c *contestant) (float64, error) {
	slowest := 0.0
	for range n {
		wall, err := c.run(env)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, wall)
	}
	return slowest, nil
}

func quantile(all []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func verdict(what string, got, atMost float64) {
	word := "met"
	if got > atMost {
		word = "MISSED"
	}
	fmt.Printf("%-56s %6.2f, at most %5.2f: %s\n", what, got, atMost, word)
}

func machine() string {
	model := runtime.GOARCH
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(data), "\n") {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(name, "\t :")
				break
			}
		}
	}
	version, _ := exec.Command("redis-server", "--version").Output()
	redis := ""
	for field := range strings.FieldsSeq(string(version)) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			redis = ", Redis " + v
		}
	}
	return fmt.Sprintf("%d cores of %s, %s%s", runtime.NumCPU(), model, runtime.Version(), redis)
}
