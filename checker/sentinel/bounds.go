package sentinel

import "time"

// The times and numbers that the Guard goes by, each with what it was measured
// or read from.

// quickRestart is a pause in which no Sentinel has elected another master:
// down-after-milliseconds is at least as long.
const quickRestart = time.Second

// maxPromotionStall is how long the transaction that promotes a replica may
// stall it: CONFIG REWRITE waits for the disk; 1.07 s were measured. No other
// node can have been promoted meanwhile, for that takes twice the
// failover-timeout.
const maxPromotionStall = 3 * time.Second

// maxFreshUptime is the highest uptime of a process, when it is first seen, with
// which the time before counts as downtime and not as a hang. Redis tells whole
// seconds.
const maxFreshUptime = 2 * time.Second

// silentAfter is after how long the Sentinels are out of touch: each speaks
// every 2.1 s at most, and took 4.6 s to connect again.
const silentAfter = 5 * time.Second

// How long a confirmation must stand uncontradicted before it is believed.
const (
	// holdAfterWake outlasts the queue of old hellos that a process reads when
	// it wakes; 20 ms of it were measured.
	holdAfterWake = 250 * time.Millisecond
	// holdElection outlasts an election that the node's return comes too late
	// for: a Sentinel needs up to a second to see that the node is back, and
	// the hellos after 2.1 s at most show the election's epoch.
	holdElection = 3200 * time.Millisecond
	// holdPendingElection outlasts an election that those hellos show: 2.5 s at
	// most from its begin until a Sentinel knows the outcome, 2.1 s until it
	// says so.
	holdPendingElection = 5 * time.Second
	// holdFollowed is how long the master that the Sentinels name must be seen
	// to follow the node. Where it did already when the doubt began, it must be
	// seen to for holdAcknowledged: Redis tells the age of an acknowledgement in
	// whole seconds, so an earlier one may be of before.
	holdFollowed     = time.Second
	holdAcknowledged = 2100 * time.Millisecond
	// holdFollowedBack is how long a former master must be seen to follow the node that
	// was promoted by hand. It was a replica before that, and its daemon checks every
	// 100 ms; what is left of these is less than two daemons may say yes at one time.
	holdFollowedBack = 70 * time.Millisecond
	// holdRepeated is how far apart two claims of a Sentinel come that are not
	// of one delivery, and holdInterrupted how far at most if none was lost
	// between them: it speaks every two seconds.
	holdRepeated    = 1500 * time.Millisecond
	holdInterrupted = 3 * time.Second
	// holdSilent is how long ago a Sentinel may have spoken that still counts:
	// 4.6 s were measured when it had to connect again.
	holdSilent = 4700 * time.Millisecond
	// holdReconnect is how long a Sentinel may take to connect again, after its
	// packets were lost: TCP's third retry to dial is 7 s after the first, the
	// fourth 15 s.
	holdReconnect = 15 * time.Second
)

// holdUnannounced outlasts the promotion that a Sentinel which died could not
// announce: the promoted node gives that up after holdPendingElection, which it
// notices at a check, and may have begun 300 ms after the last notice.
const holdUnannounced = holdPendingElection + 1500*time.Millisecond

// peerSilent is after how long a Sentinel does not answer any more: it is asked
// every second, and given 0.5 s.
const peerSilent = 2500 * time.Millisecond

// tiltFresh is how long the address that a Sentinel in TILT gives is doubted: until
// hellos that it has not processed must have come.
const tiltFresh = 5 * time.Second

// sentinelForgotten is after how long of silence a Sentinel does not count as one
// any more.
const sentinelForgotten = 10 * time.Minute

// isolatedAfter is how long neither a majority of the Sentinels nor a replica may
// be in touch.
const isolatedAfter = 5 * time.Second

// minConfirmations is how many Sentinels must confirm: one, which may run on the
// node's host, may be cut off together with it.
const minConfirmations = 2

// Bounds on what somebody who can publish may make the Guard remember.
const (
	maxNames  = 16
	maxClaims = 64 // over all names
)
