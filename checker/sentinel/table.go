package sentinel

import "redis-is-master/checker"

// Evidence is what an event and the records amount to.
type Evidence struct {
	Answered     bool // the event is an answer of the node
	Master       bool // the node calls itself master
	Gap          bool // this is its first answer, that of another process, or the first after too long a silence
	Flipped      bool // it was a replica when it answered before
	InTouch      bool // the Sentinels were heard of late, if there are any
	Superseded   bool // they named a newer master since it began to follow the one before
	ByHand       bool // nothing shows that a Sentinel made it master, though there are some
	Proof        bool // it is known who made it master: a Sentinel, or the former master, which follows it
	Contradicted bool // a claim names another node at a higher epoch than the one that is believed
	Named        bool // a claim names this node at the best epoch
	NamesAnother bool // of some master name, the best claim names another node
	Followed     bool // every node that is so named follows this one, and has said so since the doubt began
	Confirmed    bool // Sentinels name this node, and nobody can contradict: all were asked, or it was waited for
	NoSentinels  bool // none was heard for long enough to know that there is none
	Refused      bool // this user may not subscribe, and no Sentinel is listed
	Vouched      bool // a majority of the listed Sentinels has named this node for long enough
	Moving       bool // a Sentinel promotes another node
	Isolated     bool // neither a majority of the Sentinels nor a replica was in touch lately, though one was
	Disowned     bool // the promotion was given up by its Sentinel, or never announced: two still name the former master
}

// doubts reports whether what was known of the node is void.
func (e Evidence) doubts() bool { return e.Answered && (e.Gap || e.Flipped && !e.promotes()) }

// promotes reports whether a Sentinel has just made the node master.
func (e Evidence) promotes() bool {
	return e.Flipped && !e.Gap && !e.Superseded && !e.Disowned && (e.Proof || e.InTouch && !e.ByHand)
}

// settles reports whether the node has answered and no new doubt arose: only then
// can waiting end a doubt.
func (e Evidence) settles() bool { return e.Answered && !e.doubts() }

// Unchanged is the Then of a [Row] that leaves the state as it is.
const Unchanged checker.State = "unchanged"

// A Row is one rule of the Guard. The first row decides whose From and When
// hold.
type Row struct {
	From     func(checker.State) bool // nil for any
	When     func(Evidence) bool
	Then     checker.State
	Sentence string // for people
}

func believed(s checker.State) bool { return s.Believed() }
func cutOff(s checker.State) bool   { return s.Believed() || s == checker.StateIsolated }
func doubted(s checker.State) bool  { return !s.Believed() }

func is(state checker.State) func(checker.State) bool {
	return func(s checker.State) bool { return s == state }
}

// Rows is the whole of the Guard's decision.
var Rows = []Row{
	{nil, func(e Evidence) bool { return !e.Master },
		checker.StateReplica, "the node is no master"},
	{nil, func(e Evidence) bool { return e.Refused },
		checker.StateRefused, "this user may not hear what the Sentinels publish, and none is listed"},
	{nil, func(e Evidence) bool { return e.Contradicted },
		checker.StateDenied, "a Sentinel names another node at a higher epoch"},
	{nil, func(e Evidence) bool { return e.Moving },
		checker.StateFailover, "a Sentinel promotes another node"},
	{cutOff, func(e Evidence) bool { return e.Isolated },
		checker.StateIsolated, "neither a majority of the Sentinels nor a replica is in touch"},
	{doubted, func(e Evidence) bool { return e.Proof && !e.doubts() },
		checker.StatePromoted, "it is known who made the node master: a Sentinel, or the former master, which follows it"},
	{nil, func(e Evidence) bool { return e.Answered && e.promotes() },
		checker.StatePromoted, "the node became master while it was watched as a replica"},
	{believed, func(e Evidence) bool { return e.Named && !e.doubts() },
		checker.StateConfirmed, "a Sentinel names this node at the best epoch"},
	{is(checker.StatePromoted), func(e Evidence) bool { return e.Disowned },
		checker.StateDenied, "the promotion was given up, or never announced while the former master answers"},
	{is(checker.StateFollowed), func(e Evidence) bool { return e.NamesAnother && !e.Followed },
		checker.StateDenied, "the master that the Sentinels name no longer follows this node"},
	{believed, func(e Evidence) bool { return !e.doubts() },
		Unchanged, "nothing newer contradicts"},
	{nil, func(e Evidence) bool { return e.NamesAnother && !(e.settles() && e.Followed) },
		checker.StateDenied, "the Sentinels name another node"},
	{nil, func(e Evidence) bool { return e.settles() && e.Confirmed },
		checker.StateConfirmed, "Sentinels name this node, and nobody can contradict: all were asked, or it was waited for"},
	{nil, func(e Evidence) bool { return e.settles() && e.NamesAnother },
		checker.StateFollowed, "the master that the Sentinels still name follows this node"},
	{nil, func(e Evidence) bool { return e.settles() && e.Vouched },
		checker.StateConfirmed, "a majority of the listed Sentinels has named this node for long enough"},
	{nil, func(e Evidence) bool { return e.Answered && e.NoSentinels },
		checker.StateNoSentinels, "no Sentinel was heard for long enough to know that there is none"},
	{nil, func(Evidence) bool { return true },
		checker.StateUnconfirmed, "no Sentinel has confirmed the node for long enough"},
}

// Decide returns the first row that holds.
func Decide(s checker.State, e Evidence) *Row {
	for i := range Rows {
		if r := &Rows[i]; (r.From == nil || r.From(s)) && r.When(e) {
			return r
		}
	}
	return &Rows[len(Rows)-1]
}
