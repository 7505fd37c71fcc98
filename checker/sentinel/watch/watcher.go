package watch

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/wire"
	"redis-is-master/checker/sentinel"
)

// SentinelGrant is what a user needs at a Sentinel. INFO alone is enough to be
// told where the master is.
const SentinelGrant = "ACL SETUSER NAME +info +sentinel|master +sentinel|replicas +sentinel|myid " +
	"+sentinel|is-master-down-by-addr +subscribe &+* &-*"

// Bounds on what is kept. Names are those of the masters that one Sentinel is
// asked about.
const (
	maxSentinels = 16
	maxNames     = 4
)

const (
	// askTimeout bounds a question, with the dial if there is no connection.
	askTimeout = 500 * time.Millisecond
	askEvery   = time.Second
	hurry      = 4 // as often while somebody hurries
	// replicasEvery is how often the replicas are asked for while they are wanted.
	replicasEvery = 2 * time.Second
	// askPause is the least time between two questions to one Sentinel, for one
	// that publishes without end.
	askPause = 20 * time.Millisecond
	// The time between two dials, which doubles with every failure.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
	// maxNotices is how many notices of one Sentinel are read in a second. The
	// others wait in its buffers.
	maxNotices = 1000
	// maxUnauthenticated is how many words of a command Redis reads before AUTH. It
	// takes a longer one for an attack, and does not say that it wants a password.
	maxUnauthenticated = 10
	// maxAsks is how many of these make all Sentinels be asked; a failover has some
	// 30.
	maxAsks = 50
	// maxChanges is how many changes of the Guard's state do that in a second.
	maxChanges = 5
	// forgetAfter is how long a Sentinel is kept that was neither heard nor
	// reached, and forgetForAnother the same where its place is wanted.
	forgetAfter      = 10 * time.Minute
	forgetForAnother = 30 * time.Second
)

// A Watcher keeps two connections to every Sentinel that it knows: on one it
// receives what the Sentinel publishes, on the other it asks about the master, by
// SENTINEL MASTER, or by INFO where that is all the user may do. It asks once a
// second, and at once after a notice, after a subscription, and by
// [Watcher.Ask]. Set the fields before [Watcher.Run]; the methods may be called
// at any time and from anywhere.
//
// The callbacks are called from many goroutines, for one Sentinel from two. None
// may be nil, and none may block: it holds up its Sentinel.
type Watcher struct {
	// Template tells how to reach a Sentinel: Username, Password and TLS are used.
	Template *checker.Redis
	// KeptOnly watches no Sentinel but those of [Watcher.Keep]: whoever may publish
	// hellos can make up others, which would be sent the password.
	KeptOnly bool
	// Guarded runs the function of each goroutine, so that a panic in it is no
	// yes; nil runs it as it is.
	Guarded func(f func())
	// WantReplicas is asked before each question whether the replicas are to be asked
	// for, too: by which address a Sentinel knows the node is told only there. They are
	// every [replicasEvery]. Nil means never.
	WantReplicas func() bool
	// WantFailover has each Sentinel tell whether the user may ask for a failover: what
	// is missing is in [sentinel.Report.Refused].
	WantFailover bool
	// Now is the clock of what is reported; nil for [time.Now].
	Now func() time.Time
	// Reported is called with every answer, for each name that was asked about.
	Reported func(sentinel.Report)
	// Noticed is called with every notice about a known name, or about none.
	Noticed func(sentinel.Notice)
	// Unreachable is called each time that there is no connection to a Sentinel, or
	// an end of one, or no answer, or one that is not understood.
	Unreachable func(address string, err error)
	// Forbidden is called each time that a Sentinel refuses the user, its password,
	// the subscription or all questions. It is tried again after [forbiddenRetry].
	Forbidden func(address string, err error)

	mu      sync.Mutex
	peers   []*peer
	start   func(*peer)  // nil unless Run runs
	hurried atomic.Int64 // until when questions are put four times a second, in nanoseconds of Unix time
}

// A peer is a known Sentinel.
type peer struct {
	address string
	wake    chan struct{} // of the goroutine that asks
	orders  chan *order   // to it
	cancel  func()        // nil if it was not started
	pace    pace          // of what it publishes, over all connections

	// Under the Watcher's mu.
	names      []string
	kept       bool
	seen       time.Time // heard or reached
	reached    time.Time
	subscribed time.Time
}

// Know adds a Sentinel that was heard, and the name of a master that it watches.
// One that is neither heard nor reached for ten minutes is forgotten; of more than
// 16, the new one is dropped unless another was not reached for half a minute.
func (w *Watcher) Know(address, name string) {
	if !w.KeptOnly {
		w.know(address, name, false)
	}
}

// Keep is Know of a Sentinel that is never forgotten.
func (w *Watcher) Keep(address, name string) { w.know(address, name, true) }

func (w *Watcher) know(address, name string, keep bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" || name == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	i := slices.IndexFunc(w.peers, func(p *peer) bool { return p.address == address })
	if i < 0 {
		if len(w.peers) >= maxSentinels && !w.forget(now, forgetForAnother) {
			return
		}
		i = len(w.peers)
		// A newcomer is given the time of one that was just reached.
		w.peers = append(w.peers, &peer{address: address, wake: make(chan struct{}, 1), orders: make(chan *order, 1),
			reached: now})
		if w.start != nil {
			defer w.start(w.peers[i])
		}
	}
	p := w.peers[i]
	p.seen, p.kept = now, p.kept || keep
	if !slices.Contains(p.names, name) && len(p.names) < maxNames {
		p.names = append(p.names, name)
		p.ask()
	}
}

// Known are the addresses and the names, in the order in which they were learnt.
func (w *Watcher) Known() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		w.mu.Lock()
		peers := make([]peer, len(w.peers))
		for i, p := range w.peers {
			peers[i] = peer{address: p.address, names: slices.Clone(p.names)}
		}
		w.mu.Unlock()
		for _, p := range peers {
			for _, name := range p.names {
				if !yield(p.address, name) {
					return
				}
			}
		}
	}
}

// Ask asks all Sentinels now. Those whose connection failed are asked when it is
// there again.
func (w *Watcher) Ask() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		p.ask()
	}
}

// Hurry is Ask, and again four times a second for one second.
func (w *Watcher) Hurry() {
	if w.hurried.Swap(time.Now().Add(askEvery).UnixNano()) < time.Now().UnixNano() {
		w.Ask()
	}
}

func (p *peer) ask() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	start := func(p *peer) {
		var peerCtx context.Context
		peerCtx, p.cancel = context.WithCancel(ctx)
		for _, serve := range []func(context.Context, *peer, *link) error{w.listen, w.question} {
			running.Go(func() { w.guard(func() { w.repeat(peerCtx, p, serve) }) })
		}
	}
	w.mu.Lock()
	w.start = start
	for _, p := range w.peers {
		start(p)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.start = nil
		for _, p := range w.peers {
			p.cancel()
		}
	}()
	tick := time.NewTicker(askEvery / hurry)
	defer tick.Stop()
	for n := 0; ; n++ {
		regular := n%hurry == 0
		if regular || time.Now().UnixNano() < w.hurried.Load() {
			w.Ask()
		}
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.mu.Lock()
			for regular && w.forget(now, forgetAfter) {
			}
			w.mu.Unlock()
		}
	}
}

// forget ends the watch of the Sentinel that was not reached for the longest, if
// that is at least for as long as given, and it was not heard meanwhile or its
// place is wanted.
func (w *Watcher) forget(now time.Time, after time.Duration) bool {
	oldest := -1
	for i, p := range w.peers {
		last := p.reached
		if after == forgetAfter {
			last = p.seen
		}
		if !p.kept && now.Sub(last) >= after && (oldest < 0 || p.reached.Before(w.peers[oldest].reached)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	if p := w.peers[oldest]; p.cancel != nil {
		p.cancel()
	}
	w.peers = slices.Delete(w.peers, oldest, oldest+1)
	return true
}

func (w *Watcher) guard(f func()) {
	if w.Guarded == nil {
		f()
		return
	}
	w.Guarded(f)
}

func (w *Watcher) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}

// repeat makes one connection after the other, and serves each until it ends.
func (w *Watcher) repeat(ctx context.Context, p *peer, serve func(context.Context, *peer, *link) error) {
	retry := minRetry
	for ctx.Err() == nil {
		begun := time.Now()
		err := w.connection(ctx, p, serve)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > time.Second {
			retry = minRetry
		}
		wait := retry/2 + rand.N(retry)
		retry = min(2*retry, maxRetry)
		if forbids(err) {
			w.Forbidden(p.address, err)
			wait = forbiddenRetry
		} else {
			w.Unreachable(p.address, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (w *Watcher) connection(ctx context.Context, p *peer, serve func(context.Context, *peer, *link) error) error {
	l, err := dial(ctx, &checker.Redis{Address: p.address, Username: w.Template.Username,
		Password: w.Template.Password, TLS: w.Template.TLS}, askTimeout)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, l.Close)()
	return l.explain(checker.StageReply, serve(ctx, p, l))
}

// forbids reports whether err is a refusal that stays one.
func forbids(err error) bool {
	e, ok := errors.AsType[*checker.Error](err)
	return ok && (e.Reason == checker.ReasonPermission || e.Reason == checker.ReasonAuth) &&
		e.Stage != checker.StageDial
}

// listen receives what a Sentinel publishes.
func (w *Watcher) listen(ctx context.Context, p *peer, l *link) error {
	channels := sentinel.NoticeKinds()
	subscription := l.Subscribe(ctx)
	defer subscription.Close()
	err := guarded(func() error {
		for some := range slices.Chunk(channels, maxUnauthenticated-1) {
			if err := subscription.Subscribe(ctx, some...); err != nil {
				return err
			}
		}
		for range channels {
			reply, err := subscription.ReceiveTimeout(ctx, askTimeout)
			if err != nil {
				return err
			}
			if s, ok := reply.(*redis.Subscription); !ok || s.Kind != "subscribe" {
				return wire.ProtocolError("the reply to SUBSCRIBE is no subscription")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.subscribe(p, w.now())
	defer w.subscribe(p, time.Time{})
	p.ask()
	for {
		var reply any
		err := guarded(func() (err error) {
			reply, err = subscription.Receive(ctx)
			return err
		})
		if err != nil {
			return err
		}
		m, ok := reply.(*redis.Message)
		if !ok || !slices.Contains(channels, m.Channel) {
			return wire.ProtocolError("what came on the subscription was not subscribed to")
		}
		w.receive(p, m, p.pace.count() <= maxAsks)
		p.pace.wait(ctx)
	}
}

// receive passes a notice on, and asks everybody what it means. One that is not
// understood may be about a master with a strange name.
func (w *Watcher) receive(p *peer, m *redis.Message, ask bool) {
	n, err := sentinel.ParseNotice(m.Channel, m.Payload)
	switch {
	case err == nil && n.Name != "" && !w.asks(p, n.Name):
		return
	case err == nil:
		n.Address, n.Time = p.address, w.now()
		w.Noticed(n)
	}
	if ask {
		w.Ask()
	}
}

// A pace counts what happens in a second, such as the notices that are read.
type pace struct {
	begun time.Time
	read  int
}

// count counts one more and returns how many there were in this second.
func (p *pace) count() int {
	if now := time.Now(); now.Sub(p.begun) >= time.Second {
		p.begun, p.read = now, 0
	}
	p.read++
	return p.read
}

// wait waits for the next second if there were too many in this one.
func (p *pace) wait(ctx context.Context) {
	if p.read < maxNotices {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second - time.Since(p.begun)):
	}
}

func (w *Watcher) subscribe(p *peer, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.subscribed = since
}

// asks reports whether the Sentinel is asked about a master of this name.
func (w *Watcher) asks(p *peer, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(p.names, name)
}
