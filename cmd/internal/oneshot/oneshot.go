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
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

const usage = `Usage: redis-is-master [flags]

Asks the local Redis node once whether it is the replication master.
Started by the name redis-is-replica, it asks for --role replica.

Exit code: 0 yes, 1 no, 2 unknown, 3 wrong usage (this text, too); with
-o nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

Flags:
%s`

// Exit codes: a contract with keepalived, cron and shell scripts. Zero means
// yes and nothing else, so --help and --version do not return it.
const (
	exitYes = iota
	exitNo
	exitUnknown
	exitUsage
)

// Main is the command. Tls is secure.Handshake. Where it is nil, so that it is
// not linked, a check by TLS becomes redis-is-masterd, which has it.
func Main(tls flags.TLS) {
	// SIGTERM is not caught: keepalived takes a check that it stopped and
	// that still exits 0 for a success.
	os.Exit(run(context.Background(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr, tls))
}

// options are the flags that only the one-shot has.
type options struct {
	output            string
	quiet, explain    bool
	warning, critical flags.List
	timeoutState      string
	help, version     bool
	cached            string
	alive, became     bool
}

// run is main with everything that it touches as a parameter. It returns one
// of the exit codes above, or with -o nagios a [report.State].
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer, tls flags.TLS) int {
	name, role := filepath.Base(args[0]), checker.RoleMaster
	if strings.HasPrefix(name, ReplicaName) {
		role = checker.RoleReplica
	}
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	node := flags.Node{Getenv: getenv, Stdin: stdin, TLS: tls}
	node.Add(fs, role)
	var o options
	fs.StringVarP(&o.output, "output", "o", "text", "`format` of the answer: text, json or nagios")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; the exit code is the answer")
	fs.BoolVar(&o.explain, "explain", false, "print every fact, every rule, and which one decided")
	fs.VarP(&o.warning, "warning", "w", "nagios: warn if the replicas of a master, or the seconds since a replica heard its master, are outside of `range`; with --role any write replicas=RANGE or lag=RANGE")
	fs.VarP(&o.critical, "critical", "c", "nagios: the same, critical; `range`")
	fs.StringVar(&o.timeoutState, "timeout-state", "critical", "nagios: `state` of a timeout: warning, critical or unknown")
	fs.StringVar(&o.cached, "cached", "", "ask redis-is-masterd on its `socket` instead of Redis")
	fs.Lookup("cached").NoOptDefVal = flags.DefaultSocket
	fs.BoolVar(&o.alive, "alive", false, "with --cached: whether the daemon answers and its answer is fresh, whatever it is")
	fs.BoolVar(&o.became, became, false, "what this command gives itself")
	fs.Lookup(became).Hidden = true
	fs.BoolVarP(&o.version, "version", "V", false, "print the version")
	fs.BoolVarP(&o.help, "help", "h", false, "print this text")

	fail := func(err error) int {
		if nagiosWanted(args) {
			fmt.Fprintf(stdout, "REDIS %s: %v\n", report.StateUnknown, err)
		} else {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
		}
		return exitUsage
	}
	err := flags.Parse(fs, args[1:])
	switch {
	case err != nil && !errors.Is(err, pflag.ErrHelp):
		return fail(err)
	case err != nil || o.help:
		fmt.Fprintf(stdout, usage, fs.FlagUsagesWrapped(140))
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "redis-is-master", flags.Version())
		return exitUsage
	}
	nagios, err := o.check(fs, role)
	if err != nil {
		return fail(err)
	}
	if o.cached != "" {
		d, err := o.ask(node.Timeout(), checker.Role(fs.Lookup("role").Value.String()))
		if err != nil {
			return fail(err)
		}
		return o.answer(name, d, nagios, stdout, stderr)
	}
	s, err := node.Settings()
	switch {
	case err == flags.ErrTLS && o.became:
		err = noTLS(syscall.ELOOP)
	case err == flags.ErrTLS:
		err = become(args)
	}
	if err != nil {
		return fail(err)
	}
	for _, w := range s.Warnings {
		if !o.quiet && o.output != "nagios" {
			fmt.Fprintf(stderr, "%s: warning: %s\n", name, w)
		}
	}
	defer s.Redis.Close()
	probe := s.Redis.Probe
	if s.Others != nil {
		probe = s.Others.Probe(probe, s.Policy)
	}
	c := checker.Run(ctx, s.Timeout, probe, s.Policy)
	if e, ok := errors.AsType[flags.Error](c.Err); ok { // a file that cannot be read
		return fail(e)
	}
	return o.answer(name, report.New(s.Redis.Address, s.Policy, c), nagios, stdout, stderr)
}

// printTime bounds how long whoever reads the output may take.
const printTime = time.Second

// answer prints d in the wanted format and returns its exit code.
func (o *options) answer(name string, d report.Document, nagios report.Nagios, stdout, stderr io.Writer) int {
	if o.quiet {
		return o.print(name, d, nagios, stdout, stderr)
	}
	done := make(chan int, 1)
	go func() { done <- o.print(name, d, nagios, stdout, stderr) }()
	select {
	case code := <-done:
		return code
	case <-time.After(printTime): // what was known may no longer be true
		return exitUnknown
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
	switch d.Answer {
	case checker.Yes:
		return exitYes
	case checker.No:
		return exitNo
	}
	return exitUnknown
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
			return n, flags.Errorf("--cached= is empty: write --cached, or --cached=SOCKET")
		}
		for _, name := range flags.NodeFlags {
			if name != "timeout" && name != "role" && fs.Changed(name) {
				return n, flags.Errorf("--cached and --%s contradict each other: it is the daemon that asks Redis", name)
			}
		}
	}
	if err := flags.Needs(fs, [][2]string{{"alive", "cached"}}); err != nil {
		return n, err
	}
	if !slices.Contains([]string{"text", "json", "nagios"}, o.output) {
		return n, flags.Errorf("--output is none of text, json, nagios")
	}
	for _, name := range []string{"warning", "critical", "timeout-state"} {
		if fs.Changed(name) && o.output != "nagios" {
			return n, flags.Errorf("--%s needs --output nagios", name)
		}
	}
	if n.Timeout, err = report.ParseState(o.timeoutState); err != nil {
		return n, flags.Errorf("--timeout-state is %v", err)
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
		return nil // the role is none, which is said elsewhere
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
		if a == "-onagios" || a == "-o=nagios" || a == "--output=nagios" || (a == "-o" || a == "--output") && i+1 < len(args) && args[i+1] == "nagios" {
			return true
		}
	}
	return false
}
