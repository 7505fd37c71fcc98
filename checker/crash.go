package checker

import "time"

// A FailoverResult is what became of a failover that this daemon asked a Sentinel
// for, because the master's process was gone.
type FailoverResult string

// The closed set of results.
const (
	FailoverAsked     FailoverResult = "asked"       // it is not known yet
	FailoverPromoted  FailoverResult = "promoted"    // the Sentinels name another node
	FailoverAborted   FailoverResult = "aborted"     // the Sentinel gave it up, or nothing is known to have come of it
	FailoverNoReplica FailoverResult = "no-replica"  // the Sentinel has no replica that it would promote
	FailoverOther     FailoverResult = "in-progress" // the Sentinel has another failover under way
	FailoverForbidden FailoverResult = "forbidden"   // the user may not ask for one
	FailoverRefused   FailoverResult = "refused"     // by another error
	FailoverSilent    FailoverResult = "silent"      // the Sentinel did not answer, and may do it all the same
	FailoverUnsent    FailoverResult = "not-asked"   // there was no connection, or it was too late
)

// FailoverResults returns those that a failover can end with, in the order of the
// documentation.
func FailoverResults() []FailoverResult {
	return []FailoverResult{FailoverPromoted, FailoverAborted, FailoverNoReplica, FailoverOther, FailoverForbidden,
		FailoverRefused, FailoverSilent, FailoverUnsent}
}

// Definite reports whether the Sentinel is known not to act on it.
func (r FailoverResult) Definite() bool {
	switch r {
	case FailoverNoReplica, FailoverForbidden, FailoverRefused, FailoverUnsent:
		return true
	}
	return false
}

// A FailoverRequest is one failover that was asked for.
type FailoverRequest struct {
	Time     time.Time
	Sentinel string // host:port of the one that was asked
	Name     string // of the master
	Result   FailoverResult
}

// A CrashFailover is what a daemon knows of asking for a failover.
type CrashFailover struct {
	// Missing is why no failover could be asked for if the node's process died now;
	// empty if one could.
	Missing string
	Last    FailoverRequest        // the last one that was asked for; zero if there was none
	Results map[FailoverResult]int // of all that are over
}
