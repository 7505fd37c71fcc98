package oneshot

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

// watching starts a Sentinel that watches a node as mymaster.
func watching(t *testing.T, o lab.Options, node *lab.Redis) *lab.Redis {
	t.Helper()
	o.TCP, o.Sentinel = true, true
	s := lab.New(t, o)
	lab.Check(t, s.Monitor(lab.MasterName, "127.0.0.1", node.Port, node.Password))
	return s
}

// listed are the flags that list Sentinels.
func listed(addresses ...string) []string {
	args := []string{"--sentinel-master", lab.MasterName}
	for _, a := range addresses {
		args = append(args, "--sentinel", a)
	}
	return args
}

// deaf returns the address of a socket whose queue is full, so that a dial is
// neither answered nor refused, as behind a cut line.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	lab.Check(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	lab.Check(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	lab.Check(t, syscall.Listen(fd, 0))
	at, err := syscall.Getsockname(fd)
	lab.Check(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 64 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("its queue takes everybody")
	return ""
}

// TestListedSentinels asks real Sentinels in every state that one can be put
// into, and what is none.
func TestListedSentinels(t *testing.T) {
	t.Parallel()
	node, another := lab.New(t, lab.Options{TCP: true}), lab.New(t, lab.Options{TCP: true})
	locked := lab.New(t, lab.Options{TCP: true, Password: password})
	var here, there []string
	for range 3 {
		here = append(here, watching(t, lab.Options{}, node).Addr())
		there = append(there, watching(t, lab.Options{}, another).Addr())
	}
	two := watching(t, lab.Options{}, node) // by two addresses
	twice := []string{two.Addr(), "localhost:" + strconv.Itoa(two.Port)}
	closed := func() string { return "127.0.0.1:" + strconv.Itoa(port(t)) }
	stopped := watching(t, lab.Options{}, node)
	lab.Check(t, stopped.Signal(syscall.SIGSTOP))

	protected := watching(t, lab.Options{Password: password}, node)
	protected.Must(t, "ACL", "SETUSER", "vipcheck", "on", ">"+password, "resetkeys", "resetchannels", "-@all", "+info")
	protected.Must(t, "ACL", "SETUSER", "poor", "on", ">"+password, "-@all", "+ping")
	dir := t.TempDir()
	right := write(t, filepath.Join(dir, "right"), password+"\n", 0o600)
	wrong := write(t, filepath.Join(dir, "wrong"), "another\n", 0o600)

	certs := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(certs))
	byTLS := watching(t, lab.Options{TLS: true, Dir: certs}, node)
	foreign := t.TempDir()
	lab.Check(t, lab.WriteCerts(foreign))
	client := []string{"--sentinel-tls", "--sentinel-cert", certs + "/client.pem", "--sentinel-key", certs + "/client.key"}

	blind := lab.New(t, lab.Options{TCP: true, Sentinel: true}) // for it lacks the node's password
	lab.Check(t, blind.Monitor(lab.MasterName, "127.0.0.1", locked.Port, ""))
	lab.Check(t, blind.Until("status=sdown", "INFO", "sentinel"))

	hung := []string{"-t", "1s"}
	tests := []struct {
		name      string
		sentinels []string
		args      []string
		code      int
		reason    checker.Reason
		contains  []string
	}{
		{"three name this node", here, nil, exit.Yes, checker.OK, []string{"of 3 Sentinels 3 name this node and 0 another"}},
		{"one alone", here[:1], nil, exit.Yes, checker.OK, []string{"of 1 Sentinel 1 name"}},
		{"two of three name this node", []string{here[0], there[0], here[1]}, nil, exit.Yes, checker.OK, nil},
		{"two of three name another", []string{there[0], here[0], there[1]}, nil, exit.No, checker.ReasonSentinel,
			[]string{"1 name this node and 2 another (" + another.Addr() + ")"}},
		{"they are at odds", []string{here[0], there[0]}, nil, exit.No, checker.ReasonSentinel, nil},
		{"the third, who decides, is dead", []string{here[0], there[0], closed()}, nil, exit.No, checker.ReasonSentinel,
			[]string{"connection refused"}},
		{"all name another", there, nil, exit.No, checker.ReasonSentinel, []string{"give --announce-addr"}},
		{"they know it by the announced address alone", here, []string{"--announce-addr", "203.0.113.1"}, exit.No,
			checker.ReasonSentinel, nil},
		{"it is announced", here, []string{"--announce-addr", node.Addr()}, exit.Yes, checker.OK, nil},
		{"another node is announced as this one", here, []string{"--announce-addr", another.Addr()}, exit.No,
			checker.ReasonSentinel, nil},

		{"one of three is dead", []string{here[0], closed(), here[1]}, nil, exit.Yes, checker.OK,
			[]string{"connection refused"}},
		{"two of three are dead", []string{closed(), here[0], closed()}, nil, exit.No, checker.ReasonNoQuorum,
			[]string{"1 name this node", "connection refused"}},
		{"one of two is dead", []string{here[0], closed()}, nil, exit.No, checker.ReasonNoQuorum, nil},
		{"all are dead", []string{closed(), closed(), closed()}, nil, exit.No, checker.ReasonNoQuorum, nil},
		{"two of three do not answer", []string{stopped.Addr(), here[0], deaf(t)}, hung, exit.No, checker.ReasonNoQuorum,
			[]string{"answer"}},
		{"one of three does not answer", []string{stopped.Addr(), here[0], here[1]}, hung, exit.Yes, checker.OK, nil},

		{"a wrong name", here, []string{"--sentinel-master", "another"}, exit.No, checker.ReasonNoQuorum,
			[]string{"knows no master by this name"}},
		{"the begin of a name", here, []string{"--sentinel-master", "my"}, exit.No, checker.ReasonNoQuorum, nil},
		{"data nodes", []string{node.Addr(), another.Addr(), here[0]}, nil, exit.No, checker.ReasonNoQuorum,
			[]string{"this is no Sentinel"}},
		{"one Sentinel twice", twice, nil, exit.No, checker.ReasonNoQuorum, []string{"listed twice, by two addresses"}},
		{"one Sentinel twice, beside a dead one", append([]string{closed()}, twice...), nil, exit.No,
			checker.ReasonNoQuorum, nil},
		{"one Sentinel twice, beside one that names another", append([]string{there[0]}, twice...), nil, exit.No,
			checker.ReasonSentinel, nil},

		{"a password is wanted", []string{protected.Addr()}, nil, exit.No, checker.ReasonNoQuorum,
			[]string{"wants a password"}},
		{"the node's password is not theirs", []string{protected.Addr()}, []string{"-p", strconv.Itoa(locked.Port)},
			exit.No, checker.ReasonNoQuorum, []string{"wants a password"}},
		{"a wrong password", []string{protected.Addr()}, []string{"--sentinel-password-file", wrong}, exit.No,
			checker.ReasonNoQuorum, []string{"wrong user name or password"}},
		{"the right password", []string{protected.Addr()}, []string{"--sentinel-password-file", right}, exit.Yes,
			checker.OK, nil},
		{"a password where there is none", here[:1], []string{"--sentinel-password-file", right}, exit.No,
			checker.ReasonNoQuorum, []string{"the server has none"}},
		{"a user who may run INFO and nothing else", []string{protected.Addr()},
			[]string{"--sentinel-user", "vipcheck", "--sentinel-password-file", right}, exit.Yes, checker.OK, nil},
		{"a user who may not run INFO", []string{protected.Addr()},
			[]string{"--sentinel-user", "poor", "--sentinel-password-file", right}, exit.No, checker.ReasonNoQuorum,
			[]string{"may not run INFO"}},
		{"a user who is none", []string{protected.Addr()},
			[]string{"--sentinel-user", "nobody", "--sentinel-password-file", right}, exit.No, checker.ReasonNoQuorum,
			[]string{"wrong user name"}},

		{"TLS", []string{byTLS.Addr()}, append(client, "--sentinel-cacert", certs+"/ca.pem"), exit.Yes, checker.OK, nil},
		{"TLS by another name", []string{byTLS.Addr()}, append(client, "--sentinel-cacert", certs+"/ca.pem",
			"--sentinel-sni", "redis.test"), exit.Yes, checker.OK, nil},
		{"TLS by a wrong name", []string{byTLS.Addr()}, append(client, "--sentinel-cacert", certs+"/ca.pem",
			"--sentinel-sni", "another.test"), exit.No, checker.ReasonNoQuorum, []string{"tls: "}},
		{"TLS of another CA", []string{byTLS.Addr()}, append(client, "--sentinel-cacert", foreign+"/ca.pem"), exit.No,
			checker.ReasonNoQuorum, []string{"tls: "}},
		{"TLS of the system's CAs", []string{byTLS.Addr()}, client, exit.No, checker.ReasonNoQuorum, []string{"tls: "}},
		{"TLS without a client certificate", []string{byTLS.Addr()},
			[]string{"--sentinel-tls", "--sentinel-cacert", certs + "/ca.pem"}, exit.No, checker.ReasonNoQuorum, nil},
		{"no TLS where it is spoken", []string{byTLS.Addr()}, hung, exit.No, checker.ReasonNoQuorum, nil},
		{"TLS where it is not spoken", here[:1], append(client, hung...), exit.No, checker.ReasonNoQuorum, nil},

		{"they take the master for down", []string{blind.Addr()}, []string{"-p", strconv.Itoa(locked.Port)}, exit.No,
			checker.ReasonNoQuorum, []string{"takes the master that it names for down"}},
		{"a unix socket", here, nil, exit.Yes, checker.OK, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			of := tcp(node)
			if tt.name == "a unix socket" {
				of = []string{"-s", node.Socket}
			}
			i := invocation{args: append(append(of, listed(tt.sentinels...)...), tt.args...)}
			if slices.Contains(tt.args, strconv.Itoa(locked.Port)) {
				i.env = auth(password)
			}
			i.check(t, tt.code, tt.reason, tt.contains...)
		})
	}
}

// TestDeadline: the Sentinels are asked inside the total, and those that do not
// answer leave time to say so.
func TestDeadline(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	var silent []string
	for range 5 {
		silent = append(silent, deaf(t))
	}
	i := invocation{args: append(tcp(node, "-t", "1s"), listed(silent...)...)}
	if o := i.run(t); o.code != exit.No || !strings.Contains(o.stdout, " no-quorum: ") ||
		o.took > time.Second+5*time.Second {
		t.Errorf("exit code %d after %v: %s", o.code, o.took, o.stdout)
	}
	// A replica is a no, whatever they say: they are not waited for.
	node.Must(t, "REPLICAOF", "127.0.0.1", "1")
	i.args[3] = "20s"
	if o := i.run(t); o.code != exit.No || !strings.Contains(o.stdout, " role: ") || o.took > 10*time.Second {
		t.Errorf("exit code %d after %v: %s", o.code, o.took, o.stdout)
	}
}

// TestTilt: a Sentinel that was stopped is in TILT for half a minute, and in the
// first five seconds its word does not count.
func TestTilt(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, lab.Options{}, node)
	i := invocation{args: append(tcp(node), listed(s.Addr())...)}
	i.check(t, exit.Yes, checker.OK)
	lab.Check(t, s.Signal(syscall.SIGSTOP))
	stopped := time.Now()
	lab.Check(t, lab.Wait("it stood still for more than two seconds",
		func() (bool, error) { return time.Since(stopped) > 2500*time.Millisecond, nil }))
	lab.Check(t, s.Signal(syscall.SIGCONT))
	lab.Check(t, s.Until("sentinel_tilt:1", "INFO", "sentinel"))
	i.check(t, exit.No, checker.ReasonNoQuorum, "it is in TILT")
	// Two others are enough.
	i.args = append(i.args, "--sentinel", watching(t, lab.Options{}, node).Addr(), "--sentinel",
		watching(t, lab.Options{}, node).Addr())
	i.check(t, exit.Yes, checker.OK, "2 name this node", "it is in TILT")
	lab.Check(t, s.Until("sentinel_tilt_since_seconds:5", "INFO", "sentinel"))
	i.check(t, exit.Yes, checker.OK, "3 name this node")
	lab.Check(t, s.Until("sentinel_tilt:1", "INFO", "sentinel"))
}

// TestMinUptime: a young process is not believed, unless a majority of the
// Sentinels vouches for it.
func TestMinUptime(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	i := invocation{args: tcp(node, "--min-uptime", "10m")}
	i.check(t, exit.No, checker.ReasonUptime, "at least 10m0s wanted")
	one, two := watching(t, lab.Options{}, node).Addr(), watching(t, lab.Options{}, node).Addr()
	dead := "127.0.0.1:" + strconv.Itoa(port(t))
	i.args = append(tcp(node, "--min-uptime", "10m"), listed(one, two, dead)...)
	i.check(t, exit.Yes, checker.OK)
	i.args = append(tcp(node, "--min-uptime", "10m"), listed(one, node.Addr(), dead)...)
	i.check(t, exit.No, checker.ReasonNoQuorum)
	lab.Check(t, node.Until("uptime_in_seconds:1", "INFO", "server"))
	i.args = tcp(node, "--min-uptime", "1s")
	i.check(t, exit.Yes, checker.OK)
}

// TestMinReplicas counts those that are online, or good where the server
// judges that.
func TestMinReplicas(t *testing.T) {
	t.Parallel()
	master, replica := pair(t)
	count := func(n string, code int, contains ...string) {
		t.Helper()
		i := invocation{args: tcp(master, "--min-replicas", n), env: auth(password)}
		reason := map[int]checker.Reason{exit.Yes: checker.OK, exit.No: checker.ReasonReplicas}[code]
		i.check(t, code, reason, contains...)
	}
	count("1", exit.Yes)
	count("2", exit.No, "1 replica in touch, at least 2 wanted")
	second := lab.New(t, lab.Options{TCP: true, Password: password,
		Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}})
	lab.Check(t, second.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("connected_slaves:2", "INFO", "replication"))
	lab.Check(t, master.Until("slave1:ip=127.0.0.1,port="+strconv.Itoa(second.Port)+",state=online", "INFO",
		"replication"))
	count("2", exit.Yes)
	// Both hang: they are online for repl-timeout, and good for a second.
	lab.Check(t, replica.Signal(syscall.SIGSTOP))
	lab.Check(t, second.Signal(syscall.SIGSTOP))
	master.Must(t, "CONFIG", "SET", "min-replicas-to-write", "1", "min-replicas-max-lag", "1")
	lab.Check(t, master.Until("min_slaves_good_slaves:0", "INFO", "replication"))
	if out := master.Must(t, "INFO", "replication"); strings.Count(out, "state=online") != 2 {
		t.Errorf("both were to be online: %s", out)
	}
	count("1", exit.No, "0 replicas in touch, at least 1 wanted")
	count("0", exit.Yes)
	// A replica is no matter of replicas.
	i := invocation{args: tcp(second, "--role", "replica", "--min-replicas", "2", "--timeout", "20s"), env: auth(password)}
	lab.Check(t, second.Signal(syscall.SIGCONT))
	lab.Check(t, second.Until("master_link_status:up", "INFO", "replication"))
	i.check(t, exit.Yes, checker.OK)
}

// TestMaxLag is a replica whose link to its master is up, and carries nothing.
func TestMaxLag(t *testing.T) {
	t.Parallel()
	master := lab.New(t, lab.Options{TCP: true, Password: password})
	line, err := lab.NewLine(master.Addr())
	lab.Check(t, err)
	t.Cleanup(line.Close)
	replica := lab.New(t, lab.Options{TCP: true, Password: password,
		Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(line.Port)}})
	lab.Check(t, replica.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("state=online", "INFO", "replication"))
	file := write(t, filepath.Join(master.Dir, "password"), password, 0o600)
	lag := func(code int, limits []string, contains ...string) {
		t.Helper()
		args := tcp(replica, "--role", "replica")
		for _, l := range limits {
			args = append(args, "--max-lag", l)
			if strings.HasSuffix(l, "b") {
				args = append(args, "--master-password-file", file)
			}
		}
		reason := map[int]checker.Reason{exit.Yes: checker.OK, exit.No: checker.ReasonLag}[code]
		invocation{args: args, env: auth(password)}.check(t, code, reason, contains...)
	}
	both := []string{"20s", "64kb"}
	lag(exit.Yes, both)

	line.Hold()
	for range 8 {
		master.Must(t, "SET", "key", strings.Repeat("x", 100000))
	}
	lag(exit.No, []string{"64kb"}, " bytes behind its master, at most 65536 wanted")
	lag(exit.No, both, "bytes behind")
	lag(exit.Yes, []string{"1gb"})
	lab.Check(t, lab.Wait("it has heard nothing for two seconds", func() (bool, error) {
		out, err := replica.Do("INFO", "replication")
		return strings.Contains(out, "master_last_io_seconds_ago:2"), err
	}))
	lag(exit.No, []string{"1s"}, "heard its master ", ", at most 1s wanted")
	lag(exit.Yes, []string{"20s", "1gb"})
	asks := []string{"--role", "replica", "--master-password-file", file}
	i := invocation{args: tcp(replica, append(asks, "--max-lag", "64kb", "-o", "json")...), env: auth(password)}
	var d report.Document
	if err := json.Unmarshal([]byte(i.run(t).stdout), &d); err != nil || *d.Observation.BehindBytes < 800000 ||
		*d.Observation.BehindBytes > 1000000 {
		t.Errorf("%v: %s", err, d.JSON())
	}
	line.Release()
	lab.Check(t, lab.Wait("the replica has caught up", func() (bool, error) {
		i := invocation{args: tcp(replica, append(asks, "--max-lag", "1kb", "--max-lag", "2s")...), env: auth(password)}
		return i.run(t).code == exit.Yes, nil
	}))

	// A master that cannot be asked: how far it is behind is not known.
	lab.Check(t, master.Signal(syscall.SIGSTOP))
	i = invocation{args: tcp(replica, append(asks, "--max-lag", "1gb", "-t", "1s")...), env: auth(password)}
	i.check(t, exit.No, checker.ReasonLag, "its master does not say how far it is behind")
	lab.Check(t, master.Signal(syscall.SIGCONT))
	// A master has no lag.
	i = invocation{args: tcp(master, append(asks[2:], "--role", "any", "--max-lag", "1")...), env: auth(password)}
	i.check(t, exit.Yes, checker.OK)
}

// TestExplainGuards shows who said what.
func TestExplainGuards(t *testing.T) {
	t.Parallel()
	node := lab.New(t, lab.Options{TCP: true})
	s := watching(t, lab.Options{}, node)
	dead := "127.0.0.1:" + strconv.Itoa(port(t))
	i := invocation{args: append(tcp(node, "--explain"), listed(s.Addr(), dead)...)}
	o := i.run(t)
	for _, line := range []string{
		"  asked        " + s.Addr() + " names this node (" + node.Addr() + ")\n",
		"  asked        " + dead + " does not count: " + dead + ": dial: connection refused\n",
		"  no-quorum    broken  of 2 Sentinels 1 name this node and 0 another",
		"  sentinel     held    ",
		"  uptime       off\n",
		"hint: see the Sentinels",
	} {
		if o.code != exit.No || !strings.Contains(o.stdout, line) {
			t.Errorf("exit code %d, no %q in\n%s", o.code, line, o.stdout)
		}
	}
	i.args = append(tcp(node, "-o", "json"), listed(s.Addr(), dead)...)
	var d report.Document
	err := json.Unmarshal([]byte(i.run(t).stdout), &d)
	if err != nil || d.Observation.Quorum == nil || d.Observation.Quorum.NamesUs ||
		len(d.Observation.Quorum.Answers) != 2 || d.Observation.Standing != nil ||
		d.Observation.Quorum.Answers[0] != (report.SentinelAnswer{Sentinel: s.Addr(), Master: node.Addr(),
			NamesUs: true}) || !strings.Contains(d.Observation.Quorum.Answers[1].Error, "refused") {
		t.Errorf("%v: %s", err, d.JSON())
	}
}
