package oneshot

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestContradictions are rejected in one line that names both, or the one.
func TestContradictions(t *testing.T) {
	secret := func(k string) map[string]string { return map[string]string{k: password} }
	tests := []struct {
		args string
		env  map[string]string
		says []string
	}{
		{"-s /x -H h", nil, []string{"--unix-socket", "--host"}},
		{"-s /x -p 1", nil, []string{"--unix-socket", "--port"}},
		{"-s /x --tls", nil, []string{"--unix-socket", "--tls"}},
		{"--unix-socket=", nil, []string{"--unix-socket is empty"}},
		{"-u redis://h -H h", nil, []string{"--url", "--host"}},
		{"-u redis://h -p 1", nil, []string{"--url", "--port"}},
		{"-u redis://h -s /x", nil, []string{"--url", "--unix-socket"}},
		{"-u redis://h --tls", nil, []string{"--url", "--tls"}},
		{"-u unix:///x --tls", nil, []string{"--url", "--tls"}},
		{"-u redis://u@h --user v", secret("REDISCLI_AUTH"), []string{"--url", "--user"}},
		{"-u redis://u:" + password + "@h", nil, []string{"--url holds a password", "--password-file"}},
		{"-u redis://:" + password + "@h", nil, []string{"--url holds a password"}},
		{"-u redis://" + password + "@h", nil, []string{"--user needs a password"}},
		{"-u http://h", nil, []string{"--url begins with none"}},
		{"-u redis://h/x", nil, []string{"--url has a path"}},
		{"-u redis://h?db=1", nil, []string{"--url takes no options"}},
		{"-u redis://h:99999", nil, []string{"--url has a port"}},
		{"-u unix://relative", nil, []string{"three slashes"}},
		{"-u redis://%zz", nil, []string{"--url is no URL"}},
		{"-H redis://:" + password + "@h", nil, []string{"--host", "--url"}},
		{"-s redis://:" + password + "@h", nil, []string{"--unix-socket", "--url"}},
		{"--cached -H h", nil, []string{"--cached", "--host"}},
		{"--cached --password-file f", nil, []string{"--cached", "--password-file"}},
		{"--cached=", nil, []string{"--cached= is empty"}},
		{"--alive", nil, []string{"--alive", "--cached"}},
		{"--cacert f", nil, []string{"--cacert", "--tls"}},
		{"--cert f --key f", nil, []string{"--cert", "--tls"}},
		{"--sni n", nil, []string{"--sni", "--tls"}},
		{"--tls --cert f", nil, []string{"--cert", "--key"}},
		{"--tls --key f", nil, []string{"--key", "--cert"}},
		{"--user u", nil, []string{"--user", "--password-file"}},
		{"--user u", map[string]string{"CREDENTIALS_DIRECTORY": "/nonexistent"}, []string{"--user", "--password-file"}},
		{"--password-file=", nil, []string{"--password-file is empty"}},
		{"--sentinel h", nil, []string{"--sentinel needs --sentinel-master"}},
		{"--sentinel-master m", nil, []string{"--sentinel-master needs --sentinel"}},
		{"--sentinel h --sentinel-master=", nil, []string{"--sentinel-master is no name"}},
		{"--sentinel h --sentinel-master m,n", nil, []string{"--sentinel-master is no name"}},
		{"--sentinel h --sentinel h:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel h:1 --sentinel h:2 --sentinel h:1 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel ::1 --sentinel [::1]:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel [::1] --sentinel [::1]:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel= --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel h:0 --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel h:65536 --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel h:x --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel :26379 --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel a,b --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel redis://:" + password + "@h:26379 --sentinel-master m", nil, []string{"--sentinel is no address"}},
		{"--sentinel-password-file f", nil, []string{"--sentinel-password-file needs --sentinel"}},
		{"--sentinel h --sentinel-master m --sentinel-user u", nil, []string{"--sentinel-user needs --sentinel-password-file"}},
		{"--sentinel-tls", nil, []string{"--sentinel-tls needs --sentinel"}},
		{"--sentinel h --sentinel-master m --sentinel-cacert f", nil, []string{"--sentinel-cacert needs --sentinel-tls"}},
		{"--sentinel h --sentinel-master m --sentinel-sni n", nil, []string{"--sentinel-sni needs --sentinel-tls"}},
		{"--sentinel h --sentinel-master m --sentinel-tls --sentinel-cert f", nil, []string{"--sentinel-cert needs --sentinel-key"}},
		{"--sentinel h --sentinel-master m --sentinel-tls --sentinel-key f", nil, []string{"--sentinel-key needs --sentinel-cert"}},
		{"--announce-addr=", nil, []string{"--announce-addr is no host"}},
		{"--announce-addr redis://h:1", nil, []string{"--announce-addr is no host"}},
		{"--announce-addr a,b", nil, []string{"--announce-addr is no host"}},
		{"--min-uptime -1s", nil, []string{"--min-uptime"}},
		{"--min-uptime soon", nil, []string{"--min-uptime"}},
		{"--min-replicas -1", nil, []string{"--min-replicas"}},
		{"--min-replicas many", nil, []string{"--min-replicas"}},
		{"--max-lag 0", nil, []string{"--max-lag is neither"}},
		{"--max-lag 0s", nil, []string{"--max-lag is neither"}},
		{"--max-lag -5s", nil, []string{"--max-lag is neither"}},
		{"--max-lag -5", nil, []string{"--max-lag is neither"}},
		{"--max-lag=", nil, []string{"--max-lag is neither"}},
		{"--max-lag 1tb", nil, []string{"--max-lag is neither"}},
		{"--max-lag 99999999999gb", nil, []string{"--max-lag is neither"}},
		{"--max-lag 1s --max-lag 2s", nil, []string{"--max-lag is given twice"}},
		{"--max-lag 1kb --max-lag 2", nil, []string{"--max-lag is given twice"}},
		{"--cached --sentinel h --sentinel-master m", nil, []string{"--cached", "--sentinel"}},
		{"--cached --min-uptime 1s", nil, []string{"--cached", "--min-uptime"}},
		{"--cached --max-lag 1s", nil, []string{"--cached", "--max-lag"}},
		{"--cached --announce-addr h", nil, []string{"--cached", "--announce-addr"}},
		{"--sentinel h --sentinel-master m --sentinel-password-file=", nil, []string{"--sentinel-password-file is empty"}},
		{"--announce-addr h:x", nil, []string{"--announce-addr is no host"}},
		{"--announce-addr h:0", nil, []string{"--announce-addr is no host"}},
		{"--announce-addr :6379", nil, []string{"--announce-addr is no host"}},
		{"--max-lag 1mbkb", nil, []string{"--max-lag is neither"}},
		{"-q -o json", nil, []string{"--quiet", "--output"}},
		{"-q --explain", nil, []string{"--quiet", "--explain"}},
		{"--explain -o json", nil, []string{"--explain", "--output"}},
		{"-o xml", nil, []string{"--output is none of"}},
		{"-w 1:", nil, []string{"--warning", "--output nagios"}},
		{"-c 1: -o json", nil, []string{"--critical", "--output nagios"}},
		{"--timeout-state unknown", nil, []string{"--timeout-state", "--output nagios"}},
		{"--role slave", nil, []string{"--role is none of"}},
		{"-t 0", nil, []string{"--timeout"}},
		{"-t -1s", nil, []string{"--timeout"}},
		{"-t soon", nil, []string{"--timeout"}},
		{"-p 65536", nil, []string{"--port"}},
		{"-p 0", nil, []string{"--port is 0"}},
		{"--host=", nil, []string{"--host is empty"}},
		{"-p", nil, []string{"--port needs a value"}},
		{"-p " + password, nil, []string{"--port"}},
		{"-a" + password, nil, []string{"no flag for a password", "--password-file"}},
		{"--password " + password, nil, []string{"no flag for a password"}},
		{"--no-such-flag", nil, []string{"no flag --no-such-flag"}},
		{"-x" + password, nil, []string{"no flag -x"}},
		{password, nil, []string{"belongs to no flag"}},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.args, "/", "_"), func(t *testing.T) {
			i := invocation{args: strings.Fields(tt.args), env: tt.env}
			o := i.run(t)
			if o.code != exitUsage || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.HasPrefix(o.stderr, "redis-is-master: ") {
				t.Errorf("exit code %d, stdout %q, stderr %q", o.code, o.stdout, o.stderr)
			}
			for _, s := range tt.says {
				if !strings.Contains(o.stderr, s) {
					t.Errorf("no %q in %q", s, o.stderr)
				}
			}
		})
	}
}

func TestNagiosContradictions(t *testing.T) {
	for args, says := range map[string]string{
		"--timeout-state ok":            "--timeout-state",
		"-w lag=1":                      "--warning lag= and --role master",
		"-w replicas=1: --role replica": "--warning replicas= and --role replica",
		"-w 1: --role any":              "needs replicas=RANGE or lag=RANGE",
		"-c x=1":                        "names neither",
		"-c 1: -c 2:":                   "twice",
		"-w 9:1":                        "--warning",
		"-w x":                          "--warning",
		"-w=":                           "--warning",
		"-w :":                          "--warning",
		"--explain":                     "--explain",
		"-q":                            "--quiet",
		"--password-file /nonexistent":  "--password-file: no such file",
		"--tls --cacert /nonexistent":   "--cacert: no such file",
		"--tls --cert /etc/os-release --key /etc/os-release": "--cert and key are no pair",
		"--tls --cacert /etc/os-release":                     "--cacert holds no certificate",
		"--tls --cacert /dev/null":                           "--cacert holds no certificate",
		"--sentinel h":                                       "--sentinel needs --sentinel-master",
	} {
		i := invocation{args: append([]string{"-o", "nagios"}, strings.Fields(args)...)}
		if o := i.run(t); o.code != 3 || !strings.HasPrefix(o.stdout, "REDIS UNKNOWN: ") || !strings.Contains(o.stdout, says) || o.stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, o.code, o.stdout, o.stderr)
		}
	}
}

// TestNagiosThresholds asks real servers.
func TestNagiosThresholds(t *testing.T) {
	master, replica := pair(t)
	stopped := lab.New(t, lab.Options{TCP: true})
	lab.Check(t, stopped.Signal(syscall.SIGSTOP))
	tests := []struct {
		of   *lab.Redis
		args string
		code int
		says string
	}{
		{master, "-w 1: -c 1:", 0, "REDIS OK: "},
		{master, "-w 2: -c 1:", 1, "REDIS WARNING: replicas is 1: "},
		{master, "-w 3: -c 2:", 2, " | replicas=1;3:;2:;0 time="},
		{master, "-w replicas=@1 --role any", 1, "replicas=1;@1;;0"},
		{replica, "-w lag=0:60 -c lag=~:90 --role any", 0, " | lag="},
		{replica, "-c @0:1000 --role replica", 2, "REDIS CRITICAL: lag is "},
		{replica, "-w 1:", 2, "REDIS CRITICAL: "},
		{stopped, "-t 0.2", 2, "REDIS CRITICAL: "},
		{stopped, "-t 0.2 --timeout-state UNKNOWN", 3, "REDIS UNKNOWN: "},
		{stopped, "-t 0.2 --timeout-state 1", 1, "REDIS WARNING: "},
	}
	for _, tt := range tests {
		i := invocation{args: append(tcp(tt.of, "-o", "nagios"), strings.Fields(tt.args)...)}
		if tt.of.Password != "" {
			i.env = auth(tt.of.Password)
		}
		if o := i.run(t); o.code != tt.code || !strings.Contains(o.stdout, tt.says) || !nagiosLine.MatchString(o.stdout) {
			t.Errorf("%s: exit code %d, want %d with %q: %s", tt.args, o.code, tt.code, tt.says, o.stdout)
		}
	}
}

func TestPasswordSources(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	lab.Check(t, syscall.Mkfifo(pipe, 0o600))
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0) // a writer that never writes
	lab.Check(t, err)
	defer writer.Close()
	never, end := io.Pipe()
	defer end.Close()
	tests := []struct {
		name  string
		file  string
		stdin io.Reader
		code  int
		says  string
	}{
		{"missing", filepath.Join(dir, "none"), nil, exitUsage, "no such file"},
		{"a directory", dir, nil, exitUsage, "is a directory"},
		{"empty", write(t, filepath.Join(dir, "empty"), "", 0o600), nil, exitUsage, "is empty"},
		{"a newline alone", write(t, filepath.Join(dir, "newline"), "\n", 0o600), nil, exitUsage, "is empty"},
		{"two lines", write(t, filepath.Join(dir, "two"), password+"\n"+password+"\n", 0o600), nil, exitUsage, "more than one line"},
		{"empty standard input", "-", strings.NewReader(""), exitUsage, "is empty"},
		{"standard input that never ends", "-", never, exitUnknown, "timeout: password: no answer"},
		{"a pipe that never ends", pipe, nil, exitUnknown, "timeout: password: no answer"},
	}
	for _, tt := range tests {
		i := invocation{args: []string{"-t", "200ms", "--password-file", tt.file}, stdin: tt.stdin}
		if o := i.run(t); o.code != tt.code || !strings.Contains(o.stdout+o.stderr, tt.says) || o.took > 5*time.Second {
			t.Errorf("%s: exit code %d after %v, want %d with %q: %s%s", tt.name, o.code, o.took, tt.code, tt.says, o.stdout, o.stderr)
		}
	}
}

func TestWorldReadablePassword(t *testing.T) {
	r := lab.New(t, lab.Options{Password: password})
	file := write(t, filepath.Join(r.Dir, "password"), password+"\r\n", 0o644)
	i := invocation{args: []string{"-s", r.Socket, "--password-file", file}}
	if o := i.run(t); o.code != exitYes || !strings.Contains(o.stderr, "warning: the --password-file is readable by everyone") {
		t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	i.args = append(i.args, "-q")
	if o := i.run(t); o.code != exitYes || o.stderr != "" {
		t.Errorf("quiet: exit code %d: %s", o.code, o.stderr)
	}
}

// TestHelpIsNoYes: whatever is not a check must not exit 0.
func TestHelpIsNoYes(t *testing.T) {
	for args, says := range map[string]string{"--help": "Usage: redis-is-master", "-h": "--password-file", "--version": "redis-is-master "} {
		i := invocation{args: []string{args}}
		if o := i.run(t); o.code != exitUsage || !strings.Contains(o.stdout, says) || o.stderr != "" {
			t.Errorf("%s: exit code %d: %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
	i := invocation{name: "redis-is-replica", args: []string{"--role", "master"}}
	if o := i.run(t); o.code != exitUsage || !strings.Contains(o.stderr, "redis-is-replica and --role") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestImports keeps the one-shot small: each exec pays for what is linked.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../redis-is-master").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if dep == "net/http" || strings.Contains(dep, "client_golang") || strings.Contains(dep, "netlink") || dep == "crypto/tls" || dep == "testing" {
			t.Errorf("redis-is-master links %s", dep)
		}
	}
}

// TestBinary runs the built command: the exit codes, SIGTERM and a closed
// standard output are the process's own.
func TestBinary(t *testing.T) {
	lab.Require(t, "ss")
	r := lab.New(t, lab.Options{TCP: true})
	bin := filepath.Join(t.TempDir(), "redis-is-master")
	if out, err := exec.Command("go", "build", "-o", filepath.Dir(bin), "../../...").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	link := filepath.Join(filepath.Dir(bin), "redis-is-replica")
	lab.Check(t, os.Symlink(bin, link))
	exit := func(name string, args ...string) int {
		cmd := exec.Command(name, tcp(r, args...)...)
		cmd.Env = []string{}
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	if got := exit(bin); got != exitYes {
		t.Errorf("master: exit code %d", got)
	}
	if got := exit(link); got != exitNo {
		t.Errorf("as redis-is-replica: exit code %d", got)
	}
	lab.Check(t, r.Signal(syscall.SIGSTOP))
	if got := exit(bin, "-t", "100ms"); got != exitUnknown {
		t.Errorf("stopped: exit code %d", got)
	}
	cmd := exec.Command(bin, tcp(r, "-t", "20s")...)
	lab.Check(t, cmd.Start())
	lab.Check(t, lab.Wait("the check has connected", func() (bool, error) {
		out, err := exec.Command("ss", "-tnpH", "state", "established", "dport", "=", cmd.Args[2]).Output()
		return strings.Contains(string(out), "redis-is-master"), err
	}))
	lab.Check(t, cmd.Process.Signal(syscall.SIGTERM))
	cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("SIGTERM: %v", cmd.ProcessState)
	}
}

// TestBinaryTLS: the built command links no TLS, and becomes the daemon's
// binary for it.
func TestBinaryTLS(t *testing.T) {
	r := tlsServer(t, "--requirepass", password)
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "../../...").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lab.Check(t, os.Symlink(Name, filepath.Join(dir, ReplicaName)))
	lab.Check(t, os.Symlink(Name, filepath.Join(dir, "another")))
	ask := func(name string) (int, string) {
		cmd := exec.Command(filepath.Join(dir, name), tcp(r, clientCert(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"), "--password-file", "-")...)...)
		cmd.Env, cmd.Stdin = []string{}, strings.NewReader(password)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for name, want := range map[string]int{Name: exitYes, "another": exitYes, ReplicaName: exitNo} {
		if code, out := ask(name); code != want || !strings.Contains(out, "role:master") {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, want, out)
		}
	}
	sbin := filepath.Join(filepath.Dir(dir), "sbin") // as the package has it
	lab.Check(t, os.Mkdir(sbin, 0o755))
	lab.Check(t, os.Rename(filepath.Join(dir, daemonName), filepath.Join(sbin, daemonName)))
	if code, out := ask(Name); code != exitYes {
		t.Errorf("with the daemon's binary in sbin: exit code %d: %s", code, out)
	}
	lab.Check(t, os.RemoveAll(sbin))
	for _, prepare := range []func() error{
		func() error { return nil }, // it is not there
		func() error { return os.Symlink(Name, filepath.Join(dir, daemonName)) }, // for ever
	} {
		lab.Check(t, prepare())
		if code, out := ask(Name); code != exitUsage || !strings.Contains(out, "redis-is-masterd beside this program") {
			t.Errorf("without the daemon's binary: exit code %d: %s", code, out)
		}
	}
}

// TestReadme: the README lists the flags as --help prints them, and every
// reason.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	lab.Check(t, err)
	_, flags, _ := strings.Cut(invocation{args: []string{"--help"}}.run(t).stdout, "Flags:\n")
	if !strings.Contains(string(readme), "```\n"+strings.TrimRight(flags, "\n")+"\n```") {
		t.Errorf("the README lists other flags than --help:\n%s", flags)
	}
	for _, r := range checker.Reasons() {
		if !strings.Contains(string(readme), "| `"+string(r)+"` |") {
			t.Errorf("the README does not explain %s", r)
		}
	}
}
