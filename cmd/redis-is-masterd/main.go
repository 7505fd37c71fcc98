// Redis-is-masterd watches the local Redis node over one connection and tells
// keepalived, HAProxy, Prometheus and redis-is-master --cached whether it is
// the replication master.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
)

const usage = `Usage: redis-is-masterd [flags]
       redis-is-masterd doctor [flags]
       redis-is-masterd cluster [flags]
       redis-is-masterd lint FILE
       redis-is-masterd remove-vip --vip ADDRESS --vip-interface INTERFACE

Watches the local Redis node over one connection, and says whether it is the
replication master: on a unix socket for redis-is-master --cached, in a track
file for keepalived, by HTTP and as an agent for HAProxy, and as metrics.

doctor says whether this node will do the right thing, and what to mend.
cluster shows all nodes, and who names whom.
lint checks a keepalived configuration for settings that fail open.
remove-vip removes the addresses that a dead daemon left behind.

%s`

// softMemory is from how much memory on the collector works harder. Without it, all
// hostile servers and slow clients at once come close to 40 MiB.
const softMemory = 20 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	p := process{name: filepath.Base(os.Args[0]), getenv: os.Getenv, environ: os.Environ(),
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, journal: isJournal(os.Stderr, os.Getenv),
		signals: make(chan os.Signal, 4), successor: newSuccessor(os.Args, os.Environ()), orphans: children()}
	if handedOver := os.Getenv(handoverVariable); handedOver != "" && handedOver != askHandover {
		signal.Notify(p.signals, handledSignals...) // at once: until then they end this process without a last no
		signal.Ignore(syscall.SIGPIPE)              // and so would a line to a log that nobody reads any more
	}
	p.inherited, p.unread = inherit(os.Getenv(handoverVariable))
	p.asksHandover = os.Getenv(handoverVariable) == askHandover
	p.environ = p.successor.environ
	os.Unsetenv(handoverVariable)
	os.Exit(run(context.Background(), p, os.Args[1:]))
}

// A process is what a command touches, and its name.
type process struct {
	name           string
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	journal        bool // stderr is the journal
	signals        chan os.Signal

	successor    successor
	inherited    *inheritance // of the program before in this process; nil if there is none
	unread       error        // why that was not understood
	orphans      []int        // the children of that program
	asksHandover bool         // --check is to say what this program can read of another
}

// fail says why the command ends, and returns its exit code.
func (p process) fail(code int, err error) int {
	prefix := ""
	if p.journal {
		prefix = priority(slog.LevelError)
	}
	fmt.Fprintf(p.stderr, "%s%s: %v\n", prefix, p.name, err)
	return code
}

// failAll is fail for several reasons.
func (p process) failAll(errs []error) int {
	for _, err := range errs {
		p.fail(exit.Usage, err)
	}
	return exit.Usage
}

// run is main with everything that it touches as a parameter. The daemon returns
// [exit.OK] after SIGTERM or SIGINT, [exit.Usage] at once for wrong usage, and
// [exit.Failed] if it cannot open an output at its start.
func run(ctx context.Context, p process, args []string) int {
	logging.Disable() // go-redis would write to standard error
	if len(args) > 0 {
		switch args[0] {
		case "doctor":
			return examine(ctx, p, args[1:])
		case "cluster":
			return showCluster(ctx, p, args[1:])
		case "lint":
			return lintFile(p, args[1:])
		case "remove-vip":
			return removeVIP(p, args[1:])
		case companionCommand:
			return runCompanion(p, args[1:])
		}
	}
	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	node := flags.Node{Getenv: p.getenv, Stdin: p.stdin, FindsSentinels: true}
	node.Add(fs, checker.RoleMaster)
	var o options
	o.add(fs)
	err := flags.Parse(fs, args)
	switch {
	case err != nil && !errors.Is(err, pflag.ErrHelp):
		return p.fail(exit.Usage, err)
	case err != nil || o.help:
		fmt.Fprintf(p.stdout, usage, flags.Help(fs, headings))
		return exit.Usage
	case o.version:
		fmt.Fprintln(p.stdout, "redis-is-masterd", flags.Version())
		return exit.Usage
	}
	if o.dryRun && o.envFile != "" {
		words, problems := readEnvFile(fs, o.envFile)
		if len(problems) > 0 {
			return p.failAll(problems)
		}
		if getenv := p.getenv; getenv("CREDENTIALS_DIRECTORY") == "" {
			p.getenv = func(name string) string { // the unit will have a credential
				return cmp.Or(getenv(name), map[string]string{"REDISCLI_AUTH": "the unit's"}[name])
			}
		}
		return run(ctx, p, slices.Concat(args, words, []string{"--env-file="}))
	}
	s, err := node.Settings()
	if err == nil {
		err = o.check(fs, s)
	}
	if err == nil {
		err = o.checkUnit(fs, p, args)
	}
	if err != nil {
		return p.fail(exit.Usage, err)
	}
	if o.dryRun {
		for _, w := range s.Warnings {
			fmt.Fprintf(p.stderr, "%s: warning: %s\n", p.name, w)
		}
		checking, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		return o.checkArguments(checking, fs, &node, p, args)
	}
	s.HideSecrets()
	s.Policy.AllowUnconfirmed = o.hello == "off"
	background := newBackground(p.stderr)
	defer background.flush()
	logger := newLogger(background, o.logFormat, p.journal)
	for _, w := range s.Warnings {
		logger.Warn(w)
	}
	if p.unread != nil {
		logger.Warn("what the program before has handed over cannot be read, so this is a restart", "error", p.unread)
	}
	return (&daemon{options: &o, Settings: s, process: p, logger: logger, flush: background.wait,
		passwordFromStdin: fromStdin(fs)}).run(ctx)
}
