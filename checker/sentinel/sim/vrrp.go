package sim

import "time"

// Times and priorities of keepalived.
const (
	basePriority   = 100
	masterWeight   = 50 // of the track file in the weight profile
	promotionTurn  = 100
	scriptInterval = time.Second
	fileRead       = 2 * time.Millisecond // inotify, and what keepalived does then: 2 to 16 ms were measured
	fileReadMost   = 16 * time.Millisecond
)

// A vrrpState is that of a VRRP instance.
type vrrpState int

const (
	vrrpFault vrrpState = iota
	vrrpBackup
	vrrpMaster
)

// A keepalived holds the VIP, or does not.
type keepalived struct {
	process
	node    int
	state   vrrpState
	file    Answer // what the track file says
	fileSeq uint64
	alive1  bool          // the last run of the dead man's switch
	script  bool          // the last run of the script
	noLink  bool          // the interface is down
	down    time.Duration // when the master is taken for down
	timer   time.Duration // when that is looked at next; 0 for never
	reign   uint64        // counts how often it took the VIP
}

func newKeepalived(w *World, node int) *keepalived {
	return &keepalived{process: process{w: w, host: node}, node: node}
}

func (k *keepalived) boot() { k.start() }

// start starts keepalived. The track file has the value that it had.
func (k *keepalived) start() {
	if k.process.alive || !k.w.hosts[k.host].up {
		return
	}
	k.begin()
	k.state, k.alive1, k.script = vrrpFault, true, false
	k.after(k.w.between(0, scriptInterval), func() {
		k.runScripts()
		k.every(func() time.Duration { return scriptInterval }, k.runScripts)
	})
	k.timer = 0
	k.judge()
}

// powerOff is the end of the host: nobody is told.
func (k *keepalived) powerOff() {
	if k.state == vrrpMaster {
		k.w.History.add(k.w.now, k.node, VIPEvent, "down")
	}
	k.state, k.file = vrrpFault, Answer{}
	k.end(false)
}

// track is the track file, which keepalived reads a moment after it changed.
func (k *keepalived) track(a Answer) {
	k.fileSeq++
	seq := k.fileSeq
	if !k.process.alive {
		k.file = a
		return
	}
	k.after(k.w.between(fileRead, fileReadMost), func() {
		if k.fileSeq == seq {
			k.file = a
			k.judge()
		}
	})
}

// runScripts runs the scripts of the profile once.
func (k *keepalived) runScripts() {
	if k.w.Config.Profile == ProfileScript {
		k.script = k.w.asked(k.node)
	} else {
		d := k.w.daemons[k.node]
		k.alive1 = d.alive && d.stops == 0
	}
	k.judge()
}

// asked is what redis-is-master --sentinel finds: the local Redis says master,
// and a majority of the Sentinels names it and does not take it for down.
func (w *World) asked(node int) bool {
	r := w.nodes[node]
	if !r.alive || r.stops > 0 || r.loading() || r.master != none || w.now < r.busyUntil {
		return false
	}
	votes := 0
	for _, s := range w.sentinels {
		if !s.alive || s.stops > 0 || s.tilt || !w.network.open(node, s.host) || !w.network.open(s.host, node) {
			continue
		}
		if m := s.masters[0]; m.address() == node && !m.sdown {
			votes++
		}
	}
	return 2*votes > len(w.sentinels)
}

// priority is 0 for FAULT.
func (k *keepalived) priority() int {
	p := basePriority
	switch c := k.w.Config; {
	case k.noLink:
		return 0
	case c.Profile == ProfileScript:
		if !k.script {
			return 0
		}
	case !k.alive1:
		return 0
	case c.Profile == ProfileWeight:
		if k.file.Yes {
			p += masterWeight
		}
	case !k.file.Yes:
		return 0
	}
	if k.w.Config.PromotionFile {
		p += int(k.file.Epoch % promotionTurn)
	}
	return p
}

// judge acts upon what the files and scripts say now.
func (k *keepalived) judge() {
	p := k.priority()
	switch {
	case p == 0:
		k.leave(vrrpFault)
	case k.state == vrrpFault:
		k.state = vrrpBackup
		k.wait(p)
	}
}

// wait sets Master_Down_Timer: three adverts and a skew (RFC 5798).
func (k *keepalived) wait(p int) {
	k.down = k.w.now + 3*k.w.Config.Advert + k.skew(p)
	k.arm()
}

func (k *keepalived) skew(p int) time.Duration {
	return k.w.Config.Advert * time.Duration(256-p) / 256
}

// arm makes sure that the timer is looked at when it expires.
func (k *keepalived) arm() {
	if k.timer > 0 && k.timer <= k.down {
		return
	}
	due := k.down
	k.timer = due
	k.after(due-k.w.now, func() {
		if k.timer != due {
			return
		}
		k.timer = 0
		switch {
		case k.state != vrrpBackup:
		case k.down > k.w.now:
			k.arm()
		default:
			k.take()
		}
	})
}

// take takes the VIP.
func (k *keepalived) take() {
	k.state = vrrpMaster
	k.reign++
	k.w.History.add(k.w.now, k.node, VIPEvent, "up")
	k.w.client.learn(k.node)
	k.advertise(k.reign)
}

// leave drops the VIP, and says so by an advert of priority 0.
func (k *keepalived) leave(to vrrpState) {
	if k.state == vrrpMaster {
		k.w.History.add(k.w.now, k.node, VIPEvent, "down")
		if to == vrrpFault {
			k.send(0)
		}
	}
	k.state = to
}

// advertise sends adverts as long as it has the VIP.
func (k *keepalived) advertise(reign uint64) {
	if k.state == vrrpMaster && k.reign == reign {
		k.send(k.priority())
		k.after(k.w.Config.Advert, func() { k.advertise(reign) })
	}
}

func (k *keepalived) send(p int) {
	for _, other := range k.w.vrrp {
		if other == k || other.state == vrrpFault || !k.w.network.passes(k.host, other.host) {
			continue
		}
		d := k.w.network.delay(k.host, other.host)
		if d < time.Millisecond && other.stops == 0 {
			other.receive(k.node, p) // most of all events would be adverts
			continue
		}
		k.w.after(d, func() { other.run(other.life, func() { other.receive(k.node, p) }) })
	}
}

// receive takes the advert of another node.
func (k *keepalived) receive(from, p int) {
	mine := k.priority()
	switch {
	case k.state == vrrpBackup && p == 0:
		k.down = k.w.now + k.skew(mine)
		k.arm()
	case k.state == vrrpBackup && (p >= mine || !k.preempts()):
		k.down = k.w.now + 3*k.w.Config.Advert + k.skew(mine)
		k.arm()
	case k.state == vrrpMaster && (p > mine || p == mine && from > k.node):
		k.leave(vrrpBackup)
		k.wait(mine)
	}
}

// preempts reports whether a lower holder is replaced: the profiles say
// nopreempt where a node that is not master is in FAULT, unless the promotion
// file decides.
func (k *keepalived) preempts() bool {
	return k.w.Config.Profile == ProfileWeight || k.w.Config.PromotionFile
}
