package sim

import (
	"fmt"
	"slices"
	"time"
)

// A FaultKind is what a [Fault] does.
type FaultKind string

// The faults. Most end after [Fault.For]; the others are done at once.
const (
	KillRedis     FaultKind = "kill -9 of Redis"      // and a start after For, 0 for never
	HangRedis     FaultKind = "SIGSTOP of Redis"      // SIGCONT after For
	SlowDisk      FaultKind = "slow disk"             // CONFIG REWRITE takes Extra
	NoRewrite     FaultKind = "redis.conf read-only"  // CONFIG REWRITE fails
	BusyScript    FaultKind = "busy script"           // -BUSY
	Misconf       FaultKind = "failed bgsave"         // -MISCONF
	PauseWrites   FaultKind = "CLIENT PAUSE WRITE"    //
	PauseAll      FaultKind = "CLIENT PAUSE"          //
	PromoteByHand FaultKind = "REPLICAOF NO ONE"      // by hand
	DemoteByHand  FaultKind = "REPLICAOF"             // Other, by hand
	HandFailover  FaultKind = "FAILOVER"              // by hand
	KillSentinel  FaultKind = "kill -9 of a Sentinel" // and a start after For
	HangSentinel  FaultKind = "SIGSTOP of a Sentinel"
	ResetSentinel FaultKind = "SENTINEL RESET"
	Planned       FaultKind = "SENTINEL FAILOVER"
	Coordinated   FaultKind = "SENTINEL FAILOVER COORDINATED"
	CrashAt       FaultKind = "crash of the leader"         // at Step of the next failover
	Rename        FaultKind = "SENTINEL REMOVE and MONITOR" // by another name, at all Sentinels
	OtherElection FaultKind = "election for another master" // it raises the current epoch of all
	Isolate       FaultKind = "host isolated"               // nothing passes
	Deaf          FaultKind = "host deaf"                   // what is sent to it is lost
	Mute          FaultKind = "host mute"                   // what it sends is lost
	CutPair       FaultKind = "cut between two hosts"       // Node and Other
	Loss          FaultKind = "loss"                        // of a third of the packets of a host
	Delay         FaultKind = "delay"                       // of Extra for all packets of a host
	InterfaceDown FaultKind = "interface down"              // isolated, and keepalived sees it
	PowerOff      FaultKind = "power off"                   // and on after For
	StunHost      FaultKind = "host stunned"                // all its processes stop
	SuspendHost   FaultKind = "host suspended"              // and its monotonic clock stands still
	KillDaemon    FaultKind = "kill -9 of the daemon"       // and a start after For
	HangDaemon    FaultKind = "SIGSTOP of the daemon"       //
	ReloadDaemon  FaultKind = "SIGHUP of the daemon"        // the next program runs after For
	RestartDaemon FaultKind = "restart of the daemon"       // SIGTERM, and a start after For
	NoResolver    FaultKind = "no name server"              //
)

// Hosts that are looked up when the fault begins.
const (
	OnMaster  = -2 // the master that most Sentinels name
	OnReplica = -3 // a replica
	OnOther   = -4 // another replica than OnReplica, if there is one
	OnLeader  = -5 // the Sentinel that leads a failover, or the first that runs
)

// A Fault is something that is done to the world.
type Fault struct {
	At       time.Duration // since the begin of the history
	Kind     FaultKind
	Node     int // a host, or one of those above
	Other    int
	For      time.Duration
	Extra    time.Duration
	Step     string // of [CrashAt]
	AsMaster bool   // of [KillRedis] and [PowerOff]: redis.conf was not rewritten, so that it comes back as master
}

func (f Fault) String() string {
	s := string(f.Kind)
	if f.Step != "" {
		s += " " + f.Step
	}
	if f.Extra > 0 {
		s += fmt.Sprintf(" (%v)", f.Extra.Round(time.Millisecond))
	}
	if f.Kind == DemoteByHand || f.Kind == CutPair {
		s += " " + hostName(f.Other)
	}
	if f.AsMaster {
		s += ", to come back as master"
	}
	if f.For > 0 {
		s += fmt.Sprintf(", for %v", f.For.Round(time.Millisecond))
	}
	return s
}

// schedule lets a fault happen.
func (w *World) schedule(f Fault) {
	w.quietAfter = max(w.quietAfter, start+f.At+f.For)
	w.after(f.At, func() {
		f.Node, f.Other = w.resolve(f.Node), w.resolve(f.Other)
		e := Event{Node: f.Node, Kind: FaultEvent, What: f.String(), Other: none, Fault: f.Kind, For: f.For}
		if f.Kind == CutPair {
			e.Other = f.Other
		}
		w.History.put(w.now, e)
		end := w.begin(f)
		if end == nil || f.For == 0 {
			return
		}
		w.after(f.For, func() {
			e.What, e.Ends = "end of "+string(f.Kind), true
			w.History.put(w.now, e)
			end()
		})
	})
}

// resolve finds the host that is meant.
func (w *World) resolve(host int) int {
	master := w.agreed()
	if master == none {
		master = 0
	}
	switch host {
	case OnMaster:
		return master
	case OnReplica:
		return (master + 1) % len(w.nodes)
	case OnOther:
		return (master + len(w.nodes) - 1) % len(w.nodes)
	case OnLeader:
		for _, s := range w.sentinels {
			if s.alive && s.stops == 0 && len(s.masters) > 0 && s.masters[0].failover {
				return s.id
			}
		}
		for _, s := range w.sentinels {
			if s.alive && s.stops == 0 {
				return s.id
			}
		}
		return 0
	}
	return host
}

// begin does what the fault is, and returns what ends it; nil if nothing does.
func (w *World) begin(f Fault) (end func()) {
	switch {
	case f.Kind.ofRedis():
		if f.Node < len(w.nodes) {
			return w.nodes[f.Node].suffer(f)
		}
	case f.Kind.ofSentinel():
		if f.Node < len(w.sentinels) {
			return w.sentinels[f.Node].suffer(f)
		}
	case f.Kind.ofNetwork():
		return w.network.suffer(f)
	case f.Kind.ofDaemon():
		if f.Node < len(w.daemons) {
			return w.daemons[f.Node].suffer(f)
		}
	case f.Kind == PowerOff:
		w.powerOff(f.Node)
		return func() { w.powerOn(f) }
	case f.Kind == StunHost:
		return w.stun(f.Node)
	case f.Kind == SuspendHost:
		resume := w.stun(f.Node)
		return func() {
			w.hosts[f.Node].suspended += f.For
			resume()
		}
	}
	return nil
}

func (k FaultKind) ofRedis() bool {
	return slices.Contains([]FaultKind{
		KillRedis, HangRedis, SlowDisk, NoRewrite, BusyScript, Misconf, PauseWrites, PauseAll,
		PromoteByHand, DemoteByHand, HandFailover,
	}, k)
}

func (k FaultKind) ofSentinel() bool {
	return slices.Contains([]FaultKind{
		KillSentinel, HangSentinel, ResetSentinel, Planned, Coordinated, CrashAt, Rename, OtherElection,
	}, k)
}

func (k FaultKind) ofNetwork() bool {
	return slices.Contains([]FaultKind{Isolate, Deaf, Mute, CutPair, Loss, Delay, InterfaceDown}, k)
}

func (k FaultKind) ofDaemon() bool {
	return slices.Contains([]FaultKind{KillDaemon, HangDaemon, ReloadDaemon, RestartDaemon, NoResolver}, k)
}

func (r *Redis) suffer(f Fault) (end func()) {
	if f.Kind == KillRedis {
		r.kill(true)
		return func() { r.restart(f) }
	}
	if !r.alive {
		return nil
	}
	switch f.Kind {
	case HangRedis:
		r.hang(f.For, nil)
		return func() {}
	case SlowDisk:
		r.slowDisk = f.Extra
		return func() { r.slowDisk = 0 }
	case NoRewrite:
		r.readOnlyConf = true
		return func() { r.readOnlyConf = false }
	case BusyScript:
		r.busy(f.For)
	case Misconf:
		r.misconf = true
		return func() { r.misconf = false }
	case PauseWrites, PauseAll:
		r.pause(f.For, f.Kind == PauseAll)
	case PromoteByHand:
		r.byHand(func() { r.follow(none, Cause{Kind: CauseByHand, Sentinel: none}) })
	case DemoteByHand:
		r.byHand(func() { r.follow(f.Other, Cause{}) })
	case HandFailover:
		r.byHand(func() { r.startFailover(none, 0) })
	}
	return nil
}

// byHand runs a command of the operator when the node can.
func (r *Redis) byHand(fn func()) {
	r.run(r.life, func() {
		if r.refuses(classExec) == "" {
			fn()
		}
	})
}

func (r *Redis) restart(f Fault) {
	if f.AsMaster {
		r.configured = none
	}
	r.start(f.Extra)
}

func (s *Sentinel) suffer(f Fault) (end func()) {
	switch f.Kind {
	case KillSentinel:
		s.kill(true)
		return s.start
	case HangSentinel:
		if !s.alive {
			return nil
		}
		s.stop()
		life := s.life
		return func() { s.resume(life) }
	case ResetSentinel:
		s.run(s.life, s.Reset)
	case Planned, Coordinated:
		s.run(s.life, func() { s.Failover(f.Kind == Coordinated) })
	case CrashAt:
		for _, other := range s.w.sentinels {
			other.crashAt = f.Step
		}
	case Rename:
		s.w.renames++
		name, node := fmt.Sprintf("master%d", s.w.renames), s.w.agreed()
		if node == none {
			return nil
		}
		s.w.Config.Names = []string{name}
		for _, other := range s.w.sentinels {
			other.run(other.life, func() { other.Rename(name, node) })
		}
	case OtherElection:
		s.w.otherElection()
	}
	return nil
}

// otherElection raises the current epoch of all Sentinels that are in touch,
// as one for another master does: it is one for all masters.
func (w *World) otherElection() {
	var epoch uint64
	for _, s := range w.sentinels {
		epoch = max(epoch, s.currentEpoch)
	}
	for _, s := range w.sentinels {
		s.run(s.life, func() {
			if epoch+1 > s.currentEpoch {
				s.currentEpoch = epoch + 1
				s.flush()
			}
		})
	}
}

func (n *network) suffer(f Fault) (end func()) {
	var undo []func()
	each := func(from, to int) {
		switch f.Kind {
		case Loss:
			before := n.loss[from][to]
			n.loss[from][to] = 0.3
			undo = append(undo, func() { n.loss[from][to] = before })
		case Delay:
			n.extra[from][to] += f.Extra
			undo = append(undo, func() { n.extra[from][to] -= f.Extra })
		default:
			n.cut[from][to]++
			undo = append(undo, func() { n.cut[from][to]-- })
		}
	}
	for other := range n.cut {
		if other == f.Node || f.Kind == CutPair && other != f.Other {
			continue
		}
		if f.Kind != Mute {
			each(other, f.Node)
		}
		if f.Kind != Deaf {
			each(f.Node, other)
		}
	}
	if f.Kind == InterfaceDown {
		n.w.setLink(f.Node, false)
		undo = append(undo, func() { n.w.setLink(f.Node, true) })
	}
	return func() {
		for _, fn := range undo {
			fn()
		}
	}
}

func (w *World) setLink(node int, up bool) {
	if node < len(w.vrrp) {
		w.vrrp[node].noLink = !up
		w.vrrp[node].judge()
	}
}

func (d *runner) suffer(f Fault) (end func()) {
	switch f.Kind {
	case KillDaemon:
		d.kill(true)
		return d.start
	case HangDaemon:
		return d.pauseFor()
	case ReloadDaemon:
		return d.reload()
	case RestartDaemon:
		if r, ok := d.daemon.(Reloader); ok && d.alive && d.stops == 0 {
			r.Remember(d.now())
			d.kill(true)
			d.w.vrrp[d.node].track(d.answer)
		}
		return d.start
	}
	d.w.noResolver++
	return func() { d.w.noResolver-- }
}

// pauseFor stops the daemon: who asks it gets no answer, which is no yes.
func (d *runner) pauseFor() (end func()) {
	if !d.alive {
		return nil
	}
	life := d.life
	d.stop()
	d.say(Answer{Reason: "hung"})
	return func() {
		d.told = false
		d.resume(life)
	}
}

func (w *World) powerOff(host int) {
	w.hosts[host].up = false
	if host < len(w.nodes) {
		w.nodes[host].kill(false)
	}
	if host < len(w.sentinels) {
		w.sentinels[host].kill(false)
	}
	if host < len(w.daemons) {
		w.daemons[host].kill(false)
		w.vrrp[host].powerOff()
	}
}

func (w *World) powerOn(f Fault) {
	w.hosts[f.Node].up = true
	w.hosts[f.Node].boots++
	if f.Node < len(w.nodes) {
		w.nodes[f.Node].restart(f)
	}
	if f.Node < len(w.sentinels) {
		w.sentinels[f.Node].start()
	}
	if f.Node < len(w.daemons) {
		w.vrrp[f.Node].start()
		w.daemons[f.Node].start()
	}
}

// stun stops all processes of a host, as a hypervisor does for a snapshot.
func (w *World) stun(host int) (end func()) {
	var ends []func()
	stop := func(p *process) {
		if p.alive {
			life := p.life
			p.stop()
			ends = append(ends, func() { p.resume(life) })
		}
	}
	w.network.isolate(host, 1)
	if host < len(w.nodes) {
		r := w.nodes[host]
		stop(&r.process)
		r.note()
		ends = append(ends, r.note)
	}
	if host < len(w.sentinels) {
		stop(&w.sentinels[host].process)
	}
	if host < len(w.daemons) {
		if fn := w.daemons[host].pauseFor(); fn != nil {
			ends = append(ends, fn)
		}
		stop(&w.vrrp[host].process)
	}
	return func() {
		w.network.isolate(host, -1)
		for _, fn := range ends {
			fn()
		}
	}
}

func (n *network) isolate(host, by int) {
	for other := range n.cut {
		if other != host {
			n.cut[host][other] += by
			n.cut[other][host] += by
		}
	}
}
