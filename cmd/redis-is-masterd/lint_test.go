package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"redis-is-master/e2e/lab"
)

// TestLint: one line for each finding, and an exit code. What it finds is tested
// in package keepalived/lint.
func TestLint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	profile := func(name string, replace ...string) string {
		b, err := os.ReadFile("../../keepalived/" + name)
		lab.Check(t, err)
		text := strings.NewReplacer(append(replace, "/run/redis-is-master", dir)...).Replace(string(b))
		file := filepath.Join(t.TempDir(), "keepalived.conf")
		lab.Check(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	tests := []struct {
		code   int
		stdout []string // a part of each line
		stderr string
		file   string
	}{
		{0, nil, "", profile("track-file.conf")},
		{0, []string{": hint: with a weight"}, "", profile("weight.conf")},
		{
			1,
			[]string{": without reverse, weight 0 makes 1 a FAULT"},
			"",
			profile("track-file.conf", "weight 0 reverse", "weight 0"),
		},
		{
			1,
			[]string{
				": the directory /none does not exist",
				": the directory /none does not exist",
				": state MASTER",
			},
			"",
			profile("track-file.conf", "state BACKUP", "state MASTER", "/run/redis-is-master", "/none"),
		},
		{3, nil, "no such file", filepath.Join(dir, "none")},
		{3, nil, "is a directory", dir},
		{3, nil, "no such file", ""},
	}
	for _, tt := range tests {
		var stdout, stderr strings.Builder
		cmd := exec.Command(lab.Program("redis-is-masterd"), "lint", tt.file)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
		if stdout.Len() == 0 {
			lines = nil
		}
		ok := len(lines) == len(tt.stdout)
		for i := range min(len(lines), len(tt.stdout)) {
			ok = ok && strings.HasPrefix(lines[i], tt.file+":") && strings.Contains(lines[i], tt.stdout[i])
		}
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !ok || (tt.stderr == "") != (stderr.Len() == 0) ||
			!strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf(
				"%q: exit code %d, %q, %q; want %d, %q, %q",
				tt.file,
				code,
				stdout.String(),
				stderr.String(),
				tt.code,
				tt.stdout,
				tt.stderr,
			)
		}
	}
	out, _ := exec.Command(lab.Program("redis-is-masterd"), "lint", "x", "--check").CombinedOutput()
	if !strings.Contains(string(out), "needs one FILE") {
		t.Errorf("with a flag: %s", out)
	}
}
