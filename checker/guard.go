package checker

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Hello is what one Sentinel publishes every two seconds, on every node of
// a master that it watches.
type Hello struct {
	Sentinel string // its run id, which stays when it is restarted
	From     string // its host:port
	Current  uint64 // its current epoch, which every election raises
	Name     string // of the master, as the Sentinels call it
	Master   string // host:port of the node that it takes for the master
	Epoch    uint64 // the config epoch of that, which every failover raises
}

// ParseHello reads a message of the channel __sentinel__:hello.
//
// Format: sentinelSendHello in Redis's sentinel.c, eight fields:
// ip,port,runid,current_epoch,master_name,master_ip,master_port,master_config_epoch.
func ParseHello(message string) (Hello, error) {
	f := strings.Split(message, ",")
	if len(f) != 8 || len(message) > maxLine {
		return Hello{}, fmt.Errorf("a hello has 8 fields, not %d", len(f))
	}
	h := Hello{Sentinel: f[2], From: net.JoinHostPort(f[0], f[1]), Name: f[4], Master: net.JoinHostPort(f[5], f[6])}
	_, err1 := strconv.ParseUint(f[1], 10, 16)
	port, err2 := strconv.ParseUint(f[6], 10, 16)
	var err3, err4 error
	h.Current, err3 = strconv.ParseUint(f[3], 10, 64)
	h.Epoch, err4 = strconv.ParseUint(f[7], 10, 64)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return Hello{}, err
		}
	}
	if f[0] == "" || f[2] == "" || f[4] == "" || f[5] == "" || port == 0 {
		return Hello{}, fmt.Errorf("a hello has an empty field")
	}
	return h, nil
}

// A Word is a hello and what it means for the node that is watched.
type Word struct {
	Hello
	Here  bool // the node that it names is this one
	Local bool // the Sentinel runs on this node's host
}

// A Trust is what the hellos of the Sentinels amount to, for a node that
// calls itself master.
type Trust string

// The closed set of trusts. The empty one means that nobody listens.
const (
	TrustConfirmed   Trust = "confirmed"   // a Sentinel named this node, and nothing newer names another
	TrustPromoted    Trust = "promoted"    // it was watched as a replica when it became master
	TrustFollowed    Trust = "followed"    // the master that the Sentinels still name follows this node
	TrustAlone       Trust = "alone"       // no Sentinel is to be heard: its word is all there is
	TrustUnconfirmed Trust = "unconfirmed" // not heard yet, or not for long enough
	TrustDenied      Trust = "denied"      // the Sentinels name another node
	TrustWatched     Trust = "watched"     // no master now: a promotion would be believed at once
)

// Trusts returns the closed set in the order of the documentation.
func Trusts() []Trust {
	return []Trust{TrustConfirmed, TrustPromoted, TrustFollowed, TrustAlone, TrustUnconfirmed, TrustDenied, TrustWatched}
}

// believes reports whether a role:master is to be believed.
func (t Trust) believes() bool {
	return t == TrustConfirmed || t == TrustPromoted || t == TrustFollowed || t == TrustAlone
}

// Hellos is what the Sentinels' hellos say of the node; the zero Hellos means
// that nobody listens.
type Hellos struct {
	Trust  Trust
	Detail string
	Last   time.Time // when the last one was heard; zero for never
	Epoch  uint64    // the best config epoch of the name that decides
	Words  []Heard   // the last word of each Sentinel, by name and run id
}

// Heard is a word and when it was heard.
type Heard struct {
	Word
	Time time.Time
}

// How long a confirmation must stand uncontradicted before it is believed.
const (
	// standBacklog outlasts the queue of old hellos that a process reads when
	// it wakes; 20 ms of it were measured.
	standBacklog = 250 * time.Millisecond
	// standElection outlasts an election that the node's return comes too late
	// for: a Sentinel needs up to a second to see that the node is back, and
	// the hellos after 2.1 s at most show the election's epoch.
	standElection = 3200 * time.Millisecond
	// standUnrest outlasts an election that those hellos show: 2.5 s at most
	// from its begin until a Sentinel knows the outcome, 2.1 s until it says so.
	standUnrest = 5 * time.Second
	// standFollowed is how long the master that the Sentinels name must be seen
	// to follow the node: after a hang, what is seen may be the past.
	standFollowed = time.Second
	// standSilence is how long a Sentinel may take to connect again, after its
	// packets were lost: TCP's third retry to dial is 7 s after the first, the
	// fourth 15 s.
	standSilence = 15 * time.Second
)

// quickRestart is a pause in which no Sentinel has elected another master:
// down-after-milliseconds is at least as long.
const quickRestart = time.Second

// flipStall is how long the transaction that promotes a replica may stall it:
// CONFIG REWRITE waits for the disk, 1.07 s were measured. No other node can
// have been promoted meanwhile, for that takes twice the failover-timeout.
const flipStall = 3 * time.Second

// hushed is after how long the Sentinels are out of touch: each speaks every
// 2.1 s at most, and took 4.6 s to connect again.
const hushed = 5 * time.Second

// freshProcess is how old a process may be when it is first seen, for the time
// before it to be that in which Redis was dead, and not that in which it hung
// or did not let us in. Redis tells its age in whole seconds.
const freshProcess = 2 * time.Second

// quorate is how many Sentinels must confirm: one, which may run on the node's
// host, may be cut off together with it.
const quorate = 2

// Bounds on what somebody who can publish may make the guard remember.
const (
	maxNames     = 16
	maxSentinels = 64
)

// A guard judges from the Sentinels' hellos whether a role:master can be
// believed. It is pure: all times come from its caller, who calls it from one
// goroutine at a time.
//
// A node that becomes master while it is watched as a replica is believed,
// unless it was no Sentinel that promoted it (one would have closed the
// connection), or one that promoted it long ago. A node that is found to be
// master (the daemon has just begun, the process is a new one, or nothing was
// heard of it for a while) is not, until a Sentinel names it at the best epoch,
// and nobody contradicts. Either ends with the first hello of a higher epoch
// that names another node.
type guard struct {
	gap    time.Duration // a longer time without an answer ends the watch
	listed bool          // there are Sentinels, whether they are heard or not

	seen     time.Time // when the last question was put that was answered
	runID    string
	born     time.Time     // when the process was first seen; zero if that was not at its start
	dead     time.Duration // for how long nothing had answered before that
	role     Role
	conn     int    // the connection that answered last
	followed string // the master that it named when it last was a replica
	trust    Trust  // as long as it believes; else empty
	promoted time.Time
	began    time.Time     // when it was found to be master, or the watch began anew
	stand    time.Duration // of a confirmation in this life
	ear      time.Time     // since when somebody listens; zero while nobody does
	listened time.Time     // when somebody did first
	deafened time.Time     // when a subscription ended last
	unproven bool          // a promotion was doubted, for we had closed the connection ourselves
	alone    bool          // no Sentinel was ever heard, and it was waited for
	heard    time.Time
	remote   time.Time // when one on another host was heard
	again    time.Time // when one was heard after a silence
	murmur   time.Time // when one was heard, and not understood
	names    map[string]*view
}

// A view is what is known of one master name.
type view struct {
	best    Word // the last word at the highest epoch
	floor   uint64
	floored bool            // floor is set: the epoch that words against this node must exceed
	heard   time.Time       // when the last word was heard
	under   uint64          // the best epoch when the node began to follow whom it follows
	low     time.Time       // since when all words are below the best epoch
	lows    map[string]bool // the Sentinels that said them
	anew    bool            // one of them was not heard before
	current uint64          // the highest current epoch heard
	calm    uint64          // the same, when this node was last beyond doubt
	since   time.Time       // when the confirmation began that stands; zero for none
	voters  map[string]bool
	unrest  uint64 // the epoch of an election that the confirmation knows nothing of
	words   map[string]Heard
	follows time.Time // since when the master that it names follows this node
	follow  time.Time // when it was last seen to
}

// gapOf is how long a node may go unanswered and still count as watched: two
// checks, if that is more than a second, and never longer than a yes lives.
func gapOf(interval, timeout, maxAge time.Duration) time.Duration {
	return min(max(interval+timeout, quickRestart), maxAge)
}

// see takes an answered probe: asked when its question was put, now when its
// reply was there.
func (g *guard) see(asked, now time.Time, o Observation) {
	first, pause := g.seen.IsZero(), now.Sub(g.seen)
	newConn := o.Connection != g.conn
	restarted := !first && (o.RunID != g.runID || o.RunID == "" && newConn && o.Uptime <= pause)
	watched := !first && !restarted && (pause <= g.gap || g.role == RoleReplica && pause <= flipStall)
	was := g.role
	flipped := was == RoleReplica && o.Role == RoleMaster
	kept := o.Connection != 0 && !newConn
	// Where we closed it ourselves, it is the subscription that a Sentinel ends.
	unproven := o.Redialled && !g.listened.IsZero() && !g.deafened.After(g.seen)
	g.unproven = false
	g.seen, g.runID, g.role, g.conn = asked, o.RunID, o.Role, o.Connection
	if restarted {
		if g.born, g.dead = now, pause; o.Uptime > freshProcess {
			g.born = time.Time{}
		}
	}
	for _, v := range g.names {
		if o.Role == RoleMaster && slices.Contains(o.Followers, v.best.Master) {
			if v.follow = now; v.follows.IsZero() {
				v.follows = now
			}
		} else if g.trust != TrustFollowed || !watched || o.Role != RoleMaster || now.Sub(v.follow) > standElection {
			v.follows = time.Time{}
		}
		if g.trust == TrustFollowed && !v.best.Here && v.follows.IsZero() {
			g.trust, g.began, g.stand = "", now, standElection
		}
	}
	if o.Role == RoleReplica && (o.MasterAddr != g.followed || was == RoleMaster) {
		g.followed = o.MasterAddr
		for _, v := range g.names {
			v.under = v.best.Epoch
		}
	}
	switch {
	case !watched:
		g.doubt(now)
		g.stand = standElection
		if restarted && pause <= quickRestart {
			g.stand = 0
		} else if first && o.Uptime >= standSilence {
			g.stand = standBacklog
		}
	case flipped && (!g.inTouch(now, newConn) || g.superseded()):
		g.doubt(now)
		g.stand = standElection
	case flipped && (kept || unproven) && (g.listed || !g.heard.IsZero()):
		g.doubt(now)
		g.stand = standBacklog
		g.unproven = !kept
	case flipped:
		g.promote(now)
	}
	if o.Role != RoleMaster {
		g.trust, g.promoted, g.began = "", time.Time{}, now
	} else if g.trust == "" {
		g.settle(now)
	}
	if g.trust == TrustAlone && len(g.names) == 0 && !g.ear.IsZero() && now.Sub(g.ear) >= 2*hushed {
		g.alone = true
	}
	if watched && (g.trust != "" || o.Role == RoleReplica) {
		for _, v := range g.names {
			v.calm = v.current
		}
	}
}

// promote believes a promotion.
func (g *guard) promote(now time.Time) {
	g.trust, g.promoted = TrustPromoted, now
	g.raise()
}

// raise makes what is known of the epochs what a word against the node must
// exceed.
func (g *guard) raise() {
	for _, v := range g.names {
		v.floor, v.floored = v.best.Epoch, true
	}
}

// inTouch reports whether the Sentinels were heard of late; there is one if the
// connection was closed. Those that are not heard have not promoted the node
// now, but long ago, and somebody else since: what the network has lost comes
// late, with the first words after the silence.
func (g *guard) inTouch(now time.Time, closed bool) bool {
	heard := g.heard
	if heard.IsZero() && closed {
		if heard = g.listened; g.murmur.After(heard) {
			heard = g.murmur
		}
	}
	for _, t := range []time.Time{heard, g.remote} {
		if !t.IsZero() && now.Sub(t) > hushed {
			return false
		}
	}
	return g.again.IsZero() || now.Sub(g.again) >= standElection
}

// superseded reports whether another was promoted since the node began to
// follow the master that it followed last: then its own promotion is older
// than that, and comes late, by as long as the network was down.
func (g *guard) superseded() bool {
	for _, v := range g.names {
		if !v.best.Here && v.best.Epoch > v.under && differ(v.best.Master, g.followed) {
			return true
		}
	}
	return false
}

// differ reports whether two host:port are surely not the same: a name and an
// IP address may be.
func differ(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	ipA, errA := netip.ParseAddr(hostA)
	ipB, errB := netip.ParseAddr(hostB)
	switch {
	case portA != portB:
		return true
	case errA == nil && errB == nil:
		return ipA.Unmap() != ipB.Unmap()
	}
	return (errA == nil) == (errB == nil) && !strings.EqualFold(hostA, hostB)
}

// silent reports whether it is long that a word was heard. Before the first
// one it takes the Sentinels a while to find the node. The time in which the
// process was dead does not count: there was nothing to hear.
func (g *guard) silent(now, heard time.Time) bool {
	if heard.IsZero() {
		return !g.listened.IsZero() && now.Sub(g.listened) > standSilence
	}
	if heard.Before(g.born) {
		if heard = heard.Add(g.dead); heard.After(g.born) {
			heard = g.born
		}
	}
	return now.Sub(heard) > hushed
}

// listen says whether somebody listens from now on.
func (g *guard) listen(now time.Time, listens bool) {
	if g.ear = (time.Time{}); !listens {
		if g.deafened = now; g.unproven && now.Sub(g.began) < standBacklog && !g.superseded() {
			g.promote(now)
		}
		g.unproven = false
		return
	}
	if g.ear = now; g.listened.IsZero() {
		g.listened = now
	}
}

// doubt begins a life in which nothing is known of the node.
func (g *guard) doubt(now time.Time) {
	g.trust, g.promoted, g.began = "", time.Time{}, now
	for _, v := range g.names {
		v.since, v.voters, v.floored = time.Time{}, nil, false
	}
}

// settle believes a master that was found, if there is reason to.
func (g *guard) settle(now time.Time) {
	followed := false
	for _, v := range g.names {
		switch {
		case v.best.Here:
		case v.follows.IsZero() || now.Sub(v.follows) < standFollowed:
			return
		default:
			followed = true
		}
	}
	if followed {
		g.trust = TrustFollowed
	}
	for _, v := range g.names {
		if !v.since.IsZero() && now.Sub(v.since) >= g.wait(v) {
			g.trust = TrustConfirmed
		}
	}
	silent := g.heard.Before(g.began) && now.Sub(g.began) >= standSilence && now.Sub(g.murmur) >= standSilence
	if g.trust == "" && (silent || g.alone) {
		g.trust = TrustAlone
	}
	if g.trust != "" {
		g.raise()
	}
}

// wait is how long the confirmation of a name must stand.
func (g *guard) wait(v *view) time.Duration {
	wait := g.stand
	if v.unrest > 0 {
		wait = max(wait, standUnrest)
	}
	if len(v.voters) < quorate {
		wait = max(wait, standSilence)
	}
	return wait
}

// hear takes a hello, and reports whether it takes back a trust.
func (g *guard) hear(now time.Time, w Word) (denied bool) {
	if g.names == nil {
		g.names = make(map[string]*view)
	}
	v := g.names[w.Name]
	if v == nil {
		if len(g.names) >= maxNames {
			return false
		}
		v = &view{best: w, calm: w.Epoch, words: make(map[string]Heard)}
		// A name may be another for the same.
		if _, err := netip.ParseAddrPort(w.Master); err != nil || w.Here || !differ(w.Master, g.followed) {
			v.under = w.Epoch
		}
		g.names[w.Name] = v
	}
	if g.silent(now, g.heard) || !w.Local && g.silent(now, g.remote) {
		g.again = now
	}
	if g.heard, g.alone = now, false; !w.Local {
		g.remote = now
	}
	if now.Sub(v.heard) > hushed {
		v.low = time.Time{}
	}
	v.heard = now
	_, known := v.words[w.Sentinel]
	if known || len(v.words) < maxSentinels {
		v.words[w.Sentinel] = Heard{w, now}
	}
	g.forget(now, w.Name)
	v.current = max(v.current, w.Current)
	if w.Epoch < v.best.Epoch {
		// An old word, from a queue or from one who was cut off; or the
		// Sentinels were set up anew.
		if v.low.IsZero() {
			v.low, v.lows, v.anew = now, make(map[string]bool), false
		}
		if len(v.lows) < maxSentinels {
			v.lows[w.Sentinel] = true
			v.anew = v.anew || !known
		}
		if now.Sub(v.low) < standSilence || len(v.lows) < quorate && !v.anew && len(v.words) > 1 {
			return false
		}
		v.floored, v.since, v.calm, v.under = false, time.Time{}, w.Epoch, w.Epoch
	}
	v.low = time.Time{}
	before := v.best
	if v.best = w; w.Master != before.Master {
		v.follows = time.Time{}
	}
	switch {
	case !w.Here:
		v.since, v.voters = time.Time{}, nil
		if g.trust != "" && (!v.floored || w.Epoch > v.floor || before.Here && w.Epoch == before.Epoch && w.Epoch > 0) {
			g.trust, g.promoted, g.began, g.stand = "", time.Time{}, now, standElection
			return true
		}
	case g.trust != "":
		g.trust = TrustConfirmed
		v.floor, v.floored = w.Epoch, true
	case g.role == RoleMaster:
		var unrest uint64
		if w.Current > max(v.calm, w.Epoch) {
			unrest = w.Current
		}
		if v.since.IsZero() || w.Epoch != before.Epoch || unrest > v.unrest {
			v.since, v.voters, v.unrest = now, make(map[string]bool), unrest
		}
		if len(v.voters) < maxSentinels {
			v.voters[w.Sentinel] = true
		}
	}
	return false
}

// unclear takes a hello of which it cannot be told whether it names this node,
// and reports whether it takes back a trust: if what named this node before
// has another name at a higher epoch.
func (g *guard) unclear(now time.Time, h Hello) (denied bool) {
	if v := g.names[h.Name]; v != nil && v.best.Here && h.Master != v.best.Master && h.Epoch > v.best.Epoch {
		return g.hear(now, Word{Hello: h})
	}
	g.alone, g.murmur = false, now
	return false
}

// forget drops the names that all who used them have since given up.
func (g *guard) forget(now time.Time, but string) {
	for name, old := range g.names {
		given := name != but && now.Sub(old.heard) > standSilence
		for id := range old.words {
			since := false
			for _, v := range g.names {
				h, heard := v.words[id]
				since = since || heard && h.Time.Sub(old.heard) > standSilence
			}
			given = given && since
		}
		if given {
			delete(g.names, name)
		}
	}
}

// denies is a name whose best word names another node; nil if there is none.
func (g *guard) denies() *view {
	for _, name := range slices.Sorted(maps.Keys(g.names)) {
		if v := g.names[name]; !v.best.Here {
			return v
		}
	}
	return nil
}

// hellos is what the guard knows.
func (g *guard) hellos(now time.Time) Hellos {
	h := Hellos{Trust: g.trust, Last: g.heard}
	var decides *view
	for _, name := range slices.Sorted(maps.Keys(g.names)) {
		v := g.names[name]
		if decides == nil || v.best.Epoch > decides.best.Epoch {
			decides = v
		}
		for _, id := range slices.Sorted(maps.Keys(v.words)) {
			h.Words = append(h.Words, v.words[id])
		}
	}
	if v := g.denies(); g.role == RoleReplica {
		h.Trust = TrustWatched
	} else if h.Trust == "" && v != nil {
		h.Trust, decides = TrustDenied, v
	} else if h.Trust == "" {
		h.Trust = TrustUnconfirmed
	}
	if decides != nil {
		h.Epoch = decides.best.Epoch
	}
	h.Detail = g.detail(now, h.Trust, decides)
	return h
}

func (g *guard) detail(now time.Time, t Trust, v *view) string {
	switch t {
	case TrustDenied:
		return fmt.Sprintf("the Sentinels name %s as master of %s, at epoch %d", v.best.Master, v.best.Name, v.best.Epoch)
	case TrustConfirmed:
		return fmt.Sprintf("the Sentinels name this node as master of %s, at epoch %d", v.best.Name, v.best.Epoch)
	case TrustPromoted:
		return fmt.Sprintf("promoted %v ago while it was watched", now.Sub(g.promoted).Round(time.Millisecond))
	case TrustWatched:
		return "its promotion would be believed at once"
	case TrustFollowed:
		return "the master that the Sentinels still name follows this node"
	case TrustAlone:
		return "no Sentinel is to be heard, so its own word decides"
	}
	if v != nil && !v.since.IsZero() {
		return fmt.Sprintf("the Sentinels name this node as master of %s; believed if that stands for %v more", v.best.Name, max(g.wait(v)-now.Sub(v.since), 0).Round(time.Millisecond))
	}
	if !g.murmur.IsZero() && now.Sub(g.murmur) < standSilence {
		return fmt.Sprintf("found to be master, and it cannot be told whom the Sentinel names that was heard %v ago", now.Sub(g.murmur).Round(time.Millisecond))
	}
	return fmt.Sprintf("found to be master, and no Sentinel has confirmed it in %v; without any Sentinel it is believed after %v", max(now.Sub(g.began), 0).Round(time.Millisecond), standSilence)
}
