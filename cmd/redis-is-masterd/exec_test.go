package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// TestExec: the program follows the answer, over reloads, and its failures are seen everywhere while the outputs go on.
func TestExec(t *testing.T) {
	t.Parallel()
	r := lab.New(t, lab.Options{Password: password})
	dir, addr := lab.TempDir(t), freeAddr(t)
	program := filepath.Join(dir, "program")
	writeProgram(t, program, []byte("#!/bin/sh\ncd "+dir+"\nenv >environment\necho $REDIS_IS_MASTER_ANSWER >>log\n"+
		"test ! -e broken || { echo cannot >&2; exit 1; }\n"))
	d := start(t, r, "--exec", program, "--http", addr, "--max-age", "20s") // a busy machine makes no answer stale
	until := func(want ...string) {
		t.Helper()
		var last []byte
		if err := lab.Wait("", func() (bool, error) {
			last, _ = os.ReadFile(dir + "/log")
			told := strings.Fields(string(last)) // a failure is told again
			return len(told) >= len(want) && slices.Equal(told[:len(want)], want), nil
		}); err != nil {
			t.Fatalf("the program was told %q, want %q", last, want)
		}
	}
	until("yes")
	lab.Check(t, d.Until("it knows the answer", func(doc report.Document) bool {
		return doc.Daemon.Exec.Answer == checker.Yes
	}))
	for n := range 3 {
		reload(t, d, n+1)
	}
	lab.Check(t, os.WriteFile(dir+"/broken", nil, 0o600))
	r.Must(t, "REPLICAOF", "127.0.0.1", "1")
	until("yes", "no")
	lab.Check(t, d.Tracks("0"))
	logs(t, d, "the program of --exec has failed")
	lab.Check(t, d.Until("it is behind", func(doc report.Document) bool {
		e := doc.Daemon.Exec
		return e != nil && e.Answer == "" && e.BehindSeconds > 0 && strings.Contains(e.Error, "cannot")
	}))
	for path, want := range map[string]string{
		"/": "fails, and is repeated", "/metrics": `exec_runs_total{result="failed"} `,
	} {
		if _, body := get(t, "http://"+addr+path); !strings.Contains(body, want) {
			t.Errorf("%s does not show that the program fails:\n%s", path, body)
		}
	}
	r.Must(t, "REPLICAOF", "NO", "ONE")
	lab.Check(t, d.Says(checker.OK))
	lab.Check(t, os.Remove(dir+"/broken"))
	logs(t, d, "the program of --exec has exited 0 again")
	lab.Check(t, d.Until("it knows the answer", func(doc report.Document) bool {
		return doc.Daemon.Exec.Answer == checker.Yes && doc.Daemon.Exec.BehindSeconds == 0
	}))
	environment, err := os.ReadFile(dir + "/environment")
	if err != nil || strings.Contains(string(environment), password) ||
		!strings.Contains(string(environment), "REDIS_IS_MASTER_REASON=ok\n") {
		t.Errorf("%v, %s", err, environment)
	}
	lab.Check(t, d.Signal(syscall.SIGTERM))
	if code := d.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	all, _ := os.ReadFile(dir + "/log")
	if !strings.HasSuffix(string(all), "yes\nno\n") {
		t.Errorf("it was told at last: %s", all)
	}
}
