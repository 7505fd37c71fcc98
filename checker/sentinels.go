package checker

import "time"

// A Hello is what one Sentinel publishes every two seconds, on every node of
// a master that it watches.
type Hello struct {
	Sentinel string // its run id, which it keeps when it is restarted
	From     string // its host:port
	Current  uint64 // its current epoch, which every election raises
	Name     string // of the master, as the Sentinels call it
	Master   string // host:port of the node that it takes for the master
	Epoch    uint64 // the config epoch of that, which every failover raises
}

// A Claim is a hello and what it means for the node that is watched.
type Claim struct {
	Hello
	NamesUs bool // the master that it names is this node
	Local   bool // the Sentinel runs on this node's host
}

// A TimedClaim is a claim and when it was heard.
type TimedClaim struct {
	Claim
	Time time.Time
}

// A State is what the hellos of the Sentinels make of a node. Package sentinel
// decides it.
type State string

// The closed set of states. The empty one means that nobody listens.
const (
	StateConfirmed   State = "confirmed"    // the Sentinels name this node, and nothing newer names another
	StatePromoted    State = "promoted"     // it became master while it was watched as a replica
	StateFollowed    State = "followed"     // the master that the Sentinels still name follows this node
	StateNoSentinels State = "no-sentinels" // no Sentinel was heard for long enough to know that there is none
	StateUnconfirmed State = "unconfirmed"  // no Sentinel has named this node yet, or not for long enough
	StateDenied      State = "denied"       // the Sentinels name another node
	StateFailover    State = "failover"     // a Sentinel promotes another node now
	StateIsolated    State = "isolated"     // neither a majority of the Sentinels nor a replica is in touch
	StateRefused     State = "refused"      // this user may not hear whom they name
	StateReplica     State = "replica"      // it is no master now; its promotion would be believed at once
)

// States returns the closed set in the order of the documentation.
func States() []State {
	return []State{StateConfirmed, StatePromoted, StateFollowed, StateNoSentinels, StateUnconfirmed,
		StateDenied, StateFailover, StateIsolated, StateRefused, StateReplica}
}

// Believed reports whether a role:master is to be believed.
func (s State) Believed() bool {
	return s == StateConfirmed || s == StatePromoted || s == StateFollowed || s == StateNoSentinels
}

// A Standing is a node's [State] and what it was decided from. The zero
// Standing means that nobody listens to the Sentinels.
type Standing struct {
	State     State
	Because   string       // the rule that decided
	Detail    string       // the facts behind it
	Former    string       // host:port of the master that a promoted node followed before
	LastHello time.Time    // when the last hello was heard; zero for never
	Epoch     uint64       // the best config epoch of the name that decides
	Claims    []TimedClaim // the last claim of each Sentinel, by name and run id
	Asked     []Asked      // the last answer of each Sentinel that was asked, in the order in which they were reached
}

// An Asked is what a Sentinel answered about one master name. Numbers and times
// that it did not tell are negative.
type Asked struct {
	Sentinel        string // host:port
	Time            time.Time
	Name            string
	Master          string // host:port that it names
	NamesUs         bool   // that is this node
	Epoch           int64  // the config epoch of that
	Subscribed      bool   // it says what it is about to do
	FailingOver     bool   // it has a failover under way
	Down            bool   // it takes the master for down
	Tilt            bool
	DownAfter       time.Duration // down-after-milliseconds
	FailoverTimeout time.Duration
	Quorum          int64
	Sentinels       int64 // that it knows, itself included
}

// A Quorum is what the listed Sentinels answered about one master name. The
// zero Quorum means that none was asked.
type Quorum struct {
	Time    time.Time // when they were asked
	Answers []SentinelAnswer
	// Waived is set while a promotion that was watched is too young for the
	// Sentinels to have agreed on it, and they name nobody but the master that
	// the node followed.
	Waived bool
}

// A SentinelAnswer is the answer of one Sentinel.
type SentinelAnswer struct {
	Address string // of the Sentinel
	Master  string // host:port that it names; empty if it names none
	NamesUs bool   // that is the watched node, and the answer counts
	Err     error  // why the answer does not count

	StaleCredentials error // why its next connection would be refused, as that of an Observation
}

// NamesUs reports whether a majority of the listed Sentinels names this node,
// and answered whether a majority gave an answer that counts.
func (q Quorum) NamesUs() (namesUs, answered bool) {
	var us, all int
	for _, a := range q.Answers {
		if a.Err == nil {
			all++
			if a.NamesUs {
				us++
			}
		}
	}
	return 2*us > len(q.Answers), 2*all > len(q.Answers)
}
