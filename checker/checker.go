// Package checker tells whether a Redis node is the replication master, and
// why not.
//
// A check has three steps, each usable alone: [Redis.Probe] asks the node for
// facts (an [Observation]), [Policy.Judge] holds them against what is wanted
// (a [Verdict] with a [Reason] of a closed set), and the reason's [Answer] is
// yes, no or unknown. [Run] takes all three; a [Monitor] takes them again and
// again.
//
// The package never says yes without knowing it: a late, truncated, ambiguous
// or missing reply is an error, and every error is a verdict other than
// [Yes]. The zero value of every type is no yes either.
//
// A probe speaks RESP2 by itself, because go-redis costs 1.43 to 1.50 times as
// much per exec; go-redis is what the daemon's long-lived connections use, in
// package sentinel/watch.
//
// # Glossary
//
// The node is the one Redis server that is watched. A probe is one question to
// it. An observation is what it said; a witness is another server whose word
// counts, and a claim is what a Sentinel says about the master of a name. The
// guard (package sentinel) weighs the claims; its state says whether a
// role:master is believed. An epoch numbers the failovers of the Sentinels: of
// two claims, the one of the higher epoch is newer. A flip is the moment at which
// a replica becomes master. A gap is a time without answers that is too long to
// know what happened in it. A verdict is the outcome of one check; a status is
// what a monitor made of the last ones. An output gives the answer to somebody.
package checker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// DefaultTimeout bounds a probe whose context has no deadline of its own: the
// total over reading the password, name lookup, dial, TLS, AUTH and the whole
// reply.
const DefaultTimeout = 500 * time.Millisecond

// A Role is what a node is to its data set.
type Role string

// The roles a node can have, and RoleAny, which can only be wanted.
const (
	RoleMaster        Role = "master"
	RoleReplica       Role = "replica"        // "slave" on the wire of Redis and Valkey, "replica" on Dragonfly's
	RoleActiveReplica Role = "active-replica" // KeyDB: takes writes and follows another node, so neither of the above
	RoleSentinel      Role = "sentinel"       // no data node at all
	RoleAny           Role = "any"            // in a [Policy]: a master or a replica
)

// An Answer is what a consumer acts upon.
type Answer string

// The three answers. Only Yes lets a node hold the VIP.
const (
	Yes     Answer = "yes"     // the node answered, has the wanted role, and every guard holds
	No      Answer = "no"      // the node answered, and the role or a guard says no
	Unknown Answer = "unknown" // no answer that can be trusted
)

// A Reason says in one word why a verdict is what it is. The set is closed,
// and the words are the same in every output.
type Reason string

// OK is the only reason of a [Yes].
const OK Reason = "ok"

// What Redis itself said, in the order in which [Policy.Rules] asks.
const (
	ReasonRole     Reason = "role"     // it has another role than the wanted one
	ReasonLoading  Reason = "loading"  // it is still reading its data set into memory
	ReasonCluster  Reason = "cluster"  // it is a Redis Cluster node, where a master may own no slots
	ReasonLink     Reason = "link"     // a replica whose link to its master is down
	ReasonSyncing  Reason = "syncing"  // a replica that is being given the data set
	ReasonLag      Reason = "lag"      // a replica that is too far behind its master
	ReasonReplicas Reason = "replicas" // a master with too few online replicas
)

// What the Sentinels, or the lack of them, make of a role:master; and a guard
// that only counts where they say nothing.
const (
	ReasonSentinel    Reason = "sentinel"    // they name another node
	ReasonFailover    Reason = "failover"    // they, or the node itself, are handing over to another
	ReasonIsolated    Reason = "isolated"    // neither a majority of them nor a replica is in touch
	ReasonNoQuorum    Reason = "no-quorum"   // too few of the listed ones answer
	ReasonUnconfirmed Reason = "unconfirmed" // none has been heard yet, or not for long enough
	ReasonUptime      Reason = "uptime"      // the process is too young to be believed
)

// No answer, or none that can be trusted.
const (
	ReasonRefused     Reason = "refused"     // nothing listens there
	ReasonUnreachable Reason = "unreachable" // the name, the route or the host does not lead there
	ReasonTimeout     Reason = "timeout"     // the total deadline passed
	ReasonAuth        Reason = "auth"        // the credentials are missing, wrong or not wanted
	ReasonPermission  Reason = "permission"  // the user may not ask or open the socket, or another user listens there
	ReasonTLS         Reason = "tls"         // the TLS handshake failed, or one side does not speak it
	ReasonMaxClients  Reason = "maxclients"  // the server accepts no more connections
	ReasonBusy        Reason = "busy"        // a script or function blocks the server
	ReasonProtocol    Reason = "protocol"    // the reply is none that a Redis server would give
)

// What a [Monitor] says of itself.
const (
	ReasonStarting Reason = "starting" // no check is done yet
	ReasonStale    Reason = "stale"    // the last check is too old to be believed
	ReasonDisabled Reason = "disabled" // the operator has taken the node out
	ReasonStopping Reason = "stopping" // the daemon is being stopped
)

// Reasons returns the closed set in the order of the documentation.
func Reasons() []Reason {
	return []Reason{
		OK, ReasonRole, ReasonLoading, ReasonCluster, ReasonLink, ReasonSyncing, ReasonLag, ReasonReplicas,
		ReasonSentinel, ReasonFailover, ReasonIsolated, ReasonNoQuorum, ReasonUnconfirmed, ReasonUptime,
		ReasonRefused, ReasonUnreachable, ReasonTimeout, ReasonAuth, ReasonPermission, ReasonTLS,
		ReasonMaxClients, ReasonBusy, ReasonProtocol,
		ReasonStarting, ReasonStale, ReasonDisabled, ReasonStopping,
	}
}

// Answer returns the answer that the reason stands for; a reason outside the
// closed set is [Unknown].
func (r Reason) Answer() Answer {
	switch r {
	case OK:
		return Yes
	case ReasonRole, ReasonLoading, ReasonCluster, ReasonLink, ReasonSyncing, ReasonLag, ReasonReplicas,
		ReasonSentinel, ReasonFailover, ReasonIsolated, ReasonNoQuorum, ReasonUnconfirmed, ReasonUptime,
		ReasonStarting, ReasonDisabled, ReasonStopping:
		return No
	}
	return Unknown
}

// A Stage is the part of a probe that failed.
type Stage string

// The stages in the order in which a probe goes through them.
const (
	StagePassword Stage = "password" // reading the password, before any network I/O
	StageDial     Stage = "dial"     // name lookup and connect
	StageTLS      Stage = "tls"      // handshake
	StageAuth     Stage = "auth"     // AUTH
	StageReply    Stage = "reply"    // INFO and its reply
)

// An Observation is what a node said of itself, and others said of it: facts,
// no opinion. A number the node did not report is zero, or negative where that
// is said; a duration it did not report is negative.
type Observation struct {
	Role     Role
	WireRole string // the word the node used, such as "slave"

	Server  string // the name of the product: Redis, Valkey or Dragonfly
	Version string // of that
	RunID   string // changes with every start of the process
	Uptime  time.Duration
	Loading bool // the data set is still being read
	Cluster bool // a Redis Cluster node
	TCPPort int  // on which it listens

	Replicas int // online replicas (state=online) of a master
	// GoodReplicas are those of them that lag by min-replicas-max-lag at most,
	// where the server counts them, else by 10 s; negative if it is no master.
	GoodReplicas int
	Links        []Link   // these replicas, one by one
	Acknowledged int      // online replicas whose last acknowledgement is less than a second old, in Redis' whole seconds
	Offset       int64    // bytes of the replication stream written or applied
	Failover     string   // master_failover_state, Redis 6.2 and later
	Followers    []string // host:port of the online replicas that were heard within the last second or two
	// Unreplicated is how many bytes of the stream the closest of these has not
	// acknowledged; negative if there is none.
	Unreplicated int64

	MasterAddr string        // host:port that a replica follows
	LinkUp     bool          // a replica's master_link_status
	Syncing    bool          // a replica's master_sync_in_progress
	LastIO     time.Duration // since a replica heard its master

	// Behind is the bytes of the master's stream that a replica has not applied;
	// negative if the master was not asked, or did not say.
	Behind   int64
	Standing Standing // what the Sentinels make of the node by their hellos, where somebody listens
	Quorum   Quorum   // what the listed Sentinels answered, if they were asked
	// FormerAnswers says that the node was promoted, and that the master which it
	// followed before answers and is no replica.
	FormerAnswers bool

	// Suspended is for how long the host was suspended since the question was put
	// that the node answered before this one.
	Suspended time.Duration
	// Connection is the number of the connection that answered; 0 if that is
	// not known. A Sentinel that changes a node's role closes all of them.
	Connection int
	// Redialled says that we closed the connection before this one.
	Redialled bool
	// StaleCredentials is why the next connection would be refused, as far as that
	// is known: this one stays authenticated when the password is changed. It is
	// an [*Error] with a hint.
	StaleCredentials error
}

// A Link is an online replica of a master, as the master knows it. What is negative
// is not known.
type Link struct {
	Address string // host:port
	Lag     int64  // seconds since it was heard
	Offset  int64  // that it acknowledged
}

// An Error is a probe that gave no answer which can be trusted. Its text
// never holds a secret, nor words of the server that could echo one.
type Error struct {
	Reason  Reason // one whose Answer is [Unknown], or [ReasonLoading]
	Stage   Stage
	Address string // as it was asked for
	Err     error  // the cause
	Hint    string // what to do about it; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.Address, e.Stage, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// A Verdict is the outcome of a check.
type Verdict struct {
	Reason Reason
	Detail string // the facts behind it, one line
	Hint   string // what to do about it, one line; may be empty
}

// Answer is the reason's answer.
func (v Verdict) Answer() Answer { return v.Reason.Answer() }

// A ProbeFunc asks one node for facts. It must return by the deadline of ctx;
// any error means that nothing is known, whatever the Observation holds.
type ProbeFunc func(ctx context.Context) (Observation, error)

// A Check is one probe and what was made of it.
type Check struct {
	Time        time.Time // when the probe began
	Duration    time.Duration
	Observation Observation
	Err         error // nil if the node answered
	Verdict     Verdict
	// Suspended is for how long the host had ever been suspended when the probe
	// began: see [Monitor.Suspended].
	Suspended time.Duration
}

// Run probes once within timeout ([DefaultTimeout] if it is not positive) and
// judges. An answer that arrives after the deadline is a timeout, even if the
// probe called it a success.
func Run(ctx context.Context, timeout time.Duration, probe ProbeFunc, policy Policy) Check {
	c := ask(ctx, timeout, probe)
	c.Verdict = policy.Judge(c.Observation, c.Err)
	return c
}

// ask is a [Run] without its verdict.
func ask(ctx context.Context, timeout time.Duration, probe ProbeFunc) Check {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	c := Check{Time: time.Now()}
	d := &deadline{Context: ctx, at: c.Time.Add(timeout)}
	defer d.stop()
	c.Observation, c.Err = probe(d)
	c.Duration = time.Since(c.Time)
	if c.Err == nil && c.Duration > timeout {
		c.Err = &Error{Reason: ReasonTimeout, Stage: StageReply,
			Err: fmt.Errorf("the answer came after %v, too late", c.Duration.Round(time.Millisecond))}
	}
	if c.Err != nil {
		c.Observation = Observation{}
	}
	return c
}

// verdictOf is the verdict on a failed probe; an error of an unknown kind is
// a broken protocol, which is never a yes.
func verdictOf(err error) Verdict {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Reason != "" && e.Reason != OK {
			// The outputs print the reason before it, and crypto/tls the stage.
			detail := strings.TrimPrefix(fmt.Sprint(e.Err), string(e.Stage)+": ")
			if string(e.Stage) != string(e.Reason) {
				detail = string(e.Stage) + ": " + detail
			}
			return Verdict{Reason: e.Reason, Detail: detail, Hint: e.Hint}
		}
	}
	return Verdict{Reason: ReasonProtocol, Detail: err.Error()}
}
