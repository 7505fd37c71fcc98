// Package docker_test tests the image, and tells the whole story of a master
// that is lost and comes back, on the cluster of compose.yaml.
package docker_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// imageLimit is how large the image may be, and moveLimit the time from the role
// change in Redis until the VIP is there, in the best of three moves: a busy host
// takes longer, and the benchmark has the distribution.
const (
	imageLimit = 30_000_000
	moveLimit  = 150 * time.Millisecond
)

// output runs a command that must succeed.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestReproducible: two copies of the source in two directories make the same
// binaries, for both kinds of machine. Not beside the cluster, which would be
// short of time.
func TestReproducible(t *testing.T) {
	lab.Require(t, "make", "go")
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			var sums [2]map[string][32]byte
			for i := range sums {
				dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", i), "src")
				for _, name := range []string{"checker", "cmd", "docker", "e2e", "keepalived"} {
					lab.Check(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("..", name))))
				}
				for _, name := range []string{"go.mod", "go.sum", "Makefile"} {
					b, err := os.ReadFile(filepath.Join("..", name))
					lab.Check(t, err)
					lab.Check(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
				}
				// A stamp of the version control would tell them apart.
				for _, args := range [][]string{
					{"init", "-q"},
					{"-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", strconv.Itoa(i)},
				} {
					output(t, "git", append([]string{"-C", dir}, args...)...)
				}
				output(t, "make", "-C", dir, "-o", "deps", "image-files", "VERSION=test", "GOARCH="+arch)
				sums[i] = make(map[string][32]byte)
				bin := filepath.Join(dir, "bin/image")
				lab.Check(t, filepath.WalkDir(bin, func(path string, d fs.DirEntry, err error) error {
					if err != nil || !d.Type().IsRegular() {
						return err
					}
					b, err := os.ReadFile(path)
					name, _ := filepath.Rel(bin, path)
					sums[i][name] = sha256.Sum256(b)
					if strings.Contains(path, "/bin/redis-is-master") &&
						!bytes.Contains(b[:20], map[string][]byte{"amd64": {0x3e, 0}, "arm64": {0xb7, 0}}[arch]) {
						t.Errorf("%s is not for %s", name, arch)
					}
					return err
				}))
			}
			if len(sums[0]) != 3 {
				t.Errorf("%d files in the image", len(sums[0]))
			}
			for name, sum := range sums[0] {
				if sums[1][name] != sum {
					t.Errorf("%s differs", name)
				}
			}
		})
	}
}

// block is the code block of the README that begins so.
func block(t testing.TB, begin string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	lab.Check(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllSubmatch(readme, -1) {
		if strings.HasPrefix(string(m[1]), begin) {
			return string(m[1])
		}
	}
	t.Fatalf("the README has no block that begins with %q", begin)
	return ""
}

// TestReadme: compose takes what the README has for real hosts.
func TestReadme(t *testing.T) {
	t.Parallel()
	compose := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		lab.Require(t, "docker-compose")
		compose = []string{"docker-compose"}
	}
	file := filepath.Join(t.TempDir(), "compose.yaml")
	lab.Check(t, os.WriteFile(file, []byte(block(t, "services:")), 0o600))
	compose = append(compose, "-f", file, "config", "-q")
	if out, err := exec.Command(compose[0], compose[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPasswordFile: down removes the password that up made, and no other. The
// engine here is a script that answers as one with a healthy cluster does.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: the password is given to another user")
	}
	dir := t.TempDir()
	lab.Check(t, os.WriteFile(filepath.Join(dir, "docker"), []byte(`#!/bin/sh
case "$*" in
run*) # the command after "sh -c", with the mounted directory in its place
	while [ "$1" != -v ]; do shift; done
	mount=${2%:/secret}
	while [ "$1" != -c ]; do shift; done
	sh -c "$(echo "$2" | sed "s#/secret#$mount#g")" "$3" "$4" ;;
ps*) echo id ;;
*CKQUORUM*) echo OK 3 ;;
*REPLICAS*) printf 'role-reported\nslave\nrole-reported\nslave\n' ;;
*--cached) echo 2 replicas online ;;
logs*) echo node1 acknowledges ;;
esac
`), 0o755))
	file := filepath.Join(dir, "password")
	do := func(word string) {
		t.Helper()
		cmd := exec.Command("./cluster.sh", word)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "COMPOSE=true", "PASSWORD_FILE="+file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", word, err, out)
		}
	}
	has := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(file); string(b) != want || want == "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the password is %q: %v; want %q", b, err, want)
		}
	}
	do("up")
	if b, err := os.ReadFile(file); err != nil || len(b) != 48 {
		t.Fatalf("up made %q: %v", b, err)
	}
	do("up")
	do("down")
	has("")
	const own = "chosen by the operator"
	lab.Check(t, os.WriteFile(file, []byte(own), 0o400))
	do("up")
	do("down")
	has(own)
	lab.Check(t, os.Remove(file))
	do("up")
	lab.Check(t, os.WriteFile(file+".own", []byte(own), 0o400))
	lab.Check(t, os.Rename(file+".own", file)) // changed while it runs
	do("down")
	has(own)
	if left, _ := filepath.Glob(file + "?*"); left != nil {
		t.Errorf("%q is left", left)
	}
}

// A cluster is that of compose.yaml under a name of its own.
type cluster struct {
	testing.TB
	project, net, tag string
	env               []string
}

// images makes the images under a tag of its own.
func images(t testing.TB) *cluster {
	t.Helper()
	if err := exec.Command("docker", "info").Run(); err != nil {
		lab.Missing(t, "there is no Docker engine")
	}
	id := fmt.Sprintf("test-%d-%d", os.Getpid(), rand.IntN(1000))
	dir := lab.TempDir(t)
	lab.Check(t, os.Chmod(dir, 0o700))
	c := &cluster{TB: t, project: "redis-is-master-" + id, tag: id}
	c.env = append(
		os.Environ(),
		"COMPOSE_PROJECT_NAME="+c.project,
		"TAG="+id,
		"PASSWORD_FILE="+filepath.Join(dir, "password"),
		"COMPOSE_PROFILES=prometheus",
		"PROMETHEUS_PORT=",
	)
	t.Cleanup(func() {
		exec.Command("docker", "image", "rm", "-f", "redis-is-master:"+id, "redis-is-master-node:"+id,
			"redis-is-master-prometheus:"+id).Run()
	})
	if out, err := c.do("images"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return c
}

// do runs cluster.sh.
func (c *cluster) do(args ...string) (string, error) {
	cmd := exec.Command("./cluster.sh", args...)
	cmd.Env = append(c.env, "NET="+c.net)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) must(args ...string) {
	c.Helper()
	if out, err := c.do(args...); err != nil {
		c.Fatalf("cluster.sh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// start starts it, in a network that nothing else has.
func (c *cluster) start() {
	c.Helper()
	c.Cleanup(func() {
		if c.Failed() {
			for _, s := range c.services() {
				out, _ := exec.Command("docker", "logs", "--tail", "30", c.container(s)).CombinedOutput()
				c.Logf("--- %s\n%s", s, out)
			}
		}
		if out, err := c.do("down"); err != nil {
			c.Errorf("%v\n%s", err, out)
		}
		for _, list := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
			if left := output(c, "docker", append(list,
				"--filter", "label=com.docker.compose.project="+c.project)...); left != "" {
				c.Errorf("docker %s: %s is left", list[0], left)
			}
		}
	})
	for range 10 {
		c.net = fmt.Sprintf("10.%d.%d", 64+rand.IntN(64), rand.IntN(256))
		out, err := c.do("up")
		if err == nil {
			return
		}
		if !strings.Contains(out, "verlap") {
			c.Fatalf("%v\n%s", err, out)
		}
	}
	c.Fatal("no network is free")
}

func (c *cluster) vip() string { return c.net + ".100" }

// services are the names of all that have a container.
func (c *cluster) services() []string {
	return strings.Fields(
		output(
			c,
			"docker",
			"ps",
			"-a",
			"--filter",
			"label=com.docker.compose.project="+c.project,
			"--format",
			`{{.Label "com.docker.compose.service"}}`,
		),
	)
}

func (c *cluster) container(service string) string {
	return strings.TrimSpace(
		output(
			c,
			"docker",
			"ps",
			"-aq",
			"--filter",
			"label=com.docker.compose.project="+c.project,
			"--filter",
			"label=com.docker.compose.service="+service,
		),
	)
}

// exec runs a command beside a service; an error is its answer, too.
func (c *cluster) exec(service string, args ...string) string {
	c.Helper()
	out, err := exec.Command("docker", append([]string{"exec", c.container(service)}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// redis sends a command, from beside a service, to a Redis with the password.
func (c *cluster) redis(service, addr string, args ...string) string {
	c.Helper()
	host, port, _ := strings.Cut(addr, ":")
	return c.exec(
		service,
		append(
			[]string{
				"sh",
				"-c",
				`REDISCLI_AUTH=$(cat /run/secrets/redis-password) exec redis-cli -e -h "$@"`,
				"-",
				host,
				"-p",
				port,
			},
			args...)...)
}

// local asks the Redis of a node.
func (c *cluster) local(node int, args ...string) string {
	c.Helper()
	return c.redis(fmt.Sprint("redis", node), "127.0.0.1:6379", args...)
}

// holder is the node whose daemon says yes, 0 if there is none.
func (c *cluster) holder() int {
	for i := 1; i <= 3; i++ {
		if exec.Command("docker", "exec", c.container(fmt.Sprint("masterd", i)), "redis-is-master", "-q", "--cached").
			Run() ==
			nil {
			return i
		}
	}
	return 0
}

// moved waits until another node than old is master, and the client's writes
// are acknowledged by it.
func (c *cluster) moved(old int) (now int) {
	c.Helper()
	lab.Check(c, lab.Wait(fmt.Sprintf("the master moves from node%d", old), func() (bool, error) {
		if now = c.holder(); now == 0 || now == old {
			return false, nil
		}
		log := strings.TrimSpace(output(c, "docker", "logs", "--tail", "1", c.container("client")))
		return strings.Contains(log, fmt.Sprintf("node%d acknowledges", now)), nil
	}))
	return now
}

// An event is a line of an observer.
type event struct {
	at   time.Time
	node int
	what string
}

// events are those of all observers, in their order.
func (c *cluster) events() (all []event) {
	c.Helper()
	for i := 1; i <= 3; i++ {
		for line := range strings.Lines(output(c, "docker", "logs", c.container(fmt.Sprint("node", i)))) {
			f := strings.SplitN(strings.TrimSpace(line), " ", 3)
			at, err := time.Parse(time.RFC3339Nano, f[0])
			if err != nil || len(f) != 3 || f[1] != fmt.Sprint("node", i) {
				c.Fatalf("node%d: %q: %v", i, line, err)
			}
			all = append(all, event{at, i, f[2]})
		}
	}
	return all
}

func sorted(all []event) []event {
	slices.SortStableFunc(all, func(a, b event) int { return a.at.Compare(b.at) })
	return all
}

// together is for how long two nodes may have the VIP: the later promotion
// outbids the old master, who drops the VIP at the first advert.
const together = 50 * time.Millisecond

// holders goes through the events and returns who took the VIP, how long
// after the node had become master, and every time with two holders.
func holders(all []event) (nodes []int, delays []time.Duration, faults []string) {
	has := map[int]bool{}
	var two time.Time
	alone := func(e event) {
		if d := e.at.Sub(two); !two.IsZero() && d > together {
			faults = append(faults, fmt.Sprintf("%s: two nodes had the VIP for %v", e.at, d))
		}
		two = time.Time{}
	}
	master := map[int]time.Time{}
	for _, e := range sorted(all) {
		switch e.what {
		case "role master":
			master[e.node] = e.at
		case "vip up":
			has[e.node] = true
			nodes = append(nodes, e.node)
			since, ok := master[e.node]
			if !ok {
				faults = append(faults, fmt.Sprintf("%s: node%d has the VIP and is no master", e.at, e.node))
			}
			delays = append(delays, e.at.Sub(since))
			if len(has) > 1 && two.IsZero() {
				two = e.at
			}
		case "vip down":
			if delete(has, e.node); len(has) < 2 {
				alone(e)
			}
		default:
			delete(master, e.node)
		}
	}
	alone(event{at: time.Now()})
	return nodes, delays, faults
}

// TestHolders: the judge of the story sees what it is there to see.
func TestHolders(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	good := []event{
		{at(1), 1, "vip down"}, {at(2), 2, "vip down"}, {at(3), 1, "role master"}, {at(50), 1, "vip up"},
		{
			at(100),
			1,
			"vip down",
		}, {at(100), 1, "role none"}, {at(200), 2, "role slave"}, {at(300), 2, "role master"}, {at(380), 2, "vip up"},
	}
	nodes, delays, faults := holders(good)
	if !slices.Equal(nodes, []int{1, 2}) ||
		!slices.Equal(delays, []time.Duration{47 * time.Millisecond, 80 * time.Millisecond}) ||
		faults != nil {
		t.Error(nodes, delays, faults)
	}
	if _, _, faults := holders(slices.Concat(good, []event{{at(250), 2, "vip up"}})); len(faults) != 1 ||
		!strings.Contains(faults[0], "no master") {
		t.Error(faults)
	}
	both := slices.Concat(good, []event{{at(400), 1, "role master"}, {at(500), 1, "vip up"}})
	for _, test := range []struct {
		events []event
		fault  bool
	}{
		{both, true},
		{slices.Concat(both, []event{{at(551), 2, "vip down"}}), true},
		{slices.Concat(both, []event{{at(549), 2, "vip down"}}), false},
	} {
		_, _, faults := holders(test.events)
		if test.fault != (len(faults) == 1 && strings.Contains(faults[0], "two nodes had the VIP")) || len(faults) > 1 {
			t.Error(faults)
		}
	}
}

// TestCluster: the image is what it should be, and then the whole story. One
// test, for the images are made once.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := images(t)
	t.Run("image", func(t *testing.T) { testImage(t, "redis-is-master:"+c.tag) })
	t.Run("story", func(t *testing.T) {
		c.TB = t
		testStory(t, c)
	})
	c.TB = t
}

func testImage(t *testing.T, image string) {
	inspect := func(format string) string {
		return strings.TrimSpace(output(t, "docker", "image", "inspect", "-f", format, image))
	}
	size, err := strconv.Atoi(inspect("{{.Size}}"))
	lab.Check(t, err)
	t.Logf("the image has %.1f MB", float64(size)/1e6)
	if size > imageLimit {
		t.Errorf("the image has %d bytes, more than %d", size, imageLimit)
	}
	if user := inspect("{{.Config.User}}"); user != "65532:65532" {
		t.Errorf("user %q", user)
	}
	version := inspect(`{{index .Config.Labels "org.opencontainers.image.version"}}`)
	if version == "" || version != os.Getenv("VERSION") {
		t.Errorf("version %q; run make docker-test", version)
	}
	files := output(
		t,
		"sh",
		"-c",
		`id=$(docker create "$1") && docker export "$id" | tar --numeric-owner -tv; docker rm "$id" >/dev/null`,
		"-",
		image,
	)
	for _, want := range []string{
		`-rwxr-xr-x 0/0 .* usr/local/bin/redis-is-master\n`, `-rwxr-xr-x 0/0 .* usr/local/bin/redis-is-masterd\n`,
		`usr/local/bin/redis-is-replica -> redis-is-master\n`, `-rw-r--r-- 0/0 .* etc/ssl/certs/ca-certificates.crt\n`,
		`drwxr-xr-x 65532/65532 .* run/redis-is-master/\n`,
	} {
		if !regexp.MustCompile(want).MatchString(files) {
			t.Errorf("no %s in\n%s", want, files)
		}
	}
	if strings.Contains(files, "bin/sh") {
		t.Error("there is a shell")
	}
	if out, err := exec.Command("docker", "run", "--rm", "--network", "none", "--entrypoint", "redis-is-master", image,
		"--version").CombinedOutput(); exitCode(err) != 3 || strings.TrimSpace(string(out)) != "redis-is-master "+version {
		t.Errorf("%v: %s", err, out)
	}

	// Healthy is a daemon that answers, whatever it says; here that nothing
	// listens. Unhealthy is one that does not answer.
	run := func(args ...string) string {
		args = append(
			[]string{
				"run",
				"-d",
				"--network",
				"none",
				"--read-only",
				"--tmpfs",
				"/run/redis-is-master:uid=65532",
				"--cap-drop",
				"ALL",
				image,
			},
			args...)
		id := strings.TrimSpace(output(t, "docker", args...))
		t.Cleanup(func() { exec.Command("docker", "rm", "-f", "-v", id).Run() })
		return id
	}
	health := func(id, want string) {
		t.Helper()
		lab.Check(t, lab.Wait("the container is "+want, func() (bool, error) {
			return strings.TrimSpace(
				output(t, "docker", "inspect", "-f", "{{.State.Health.Status}}", id),
			) == want, nil
		}))
	}
	alive, mute := run(), run("--socket=", "--http=127.0.0.1:9736")
	health(alive, "healthy")
	health(mute, "unhealthy")
	if out, err := exec.Command("docker", "exec", alive, "redis-is-master", "--cached").CombinedOutput(); exitCode(
		err,
	) != 2 ||
		!strings.Contains(string(out), "refused") {
		t.Errorf("%v: %s", err, out)
	}
	output(t, "docker", "stop", "-t", "5", alive)
	if code := strings.TrimSpace(output(t, "docker", "inspect", "-f", "{{.State.ExitCode}}", alive)); code != "0" {
		t.Errorf("stopped with code %s", code)
	}
}

func exitCode(err error) int {
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode()
	}
	return 0
}

func testStory(t *testing.T, c *cluster) {
	c.start()
	master := c.holder()
	if master != 1 {
		t.Fatalf("node%d is the first master", master)
	}

	// What is written through the VIP is on the replicas.
	written := map[string]string{}
	write := func(key, value string) {
		t.Helper()
		if got := c.redis("client", c.vip()+":6379", "SET", key, value); got != "OK" {
			t.Fatalf("SET %s: %s", key, got)
		}
		written[key] = value
	}
	has := func(node int) {
		t.Helper()
		for key, value := range written {
			lab.Check(
				t,
				lab.Wait(
					fmt.Sprintf("node%d has %s", node, key),
					func() (bool, error) { return c.local(node, "GET", key) == value, nil },
				),
			)
		}
	}
	write("first", "before all")
	has(2)
	has(3)

	// HAProxy of every node leads to the master, and to the replicas.
	for i := 1; i <= 3; i++ {
		node := fmt.Sprintf("%s.1%d", c.net, i)
		for port, role := range map[string]string{"6381": "master", "6380": "slave"} {
			lab.Check(
				t,
				lab.Wait(
					fmt.Sprintf("HAProxy of node%d leads from port %s to a %s", i, port, role),
					func() (bool, error) {
						return strings.HasPrefix(c.redis("client", node+":"+port, "ROLE"), role), nil
					},
				),
			)
		}
	}
	testSecrets(t, c)

	// Two masters are lost, one after the other, and return.
	var lost []event
	for range 2 {
		old := master
		// The engine kills one container after the other, which takes seconds on a
		// busy host; from the first on nothing of the node counts.
		lost = append(lost, event{time.Now(), old, "vip down"}, event{time.Now(), old, "role none"})
		c.must("lose", strconv.Itoa(old))
		master = c.moved(old)
		write(fmt.Sprintf("without-node%d", old), fmt.Sprintf("on node%d", master))
		c.must("up")
		if role := c.local(old, "ROLE"); !strings.HasPrefix(role, "slave") {
			t.Errorf("node%d returned as %s", old, role)
		}
		if now := c.holder(); now != master {
			t.Errorf("node%d has the VIP after the return of node%d, no longer node%d", now, old, master)
		}
		has(old)
	}

	testPrometheus(t, c)

	// Nothing is lost where the VIP is taken away first.
	old := master
	script := block(t, "disabled=")
	for from, to := range map[string]string{
		"redis-is-master_run1": fmt.Sprintf("%s_run%d", c.project, old),
		"redis-is-master-node": "redis-is-master-node:" + c.tag,
		"docker/cluster.sh":    "./cluster.sh",
	} {
		if !strings.Contains(script, from) {
			t.Fatalf("no %s in\n%s", from, script)
		}
		script = strings.ReplaceAll(script, from, to)
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Env = append(c.env, "NET="+c.net)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	master = c.moved(old)

	// Nothing that had reached a replica is lost, and all have the same.
	output(t, "docker", "stop", "-t", "10", c.container("client"))
	log := output(t, "docker", "logs", c.container("client"))
	said := regexp.MustCompile(`stopped: (\d+) writes were acknowledged, (\d+) of them had reached a replica, ` +
		`(\d+) of these were lost`).FindStringSubmatch(log)
	if said == nil {
		t.Fatalf("the client said:\n%s", log)
	}
	t.Logf("the client said:\n%s", log)
	safe, _ := strconv.Atoi(said[2])
	if safe < 100 || said[3] != "0" {
		t.Errorf("lost: %s", said[0])
	}
	want := c.local(master, "GET", "writes")
	for i := 1; i <= 3; i++ {
		lab.Check(
			t,
			lab.Wait(
				fmt.Sprintf("node%d has all writes", i),
				func() (bool, error) { return c.local(i, "GET", "writes") == want, nil },
			),
		)
		if n, _ := strconv.Atoi(c.local(i, "BITCOUNT", "writes")); n < safe {
			t.Errorf("node%d has %d writes of %d", i, n, safe)
		}
	}

	// A planned failover: both call themselves master for ten seconds.
	old = master
	c.must("failover")
	lab.Check(t, lab.Wait("the VIP is on another node", func() (bool, error) {
		master = c.holder()
		return master != 0 && master != old, nil
	}))
	lab.Check(t, lab.Wait("the VIP takes writes", func() (bool, error) {
		return c.redis(fmt.Sprint("redis", old), c.vip()+":6379", "SET", "planned", "yes") == "OK", nil
	}))
	written["planned"] = "yes"
	for i := 1; i <= 3; i++ {
		has(i)
	}

	nodes, delays, faults := holders(append(c.events(), lost...))
	t.Logf("the VIP was on nodes %v, after %v", nodes, delays)
	for _, f := range faults {
		t.Error(f)
	}
	if len(nodes) != 5 || nodes[0] != 1 || nodes[4] != master {
		t.Errorf("the VIP was on nodes %v", nodes)
		return
	}
	// At the first start no Sentinel knows the master yet; in a planned
	// failover it is the old master that must first be told.
	if d := slices.Min(delays[1:4]); d > moveLimit {
		t.Errorf("the VIP came %v after the role change at best", d)
	}
	for i, d := range delays[1:4] {
		if d > time.Second {
			t.Errorf("move %d: the VIP came %v after the role change", i+1, d)
		}
	}
	if delays[4] > 3*time.Second {
		t.Errorf("the VIP came %v after the planned role change", delays[4])
	}
}

// testSecrets: the password is in no environment, command line or log, and no
// process is root's but keepalived.
func testSecrets(t *testing.T, c *cluster) {
	password := c.exec("redis1", "cat", "/run/secrets/redis-password")
	if len(password) != 48 {
		t.Fatalf("the password is %q", password)
	}
	for _, s := range c.services() {
		id := c.container(s)
		out, err := exec.Command("docker", "logs", id).CombinedOutput()
		lab.Check(t, err)
		for where, what := range map[string]string{
			"inspection":   output(t, "docker", "inspect", id),
			"process list": output(t, "docker", "top", id, "-eo", "pid,args"), "log": string(out),
		} {
			if strings.Contains(what, password) {
				t.Errorf("%s: the password is in its %s", s, where)
			}
		}
		if strings.Contains(string(out), "readable by") {
			t.Errorf("%s: %s", s, out)
		}
		for _, p := range strings.Split(strings.TrimSpace(output(t, "docker", "top", id, "-eo", "pid,uid,comm")), "\n")[1:] {
			if f := strings.Fields(p); f[1] != "65532" && !strings.HasPrefix(s, "keepalived") {
				t.Errorf("%s: %s", s, p)
			}
		}
	}
}

// testPrometheus: it scrapes all three daemons, and one of them says yes.
func testPrometheus(t *testing.T, c *cluster) {
	for query, want := range map[string]string{
		`count(up{job="redis-is-master"} == 1)`: "=> 3 ",
		"sum(redis_is_master_state)":            "=> 1 ",
	} {
		lab.Check(t, lab.Wait(query+want, func() (bool, error) {
			return strings.Contains(
				c.exec("prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", query),
				want,
			), nil
		}))
	}
	out := c.exec(
		"prometheus",
		"bash",
		"-c",
		`exec 3<>/dev/tcp/127.0.0.1/9090; printf 'GET /api/v1/rules HTTP/1.0\r\n\r\n' >&3; cat <&3`,
	)
	if !strings.Contains(out, `"file":"/etc/prometheus/rules.yml"`) {
		t.Errorf("no alerts are loaded: %s", out)
	}
}
