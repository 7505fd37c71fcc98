// Package vip holds virtual IP addresses while the answer is yes, where there
// is no keepalived to do it.
//
// No election stands behind it: who may hold an address is what the guards of
// the answer say. Beside them there are four things that end it:
//
//   - [VIP.Run] removes the addresses before all else when the answer ends,
//     when time makes it stale, and when the link goes down;
//   - a companion process ([Guard]) removes them when this one is killed or
//     has not said yes for the age at which an answer is stale;
//   - the kernel removes them when they were not renewed for two seconds more;
//   - and a unit's ExecStopPost ([Remove]).
//
// An address is not taken while another host answers for it.
package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// DefaultProbe is how long the probe for a duplicate takes.
const DefaultProbe = 60 * time.Millisecond

// MinForceAfter is the least time after which an address may be taken from a
// host that still answers for it: the old master of a planned failover is
// right in holding it for two seconds, until a Sentinel tells it.
const MinForceAfter = 5 * time.Second

const (
	tick  = 200 * time.Millisecond // at the latest, things are looked at again
	renew = time.Second            // how often the kernel is told to keep an address
	spare = 2 * time.Second        // how much longer than an answer it keeps one
)

// Options say what to hold, and how.
type Options struct {
	Interface string
	Addresses []netip.Prefix
	MaxAge    time.Duration // of an answer
	Probe     time.Duration // how long the probe for a duplicate takes; [DefaultProbe] if 0
	// Ahead asks while the answer is still no, so that an address which nobody
	// has is taken at once.
	Ahead bool
	// ForceAfter is when an address is taken although another host still
	// answers for it; 0 for never. At least [MinForceAfter].
	ForceAfter time.Duration
	// Companion are the arguments with which this program runs [Guard].
	Companion []string
	Logger    *slog.Logger
}

// A VIP holds addresses. Its methods may be called concurrently.
type VIP struct {
	o         Options
	kernel    *kernel
	companion *companion
	reserved  []net.PacketConn
	kick      chan struct{}
	dirty     atomic.Bool // what the kernel has may be other than what is known of it
	stuck     atomic.Bool // an address cannot be removed

	// Of the goroutine of Run alone.
	link    link
	addrs   []*address
	sockets map[netip.Addr]*socket
	turned  time.Time
	renewed time.Time
	last    facts
	looked  time.Time
	said    map[string]string // what was logged last, by what it is about

	mu     sync.Mutex
	states []report.VIP
}

// New checks that the addresses could be held. It changes nothing.
func New(o Options) (*VIP, error) {
	if err := may(); err != nil {
		return nil, err
	}
	k, err := openKernel(o.Interface)
	if err != nil {
		return nil, err
	}
	if o.Probe <= 0 {
		o.Probe = DefaultProbe
	}
	v := &VIP{o: o, kernel: k, kick: make(chan struct{}, 1), sockets: make(map[netip.Addr]*socket), said: make(map[string]string)}
	for _, p := range o.Addresses {
		v.addrs = append(v.addrs, &address{prefix: p, gap: o.Probe / probes, force: o.ForceAfter})
	}
	v.companion = &companion{argv: o.Companion, maxAge: o.MaxAge, logger: o.Logger, changed: v.wake, pipe: -1}
	if v.reserved, err = reserve(o.Addresses); err != nil {
		k.close()
		return nil, err
	}
	l, err := k.link()
	if err == nil && len(l.mac) != 6 {
		err = fmt.Errorf("the interface %s is no Ethernet: nobody can be asked there", o.Interface)
	}
	if err == nil {
		var s *socket
		if s, err = listen(l.index, o.Addresses[0].Addr(), func() {}); err == nil {
			s.close()
		}
	}
	if err != nil {
		k.close()
		release(v.reserved)
		return nil, err
	}
	v.publish()
	return v, nil
}

// Impaired says that an address is on the interface and could not be removed;
// empty if that is not so. It is for [checker.Monitor.Impaired].
func (v *VIP) Impaired() string {
	if v.stuck.Load() {
		return "an address cannot be removed from " + v.o.Interface
	}
	return ""
}

// Checked is for [checker.Monitor.Checked]: a finished check after which the
// answer is yes is what feeds the companion.
func (v *VIP) Checked(m *checker.Monitor) {
	if s, _ := m.Status(); s.Verdict.Answer() == checker.Yes {
		v.companion.feed()
	}
}

// States are those of all addresses, in their order.
func (v *VIP) States() []report.VIP {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states
}

// Run holds the addresses until ctx is done; then it removes them.
func (v *VIP) Run(ctx context.Context, m *checker.Monitor) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	v.companion.begun = time.Now()
	helpers.Go(func() { v.companion.run(inner) })
	helpers.Go(func() { v.kernel.watch(inner, func() { v.dirty.Store(true); v.wake() }) })
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
	_, err := v.kernel.clear(v.link.index, v.o.Addresses, true)
	for _, a := range v.addrs {
		if a.present {
			v.o.Logger.Info("the address is removed", "address", a.prefix, "interface", v.o.Interface, "why", "the daemon ends")
		}
	}
	stop() // the companion does the same once more
	helpers.Wait()
	v.closeSockets()
	v.kernel.close()
	release(v.reserved)
	return err
}

// ErrInUse is that of [New] where another daemon has one of the addresses.
var ErrInUse = errors.New("another daemon on this host holds it")

// reserve sees to it that no other daemon of this network has one of the
// addresses: it would take away what this one adds. A name in the abstract
// namespace, unix(7), belongs to a network, as an address does, and is gone
// with its process.
func reserve(addresses []netip.Prefix) (reserved []net.PacketConn, err error) {
	for _, p := range addresses {
		c, err := net.ListenPacket("unixgram", "@redis-is-masterd --vip "+p.Addr().String())
		if err != nil {
			release(reserved)
			if errors.Is(err, syscall.EADDRINUSE) {
				err = ErrInUse
			}
			return nil, fmt.Errorf("%v: %w", p.Addr(), err)
		}
		reserved = append(reserved, c)
	}
	return reserved, nil
}

func release(reserved []net.PacketConn) {
	for _, c := range reserved {
		c.Close()
	}
}

func (v *VIP) wake() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// turn looks at everything and does what is to be done. To remove comes
// first, before anything that could take time.
func (v *VIP) turn(m *checker.Monitor) {
	s, _ := m.Status()
	now := time.Now()
	yes := s.Verdict.Answer() == checker.Yes
	why := string(s.Verdict.Reason)
	if yes && !v.turned.IsZero() && now.Sub(v.turned) > v.o.MaxAge {
		yes, why = false, "it was kept from looking for so long that another host may have it"
	}
	v.turned = now
	if !yes {
		for _, a := range v.addrs {
			if a.state != off {
				v.do(a, remove, why)
			}
		}
	}
	if s.Verdict.Reason == checker.ReasonStarting || yes && v.companion.starting(now) {
		return // what is found is adopted or removed by the first verdict
	}
	v.look(now)
	f := facts{now: now, want: yes}
	if yes && !v.companion.guards(now) {
		f.want, why = false, "there is no companion process"
	}
	if yes && !v.link.up {
		f.want, why = false, "the link is down"
	}
	f.ahead = v.o.Ahead && !yes && v.link.up && s.Check.Err == nil && s.Verdict.Reason != checker.ReasonDisabled && s.Verdict.Reason != checker.ReasonStopping
	if (f.want || f.ahead) && !v.open() {
		f.want, f.ahead, why = false, false, "nobody can be asked"
	}
	v.tell("want", !yes || f.want, "the answer is yes, and no address is held: "+why, "")
	v.last = f
	renewing := now.Sub(v.renewed) >= renew
	for _, a := range v.addrs {
		f := v.facts(a)
		for _, what := range a.step(f) {
			if what == remove && f.want {
				why = "another host has it, or somebody has added it"
			}
			if (what == add || what == announce) && !v.yes(m) {
				if what == add { // the kernel let us wait
					a.failed(add, time.Now())
				}
				break
			}
			if !v.do(a, what, why) {
				break
			}
		}
		if renewing && a.present && (a.state == held || a.state == checking) && v.yes(m) {
			v.renewed = now
			v.do(a, renewal, why)
		}
		about := "the address " + a.prefix.String()
		if a.conflict(f) {
			v.tell(about, false, fmt.Sprintf("another host, %s, has %s: it is asked again and again", v.by(a), about), "")
		} else {
			v.tell(about, true, "", "no other host has "+about+" any more")
		}
	}
	v.publish()
	if time.Since(now) > tick {
		v.wake() // what was decided upon may no longer be so
	}
}

// yes reports whether the answer still is.
func (v *VIP) yes(m *checker.Monitor) bool {
	s, _ := m.Status()
	if s.Verdict.Answer() != checker.Yes {
		v.wake()
		return false
	}
	return true
}

// facts adds what another host has said of one address.
func (v *VIP) facts(a *address) facts {
	f := v.last
	if s := v.sockets[a.prefix.Addr()]; s != nil {
		f.claimed, _ = s.last()
	}
	return f
}

// by is the host that claimed an address last.
func (v *VIP) by(a *address) string {
	if s := v.sockets[a.prefix.Addr()]; s != nil {
		_, by := s.last()
		return by.String()
	}
	return ""
}

// tell logs that something is bad, once, and when it is good again, unless
// again is empty.
func (v *VIP) tell(about string, good bool, bad, again string) {
	switch last, was := v.said[about]; {
	case good && was:
		delete(v.said, about)
		if again != "" {
			v.o.Logger.Info(again, "interface", v.o.Interface)
		}
	case !good && last != bad:
		v.said[about] = bad
		v.o.Logger.Warn(bad, "interface", v.o.Interface)
	}
}

// look asks the kernel, if something has changed or some time has passed.
func (v *VIP) look(now time.Time) {
	if !v.dirty.Swap(false) && now.Sub(v.looked) < renew {
		return
	}
	v.looked = now
	l, err := v.kernel.link()
	v.tell("interface", err == nil, fmt.Sprint("the interface is lost: ", err), "the interface is there again")
	if l.index != v.link.index {
		if v.link.index != 0 { // it was renamed or removed
			for _, a := range v.addrs {
				_, err := v.kernel.removeAll(v.link.index, a.prefix)
				v.removed(a, err)
			}
		}
		v.closeSockets()
	}
	v.link = l
	found, err := v.kernel.list(l.index)
	if err != nil {
		v.dirty.Store(true)
		v.tell("list", false, fmt.Sprint("cannot list the addresses: ", err), "")
		return
	}
	v.tell("list", true, "", "the addresses can be listed again")
	for _, a := range v.addrs {
		present := slices.ContainsFunc(found, func(p netip.Prefix) bool { return p.Addr() == a.prefix.Addr() })
		switch wanted := a.state == held || a.state == checking; {
		case present && !a.present && !wanted:
			v.o.Logger.Warn("the address was found on the interface, where somebody has put it", "address", a.prefix, "interface", v.o.Interface)
		case a.present && !present && wanted:
			v.o.Logger.Warn("somebody has removed the address: it is put back", "address", a.prefix, "interface", v.o.Interface)
		}
		a.present = present
	}
}

// open opens the sockets, and reports whether all are open.
func (v *VIP) open() bool {
	for _, a := range v.addrs {
		ip := a.prefix.Addr()
		if v.sockets[ip] != nil {
			continue
		}
		s, err := listen(v.link.index, ip, v.wake)
		v.tell("socket", err == nil, fmt.Sprint("nobody can be asked about the addresses: ", err), "others can be asked again")
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

// do does one thing about an address, and reports whether that worked.
func (v *VIP) do(a *address, what action, why string) bool {
	var err error
	switch what {
	case remove:
		was := a.present
		_, err = v.kernel.removeAll(v.link.index, a.prefix)
		if v.removed(a, err); err == nil && was {
			v.o.Logger.Info("the address is removed", "address", a.prefix, "interface", v.o.Interface, "why", why)
		}
	case add:
		v.companion.feed() // so that it knows before there is something to remove
		if err = v.put(a); err == nil {
			a.present = true
			v.o.Logger.Info("the address is taken", "address", a.prefix, "interface", v.o.Interface, "forced", a.forced)
		}
	case renewal:
		err = v.put(a)
	case ask:
		err = v.sockets[a.prefix.Addr()].send(probe(v.link.mac, a.prefix.Addr()))
	case announce:
		err = v.sockets[a.prefix.Addr()].send(announcement(v.link.mac, a.prefix.Addr()))
	}
	verb := [...]string{"remove", "add", "renew", "ask for", "announce"}[what]
	v.tell(fmt.Sprint(verb, a.prefix), err == nil, fmt.Sprintf("cannot %s the address %v: %v", verb, a.prefix, err), "")
	if err != nil {
		a.failed(what, time.Now())
	}
	return err == nil
}

// put adds or renews it.
func (v *VIP) put(a *address) error { return v.kernel.put(v.link.index, a.prefix, v.o.MaxAge+spare) }

// removed takes what became of a removal.
func (v *VIP) removed(a *address, err error) {
	a.present, a.stuck = err != nil, err != nil
	v.stuck.Store(slices.ContainsFunc(v.addrs, func(a *address) bool { return a.stuck }))
}

// due is when to look again if nothing happens.
func (v *VIP) due() time.Time {
	f := v.last
	f.now = time.Now()
	at := f.now.Add(tick)
	for _, a := range v.addrs {
		at = earlier(at, a.due(f))
	}
	return at
}

// publish makes what is known what others see.
func (v *VIP) publish() {
	states := make([]report.VIP, len(v.addrs))
	for i, a := range v.addrs {
		states[i] = report.VIP{Address: a.prefix.String(), Held: a.present && a.state != off, Conflict: a.conflict(v.facts(a))}
		if states[i].Conflict {
			states[i].By = v.by(a)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.states = states
}
