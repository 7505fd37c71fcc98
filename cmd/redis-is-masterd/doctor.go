package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/doctor"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
)

const doctorUsage = `Usage: redis-is-masterd doctor [flags]

Says whether this node will do the right thing: Redis, the Sentinels, the
daemon, keepalived, the host, HAProxy. It changes nothing. Run it as root.

Without flags of the daemon, those of its unit and of the environment file of
that are taken; with any, they alone. See redis-is-masterd-doctor(8), and
redis-is-masterd --help for the flags of the daemon. The exit code is 0 if
nothing failed, 1 if something did, and 3 for wrong usage.

%s`

const clusterUsage = `Usage: redis-is-masterd cluster [flags]

Shows all nodes that the Sentinels know of this master: role, answer of the
daemon, VIP, how far behind, and which Sentinels name whom. What is not known
is shown as ?. Run it as root, who can read keepalived's configuration.

Daemons of other hosts are asked on the port of this one's --http, so that must
not be on loopback. No password of Redis is sent to another node, that of
--http-user only by TLS. It changes nothing.

Flags are taken as by redis-is-masterd doctor. The exit code is 0 if all agree,
1 if something is not as it should be, and 3 for wrong usage.

%s`

// doctorOptions are the flags that only the doctor has. The subcommand cluster has those
// of http instead of --wait.
type doctorOptions struct {
	output, unit string
	wait         time.Duration
	help, once   bool // once: without --wait
	http         flags.HTTP
}

func (o *doctorOptions) add(fs *pflag.FlagSet) {
	fs.StringVarP(&o.output, "output", "o", "text", "`format` of the output: text or json")
	if !o.once {
		fs.Var((*flags.Seconds)(&o.wait), "wait", "`time` to go on asking until nothing is left to mend")
	}
	fs.StringVar(&o.unit, "unit", "redis-is-masterd.service", "`name` of the daemon's unit")
	fs.BoolVarP(&o.help, "help", "h", false, "print this text")
	if o.once {
		o.http.Add(fs)
	}
}

// examine is the subcommand doctor: it prints a line for each check of this node.
func examine(ctx context.Context, p process, args []string) int {
	var o doctorOptions
	t, code, ok := o.parse(ctx, p, doctorUsage, args)
	if !ok {
		return code
	}
	results, ended := bounded(o.wait, func() []doctor.Result { return o.repeat(ctx, t) })
	if !ended {
		return p.fail(exit.Failed, errEndless("doctor"))
	}
	if o.output == "json" {
		fmt.Fprint(p.stdout, doctor.JSON(results))
	} else {
		fmt.Fprint(p.stdout, doctor.Text(results, p.coloured()))
	}
	if doctor.Worst(results) == doctor.Failed {
		return exit.Failed
	}
	return exit.OK
}

// showCluster is the subcommand cluster: it prints all nodes that the Sentinels know.
func showCluster(ctx context.Context, p process, args []string) int {
	o := doctorOptions{once: true}
	t, code, ok := o.parse(ctx, p, clusterUsage, args)
	if !ok {
		return code
	}
	c, ended := bounded(0, func() doctor.Cluster { return doctor.GatherCluster(ctx, t) })
	if !ended {
		return p.fail(exit.Failed, errEndless("cluster"))
	}
	if o.output == "json" {
		fmt.Fprint(p.stdout, c.JSON())
	} else {
		fmt.Fprint(p.stdout, c.Text())
	}
	if len(c.Faults) > 0 {
		return exit.Failed
	}
	return exit.OK
}

// parse reads the flags. It is not ok if the command ends with code.
func (o *doctorOptions) parse(ctx context.Context, p process, usage string, args []string) (t doctor.Target, code int,
	ok bool) {
	own := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	own.SortFlags = false
	o.add(own)

	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	node := flags.Node{Getenv: p.getenv, Stdin: p.stdin, FindsSentinels: true}
	node.Add(fs, checker.RoleMaster)
	var daemon options
	daemon.add(fs)
	own.VisitAll(func(f *pflag.Flag) {
		if fs.Lookup(f.Name) == nil {
			fs.AddFlag(f)
		}
	})
	err := flags.Parse(fs, args)
	switch {
	case errors.Is(err, pflag.ErrHelp) || err == nil && daemon.help:
		titles := map[string]string{"output": "Flags", "http-tls": "Daemons of other nodes"}
		fmt.Fprintf(p.stdout, usage, flags.Help(own, titles))
		return t, exit.Usage, false
	case err == nil && o.output != "text" && o.output != "json":
		err = flags.Errorf("--output must be text or json")
	}
	if err != nil {
		return t, p.fail(exit.Usage, err), false
	}
	if !strings.Contains(o.unit, ".") {
		o.unit += ".service"
	}
	if t, err = o.target(ctx, p, fs, own, args); err != nil {
		return t, p.fail(exit.Usage, err), false
	}
	return t, exit.OK, true
}

// grace is how much longer than all its questions the doctor may take.
const grace = 30 * time.Second

// bounded is ask, unless that does not end within a time and [grace]: no file can be
// read with a deadline.
func bounded[T any](wait time.Duration, ask func() T) (answer T, ended bool) {
	done := make(chan T, 1)
	go func() { done <- ask() }()
	select {
	case answer = <-done:
		return answer, true
	case <-time.After(wait + grace):
		return answer, false
	}
}

func errEndless(command string) error {
	return errors.New(command + ": it came to no end: is a file that it reads a pipe, or on a dead network file system?")
}

// repeatEvery is the pause between two examinations of --wait.
const repeatEvery = time.Second

// repeat examines until all is well or the time of --wait is over, at least once.
func (o *doctorOptions) repeat(ctx context.Context, t doctor.Target) []doctor.Result {
	until := time.Now().Add(o.wait)
	for {
		results := doctor.Examine(doctor.Gather(ctx, t))
		if doctor.Worst(results) == doctor.OK || time.Now().Add(repeatEvery).After(until) {
			return results
		}
		select {
		case <-ctx.Done():
			return results
		case <-time.After(repeatEvery):
		}
	}
}

// target is what the daemon is told: by the flags that were given, or by its unit.
func (o *doctorOptions) target(ctx context.Context, p process, given, own *pflag.FlagSet,
	args []string) (doctor.Target, error) {
	envFile, ofDaemon := "", false
	given.Visit(func(f *pflag.Flag) {
		ofDaemon = ofDaemon || own.Lookup(f.Name) == nil && f.Name != "env-file"
		if f.Name == "env-file" {
			envFile = f.Value.String()
		}
	})
	var words []string
	if !ofDaemon {
		var unitFile string
		words, unitFile = readUnit(ctx, o.unit)
		envFile = cmp.Or(envFile, unitFile)
	}
	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	credentials := "/run/credentials/" + o.unit
	if info, err := os.Stat(credentials); !ofDaemon && err == nil && info.IsDir() &&
		p.getenv("CREDENTIALS_DIRECTORY") == "" {
		getenv := p.getenv
		p.getenv = func(name string) string {
			if name == "CREDENTIALS_DIRECTORY" {
				return credentials
			}
			return getenv(name)
		}
	}
	node := flags.Node{Getenv: p.getenv, Stdin: p.stdin, FindsSentinels: true}
	node.Add(fs, checker.RoleMaster)
	var daemon options
	daemon.add(fs)
	own.VisitAll(func(f *pflag.Flag) {
		if fs.Lookup(f.Name) == nil {
			fs.AddFlag(f)
		}
	})
	if envFile != "" {
		more, problems := readEnvFile(fs, envFile)
		if len(problems) > 0 {
			return doctor.Target{}, problems[0]
		}
		words = append(words, more...)
	}
	// The environment file is read already; with --check it may be named.
	if err := flags.Parse(fs, slices.Concat(words, args, []string{"--check"})); err != nil {
		return doctor.Target{}, err
	}
	s, err := node.Settings()
	if err == nil {
		err = daemon.check(fs, s)
	}
	if err != nil {
		return doctor.Target{}, err
	}
	var ask flags.HTTPSettings
	if o.once {
		if ask, err = o.http.Settings(); err != nil {
			return doctor.Target{}, err
		}
	}
	s.HideSecrets()
	ask.HideSecrets()
	return doctor.Target{
		Redis: s.Redis, Sentinel: s.Sentinel, PasswordFile: fs.Lookup("password-file").Value.String(),
		SentinelPasswordFile: fs.Lookup("sentinel-password-file").Value.String(),
		Listed:               s.Listed, Name: s.Name, NoSentinels: daemon.hello == "off" && len(s.Listed) == 0,
		Interval: daemon.interval, Timeout: s.Timeout, MaxAge: daemon.maxAge,
		Socket: daemon.socket, TrackFile: daemon.trackFile, HTTP: daemon.http, AskHTTP: ask, Exec: daemon.exec,
		VIP: daemon.vip.addresses, VIPInterface: daemon.vip.device, WatchedVIP: daemon.watch.addresses,
		Unit: o.unit,
	}, nil
}

// readUnit returns the flags that stand in the unit itself, and its environment
// file; nothing where there is no such unit.
//
// Format: of systemctl show, such as "{ path=/usr/sbin/redis-is-masterd ;
// argv[]=/usr/sbin/redis-is-masterd --socket-mode 0660 $OPTIONS ; ignore_errors=no
// ; ... }" and "/etc/default/name (ignore_errors=yes)".
func readUnit(ctx context.Context, unit string) (words []string, envFile string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property", "ExecStart,EnvironmentFiles", "--",
		unit).Output()
	if err != nil {
		return nil, ""
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStart":
			_, argv, _ := strings.Cut(value, "argv[]=")
			argv, _, _ = strings.Cut(argv, " ; ")
			if all := strings.Fields(argv); len(all) > 0 {
				words = slices.DeleteFunc(all[1:], func(w string) bool { return strings.HasPrefix(w, "$") })
			}
		case "EnvironmentFiles":
			envFile, _, _ = strings.Cut(value, " (")
		}
	}
	if _, err := os.Stat(envFile); err != nil {
		envFile = ""
	}
	return words, envFile
}

// coloured reports whether standard output is a terminal that wants colours.
func (p process) coloured() bool {
	return isTerminal(p.stdout) && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
