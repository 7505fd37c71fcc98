// Package vip holds virtual IP addresses while the answer is yes, where there is no keepalived to do it.
//
// There is no election: only the guards of the answer decide who may hold an address. Four things end the holding:
//
//   - [VIP.Run] removes the addresses when the answer is no longer yes, when it is stale, and when the link goes down;
//   - a companion process ([Guard]) removes them when the daemon is killed, or has not said yes for the age at which
//     an answer is stale;
//   - the kernel removes them when they have not been renewed for two seconds more than that;
//   - the unit's ExecStopPost removes them ([Remove]).
//
// Whoever removes an address, except for the kernel, ends its connections ([KillConnections]). No address is taken
// while another host answers for it.
package vip

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// DefaultProbe is how long a round of probes for a duplicate takes.
const DefaultProbe = 60 * time.Millisecond

// MinForceAfter is the shortest time after which an address may be taken from a host that still answers for it: the old
// master of a planned failover rightly holds it for two seconds, until a Sentinel tells it.
const MinForceAfter = 5 * time.Second

const (
	tick       = 200 * time.Millisecond // the longest time from one turn to the next
	renewEvery = time.Second            // how often the lifetime of an address is renewed, and the interface read
	spare      = 2 * time.Second        // by which the lifetime of an address exceeds that of an answer
)

// Options are the parameters of a [VIP].
type Options struct {
	Interface string
	Addresses []netip.Prefix
	// LockDir is the directory of the locks that keep a second daemon of this host from holding the same addresses.
	// Only daemons with the same directory exclude each other. Nobody but its owner and root may write to it. It is
	// made if it does not exist; [DefaultLockDir] if empty.
	LockDir string
	MaxAge  time.Duration // of an answer
	Probe   time.Duration // how long a round of probes for a duplicate takes; [DefaultProbe] if 0
	// Ahead probes while the answer is still no, so that an address which nobody has is taken at once.
	Ahead bool
	// ForceAfter is how long another host may answer for an address before it is taken anyway; 0 for ever. At least
	// [MinForceAfter].
	ForceAfter time.Duration
	// Companion holds the arguments with which this program runs [Guard].
	Companion []string
	Logger    *slog.Logger
}

// DefaultLockDir is the runtime directory of the daemon.
const DefaultLockDir = "/run/redis-is-master"

// A VIP holds addresses. Its methods may be called concurrently.
type VIP struct {
	o         Options
	kernel    *kernel
	companion *companion
	locks     []*os.File
	kick      chan struct{}
	monitor   atomic.Pointer[checker.Monitor] // nil before Run
	dirty     atomic.Bool                     // the interface may have changed since it was read
	stuck     atomic.Bool                     // an address cannot be removed

	turning sync.Mutex // held during a turn

	// Of the goroutine of Run alone, during a turn.
	link    link
	own     []net.HardwareAddr // of all interfaces of this host
	addrs   []*address
	sockets map[netip.Addr]*socket
	turned  time.Time // when the last turn began
	renewed time.Time
	last    facts
	looked  time.Time         // when the interface was last read
	said    map[string]string // the last warning about each subject

	mu     sync.Mutex
	states []report.VIP
}

// New checks that the addresses could be held, and takes their locks. It changes nothing on the interface.
func New(o Options) (*VIP, error) {
	v, err := open(o)
	if err != nil {
		return nil, err
	}
	if v.locks, err = lock(v.o.LockDir, o.Addresses, lockWait); err != nil {
		v.kernel.close()
		return nil, err
	}
	v.companion.locks = v.locks
	v.publish()
	return v, nil
}

// open is New without the locks.
func open(o Options) (*VIP, error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	k, err := openKernel(o.Interface)
	if err != nil {
		return nil, err
	}
	o.LockDir, o.Probe = cmp.Or(o.LockDir, DefaultLockDir), cmp.Or(o.Probe, DefaultProbe)
	v := &VIP{o: o, kernel: k, kick: make(chan struct{}, 1),
		sockets: make(map[netip.Addr]*socket), said: make(map[string]string)}
	for _, p := range o.Addresses {
		v.addrs = append(v.addrs, &address{prefix: p, gap: o.Probe / probes, force: o.ForceAfter})
	}
	l, err := k.link()
	if err == nil && len(l.mac) != 6 {
		err = fmt.Errorf("the interface %s is no Ethernet: there is no way to probe for a duplicate", o.Interface)
	}
	if err == nil {
		var s *socket
		if s, err = listen(l.index, o.Addresses[0].Addr(), nil, func() {}); err == nil {
			s.close()
		}
	}
	if err != nil {
		k.close()
		return nil, err
	}
	v.companion = &companion{argv: o.Companion, maxAge: o.MaxAge, logger: o.Logger, changed: v.wake, pipe: -1}
	return v, nil
}

// Impaired returns why an address may be held although the answer is no; empty if none is. It is for
// [checker.Monitor.Impaired].
func (v *VIP) Impaired() string {
	if v.stuck.Load() {
		return "an address cannot be removed from " + v.o.Interface
	}
	return ""
}

// Checked feeds the companion if the answer is yes after a check. It is for [checker.Monitor.Checked], and does nothing
// before Run.
func (v *VIP) Checked(checker.Check) {
	m := v.monitor.Load()
	if m == nil {
		return
	}
	if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes {
		v.companion.feed()
	}
}

// States returns the states of all addresses, in their order.
func (v *VIP) States() []report.VIP {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states
}

// Run holds the addresses while the answer of m is yes, until ctx is done; then it removes them. It is called once.
func (v *VIP) Run(ctx context.Context, m *checker.Monitor) error {
	v.monitor.Store(m)
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	if v.companion.begun.IsZero() {
		v.companion.begun = time.Now()
	}
	helpers.Go(func() { v.companion.run(inner) })
	helpers.Go(func() { watchAddresses(inner, func() { v.dirty.Store(true); v.wake() }) })
	helpers.Go(func() { m.Watch(inner, time.Hour, func(checker.Status) { v.wake() }) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		v.turn(m)
		timer.Reset(time.Until(v.due()))
		select {
		case <-ctx.Done():
		case <-v.kick:
		case <-timer.C:
		}
	}
	_, killed, err := v.kernel.clear(v.link.index, v.o.Addresses, true)
	for _, a := range v.addrs {
		if a.present {
			v.o.Logger.Info("the address is removed", "address", a.prefix, "interface", v.o.Interface,
				"why", "the daemon ends", "connections", killed)
		}
	}
	stop() // the companion removes the addresses once more
	helpers.Wait()
	v.closeSockets()
	v.kernel.close()
	unlock(v.locks)
	return err
}

func (v *VIP) wake() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// turn brings every address one step forward. It removes first, before anything that could take time.
func (v *VIP) turn(m *checker.Monitor) {
	v.turning.Lock()
	defer v.turning.Unlock()
	s, _ := m.Status()
	now := time.Now()
	yes := s.Verdict.Answer() == checker.Yes
	why := string(s.Verdict.Reason)
	if yes && !v.turned.IsZero() && now.Sub(v.turned) > v.o.MaxAge {
		yes, why = false, "the daemon was stopped for so long that another host may have it"
	}
	v.turned = now
	if !yes {
		v.remove(slices.DeleteFunc(slices.Clone(v.addrs), func(a *address) bool { return a.state == off }), why)
	}
	if s.Verdict.Reason == checker.ReasonStarting || yes && v.companion.starting(now) {
		return // the first verdict adopts or removes an address that is on the interface
	}
	v.look(now)
	f := facts{now: now, want: yes}
	if yes && !v.companion.protects(now) {
		f.want, why = false, "there is no companion process"
	}
	if yes && !v.link.up {
		f.want, why = false, "the link is down"
	}
	f.ahead = v.o.Ahead && !yes && v.link.up && s.Check.Err == nil &&
		s.Verdict.Reason != checker.ReasonDisabled && s.Verdict.Reason != checker.ReasonStopping
	if (f.want || f.ahead) && !v.openSockets() {
		f.want, f.ahead, why = false, false, "no probe can be sent"
	}
	v.tell("want", !yes || f.want, "the answer is yes, and no address is held: "+why, "")
	v.last = f
	renewing := now.Sub(v.renewed) >= renewEvery
	for _, a := range v.addrs {
		f := v.facts(a)
		for _, what := range a.step(f) {
			if what == remove && f.want {
				why = "another host has it, or somebody added it before the probes were done"
			}
			if (what == add || what == announce) && !v.yes(m) {
				if what == add { // the answer has changed during this turn
					a.failed(add, time.Now())
				}
				break
			}
			if !v.do(a, what, why) {
				break
			}
		}
		if renewing && a.present && (a.state == held || a.state == verifying) && v.yes(m) {
			v.renewed = now
			v.do(a, renew, why)
		}
		v.tellConflict(a, a.conflict(f))
	}
	v.publish()
	if time.Since(now) > tick {
		v.wake() // the answer may have changed during this turn
	}
}

// tellConflict logs that another host claims an address, once however many hosts do, and the end of it.
func (v *VIP) tellConflict(a *address, conflict bool) {
	about := "the address " + a.prefix.String()
	if _, said := v.said[about]; said == conflict {
		return
	}
	v.tell(about, !conflict, fmt.Sprintf("another host, %s, has %s: the probes go on", v.claimant(a), about),
		"no other host has "+about+" any more")
}

// yes reports whether the answer is still yes.
func (v *VIP) yes(m *checker.Monitor) bool {
	s, _ := m.Status()
	if s.Verdict.Answer() != checker.Yes {
		v.wake()
		return false
	}
	return true
}

// facts returns the facts of this turn about one address.
func (v *VIP) facts(a *address) facts {
	f := v.last
	if s := v.sockets[a.prefix.Addr()]; s != nil {
		f.claimed, _ = s.lastClaim()
	}
	return f
}

// claimant is the host that last claimed an address.
func (v *VIP) claimant(a *address) string {
	if s := v.sockets[a.prefix.Addr()]; s != nil {
		_, by := s.lastClaim()
		return by.String()
	}
	return ""
}

// tell logs a problem with a subject, once, and that it is solved, unless solved is empty.
func (v *VIP) tell(about string, good bool, bad, solved string) {
	switch last, was := v.said[about]; {
	case good && was:
		delete(v.said, about)
		if solved != "" {
			v.o.Logger.Info(solved, "interface", v.o.Interface)
		}
	case !good && last != bad:
		v.said[about] = bad
		v.o.Logger.Warn(bad, "interface", v.o.Interface)
	}
}

// look reads the state of the interface, if it may have changed or renewEvery has passed.
func (v *VIP) look(now time.Time) {
	if !v.dirty.Swap(false) && now.Sub(v.looked) < renewEvery {
		return
	}
	v.looked = now
	l, err := v.kernel.link()
	v.tell("interface", err == nil, fmt.Sprint("the interface is lost: ", err), "the interface is back")
	if l.index != v.link.index {
		if v.link.index != 0 { // it was renamed or removed
			v.remove(v.addrs, "the interface is lost")
		}
		v.closeSockets()
	}
	v.link = l
	v.learnOwn()
	found, err := v.kernel.list(l.index)
	if err != nil {
		v.dirty.Store(true)
		v.tell("list", false, fmt.Sprint("cannot list the addresses of the interface: ", err), "")
		return
	}
	v.tell("list", true, "", "the addresses can be listed again")
	for _, a := range v.addrs {
		present := slices.ContainsFunc(found, func(p netip.Prefix) bool { return p.Addr() == a.prefix.Addr() })
		switch wanted := a.state == held || a.state == verifying; {
		case present && !a.present && !wanted:
			v.o.Logger.Warn("somebody has put the address on the interface",
				"address", a.prefix, "interface", v.o.Interface)
		case a.present && !present && wanted:
			v.o.Logger.Warn("somebody has removed the address: it is put back",
				"address", a.prefix, "interface", v.o.Interface)
		}
		a.present = present
	}
}

// learnOwn reads the hardware addresses of this host, and gives them to the sockets if they have changed.
func (v *VIP) learnOwn() {
	own, err := v.kernel.hardwareAddresses()
	if err != nil || slices.EqualFunc(own, v.own, func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) }) {
		return
	}
	v.own = own
	for _, s := range v.sockets {
		if s.ignore(own) != nil {
			v.closeSockets() // they are opened anew with these addresses
			return
		}
	}
}

// openSockets reports whether there is a socket for each address.
func (v *VIP) openSockets() bool {
	for _, a := range v.addrs {
		ip := a.prefix.Addr()
		if v.sockets[ip] != nil {
			continue
		}
		s, err := listen(v.link.index, ip, v.own, v.wake)
		v.tell("socket", err == nil, fmt.Sprint("no probe can be sent: ", err), "probes can be sent again")
		if err != nil {
			return false
		}
		v.sockets[ip] = s
	}
	return true
}

func (v *VIP) closeSockets() {
	for ip, s := range v.sockets {
		s.close()
		delete(v.sockets, ip)
	}
}

// do carries out one action, and reports whether that worked.
func (v *VIP) do(a *address, what action, why string) bool {
	var err error
	switch what {
	case remove:
		return v.remove([]*address{a}, why)
	case add:
		v.companion.feed() // the companion must be fed before there is an address to remove
		if err = v.put(a); err == nil {
			a.present = true
			v.o.Logger.Info("the address is taken", "address", a.prefix, "interface", v.o.Interface, "forced", a.forced)
		}
	case renew:
		err = v.put(a)
	case sendProbe:
		err = v.sockets[a.prefix.Addr()].send(probe(v.link.mac, a.prefix.Addr()))
	case announce:
		err = v.sockets[a.prefix.Addr()].send(announcement(v.link.mac, a.prefix.Addr()))
	}
	verb := [...]string{add: "add", renew: "renew", sendProbe: "probe for", announce: "announce"}[what]
	v.tell(fmt.Sprint(verb, a.prefix), err == nil, fmt.Sprintf("cannot %s the address %v: %v", verb, a.prefix, err), "")
	if err != nil {
		a.failed(what, time.Now())
	}
	return err == nil
}

// put adds or renews an address.
func (v *VIP) put(a *address) error { return v.kernel.put(v.link.index, a.prefix, v.o.MaxAge+spare) }

// remove removes addresses from the interface and ends their connections, and reports whether they are gone.
func (v *VIP) remove(addrs []*address, why string) (ok bool) {
	prefixes := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		prefixes[i] = a.prefix
	}
	ok = true
	for i, d := range v.kernel.drop(v.link.index, prefixes...) {
		a := addrs[i]
		if d.err == nil && a.present {
			v.o.Logger.Info("the address is removed", "address", a.prefix, "interface", v.o.Interface,
				"why", why, "connections", d.killed)
		}
		a.present, a.stuck, ok = d.err != nil, d.err != nil, ok && d.err == nil
		v.tell(fmt.Sprint("remove", a.prefix), d.err == nil,
			fmt.Sprintf("cannot remove the address %v: %v", a.prefix, d.err), "")
		if d.killErr != nil {
			v.tell("connections", false, fmt.Sprint("clients of a removed address may wait for long: ", d.killErr), "")
		}
	}
	v.stuck.Store(slices.ContainsFunc(v.addrs, func(a *address) bool { return a.stuck }))
	return ok
}

// due is when the next turn is needed if nothing happens.
func (v *VIP) due() time.Time {
	f := v.last
	f.now = time.Now()
	at := f.now.Add(tick)
	for _, a := range v.addrs {
		at = earlier(at, a.due(f))
	}
	return at
}

// publish makes the states of the addresses visible to [VIP.States].
func (v *VIP) publish() {
	states := make([]report.VIP, len(v.addrs))
	for i, a := range v.addrs {
		held := a.present && a.state != off
		states[i] = report.VIP{Address: a.prefix.String(), Held: held, Conflict: a.conflict(v.facts(a))}
		if states[i].Conflict {
			states[i].By = v.claimant(a)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.states = states
}
