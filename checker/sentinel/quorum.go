package sentinel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"redis-is-master/checker"
)

// A Poll asks the listed Sentinels which node is the master. It is a
// [checker.Witness]. Set the fields before the first use.
type Poll struct {
	Sentinels []*checker.Redis
	Name      string // by which they know the master
	Self      *Self  // the watched node

	busy   []sync.Mutex // held while a Sentinel is being asked
	once   sync.Once
	redial atomic.Bool
}

// agreeOn reports whether a majority names master, or this node already, even
// if it takes that for down, and nobody names a third node.
func agreeOn(q checker.Quorum, master string) bool {
	n := 0
	for _, a := range q.Answers {
		switch {
		case a.Master == "" || errors.Is(a.Err, errTwice) || errors.Is(a.Err, errTilt):
		case a.NamesUs || a.Master == master:
			n++
		case errors.Is(a.Err, errUnresolvable):
		default:
			return false
		}
	}
	return 2*n > len(q.Answers)
}

// settled reports whether a majority gives the same answer, which the others
// cannot change.
func settled(q checker.Quorum) bool {
	for _, a := range q.Answers {
		same := 0
		for _, b := range q.Answers {
			if a.Master != "" && a.Master == b.Master && a.NamesUs == b.NamesUs && (a.Err == nil) == (b.Err == nil) {
				same++
			}
		}
		if 2*same > len(q.Answers) {
			return true
		}
	}
	return false
}

// Asks is of [checker.Witness].
func (p *Poll) Asks(checker.Observation) bool { return true }

// Ask is of [checker.Witness]. A replica's Sentinels are asked, too, for its
// promotion may come. A Sentinel that is late with its answer is not asked again
// before it has given it.
func (p *Poll) Ask(ctx context.Context, o checker.Observation) (add func(*checker.Observation)) {
	p.init()
	asked := time.Now()
	q := p.ask(ctx, o, p.redial.Swap(false))
	q.Time = asked
	return func(o *checker.Observation) {
		if o.Role == checker.RoleMaster {
			o.Quorum = q
		}
	}
}

// Redial is of [checker.Witness].
func (p *Poll) Redial() { p.redial.Store(true) }

// Close is of [checker.Witness].
func (p *Poll) Close() {
	p.init()
	for i, r := range p.Sentinels {
		p.busy[i].Lock()
		r.Close()
		p.busy[i].Unlock()
	}
}

func (p *Poll) init() { p.once.Do(func() { p.busy = make([]sync.Mutex, len(p.Sentinels)) }) }

// A reply is the answer of one Sentinel.
type reply struct {
	checker.SentinelAnswer
	listed int    // its place in the list
	runID  string // of the Sentinel
}

// ask asks all at once, by the deadline of ctx, or until enough have answered.
func (p *Poll) ask(ctx context.Context, o checker.Observation, redial bool) checker.Quorum {
	q := checker.Quorum{Answers: make([]checker.SentinelAnswer, len(p.Sentinels))}
	replies := make(chan reply, len(p.Sentinels))
	for i, r := range p.Sentinels {
		silent := checker.SentinelAnswer{Address: r.Address, Err: fmt.Errorf("%s: %w", r.Address, errSilent)}
		q.Answers[i] = silent
		go func() {
			if !p.busy[i].TryLock() {
				replies <- reply{silent, i, ""}
				return
			}
			if redial {
				r.Close()
			}
			a, runID := p.askSentinel(ctx, r, o)
			p.busy[i].Unlock() // before whoever gets the reply asks again
			replies <- reply{a, i, runID}
		}()
	}
	seen := make(map[string]bool)
	var late <-chan time.Time
	for range p.Sentinels {
		var r reply
		select {
		case <-ctx.Done():
			return q
		case <-late:
			return q
		case r = <-replies:
		}
		// One Sentinel under two addresses would count twice.
		if r.Err == nil && seen[r.runID] {
			r.Err = fmt.Errorf("%s: %w", r.Address, errTwice)
		}
		seen[r.runID] = seen[r.runID] || r.Err == nil
		q.Answers[r.listed] = r.SentinelAnswer
		if late == nil && settled(q) {
			late = time.After(grace)
		}
	}
	return q
}

// grace is how long a Sentinel is waited for that cannot change the answer, so
// that the answer names it. A dead one would make every check last for its
// whole timeout.
const grace = 20 * time.Millisecond

var (
	errNoSentinel   = errors.New("this is no Sentinel")
	errTilt         = errors.New("it is in TILT, and its clock or host is in trouble")
	errNoName       = errors.New("it knows no master by this name")
	errDown         = errors.New("it takes the master that it names for down")
	errSilent       = errors.New("it has not answered")
	errTwice        = errors.New("it is listed twice, by two addresses")
	errUnresolvable = errors.New("the host that it names cannot be resolved")
)

// askSentinel asks one Sentinel by INFO, which needs no further right.
//
// Format: section sentinel of https://redis.io/docs/latest/commands/info/ ,
// "master0:name=mymaster,status=ok,address=10.0.0.1:6379,slaves=2,sentinels=3".
func (p *Poll) askSentinel(
	ctx context.Context,
	r *checker.Redis,
	o checker.Observation,
) (a checker.SentinelAnswer, runID string) {
	a.Address = r.Address
	var status string
	var discounted error // why an answer does not count
	err := r.Do(ctx, [][]string{{"INFO", "sentinel"}, {"INFO", "server"}}, func(replies []string) error {
		s, err := checker.ParseSection(replies[0], "# Sentinel")
		if err != nil {
			discounted = errNoSentinel
			return nil
		}
		server, err := checker.ParseSection(replies[1], "# Server")
		if err != nil {
			return err
		}
		runID = server.First("run_id")
		tilt, since, err := tiltOf(s)
		if tilt && since < tiltFresh {
			discounted = errTilt
		}
		a.Master, status = masterOf(s, p.Name)
		return cmp.Or(s.Err, err)
	})
	a.StaleCredentials = r.StaleCredentials()
	switch {
	case err != nil:
		a.Err, a.Master = err, "" // what it says is not understood
	case discounted != nil:
		a.Err = fmt.Errorf("%s: %w", r.Address, discounted)
	case a.Master == "":
		a.Err = fmt.Errorf("%s: %w", r.Address, errNoName)
	default:
		match := p.Self.namedBy(ctx, a.Address, a.Master, o)
		a.NamesUs = match == Same
		if match == Unresolved {
			a.Err = fmt.Errorf("%s: %w", r.Address, errUnresolvable)
		} else if status != "ok" {
			a.Err = fmt.Errorf("%s: %w", r.Address, errDown)
		}
	}
	return a, runID
}

// maxHost is the length of the longest host name.
const maxHost = 255

// masterOf finds the address and the status of a master by its name.
func masterOf(s *checker.Section, name string) (address, status string) {
	s.Each(func(key, value string) {
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
			s.Fail("two masters have this name")
		}
		if i := strings.LastIndexByte(fields["address"], ':'); i > 0 && i <= maxHost {
			address, status = net.JoinHostPort(fields["address"][:i], fields["address"][i+1:]), fields["status"]
		}
	})
	return address, status
}
