// Package oneshot is redis-is-master: it tells by its exit code whether a Redis
// node is the replication master.
package oneshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
)

const usage = `Usage: redis-is-master [flags]

Asks the local Redis node once whether it is the replication master.
Started by the name redis-is-replica, it asks for --role replica.

Exit code: 0 yes, 1 no, 2 unknown, 3 wrong usage (this text, too); with
-o nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

%s`

// ReplicaName is the name by which the command asks for a replica.
const ReplicaName = "redis-is-replica"

// Main is the command.
func Main() {
	// SIGTERM is not caught: keepalived takes a check that it stopped and that
	// still exits 0 for a success.
	os.Exit(run(context.Background(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// options are the flags that only the one-shot has.
type options struct {
	output            string
	quiet, explain    bool
	warning, critical flags.List
	timeoutState      string
	syslog            string
	help, version     bool
	warnings          []string // of the files, for syslog
	cached            string
	alive             bool
}

func (o *options) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.cached, "cached", "", "ask redis-is-masterd on its `socket` instead of Redis")
	fs.Lookup("cached").NoOptDefVal = flags.DefaultSocket
	fs.BoolVar(&o.alive, "alive", false, "ask only whether the daemon answers and its answer is fresh, whatever it is")

	fs.StringVarP(&o.output, "output", "o", "text", "`format` of the answer: text, json or nagios")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; the exit code is the answer")
	fs.BoolVar(&o.explain, "explain", false, "print every fact, every rule, and which one decided")
	fs.StringVar(&o.syslog, "syslog", "", "log each change of the answer or its reason to syslog; a file in `directory` "+
		"keeps the last one")

	fs.VarP(&o.warning, "warning", "w", "warn if the replicas of a master, or the seconds since a replica heard its "+
		"master, are outside of `range`; with --role any write replicas=RANGE or lag=RANGE")
	fs.VarP(&o.critical, "critical", "c", "the `range` outside of which the same is critical")
	fs.StringVar(&o.timeoutState, "timeout-state", "critical", "`state` of a timeout: warning, critical or unknown")

	fs.BoolVarP(&o.version, "version", "V", false, "print the version")
	fs.BoolVarP(&o.help, "help", "h", false, "print this text")
}

// headings are those of --help.
var headings = map[string]string{"cached": "The daemon's answer", "output": "Output", "warning": "With --output nagios",
	"version": "Other"}

// run is main with everything that it touches as a parameter. It returns one
// of the exit codes of package exit, or with -o nagios a [report.State].
func run(ctx context.Context, args []string, getenv func(string) string,
	stdin io.Reader, stdout, stderr io.Writer) int {
	name, role := filepath.Base(args[0]), checker.RoleMaster
	if strings.HasPrefix(name, ReplicaName) {
		role = checker.RoleReplica
	}
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	node := flags.Node{Getenv: getenv, Stdin: stdin}
	node.Add(fs, role)
	var o options
	o.add(fs)

	fail := func(err error) int {
		if nagiosWanted(args) {
			fmt.Fprintf(stdout, "REDIS %s: %v\n", report.StateUnknown, err)
		} else {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
		}
		return exit.Usage
	}
	err := flags.Parse(fs, args[1:])
	switch {
	case err != nil && !errors.Is(err, pflag.ErrHelp):
		return fail(err)
	case err != nil || o.help:
		fmt.Fprintf(stdout, usage, flags.Help(fs, headings))
		return exit.Usage
	case o.version:
		fmt.Fprintln(stdout, "redis-is-master", flags.Version())
		return exit.Usage
	}
	nagios, err := o.check(fs, role)
	if err != nil {
		return fail(err)
	}
	if o.cached != "" {
		started := time.Now()
		timeout, err := node.Timeout()
		if err != nil {
			return fail(err)
		}
		d := o.ask(timeout, checker.Role(fs.Lookup("role").Value.String()))
		return o.answer(name, d, nagios, stdout, stderr, started.Add(timeout))
	}
	s, err := node.Settings()
	if err != nil {
		return fail(err)
	}
	o.warnings = s.Warnings
	for _, w := range s.Warnings {
		if !o.quiet && o.output != "nagios" {
			fmt.Fprintf(stderr, "%s: warning: %s\n", name, w)
		}
	}
	s.HideSecrets()
	defer s.Redis.Close()
	// One check cannot wait for the Sentinels to publish something.
	s.Policy.AllowUnconfirmed = true
	c := checker.Run(ctx, s.Timeout, checker.WithWitnesses(s.Redis.Probe, s.Policy, s.Witnesses...), s.Policy)
	if e, ok := errors.AsType[flags.Error](c.Err); ok { // a file that cannot be read
		return fail(e)
	}
	return o.answer(name, report.New(s.Redis.Address, s.Policy, c), nagios, stdout, stderr, c.Time.Add(s.Timeout))
}

// printTime bounds how long whoever reads the output may take.
const printTime = time.Second

// answer logs d until the deadline, prints it in the wanted format, and returns
// its exit code.
func (o *options) answer(name string, d report.Document, nagios report.Nagios, stdout, stderr io.Writer,
	deadline time.Time) int {
	if o.syslog != "" {
		if err := o.logChange(name, d, deadline); err != nil && !o.quiet && o.output != "nagios" {
			fmt.Fprintf(stderr, "%s: warning: --syslog: %v\n", name, flags.Cause(err))
		}
	}
	if o.quiet {
		return o.print(name, d, nagios, stdout, stderr)
	}
	done := make(chan int, 1)
	go func() { done <- o.print(name, d, nagios, stdout, stderr) }()
	select {
	case code := <-done:
		return code
	case <-time.After(printTime): // what was known may no longer be true
		return exit.Unknown
	}
}

func (o *options) print(name string, d report.Document, nagios report.Nagios, stdout, stderr io.Writer) int {
	switch {
	case o.quiet:
	case o.explain:
		fmt.Fprint(stdout, d.Explain())
	case o.output == "json":
		fmt.Fprintln(stdout, d.JSON())
	case o.output == "nagios":
		line, state := d.Nagios(nagios)
		fmt.Fprintln(stdout, line)
		return int(state)
	default:
		fmt.Fprintln(stdout, d.Text())
		if d.Hint != "" {
			fmt.Fprintf(stderr, "%s: hint: %s\n", name, d.Hint)
		}
	}
	return exit.Of(d.Answer)
}

// check rejects contradictions and reads the thresholds.
func (o *options) check(fs *pflag.FlagSet, started checker.Role) (report.Nagios, error) {
	var n report.Nagios
	wanted := checker.Role(fs.Lookup("role").Value.String())
	if started == checker.RoleReplica && wanted != checker.RoleReplica {
		return n, flags.Errorf("the name redis-is-replica and --role contradict each other: start redis-is-master")
	}
	err := flags.Conflicts(fs, [][2]string{{"quiet", "output"}, {"quiet", "explain"}, {"explain", "output"}})
	if err != nil {
		return n, err
	}
	if fs.Changed("cached") {
		if o.cached == "" {
			return n, flags.Errorf("--cached= is empty: write --cached or --cached=SOCKET")
		}
		if !slices.Contains([]checker.Role{checker.RoleMaster, checker.RoleReplica, checker.RoleAny}, wanted) {
			return n, flags.Errorf("--role is none of master, replica, any")
		}
		for _, name := range flags.NodeFlags {
			if name != "timeout" && name != "role" && fs.Changed(name) {
				return n, flags.Errorf("--cached and --%s contradict each other: with --cached the daemon asks Redis", name)
			}
		}
	}
	if err := flags.Needs(fs, [][2]string{{"alive", "cached"}}); err != nil {
		return n, err
	}
	if fs.Changed("syslog") && o.syslog == "" {
		return n, flags.Errorf("--syslog is empty")
	}
	if !slices.Contains([]string{"text", "json", "nagios"}, o.output) {
		return n, flags.Errorf("--output must be text, json or nagios")
	}
	for _, name := range []string{"warning", "critical", "timeout-state"} {
		if fs.Changed(name) && o.output != "nagios" {
			return n, flags.Errorf("--%s needs --output nagios", name)
		}
	}
	if n.Timeout, err = report.ParseState(o.timeoutState); err != nil {
		return n, flags.Errorf("--timeout-state must be warning, critical or unknown")
	}
	for _, text := range o.warning {
		if err := threshold("warning", text, wanted, &n.Replicas.Warning, &n.Lag.Warning); err != nil {
			return n, err
		}
	}
	for _, text := range o.critical {
		if err := threshold("critical", text, wanted, &n.Replicas.Critical, &n.Lag.Critical); err != nil {
			return n, err
		}
	}
	return n, nil
}

// threshold reads RANGE, replicas=RANGE or lag=RANGE.
func threshold(flag, text string, wanted checker.Role, replicas, lag **report.Range) error {
	figure, rest, named := strings.Cut(text, "=")
	if !named {
		rest = text
		figure = map[checker.Role]string{checker.RoleMaster: "replicas", checker.RoleReplica: "lag"}[wanted]
	}
	into := map[string]**report.Range{"replicas": replicas, "lag": lag}[figure]
	switch {
	case into == nil && !named && wanted != checker.RoleAny:
		return nil // --role is wrong, which is reported elsewhere
	case into == nil && !named:
		return flags.Errorf("--%s needs replicas=RANGE or lag=RANGE with --role any", flag)
	case into == nil:
		return flags.Errorf("--%s names neither replicas nor lag", flag)
	case figure == "lag" && wanted == checker.RoleMaster, figure == "replicas" && wanted == checker.RoleReplica:
		return flags.Errorf("--%s %s= and --role %s contradict each other", flag, figure, wanted)
	case *into != nil:
		return flags.Errorf("--%s is given twice for %s", flag, figure)
	}
	r, err := report.ParseRange(rest)
	if err != nil {
		return flags.Errorf("--%s is %v; a range looks like 2:, 0:10, ~:5 or @1:3", flag, err)
	}
	*into = &r
	return nil
}

// nagiosWanted reports whether the caller reads standard output alone, even
// where the flags cannot be parsed.
func nagiosWanted(args []string) bool {
	for i, a := range args {
		next := i+1 < len(args) && args[i+1] == "nagios"
		if a == "-onagios" || a == "-o=nagios" || a == "--output=nagios" || next && (a == "-o" || a == "--output") {
			return true
		}
	}
	return false
}
