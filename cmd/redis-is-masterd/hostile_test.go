package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestForgottenPassword: a password that was changed on the server and not here
// is in the log while the answer is still yes.
func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{TCP: true, Password: "old"})
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) { // at once: the daemon would tell of an empty file, too
		t.Helper()
		lab.Check(t, os.WriteFile(file+".new", []byte(password+"\n"), 0o600))
		lab.Check(t, os.Rename(file+".new", file))
	}
	write("old")
	d := start(t, r, "--password-file", file)
	lab.Check(t, d.Tracks("1"))
	write("mistyped")
	logs := func(text string) {
		t.Helper()
		lab.Check(t, lab.Wait("the log says "+text, func() (bool, error) { return strings.Contains(d.Log(), text), nil }))
		if got := d.Track(); got != "1" {
			t.Errorf("the track file holds %q", got)
		}
	}
	logs("the password is refused")
	write("old")
	logs("the password is accepted again")
	if n := strings.Count(d.Log(), "the password is"); n != 2 {
		t.Errorf("%d lines, want one for each change:\n%s", n, d.Log())
	}
}

// TestHiddenSecrets: another process of the same user can read neither the
// environment of the daemon nor its memory. The daemon works all the same.
func TestHiddenSecrets(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lab.Missing(t, "another user needs root")
	}
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	dir := lab.TempDir(t)
	lab.Check(t, os.Chmod(dir, 0o777))
	track := filepath.Join(dir, "master")
	cmd := exec.Command(lab.Program("redis-is-masterd"), "--socket=", "--track-file", track, "--hello=off",
		"-p", strconv.Itoa(r.Port))
	cmd.Env = []string{"REDISCLI_AUTH=" + password}
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.SysProcAttr = as
	lab.Check(t, lab.Start(cmd))
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lab.Check(t, lab.Wait("a yes", func() (bool, error) {
		b, _ := os.ReadFile(track)
		return strings.TrimSpace(string(b)) == "1", nil
	}))
	read := exec.Command("cat", "/proc/"+strconv.Itoa(cmd.Process.Pid)+"/environ")
	read.SysProcAttr = as
	if out, err := read.CombinedOutput(); err == nil || strings.Contains(string(out), password) {
		t.Errorf("%v: %s", err, out)
	}
}

// flood is a node that says as much as it may, and on which somebody publishes
// made-up hellos without an end, every other one of 4 KiB.
func flood(c net.Conn) {
	buf := make([]byte, 4096)
	for hellos := false; ; {
		n, err := c.Read(buf)
		said := string(buf[:n])
		switch {
		case err != nil:
			return
		case strings.Contains(said, "subscribe"):
			hellos = true
			io.WriteString(c, "*3\r\n$9\r\nsubscribe\r\n$18\r\n__sentinel__:hello\r\n:1\r\n")
		case strings.Contains(said, "INFO"):
			var b strings.Builder
			b.WriteString("# Replication\r\nrole:master\r\n")
			for i := 0; b.Len() < 900<<10; i++ {
				fmt.Fprintf(&b, "slave%d:ip=a,port=1,state=online,offset=1,lag=0\r\n", i)
			}
			for _, text := range []string{b.String(),
				"# Persistence\r\nloading:0\r\n", "# Server\r\nredis_mode:standalone\r\nrun_id:x\r\n"} {
				fmt.Fprintf(c, "$%d\r\n%s\r\n", len(text), text)
			}
		default:
			io.WriteString(c, "-ERR unknown command\r\n")
		}
		for i := 0; hellos; i++ {
			hello := fmt.Sprintf("127.0.0.1,26379,%040d,%d,%064d,203.0.113.7,6379,%d", i, i, i%2000, i)
			if i%2 > 0 {
				hello = strings.Repeat("x", 4<<10-len(hello)) + hello
			}
			const format = "*3\r\n$7\r\nmessage\r\n$18\r\n__sentinel__:hello\r\n$%d\r\n%s\r\n"
			if _, err := fmt.Fprintf(c, format, len(hello), hello); err != nil {
				return
			}
		}
	}
}

// ask keeps asking until the test ends, and never reads.
func ask(t *testing.T, network, address, say string) {
	for t.Context().Err() == nil {
		c, err := net.Dial(network, address)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // paces the harm, and nothing is awaited
			continue
		}
		io.WriteString(c, say)
		select {
		case <-t.Context().Done():
		case <-time.After(time.Second):
		}
		c.Close()
	}
}

// TestHostile: under every kind of harm at once, on the check, the subscription
// and the listed Sentinels, and with 100 slow clients of each output, the daemon
// says no, lives, answers and stays small.
func TestHostile(t *testing.T) {
	t.Parallel()
	const maxRSS = 40 << 10 // KiB
	harms := []func(net.Conn){flood, flood}
	for _, harm := range lab.Hostile {
		harms = append(harms, harm)
	}
	hostile := func() string {
		return lab.Fake(t, nil, func(n int, c net.Conn) { harms[n%len(harms)](c) })
	}
	_, text, _ := net.SplitHostPort(hostile())
	port, err := strconv.Atoi(text)
	lab.Check(t, err)
	web := freeAddr(t)
	args := []string{"--http", web, "--hello=auto", "--interval", "10ms", "--timeout", "100ms",
		"--sentinel-master", "mymaster"}
	for range 5 {
		args = append(args, "--sentinel", hostile())
	}
	d := start(t, &lab.Redis{Port: port}, args...)
	lab.Check(t, lab.Wait("HTTP answers", func() (bool, error) {
		c, err := net.Dial("tcp", web)
		if err == nil {
			c.Close()
		}
		return err == nil, nil
	}))
	for i := range 100 {
		path := []string{"/status", "/", "/metrics"}[i%3]
		get := "GET " + path + " HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n"
		go ask(t, "tcp", web, strings.Repeat(get, 20))
		go ask(t, "unix", d.Socket, "")
	}
	begun, answers := time.Now(), 0
	lab.Check(t, lab.Wait("10 s of it are over", func() (bool, error) {
		if doc, err := d.Document(); err == nil {
			if answers++; doc.Answer == checker.Yes {
				t.Errorf("a yes: %s", doc.JSON())
			}
		}
		if got := d.Track(); got != "0" {
			t.Errorf("the track file holds %q", got)
		}
		return time.Since(begun) > 10*time.Second, nil
	}))
	status, err := os.ReadFile("/proc/" + strconv.Itoa(d.Pid()) + "/status")
	lab.Check(t, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	lab.Check(t, err)
	t.Logf("%d answers, peak RSS %d KiB", answers, kib)
	if kib > maxRSS || answers == 0 {
		t.Errorf("%d answers; the daemon took %d KiB, at most %d wanted", answers, kib, maxRSS)
	}
}
