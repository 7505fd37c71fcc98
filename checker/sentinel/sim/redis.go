package sim

import (
	"fmt"
	"time"

	"redis-is-master/checker"
)

// none is no node, no Sentinel.
const none = -1

// Periods of a Redis.
const (
	replicationCron = time.Second            // replicationCron runs at 1 Hz
	failoverCron    = 100 * time.Millisecond // and at 10 Hz while a FAILOVER is under way
	replicaPing     = 10                     // repl-ping-replica-period, in runs of replicationCron
	replTimeout     = 60 * time.Second       // repl-timeout
	busyThreshold   = 5 * time.Second        // busy-reply-threshold
	rewriteLeast    = 2 * time.Millisecond   // CONFIG REWRITE
	rewriteMost     = 9 * time.Millisecond
	noticeable      = 50 * time.Millisecond // a shorter stall is not written into the history
)

// A failoverState is master_failover_state of a node.
type failoverState string

const (
	noFailover         failoverState = "no-failover"
	failoverWaiting    failoverState = "waiting-for-sync"
	failoverInProgress failoverState = "failover-in-progress"
)

// A Redis is one data node.
type Redis struct {
	process
	id       int
	runID    string // drawn at every start
	started  time.Duration
	priority int
	noted    string // what the history says of it

	master     int // the node that it follows; none for a master
	configured int // what redis.conf says of that
	link       *conn
	linkUp     bool
	syncing    bool
	downSince  time.Duration
	lastIO     time.Duration
	data       []int // the writes that it has, in their order
	offset     int64 // of the replication stream
	cronLoops  int

	clients  []*redisClient
	replicas []*replica

	loadingUntil time.Duration
	busyUntil    time.Duration
	pausedUntil  time.Duration
	pauseAll     bool
	misconf      bool
	slowDisk     time.Duration // how long CONFIG REWRITE takes
	readOnlyConf bool          // CONFIG REWRITE fails

	failover       failoverState
	failoverTarget int
	failoverEnd    time.Duration
}

// A redisClient is a connection as the server sees it.
type redisClient struct {
	conn       *conn
	subscribed func(Hello) // what to do with a hello at the other side; nil for type normal
	replica    bool
	blocked    bool // postponed by CLIENT PAUSE, with all that comes after
	postponed  []command
}

// A replica is what a master knows of one.
type replica struct {
	client *redisClient
	node   int
	online bool
	ackAt  time.Duration
	ackOff int64
}

// A command is one that a client sends.
type command struct {
	class class
	// run carries it out and answers; denied is the error that the node answers
	// instead, or empty.
	run func(denied string)
}

// A class is what commands have in common that are refused or postponed.
type class int

const (
	classInfo class = iota
	classPing
	classPublish
	classSubscribe
	classExec // the transaction of a Sentinel
	classWrite
	classReplica // PSYNC and REPLCONF
)

func newRedis(w *World, id int) *Redis {
	r := &Redis{process: process{w: w, host: id}, id: id, master: none, configured: none, priority: 100}
	r.failover = noFailover
	if id != 0 {
		r.master, r.configured = 0, 0
	}
	return r
}

// boot is the begin of a history: the node has run for an hour.
func (r *Redis) boot() {
	r.start(0)
	r.started = r.w.now - time.Hour
}

// start starts the process. It has the role that its configuration gives it.
func (r *Redis) start(loading time.Duration) {
	if r.alive || !r.w.hosts[r.host].up {
		return
	}
	r.begin()
	r.runID = fmt.Sprintf("%040x", r.w.random.Uint64())
	r.started = r.w.now
	r.master = r.configured
	r.linkUp, r.syncing, r.link, r.misconf = false, false, nil, false
	r.downSince, r.lastIO = r.w.now, r.w.now
	r.clients, r.replicas = nil, nil
	r.busyUntil, r.pausedUntil, r.failover = 0, 0, noFailover
	r.loadingUntil = r.w.now + loading
	r.note()
	if loading > 0 {
		r.after(loading, r.note)
	}
	phase := r.w.between(0, replicationCron)
	r.after(phase, func() {
		r.cron()
		r.every(func() time.Duration { return replicationCron }, r.cron)
	})
	if r.master != none {
		r.connect()
	}
}

// kill ends the process; power says whether its host still has some.
func (r *Redis) kill(power bool) {
	if r.alive {
		r.end(power)
		r.note()
	}
}

// note writes the state of the node into the history.
func (r *Redis) note() {
	what := Master
	switch {
	case !r.alive:
		what = Down
	case r.stops > 0:
		what = Hung
	case r.loading():
		what = Loading
	case r.master != none:
		what = Replica
	}
	r.noted = what
	r.w.History.add(r.w.now, r.id, RoleEvent, what)
}

func (r *Redis) loading() bool { return r.w.now < r.loadingUntil }

// hang stops the process for a time, as SIGSTOP and SIGCONT do, or a disk.
// then happens at the end of it, before anything else.
func (r *Redis) hang(d time.Duration, then func()) {
	life := r.life
	r.stop()
	if d >= noticeable {
		r.note()
	}
	r.w.after(d, func() {
		if !r.alive || r.life != life {
			return
		}
		r.stops--
		switch {
		case then == nil:
		case r.stops > 0: // it was stopped by something else, too
			r.waiting = append([]func(){then}, r.waiting...)
		default:
			then()
		}
		if d >= noticeable || r.noted == Hung {
			r.note()
		}
		r.stops++
		r.resume(life)
	})
}

// accept is that of a connection.
func (r *Redis) accept(c *conn) {
	client := &redisClient{conn: c}
	c.server = client
	c.end[1].onClose = func() { r.drop(client) }
	r.clients = append(r.clients, client)
}

// drop forgets a client that is gone.
func (r *Redis) drop(client *redisClient) {
	for i, c := range r.clients {
		if c == client {
			r.clients = append(r.clients[:i:i], r.clients[i+1:]...)
			break
		}
	}
	for i, x := range r.replicas {
		if x.client == client {
			r.replicas = append(r.replicas[:i:i], r.replicas[i+1:]...)
			break
		}
	}
}

// request sends a command from the dialling side.
func request(c *conn, r *Redis, cmd command) {
	c.send(0, func() { r.handle(c.server.(*redisClient), cmd) })
}

// handle models processCommand: what a state forbids is denied, and what a
// pause postpones waits together with all that comes after it on the
// connection.
func (r *Redis) handle(c *redisClient, cmd command) {
	if c.blocked || r.postpones(cmd.class) {
		c.blocked = true
		c.postponed = append(c.postponed, cmd)
		return
	}
	cmd.run(r.refuses(cmd.class))
}

// postpones models isPausedActions: a pause of writes postpones PUBLISH, too,
// for it may replicate.
func (r *Redis) postpones(c class) bool {
	if r.w.now >= r.pausedUntil || c == classReplica {
		return false
	}
	return r.pauseAll || c == classWrite || c == classPublish
}

// pause is CLIENT PAUSE.
func (r *Redis) pause(d time.Duration, all bool) {
	r.pausedUntil, r.pauseAll = r.w.now+d, all
	r.after(d, func() {
		if r.w.now >= r.pausedUntil {
			r.unpause()
		}
	})
}

func (r *Redis) unpause() {
	r.pausedUntil = 0
	for _, c := range append([]*redisClient(nil), r.clients...) {
		postponed := c.postponed
		c.blocked, c.postponed = false, nil
		for _, cmd := range postponed {
			r.handle(c, cmd)
		}
	}
}

// refuses is the error that a command gets because of the node's state.
func (r *Redis) refuses(c class) string {
	switch {
	case r.w.now < r.busyUntil && c != classReplica:
		return "BUSY"
	case r.loading() && c != classInfo && c != classPublish && c != classSubscribe:
		return "LOADING"
	case r.misconf && r.master == none && (c == classPing || c == classWrite):
		return "MISCONF"
	case r.master != none && c == classWrite:
		return "READONLY"
	}
	return ""
}

// busy runs a script that takes so long: nothing is answered first, and BUSY
// then.
func (r *Redis) busy(d time.Duration) {
	r.busyUntil = r.w.now + d
	r.hang(min(d, busyThreshold), nil)
}

// killScript is SCRIPT KILL.
func (r *Redis) killScript() { r.busyUntil = 0 }

// reconfigure models the transaction of sentinelSendSlaveOf: SLAVEOF, CONFIG
// REWRITE, CLIENT KILL TYPE normal and pubsub. A disk that is slow stalls all
// of it.
func (r *Redis) reconfigure(by *redisClient, master int, cause Cause) {
	d := r.slowDisk + r.w.between(rewriteLeast, rewriteMost)
	r.hang(d, func() {
		r.follow(master, cause)
		if !r.readOnlyConf {
			r.configured = r.master
		}
		r.killClients(by)
	})
}

// killClients models CLIENT KILL TYPE normal and TYPE pubsub, with SKIPME: a
// link to a replica is of another type.
func (r *Redis) killClients(by *redisClient) {
	for _, c := range append([]*redisClient(nil), r.clients...) {
		if c != by && !c.replica {
			r.drop(c)
			c.conn.close(1)
		}
	}
}

// follow models replicaofCommand, with none for NO ONE.
func (r *Redis) follow(master int, cause Cause) {
	if r.failover != noFailover || master == r.id {
		return // REPLICAOF is not allowed while failing over
	}
	if master == none && r.master == none { // a Sentinel that wanted it master now has it
		r.w.History.promoted(r.w.now, r.id, cause)
		return
	}
	if master == r.master {
		return
	}
	if master == none {
		r.promote(cause)
		return
	}
	r.setMaster(master)
	r.note()
}

// promote models replicationUnsetMaster: it has its replicas connect again, for
// the replication ID has changed.
func (r *Redis) promote(cause Cause) {
	r.dropLink()
	r.master, r.linkUp, r.syncing = none, false, false
	r.dropReplicas()
	r.w.History.promoted(r.w.now, r.id, cause)
	r.note()
}

func (r *Redis) dropReplicas() {
	for _, x := range append([]*replica(nil), r.replicas...) {
		r.drop(x.client)
		x.client.conn.close(1)
	}
}

// setMaster models replicationSetMaster: it keeps its replicas.
func (r *Redis) setMaster(master int) {
	r.dropLink()
	r.master, r.linkUp, r.syncing = master, false, false
	r.downSince = r.w.now
	r.connect()
}

func (r *Redis) dropLink() {
	if r.link != nil {
		r.link.close(0)
	}
	r.link = nil
}

// connect models connectWithMaster and the handshake after it.
func (r *Redis) connect() {
	m := r.w.nodes[r.master]
	r.lastIO = r.w.now
	c := r.w.dial(&r.process, &m.process, m.accept, func() { r.linkLost() })
	r.link = c
	isFailover := r.failover == failoverInProgress
	request(c, m, command{class: classReplica, run: func(denied string) {
		if denied == "" {
			m.psync(c, r, isFailover)
		} else {
			c.send(1, func() { r.linkRefused(c) })
		}
	}})
}

// linkLost models replicationHandleMasterDisconnection: a link that stood is
// made again at once, another at the next run of replicationCron.
func (r *Redis) linkLost() {
	stood := r.linkUp
	if r.linkUp {
		r.downSince = r.w.now
	}
	r.link, r.linkUp, r.syncing = nil, false, false
	if r.failover == failoverInProgress {
		r.abortFailover()
		return
	}
	if stood && r.master != none {
		r.connect()
	}
}

func (r *Redis) linkRefused(c *conn) {
	if r.link != c {
		return
	}
	r.dropLink()
	r.linkUp = false
	if r.failover == failoverInProgress {
		r.abortFailover()
	}
}

// psync models syncCommand.
func (r *Redis) psync(c *conn, from *Redis, isFailover bool) {
	client := c.server.(*redisClient)
	refuse := func() { c.send(1, func() { from.linkRefused(c) }) }
	if r.loading() {
		refuse()
		return
	}
	if isFailover {
		if r.master == none {
			refuse()
			return
		}
		r.promote(Cause{Kind: CauseCommand, Sentinel: none})
	}
	if r.failover != noFailover || r.master != none && !r.linkUp {
		refuse() // NOMASTERLINK
		return
	}
	for _, x := range append([]*replica(nil), r.replicas...) {
		if x.node == from.id {
			r.drop(x.client)
		}
	}
	client.replica = true
	x := &replica{client: client, node: from.id, ackAt: r.w.now}
	r.replicas = append(r.replicas, x)
	if isPrefix(from.data, r.data) {
		x.online, x.ackOff = true, from.offset
		r.sendData(x, from)
		return
	}
	r.fullSync(x, from)
}

// fullSync models a full synchronisation: the child writes the data set, the
// replica reads it.
func (r *Redis) fullSync(x *replica, to *Redis) {
	c := x.client.conn
	c.send(1, func() {
		if to.link == c {
			to.syncing, to.lastIO = true, to.w.now
			to.dropReplicas()
		}
	})
	r.after(r.w.between(20*time.Millisecond, r.w.Config.SyncTime), func() {
		if c.isOpen(1) {
			x.online, x.ackAt = true, r.w.now
			r.sendData(x, to)
		}
	})
}

// sendData gives a replica what it lacks.
func (r *Redis) sendData(x *replica, to *Redis) {
	c, data, offset := x.client.conn, r.data[:len(r.data):len(r.data)], r.offset
	c.send(1, func() {
		if to.link != c {
			return
		}
		to.data, to.offset = data, offset
		to.linkUp, to.syncing, to.lastIO = true, false, to.w.now
		if to.failover == failoverInProgress {
			to.failover = noFailover
			to.unpause()
		}
		to.sendAck()
	})
}

// isPrefix reports whether a is how b began. Every write has a number of its
// own, so that the last one tells.
func isPrefix(a, b []int) bool {
	return len(a) <= len(b) && (len(a) == 0 || a[len(a)-1] == b[len(a)-1])
}

// feed models replicationFeedSlaves: apply is what a replica does with it.
func (r *Redis) feed(apply func(*Redis)) {
	r.offset++
	for _, x := range r.replicas {
		if !x.online {
			continue
		}
		to, c, offset := r.w.nodes[x.node], x.client.conn, r.offset
		c.send(1, func() {
			if to.link != c || !to.linkUp {
				return
			}
			to.lastIO = to.w.now
			if apply != nil {
				apply(to)
			}
			to.feed(apply)
			to.offset = offset
		})
	}
}

// write takes a write of a client.
func (r *Redis) write(id int) {
	r.data = append(r.data, id)
	r.feed(func(to *Redis) { to.data = append(to.data, id) })
}

// publish models publishCommand: a master's goes to its replicas, too, whose
// subscribers so hear it twice.
func (r *Redis) publish(h Hello) {
	r.deliver(h)
	if r.master == none {
		r.feed(func(to *Redis) { to.deliver(h) })
	}
}

func (r *Redis) deliver(h Hello) {
	for _, c := range r.clients {
		if hear := c.subscribed; hear != nil {
			c.conn.send(1, func() { hear(h) })
		}
	}
}

// cron models replicationCron.
func (r *Redis) cron() {
	now := r.w.now
	if r.master != none && r.link != nil && now-r.lastIO > replTimeout {
		r.dropLink()
		if r.linkUp {
			r.downSince = now
		}
		r.linkUp, r.syncing = false, false
	}
	if r.master != none && r.link == nil && !r.loading() {
		r.connect()
	}
	r.sendAck()
	if r.cronLoops%replicaPing == 0 && r.failover == noFailover && len(r.replicas) > 0 && r.master == none {
		r.feed(nil)
	}
	r.cronLoops++
	for _, x := range append([]*replica(nil), r.replicas...) {
		if x.online && now-x.ackAt > replTimeout {
			r.drop(x.client)
			x.client.conn.close(1)
		}
	}
}

// sendAck models replicationSendAck.
func (r *Redis) sendAck() {
	if r.master == none || !r.linkUp || r.link == nil {
		return
	}
	m, c, offset := r.w.nodes[r.master], r.link, r.offset
	c.send(0, func() {
		for _, x := range m.replicas {
			if x.client.conn == c {
				x.ackAt, x.ackOff = m.w.now, offset
			}
		}
	})
}

// startFailover models failoverCommand: TO a node, or to any for none.
func (r *Redis) startFailover(target int, timeout time.Duration) {
	if r.master != none || r.failover != noFailover || len(r.replicas) == 0 {
		return
	}
	r.failover, r.failoverTarget, r.failoverEnd = failoverWaiting, target, 0
	if timeout > 0 {
		r.failoverEnd = r.w.now + timeout
	}
	r.pausedUntil, r.pauseAll = r.w.now+24*time.Hour, false
	for _, x := range r.replicas { // REPLCONF GETACK
		if to := r.w.nodes[x.node]; x.online {
			x.client.conn.send(1, to.sendAck)
		}
	}
	r.after(failoverCron, r.updateFailover)
}

// updateFailover models updateFailoverStatus.
func (r *Redis) updateFailover() {
	if r.failover != failoverWaiting {
		return
	}
	if r.failoverEnd > 0 && r.w.now >= r.failoverEnd {
		r.abortFailover()
		return
	}
	for _, x := range r.replicas {
		if x.online && x.ackOff == r.offset && (r.failoverTarget == none || r.failoverTarget == x.node) {
			r.failover = failoverInProgress
			r.setMaster(x.node)
			r.note()
			return
		}
	}
	r.after(failoverCron, r.updateFailover)
}

// abortFailover models its namesake.
func (r *Redis) abortFailover() {
	if r.failover == failoverInProgress {
		r.failover = noFailover
		r.promote(Cause{Kind: CauseAborted, Sentinel: none})
	}
	r.failover = noFailover
	r.unpause()
}

// An info is what a Sentinel reads in the INFO of a node.
type info struct {
	runID    string
	master   int // none: role:master
	replicas []int
	linkUp   bool
	linkDown time.Duration // master_link_down_since_seconds
	priority int
	offset   int64
}

func (r *Redis) info() info {
	i := info{runID: r.runID, master: r.master, linkUp: r.linkUp, priority: r.priority, offset: r.offset}
	for _, x := range r.replicas {
		i.replicas = append(i.replicas, x.node)
	}
	if r.master != none && !r.linkUp {
		if i.linkDown = (r.w.now - r.downSince).Truncate(time.Second); i.linkDown == 0 {
			i.linkDown = -time.Second
		}
	}
	return i
}

// observe is what the daemon reads in the INFO of the node.
func (r *Redis) observe() checker.Observation {
	o := checker.Observation{
		Role: checker.RoleMaster, WireRole: "master", Version: r.w.Config.Version, RunID: r.runID,
		Uptime: (r.w.now - r.started).Truncate(time.Second), Loading: r.loading(), TCPPort: port, Offset: r.offset,
		Failover: string(r.failover), LastIO: -1, Behind: -1, GoodReplicas: -1, Unreplicated: -1,
	}
	if r.master != none {
		o.Role, o.WireRole = checker.RoleReplica, "slave"
		o.MasterAddr = r.w.Config.Address(r.master)
		o.LinkUp, o.Syncing = r.linkUp, r.syncing
		if r.linkUp {
			o.LastIO = (r.w.now - r.lastIO).Truncate(time.Second)
		}
		return o
	}
	o.GoodReplicas = 0
	for _, x := range r.replicas {
		if !x.online {
			continue
		}
		o.Replicas++
		lag := r.w.now.Truncate(time.Second) - x.ackAt.Truncate(time.Second)
		if lag <= 10*time.Second {
			o.GoodReplicas++
		}
		if lag == 0 {
			o.Acknowledged++
		}
		if lag <= time.Second {
			o.Followers = append(o.Followers, r.w.Config.IP(x.node))
			if behind := max(r.offset-x.ackOff, 0); o.Unreplicated < 0 || behind < o.Unreplicated {
				o.Unreplicated = behind
			}
		}
	}
	return o
}
