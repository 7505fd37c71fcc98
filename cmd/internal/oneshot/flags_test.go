package oneshot

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/exit"
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
		{"-u http://h", nil, []string{"--url does not begin with"}},
		{"-u redis://h/x", nil, []string{"--url has a path"}},
		{"-u redis://h?db=1", nil, []string{"--url takes no options"}},
		{"-u redis://h:99999", nil, []string{"--url has a port"}},
		{"-u unix://relative", nil, []string{"three slashes"}},
		{"-u redis://%zz", nil, []string{"--url is not a URL"}},
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
		{"--sentinel h --sentinel-master=", nil, []string{"--sentinel-master is not the name"}},
		{"--sentinel h --sentinel-master m,n", nil, []string{"--sentinel-master is not the name"}},
		{"--sentinel h --sentinel h:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel h:1 --sentinel h:2 --sentinel h:1 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel ::1 --sentinel [::1]:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel [::1] --sentinel [::1]:26379 --sentinel-master m", nil, []string{"--sentinel is given twice"}},
		{"--sentinel= --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel h:0 --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel h:65536 --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel h:x --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel :26379 --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel a,b --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel redis://:" + password + "@h:26379 --sentinel-master m", nil, []string{"--sentinel is not an address"}},
		{"--sentinel-password-file f", nil, []string{"--sentinel-password-file needs --sentinel"}},
		{"--sentinel h --sentinel-master m --sentinel-user u", nil,
			[]string{"--sentinel-user needs --sentinel-password-file"}},
		{"--sentinel-tls", nil, []string{"--sentinel-tls needs --sentinel"}},
		{"--sentinel h --sentinel-master m --sentinel-cacert f", nil, []string{"--sentinel-cacert needs --sentinel-tls"}},
		{"--sentinel h --sentinel-master m --sentinel-sni n", nil, []string{"--sentinel-sni needs --sentinel-tls"}},
		{"--sentinel h --sentinel-master m --sentinel-tls --sentinel-cert f", nil,
			[]string{"--sentinel-cert needs --sentinel-key"}},
		{"--sentinel h --sentinel-master m --sentinel-tls --sentinel-key f", nil,
			[]string{"--sentinel-key needs --sentinel-cert"}},
		{"--announce-addr=", nil, []string{"--announce-addr is neither a host"}},
		{"--announce-addr redis://h:1", nil, []string{"--announce-addr is neither a host"}},
		{"--announce-addr a,b", nil, []string{"--announce-addr is neither a host"}},
		{"--min-uptime -1s", nil, []string{"--min-uptime"}},
		{"--min-uptime soon", nil, []string{"--min-uptime"}},
		{"--min-replicas -1", nil, []string{"--min-replicas"}},
		{"--min-replicas many", nil, []string{"--min-replicas is not a number"}},
		{"--max-lag 0", nil, []string{"--max-lag is neither"}},
		{"--max-lag 0s", nil, []string{"--max-lag is neither"}},
		{"--max-lag -5s", nil, []string{"--max-lag is neither"}},
		{"--max-lag -5", nil, []string{"--max-lag is neither"}},
		{"--max-lag=", nil, []string{"--max-lag is neither"}},
		{"--max-lag 1tb", nil, []string{"--max-lag is neither"}},
		{"--max-lag 99999999999gb", nil, []string{"--max-lag is neither"}},
		{"--max-lag 1kb", secret("REDISCLI_AUTH"),
			[]string{"--max-lag in bytes would send the password in clear", "--tls", "--master-password-file"}},
		{"-s /x --max-lag 1kb", secret("REDISCLI_AUTH"), []string{"--max-lag in bytes would send the password in clear"}},
		{"--master-password-file f", nil, []string{"--master-password-file is empty, or given without --max-lag in bytes"}},
		{"--master-password-file f --max-lag 1s", nil,
			[]string{"--master-password-file is empty, or given without --max-lag in bytes"}},
		{"--master-password-file= --max-lag 1", nil, []string{"--master-password-file is empty"}},
		{"--redis-user no-such-user", nil, []string{"--redis-user is no user of this host"}},
		{"--redis-user=", nil, []string{"--redis-user is no user of this host"}},
		{"--redis-user -1", nil, []string{"--redis-user is no user of this host"}},
		{"--cached --redis-user root", nil, []string{"--cached", "--redis-user"}},
		{"--max-lag 1s --max-lag 2s", nil, []string{"--max-lag is given twice"}},
		{"--max-lag 1kb --max-lag 2", nil, []string{"--max-lag is given twice"}},
		{"--cached --sentinel h --sentinel-master m", nil, []string{"--cached", "--sentinel"}},
		{"--cached --min-uptime 1s", nil, []string{"--cached", "--min-uptime"}},
		{"--cached --max-lag 1s", nil, []string{"--cached", "--max-lag"}},
		{"--cached --announce-addr h", nil, []string{"--cached", "--announce-addr"}},
		{"--sentinel h --sentinel-master m --sentinel-password-file=", nil, []string{"--sentinel-password-file is empty"}},
		{"--announce-addr h:x", nil, []string{"--announce-addr is neither a host"}},
		{"--announce-addr h:0", nil, []string{"--announce-addr is neither a host"}},
		{"--announce-addr :6379", nil, []string{"--announce-addr is neither a host"}},
		{"--max-lag 1mbkb", nil, []string{"--max-lag is neither"}},
		{"-q -o json", nil, []string{"--quiet", "--output"}},
		{"-q --explain", nil, []string{"--quiet", "--explain"}},
		{"--explain -o json", nil, []string{"--explain", "--output"}},
		{"-o xml", nil, []string{"--output must be"}},
		{"-w 1:", nil, []string{"--warning", "--output nagios"}},
		{"-c 1: -o json", nil, []string{"--critical", "--output nagios"}},
		{"--timeout-state unknown", nil, []string{"--timeout-state", "--output nagios"}},
		{"--role slave", nil, []string{"--role must be", "a slave is a replica"}},
		{"--role primary", nil, []string{"--role must be", "a primary is a master"}},
		{"--role " + password, nil, []string{"--role must be master, replica or any"}},
		{"-t 0", nil, []string{"--timeout must be above 0"}},
		{"--cached -t 0", nil, []string{"--timeout must be above 0"}},
		{"-t 500", nil, []string{"--timeout has a number above 60 without a unit: write 500ms, or 500s"}},
		{"--min-uptime 15000", nil, []string{"--min-uptime has a number above 60 without a unit"}},
		{"--min-uptime -5", nil, []string{"--min-uptime is below 0"}},
		{"-h 10.0.0.1", nil, []string{"-h prints the help", "-H"}},
		{"-q -h 10.0.0.1 -p 6380", nil, []string{"-h prints the help", "-H"}},
		{"-h10.0.0.1", nil, []string{"-h prints the help", "-H"}},
		{"-H 10.0.0.1:6380", nil, []string{"--host has a port in it", "--port"}},
		{"-H [::1]:6380", nil, []string{"--host has a port in it", "--port"}},
		{"--cached /run/redis-is-master/check.sock", nil, []string{"write --cached=VALUE"}},
		{"-q --cached /x -t 1", nil, []string{"write --cached=VALUE"}},
		{"--tls yes", nil, []string{"--tls takes no value"}},
		{"-qV -H h -p 6379 # a comment", nil, []string{"argument 6 begins with #", "a line of its own"}},
		{"\"--role master\"", nil, []string{"argument 1, --role, contains a quotation mark"}},
		{"-q 'master'", nil, []string{"argument 2 contains a quotation mark"}},
		{"-q -- " + password, nil, []string{"argument 3 belongs to no flag"}},
		{"-qH h " + password, nil, []string{"argument 3 belongs to no flag"}},
		{"-qt", nil, []string{"--timeout needs a value"}},
		{"-a " + password, nil, []string{"no flag takes a password", "--password-file", "REDISCLI_AUTH"}},
		{"--pass " + password, nil, []string{"no flag takes a password"}},
		{"--sentinel-password " + password, nil, []string{"no flag takes a password"}},
		{"--syslog=", nil, []string{"--syslog is empty"}},
		{"-t -1s", nil, []string{"--timeout"}},
		{"-t soon", nil, []string{"--timeout is not a duration such as 500ms or 2"}},
		{"-p 65536", nil, []string{"--port is not a number up to 65535"}},
		{"--tls=on", nil, []string{"--tls takes no value"}},
		{"-p 0", nil, []string{"--port is 0"}},
		{"--host=", nil, []string{"--host is empty"}},
		{"-p", nil, []string{"--port needs a value"}},
		{"-p " + password, nil, []string{"--port"}},
		{"-a" + password, nil, []string{"no flag takes a password", "--password-file"}},
		{"--password " + password, nil, []string{"no flag takes a password"}},
		{"--no-such-flag", nil, []string{"no flag --no-such-flag"}},
		{"-x" + password, nil, []string{"no flag -x"}},
		{password, nil, []string{"belongs to no flag"}},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.args, "/", "_"), func(t *testing.T) {
			i := invocation{args: strings.Fields(tt.args), env: tt.env}
			o := i.run(t)
			if o.code != exit.Usage || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 ||
				!strings.HasPrefix(o.stderr, "redis-is-master: ") {
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
		"--tls --cert /etc/os-release --key /etc/os-release": "--cert and its key are no pair",
		"--tls --cacert /etc/os-release":                     "--cacert holds no certificate",
		"--tls --cacert /dev/null":                           "--cacert holds no certificate",
		"--sentinel h":                                       "--sentinel needs --sentinel-master",
	} {
		i := invocation{args: append([]string{"-o", "nagios"}, strings.Fields(args)...)}
		if o := i.run(t); o.code != 3 || !strings.HasPrefix(o.stdout, "REDIS UNKNOWN: ") ||
			!strings.Contains(o.stdout, says) || o.stderr != "" {
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
		{"missing", filepath.Join(dir, "none"), nil, exit.Usage, "no such file"},
		{"a directory", dir, nil, exit.Usage, "is a directory"},
		{"empty", write(t, filepath.Join(dir, "empty"), "", 0o600), nil, exit.Usage, "is empty"},
		{"a newline alone", write(t, filepath.Join(dir, "newline"), "\n", 0o600), nil, exit.Usage, "is empty"},
		{"two lines", write(t, filepath.Join(dir, "two"), password+"\n"+password+"\n", 0o600), nil, exit.Usage,
			"more than one line"},
		{"empty standard input", "-", strings.NewReader(""), exit.Usage, "is empty"},
		{"standard input that never ends", "-", never, exit.Unknown, "timeout: password: no answer"},
		{"a pipe that never ends", pipe, nil, exit.Unknown, "timeout: password: no answer"},
	}
	for _, tt := range tests {
		i := invocation{args: []string{"-t", "200ms", "--password-file", tt.file}, stdin: tt.stdin}
		if o := i.run(t); o.code != tt.code || !strings.Contains(o.stdout+o.stderr, tt.says) || o.took > 5*time.Second {
			t.Errorf("%s: exit code %d after %v, want %d with %q: %s%s", tt.name, o.code, o.took, tt.code, tt.says, o.stdout,
				o.stderr)
		}
	}
}

// TestFilePermissions: a file that others can write is refused, whatever it
// holds; of a secret that others can read there is a warning.
func TestFilePermissions(t *testing.T) {
	r := lab.New(t, lab.Options{Password: password})
	file := write(t, filepath.Join(r.Dir, "password"), password+"\r\n", 0o600)
	link := filepath.Join(r.Dir, "link") // as Kubernetes gives secrets
	lab.Check(t, os.Symlink(file, link))
	foreign := 4711
	rows := []struct {
		mode     os.FileMode
		uid, gid int
		code     int
		says     string
	}{
		{0o600, os.Getuid(), os.Getgid(), exit.Yes, ""},
		{0o640, os.Getuid(), os.Getgid(), exit.Yes, ""},
		{0o660, os.Getuid(), os.Getgid(), exit.Yes, ""},
		{0o644, os.Getuid(), os.Getgid(), exit.Yes, "warning: --password-file is readable by everyone"},
		{0o602, os.Getuid(), os.Getgid(), exit.Usage, "--password-file can be written by everyone: chmod o-w"},
		{0o666, os.Getuid(), os.Getgid(), exit.Usage, "--password-file can be written by everyone: chmod o-w"},
		{0o640, 0, foreign, exit.Yes, "warning: --password-file is readable by group 4711: chmod g-r"},
		{0o660, 0, foreign, exit.Usage, "--password-file can be written by group 4711: chmod g-w"},
		{0o600, foreign, 0, exit.Yes, "warning: --password-file belongs to user 4711, who can change it: chown root"},
	}
	if os.Getuid() != 0 {
		rows = rows[:6] // the rest needs another's file
	}
	for _, tt := range rows {
		lab.Check(t, os.Chown(file, tt.uid, tt.gid))
		lab.Check(t, os.Chmod(file, tt.mode))
		for _, path := range []string{file, link} {
			i := invocation{args: []string{"-s", r.Socket, "--password-file", path}}
			if o := i.run(t); o.code != tt.code || !strings.Contains(o.stderr, tt.says) || tt.says == "" && o.stderr != "" {
				t.Errorf("%+v: exit code %d: %s%s", tt, o.code, o.stdout, o.stderr)
			}
			i.args = append(i.args, "-q")
			if o := i.run(t); o.code != tt.code || (o.stderr == "") != (tt.code == exit.Yes) {
				t.Errorf("%+v, quiet: exit code %d: %s", tt, o.code, o.stderr)
			}
		}
	}

	// The other files are held to the same.
	lab.Check(t, lab.WriteCerts(r.Dir))
	pem := write(t, filepath.Join(r.Dir, "open.pem"), "x", 0o666)
	const listed = "--sentinel h --sentinel-master m "
	for flag, more := range map[string]string{
		"--cacert": "--tls", "--key": "--tls --cert " + file, "--cert": "--tls --key " + file,
		"--master-password-file": "--max-lag 1kb", "--sentinel-password-file": listed,
		"--sentinel-cacert": listed + "--sentinel-tls",
		"--sentinel-key":    listed + "--sentinel-tls --sentinel-cert " + file,
		"--sentinel-cert":   listed + "--sentinel-tls --sentinel-key " + file,
	} {
		i := invocation{args: append(strings.Fields(more), flag, pem, "-p", "1")}
		if o := i.run(t); o.code != exit.Usage || !strings.Contains(o.stderr, flag+" can be written by everyone") {
			t.Errorf("%s: exit code %d: %s%s", flag, o.code, o.stdout, o.stderr)
		}
	}
}

// TestOddPassword: what an editor or a shell has put around a password is not
// taken off, but named where the password is refused.
func TestOddPassword(t *testing.T) {
	r := lab.New(t, lab.Options{Password: password})
	for content, says := range map[string]string{
		"\ufeff" + password + "\n": "byte-order mark",
		"\"" + password + "\"\n":   "stands in quotes",
		"'" + password + "'":       "stands in quotes",
		password + " \n":           "begins or ends with a blank",
		"\t" + password + "\n":     "begins or ends with a blank",
		strings.ToUpper(password):  "see requirepass",
	} {
		file := write(t, filepath.Join(r.Dir, "password"), content, 0o600)
		i := invocation{args: []string{"-s", r.Socket, "--password-file", file}}
		i.check(t, exit.Unknown, checker.ReasonAuth, says)
	}
	dir := filepath.Dir(write(t, filepath.Join(t.TempDir(), "redis-password"), "wrong", 0o600))
	i := invocation{args: []string{"-s", r.Socket}, env: map[string]string{"CREDENTIALS_DIRECTORY": dir}}
	i.check(t, exit.Unknown, checker.ReasonAuth, "restart the unit")
	i = invocation{args: []string{"-s", r.Socket}, env: auth("wrong")}
	i.check(t, exit.Unknown, checker.ReasonAuth, "REDISCLI_AUTH")
}

// TestRedisUser: who listens is asked before a password is sent.
func TestRedisUser(t *testing.T) {
	r := lab.New(t, lab.Options{TCP: true, Password: password})
	me, another := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getuid()+1)
	for _, at := range [][]string{tcp(r), {"-s", r.Socket}} {
		invocation{args: append(at, "--redis-user", me), env: auth(password)}.check(t, exit.Yes, checker.OK)
		invocation{args: append(at, "--redis-user", another), env: auth("never sent")}.
			check(t, exit.Unknown, checker.ReasonPermission, "user "+me+" listens there, not user "+another, "ss -ltnp")
	}
}

// TestSeconds: a bare number is a number of seconds.
func TestSeconds(t *testing.T) {
	stopped := lab.New(t, lab.Options{TCP: true})
	lab.Check(t, stopped.Signal(syscall.SIGSTOP))
	told := regexp.MustCompile(`no answer after (\S+)`)
	for given, least := range map[string]time.Duration{
		"0.1": 100 * time.Millisecond, "0.1s": 100 * time.Millisecond, "100ms": 100 * time.Millisecond, "1": time.Second,
	} {
		o := invocation{args: tcp(stopped, "--timeout", given)}.run(t)
		said := told.FindStringSubmatch(o.stdout)
		if o.code != exit.Unknown || said == nil {
			t.Errorf("%s: exit code %d: %s%s", given, o.code, o.stdout, o.stderr)
			continue
		}
		if after, err := time.ParseDuration(said[1]); err != nil || after < least || after > time.Minute {
			t.Errorf("%s: %v, %v: %s", given, after, err, o.stdout)
		}
	}
}

// TestHelp: 80 columns, under headings, with the defaults.
func TestHelp(t *testing.T) {
	help := invocation{args: []string{"--help"}}.run(t).stdout
	for line := range strings.Lines(help) {
		if len(line) > 81 || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
	rest := help
	for _, part := range []string{
		"\n\nConnection:\n  -H, --host address ", "(default 127.0.0.1)", "\n  -p, --port port ", "\n  -t, --timeout time ",
		"500ms)",
		"\n\nTLS:\n      --tls  ", "\n\nPolicy:\n      --role role ", "master)", "\n      --allow-loading  ",
		"\n\nSentinels:\n      --sentinel address  ", "\n\nThe daemon's answer:\n      --cached[=socket] ", "check.sock)",
		"\n      --alive  ",
		"\n\nOutput:\n  -o, --output format ", "\n\nWith --output nagios:\n  -w, --warning range ",
		"\n\nOther:\n  -V, --version ", "\n  -h, --help ",
	} {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("no %q in what is left of --help:\n%s", part, rest)
		}
		rest = after
	}
}

// TestHelpIsNoYes: whatever is not a check must not exit 0.
func TestHelpIsNoYes(t *testing.T) {
	for args, says := range map[string]string{
		"--help": "Usage: redis-is-master", "-h": "--password-file", "--version": "redis-is-master ",
	} {
		i := invocation{args: []string{args}}
		if o := i.run(t); o.code != exit.Usage || !strings.Contains(o.stdout, says) || o.stderr != "" {
			t.Errorf("%s: exit code %d: %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
	i := invocation{name: "redis-is-replica", args: []string{"--role", "master"}}
	if o := i.run(t); o.code != exit.Usage || !strings.Contains(o.stderr, "redis-is-replica and --role") {
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
		if dep == "net/http" || strings.Contains(dep, "client_golang") || strings.Contains(dep, "go-redis") ||
			strings.Contains(dep, "netlink") || dep == "testing" {
			t.Errorf("redis-is-master links %s", dep)
		}
	}
}

// TestBinary runs the built command: the exit codes, SIGTERM and a closed
// standard output are the process's own.
func TestBinary(t *testing.T) {
	lab.Require(t, "ss")
	r := lab.New(t, lab.Options{TCP: true})
	bin := lab.Program("redis-is-master")
	link := filepath.Join(t.TempDir(), ReplicaName)
	lab.Check(t, os.Symlink(bin, link))
	codeOf := func(name string, args ...string) int {
		cmd := exec.Command(name, tcp(r, args...)...)
		cmd.Env = []string{}
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	if got := codeOf(bin); got != exit.Yes {
		t.Errorf("master: exit code %d", got)
	}
	if got := codeOf(link); got != exit.No {
		t.Errorf("as redis-is-replica: exit code %d", got)
	}
	lab.Check(t, r.Signal(syscall.SIGSTOP))
	if got := codeOf(bin, "-t", "100ms"); got != exit.Unknown {
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

// TestBinaryTLS: the built command is complete by itself.
func TestBinaryTLS(t *testing.T) {
	r := tlsServer(t, "--requirepass", password)
	dir := t.TempDir()
	lab.Check(t, os.CopyFS(dir, os.DirFS(lab.Programs)))
	lab.Check(t, os.Remove(filepath.Join(dir, "redis-is-masterd")))
	lab.Check(t, os.Symlink("redis-is-master", filepath.Join(dir, ReplicaName)))
	for name, want := range map[string]int{"redis-is-master": exit.Yes, ReplicaName: exit.No} {
		args := clientCert(r, "--tls", "--cacert", filepath.Join(r.Dir, "ca.pem"), "--password-file", "-")
		cmd := exec.Command(filepath.Join(dir, name), tcp(r, args...)...)
		cmd.Env, cmd.Stdin = []string{}, strings.NewReader(password)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(string(out), "role:master") {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, want, out)
		}
	}
}
