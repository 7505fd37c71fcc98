package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestLogOfLateOutput: the first answer is logged although it was there before the output ran.
func TestLogOfLateOutput(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := &checker.Monitor{Probe: func(context.Context) (checker.Observation, error) {
		return checker.Observation{}, nil
	}}
	o := logOutput(slog.New(slog.NewTextHandler(&log, nil)), "here", m)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	lab.Check(t, lab.Wait("a check is done", func() (bool, error) {
		s, _ := m.Status()
		return s.Verdict.Reason != checker.ReasonStarting, nil
	}))
	cancel()
	lab.Check(t, <-done)
	lab.Check(t, o.Run(ctx, m))
	if !strings.Contains(log.String(), "was=starting") {
		t.Errorf("logged: %q", log.String())
	}
}

// TestJournal: a stream to the journal gets priorities instead of times,
// anything else gets times.
func TestJournal(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		time := map[string]string{"text": "time=", "json": `{"time":`}[format]
		for journal, prefix := range map[bool]string{true: "<", false: time} {
			r := lab.New(t, lab.Options{})
			dir := lab.TempDir(t)
			log, err := os.Create(filepath.Join(dir, "log"))
			lab.Check(t, err)
			defer log.Close()
			var stat syscall.Stat_t
			lab.Check(t, syscall.Fstat(int(log.Fd()), &stat))
			stream := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
			if !journal {
				stream = fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1) // inherited from a service that started a shell
			}
			cmd := exec.Command(lab.Program("redis-is-masterd"), "-s", r.Socket, "--socket", dir+"/s", "--hello=off",
				"--log-format", format)
			cmd.Stderr, cmd.Env = log, append(os.Environ(), "JOURNAL_STREAM="+stream)
			lab.Check(t, cmd.Start())
			defer cmd.Process.Kill()
			logged := func(word string) string {
				t.Helper()
				var text []byte
				lab.Check(t, lab.Wait("the log holds "+word, func() (found bool, err error) {
					text, err = os.ReadFile(log.Name())
					return strings.Contains(string(text), word), err
				}))
				for line := range strings.Lines(string(text)) {
					if strings.Contains(line, word) {
						return line
					}
				}
				return ""
			}
			logged("started")
			r.Kill()
			warning, info := logged("refused"), logged("started")
			if journal {
				if !strings.HasPrefix(info, "<6>") || !strings.HasPrefix(warning, "<4>") || strings.Contains(info+warning, "time") {
					t.Errorf("%s: logged %q and %q", format, info, warning)
				}
			} else if !strings.HasPrefix(info, prefix) || !strings.HasPrefix(warning, prefix) {
				t.Errorf("%s: logged %q and %q", format, info, warning)
			}
			lab.Check(t, cmd.Process.Signal(syscall.SIGTERM))
			cmd.Wait()
			if !journal {
				continue
			}
			cmd = exec.Command(cmd.Path, "--no-such-flag")
			cmd.Stderr, cmd.Env = log, []string{"JOURNAL_STREAM=" + stream}
			cmd.Run()
			if line := logged("no flag"); !strings.HasPrefix(line, "<3>redis-is-masterd: ") {
				t.Errorf("an error is logged as %q", line)
			}
		}
	}
}
