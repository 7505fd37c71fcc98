package sentinel

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The notices that matter, by the channels on which a Sentinel publishes them.
const (
	TryFailover      = "+try-failover"
	SelectedReplica  = "+selected-slave"
	SendReplicaOf    = "+failover-state-send-slaveof-noone"
	WaitPromotion    = "+failover-state-wait-promotion"
	PromotedReplica  = "+promoted-slave"
	SwitchMaster     = "+switch-master"
	FailoverEnd      = "+failover-end"
	FailoverTimedOut = "+failover-end-for-timeout"
	AbortNotElected  = "-failover-abort-not-elected"
	AbortNoReplica   = "-failover-abort-no-good-slave"
	AbortReplica     = "-failover-abort-slave-timeout"
	AbortMaster      = "-failover-abort-master-timeout" // Valkey 9, COORDINATED
	NewEpoch         = "+new-epoch"
	VoteForLeader    = "+vote-for-leader"
	SubjectivelyDown = "+sdown"
	SubjectivelyUp   = "-sdown"
	ObjectivelyDown  = "+odown"
	ObjectivelyUp    = "-odown"
	TiltBegin        = "+tilt"
	TiltEnd          = "-tilt"
	MonitorAdded     = "+monitor"
	MonitorRemoved   = "-monitor"
	ResetMaster      = "+reset-master"
)

// NoticeKinds returns the channels of all notices. A Sentinel that does not know
// one never publishes it.
func NoticeKinds() []string {
	return []string{TryFailover, SelectedReplica, SendReplicaOf, WaitPromotion, PromotedReplica, SwitchMaster,
		FailoverEnd, FailoverTimedOut, AbortNotElected, AbortNoReplica, AbortReplica, AbortMaster, NewEpoch,
		VoteForLeader,
		SubjectivelyDown, SubjectivelyUp, ObjectivelyDown, ObjectivelyUp, TiltBegin, TiltEnd, MonitorAdded,
		MonitorRemoved, ResetMaster}
}

// A Notice is what a Sentinel published about itself or an instance.
type Notice struct {
	Address string    // of the Sentinel, as it was dialled
	Time    time.Time // when the notice was received
	Kind    string    // the channel
	Name    string    // of the master; empty where the notice has none: epochs, votes, TILT
	Type    string    // of the instance: master, slave or sentinel
	Node    string    // host:port of the instance; for [SwitchMaster] of the new master
	Master  string    // host:port of the master; for [SwitchMaster] of the old one
	Epoch   int64     // of an epoch or a vote; negative for all others
	Leader  string    // run id of the Sentinel that was voted for
}

// Promotes reports whether Node is the replica that this Sentinel promotes.
func (n Notice) Promotes() bool {
	return slices.Contains([]string{SelectedReplica, SendReplicaOf, WaitPromotion, PromotedReplica}, n.Kind)
}

// Aborts reports whether this Sentinel gave up its failover before the promotion
// was seen. The replica may have been promoted all the same.
func (n Notice) Aborts() bool { return strings.HasPrefix(n.Kind, "-failover-abort-") }

// maxNotice bounds a notice: LOG_MAX_LEN of Redis.
const maxNotice = 1024

// ParseNotice reads a message of one of the channels [NoticeKinds].
//
// Format: sentinelEvent in Redis's sentinel.c: "TYPE NAME IP PORT", for a slave
// or a sentinel with "@ MASTER-NAME MASTER-IP MASTER-PORT", and more behind it;
// but +switch-master "NAME OLD-IP OLD-PORT NEW-IP NEW-PORT", +new-epoch "EPOCH",
// +vote-for-leader "RUN-ID EPOCH", and of TILT a remark.
func ParseNotice(kind, message string) (n Notice, err error) {
	n = Notice{Kind: kind, Epoch: -1}
	f := strings.Split(message, " ")
	switch {
	case len(message) > maxNotice:
		return n, fmt.Errorf("%s has %d bytes", kind, len(message))
	case !slices.Contains(NoticeKinds(), kind):
		return n, fmt.Errorf("%.64q is no notice", kind)
	case kind == TiltBegin || kind == TiltEnd:
		return n, nil
	case kind == NewEpoch && len(f) == 1:
		n.Epoch, err = parseNumber(f[0])
		return n, err
	case kind == VoteForLeader && len(f) == 2 && f[0] != "":
		n.Leader = f[0]
		n.Epoch, err = parseNumber(f[1])
		return n, err
	case kind == SwitchMaster && len(f) == 5 && f[0] != "":
		n.Name, n.Type = f[0], "master"
		if n.Master, err = joinAddress(f[1], f[2]); err == nil {
			n.Node, err = joinAddress(f[3], f[4])
		}
		return n, err
	case kind == NewEpoch || kind == VoteForLeader || kind == SwitchMaster:
	case len(f) >= 4 && f[0] == "master" && f[1] != "":
		n.Name, n.Type = f[1], f[0]
		n.Node, err = joinAddress(f[2], f[3])
		n.Master = n.Node
		return n, err
	case len(f) >= 8 && (f[0] == "slave" || f[0] == "sentinel") && f[4] == "@" && f[5] != "":
		n.Name, n.Type = f[5], f[0]
		if n.Node, err = joinAddress(f[2], f[3]); err == nil {
			n.Master, err = joinAddress(f[6], f[7])
		}
		return n, err
	}
	return n, fmt.Errorf("%s with %.128q is not understood", kind, message)
}

// joinAddress makes host:port of what stands apart.
func joinAddress(host, port string) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%.64q and %.16q are no host and port", host, port)
	}
	return net.JoinHostPort(host, port), nil
}

// parseNumber reads a number that is never negative.
func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return -1, fmt.Errorf("%.32q is no number", text)
	}
	return int64(n), nil
}
