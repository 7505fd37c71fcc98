package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/e2e/lab"
)

// panicsIn is the variable that makes this test binary a daemon, and says
// where it panics.
const panicsIn = "TEST_PANICS_IN"

// runUntilPanic is the daemon. What panics does so when the file PANIC exists
// in the working directory.
func runUntilPanic(where string, args []string) int {
	p := process{name: "redis-is-masterd", getenv: func(string) string { return "" }, stdin: os.Stdin, stdout: os.Stdout,
		stderr: os.Stderr, signals: make(chan os.Signal, 1)}
	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	node := flags.Node{Getenv: p.getenv}
	node.Add(fs, checker.RoleMaster)
	var o options
	o.add(fs)
	s, err := flags.Settings{}, flags.Parse(fs, args)
	if err == nil {
		s, err = node.Settings()
	}
	if err == nil {
		err = o.check(fs, s)
	}
	if err != nil {
		return p.fail(3, err)
	}
	s.Policy.AllowUnconfirmed = true
	due := func() {
		if _, err := os.Stat("PANIC"); err == nil {
			panic("as the test wants it")
		}
	}
	s.Redis.Password = func(context.Context) (string, error) {
		if where == "the probe" {
			due()
		}
		return password, nil
	}
	switch where {
	case "a witness":
		s.Witnesses = append(s.Witnesses, witness{ask: due, add: func() {}})
	case "under the lock":
		s.Witnesses = append(s.Witnesses, witness{ask: func() {}, add: due})
	}
	return (&daemon{options: &o, Settings: s, process: p,
		logger: slog.New(slog.NewTextHandler(io.Discard, nil))}).run(context.Background())
}

// A witness calls functions where it is asked, and where its answer is added.
type witness struct{ ask, add func() }

func (w witness) Asks(checker.Observation) bool { return true }
func (w witness) Ask(context.Context, checker.Observation) func(*checker.Observation) {
	w.ask()
	return func(*checker.Observation) { w.add() }
}
func (w witness) Redial() {}
func (w witness) Close()  {}

// TestPanic: before a panic ends the daemon, its files say no, and nothing says
// yes while it dies.
func TestPanic(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"the probe", "a witness", "under the lock"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			r := lab.New(t, lab.Options{Password: password})
			dir, address := lab.TempDir(t), freeAddr(t)
			track := filepath.Join(dir, "master")
			cmd := exec.Command(os.Args[0], "-s", r.Socket, "--socket", dir+"/s", "--track-file", track, "--textfile",
				dir+"/x.prom",
				"--hello=off", "--http", address)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), panicsIn+"="+where)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			lab.Check(t, cmd.Start())
			defer cmd.Process.Kill()
			lab.Check(t, lab.Wait("the daemon says yes", func() (bool, error) {
				b, err := os.ReadFile(track)
				if errors.Is(err, os.ErrNotExist) {
					err = nil
				}
				return string(b) == "1\n", err
			}))
			lab.Check(t, os.WriteFile(dir+"/PANIC", nil, 0o600))
			r.Do("CLIENT", "KILL", "TYPE", "normal") // the next check dials
			lab.Check(t, lab.Wait("the track file says no", func() (bool, error) {
				b, err := os.ReadFile(track)
				return string(b) == "0\n", err
			}))
			if resp, err := http.Get("http://" + address + "/master"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					t.Error("HTTP says yes after the track file said no")
				}
			}
			cmd.Wait()
			b, err := os.ReadFile(track)
			if code := cmd.ProcessState.ExitCode(); code != 2 || string(b) != "0\n" || err != nil ||
				!strings.Contains(stderr.String(), "panic: as the test wants it") {
				t.Errorf("exit code %d, track file %q, %v:\n%s", code, b, err, stderr.String())
			}
			if text, err := os.ReadFile(dir + "/x.prom"); where != "under the lock" &&
				(err != nil || !strings.Contains(string(text), "\nredis_is_master_state 0\n")) {
				t.Errorf("the textfile says: %v\n%s", err, text)
			}
		})
	}
}

// TestPanicFiles: a panic writes a 0 into every file that keepalived reads.
func TestPanicFiles(t *testing.T) {
	t.Parallel()
	dir := lab.TempDir(t)
	o := options{trackFile: dir + "/master", promotionFile: dir + "/promotion"}
	for _, path := range []string{o.trackFile, o.promotionFile} {
		lab.Check(t, os.WriteFile(path, []byte("7\n"), 0o644))
	}
	o.writeNo()
	for _, path := range []string{o.trackFile, o.promotionFile} {
		if b, err := os.ReadFile(path); string(b) != "0\n" || err != nil {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
}
