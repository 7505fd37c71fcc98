package checker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Others are the servers beside the watched node whose word a policy wants.
// Set the fields before the first use.
type Others struct {
	Sentinels []*Redis
	Name      string // by which the Sentinels know the master
	Self      *Self  // the watched node
	// Master tells how to reach the master that a replica follows; its Address
	// is ignored. Nil means that it is not asked.
	Master *Redis

	busy   []sync.Mutex // held while a Sentinel is being asked, and one more for Master
	once   sync.Once
	redial atomic.Bool
}

// A Quorum is what the listed Sentinels said of one master name. The zero
// Quorum means that none was asked.
type Quorum struct {
	Time    time.Time // when they were asked
	Answers []SentinelAnswer
	// Waived is set as long as a promotion that was watched is too young for
	// the Sentinels to have agreed on it, and they name nobody but the master
	// that the node has followed.
	Waived bool
}

// A SentinelAnswer is that of one Sentinel.
type SentinelAnswer struct {
	Address string // of the Sentinel
	Master  string // host:port that it names; empty if it names none that counts
	Here    bool   // that is the watched node
	Err     error  // why it does not count

	runID string
	own   bool // it names the watched node, and counts or not
}

// Here reports whether a majority of those listed names this node, and
// answered whether a majority gave an answer that counts.
func (q Quorum) Here() (here, answered bool) {
	var yes, all int
	for _, a := range q.Answers {
		if a.Err == nil {
			all++
			if a.Here {
				yes++
			}
		}
	}
	return 2*yes > len(q.Answers), 2*all > len(q.Answers)
}

// names reports whether a majority names master, or this node already, even
// if it takes it for down, and nobody names a third.
func (q Quorum) names(master string) bool {
	n := 0
	for _, a := range q.Answers {
		switch {
		case a.Master == "" || errors.Is(a.Err, errTwice) || errors.Is(a.Err, errTilt):
		case a.own || a.Master == master:
			n++
		case errors.Is(a.Err, errWho):
		default:
			return false
		}
	}
	return 2*n > len(q.Answers)
}

// settled reports whether a majority says the same, which those who have not
// answered cannot change.
func (q Quorum) settled() bool {
	for _, a := range q.Answers {
		same := 0
		for _, b := range q.Answers {
			if a.Master != "" && a.Master == b.Master && a.Here == b.Here {
				same++
			}
		}
		if 2*same > len(q.Answers) {
			return true
		}
	}
	return false
}

// said is what the others know, without what the node itself says.
type said struct {
	time   time.Time // when they were asked
	quorum Quorum
	master string // that was asked
	behind int64  // bytes; negative if it is not known
}

// Probe returns a probe that asks node first, and then, if the policy still
// holds, the others all at once, by the same deadline: one that does not
// answer does not make the others' answers late.
func (x *Others) Probe(node ProbeFunc, policy Policy) ProbeFunc {
	return func(ctx context.Context) (Observation, error) {
		o, err := node(ctx)
		if err != nil || !policy.asksOthers(o) {
			return o, err
		}
		at := time.Now().Add(DefaultTimeout)
		if d, ok := ctx.Deadline(); ok {
			at = d
		}
		ctx, cancel := context.WithDeadline(ctx, at.Add(-time.Until(at)/10))
		defer cancel()
		x.ask(ctx, o).into(&o)
		return o, nil
	}
}

// Redial makes the next question to each go over a new connection, with new
// credentials.
func (x *Others) Redial() { x.redial.Store(true) }

// into adds what the others know to o, if it is about what o says.
func (s said) into(o *Observation) {
	if o.Role == RoleMaster {
		o.Quorum = s.quorum
	}
	if o.Role == RoleReplica && s.master == o.MasterAddr {
		o.Behind = s.behind
	}
}

// ask asks all at once, by the deadline of ctx or until enough have answered;
// of a replica, too, for a promotion that is to come. One that was not waited
// for is not asked again before it has answered.
func (x *Others) ask(ctx context.Context, o Observation) said {
	x.once.Do(func() { x.busy = make([]sync.Mutex, len(x.Sentinels)+1) })
	s := said{time: time.Now(), behind: -1}
	redial := x.redial.Swap(false)
	var wg sync.WaitGroup
	if len(x.Sentinels) > 0 {
		wg.Go(func() {
			s.quorum = x.askSentinels(ctx, o.TCPPort, redial)
			s.quorum.Time = s.time
		})
	}
	if o.Role == RoleReplica && x.Master != nil && o.MasterAddr != "" {
		s.master = o.MasterAddr
		wg.Go(func() { s.behind = x.askMaster(ctx, o, redial) })
	}
	wg.Wait()
	return s
}

// askMaster is how many bytes the replica is behind its master, at least.
func (x *Others) askMaster(ctx context.Context, o Observation, redial bool) int64 {
	busy := &x.busy[len(x.Sentinels)]
	if !busy.TryLock() {
		return -1
	}
	defer busy.Unlock()
	if redial || x.Master.Address != o.MasterAddr {
		x.Master.Close()
		x.Master.Address = o.MasterAddr
	}
	m, err := x.Master.Probe(ctx)
	if err != nil || m.Role != RoleMaster {
		return -1
	}
	return max(m.Offset-o.Offset, 0) // it was asked later, so this is no less than the truth
}

func (x *Others) askSentinels(ctx context.Context, tcpPort int, redial bool) Quorum {
	type answer struct {
		i int
		SentinelAnswer
	}
	q := Quorum{Answers: make([]SentinelAnswer, len(x.Sentinels))}
	answers := make(chan answer, len(x.Sentinels))
	for i, r := range x.Sentinels {
		q.Answers[i] = SentinelAnswer{Address: r.Address, Err: fmt.Errorf("%s: %w", r.Address, errSilent)}
		go func() {
			if !x.busy[i].TryLock() {
				answers <- answer{i, q.Answers[i]}
				return
			}
			defer x.busy[i].Unlock()
			if redial {
				r.Close()
			}
			answers <- answer{i, x.askSentinel(ctx, r, tcpPort)}
		}()
	}
	seen := make(map[string]bool)
	var late <-chan time.Time
	for range x.Sentinels {
		var a answer
		select {
		case <-ctx.Done():
			return q
		case <-late:
			return q
		case a = <-answers:
		}
		// One Sentinel under two addresses would count twice.
		if a.Err == nil && seen[a.runID] {
			a.Err, a.Here = fmt.Errorf("%s: %w", a.Address, errTwice), false
		}
		seen[a.runID] = seen[a.runID] || a.Err == nil
		q.Answers[a.i] = a.SentinelAnswer
		if late == nil && q.settled() {
			late = time.After(grace)
		}
	}
	return q
}

// grace is how long those are waited for who cannot change the answer, so that
// it names them all. A dead one would make every check as long as its timeout.
const grace = 20 * time.Millisecond

// Close closes the connections to them, when all have answered that are still
// being asked.
func (x *Others) Close() {
	x.once.Do(func() { x.busy = make([]sync.Mutex, len(x.Sentinels)+1) })
	for i, r := range append(slices.Clip(x.Sentinels), x.Master) {
		if r != nil {
			x.busy[i].Lock()
			r.Close()
			x.busy[i].Unlock()
		}
	}
}

var (
	errNoSentinel = errors.New("this is no Sentinel")
	errTilt       = errors.New("it is in TILT, and its clock or host is in trouble")
	errNoName     = errors.New("it knows no master by this name")
	errDown       = errors.New("it takes the master that it names for down")
	errSilent     = errors.New("it has not answered")
	errTwice      = errors.New("it is listed twice, by two addresses")
	errWho        = errors.New("what it names leads nowhere, so it cannot be told whether that is this node")
)

// askSentinel asks one Sentinel by INFO, which needs no further right.
//
// Format: section sentinel of https://redis.io/docs/latest/commands/info/ ,
// "master0:name=mymaster,status=ok,address=10.0.0.1:6379,slaves=2,sentinels=3".
func (x *Others) askSentinel(ctx context.Context, r *Redis, tcpPort int) (a SentinelAnswer) {
	a.Address = r.Address
	var status string
	var counts error // why an answer does not count
	err := r.do(ctx, [][]string{{"INFO", "sentinel"}, {"INFO", "server"}}, func(replies []string) error {
		s, err := parseSection(replies[0], "# Sentinel")
		if err != nil {
			counts = errNoSentinel
			return nil
		}
		server, err := parseSection(replies[1], "# Server")
		if err != nil {
			return err
		}
		a.runID = server.first("run_id")
		if s.flag("sentinel_tilt", true) {
			counts = errTilt
		}
		a.Master, status = s.master(x.Name)
		return s.err
	})
	switch {
	case err != nil:
		a.Err = err
	case counts != nil:
		a.Err = fmt.Errorf("%s: %w", r.Address, counts)
	case a.Master == "":
		a.Err = fmt.Errorf("%s: %w", r.Address, errNoName)
	default:
		var sure bool
		if a.own, sure = x.Self.named(ctx, a.Address, a.Master, tcpPort); !sure {
			a.Err = fmt.Errorf("%s: %w", r.Address, errWho)
		} else if status != "ok" {
			a.Err = fmt.Errorf("%s: %w", r.Address, errDown)
		}
	}
	a.Here = a.own && a.Err == nil
	return a
}

// master finds the address and the status of a master by its name.
func (s *section) master(name string) (address, status string) {
	s.each(func(key, value string) {
		number, ok := strings.CutPrefix(key, "master")
		if !ok || strings.Trim(number, "0123456789") != "" {
			return
		}
		fields := make(map[string]string)
		for pair := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(pair, "=")
			fields[k] = v
		}
		if fields["name"] != name {
			return
		}
		if address != "" {
			s.fail("two masters have this name")
		}
		if i := strings.LastIndexByte(fields["address"], ':'); i > 0 {
			address, status = net.JoinHostPort(fields["address"][:i], fields["address"][i+1:]), fields["status"]
		}
	})
	return address, status
}
