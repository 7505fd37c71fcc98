package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

// daemonOutput runs the daemon until it exits.
func daemonOutput(env []string, args ...string) (code int, out string) {
	cmd := exec.Command(lab.Program("redis-is-masterd"), args...)
	cmd.Env = env
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

// TestCheckArguments: --check prints a line for each problem, and starts
// nothing.
func TestCheckArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lab.Check(t, lab.WriteCerts(dir))
	secret := filepath.Join(dir, "password")
	lab.Check(t, os.WriteFile(secret, []byte(password+"\n"), 0o600))
	pipe := filepath.Join(dir, "pipe")
	lab.Check(t, syscall.Mkfifo(pipe, 0o600))
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0) // a writer that never writes
	lab.Check(t, err)
	defer writer.Close()
	track, socket := filepath.Join(dir, "master"), filepath.Join(dir, "check.sock")
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	unit := []string{"INVOCATION_ID=0123456789abcdef"}
	tests := []struct {
		args string
		env  []string
		says []string // each in a line of its own; none if all is well
	}{
		{"--track-file " + track + " --password-file " + secret, nil, nil},
		{"--tls --cacert " + ca + " --cert " + cert + " --key " + key, nil, nil},
		{"--password-file -", nil, nil},
		{"--failover-on-crash --failover-max-lag 10mb --password-file " + secret, nil, nil},
		{"--failover-on-crash --hello off", nil, []string{"--failover-on-crash needs the Sentinels and a master"}},
		{"--failover-on-crash --role replica", nil, []string{"--failover-on-crash needs the Sentinels and a master"}},
		{"--failover-max-lag 1mb", nil, []string{"--failover-max-lag"}},
		{"--failover-on-crash --failover-max-lag much", nil, []string{"--failover-max-lag is not a size"}},
		{"--password-file " + dir + "/none --track-file " + dir + "/none/master --textfile " + dir + "/none/x.prom " +
			"--disable-file " + dir + "/none/off", nil,
			[]string{"--password-file: no such file", "of the --track-file does not exist", "of the --textfile does not exist",
				"of the --disable-file does not exist"}},
		{"--password-file " + pipe, nil, []string{"--password-file: reading it does not end"}},
		{"--socket " + dir + "/none/s", nil, []string{"of the --socket does not exist"}},
		{"--tls --cacert " + secret, nil, []string{"--cacert holds no certificate"}},
		{"--tls --cert " + cert + " --key " + ca, nil, []string{"--cert and its key are no pair"}},
		{"--sentinel 10.0.0.1 --sentinel-master m --sentinel-tls --sentinel-cacert " + secret +
			" --sentinel-password-file " + dir + "/none", nil,
			[]string{"--sentinel-password-file: no such file", "--sentinel-cacert holds no certificate"}},
		{"--vip 192.0.2.1/32 --vip-interface no-such-if", nil, []string{"the --vip-interface does not exist"}},
		{"--http 127.0.0.1:9736 # for Prometheus", nil, []string{"argument 3 begins with #"}},
		{"--http 127.0.0.1:9736 \"--role", nil, []string{"argument 3, --role, contains a quotation mark"}},
		{"--http 127.0.0.1:9736 '", nil, []string{"argument 3 contains a quotation mark"}},
		{"--sentinel-master \"m\" --sentinel 10.0.0.1", nil, []string{"argument 2 contains a quotation mark"}},
		{"--http 127.0.0.1", nil, []string{"--http is not an address"}},
		{"--agent x--role", nil, []string{"--agent is not an address"}},
		{"--track-file " + track, append(unit, "OPTION=--http 127.0.0.1:9736"),
			[]string{"the variable OPTION holds flags", "OPTIONS"}},
		{"--track-file " + track, append(unit, "OPTS=-p 6380"), []string{"the variable OPTS holds flags"}},
		{"--track-file " + track + " --http 127.0.0.1:9736",
			append(unit, "OPTIONS=--http 127.0.0.1:9736", "NICE=-5", "X=--no-flag-of-ours"), nil},
		{"--track-file " + track, []string{"FZF_DEFAULT_OPTS=--http 127.0.0.1:9736"}, nil}, // a shell, no unit
		{"--disable-file /tmp/off", unit, []string{"--disable-file is under /tmp,"}},
		{"--disable-file /run/../var/tmp/off", unit, []string{"--disable-file is under /var/tmp,"}},
		{"--disable-file /root/off", unit, []string{"--disable-file is under /root,"}},
		{"--disable-file /tmp/off", nil, nil},
	}
	for _, tt := range tests {
		args := strings.Fields(tt.args)
		if !strings.Contains(tt.args, "--socket") {
			args = append(args, "--socket", socket)
		}
		code, out := daemonOutput(tt.env, append(args, "--check")...)
		want := exit.OK
		if tt.says != nil {
			want = exit.Usage
		}
		if code != want {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, want, out)
		}
		for _, says := range tt.says {
			if !strings.Contains(out, says) {
				t.Errorf("%s: no %q in %s", tt.args, says, out)
			}
		}
		if strings.Contains(out, password) {
			t.Errorf("%s: the output holds the password: %s", tt.args, out)
		}
	}
	for _, file := range []string{track, socket} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("--check made %s", file)
		}
	}
	if code, out := daemonOutput(nil, "--disable-file", "/tmp/off"); code == exit.Usage {
		t.Errorf("outside of a unit, /tmp is refused: %s", out)
	}
	if code, out := daemonOutput(unit, "--disable-file", "/tmp/off", "--socket", socket); code != exit.Usage {
		t.Errorf("in a unit, /tmp is not refused at the start: exit code %d: %s", code, out)
	}
}

// TestEnvFile: --check finds what is wrong with the unit's environment file, by
// line and word, and checks the flags in it.
func TestEnvFile(t *testing.T) {
	t.Parallel()
	shipped, err := os.ReadFile("../package/redis-is-masterd.env")
	lab.Check(t, err)
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	lab.Check(t, os.WriteFile(secret, []byte(password+"\n"), 0o600))
	for _, tt := range []struct{ content, says string }{
		{strings.ReplaceAll(string(shipped), "/etc/redis-is-master/password", secret), ""},
		{"# a comment\n; another\n\nOPTIONS=\n", ""},
		{"OPTIONS=--http 127.0.0.1:9736 --user vipcheck\nREDISCLI_AUTH=" + password + "\n", ""},
		{"OPTIONS=\"--http 127.0.0.1:9736 --role any\"\n", ""},
		{"OPTIONS='--http 127.0.0.1:9736'", ""},
		{"OPTIONS=--user vipcheck", ""}, // the unit has a credential
		{"\nOPTIONS=--http 127.0.0.1:9736 # for Prometheus\n", "line 2 of the --env-file is wrong: argument 3 begins with #"},
		{"OPTIONS=--http 127.0.0.1:9736 \"--role any\"\n", "argument 3, --role, contains a quotation mark"},
		{"OPTIONS=\"--http 127.0.0.1:9736\" --role any\n", "argument 1, --http, contains a quotation mark"},
		{"OPTIONS=\"--http 127.0.0.1:9736\n", "argument 1, --http, contains a quotation mark"},
		{"OPTIONS=--role 'any'\n", "argument 2 contains a quotation mark"},
		{"\n\nOPTION=--role any\n", "line 3 of the --env-file sets OPTION, but the unit reads its flags from OPTIONS"},
		{"export OPTIONS=-p 6380\n", "sets export OPTIONS, but"},
		{"OPTIONS=--role any \\\n  --http 127.0.0.1:9736\n", "line 1 of the --env-file ends with a backslash"},
		{"--role any\n", "line 1 of the --env-file is neither NAME=VALUE nor a comment"},
		{"OPTIONS=--role slave\n", "--role must be"},
		{"OPTIONS=--password " + password + "\n", "no flag takes a password"},
		{"OPTIONS=--password-file " + dir + "/none\n", "--password-file: no such file"},
	} {
		file := filepath.Join(dir, "env")
		lab.Check(t, os.WriteFile(file, []byte(tt.content), 0o600))
		want := exit.OK
		if tt.says != "" {
			want = exit.Usage
		}
		code, out := daemonOutput(nil, "--check", "--socket", dir+"/s", "--env-file", file)
		if code != want || !strings.Contains(out, tt.says) || strings.Contains(out, password) {
			t.Errorf("%q: exit code %d, want %d with %q: %s", tt.content, code, want, tt.says, out)
		}
	}
	if code, out := daemonOutput(nil, "--check", "--socket", dir+"/s", "--env-file", dir+"/none"); code != exit.Usage ||
		!strings.Contains(out, "--env-file: no such file") {
		t.Errorf("no file: exit code %d: %s", code, out)
	}
	if code, out := daemonOutput(nil, "--env-file", dir+"/env"); code != exit.Usage ||
		!strings.Contains(out, "--env-file needs --check") {
		t.Errorf("without --check: exit code %d: %s", code, out)
	}
}
