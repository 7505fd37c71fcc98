package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// A consumer asks /master all the time, each time on a new connection, and watches the track file.
type consumer struct {
	begun         time.Time
	stop          context.CancelFunc
	done          sync.WaitGroup
	asked, writes atomic.Int64
	longest       atomic.Int64 // nanoseconds
	mu            sync.Mutex
	wrong         []string
}

func (c *consumer) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// consume asks until the returned consumer is ended. Each no, and each question without an answer, is wrong.
func consume(t *testing.T, d *lab.Daemon, addr string, r *lab.Redis) *consumer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &consumer{begun: time.Now(), stop: cancel}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	keeping := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	ask := func(client *http.Client, url string) {
		begun := time.Now()
		resp, err := client.Get(url)
		if err != nil {
			c.note("%s: %v", url, err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			c.note("%s: %s %s", url, resp.Status, body)
		}
		if took := int64(time.Since(begun)); took > c.longest.Load() {
			c.longest.Store(took)
		}
		c.asked.Add(1)
	}
	every := func(period time.Duration, f func()) {
		c.done.Go(func() {
			tick := time.NewTicker(period)
			defer tick.Stop()
			for ctx.Err() == nil {
				f()
				<-tick.C
			}
		})
	}
	for range 4 { // together a thousand times a second, where the machine can
		every(4*time.Millisecond, func() { ask(client, "http://"+addr+"/master") })
	}
	every(30*time.Millisecond, func() { ask(keeping, "http://"+addr+"/primary") })
	every(2*time.Millisecond, func() {
		if b, err := os.ReadFile(d.TrackFile); err != nil || string(b) != "1\n" {
			c.note("track file: %q, %v", b, err)
		}
	})
	every(5*time.Millisecond, func() {
		if doc, err := d.Document(); err != nil || doc.Answer != checker.Yes {
			c.note("socket: %s, %v", doc.Reason, err)
		}
	})
	every(10*time.Millisecond, func() {
		if _, err := r.Do("SET", "key", "value"); err != nil {
			c.note("write: %v", err)
		}
		c.writes.Add(1)
	})
	return c
}

// end ends the questions and fails the test for each that was wrong.
func (c *consumer) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.done.Wait()
	t.Logf("%d questions, %.0f a second, the longest took %v; %d writes", c.asked.Load(),
		float64(c.asked.Load())/time.Since(c.begun).Seconds(), time.Duration(c.longest.Load()), c.writes.Load())
	for i, w := range c.wrong {
		if t.Errorf("%s", w); i > 20 {
			t.Fatalf("and %d more", len(c.wrong)-i)
		}
	}
}

// reload reloads the daemon and waits until the new program has begun for the nth time.
func reload(t *testing.T, d *lab.Daemon, n int) {
	t.Helper()
	lab.Check(t, d.Signal(syscall.SIGHUP))
	lab.Check(t, lab.Wait(fmt.Sprintf("reload %d is done", n), func() (bool, error) {
		return strings.Count(d.Log(), "msg=reloaded") >= n, nil
	}))
}

// startCopy starts a daemon from a copy of the program at a path of its own, where a test puts others.
func startCopy(t *testing.T, r *lab.Redis, args ...string) (d *lab.Daemon, path string) {
	t.Helper()
	path = filepath.Join(lab.TempDir(t), "redis-is-masterd")
	install(t, lab.Program("redis-is-masterd"), path)
	d, err := lab.StartDaemon(path, r, append([]string{"--hello=off"}, args...)...)
	lab.Check(t, err)
	t.Cleanup(func() {
		d.Close()
		if log := d.Log(); strings.Contains(log, password) {
			t.Errorf("the log holds the password:\n%s", log)
		} else if t.Failed() {
			t.Log(log)
		}
	})
	return d, path
}

// install replaces a program by another one, as dpkg does.
func install(t *testing.T, from, path string) {
	t.Helper()
	b, err := os.ReadFile(from)
	lab.Check(t, err)
	writeProgram(t, path, b)
}

// writeProgram replaces a program. Nothing is forked meanwhile: a child that held the
// file open for a moment would keep it from being run.
func writeProgram(t *testing.T, path string, b []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path+".new", b, 0o755)
	syscall.ForkLock.RUnlock()
	lab.Check(t, err)
	lab.Check(t, os.Rename(path+".new", path))
}

// script replaces a program by a script. In it $real is the program.
func script(t *testing.T, path, text string) {
	t.Helper()
	text = "#!/bin/bash\nreal=" + lab.Program("redis-is-masterd") + "\n" + text + "\nexec -a \"$0\" $real \"$@\"\n"
	writeProgram(t, path, []byte(text))
}

// checking is the condition of a script that it is asked to check its arguments.
const checking = `[[ " $* " == *" --check "* ]]`

// logs waits until the log holds a text.
func logs(t *testing.T, d *lab.Daemon, text string) {
	t.Helper()
	lab.Check(t, lab.Wait("the log says "+text, func() (bool, error) {
		if strings.Contains(d.Log(), text) {
			return true, nil
		}
		_, err := os.Stat(fmt.Sprintf("/proc/%d", d.Pid()))
		return false, err
	}))
}

// TestReload: whoever asks, on whatever output, gets a yes all the time.
func TestReload(t *testing.T) {
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	addr, agent := freeAddr(t), freeAddr(t)
	d := start(t, r, "--http", addr, "--agent", agent, "--textfile", filepath.Join(t.TempDir(), "redis.prom"))
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, d.Tracks("1"))
	before, err := d.Document()
	lab.Check(t, err)
	pid := d.Pid()
	c := consume(t, d, addr, r)
	for n := range 50 {
		reload(t, d, n+1)
	}
	c.end(t)
	lab.Check(t, d.Until("a check of the last program is done", func(doc report.Document) bool {
		return doc.Reason == checker.OK
	}))
	after, err := d.Document()
	lab.Check(t, err)
	if len(after.Daemon.History) != len(before.Daemon.History) ||
		after.Daemon.Since.Sub(before.Daemon.Since).Abs() > 10*time.Millisecond {
		t.Errorf("since %v, %v; was %v, %v", after.Daemon.Since, after.Daemon.History, before.Daemon.Since,
			before.Daemon.History)
	}
	if d.Pid() != pid || strings.Contains(d.Log(), "restart") || strings.Contains(d.Log(), "level=ERROR") {
		t.Errorf("log: %s", d.Log())
	}
	lab.Check(t, d.Signal(syscall.SIGTERM))
	if code := d.Wait(); code != 0 || d.Track() != "0" {
		t.Errorf("after SIGTERM: exit code %d, track file %s", code, d.Track())
	}
}

// TestHandOverHoldsNoSecret: no password is in what is handed over, nor among the arguments and the environment.
func TestHandOverHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password})
	r, dir := c.Nodes[0], lab.TempDir(t)
	lab.Check(t, os.WriteFile(dir+"/password", []byte(password), 0o600))
	without := *r
	without.Password = ""
	d, path := startCopy(t, &without, "--hello=auto", "--password-file", dir+"/password")
	lab.Check(t, d.Says(checker.OK))
	script(t, path, checking+` || { cp /proc/self/fd/$REDIS_IS_MASTERD_HANDOVER `+dir+`/document; env >`+dir+
		`/environment; echo "$@" >`+dir+`/arguments; }`)
	reload(t, d, 1)
	lab.Check(t, d.Says(checker.OK))
	for _, name := range []string{"document", "environment", "arguments"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(b) == 0 || strings.Contains(string(b), password) {
			t.Errorf("%s: %v, %s", name, err, b)
		}
	}
}

// TestReloadOtherVersion: the program of another version goes on where this one was, and back.
func TestReloadOtherVersion(t *testing.T) {
	r := lab.New(t, lab.Options{TCP: true})
	addr := freeAddr(t)
	d, path := startCopy(t, r, "--http", addr)
	other := filepath.Join(lab.TempDir(t), "other")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X redis-is-master/cmd/internal/flags.version=other",
		"-o", other, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lab.Check(t, d.Tracks("1"))
	c := consume(t, d, addr, r)
	for n := range 50 {
		install(t, []string{other, lab.Program("redis-is-masterd")}[n%2], path)
		reload(t, d, n+1)
	}
	c.end(t)
	if n := strings.Count(d.Log(), "msg=reloaded version=other"); n != 25 {
		t.Errorf("the other version was started %d times", n)
	}
}

// TestReloadCluster: the Guard of a master goes on, with all that the Sentinels say. The daemons of the replicas, which
// were reloaded, too, believe the next promotion.
func TestReloadCluster(t *testing.T) {
	c := lab.NewCluster(t, 3, lab.Options{Password: password})
	addr := freeAddr(t)
	var listed []string
	for _, s := range c.Sentinels {
		listed = append(listed, "--sentinel", s.Addr())
	}
	daemons := map[*lab.Redis]*lab.Daemon{}
	for i, r := range c.Nodes {
		args := []string{"--hello=auto"}
		if i == 0 {
			args = append(append(args, "--http", addr, "--sentinel-master", lab.MasterName), listed...)
		}
		daemons[r] = start(t, r, args...)
	}
	master := daemons[c.Nodes[0]]
	lab.Check(t, master.Says(checker.OK))
	lab.Check(t, master.Tracks("1"))
	asks := consume(t, master, addr, c.Nodes[0])
	for n := range 20 {
		for _, d := range daemons {
			reload(t, d, n+1)
		}
	}
	asks.end(t)
	c.Nodes[0].Kill()
	lab.Check(t, master.Tracks("0"))
	promoted, err := c.Master()
	lab.Check(t, err)
	lab.Check(t, daemons[promoted].Says(checker.OK))
	lab.Check(t, daemons[promoted].Tracks("1"))
}

// TestReloadRefused: a program that cannot start, or refuses the arguments, is not run, and the old one goes on.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	addr, file := freeAddr(t), filepath.Join(lab.TempDir(t), "password")
	lab.Check(t, os.WriteFile(file, []byte(password), 0o600))
	d, path := startCopy(t, r, "--http", addr, "--password-file", file)
	lab.Check(t, d.Tracks("1"))
	c := consume(t, d, addr, r)
	for i, spoil := range []func(){
		func() { lab.Check(t, os.Remove(path)) },
		func() { writeProgram(t, path, []byte("\x7fELF")) },
		func() { lab.Check(t, os.Chmod(path, 0o644)) },
		func() { script(t, path, "kill -SEGV $$") },
		func() { script(t, path, "echo redis-is-masterd: unknown flag: --http >&2; exit 3") },
		func() { script(t, path, "exit 0"); lab.Check(t, os.Chmod(path, 0o600)) },
		func() { script(t, path, checking+" && { $real \"$@\"; rm -f "+path+"; exit; }") }, // it vanishes after its check
		func() { install(t, lab.Program("redis-is-masterd"), path); lab.Check(t, os.Rename(file, file+"-")) },
	} {
		spoil()
		lab.Check(t, d.Signal(syscall.SIGHUP))
		lab.Check(t, lab.Wait("the reload is refused", func() (bool, error) {
			return strings.Count(d.Log(), "the reload has failed, and this program goes on") == i+1, nil
		}))
	}
	lab.Check(t, os.Rename(file+"-", file))
	reload(t, d, 1)
	c.end(t)
	for _, want := range []string{"unknown flag: --http", "signal: segmentation fault", "--password-file"} {
		if !strings.Contains(d.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// TestReloadOlder: a program that cannot read what would be handed over begins anew, after all outputs have said no.
func TestReloadOlder(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"a program without hand-over": checking + ` && exit 0`,
		"another version":             checking + ` && { echo hand-over 0 other; exit; }`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := lab.New(t, lab.Options{TCP: true})
			d, path := startCopy(t, r, "--http", freeAddr(t), "--agent", freeAddr(t))
			lab.Check(t, d.Tracks("1"))
			pid := d.Pid()
			script(t, path, text+"; while [ -f "+path+".wait ]; do sleep 0.01; done")
			lab.Check(t, os.WriteFile(path+".wait", nil, 0o600))
			lab.Check(t, d.Signal(syscall.SIGHUP))
			logs(t, d, "this is a restart")
			lab.Check(t, d.Tracks("0"))
			r.Must(t, "REPLICAOF", "127.0.0.1", "1")
			lab.Check(t, os.Remove(path+".wait"))
			lab.Check(t, d.Says(checker.ReasonRole))
			r.Must(t, "REPLICAOF", "NO", "ONE")
			lab.Check(t, d.Says(checker.OK))
			lab.Check(t, d.Tracks("1"))
			if d.Pid() != pid || strings.Count(d.Log(), "msg=started") != 2 {
				t.Errorf("log: %s", d.Log())
			}
		})
	}
}

// TestSpoiltHandOver: what cannot be read for certain is a restart, and never a yes.
func TestSpoiltHandOver(t *testing.T) {
	t.Parallel()
	const document = "/proc/self/fd/$REDIS_IS_MASTERD_HANDOVER"
	edit := func(sed string) string { // bash has the descriptor, and the program after it
		return "text=$(sed '" + sed + "' " + document + "); : >" + document + "; printf %s \"$text\" >" + document
	}
	for what, spoil := range map[string]string{
		"garbage":             "echo garbage >" + document,
		"nothing":             ": >" + document,
		"half of it":          "truncate -s 1000 " + document,
		"zeros":               "truncate -s 0 " + document + "; truncate -s 5000 " + document,
		"too much":            "truncate -s 5M " + document,
		"another version":     edit(`s/"version":1/"version":2/`),
		"another shape":       edit(`s/"shape":"hand-over/"shape":"Hand-over/`),
		"another process":     edit(`s/"process":[0-9]*/"process":1/`),
		"another boot":        edit(`s/"boot":"/"boot":"0/`),
		"another node":        edit(`s/"node":"/"node":"0/`),
		"the future":          edit(`s/"taken":/"taken":9/`),
		"no status":           edit(`s/"monitor"/"monitoR"/`),
		"no Guard":            edit(`s/"guard"/"guarD"/`),
		"a spoilt status":     edit(`s/"answered":/"answereD":/`),
		"no lock":             edit(`s/"socket-lock"/"socket-locK"/`),
		"no socket":           edit(`s/"socket"/"sockeT"/`),
		"a wrong socket":      edit(`s/"socket":[0-9]*/"socket":0/`),
		"no listener":         edit(`s/"http":/"httP":/`),
		"a wrong listener":    edit(`s/"http":[0-9]*/"http":1/`),
		"a closed descriptor": edit(`s/"agent":[0-9]*/"agent":999/`),
		"no track file":       edit(`s/"track-file"/"track-filE"/`),
		"a wrong number":      "export REDIS_IS_MASTERD_HANDOVER=999",
		"no number":           "export REDIS_IS_MASTERD_HANDOVER=x",
		"standard input":      "export REDIS_IS_MASTERD_HANDOVER=0",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := lab.New(t, lab.Options{TCP: true})
			d, path := startCopy(t, r, "--http", freeAddr(t), "--agent", freeAddr(t))
			lab.Check(t, d.Tracks("1"))
			// The node is no master any more, and does not say so: only the hand-over can make a yes.
			hang := fmt.Sprintf("kill -STOP %d; ", r.Pid())
			script(t, path, checking+` || { [ "$REDIS_IS_MASTERD_HANDOVER" ] && { `+hang+spoil+`; } }`)
			lab.Check(t, d.Signal(syscall.SIGHUP))
			logs(t, d, "so this is a restart")
			lab.Check(t, d.Until("the restart is done", func(doc report.Document) bool {
				if doc.Answer == checker.Yes {
					t.Fatalf("a yes: %s", doc.JSON())
				}
				return doc.Reason == checker.ReasonTimeout
			}))
			lab.Check(t, d.Tracks("0"))
			lab.Check(t, r.Signal(syscall.SIGCONT))
			lab.Check(t, d.Says(checker.OK))
			if n := strings.Count(d.Log(), "msg=started"); n != 2 {
				t.Errorf("started %d times", n)
			}
			install(t, lab.Program("redis-is-masterd"), path)
			reload(t, d, 1)
			lab.Check(t, d.Says(checker.OK))
		})
	}
}

// TestReloadWhileRedisHangs: what is handed over grows old, and is no yes for longer than without a reload.
func TestReloadWhileRedisHangs(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	d := start(t, r, "--http", freeAddr(t), "--fall", "100")
	lab.Check(t, d.Tracks("1"))
	for n := range 3 {
		lab.Check(t, r.Signal(syscall.SIGSTOP))
		begun := time.Now()
		reload(t, d, 2*n+1)
		lab.Check(t, d.Tracks("0"))
		if took := time.Since(begun); took > checker.DefaultMaxAge+time.Second {
			t.Errorf("a yes for %v after Redis hung", took)
		}
		reload(t, d, 2*n+2)
		lab.Check(t, d.Until("Redis does not answer", func(doc report.Document) bool { return doc.Answer != checker.Yes }))
		lab.Check(t, r.Signal(syscall.SIGCONT))
		lab.Check(t, d.Tracks("1"))
	}
}

// TestReloadAndRoleChange: a node that is demoted while its daemon is replaced is no master for the next program.
func TestReloadAndRoleChange(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	d, path := startCopy(t, r, "--http", freeAddr(t))
	lab.Check(t, d.Tracks("1"))
	script(t, path, checking+fmt.Sprintf(" || redis-cli -p %d REPLICAOF 127.0.0.1 1 >/dev/null", r.Port))
	lab.Check(t, d.Signal(syscall.SIGHUP))
	lab.Check(t, d.Says(checker.ReasonRole))
	lab.Check(t, d.Tracks("0"))
}

// TestKillDuringReload: a program that is killed before it has read what was handed over leaves nothing that keeps the
// next one from its place.
func TestKillDuringReload(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	addr := freeAddr(t)
	d, path := startCopy(t, r, "--http", addr)
	lab.Check(t, d.Tracks("1"))
	script(t, path, checking+" || kill -9 $$")
	lab.Check(t, d.Signal(syscall.SIGHUP))
	if code := d.Wait(); code != -1 {
		t.Errorf("exit code %d", code)
	}
	if _, err := d.Document(); err == nil {
		t.Error("the socket answers")
	}
	install(t, lab.Program("redis-is-masterd"), path)
	lab.Check(t, d.Start(path, r, "--hello=off", "--http", addr))
	lab.Check(t, d.Says(checker.OK))
}

// TestReloadWithFullDisk: nothing is written for a reload that there must be room for.
func TestReloadWithFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Missing(t, "only root can mount a tmpfs")
	}
	r := lab.New(t, lab.Options{TCP: true})
	addr, full := freeAddr(t), lab.TempDir(t)
	lab.Check(t, syscall.Mount("tmpfs", full, "tmpfs", 0, "size=64k"))
	defer syscall.Unmount(full, syscall.MNT_DETACH)
	d := start(t, r, "--http", addr, "--promotion-file", full+"/promotion", "--textfile", full+"/redis.prom")
	lab.Check(t, d.Tracks("1"))
	f, err := os.Create(full + "/filler")
	lab.Check(t, err)
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	c := consume(t, d, addr, r)
	for n := range 5 {
		reload(t, d, n+1)
	}
	c.end(t)
}

// TestStopDuringReload: a SIGTERM at any moment of a reload ends the daemon.
func TestStopDuringReload(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true})
	for n := range 20 {
		d := start(t, r, "--http", freeAddr(t))
		lab.Check(t, d.Tracks("1"))
		lab.Check(t, d.Signal(syscall.SIGHUP))
		time.Sleep(time.Duration(n) * 5 * time.Millisecond) // the moment is what is tried
		lab.Check(t, d.Signal(syscall.SIGTERM))
		switch code := d.Wait(); {
		case code == -1: // as before the first check of a daemon that is being started
		case code != 0 || d.Track() != "0":
			t.Errorf("exit code %d, track file %s", code, d.Track())
		}
		d.Close()
	}
}

// TestReloadFromStandardInput: a password that cannot be read again is no reason to lose the node.
func TestReloadFromStandardInput(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	dir := lab.TempDir(t)
	cmd := exec.Command(lab.Program("redis-is-masterd"), "-p", fmt.Sprint(r.Port), "--hello=off", "--password-file=-",
		"--socket", dir+"/s", "--track-file", dir+"/t")
	cmd.Stdin = strings.NewReader(password)
	var log syncBuffer
	cmd.Stderr = &log
	lab.Check(t, lab.Start(cmd))
	defer cmd.Process.Kill()
	tracks := func() (bool, error) {
		b, _ := os.ReadFile(dir + "/t")
		return string(b) == "1\n", nil
	}
	lab.Check(t, lab.Wait("a yes", tracks))
	lab.Check(t, cmd.Process.Signal(syscall.SIGHUP))
	lab.Check(t, lab.Wait("it reconnects", func() (bool, error) {
		return strings.Contains(log.String(), "reconnecting"), nil
	}))
	lab.Check(t, lab.Wait("a yes", tracks))
	lab.Check(t, cmd.Process.Signal(syscall.SIGTERM))
	cmd.Wait()
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestReloadNotifies: systemd is told as it wants it, and the watchdog is fed.
func TestReloadNotifies(t *testing.T) {
	r := lab.New(t, lab.Options{TCP: true})
	path := filepath.Join(lab.TempDir(t), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	lab.Check(t, err)
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1000000")
	d, program := startCopy(t, r)
	last := time.Now()
	// next is the next message but the status; the watchdog must be fed in time.
	next := func() string {
		b := make([]byte, 1000)
		for {
			lab.Check(t, systemd.SetReadDeadline(time.Now().Add(10*time.Second)))
			n, err := systemd.Read(b)
			lab.Check(t, err)
			switch said := string(b[:n]); {
			case said == "WATCHDOG=1":
				if late := time.Since(last); late > time.Second {
					t.Errorf("the watchdog was not fed for %v", late)
				}
				last = time.Now()
			case !strings.HasPrefix(said, "STATUS="):
				return said
			}
		}
	}
	expect := func(want string) {
		t.Helper()
		if said := next(); !strings.HasPrefix(said, want) {
			t.Fatalf("%q, want %q", said, want)
		}
	}
	expect("READY=1")
	for n := range 10 {
		var before unix.Timespec
		lab.Check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
		lab.Check(t, d.Signal(syscall.SIGHUP))
		said := next()
		var at int64
		if _, err := fmt.Sscanf(said, "RELOADING=1\nMONOTONIC_USEC=%d", &at); err != nil || at < before.Nano()/1000 {
			t.Fatalf("%q, %v", said, err)
		}
		expect("READY=1")
		if n == 8 { // the last one is refused
			script(t, program, "exit 3")
		}
	}
	lab.Check(t, d.Signal(syscall.SIGTERM))
	expect("STOPPING=1")
	d.Wait()
}

var reloads = flag.Int("reloads", 100, "how many reloads TestReloadsLeaveNothing makes")

// TestReloadsLeaveNothing: no descriptor, no process, no file, no thread and no memory.
func TestReloadsLeaveNothing(t *testing.T) {
	c := lab.NewCluster(t, 2, lab.Options{})
	r := c.Nodes[0]
	d := start(t, r, "--hello=auto", "--http", freeAddr(t), "--agent", freeAddr(t))
	lab.Check(t, d.Says(checker.OK))
	proc := func(what string) string { return fmt.Sprintf("/proc/%d/%s", d.Pid(), what) }
	count := func(dir string) int {
		all, err := os.ReadDir(dir)
		lab.Check(t, err)
		return len(all)
	}
	resident := func() (kB int) {
		b, err := os.ReadFile(proc("status"))
		lab.Check(t, err)
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		fmt.Sscan(rest, &kB)
		return kB
	}
	type usage struct{ files, beside int }
	measure := func() (u usage) {
		u.files, u.beside = 1<<30, 1<<30
		for range 100 { // some are open for a moment only
			u.files, u.beside = min(u.files, count(proc("fd"))), min(u.beside, count(d.Dir))
			time.Sleep(5 * time.Millisecond)
		}
		return u
	}
	reload(t, d, 1)
	lab.Check(t, d.Says(checker.OK))
	before, memory := measure(), resident()
	for n := range *reloads {
		reload(t, d, n+2)
	}
	lab.Check(t, lab.Wait("all is as before", func() (bool, error) {
		u := measure()
		return u.files <= before.files && u.beside <= before.beside, nil
	}))
	children, err := filepath.Glob(proc("task/*/children"))
	lab.Check(t, err)
	for _, path := range children {
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			t.Errorf("children: %s", b)
		}
	}
	if now := resident(); now > memory+8<<10 {
		t.Errorf("%d kB are resident, and were %d kB", now, memory)
	} else {
		t.Logf("%d reloads: %+v; %d kB, before %d kB", *reloads, before, now, memory)
	}
}

// TestRestartOfMaster: a restart asks the Sentinels that the state file names, and says yes again at once. Without the
// file, and with one that is of no use, it takes longer, and nothing else; the log says once why.
func TestRestartOfMaster(t *testing.T) {
	c := lab.NewCluster(t, 3, lab.Options{})
	r := c.Nodes[0]
	d := start(t, r, "--hello=auto")
	lab.Check(t, d.Says(checker.OK))
	state := strings.TrimSuffix(d.Socket, ".sock") + ".state"
	lab.Check(t, lab.Wait("the state file names the Sentinels", func() (bool, error) {
		s, err := readState(state, r.Addr())
		return err == nil && len(s.Guard.Sentinels) == 3 && s.RunID != "", nil
	}))
	restart := func(between func()) (away time.Duration) {
		t.Helper()
		lab.Check(t, d.Tracks("1"))
		lab.Check(t, d.Signal(syscall.SIGTERM))
		lab.Check(t, d.Tracks("0"))
		begun := time.Now()
		d.Wait()
		between()
		lab.Check(t, d.Start(lab.Program("redis-is-masterd"), r, "--hello=auto"))
		lab.Check(t, lab.Wait("it says yes again", func() (bool, error) { return d.Track() == "1", nil }))
		return time.Since(begun)
	}
	var all []time.Duration
	for range 20 {
		all = append(all, restart(func() {}))
	}
	slices.Sort(all)
	t.Logf("the VIP would be away for %v to %v, median %v", all[0], all[len(all)-1], all[len(all)/2])
	if all[len(all)/2] > 500*time.Millisecond {
		t.Errorf("the median is %v", all[len(all)/2])
	}
	good, err := os.ReadFile(state)
	lab.Check(t, err)
	for what, text := range map[string]string{
		"removed": "", "spoilt": "garbage", "of another boot": strings.Replace(string(good), `"boot":"`, `"boot":"0`, 1),
		"of another node": strings.Replace(string(good), `"node":"`, `"node":"0`, 1),
	} {
		before := strings.Count(d.Log(), "the state file is ignored")
		away := restart(func() {
			if lab.Check(t, os.Remove(state)); text != "" {
				lab.Check(t, os.WriteFile(state, []byte(text), 0o600))
			}
		})
		lines, want := strings.Count(d.Log(), "the state file is ignored")-before, 1
		if text == "" {
			want = 0
		}
		if t.Logf("with a state file that is %s: %v", what, away); lines != want {
			t.Errorf("with a state file that is %s the log has %d lines about it, want %d", what, lines, want)
		}
	}
}
