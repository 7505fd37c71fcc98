package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	unixsocket "redis-is-master/checker/cached"
	"redis-is-master/checker/handover"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
	"redis-is-master/checker/vip"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/keepalived"
)

// A daemon is the command without a subcommand.
type daemon struct {
	*options
	flags.Settings
	process
	logger            *slog.Logger
	flush             func() // waits a moment for the log to be written
	passwordFromStdin bool
	sockDiag          *os.File // nil if there is none
}

// An output gives the answer to somebody.
type output struct {
	// Run returns when ctx is done, or with an error that ends the daemon.
	Run func(ctx context.Context, m *checker.Monitor) error
	// Checked is called after every check. May be nil.
	Checked func(checker.Check)
	// Impaired is why the output could go on saying yes; empty if it cannot. May
	// be nil.
	Impaired func() string
	// Drain accepts no more clients until release is called, answers those that were
	// accepted, and adds what is to be handed over. May be nil.
	Drain func(handover.Files) (release func(), err error)
	// Hold leaves the output as it is until the hand-over is released, and adds what is
	// to be handed over. It may not wait for long. May be nil.
	Hold func(*handing) error
}

// handledSignals are those that do not end the process at once.
var handledSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// run runs until SIGTERM, SIGINT, the end of ctx, or the failure of an output.
func (d *daemon) run(ctx context.Context) int {
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more must not end the daemon
	signal.Notify(d.signals, handledSignals...)
	defer signal.Stop(d.signals)
	if err := d.inheritSockDiag(); err != nil {
		d.logger.Warn("redis-is-masterd.socket is not used, so the owner of a port may not be known", "error", err)
	}

	var redial atomic.Bool
	confirmer := d.confirmer()
	m := d.monitor()
	deny := func(f func()) { d.deny(m, f) }
	start := func(group *sync.WaitGroup, f func()) { group.Go(func() { deny(f) }) }
	m.Amend, m.Vouch = confirmer.Amend, confirmer.Vouch
	if confirmer.Watcher != nil {
		confirmer.Watcher.Guarded = deny
	}
	for _, w := range append(d.Witnesses, &sentinel.Former{TLS: d.Redis.TLS}) {
		m.Witnesses = append(m.Witnesses, denyingWitness{w, deny})
	}
	m.Probe = func(ctx context.Context) (checker.Observation, error) {
		if redial.CompareAndSwap(true, false) {
			d.Redis.Close() // credentials and certificates are read at every dial
		}
		o, err := d.Redis.Probe(ctx)
		if err == nil {
			d.Redis.RememberOwner()
		}
		return o, err
	}
	outputs, err := d.outputs(m, confirmer.Replacement)
	if err == nil && d.inherited != nil {
		err = d.inherited.resume(d, confirmer, m)
	}
	switch {
	case err != nil && d.inherited != nil:
		return d.startAnew(err)
	case err != nil:
		return d.failedStart(err)
	case d.inherited == nil:
		d.recall(confirmer, m)
	}
	reap(d.orphans)
	saved, remember := d.stateOutput(confirmer, m)
	if r := confirmer.Replacement; r != nil {
		r.Remember = remember
		outputs = append(outputs, d.crashOutput(r, m))
	}
	systemd := newNotifier(d.Redis.Address)
	outputs = append(outputs, logOutput(d.logger, d.Redis.Address, m),
		credentialsOutput(d.logger, d.Redis.Address), settingsOutput(d.logger), systemd.output(), saved)
	reloads := d.reloader(m, confirmer, outputs, systemd)
	m.Checked = func(c checker.Check) {
		for _, o := range outputs {
			if o.Checked != nil {
				o.Checked(c)
			}
		}
		reloads.checked()
	}
	m.Impaired = func() string { return impaired(outputs) }

	// Outputs end after the monitor, so that they publish its last word.
	outer, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	inner, stop := context.WithCancel(outer)
	defer stop()
	var publishing, watching sync.WaitGroup
	for _, o := range outputs {
		start(&publishing, func() {
			if err := o.Run(outer, m); err != nil {
				m.Stop() // no output may end with a yes
				end(err)
			}
		})
	}
	start(&watching, func() { m.Run(inner) })
	start(&watching, func() { confirmer.Run(inner, m) })

	begun := "started"
	if d.inherited != nil {
		begun = "reloaded"
	}
	d.logger.Info(begun, "version", flags.Version(), "redis", d.Redis.Address, "role", d.Policy.Want())
	reloads.reconnect = func() {
		redial.Store(true)
		for _, w := range d.Witnesses {
			w.Redial()
		}
		m.Wake()
		confirmer.Resubscribe()
	}
	start(&watching, func() { reloads.run(inner) })
	restarts := false
	deny(func() { restarts = d.serve(ctx, outer, reloads) })
	m.Stop()
	if outer.Err() == nil && !restarts {
		systemd.stopping()
		d.logger.Info("stopping", "drain", d.drain)
		d.wait()
	}
	stop()
	end(nil)
	publishing.Wait()
	watching.Wait()
	d.Redis.Close()
	if restarts {
		return d.startAnew(nil)
	}
	if err := context.Cause(outer); err != nil && !errors.Is(err, context.Canceled) {
		d.logger.Error("an output has failed", "error", err)
		return exit.Failed
	}
	return exit.OK
}

// serve returns when the daemon is to end, and reports whether another program is to
// start in its place.
func (d *daemon) serve(ctx, outer context.Context, r *reloader) (restarts bool) {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-outer.Done():
			return false
		case <-r.stop:
			if ends := <-r.went; ends {
				return false
			}
		case <-r.end:
			return true
		case got := <-d.signals:
			if got != syscall.SIGHUP {
				return false
			}
			r.ask()
		}
	}
}

// startAnew replaces the program by one that knows nothing, where what was handed over
// is of no use, or the next program cannot read it.
func (d *daemon) startAnew(why error) int {
	if why != nil {
		d.logger.Warn("what the program before has handed over is of no use, so this is a restart", "error", why)
		closeInherited()
		d.options.writeNo()
	}
	next := d.successor
	if d.sockDiag != nil { // as systemd passes it
		if err := unix.Dup3(int(d.sockDiag.Fd()), 3, 0); err == nil {
			next.environ = append(next.environ, "LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDS=1",
				"LISTEN_FDNAMES="+sockDiagFile)
		}
	}
	d.flush()
	signal.Ignore(syscall.SIGHUP)
	signal.Stop(d.signals)
	if d.told() { // all outputs say no already
		return exit.OK
	}
	return d.fail(exit.Failed, next.exec(nil, nil))
}

// told reports whether a signal has come that ends the daemon. Call it when none comes any
// more: the next program would not know of it.
func (d *daemon) told() bool {
	for {
		select {
		case got := <-d.signals:
			if got != syscall.SIGHUP {
				return true
			}
		default:
			return false
		}
	}
}

// wait returns after the drain, or at a second signal.
func (d *daemon) wait() {
	drained := time.After(d.drain)
	for {
		select {
		case <-drained:
			return
		case got := <-d.signals:
			if got != syscall.SIGHUP {
				return
			}
		}
	}
}

// failedStart makes sure that no file goes on saying yes.
func (d *daemon) failedStart(err error) int {
	if d.trackFile != "" && !errors.Is(err, unixsocket.ErrInUse) {
		(&keepalived.TrackFile{Path: d.trackFile}).Write(false) // a dead daemon may have left a 1
	}
	// Another start would fail as well, and its end would take the address from
	// the daemon that holds it.
	if errors.Is(err, vip.ErrInUse) {
		return d.fail(exit.Usage, err)
	}
	return d.fail(exit.Failed, err)
}

// impaired asks all outputs that could go on saying yes.
func impaired(outputs []output) string {
	for _, o := range outputs {
		if o.Impaired == nil {
			continue
		}
		if why := o.Impaired(); why != "" {
			return why
		}
	}
	return ""
}

func (d *daemon) monitor() *checker.Monitor {
	m := &checker.Monitor{Policy: d.Policy, Interval: d.interval, Timeout: d.Timeout,
		Rise: d.rise, Fall: d.fall, MaxAge: d.maxAge, Suspended: checker.HostSuspended}
	if d.disableFile != "" {
		m.Disabled = d.disabled
	}
	return m
}

func (d *daemon) confirmer() *watch.Confirmer {
	forbidden, unresolvable := false, false
	d.Self.Met = func(by, address string) {
		d.logger.Info("a Sentinel knows this node by another address, and has told its run id", "sentinel", by,
			"address", address)
	}
	c := &watch.Confirmer{
		Self:    d.Self,
		Watcher: d.watcher(),
		Guard: sentinel.Guard{Gap: sentinel.WatchGap(d.interval, d.Timeout, d.maxAge), Listed: d.Policy.Sentinels,
			Began: time.Now()},
		IgnoreHellos: d.hello == "off",
		Retry:        d.interval,
		Timeout:      d.Timeout,
		Malformed:    func(error) {},
		Unresolvable: func(h checker.Hello) {
			if !unresolvable {
				unresolvable = true
				d.logger.Warn("the Sentinels name a host that cannot be resolved, so what they say does not count",
					"named", h.Master, "hint", "give --announce-addr, or see the resolver")
			}
		},
		Forbidden: func() {
			if !forbidden {
				forbidden = true
				d.logger.Warn("this user may not subscribe to "+watch.Channel+
					", so no Sentinel can be heard: without --sentinel no master is believed", "grant", watch.Grant)
			}
		},
	}
	c.Replacement = d.replacement(c)
	return c
}
