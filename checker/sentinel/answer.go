package sentinel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"redis-is-master/checker"
)

// A Report is what one Sentinel answered about one master name. Numbers and
// times that it did not tell are negative.
type Report struct {
	Address    string    // of the Sentinel, as it was dialled
	Time       time.Time // when the question was put: the answer is at least as new
	Subscribed time.Time // since when all its notices were received; zero if they are not
	ID         string    // that its hellos carry; it is kept when the Sentinel is restarted. Empty if it was not told
	RunID      string    // of its process. Empty if it was not told

	Name          string
	Master        string   // host:port
	Flags         []string // such as master, s_down, o_down, failover_in_progress
	FailoverState string   // such as wait_promotion; empty if there is no failover
	ConfigEpoch   int64
	// Nodes are the master, and the replicas if they were asked for, as the Sentinel
	// has met them last.
	Nodes []Known

	VotedEpoch      int64         // of its last vote in an election of this master's successor; 0 for none
	VotedLeader     string        // run id that it voted for; empty if it is not known any more
	Quorum          int64         // as it is configured
	OtherSentinels  int64         // that it knows for this master
	DownAfter       time.Duration // down-after-milliseconds
	FailoverTimeout time.Duration

	Tilt    bool          // false if INFO was refused
	TiltFor time.Duration // whole seconds; negative if it is not in TILT or did not tell

	// Refused are the rights that this user lacks, such as +sentinel|master. What
	// they are needed for is missing.
	Refused []string
	// Err is why the answer does not count. All that the Sentinel says of the
	// master is empty then.
	Err error
}

// A Known is a node as a Sentinel knows it.
type Known struct {
	Address string        // host:port
	RunID   string        // that the node gave it last, which may be of an earlier process; empty if it has not met it yet
	Age     time.Duration // of that
}

// maxKnownAge is how old a run id may be that a Sentinel has from a node which it
// is in touch with: it asks for it every ten seconds.
const maxKnownAge = 25 * time.Second

// is reports whether the Sentinel has met the process with this run id at the
// address, of late.
func (k Known) is(runID string) bool {
	return k.RunID != "" && k.RunID == runID && k.Age <= maxKnownAge
}

// met reports whether the Sentinel has met this process at the address.
func (r Report) met(address, runID string) bool {
	return slices.ContainsFunc(r.Nodes, func(k Known) bool { return k.Address == address && k.is(runID) })
}

// ErrNoSuchMaster is the Err of a Report of a Sentinel that does not know the
// name.
var ErrNoSuchMaster = errNoName

// FailingOver reports whether this Sentinel leads a failover, or tries to.
func (r Report) FailingOver() bool { return slices.Contains(r.Flags, "failover_in_progress") }

// Lacks reports whether the user is known to lack a right, such as +sentinel|master.
func (r Report) Lacks(right string) bool { return slices.Contains(r.Refused, right) }

// TakesForDown reports whether it takes the master for down, by itself or with
// others.
func (r Report) TakesForDown() bool {
	return slices.Contains(r.Flags, "s_down") || slices.Contains(r.Flags, "o_down")
}

// unknown is a Report that tells nothing.
func unknown(name string) Report {
	return Report{Name: name, ConfigEpoch: -1, VotedEpoch: -1, Quorum: -1, OtherSentinels: -1,
		DownAfter: -1, FailoverTimeout: -1, TiltFor: -1}
}

// Failed is a Report without an answer.
func Failed(name string, err error) Report {
	r := unknown(name)
	r.Err = err
	return r
}

// ParseMaster reads the reply to SENTINEL MASTER name: strings, which are keys
// and values by turns.
//
// Format: addReplySentinelRedisInstance in Redis's sentinel.c.
func ParseMaster(name string, reply any) (Report, error) {
	r := unknown(name)
	fields, err := pairs(reply)
	if err != nil {
		return r, fmt.Errorf("the reply to SENTINEL MASTER %w", err)
	}
	r.Flags = strings.Split(fields["flags"], ",")
	if fields["name"] != name || !slices.Contains(r.Flags, "master") {
		return unknown(name), fmt.Errorf("the reply to SENTINEL MASTER is about %.64q, and its flags are %.64q",
			fields["name"], fields["flags"])
	}
	r.FailoverState = fields["failover-state"]
	var downAfter, failoverTimeout int64
	if r.Master, err = joinAddress(fields["ip"], fields["port"]); err != nil {
		return unknown(name), err
	}
	for key, number := range map[string]*int64{
		"config-epoch": &r.ConfigEpoch, "quorum": &r.Quorum, "num-other-sentinels": &r.OtherSentinels,
		"down-after-milliseconds": &downAfter, "failover-timeout": &failoverTimeout,
	} {
		text, ok := fields[key]
		if *number = -1; !ok {
			continue
		}
		if *number, err = parseNumber(text); err != nil {
			return unknown(name), fmt.Errorf("%s of SENTINEL MASTER: %w", key, err)
		}
	}
	r.DownAfter, r.FailoverTimeout = milliseconds(downAfter), milliseconds(failoverTimeout)
	if k, ok := known(fields); ok {
		r.Nodes = []Known{k}
	}
	return r, nil
}

// pairs reads a reply of strings, which are keys and values by turns.
func pairs(reply any) (fields map[string]string, err error) {
	list, ok := reply.([]any)
	if !ok || len(list)%2 != 0 {
		return nil, errors.New("is no list of pairs")
	}
	fields = make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		key, ok1 := list[i].(string)
		value, ok2 := list[i+1].(string)
		if _, twice := fields[key]; !ok1 || !ok2 || twice {
			return nil, errors.New("has a field that is no string, or stands there twice")
		}
		fields[key] = value
	}
	return fields, nil
}

// known is a node by the fields of a Sentinel's reply, if that has met it.
func known(fields map[string]string) (k Known, ok bool) {
	address, err := joinAddress(fields["ip"], fields["port"])
	age, ageErr := parseNumber(fields["info-refresh"])
	if err != nil || ageErr != nil || fields["runid"] == "" || len(fields["runid"]) > maxRunID {
		return k, false
	}
	return Known{address, fields["runid"], milliseconds(age)}, true
}

// maxRunID is more than the 40 digits that a run id has.
const maxRunID = 64

// maxReplicas bounds what is read of a reply to SENTINEL REPLICAS.
const maxReplicas = 64

// AddReplicas reads the reply to SENTINEL REPLICAS name: a list like that of
// SENTINEL MASTER for each.
func (r *Report) AddReplicas(reply any) error {
	list, ok := reply.([]any)
	if !ok {
		return errors.New("the reply to SENTINEL REPLICAS is no list")
	}
	for _, replica := range list[:min(len(list), maxReplicas)] {
		fields, err := pairs(replica)
		if err != nil {
			return fmt.Errorf("a part of the reply to SENTINEL REPLICAS %w", err)
		}
		if k, ok := known(fields); ok {
			r.Nodes = append(r.Nodes, k)
		}
	}
	return nil
}

// milliseconds is at most 24 days, as the Sentinel's own timers are, so that it
// cannot overflow.
func milliseconds(n int64) time.Duration {
	if n < 0 {
		return -1
	}
	return time.Duration(min(n, 1<<31)) * time.Millisecond
}

// AddVote reads the reply to SENTINEL IS-MASTER-DOWN-BY-ADDR ip port 0 id, which
// is the vote that the Sentinel has cast: at epoch 0 it casts none.
//
// Format: whether the master is down, the run id that it voted for or *, and the
// epoch of the vote.
func (r *Report) AddVote(reply any) error {
	list, _ := reply.([]any)
	if len(list) != 3 {
		return errors.New("the reply to SENTINEL IS-MASTER-DOWN-BY-ADDR has not three parts")
	}
	leader, ok1 := list[1].(string)
	epoch, ok2 := list[2].(int64)
	if !ok1 || !ok2 || epoch < 0 {
		return errors.New("the reply to SENTINEL IS-MASTER-DOWN-BY-ADDR has no leader and epoch")
	}
	if r.VotedEpoch = epoch; leader != "*" {
		r.VotedLeader = leader
	}
	return nil
}

// ParseSentinelInfo reads the reply to INFO sentinel. It tells little of a
// master: where it is, whether it is down, and how many Sentinels there are.
//
// Format: "master0:name=mymaster,status=ok,address=10.0.0.1:6379,slaves=2,sentinels=3".
func ParseSentinelInfo(name, reply string) (Report, error) {
	r := unknown(name)
	s, err := checker.ParseSection(reply, "# Sentinel")
	if err != nil {
		return r, errNoSentinel
	}
	if r.Tilt, r.TiltFor, err = tiltOf(s); err != nil {
		return unknown(name), err
	}
	master, status, sentinels := masterFields(s, name)
	if s.Err != nil {
		return unknown(name), s.Err
	}
	if r.Master = master; master == "" {
		r.Err = errNoName
		return r, nil
	}
	switch status {
	case "ok":
		r.Flags = []string{"master"}
	case "sdown":
		r.Flags = []string{"s_down", "master"}
	case "odown":
		r.Flags = []string{"s_down", "o_down", "master"}
	default:
		return unknown(name), fmt.Errorf("status %.32q of INFO sentinel is none", status)
	}
	if n, err := parseNumber(sentinels); err == nil && n > 0 {
		r.OtherSentinels = n - 1
	}
	return r, nil
}

// tiltOf is whether a Sentinel is in TILT, and for how long; negative if it does not
// tell.
func tiltOf(s *checker.Section) (tilt bool, since time.Duration, err error) {
	tilt, since = s.Flag("sentinel_tilt", true), -1
	if text := s.First("sentinel_tilt_since_seconds"); tilt && text != "" {
		seconds, err := parseNumber(text)
		if err != nil {
			return tilt, since, fmt.Errorf("sentinel_tilt_since_seconds: %w", err)
		}
		since = time.Duration(min(seconds, 1<<31)) * time.Second
	}
	return tilt, since, nil
}

// masterFields is [masterOf] with the number of Sentinels.
func masterFields(s *checker.Section, name string) (address, status, sentinels string) {
	address, status = masterOf(s, name)
	s.Each(func(key, value string) {
		if strings.HasPrefix(key, "master") && strings.HasPrefix(value, "name="+name+",") {
			_, sentinels, _ = strings.Cut(value, ",sentinels=")
		}
	})
	return address, status, sentinels
}
