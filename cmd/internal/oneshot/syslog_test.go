package oneshot

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

// syslogLine is that of RFC 3164, without the host.
var syslogLine = regexp.MustCompile(`^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d redis-is-master\[\d+\]: (.*)$`)

// newSyslog is a change log, and how to read the next line that it sends: its
// priority and its text.
func newSyslog(t *testing.T) (l changeLog, next func() (string, string)) {
	t.Helper()
	dir := lab.TempDir(t)
	l = changeLog{socket: filepath.Join(dir, "log"), dir: dir, name: "redis-is-master"}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.socket, Net: "unixgram"})
	lab.Check(t, err)
	t.Cleanup(func() { c.Close() })
	buf := make([]byte, 4096)
	return l, func() (string, string) {
		t.Helper()
		// What was sent is there: a datagram to a unix socket needs no time.
		lab.Check(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := c.Read(buf)
		if err != nil {
			return "", ""
		}
		m := syslogLine.FindStringSubmatch(string(buf[:n]))
		if m == nil {
			t.Fatalf("%q is no line for syslog", buf[:n])
		}
		return m[1], m[2]
	}
}

// document is the answer of a check with a reason.
func document(address string, reason checker.Reason) report.Document {
	c := checker.Check{Time: time.Now(), Verdict: checker.Verdict{Reason: reason, Detail: "as it is"}}
	if reason.Answer() == checker.Unknown {
		c.Err = &checker.Error{Reason: reason, Err: os.ErrClosed}
	}
	return report.New(address, checker.Policy{}, c)
}

// TestSyslog: one line for each change, none for a check.
func TestSyslog(t *testing.T) {
	l, next := newSyslog(t)
	for i, step := range []struct {
		address  string
		reason   checker.Reason
		priority string
		says     string
	}{
		{"h:1", checker.OK, "29", "yes h:1 "},
		{"h:1", checker.OK, "", ""},
		{"h:1", checker.ReasonTimeout, "28", "(was yes ok)"},
		{"h:1", checker.ReasonTimeout, "", ""},
		{"h:1", checker.ReasonRefused, "28", "(was unknown timeout)"},
		{"/run/redis.sock", checker.OK, "29", "yes /run/redis.sock "}, // another question
		{"h:1", checker.ReasonRole, "29", "(was unknown refused)"},
		{"h:1", checker.ReasonRole, "", ""},
		{"h:1", checker.OK, "29", "(was no role)"},
	} {
		lab.Check(t, l.log(document(step.address, step.reason)))
		if priority, text := next(); priority != step.priority || !strings.Contains(text, step.says) ||
			text == "" != (step.says == "") {
			t.Errorf("%d: logged %q with priority %s, want %q with %q", i, text, priority, step.says, step.priority)
		}
		if _, text := next(); text != "" {
			t.Errorf("%d: logged %q, too", i, text)
		}
	}
	files, err := filepath.Glob(l.dir + "/redis-is-master.*")
	lab.Check(t, err)
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	if len(files) != 2 {
		t.Errorf("the files are %q", files)
	}
}

// TestSyslogWarnings: what --quiet keeps from standard error is in the log.
func TestSyslogWarnings(t *testing.T) {
	l, next := newSyslog(t)
	l.warnings = []string{"--password-file is readable by everyone: chmod o-r"}
	for _, want := range []string{"; warning: --password-file is readable by everyone: chmod o-r", ""} {
		lab.Check(t, l.log(document("h:1", checker.OK)))
		if _, text := next(); !strings.HasSuffix(text, want) || (text == "") != (want == "") {
			t.Errorf("logged %q, want %q", text, want)
		}
	}
}

// TestSyslogGarbage: whatever the file holds that is no answer, nothing is
// known of before.
func TestSyslogGarbage(t *testing.T) {
	l, next := newSyslog(t)
	file := filepath.Join(l.dir, "redis-is-master.h:1.master")
	for name, content := range map[string]string{
		"empty": "", "half": "yes ok", "another answer": "yes role\n", "no reason": "no \n",
		"long": strings.Repeat("no role\n", 1000), "binary": "\x00\xff\n",
	} {
		lab.Check(t, os.WriteFile(file, []byte(content), 0o600))
		lab.Check(t, l.log(document("h:1", checker.ReasonRole)))
		if _, text := next(); !strings.HasPrefix(text, "no h:1 ") || strings.Contains(text, "was") {
			t.Errorf("%s: logged %q", name, text)
		}
		lab.Check(t, l.log(document("h:1", checker.ReasonRole)))
		if _, text := next(); text != "" {
			t.Errorf("%s: logged %q again", name, text)
		}
	}
}

// TestSyslogFiles: what is no plain file in its place is neither followed nor
// written to nor waited for, and the line says so.
func TestSyslogFiles(t *testing.T) {
	for name, make := range map[string]func(file string) error{
		"a link": func(file string) error {
			return os.Symlink(filepath.Join(filepath.Dir(file), "target"), file)
		},
		"a pipe":      func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a directory": func(file string) error { return os.Mkdir(file, 0o700) },
		"no directory": func(file string) error {
			return os.RemoveAll(filepath.Dir(file))
		},
	} {
		l, next := newSyslog(t)
		l.dir = filepath.Join(l.dir, "state")
		lab.Check(t, os.Mkdir(l.dir, 0o700))
		lab.Check(t, make(filepath.Join(l.dir, "redis-is-master.h:1.master")))
		if err := l.log(document("h:1", checker.ReasonRole)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, text := next(); !strings.Contains(text, "(the last answer is not kept: ") {
			t.Errorf("%s: logged %q", name, text)
		}
		if _, err := os.Stat(filepath.Join(l.dir, "target")); err == nil {
			t.Errorf("%s: the target of the link was made", name)
		}
	}
}

// TestSyslogBusy: a syslog daemon that is not there, or does not read, keeps
// nobody; what it missed is logged by the next check.
func TestSyslogBusy(t *testing.T) {
	l, next := newSyslog(t)
	sent := 0
	for ; ; sent++ { // until its queue is full
		if err := l.log(document(fmt.Sprintf("h:%d", sent), checker.OK)); err != nil {
			break
		}
	}
	for range sent {
		next()
	}
	lab.Check(t, l.log(document(fmt.Sprintf("h:%d", sent), checker.OK)))
	if _, text := next(); !strings.HasPrefix(text, fmt.Sprintf("yes h:%d ", sent)) {
		t.Errorf("after a full queue: logged %q", text)
	}
	l.socket += ".none"
	if err := l.log(document("h:1", checker.ReasonRole)); err == nil {
		t.Error("no error without a socket")
	}
}

// TestSyslogFlag: the answer is the same with --syslog, whatever becomes of
// it, and an error is a warning.
func TestSyslogFlag(t *testing.T) {
	r := lab.New(t, lab.Options{})
	dir := t.TempDir()
	for args, warns := range map[string]bool{"": true, "-q": false, "-o nagios": false} {
		i := invocation{args: append([]string{"-s", r.Socket, "--syslog", dir}, strings.Fields(args)...)}
		if o := i.run(t); o.code != exit.Yes {
			t.Errorf("%s: exit code %d: %s%s", args, o.code, o.stdout, o.stderr)
		}
		i.args[3] = dir + "/none"
		if o := i.run(t); o.code != exit.Yes || strings.Contains(o.stderr, "warning: --syslog: ") != warns {
			t.Errorf("%s: exit code %d: %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
	r.Kill()
	i := invocation{args: []string{"-s", r.Socket, "--syslog", dir}}
	if o := i.run(t); o.code != exit.Unknown {
		t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
}
