// Package lab runs real servers for the tests, the demo and the benchmark:
// each in its own temporary directory, on a unix socket or a port that the
// kernel chose, ended and removed by the one who started it.
package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Patience bounds every wait for a condition of a real server. It is not a
// measure: a shared machine can be slow.
const Patience = time.Minute

// Options say how to start a Redis server.
type Options struct {
	TCP      bool   // listen on a free port of 127.0.0.1, too
	TLS      bool   // that port speaks TLS, by Dir's PEM files; see [WriteCerts]
	Password string // requirepass and masterauth
	Dir      string // a directory that exists and is left behind; a temporary one if empty
	Args     []string
	Sentinel bool
	Conf     string // lines for its configuration file
}

// A Redis is a running server.
type Redis struct {
	Dir      string
	Socket   string // its unix socket
	Port     int    // 0 without TCP
	Password string

	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	keep bool
}

// StartRedis starts redis-server and returns when it answers, whatever it
// answers. End it by [Redis.Close].
func StartRedis(o Options) (*Redis, error) {
	var last error
	for range 5 { // the port may be taken between its choice and its use
		r, err := start(o)
		if err == nil {
			return r, nil
		}
		if last = err; !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	return nil, last
}

func start(o Options) (*Redis, error) {
	r := &Redis{Dir: o.Dir, Password: o.Password, keep: o.Dir != "", done: make(chan struct{})}
	var err error
	if r.Dir == "" {
		if r.Dir, err = os.MkdirTemp("", "redis-"); err != nil {
			return nil, err
		}
	}
	r.Socket = filepath.Join(r.Dir, "redis.sock")
	args := []string{"--unixsocket", r.Socket, "--dir", r.Dir, "--daemonize", "no", "--logfile", ""}
	if !o.Sentinel {
		args = append(args, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
	}
	port := "0"
	if o.TCP || o.TLS {
		if r.Port, err = FreePort(); err != nil {
			return nil, err
		}
		port = strconv.Itoa(r.Port)
	}
	if o.TLS {
		args = append(args, "--port", "0", "--tls-port", port,
			"--tls-cert-file", filepath.Join(r.Dir, "server.pem"), "--tls-key-file", filepath.Join(r.Dir, "server.key"),
			"--tls-ca-cert-file", filepath.Join(r.Dir, "ca.pem"))
	} else {
		args = append(args, "--port", port)
	}
	conf := "" // for what is no one's business in ps, and for Sentinel to rewrite
	if o.Password != "" {
		conf = fmt.Sprintf("requirepass %q\n", o.Password)
		if !o.Sentinel {
			conf += fmt.Sprintf("masterauth %q\n", o.Password)
		}
	}
	conf += o.Conf
	file := filepath.Join(r.Dir, "redis.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	args = append(args, o.Args...)
	if i := slices.Index(args, "--replicaof"); i >= 0 { // Redis 6 wants two arguments
		args = slices.Replace(args, i+1, i+2, strings.Fields(args[i+1])...)
	}
	if o.Sentinel {
		args = append([]string{"--sentinel"}, args...)
	}
	r.args = append([]string{file}, args...)
	if err := r.run(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// run starts the process and waits until it answers.
func (r *Redis) run() error {
	cmd, done := exec.Command("redis-server", r.args...), make(chan struct{})
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	r.cmd, r.done = cmd, done
	if err := Start(cmd); err != nil {
		close(done)
		return err
	}
	go func() {
		cmd.Wait()
		close(done)
	}()
	return Wait("redis-server answers", func() (bool, error) {
		select {
		case <-done:
			return false, fmt.Errorf("redis-server ended: %s", log.String())
		default:
		}
		return r.answers(), nil
	})
}

// Restart starts it again after [Redis.Kill]: on the same port, with the data
// that it had saved, and as what its redis.conf says, which a Sentinel rewrites
// at every change of the role.
func (r *Redis) Restart() error {
	if i := slices.Index(r.args, "--replicaof"); i >= 0 {
		r.args = slices.Delete(r.args, i, i+3)
	}
	return r.run()
}

// answers sends the shortest command; any reply will do.
func (r *Redis) answers() bool {
	c, err := net.DialTimeout("unix", r.Socket, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(c, "PING\r\n")
	n, _ := c.Read(make([]byte, 1))
	return n == 1
}

// Addr is its host:port.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)) }

// Do runs redis-cli on its unix socket as the default user.
func (r *Redis) Do(args ...string) (string, error) {
	cmd := exec.Command("redis-cli", append([]string{"-s", r.Socket}, args...)...)
	if r.Password != "" {
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+r.Password)
	}
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("redis-cli %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// do sends one command on its unix socket, and returns an error reply as an error.
// A password that it does not have is forgiven.
func (r *Redis) do(args ...string) (string, error) {
	socket, err := net.DialTimeout("unix", r.Socket, Patience)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	var refused ErrorReply
	c, err := NewConn(socket, r.Password, Patience)
	if errors.As(err, &refused) {
		c, err = NewConn(socket, "", Patience)
	}
	if err != nil {
		return "", err
	}
	replies, err := c.Do(Patience, args)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(replies[0]), nil
}

// Until waits until the reply to a command holds text.
func (r *Redis) Until(text string, args ...string) error {
	return Wait(fmt.Sprintf("%q in the reply to %s", text, strings.Join(args, " ")), func() (bool, error) {
		out, _ := r.Do(args...)
		return strings.Contains(out, text), nil
	})
}

// Pid is its process.
func (r *Redis) Pid() int { return r.cmd.Process.Pid }

// Signal sends it a signal.
func (r *Redis) Signal(s syscall.Signal) error { return r.cmd.Process.Signal(s) }

// Kill ends it at once, as a crash would, and leaves its directory.
func (r *Redis) Kill() {
	if r.cmd != nil && r.cmd.Process != nil {
		r.cmd.Process.Kill()
		<-r.done
	}
}

// Close ends it and removes its directory.
func (r *Redis) Close() {
	r.Kill()
	if !r.keep {
		os.RemoveAll(r.Dir)
	}
}

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Wait polls a condition until it holds, fails, or [Patience] is over.
func Wait(what string, holds func() (bool, error)) error { return WaitFor(Patience, what, holds) }

// WaitFor is [Wait] with a patience of its own.
func WaitFor(patience time.Duration, what string, holds func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("waited in vain until " + what)
		}
	}
}
