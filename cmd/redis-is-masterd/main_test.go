package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

const password = "s3cret-of-the-test"

func TestMain(m *testing.M) {
	if where := os.Getenv(panicsIn); where != "" {
		os.Exit(runUntilPanic(where, os.Args[1:]))
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	os.Exit(lab.Main(m, nil))
}

// start starts a daemon that asks the node alone, unless args say otherwise.
func start(t *testing.T, r *lab.Redis, args ...string) *lab.Daemon {
	t.Helper()
	d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), r, append([]string{"--hello=off"}, args...)...)
	lab.Check(t, err)
	t.Cleanup(func() {
		d.Close()
		if log := d.Log(); strings.Contains(log, password) {
			t.Errorf("the log holds the password:\n%s", log)
		} else if t.Failed() {
			t.Log(log)
		}
	})
	return d
}

// oneshot runs redis-is-master and returns its exit code and output.
func cached(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(lab.Program("redis-is-master"), args...)
	cmd.Env = []string{}
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := lab.FreePort()
	lab.Check(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	lab.Check(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	lab.Check(t, err)
	return resp.StatusCode, string(b)
}

// TestEveryOutput: the same answer with the same reason, everywhere.
func TestEveryOutput(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	httpAddr, agentAddr := freeAddr(t), freeAddr(t)
	prom := filepath.Join(t.TempDir(), "redis.prom")
	d := start(t, r, "--http", httpAddr, "--agent", agentAddr, "--textfile", prom)
	agree := func(reason checker.Reason, exit int, track, agent, state string, status int) {
		t.Helper()
		lab.Check(t, d.Says(reason))
		lab.Check(t, d.Tracks(track))
		if code, out := cached(t, "--cached="+d.Socket); code != exit ||
			!strings.Contains(out, " "+string(reason)+": ") {
			t.Errorf("--cached: exit code %d: %s", code, out)
		}
		if code, out := cached(t, "--cached="+d.Socket, "-o", "json"); code != exit ||
			!strings.Contains(out, `"reason":"`+string(reason)+`"`) {
			t.Errorf("--cached -o json: exit code %d: %s", code, out)
		}
		if code, out := cached(t, "--cached="+d.Socket, "-o", "nagios"); code != min(exit, 1)*2 ||
			!strings.Contains(out, " "+string(reason)+": ") {
			t.Errorf("--cached -o nagios: exit code %d: %s", code, out)
		}
		if code, out := cached(t, "--cached="+d.Socket, "--explain"); code != exit ||
			!strings.Contains(out, "the daemon knows this as of") {
			t.Errorf("--cached --explain: exit code %d: %s", code, out)
		}
		if code, out := cached(t, "--cached="+d.Socket, "--alive"); code != 0 {
			t.Errorf("--alive: exit code %d: %s", code, out)
		}
		c, err := net.Dial("tcp", agentAddr)
		lab.Check(t, err)
		line, err := io.ReadAll(c)
		c.Close()
		if !strings.HasPrefix(string(line), agent) || strings.Count(string(line), "\n") != 1 {
			t.Errorf("agent: %q, %v", line, err)
		}
		if code, body := get(t, "http://"+httpAddr+"/master"); code != status ||
			!strings.HasPrefix(body, string(reason)+": ") {
			t.Errorf("/master: %d %s", code, body)
		}
		var doc report.Document
		_, body := get(t, "http://"+httpAddr+"/status")
		if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Reason != reason || doc.Daemon == nil ||
			doc.Daemon.AgeSeconds > 1 {
			t.Errorf("/status: %v %s", err, body)
		}
		if _, body := get(t, "http://"+httpAddr+"/metrics"); !strings.Contains(
			body,
			"\nredis_is_master_state "+state+"\n",
		) ||
			!strings.Contains(body, `redis_is_master_reason{reason="`+string(reason)+`"} 1`) {
			t.Errorf("/metrics: %s", body)
		}
		lab.Check(t, lab.Wait("the textfile says the same", func() (bool, error) {
			b, err := os.ReadFile(prom)
			return strings.Contains(string(b), "\nredis_is_master_state "+state+"\n") &&
				strings.Contains(string(b), `redis_is_master_reason{reason="`+string(reason)+`"} 1`), err
		}))
	}
	agree(checker.OK, 0, "1", "up ready 100%\n", "1", 200)
	r.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(r.Port))
	agree(checker.ReasonRole, 1, "0", "down # role role:slave", "0", 503)
	if code, _ := get(t, "http://"+httpAddr+"/replica"); code != 503 {
		t.Errorf("/replica of one whose link is down: %d", code)
	}
	r.Must(t, "REPLICAOF", "NO", "ONE")
	agree(checker.OK, 0, "1", "up ready 100%\n", "1", 200)
	r.Kill()
	agree(checker.ReasonRefused, 2, "0", "down # refused ", "0", 503)
	lab.Check(t, d.Signal(syscall.SIGTERM))
	if code := d.Wait(); code != 0 || d.Track() != "0" {
		t.Errorf("SIGTERM: exit code %d, track file %s", code, d.Track())
	}
	if _, err := os.Stat(d.Socket); err == nil {
		t.Error("the socket is still there")
	}
}

// TestSentinelFailover: a promotion and a demotion by real Sentinels, a dead
// master, and one that comes back.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 3, lab.Options{Password: password})
	daemons := map[*lab.Redis]*lab.Daemon{}
	for _, r := range c.Nodes {
		daemons[r] = start(t, r, "--hello=auto")
	}
	old := c.Nodes[0]
	lab.Check(t, daemons[old].Says(checker.OK))
	lab.Check(t, daemons[c.Nodes[1]].Says(checker.ReasonRole))
	old.Kill()
	lab.Check(t, daemons[old].Says(checker.ReasonRefused))
	lab.Check(t, daemons[old].Tracks("0"))
	var promoted *lab.Redis
	lab.Check(t, lab.Wait("a node is promoted", func() (bool, error) {
		for _, r := range c.Nodes[1:] {
			if daemons[r].Track() == "1" {
				promoted = r
			}
		}
		return promoted != nil, nil
	}))
	lab.Check(t, daemons[promoted].Says(checker.OK))
	// The event, not a poll, was what woke the daemon: the hello subscription
	// ended in the transaction that promoted the node.
	elected, err := c.Master()
	lab.Check(t, err)
	if elected != promoted {
		t.Errorf("the Sentinels name %s, the daemon %s", elected.Addr(), promoted.Addr())
	}
	for r, d := range daemons {
		if r != promoted && d.Track() != "0" {
			t.Errorf("%s holds a 1, too", r.Addr())
		}
	}
}

// TestKillAndRestart, TestStop: what happens to Redis itself.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	r := lab.New(t, lab.Options{Dir: dir})
	d := start(t, r)
	lab.Check(t, d.Tracks("1"))
	r.Kill()
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, d.Says(checker.ReasonRefused))
	lab.New(t, lab.Options{Dir: dir})
	lab.Check(t, d.Tracks("1"))
}

// TestHistoryOverRestart: the page shows what was before the daemon's restart, and
// the restart.
func TestHistoryOverRestart(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	addr := freeAddr(t)
	d := start(t, r, "--http", addr)
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, d.Signal(syscall.SIGTERM))
	d.Wait()
	lab.Check(t, d.Start(lab.Program("redis-is-masterd"), r, "--hello=off", "--http", addr))
	lab.Check(t, d.Says(checker.OK))
	doc, err := d.Document()
	lab.Check(t, err)
	var reasons []checker.Reason
	for _, t := range doc.Daemon.History {
		reasons = append(reasons, t.To)
	}
	want := []checker.Reason{checker.OK, checker.ReasonStarting, checker.ReasonStopping, checker.OK}
	if !slices.Equal(reasons, want) {
		t.Errorf("the history is %v, want %v", reasons, want)
	}
	if n := doc.Daemon.Transitions[checker.Yes]; n != 1 {
		t.Errorf("this daemon counts %d changes to yes, and made one", n)
	}
	if _, page := get(t, "http://"+addr+"/status?page"); !strings.Contains(page, "stopping") {
		t.Error("the page does not show the restart")
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	d := start(t, r)
	lab.Check(t, d.Tracks("1"))
	lab.Check(t, r.Signal(syscall.SIGSTOP))
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, d.Says(checker.ReasonTimeout))
	lab.Check(t, r.Signal(syscall.SIGCONT))
	lab.Check(t, d.Tracks("1"))
}

// TestBackAfterRefusals: a client library's pool that dials once a second
// after many failures would be blind here.
func TestBackAfterRefusals(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	r := lab.New(t, lab.Options{Dir: dir})
	d := start(t, r)
	r.Kill()
	begun := time.Now()
	lab.Check(t, d.Until("fifty checks were refused", func(doc report.Document) bool {
		return doc.Reason == checker.ReasonRefused && time.Since(begun) > 5*time.Second
	}))
	lab.New(t, lab.Options{Dir: dir})
	back := time.Now()
	lab.Check(t, d.Says(checker.OK))
	if blind := time.Since(back); blind > checker.DefaultInterval+400*time.Millisecond {
		t.Errorf("Redis is back for %v before the daemon says so", blind)
	}
}

// TestSubscription: the end of the hello subscription is what wakes the
// daemon; a poll a minute would not.
func TestSubscription(t *testing.T) {
	certs := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(certs))
	tests := map[string]struct {
		o    lab.Options
		args []string
	}{
		"unix socket": {lab.Options{Password: password}, nil},
		"tcp":         {lab.Options{TCP: true}, nil},
		"tls": {
			lab.Options{TLS: true, Dir: certs},
			[]string{
				"--tls",
				"--cacert",
				certs + "/ca.pem",
				"--cert",
				certs + "/client.pem",
				"--key",
				certs + "/client.key",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := lab.New(t, tt.o)
			r.Must(t, "REPLICAOF", "127.0.0.1", "1")
			d := start(t, r, append(tt.args, "--hello=auto", "--interval", "1m", "--max-age", "3m")...)
			lab.Check(t, r.Until("cmd=subscribe", "CLIENT", "LIST"))
			lab.Check(t, d.Tracks("0"))
			for range 3 { // what a Sentinel sends, but for CONFIG REWRITE
				r.Must(t, "REPLICAOF", "NO", "ONE")
				r.Must(t, "CLIENT", "KILL", "TYPE", "pubsub")
				lab.Check(t, d.Tracks("1"))
				lab.Check(t, r.Until("cmd=subscribe", "CLIENT", "LIST"))
				r.Must(t, "REPLICAOF", "127.0.0.1", "1")
				r.Must(t, "CLIENT", "KILL", "TYPE", "pubsub")
				lab.Check(t, d.Tracks("0"))
				lab.Check(t, r.Until("cmd=subscribe", "CLIENT", "LIST"))
			}
			r.Kill()
			lab.Check(t, d.Tracks("0"))
		})
	}
}

func TestNoRightToSubscribe(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{Password: password})
	r.Must(t, "ACL", "SETUSER", "vipcheck", "on", ">"+password, "resetkeys", "resetchannels", "-@all", "+info")
	d := start(t, r, "--hello=auto", "--user", "vipcheck")
	lab.Check(t, d.Says(checker.ReasonPermission))
	lab.Check(t, lab.Wait("the log names the right", func() (bool, error) {
		return strings.Contains(d.Log(), "+subscribe &__sentinel__:hello"), nil
	}))
	code, out := cached(t, "--cached="+d.Socket)
	if code != 2 || !strings.Contains(out, "hint: redis-cli ACL SETUSER NAME +subscribe '&__sentinel__:hello'") {
		t.Errorf("exit code %d: %s", code, out)
	}
	r.Must(t, "ACL", "SETUSER", "vipcheck", "+subscribe", "&__sentinel__:hello")
	lab.Check(t, d.Says(checker.ReasonUnconfirmed))
	if n := strings.Count(d.Log(), "+subscribe"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

// TestPasswordRotation needs no restart and no signal: the file is read at
// every dial.
func TestPasswordRotation(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true, Password: "old"})
	file := filepath.Join(t.TempDir(), "password")
	lab.Check(t, os.WriteFile(file, []byte("old\n"), 0o600))
	d := start(t, r, "--password-file", file)
	lab.Check(t, d.Tracks("1"))
	r.Must(t, "CONFIG", "SET", "requirepass", "new")
	r.Password = "new"
	r.Must(t, "CLIENT", "KILL", "TYPE", "normal")
	lab.Check(t, d.Says(checker.ReasonAuth))
	lab.Check(t, os.WriteFile(file, []byte("new\n"), 0o600))
	lab.Check(t, d.Says(checker.OK))
	// A file that is gone is no yes either, once it is needed.
	lab.Check(t, os.Remove(file))
	r.Must(t, "CLIENT", "KILL", "TYPE", "normal")
	lab.Check(t, d.Says(checker.ReasonAuth))
	lab.Check(t, d.Tracks("0"))
}

// TestMaxClientsWhileConnected: an open connection still answers, so nothing
// changes; without it the daemon is blind, which is counted.
func TestMaxClientsWhileConnected(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	d := start(t, r, "--hello", "off")
	lab.Check(t, d.Tracks("1"))
	admin, err := net.Dial("unix", r.Socket)
	lab.Check(t, err)
	defer admin.Close()
	fmt.Fprint(admin, "CONFIG SET maxclients 2\r\n")
	fmt.Fprint(admin, "PING\r\n")
	reply := make([]byte, 64)
	_, err = io.ReadAtLeast(admin, reply, len("+OK\r\n+PONG\r\n"))
	lab.Check(t, err)
	before, err := d.Document()
	lab.Check(t, err)
	lab.Check(t, d.Until("five more checks", func(doc report.Document) bool {
		if doc.Reason != checker.OK {
			t.Errorf("%s at maxclients", doc.Reason)
		}
		return doc.Time.Sub(before.Time) > 5*checker.DefaultInterval
	}))
	fmt.Fprint(admin, "CONFIG SET maxclients 1\r\nCLIENT KILL TYPE normal SKIPME yes\r\n")
	lab.Check(t, d.Says(checker.ReasonMaxClients))
	lab.Check(t, d.Tracks("0"))
	fmt.Fprint(admin, "CONFIG SET maxclients 100\r\n")
	lab.Check(t, d.Tracks("1"))
}

// TestCertificateRenewal: a new CA is used after SIGHUP, on a connection that
// would have lived on.
func TestCertificateRenewal(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(dir))
	r := lab.New(t, lab.Options{TLS: true, Dir: dir})
	d := start(t, r, "--tls", "--cacert", dir+"/ca.pem", "--cert", dir+"/client.pem", "--key", dir+"/client.key")
	lab.Check(t, d.Tracks("1"))
	lab.Check(t, lab.WriteCerts(dir)) // the server still has the old ones
	lab.Check(t, d.Signal(syscall.SIGHUP))
	lab.Check(t, d.Says(checker.ReasonTLS))
	r.Must(
		t,
		"CONFIG",
		"SET",
		"tls-cert-file",
		dir+"/server.pem",
		"tls-key-file",
		dir+"/server.key",
		"tls-ca-cert-file",
		dir+"/ca.pem",
	)
	lab.Check(t, d.Tracks("1"))
	lab.Check(t, lab.WriteCerts(dir))
	r.Must(
		t,
		"CONFIG",
		"SET",
		"tls-cert-file",
		dir+"/server.pem",
		"tls-key-file",
		dir+"/server.key",
		"tls-ca-cert-file",
		dir+"/ca.pem",
	)
	lab.Check(t, d.Signal(syscall.SIGHUP))
	lab.Check(
		t,
		lab.Wait(
			"the second reload is logged",
			func() (bool, error) { return strings.Count(d.Log(), "msg=reloaded") == 2, nil },
		),
	)
	lab.Check(t, d.Says(checker.OK))
}

func TestDisableFile(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	file := filepath.Join(t.TempDir(), "disabled")
	d := start(t, r, "--disable-file", file)
	lab.Check(t, d.Tracks("1"))
	lab.Check(t, os.WriteFile(file, []byte("new disk, ask Ada\nsecond line\n"), 0o600))
	lab.Check(t, d.Tracks("0"))
	if code, out := cached(t, "--cached="+d.Socket); code != 1 ||
		!strings.Contains(out, " disabled: new disk, ask Ada\n") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if code, out := cached(t, "--cached="+d.Socket, "--alive"); code != 0 {
		t.Errorf("--alive: exit code %d: %s", code, out)
	}
	lab.Check(t, os.Remove(file))
	lab.Check(t, d.Tracks("1"))
}

// TestTwoDaemons: the second neither takes the socket nor spoils the files of
// the first.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	d := start(t, r)
	lab.Check(t, d.Tracks("1"))
	second := exec.Command(
		lab.Program("redis-is-masterd"),
		"-s",
		r.Socket,
		"--socket",
		d.Socket,
		"--track-file",
		d.TrackFile,
	)
	out, _ := second.CombinedOutput()
	if code := second.ProcessState.ExitCode(); code != exit.Failed ||
		!strings.Contains(string(out), "another daemon answers there") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if d.Track() != "1" {
		t.Error("the second daemon wrote the first's track file")
	}
	lab.Check(t, d.Says(checker.OK))
}

// TestDeadDaemon: kill -9 leaves a socket that refuses and a track file with
// its last value; the next daemon mends both.
func TestDeadDaemon(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	d := start(t, r)
	lab.Check(t, d.Tracks("1"))
	d.Kill()
	for _, args := range [][]string{{}, {"--alive"}} {
		if code, out := cached(t, append(args, "--cached="+d.Socket)...); code != 2 ||
			!strings.Contains(out, "refused: dial: connection refused") ||
			!strings.Contains(out, "is redis-is-masterd running") {
			t.Errorf("%v: exit code %d: %s", args, code, out)
		}
	}
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	lab.Check(t, d.Start(lab.Program("redis-is-masterd"), r))
	lab.Check(t, d.Tracks("0"))
	lab.Check(t, d.Says(checker.ReasonRole))
}

// TestStoppedDaemon: a daemon that is there and does nothing.
func TestStoppedDaemon(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	d := start(t, r)
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, d.Signal(syscall.SIGSTOP))
	for _, args := range [][]string{{}, {"--alive"}} {
		begun := time.Now()
		code, out := cached(t, append(args, "-t", "300ms", "--cached="+d.Socket)...)
		if took := time.Since(begun); code != 2 || !strings.Contains(out, " timeout: ") || took > 5*time.Second {
			t.Errorf("%v: exit code %d after %v: %s", args, code, took, out)
		}
	}
	// When it wakes, what it knew is stale, and must not be its first word.
	stopped := time.Now()
	lab.Check(
		t,
		lab.Wait(
			"it was stopped for longer than max-age",
			func() (bool, error) { return time.Since(stopped) > checker.DefaultMaxAge, nil },
		),
	)
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	lab.Check(t, d.Signal(syscall.SIGCONT))
	lab.Check(t, d.Until("it is awake", func(doc report.Document) bool {
		if doc.Answer == checker.Yes {
			t.Errorf("awake, it said %s", doc.JSON())
		}
		return doc.Reason == checker.ReasonRole
	}))
	lab.Check(t, d.Tracks("0"))
}

// TestCachedRole: a daemon knows the answer for every role, whichever it wants
// itself.
func TestCachedRole(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	for _, own := range []string{"master", "replica", "any"} {
		d := start(t, r, "--role", own)
		lab.Check(
			t,
			d.Until("it has checked", func(doc report.Document) bool { return doc.Reason != checker.ReasonStarting }),
		)
		for _, tt := range []struct {
			role string
			want int
		}{{"master", 0}, {"replica", 1}, {"any", 0}, {"sentinel", 3}} {
			for _, more := range [][]string{{"-q"}, {}, {"--explain"}, {"-o", "json"}} {
				if code, out := cached(t, append(more, "--role", tt.role, "--cached="+d.Socket)...); code != tt.want {
					t.Errorf(
						"%s of a daemon that wants %s, %v: exit code %d, want %d: %s",
						tt.role,
						own,
						more,
						code,
						tt.want,
						out,
					)
				}
			}
		}
	}
}

// TestDrain: after SIGTERM the answer is no, for a while and to everyone.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	d := start(t, r, "--drain", "1h")
	lab.Check(t, d.Tracks("1"))
	lab.Check(t, d.Signal(syscall.SIGTERM))
	lab.Check(t, d.Says(checker.ReasonStopping))
	lab.Check(t, d.Tracks("0"))
	if code, _ := cached(t, "--cached="+d.Socket); code != 1 {
		t.Errorf("exit code %d", code)
	}
	lab.Check(t, d.Signal(syscall.SIGTERM)) // the second ends the drain
	if code := d.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestStartUpFailures end the daemon with one line.
func TestStartUpFailures(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	lab.Check(t, err)
	defer taken.Close()
	dir := t.TempDir()
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"--http " + taken.Addr().String():    {1, "--http: "},
		"--agent " + taken.Addr().String():   {1, "--agent: "},
		"--track-file " + dir + "/none/t":    {1, "keepalived"},
		"--textfile " + dir + "/none/t":      {1, "--textfile: "},
		"--socket " + dir + "/none/s":        {1, "its directory does not exist"},
		"--max-age 500ms":                    {3, "--max-age"},
		"--fall 0":                           {3, "--fall"},
		"--socket-mode 999":                  {3, "--socket-mode"},
		"--hello maybe":                      {3, "--hello"},
		"--password " + password:             {3, "no flag takes a password"},
		"--cached":                           {3, "no flag --cached"},
		"--help":                             {3, "Usage: redis-is-masterd"},
		"--interval 0":                       {3, "--interval must be above 0"},
		"--interval 500":                     {3, "--interval has a number above 60 without a unit"},
		"--interval 1":                       {3, "--max-age must be above"}, // one second
		"--drain -1":                         {3, "--drain is below 0"},
		"--vip-probe 1 --vip-probe-ahead":    {3, "--vip-probe needs --vip"},
		"--url redis://u:" + password + "@h": {3, "--url holds a password"},
	} {
		cmd := exec.Command(lab.Program("redis-is-masterd"), strings.Fields(args)...)
		if !strings.Contains(args, "--socket ") {
			cmd.Args = append(cmd.Args, "--socket", dir+"/s")
		}
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want.code || !strings.Contains(string(out), want.says) ||
			strings.Contains(string(out), password) {
			t.Errorf("%s: exit code %d, want %d with %q: %s", args, code, want.code, want.says, out)
		}
	}
}

// TestNotify reads what systemd would: READY after the first check, the
// watchdog fed by finished checks, the status, and STOPPING.
func TestNotify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(lab.TempDir(t), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	lab.Check(t, err)
	defer l.Close()
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				select {
				case lines <- line:
				default:
				}
			}
		}
	}()
	r := lab.New(t, lab.Options{})
	cmd := exec.Command(
		lab.Program("redis-is-masterd"),
		"-s",
		r.Socket,
		"--socket",
		filepath.Join(filepath.Dir(path), "s"),
	)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000")
	lab.Check(t, cmd.Start())
	defer cmd.Process.Kill()
	timeout := time.After(lab.Patience)
	until := func(wanted string) {
		t.Helper()
		for {
			select {
			case line := <-lines:
				if strings.HasPrefix(line, wanted) {
					return
				}
			case <-timeout:
				t.Fatalf("no %s", wanted)
			}
		}
	}
	until("READY=1")
	for range 3 {
		until("WATCHDOG=1")
	}
	// A hung Redis is no reason to kill the daemon.
	lab.Check(t, r.Signal(syscall.SIGSTOP))
	until("STATUS=unknown, " + r.Socket + " is master: timeout, since 2")
	until("WATCHDOG=1")
	lab.Check(t, cmd.Process.Signal(syscall.SIGTERM))
	until("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSockDiag: a descriptor of systemd's that is not for sock_diag is refused with
// a warning; one that is for another process or by another name is not touched.
func TestSockDiag(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	for _, tt := range []struct {
		protocol     int
		environment  string
		warned, open bool
	}{
		{unix.NETLINK_SOCK_DIAG, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=sock-diag", false, true},
		{unix.NETLINK_ROUTE, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=sock-diag", true, false},
		{unix.NETLINK_ROUTE, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=other", false, false},
		{unix.NETLINK_ROUTE, "LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=sock-diag", false, true},
	} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, tt.protocol)
		lab.Check(t, err)
		passed := os.NewFile(uintptr(fd), "passed")
		inode, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		lab.Check(t, err)
		cmd := exec.Command("sh", "-c", tt.environment+` exec "$0" "$@"`, lab.Program("redis-is-masterd"),
			"-s", r.Socket, "--socket", filepath.Join(t.TempDir(), "s"), "--hello=off")
		cmd.ExtraFiles = []*os.File{passed} // 3, as systemd's first
		stderr, err := cmd.StderrPipe()
		lab.Check(t, err)
		lab.Check(t, cmd.Start())
		passed.Close()
		log := bufio.NewScanner(stderr)
		warned := false
		for log.Scan() && !strings.Contains(log.Text(), "msg=started") {
			warned = warned || strings.Contains(log.Text(), "another network namespace") ||
				strings.Contains(log.Text(), "not one of sock_diag")
		}
		now, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/3", cmd.Process.Pid))
		if warned != tt.warned || (now == inode) != tt.open {
			t.Errorf("%+v: warned: %v, descriptor 3 was %s and is %s", tt, warned, inode, now)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// TestLogOfTransitions: a line for each change, none for a check.
func TestLogOfTransitions(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	d := start(t, r, "--log-format", "json")
	lab.Check(t, d.Says(checker.OK))
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	lab.Check(t, d.Says(checker.ReasonRole))
	begun, err := d.Document()
	lab.Check(t, err)
	lab.Check(
		t,
		d.Until(
			"ten more checks",
			func(doc report.Document) bool { return doc.Time.Sub(begun.Time) > 10*checker.DefaultInterval },
		),
	)
	var answers []string
	for line := range strings.Lines(d.Log()) {
		var entry struct{ Msg, From, To, Reason string }
		lab.Check(t, json.Unmarshal([]byte(line), &entry))
		if entry.Msg == "answer" {
			answers = append(answers, entry.From+">"+entry.To+" "+entry.Reason)
		}
	}
	if got := strings.Join(answers, ", "); got != "no>yes ok, yes>no role" {
		t.Errorf("logged: %s", got)
	}
}

// TestManyReconnects: thousands of lost connections leave no goroutine and no
// descriptor behind.
func TestManyReconnects(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{})
	httpAddr := freeAddr(t)
	d := start(t, r, "--hello=auto", "--http", httpAddr, "--interval", "1ms", "--max-age", "10s")
	lab.Check(t, r.Until("cmd=subscribe", "CLIENT", "LIST"))
	gauge := func(name string) (n float64) {
		t.Helper()
		_, body := get(t, "http://"+httpAddr+"/metrics")
		for line := range strings.Lines(body) {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				n, _ = strconv.ParseFloat(strings.TrimSpace(v), 64)
			}
		}
		return n
	}
	goroutines, fds := gauge("go_goroutines"), gauge("process_open_fds")
	// On a busy host each takes tens of milliseconds; some hundred show a leak as well.
	const all, enough = 10000, 500
	begun := time.Now()
	admin, err := net.Dial("unix", r.Socket)
	lab.Check(t, err)
	defer admin.Close()
	reply := make([]byte, 64)
	lost := 0
	for lost < all && time.Since(begun) < time.Minute || lost < enough && time.Since(begun) < 5*time.Minute {
		for _, kind := range []string{"normal", "pubsub"} {
			fmt.Fprintf(admin, "CLIENT KILL TYPE %s SKIPME yes\r\n", kind)
			n, err := admin.Read(reply)
			lab.Check(t, err)
			k, _ := strconv.Atoi(strings.Trim(string(reply[:n]), ":\r\n"))
			lost += k
		}
	}
	if lost < enough {
		t.Fatalf("only %d connections could be closed", lost)
	}
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, lab.Wait("what was made for them is gone", func() (bool, error) {
		return gauge("go_goroutines") <= goroutines+2 && gauge("process_open_fds") <= fds+2, nil
	}))
}

// TestFullDisk: a demotion reaches keepalived although no file can be made,
// and what could not be written is said once and made good later.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot mount a small disk")
	}
	disk := lab.TempDir(t)
	lab.Check(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	r := lab.New(t, lab.Options{})
	d := start(t, r, "--track-file", disk+"/master", "--textfile", disk+"/redis.prom")
	track := func(want string) {
		t.Helper()
		lab.Check(t, lab.Wait("the track file holds "+want, func() (bool, error) {
			b, err := os.ReadFile(disk + "/master")
			return string(b) == want+"\n" || want == "0" && os.IsNotExist(err), nil
		}))
	}
	track("1")
	// A file that is being replaced would leave room for the next one.
	lab.Check(t, lab.Wait("the textfile says yes", func() (bool, error) {
		b, err := os.ReadFile(disk + "/redis.prom")
		return strings.Contains(string(b), "\nredis_is_master_state 1\n"), err
	}))
	filler, err := os.Create(disk + "/filler")
	lab.Check(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	track("0")
	says := func(text string) {
		t.Helper()
		lab.Check(
			t,
			lab.Wait("the log says "+text, func() (bool, error) { return strings.Contains(d.Log(), text), nil }),
		)
	}
	says("cannot write the textfile")
	says("cannot write the track file")
	lab.Check(t, d.Says(checker.ReasonRole))
	lab.Check(t, filler.Truncate(0))
	r.Must(t, "REPLICAOF", "NO", "ONE")
	says("can write the textfile again")
	says("can write the track file again")
	track("1")
	if n := strings.Count(d.Log(), "cannot write the textfile"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, d.Log())
	}
}

// TestDeadLog: whoever reads the log has died, or reads no more. Neither may
// keep a no from keepalived.
func TestDeadLog(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"the reader is dead": true, "the reader hangs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := lab.New(t, lab.Options{})
			dir := lab.TempDir(t)
			reader, writer, err := os.Pipe()
			lab.Check(t, err)
			defer reader.Close()
			cmd := exec.Command(
				lab.Program("redis-is-masterd"),
				"-s",
				r.Socket,
				"--socket",
				dir+"/s",
				"--track-file",
				dir+"/t",
			)
			cmd.Stderr = writer
			lab.Check(t, cmd.Start())
			defer cmd.Process.Kill()
			tracks := func(want string) {
				t.Helper()
				lab.Check(t, lab.Wait("the track file holds "+want, func() (bool, error) {
					b, err := os.ReadFile(dir + "/t")
					return string(b) == want+"\n" || want == "0" && os.IsNotExist(err), nil
				}))
			}
			tracks("1")
			if dies {
				reader.Close()
			} else { // fill the pipe, so that the next line blocks
				fd := int(writer.Fd())
				lab.Check(t, syscall.SetNonblock(fd, true))
				for err = nil; err == nil; {
					_, err = syscall.Write(fd, make([]byte, 4096))
				}
				lab.Check(t, syscall.SetNonblock(fd, false))
			}
			writer.Close()
			r.Must(t, "REPLICAOF", "127.0.0.1", "1")
			tracks("0")
			lab.Check(t, cmd.Process.Signal(syscall.SIGHUP)) // logs, too
			r.Must(t, "REPLICAOF", "NO", "ONE")
			tracks("1")
			lab.Check(t, lab.Wait("the next program runs", func() (bool, error) {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
				if errors.Is(err, syscall.ESRCH) { // in the middle of exec; a dead process stays so
					return false, nil
				}
				return strings.Contains(string(b), handoverVariable), err
			}))
			if code, out := cached(t, "--cached="+dir+"/s"); code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			lab.Check(t, cmd.Process.Signal(syscall.SIGTERM))
			tracks("0")
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d, %v", code, cmd.ProcessState)
			}
			tracks("0")
		})
	}
}

// TestFailedStart: a start that fails leaves no 1 that a dead daemon wrote.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	for args, want := range map[string]int{
		"--http 256.0.0.1:1 --socket " + dir + "/s": 1,
		"--socket " + dir + "/none/s":               1,
	} {
		track := filepath.Join(dir, "master")
		lab.Check(t, os.WriteFile(track, []byte("1\n"), 0o644))
		cmd := exec.Command(lab.Program("redis-is-masterd"), append(strings.Fields(args), "--track-file", track)...)
		out, _ := cmd.CombinedOutput()
		b, _ := os.ReadFile(track)
		if code := cmd.ProcessState.ExitCode(); code != want || string(b) != "0\n" {
			t.Errorf("%s: exit code %d, track file %q: %s", args, code, b, out)
		}
	}
}
