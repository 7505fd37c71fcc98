package oneshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

// syslogSocket is where every syslog daemon of Linux and the journal listen.
const syslogSocket = "/dev/log"

// A changeLog sends the answer to syslog if it, or its reason, is not that of
// the last check with the same question.
type changeLog struct {
	socket string // of the syslog daemon
	dir    string // for the file that holds the last answer
	name   string // of this program

	warnings []string // which belong to each change
}

// maxState bounds what is read of the file.
const maxState = 64

// log logs d. Where the last answer cannot be read, d is news; where d cannot
// be logged, it is news for the next check, too. It never blocks on the syslog
// daemon.
func (l changeLog) log(d report.Document) error {
	state := string(d.Answer) + " " + string(d.Reason) + "\n"
	f, err := l.open(d)
	was := ""
	if err == nil {
		defer f.Close()
		buf := make([]byte, maxState)
		n, _ := f.Read(buf)
		if was = string(buf[:n]); was == state {
			return nil
		}
	}
	text := d.Text()
	if before, ok := known(was); ok {
		text += " (was " + before + ")"
	}
	if err != nil {
		text += fmt.Sprintf(" (the last answer is not kept: %v)", flags.Cause(err))
	}
	for _, w := range l.warnings {
		text += "; warning: " + w
	}
	if serr := l.send(d.Answer, text); serr != nil || f == nil {
		return errors.Join(err, serr)
	}
	if _, err = f.WriteAt([]byte(state), 0); err == nil {
		err = f.Truncate(int64(len(state)))
	}
	return err
}

// known returns what the file of an earlier check says.
func known(state string) (answer string, ok bool) {
	answer, ok = strings.CutSuffix(state, "\n")
	a, r, _ := strings.Cut(answer, " ")
	return answer, ok && a != "" && checker.Reason(r).Answer() == checker.Answer(a)
}

// open opens the file of the question that d answers. Only its owner can read
// or write it; a link or anything else that is no plain file is an error.
func (l changeLog) open(d report.Document) (*os.File, error) {
	name := "redis-is-master." + strings.ReplaceAll(d.Address, "/", "_") + "." + string(d.Want)
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("not a plain file")
	}
	return f, nil
}

// send sends one line.
//
// Format: RFC 3164, as the syslog function of libc writes it, without a host.
func (l changeLog) send(a checker.Answer, text string) error {
	const daemon = 3 << 3
	severity := map[checker.Answer]int{checker.Yes: 5, checker.No: 5, checker.Unknown: 4}[a] // notice, warning
	line := fmt.Sprintf("<%d>%s %s[%d]: %s", daemon|severity, time.Now().Format(time.Stamp), l.name, os.Getpid(), text)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Sendto(fd, []byte(line), syscall.MSG_NOSIGNAL, &syscall.SockaddrUnix{Name: l.socket})
}

// logChange is --syslog, until the deadline.
func (o *options) logChange(name string, d report.Document, deadline time.Time) error {
	done := make(chan error, 1)
	l := changeLog{socket: syslogSocket, dir: o.syslog, name: name, warnings: o.warnings}
	go func() { done <- l.log(d) }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Until(deadline)):
		return os.ErrDeadlineExceeded
	}
}
