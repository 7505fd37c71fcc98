// Package monitoring_test tries the examples with the monitoring systems that
// they are for.
package monitoring_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

const password = "s3cret-of-the-test"

func TestMain(m *testing.M) { os.Exit(lab.Main(m, nil)) }

// example is a file with its paths led to what the test has.
func example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	lab.Check(t, err)
	replace = append(replace, "/usr/bin/redis-is-master", filepath.Join(lab.Programs, "redis-is-master"))
	return strings.NewReplacer(replace...).Replace(string(b))
}

func run(t *testing.T, argv ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command("timeout", append([]string{"-k", "1", "20"}, argv...)...)
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

// pair is a master with a password, and a replica of it whose link is up.
func pair(t *testing.T) (master, replica *lab.Redis) {
	t.Helper()
	master = lab.New(t, lab.Options{TCP: true, Password: password})
	replica = lab.New(
		t,
		lab.Options{
			TCP:      true,
			Password: password,
			Args:     []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)},
		},
	)
	lab.Check(t, replica.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, master.Until("state=online", "INFO", "replication"))
	return master, replica
}

// TestNagios: Nagios takes the commands, and each says what it is for.
func TestNagios(t *testing.T) {
	t.Parallel()
	const negate = "/usr/lib/nagios/plugins/negate"
	lab.Require(t, "nagios4", negate)
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: Nagios cannot keep its user")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	lab.Check(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	commands := example(t, "nagios.cfg", "/etc/redis-is-master/password", file)
	lab.Check(t, os.WriteFile(filepath.Join(dir, "commands.cfg"), []byte(commands), 0o600))
	lab.Check(t, os.WriteFile(filepath.Join(dir, "objects.cfg"), []byte(`
define timeperiod { 
  timeperiod_name always
  alias always
  monday 00:00-24:00
}
define command {
  command_name none
  command_line /bin/true
}
define contact {
  contact_name nobody
  host_notification_commands none
  service_notification_commands none
  host_notification_period always
  service_notification_period always
}
define host {
  host_name node
  address 127.0.0.1
  max_check_attempts 1
  check_command none
  contacts nobody
  check_period always
  notification_period always
}
define service {
  name of-redis
  host_name node
  max_check_attempts 1
  contacts nobody
  check_period always
  notification_period always
  register 0
}
define service {
  use of-redis
  service_description node
  check_command check_redis_node!2!1!10!60
}
define service {
  use of-redis
  service_description master
  check_command check_redis_master
}
define service {
  use of-redis
  service_description not master
  check_command check_redis_not_master
}
`), 0o600))
	main := filepath.Join(dir, "nagios.cfg")
	lab.Check(
		t,
		os.WriteFile(
			main,
			[]byte(
				fmt.Sprintf(
					"nagios_user=root\nnagios_group=root\ncfg_file=%[1]s/commands.cfg\ncfg_file=%[1]s/objects.cfg\n"+
						"log_file=%[1]s/log\ncheck_result_path=%[1]s\ntemp_path=%[1]s\nlock_file=%[1]s/lock\n",
					dir,
				),
			),
			0o600,
		),
	)
	if code, out := run(t, "nagios4", "-v", main); code != 0 || !strings.Contains(out, "Total Errors:   0") {
		t.Errorf("nagios4 -v: exit code %d\n%s", code, out)
	}

	master, replica := pair(t)
	// The command lines, as Nagios fills them in and gives them to a shell.
	check := func(name string, r *lab.Redis, args ...string) (int, string) {
		t.Helper()
		m := regexp.MustCompile(`command_name\s+` + name + `\n\s+command_line\s+(.*)\n`).FindStringSubmatch(commands)
		if m == nil {
			t.Fatalf("there is no command %s", name)
		}
		line := strings.ReplaceAll(m[1], "$HOSTADDRESS$", "127.0.0.1 -p "+strconv.Itoa(r.Port))
		for i, a := range args {
			line = strings.ReplaceAll(line, fmt.Sprintf("$ARG%d$", i+1), a)
		}
		return run(t, "sh", "-c", line)
	}
	dead := lab.New(t, lab.Options{TCP: true})
	dead.Kill()
	for _, tt := range []struct {
		name string
		of   *lab.Redis
		args []string
		code int
		says string
	}{
		{"check_redis_node", master, []string{"1", "0", "10", "60"}, 0, "REDIS OK"},
		{"check_redis_node", master, []string{"2", "0", "10", "60"}, 1, "REDIS WARNING"},
		{"check_redis_node", master, []string{"3", "2", "10", "60"}, 2, "REDIS CRITICAL"},
		{"check_redis_node", replica, []string{"2", "1", "10", "60"}, 0, "REDIS OK"},
		{"check_redis_node", dead, []string{"2", "1", "10", "60"}, 2, "REDIS CRITICAL"},
		{"check_redis_master", master, nil, 0, "REDIS OK"},
		{"check_redis_master", replica, nil, 2, "REDIS CRITICAL"},
		{"check_redis_master", dead, nil, 2, "REDIS CRITICAL"},
		{"check_redis_not_master", master, nil, 2, "REDIS "},
		{"check_redis_not_master", replica, nil, 0, "REDIS "},
	} {
		if code, out := check(tt.name, tt.of, tt.args...); code != tt.code || !strings.Contains(out, tt.says) ||
			strings.Contains(out, password) ||
			strings.Count(out, "\n") != 1 {
			t.Errorf("%s of %s: exit code %d, want %d: %s", tt.name, tt.of.Addr(), code, tt.code, out)
		}
	}
}

// TestNRPE: what check_nrpe gets from the real nrpe is what the daemon says.
func TestNRPE(t *testing.T) {
	t.Parallel()
	const server, client = "/usr/sbin/nrpe", "/usr/lib/nagios/plugins/check_nrpe"
	lab.Require(t, server, client)
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: nrpe cannot become its user")
	}
	r := lab.New(t, lab.Options{TCP: true})
	d, err := lab.StartDaemon(
		filepath.Join(lab.Programs, "redis-is-masterd"),
		r,
		"--socket-mode",
		"0666",
	) // nrpe runs as nagios
	lab.Check(t, err)
	t.Cleanup(d.Close)
	lab.Check(t, os.Chmod(d.Dir, 0o755))
	lab.Check(t, d.Says(checker.OK))
	port, err := lab.FreePort()
	lab.Check(t, err)
	file := filepath.Join(t.TempDir(), "nrpe.cfg")
	config := fmt.Sprintf(
		"server_port=%d\nserver_address=127.0.0.1\nallowed_hosts=127.0.0.1\ncommand_timeout=10\n"+
			"nrpe_user=nagios\nnrpe_group=nagios\n",
		port,
	) + example(
		t,
		"nrpe.cfg",
		"--cached",
		"--cached="+d.Socket,
	)
	lab.Check(t, os.WriteFile(file, []byte(config), 0o600))
	nrpe := exec.Command(server, "-n", "-f", "-c", file)
	nrpe.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	lab.Check(t, nrpe.Start())
	t.Cleanup(func() {
		nrpe.Process.Kill()
		nrpe.Wait()
	})
	lab.Check(t, lab.Wait("nrpe listens", func() (bool, error) {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			c.Close()
		}
		return err == nil, nil
	}))
	asks := func(command string, want int, says string) {
		t.Helper()
		if code, out := run(t, client, "-n", "-H", "127.0.0.1", "-p", strconv.Itoa(port), "-c", command); code != want ||
			!strings.HasPrefix(out, says) {
			t.Errorf("%s: exit code %d, want %d: %s", command, code, want, out)
		}
	}
	asks("redis_node", 0, "REDIS OK")
	asks("redis_masterd", 0, "REDIS OK")
	master := lab.New(t, lab.Options{TCP: true})
	r.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(master.Port))
	lab.Check(t, r.Until("master_link_status:up", "INFO", "replication"))
	lab.Check(t, lab.Wait("the daemon has a good replica", func() (bool, error) {
		code, _ := run(t, filepath.Join(lab.Programs, "redis-is-master"), "-q", "--cached="+d.Socket, "--role", "replica")
		return code == 0, nil
	}))
	asks("redis_node", 0, "REDIS OK")
	master.Kill()
	lab.Check(t, r.Until("master_link_status:down", "INFO", "replication"))
	lab.Check(t, lab.Wait("the daemon has a replica without its master", func() (bool, error) {
		code, _ := run(t, filepath.Join(lab.Programs, "redis-is-master"), "-q", "--cached="+d.Socket, "--role", "replica")
		return code != 0, nil
	}))
	asks("redis_node", 2, "REDIS CRITICAL")
	asks("redis_masterd", 0, "REDIS OK")
	d.Kill()
	asks("redis_node", 2, "REDIS CRITICAL")
	asks("redis_masterd", 2, "REDIS CRITICAL")

	// Checkmk's agent runs the same lines.
	mrpe := example(t, "mrpe.cfg", "--cached", "--cached="+d.Socket)
	lines := 0
	for line := range strings.Lines(mrpe) {
		if name, command, _ := strings.Cut(strings.TrimSpace(line), " "); name != "#" {
			lines++
			if code, out := run(t, "sh", "-c", command); code != 2 || !strings.HasPrefix(out, "REDIS CRITICAL") {
				t.Errorf("%s: exit code %d: %s", name, code, out)
			}
		}
	}
	if lines != 2 {
		t.Errorf("mrpe.cfg has %d checks", lines)
	}
}

// TestIcinga: the definition gives no flag that there is not, and Icinga 2
// takes it where it is installed.
func TestIcinga(t *testing.T) {
	t.Parallel()
	conf := example(t, "icinga2.conf")
	help, _ := exec.Command(filepath.Join(lab.Programs, "redis-is-master"), "--help").Output()
	flags := regexp.MustCompile(`(?m)^ {4}"(--?[a-zA-Z-]+)" = `).FindAllStringSubmatch(conf, -1)
	if len(flags) < 8 {
		t.Fatalf("%d flags in\n%s", len(flags), conf)
	}
	for _, f := range flags {
		if !regexp.MustCompile(`(?m)^ +(-\w, )?` + f[1] + `[, ]`).Match(help) {
			t.Errorf("there is no flag %s", f[1])
		}
	}
	if open, shut := strings.Count(conf, "{"), strings.Count(conf, "}"); open != shut {
		t.Errorf("%d braces are opened and %d shut", open, shut)
	}
}
