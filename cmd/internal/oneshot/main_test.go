package oneshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) {
	code := lab.Main(m, nil)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const password = "s3cret-of-the-test"

// An invocation is what a shell would give.
type invocation struct {
	name  string // redis-is-master if empty
	args  []string
	env   map[string]string
	stdin io.Reader
}

type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

func (i invocation) run(t testing.TB) outcome {
	t.Helper()
	if i.name == "" {
		i.name = "/usr/bin/redis-is-master"
	}
	stdin := i.stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	var stdout, stderr bytes.Buffer
	start := time.Now()
	code := run(t.Context(), append([]string{i.name}, i.args...), func(k string) string { return i.env[k] }, stdin,
		&stdout, &stderr)
	o := outcome{code, stdout.String(), stderr.String(), time.Since(start)}
	if strings.Contains(o.stdout+o.stderr, password) {
		t.Errorf("the output holds the password:\n%s%s", o.stdout, o.stderr)
	}
	return o
}

// check runs i in every output format and asserts the same outcome in each.
func (i invocation) check(t *testing.T, code int, reason checker.Reason, contains ...string) {
	t.Helper()
	// A failure that needs no waiting must not wait: its deadline is far away.
	timeout, bound := "20s", 10*time.Second
	if reason == checker.ReasonTimeout {
		timeout, bound = "300ms", 300*time.Millisecond+5*time.Second
	}
	i.args = append([]string{"--timeout", timeout}, i.args...)

	text := i.run(t)
	if text.code != code || text.took > bound {
		t.Errorf("exit code %d after %v, want %d within %v\n%s%s", text.code, text.took, code, bound, text.stdout,
			text.stderr)
	}
	word := map[int]string{exit.Yes: "yes ", exit.No: "no ", exit.Unknown: "unknown "}[code]
	if !strings.HasPrefix(text.stdout, word) || !strings.Contains(text.stdout, " "+string(reason)+": ") ||
		strings.Count(text.stdout, "\n") != 1 {
		t.Errorf("stdout is %q, want one line that begins with %q, reason %s", text.stdout, word, reason)
	}
	if code != exit.Yes && reason != checker.ReasonSyncing && reason != checker.ReasonRole &&
		!strings.Contains(text.stderr, "hint: ") {
		t.Errorf("no hint on stderr: %q", text.stderr)
	}
	if strings.Contains(text.stdout, fmt.Sprintf("%s: %[1]s: ", reason)) {
		t.Errorf("the reason is there twice: %s", text.stdout)
	}
	if i.stdin == nil {
		i.formats(t, code, reason)
	}
	for _, c := range contains {
		if !strings.Contains(text.stdout+text.stderr, c) {
			t.Errorf("no %q in the output:\n%s%s", c, text.stdout, text.stderr)
		}
	}
}

// nagiosLine is the grammar of the plugin guidelines.
var nagiosLine = regexp.MustCompile(`^REDIS (OK|WARNING|CRITICAL|UNKNOWN): [^|\n]+ ` +
	`\|( [a-z]+=(U|-?[0-9.]+s?);[0-9.:~@-]*;[0-9.:~@-]*;0)+\n$`)

// formats asserts that JSON, Nagios, --explain and --quiet say the same.
func (i invocation) formats(t *testing.T, code int, reason checker.Reason) {
	t.Helper()
	args := i.args
	i.args = append([]string{"-o", "json"}, args...)
	o := i.run(t)
	var d report.Document
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil || o.code != code || d.Reason != reason ||
		d.Answer != reason.Answer() || d.Schema != 1 || o.stderr != "" {
		t.Errorf("json: exit code %d, %v: %s%s", o.code, err, o.stdout, o.stderr)
	}
	if (d.Observation == nil) != (d.Stage != "") {
		t.Errorf("json: neither an observation nor the stage that failed, or both: %s", o.stdout)
	}
	i.args = append([]string{"-o", "nagios"}, args...)
	if o, state := i.run(t), map[int]int{exit.Yes: 0, exit.No: 2, exit.Unknown: 2}[code]; o.code != state ||
		!nagiosLine.MatchString(o.stdout) || o.stderr != "" {
		t.Errorf("nagios: exit code %d, want %d: %s%s", o.code, state, o.stdout, o.stderr)
	}
	i.args = append([]string{"--explain"}, args...)
	if o := i.run(t); o.code != code || !strings.Contains(o.stdout, " "+string(reason)+": ") {
		t.Errorf("explain: exit code %d: %s", o.code, o.stdout)
	}
	i.args = append([]string{"-q"}, args...)
	if o := i.run(t); o.code != code || o.stdout+o.stderr != "" {
		t.Errorf("quiet: exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
}

func tcp(r *lab.Redis, args ...string) []string {
	return append([]string{"-p", strconv.Itoa(r.Port)}, args...)
}

func auth(p string) map[string]string { return map[string]string{"REDISCLI_AUTH": p} }

// TestServers asks real servers in every state that one can be put into.
func TestServers(t *testing.T) {
	tests := []struct {
		name     string
		code     int
		reason   checker.Reason
		contains []string
		setup    func(t *testing.T) invocation
	}{
		{"master", exit.Yes, checker.OK, []string{"role:master, 0 replicas online"}, func(t *testing.T) invocation {
			return invocation{args: tcp(lab.New(t, lab.Options{TCP: true}))}
		}},
		{"master with a replica", exit.Yes, checker.OK, []string{"role:master, 1 replica online"},
			func(t *testing.T) invocation {
				m, _ := pair(t)
				return invocation{args: tcp(m), env: auth(password)}
			}},
		{"master over IPv6", exit.Yes, checker.OK, []string{"yes [::1]:"}, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{TCP: true, Args: []string{"--bind", "::1"}})
			return invocation{args: tcp(r, "-H", "::1")}
		}},
		{"master by name", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: tcp(lab.New(t, lab.Options{TCP: true}), "-H", "localhost")}
		}},
		{"master on a unix socket", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", lab.New(t, lab.Options{}).Socket}}
		}},
		{"redis URL", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-u", "redis://" + lab.New(t, lab.Options{TCP: true}).Addr() + "/0"}}
		}},
		{"unix URL", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-u", "unix://" + lab.New(t, lab.Options{}).Socket}}
		}},
		{"password from the environment", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", lab.New(t, lab.Options{Password: password}).Socket}, env: auth(password)}
		}},
		{"password from standard input", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{Password: password})
			return invocation{args: []string{"-s", r.Socket, "--password-file", "-"}, stdin: strings.NewReader(password + "\n")}
		}},
		{"password from a file, before the environment", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{Password: password})
			file := write(t, filepath.Join(r.Dir, "password"), password+"\n", 0o600)
			return invocation{args: []string{"-s", r.Socket, "--password-file", file}, env: auth("wrong")}
		}},
		{"password from a systemd credential", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{Password: password})
			write(t, filepath.Join(r.Dir, "redis-password"), password, 0o400)
			return invocation{args: []string{"-s", r.Socket}, env: map[string]string{"CREDENTIALS_DIRECTORY": r.Dir}}
		}},
		{"user who may run INFO and nothing else", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{Password: password})
			r.Must(t, "ACL", "SETUSER", "vipcheck", "on", ">"+password, "resetkeys", "resetchannels", "-@all", "+info")
			return invocation{args: []string{"-s", r.Socket, "--user", "vipcheck"}, env: auth(password)}
		}},
		{"master that cannot save", exit.Yes, checker.OK, nil, func(t *testing.T) invocation { // PING says MISCONF
			r := lab.New(t, lab.Options{Args: []string{"--save", "3600 1", "--dbfilename", "dump.rdb"}})
			r.Must(t, "SET", "k", "v")
			lab.Check(t, os.Mkdir(filepath.Join(r.Dir, "dump.rdb"), 0o700)) // rename onto it fails
			r.Do("SAVE")
			r.Must(t, "BGSAVE")
			lab.Check(t, r.Until("rdb_last_bgsave_status:err", "INFO", "persistence"))
			return invocation{args: []string{"-s", r.Socket}}
		}},

		{"replica", exit.No, checker.ReasonRole, []string{" replica role: role:slave, not a master, follows 127.0.0.1:"},
			func(t *testing.T) invocation {
				_, r := pair(t)
				return invocation{args: tcp(r), env: auth(password)}
			}},
		{"replica wanted", exit.Yes, checker.OK, []string{"the link to the master is up"}, func(t *testing.T) invocation {
			_, r := pair(t)
			return invocation{args: tcp(r, "--role", "replica"), env: auth(password)}
		}},
		{"replica wanted by name", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			_, r := pair(t)
			return invocation{name: "redis-is-replica", args: tcp(r), env: auth(password)}
		}},
		{"replica wanted, master found", exit.No, checker.ReasonRole, []string{"role:master, not a replica"},
			func(t *testing.T) invocation {
				return invocation{name: "redis-is-replica", args: []string{"-s", lab.New(t, lab.Options{}).Socket}}
			}},
		{"any role wanted", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			_, r := pair(t)
			return invocation{args: tcp(r, "--role", "any"), env: auth(password)}
		}},
		{"replica with its link down", exit.No, checker.ReasonLink, nil, func(t *testing.T) invocation {
			m, r := pair(t)
			m.Kill()
			lab.Check(t, r.Until("master_link_status:down", "INFO", "replication"))
			return invocation{args: tcp(r, "--role", "replica"), env: auth(password)}
		}},
		{"replica with its link down is no master", exit.No, checker.ReasonRole, nil, func(t *testing.T) invocation {
			m, r := pair(t)
			m.Kill()
			lab.Check(t, r.Until("master_link_status:down", "INFO", "replication"))
			return invocation{args: tcp(r), env: auth(password)}
		}},
		{"loading", exit.No, checker.ReasonLoading, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", loading(t).Socket}}
		}},
		{"loading allowed", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", loading(t).Socket, "--allow-loading"}}
		}},
		{"cluster node", exit.No, checker.ReasonCluster, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", cluster(t).Socket}}
		}},
		{"cluster node allowed", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", cluster(t).Socket, "--allow-cluster"}}
		}},
		{"Sentinel", exit.No, checker.ReasonRole, []string{" sentinel role: ", "hint: this is a Sentinel"},
			func(t *testing.T) invocation {
				return invocation{args: tcp(sentinel(t))}
			}},
		{"Sentinel is not any role", exit.No, checker.ReasonRole, nil, func(t *testing.T) invocation {
			return invocation{args: tcp(sentinel(t), "--role", "any")}
		}},

		{"wrong password", exit.Unknown, checker.ReasonAuth, []string{"wrong user name or password"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-s", lab.New(t, lab.Options{Password: "another"}).Socket}, env: auth(password)}
			}},
		{"wrong user", exit.Unknown, checker.ReasonAuth, []string{"wrong user name or password"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-s", lab.New(t, lab.Options{Password: password}).Socket, "--user", "nobody"},
					env: auth(password)}
			}},
		{"a password where there is none", exit.Unknown, checker.ReasonAuth, []string{"the server has none"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-s", lab.New(t, lab.Options{}).Socket}, env: auth(password)}
			}},
		{"no password where one is needed", exit.Unknown, checker.ReasonAuth, []string{"wants a password"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-s", lab.New(t, lab.Options{Password: password}).Socket}}
			}},
		{"user who may not run INFO", exit.Unknown, checker.ReasonPermission, []string{"may not run INFO"},
			func(t *testing.T) invocation {
				r := lab.New(t, lab.Options{})
				r.Must(t, "ACL", "SETUSER", "poor", "on", ">"+password, "-@all", "+ping")
				return invocation{args: []string{"-s", r.Socket, "--user", "poor"}, env: auth(password)}
			}},
		{"stopped", exit.Unknown, checker.ReasonTimeout, []string{"reply: no answer"}, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{TCP: true})
			lab.Check(t, r.Signal(syscall.SIGSTOP))
			return invocation{args: tcp(r)}
		}},
		{"stopped, its accept queue full", exit.Unknown, checker.ReasonTimeout, []string{"dial: the server's queue"},
			func(t *testing.T) invocation {
				r := lab.New(t, lab.Options{Args: []string{"--tcp-backlog", "1"}})
				lab.Check(t, r.Signal(syscall.SIGSTOP))
				for range 3 {
					if c, err := net.Dial("unix", r.Socket); err == nil {
						t.Cleanup(func() { c.Close() })
					}
				}
				return invocation{args: []string{"-s", r.Socket}}
			}},
		{"busy script", exit.Unknown, checker.ReasonBusy, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{Args: []string{"--lua-time-limit", "1"}})
			script := exec.Command("redis-cli", "-s", r.Socket, "EVAL", "while true do end", "0")
			lab.Check(t, script.Start())
			t.Cleanup(func() { script.Process.Kill(); script.Wait() })
			lab.Check(t, r.Until("BUSY", "INFO"))
			return invocation{args: []string{"-s", r.Socket}}
		}},
		{"maxclients", exit.Unknown, checker.ReasonMaxClients, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", full(t, lab.Options{}).Socket}}
		}},
		{"maxclients over TCP, with a password", exit.Unknown, checker.ReasonMaxClients, nil, func(t *testing.T) invocation {
			return invocation{args: tcp(full(t, lab.Options{TCP: true, Password: password})), env: auth(password)}
		}},
		{"INFO renamed", exit.Unknown, checker.ReasonProtocol, []string{"renamed"}, func(t *testing.T) invocation {
			return invocation{args: []string{"-s", lab.New(t, lab.Options{Args: []string{"--rename-command", "INFO",
				""}}).Socket}}
		}},
		{"closed port", exit.Unknown, checker.ReasonRefused, []string{"dial: connection refused"},
			func(t *testing.T) invocation {
				port, err := lab.FreePort()
				lab.Check(t, err)
				return invocation{args: []string{"-p", strconv.Itoa(port)}}
			}},
		{"missing socket", exit.Unknown, checker.ReasonRefused, []string{"dial: no such file"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-s", filepath.Join(t.TempDir(), "none.sock")}}
			}},
		{"socket of a dead server", exit.Unknown, checker.ReasonRefused, nil, func(t *testing.T) invocation {
			r := lab.New(t, lab.Options{})
			r.Kill()
			return invocation{args: []string{"-s", r.Socket}}
		}},
		{"name that does not exist", exit.Unknown, checker.ReasonUnreachable, []string{"dial: lookup"},
			func(t *testing.T) invocation {
				return invocation{args: []string{"-H", "a..b"}} // no resolver is asked for an empty label
			}},
		{"address without a route", exit.Unknown, checker.ReasonUnreachable, nil, func(t *testing.T) invocation {
			return invocation{args: []string{"-H", "255.255.255.255"}}
		}},

		{"TLS", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := tlsServer(t)
			return invocation{args: tcp(r, clientCert(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"))...)}
		}},
		{"TLS by URL, with a password and SNI", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := tlsServer(t, "--requirepass", password)
			return invocation{env: auth(password), args: clientCert(r, "-u", "rediss://"+r.Addr(), "--sni", "redis.test",
				"--cacert", filepath.Join(r.Dir, "ca.pem"))}
		}},
		{"TLS without a client certificate where none is wanted", exit.Yes, checker.OK, nil, func(t *testing.T) invocation {
			r := tlsServer(t, "--tls-auth-clients", "no")
			return invocation{args: tcp(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"))}
		}},
		{"TLS, wrong CA", exit.Unknown, checker.ReasonTLS, []string{"hint: give the CA"}, func(t *testing.T) invocation {
			r := tlsServer(t)
			other := t.TempDir()
			lab.Check(t, lab.WriteCerts(other))
			return invocation{args: tcp(r, clientCert(r, "--tls", "--cacert", filepath.Join(other, "ca.pem"))...)}
		}},
		{"TLS, system CAs", exit.Unknown, checker.ReasonTLS, []string{"hint: give the CA"}, func(t *testing.T) invocation {
			r := tlsServer(t)
			return invocation{args: tcp(r, clientCert(r, "--tls")...)}
		}},
		{"TLS, wrong name", exit.Unknown, checker.ReasonTLS, []string{"--sni"}, func(t *testing.T) invocation {
			r := tlsServer(t)
			return invocation{args: tcp(r, clientCert(r, "--tls", "--sni", "other.test", "--cacert",
				filepath.Join(r.Dir, "ca.pem"))...)}
		}},
		{"TLS, client certificate missing", exit.Unknown, checker.ReasonTLS, []string{"client certificate"},
			func(t *testing.T) invocation {
				r := tlsServer(t)
				return invocation{args: tcp(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"))}
			}},
		{"TLS, client certificate of another CA", exit.Unknown, checker.ReasonTLS, nil, func(t *testing.T) invocation {
			r := tlsServer(t)
			other := t.TempDir()
			lab.Check(t, lab.WriteCerts(other))
			return invocation{args: tcp(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"),
				"--cert", filepath.Join(other, "client.pem"), "--key", filepath.Join(other, "client.key"))}
		}},
		{"plaintext to a TLS port", exit.Unknown, checker.ReasonProtocol, []string{"does this port want --tls?"},
			func(t *testing.T) invocation {
				return invocation{args: tcp(tlsServer(t))}
			}},
		{"TLS to a plaintext port", exit.Unknown, checker.ReasonTimeout,
			[]string{"tls: no answer", "does this port speak TLS?"}, func(t *testing.T) invocation {
				return invocation{args: tcp(lab.New(t, lab.Options{TCP: true}), "--tls")}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.setup(t).check(t, tt.code, tt.reason, tt.contains...)
		})
	}
}

// TestProtectedMode needs a network of its own, for Redis believes every
// address of 127.0.0.0/8.
func TestProtectedMode(t *testing.T) {
	onThread(t, func() {
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			lab.Missing(t, "no network namespace:", err.Error(), "(run as root)")
		}
		for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", "192.0.2.1/32", "dev", "lo"}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v: %s", args, err, out)
				return
			}
		}
		r, err := lab.StartRedis(lab.Options{TCP: true, Args: []string{"--bind", "*"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		i := invocation{args: tcp(r, "-H", "192.0.2.1")}
		i.check(t, exit.Unknown, checker.ReasonPermission, "protected mode")
	})
}

// TestSocketPermission drops what root may do to files, on one thread.
func TestSocketPermission(t *testing.T) {
	r := lab.New(t, lab.Options{Args: []string{"--unixsocketperm", "700"}})
	lab.Check(t, os.Chmod(r.Dir, 0o755))
	onThread(t, func() {
		if os.Geteuid() != 0 {
			lab.Missing(t, "not root: cannot become another user")
		}
		syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		i := invocation{args: []string{"-s", r.Socket}}
		i.check(t, exit.Unknown, checker.ReasonPermission, "dial: permission denied", "unixsocketperm")
	})
}

// onThread runs f on an OS thread that ends with it.
func onThread(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func pair(t *testing.T) (master, replica *lab.Redis) {
	t.Helper()
	master = lab.New(t, lab.Options{TCP: true, Password: password})
	replica = lab.New(t, lab.Options{TCP: true, Password: password,
		Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}})
	lab.Check(t, replica.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("state=online", "INFO", "replication"))
	return master, replica
}

// loading returns a server that takes minutes to load its data set.
func loading(t *testing.T) *lab.Redis {
	t.Helper()
	dir := lab.TempDir(t)
	first := lab.New(t, lab.Options{Dir: dir})
	first.Must(t, "EVAL", "for i = 1, 100000 do redis.call('SET', i, i) end", "0")
	first.Must(t, "SAVE")
	first.Kill()
	return lab.New(t, lab.Options{Dir: dir, Args: []string{"--key-load-delay", "1000",
		"--loading-process-events-interval-bytes", "1024"}})
}

func cluster(t *testing.T) *lab.Redis {
	t.Helper()
	bus := port(t) // ten thousand above the server's; Redis 6 takes no other
	return lab.New(t, lab.Options{Args: []string{"--cluster-enabled", "yes", "--port", strconv.Itoa(bus - 10_000)}})
}

func sentinel(t *testing.T) *lab.Redis {
	return lab.New(t, lab.Options{TCP: true, Sentinel: true})
}

func port(t *testing.T) int {
	t.Helper()
	p, err := lab.FreePort()
	lab.Check(t, err)
	return p
}

// full returns a server whose only client slot is taken.
func full(t *testing.T, o lab.Options) *lab.Redis {
	t.Helper()
	r := lab.New(t, o)
	r.Must(t, "CONFIG", "SET", "maxclients", "1")
	var c net.Conn
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
	})
	lab.Check(t, lab.Wait("the only client slot is ours", func() (bool, error) {
		var err error
		if c, err = net.Dial("unix", r.Socket); err != nil {
			return false, err
		}
		io.WriteString(c, "PING\r\n")
		reply := make([]byte, 64)
		n, _ := c.Read(reply)
		ours := n > 0 && !strings.Contains(string(reply[:n]), "max number")
		if !ours {
			c.Close()
		}
		return ours, nil
	}))
	return r
}

func tlsServer(t *testing.T, args ...string) *lab.Redis {
	t.Helper()
	dir := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(dir))
	return lab.New(t, lab.Options{TLS: true, Dir: dir, Args: args})
}

func clientCert(r *lab.Redis, args ...string) []string {
	return append(args, "--cert", filepath.Join(r.Dir, "client.pem"), "--key", filepath.Join(r.Dir, "client.key"))
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	lab.Check(t, os.WriteFile(path, []byte(text), mode))
	lab.Check(t, os.Chmod(path, mode))
	return path
}
