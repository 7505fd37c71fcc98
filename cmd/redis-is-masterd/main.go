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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/hello"
	"redis-is-master/checker/report"
	"redis-is-master/checker/secure"
	"redis-is-master/checker/serve"
	"redis-is-master/checker/vip"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/cmd/internal/oneshot"
	"redis-is-master/keepalived"
)

const usage = `Usage: redis-is-masterd [flags]

Watches the local Redis node over one connection, and says whether it is the
replication master: on a unix socket for redis-is-master --cached, in a track
file for keepalived, by HTTP and as an agent for HAProxy, and as metrics.

Flags:
%s`

const (
	exitOK      = 0
	exitFailed  = 1
	exitUnknown = 2
	exitUsage   = 3
)

func main() {
	if oneshot.Called(os.Args[0]) {
		oneshot.Main(secure.Handshake)
	}
	os.Exit(run(context.Background(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// options are the flags that only the daemon has.
type options struct {
	interval, maxAge, drain, textfileInterval time.Duration
	rise, fall                                int
	socket, socketMode                        string
	trackFile, http, agent, agentDown         string
	textfile, disableFile, hello              string
	logFormat, logLevel, lint                 string
	once, help, version                       bool
	vip                                       vipOptions

	mode  os.FileMode
	level slog.Level
}

func (o *options) add(fs *pflag.FlagSet) {
	fs.DurationVar(&o.interval, "interval", checker.DefaultInterval, "`time` from one check to the next")
	fs.IntVar(&o.rise, "rise", checker.DefaultRise, "`number` of good checks in a row that make a yes")
	fs.IntVar(&o.fall, "fall", checker.DefaultFall, "`number` of checks without an answer in a row that end a yes; what Redis says ends it at once")
	fs.DurationVar(&o.maxAge, "max-age", checker.DefaultMaxAge, "`time` after which a check is too old to be believed")
	fs.StringVar(&o.socket, "socket", flags.DefaultSocket, "unix socket `path` for redis-is-master --cached; empty for none")
	fs.StringVar(&o.socketMode, "socket-mode", "0666", "its permissions, an octal `mode`")
	fs.StringVar(&o.trackFile, "track-file", "", "`file` for keepalived's track_file with weight 0 reverse")
	fs.StringVar(&o.http, "http", "", "`address` to answer HTTP on, such as 127.0.0.1:9736")
	fs.StringVar(&o.agent, "agent", "", "`address` to answer HAProxy's agent-check on, such as 127.0.0.1:9737")
	fs.StringVar(&o.agentDown, "agent-down-word", "down", "`word` of the agent for all but a yes: "+strings.Join(report.DownWords, ", "))
	fs.StringVar(&o.textfile, "textfile", "", "`file` for the textfile collector of the node exporter")
	fs.DurationVar(&o.textfileInterval, "textfile-interval", 15*time.Second, "`time` after which it is written although nothing changed")
	fs.StringVar(&o.hello, "hello", "auto", "`whether` a master must be confirmed by what the Sentinels publish on it: auto, or off for where there are none")
	o.vip.add(fs)
	fs.StringVar(&o.disableFile, "disable-file", "", "`file` that takes the node out while it exists; its first line is the note")
	fs.DurationVar(&o.drain, "drain", 0, "`time` to go on answering no after SIGTERM")
	fs.BoolVar(&o.once, "once", false, "check once, write the files, exit with the code of redis-is-master")
	fs.StringVar(&o.lint, "lint-keepalived", "", "instead of all this, say what fails open in this keepalived configuration `file`; exit 0 if nothing, 1 if something does")
	fs.StringVar(&o.logFormat, "log-format", "text", "`format` of the log: text or json")
	fs.StringVar(&o.logLevel, "log-level", "info", "`level` of the log: debug, info, warn or error")
	fs.BoolVarP(&o.version, "version", "V", false, "print the version")
	fs.BoolVarP(&o.help, "help", "h", false, "print this text")
}

// check rejects contradictions before any I/O.
func (o *options) check(fs *pflag.FlagSet, timeout time.Duration) error {
	for name, d := range map[string]time.Duration{"interval": o.interval, "max-age": o.maxAge, "textfile-interval": o.textfileInterval} {
		if d <= 0 {
			return flags.Errorf("--%s is not above 0", name)
		}
	}
	if o.rise < 1 || o.fall < 1 {
		return flags.Errorf("--rise or --fall is below 1")
	}
	if o.drain < 0 {
		return flags.Errorf("--drain is below 0")
	}
	if o.maxAge <= o.interval+timeout {
		return flags.Errorf("--max-age is not above --interval and --timeout together: a check in time would be stale")
	}
	mode, err := strconv.ParseUint(o.socketMode, 8, 32)
	if err != nil || mode > 0o777 {
		return flags.Errorf("--socket-mode is no octal mode such as 0660")
	}
	o.mode = os.FileMode(mode)
	if o.hello != "auto" && o.hello != "off" {
		return flags.Errorf("--hello is neither auto nor off")
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return flags.Errorf("--log-format is neither text nor json")
	}
	if err := o.level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return flags.Errorf("--log-level is none of debug, info, warn, error")
	}
	if report.Agent(checker.Verdict{}, o.agentDown) == report.Agent(checker.Verdict{}, "") && o.agentDown != report.DownWords[0] {
		return flags.Errorf("--agent-down-word is none of %s", strings.Join(report.DownWords, ", "))
	}
	if err := flags.Needs(fs, [][2]string{{"agent-down-word", "agent"}, {"textfile-interval", "textfile"}}); err != nil {
		return err
	}
	return flags.Conflicts(fs, [][2]string{{"once", "socket"}, {"once", "http"}, {"once", "agent"}, {"once", "drain"}, {"once", "interval"}, {"once", "rise"},
		{"once", "fall"}, {"once", "textfile-interval"}, {"once", "hello"}, {"once", "vip"}})
}

// publisher is one output. It returns when ctx is done, or with an error that
// ends the daemon.
type publisher interface {
	Run(ctx context.Context, m *checker.Monitor) error
}

// run is main with everything that it touches as a parameter. It ends by
// SIGTERM or SIGINT with 0, at once for a usage error with 3, and with 1 for
// what cannot be listened on or written to at the start.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	logging.Disable() // go-redis would write to standard error
	name := filepath.Base(args[0])
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	node := flags.Node{Getenv: getenv, Stdin: stdin, TLS: secure.Handshake}
	node.Add(fs, checker.RoleMaster)
	var o options
	o.add(fs)
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return code
	}
	err := flags.Parse(fs, args[1:])
	switch {
	case err != nil && !errors.Is(err, pflag.ErrHelp):
		return fail(exitUsage, err)
	case err != nil || o.help:
		fmt.Fprintf(stdout, usage, fs.FlagUsagesWrapped(140))
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "redis-is-masterd", flags.Version())
		return exitUsage
	case fs.Changed("lint-keepalived"):
		return o.lintKeepalived(fs, stdout, fail)
	case o.vip.remove || o.vip.companion:
		return o.vip.run(o.maxAge, stdin, stdout, stderr, fail)
	}
	s, err := node.Settings()
	if err == nil {
		err = o.check(fs, s.Timeout)
	}
	if err == nil {
		err = o.vip.check(fs, s.Redis.Address, s.Policy, o.hello == "auto")
	}
	if err != nil {
		return fail(exitUsage, err)
	}
	options := &slog.HandlerOptions{Level: o.level}
	var out io.Writer = stderr
	if !o.once {
		background := newBackground(stderr)
		defer background.flush()
		out = background
	}
	logger := slog.New(slog.NewTextHandler(out, options))
	if o.logFormat == "json" {
		logger = slog.New(slog.NewJSONHandler(out, options))
	}
	for _, w := range s.Warnings {
		logger.Warn(w)
	}
	if o.once {
		return o.runOnce(ctx, s, stdout, fail)
	}
	return o.daemon(ctx, s, logger, fail)
}

// lintKeepalived prints what fails open. A hint is no failure.
func (o *options) lintKeepalived(fs *pflag.FlagSet, stdout io.Writer, fail func(int, error) int) int {
	if fs.NFlag() > 1 {
		return fail(exitUsage, flags.Errorf("--lint-keepalived and the other flags contradict each other: give it alone"))
	}
	findings, err := keepalived.Lint(keepalived.ThisHost(), o.lint)
	if err != nil {
		return fail(exitUsage, fmt.Errorf("--lint-keepalived: %w", err))
	}
	code := exitOK
	for _, f := range findings {
		fmt.Fprintln(stdout, f)
		if !f.Hint {
			code = exitFailed
		}
	}
	return code
}

// runOnce checks once and writes what is a file.
func (o *options) runOnce(ctx context.Context, s flags.Settings, stdout io.Writer, fail func(int, error) int) int {
	defer s.Redis.Close()
	m := o.monitor(s)
	metrics := serve.NewMetrics(flags.Version(), m)
	m.Checked = metrics.Checked
	ctx, cancel := context.WithCancel(ctx)
	checked := m.Checked
	m.Checked = func(c checker.Check) { checked(c); cancel() }
	m.Run(ctx)
	status, _ := m.Status()
	var errs []error
	if o.trackFile != "" {
		errs = append(errs, (&keepalived.TrackFile{Path: o.trackFile}).Write(status.Verdict.Answer() == checker.Yes))
	}
	if o.textfile != "" {
		errs = append(errs, (&serve.Textfile{Path: o.textfile, Metrics: metrics}).Write())
	}
	if e, ok := errors.AsType[flags.Error](status.Check.Err); ok {
		return fail(exitUsage, e)
	}
	fmt.Fprintln(stdout, report.FromStatus(s.Redis.Address, flags.Version(), s.Policy, status).Text())
	if err := errors.Join(errs...); err != nil {
		return fail(exitUnknown, err)
	}
	return map[checker.Answer]int{checker.Yes: 0, checker.No: 1, checker.Unknown: 2}[status.Verdict.Answer()]
}

func (o *options) monitor(s flags.Settings) *checker.Monitor {
	m := &checker.Monitor{Probe: s.Redis.Probe, Policy: s.Policy, Interval: o.interval, Timeout: s.Timeout, Rise: o.rise, Fall: o.fall, MaxAge: o.maxAge}
	switch {
	case !o.once:
		m.Hellos, m.Others = o.hello == "auto", s.Others
	case s.Others != nil:
		m.Probe = s.Others.Probe(m.Probe, s.Policy)
	}
	if o.once {
		m.Rise, m.Fall = 1, 1
	}
	if o.disableFile != "" {
		m.Disabled = o.disabled
	}
	return m
}

// disabled reads the note of --disable-file. A file that is there and cannot
// be read disables, too.
func (o *options) disabled() (note string, disabled bool) {
	f, err := os.OpenFile(o.disableFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", false
	}
	note = "by " + o.disableFile
	if err != nil {
		return note, true
	}
	defer f.Close()
	buf := make([]byte, 200)
	n, _ := f.Read(buf)
	if line, _, _ := strings.Cut(string(buf[:n]), "\n"); line != "" {
		note = line
	}
	return note, true
}

// daemon runs until SIGTERM, SIGINT, the end of ctx, or the failure of an
// output.
func (o *options) daemon(ctx context.Context, s flags.Settings, logger *slog.Logger, fail func(int, error) int) int {
	// A log that nobody reads any more must not end the daemon.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	m := o.monitor(s)
	var reload atomic.Bool
	m.Probe = func(ctx context.Context) (checker.Observation, error) {
		if reload.CompareAndSwap(true, false) {
			s.Redis.Close() // credentials and certificates are read at every dial
		}
		return s.Redis.Probe(ctx)
	}
	metrics := serve.NewMetrics(flags.Version(), m)
	notify := newNotifier(m, s)
	publishers, err := o.publishers(m, metrics, s, logger)
	if err != nil {
		if o.trackFile != "" && !errors.Is(err, serve.ErrInUse) {
			(&keepalived.TrackFile{Path: o.trackFile}).Write(false) // a dead daemon may have left a 1
		}
		if errors.Is(err, vip.ErrInUse) { // another start would fail as well, and its end take the address from the other
			return fail(exitUsage, err)
		}
		return fail(exitFailed, err)
	}
	m.Impaired = impaired(publishers)
	m.Checked = func(c checker.Check) {
		metrics.Checked(c)
		notify.checked()
		for _, p := range publishers {
			switch p := p.(type) {
			case *serve.Socket:
				p.Checked(c)
			case *vip.VIP:
				p.Checked(m)
			}
		}
	}

	// Outputs end after the monitor, so that they publish its last word.
	outer, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	inner, stop := context.WithCancel(outer)
	defer stop()
	var outputs, watchers sync.WaitGroup
	for _, p := range append(slices.Clip(publishers), &logPublisher{logger: logger, address: s.Redis.Address}, notify) {
		outputs.Go(func() {
			if err := p.Run(outer, m); err != nil {
				m.Stop() // no output may end with a yes
				end(err)
			}
		})
	}
	watchers.Go(func() { m.Run(inner) })
	// Even where nobody judges what the Sentinels say: the end of the
	// subscription is the event that a role change makes.
	l := o.listener(m, s, logger)
	var mu sync.Mutex
	var again context.CancelFunc
	relisten := func() {
		mu.Lock()
		defer mu.Unlock()
		if again != nil {
			again()
		}
	}
	watchers.Go(func() {
		for inner.Err() == nil {
			round, cancel := context.WithCancel(inner)
			mu.Lock()
			again = cancel
			mu.Unlock()
			l.Run(round)
		}
	})

	logger.Info("started", "version", flags.Version(), "redis", s.Redis.Address, "role", s.Policy.Want())
	for stopping := false; !stopping; {
		select {
		case <-ctx.Done():
			stopping = true
		case <-outer.Done():
			stopping = true
		case got := <-signals:
			if stopping = got != syscall.SIGHUP; !stopping {
				logger.Info("reloading credentials and certificates")
				reload.Store(true)
				if s.Others != nil {
					s.Others.Redial()
				}
				m.Wake()
				relisten()
			}
		}
	}
	m.Stop()
	if outer.Err() == nil {
		notify.stopping()
		logger.Info("stopping", "drain", o.drain)
		drained := time.After(o.drain)
		for draining := true; draining; {
			select {
			case <-drained:
				draining = false
			case got := <-signals:
				draining = got == syscall.SIGHUP
			}
		}
	}
	stop()
	end(nil)
	outputs.Wait()
	watchers.Wait()
	s.Redis.Close()
	if err := context.Cause(outer); err != nil && !errors.Is(err, context.Canceled) {
		logger.Error("an output has failed", "error", err)
		return exitFailed
	}
	return exitOK
}

// impaired asks all outputs that could keep saying yes.
func impaired(publishers []publisher) func() string {
	return func() string {
		for _, p := range publishers {
			if p, ok := p.(interface{ Impaired() string }); ok {
				if why := p.Impaired(); why != "" {
					return why
				}
			}
		}
		return ""
	}
}

// publishers opens the outputs; what cannot be opened ends the daemon before
// it has begun.
func (o *options) publishers(m *checker.Monitor, metrics *serve.Metrics, s flags.Settings, logger *slog.Logger) (all []publisher, err error) {
	var addresses func() []report.VIP
	document := func() report.Document {
		status, _ := m.Status()
		d := report.FromStatus(s.Redis.Address, flags.Version(), s.Policy, status)
		if addresses != nil {
			d.VIP = addresses()
		}
		return d
	}
	failed := func(what string) func(error) {
		return func(err error) {
			if err != nil {
				logger.Error("cannot write "+what, "error", err)
			} else {
				logger.Info("can write " + what + " again")
			}
		}
	}
	add := func(p publisher, perr error) {
		if err = cmp.Or(err, perr); perr == nil {
			all = append(all, p)
		}
	}
	if o.socket != "" { // first: a daemon that is there already must be noticed before anything is touched
		add(serve.NewSocket(o.socket, o.mode, document))
	}
	if len(o.vip.addresses) > 0 && err == nil {
		p, perr := o.vip.publisher(o.maxAge, logger)
		if add(p, perr); perr == nil {
			addresses = p.States
			metrics.Addresses(addresses)
		}
	}
	if o.agent != "" && err == nil {
		add(serve.NewAgent(o.agent, o.agentDown))
	}
	if o.http != "" && err == nil {
		add(serve.NewHTTP(o.http, metrics.Handler(), document))
	}
	if o.trackFile != "" && err == nil {
		add(keepalived.NewTrackFile(o.trackFile, failed("the track file")))
	}
	if o.textfile != "" && err == nil {
		t := &serve.Textfile{Path: o.textfile, Every: o.textfileInterval, Metrics: metrics, Failed: failed("the textfile")}
		if werr := t.Write(); werr != nil {
			add(t, fmt.Errorf("--textfile: %w", werr))
		} else {
			add(t, nil)
		}
	}
	return all, err
}

// listener makes the end of the hello subscription wake the monitor.
func (o *options) listener(m *checker.Monitor, s flags.Settings, logger *slog.Logger) *hello.Listener {
	forbidden, lost := false, false
	return &hello.Listener{
		Node:       s.Redis,
		Retry:      o.interval,
		Subscribed: func() { m.Listen(true) },
		Closed: func() {
			m.Listen(false)
			m.Wake()
		},
		Message: func(payload string) {
			h, err := checker.ParseHello(payload)
			if err != nil {
				logger.Debug("a message that is no hello", "error", err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
			defer cancel()
			status, _ := m.Status()
			w, sure := s.Self.Word(ctx, h, status.Observation.TCPPort)
			if sure {
				m.Hear(w)
				return
			}
			m.Unclear(h)
			if !lost {
				lost = true
				logger.Warn("cannot tell whether the node that the Sentinels name is this one: what they say does not count", "named", h.Master, "hint", "give --announce-addr, or see the resolver")
			}
		},
		Forbidden: func() {
			if !forbidden {
				forbidden = true
				logger.Warn("the server does not let this user subscribe to "+hello.Channel+": a role change is seen by the next check, not at once, and no Sentinel is heard, so that a master which was found is believed after 15s", "grant", hello.Grant)
			}
		},
	}
}
