package cached

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/wire"
	"redis-is-master/checker/report"
)

// Ask asks the daemon behind a unix socket for all that it knows, as whoever
// wants role; as the daemon itself if that is empty. Every error, such as the
// end of timeout, is a [*checker.Error].
func Ask(path string, timeout time.Duration, role checker.Role) (report.Document, error) {
	return ask(path, timeout, role, 0)
}

// AskHead is Ask for the answer, and what the text output says of it: the
// document has no rules, and of the observation only the role.
func AskHead(path string, timeout time.Duration, role checker.Role) (report.Document, error) {
	return ask(path, timeout, role, headLines)
}

func ask(path string, timeout time.Duration, role checker.Role, lines int) (report.Document, error) {
	started := time.Now()
	said, stage, err := receive(path, started.Add(timeout), lines)
	if err != nil {
		return report.Document{}, checker.Classify(stage, path, started, err)
	}
	d, err := read(said, role)
	if err != nil {
		return report.Document{}, &checker.Error{Reason: checker.ReasonProtocol, Stage: checker.StageReply,
			Address: path, Err: err}
	}
	return d, nil
}

// receive returns the first lines of what the daemon says; everything if lines
// is 0.
func receive(path string, deadline time.Time, lines int) ([]byte, checker.Stage, error) {
	s, err := wire.Dial(context.Background(), "unix", path+TrustedSuffix, deadline)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ECONNREFUSED) {
		s, err = wire.Dial(context.Background(), "unix", path, deadline)
	}
	if err != nil {
		return nil, checker.StageDial, err
	}
	defer s.Close()
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := s.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF, err == nil && lines > 0 && bytes.Count(buf, []byte("\n")) >= lines:
			if time.Now().After(deadline) {
				return nil, checker.StageReply, os.ErrDeadlineExceeded
			}
			return cut(buf, lines), "", nil
		case err == nil && len(buf) > maxAnswer:
			err = wire.ErrTooLarge
		}
		if err != nil {
			return nil, checker.StageReply, err
		}
	}
}

// maxAnswer bounds what a daemon is believed to say.
const maxAnswer = 2 * report.MaxJSON

// cut returns the first lines of b, or all of it if lines is 0.
func cut(b []byte, lines int) []byte {
	end := 0
	for range lines {
		next := bytes.IndexByte(b[end:], '\n')
		if next < 0 {
			return b
		}
		end += next + 1
	}
	if lines == 0 {
		return b
	}
	return b[:end]
}
