package watch

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/wire"
	"redis-is-master/checker/sentinel"
)

// A dialogue is what is known of a Sentinel on one connection.
type dialogue struct {
	*link
	id, runID string
	masters   map[string]string // host:port by name, as it was answered last
	refused   map[string]error  // by the right that this user lacks
	replicas  time.Time         // when the replicas were asked for
	failovers bool              // whether the user may ask for one is known
}

// question asks a Sentinel again and again.
func (w *Watcher) question(ctx context.Context, p *peer, l *link) error {
	d := &dialogue{link: l, masters: make(map[string]string), refused: make(map[string]error)}
	granted := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-p.orders:
			if err := d.failover(ctx, o); err != nil {
				return err
			}
			continue
		case <-p.wake:
		}
		w.mu.Lock()
		names := slices.Clone(p.names)
		w.mu.Unlock()
		asked, begun := w.now(), time.Now()
		d.asked = begun
		if begun.Sub(granted) >= forbiddenRetry {
			clear(d.refused)
			granted, d.failovers = begun, false
		}
		replicas := begun.Sub(d.replicas) >= replicasEvery && w.WantReplicas != nil && w.WantReplicas()
		if replicas {
			d.replicas = begun
		}
		var reports []sentinel.Report
		err := guarded(func() (err error) {
			reports, err = d.ask(ctx, names, replicas, w.WantFailover && !d.failovers)
			return err
		})
		if err != nil {
			return err
		}
		w.mu.Lock()
		p.reached, p.seen = begun, begun
		subscribed := p.subscribed
		w.mu.Unlock()
		for _, r := range reports {
			r.Address, r.Time, r.Subscribed = p.address, asked, subscribed
			w.Reported(r)
		}
		select {
		case <-ctx.Done():
		case o := <-p.orders:
			if err := d.failover(ctx, o); err != nil {
				return err
			}
		case <-time.After(askPause - time.Since(begun)):
		}
	}
}

// ask puts all questions in one write, and a second time only those about a
// master that was changed meanwhile.
func (d *dialogue) ask(
	ctx context.Context, names []string, wantReplicas, wantFailover bool,
) ([]sentinel.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	pipe := d.Pipeline()
	myID := d.queue(ctx, d.id == "", pipe, "SENTINEL", "MYID")
	server := d.queue(ctx, d.runID == "", pipe, "INFO", "server")
	masters, votes := make([]*redis.Cmd, len(names)), make([]*redis.Cmd, len(names))
	replicas := make([]*redis.Cmd, len(names))
	for i, name := range names {
		masters[i] = d.queue(ctx, true, pipe, "SENTINEL", "MASTER", name)
		votes[i] = d.queueVote(ctx, pipe, d.masters[name])
		replicas[i] = d.queue(ctx, wantReplicas, pipe, "SENTINEL", "REPLICAS", name)
	}
	info := d.queue(ctx, true, pipe, "INFO", "sentinel")
	d.failovers = d.queue(ctx, wantFailover, pipe, "SENTINEL", "FAILOVER", noSuchMaster) != nil || d.failovers
	if err := d.exec(ctx, pipe); err != nil {
		return nil, err
	}
	if id, ok := d.reply(myID).(string); ok {
		d.id = id
	}
	if text, ok := d.reply(server).(string); ok {
		if s, err := checker.ParseSection(text, "# Server"); err == nil {
			d.runID = s.First("run_id")
		}
	}
	reports := make([]sentinel.Report, len(names))
	again := d.Pipeline()
	for i, name := range names {
		r, err := d.report(name, masters[i], info)
		if err != nil {
			return nil, err
		}
		if reports[i] = r; r.Master != d.masters[name] {
			votes[i] = d.queueVote(ctx, again, r.Master)
		}
		d.masters[name] = r.Master
	}
	if err := d.exec(ctx, again); err != nil {
		return nil, err
	}
	for i := range reports {
		if reply := d.reply(replicas[i]); reply != nil {
			if err := reports[i].AddReplicas(reply); err != nil {
				return nil, wire.ProtocolError(err.Error())
			}
		}
		if reply := d.reply(votes[i]); reply != nil {
			if err := reports[i].AddVote(reply); err != nil {
				return nil, wire.ProtocolError(err.Error())
			}
		}
		reports[i].ID, reports[i].RunID, reports[i].Refused = d.id, d.runID, slices.Sorted(maps.Keys(d.refused))
	}
	return reports, nil
}

// report makes a report of the answers to SENTINEL MASTER and INFO. It is an error
// if there is none.
func (d *dialogue) report(name string, master, info *redis.Cmd) (r sentinel.Report, err error) {
	text, _ := d.reply(info).(string)
	state, stateErr := sentinel.ParseSentinelInfo(name, text)
	switch reply := d.reply(master); {
	case reply != nil:
		if r, err = sentinel.ParseMaster(name, reply); err != nil {
			return r, wire.ProtocolError(err.Error())
		}
		if text == "" {
			return r, nil
		}
		r.Tilt, r.TiltFor = state.Tilt, state.TiltFor
	case master != nil && redis.HasErrorPrefix(master.Err(), "ERR No such master"):
		return sentinel.Failed(name, sentinel.ErrNoSuchMaster), nil
	case text != "":
		r = state
	case d.refused["+info"] != nil:
		return r, d.refused["+info"]
	default:
		return r, errNoSentinel
	}
	if stateErr != nil {
		return r, wire.ProtocolError(stateErr.Error())
	}
	return r, nil
}

var errNoSentinel = wire.ProtocolError("this is no Sentinel")

// queue puts a command into the pipeline if it is needed and was not refused; else
// it returns nil.
func (d *dialogue) queue(ctx context.Context, needed bool, pipe redis.Pipeliner, command ...any) *redis.Cmd {
	if !needed || d.refused[right(command)] != nil {
		return nil
	}
	return pipe.Do(ctx, command...)
}

// queueVote asks for the vote that the Sentinel has cast for a successor of the
// master. At epoch 0 it casts none, whoever asks.
func (d *dialogue) queueVote(ctx context.Context, pipe redis.Pipeliner, master string) *redis.Cmd {
	host, port, err := net.SplitHostPort(master)
	return d.queue(ctx, err == nil, pipe, "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, port, "0", "redis-is-master")
}

// right is what an ACL must grant for a command.
func right(command []any) string {
	if command[0] == "INFO" {
		return "+info"
	}
	return "+sentinel|" + strings.ToLower(command[1].(string))
}

// exec sends the pipeline. An error is one of the connection, or of AUTH.
func (d *dialogue) exec(ctx context.Context, pipe redis.Pipeliner) error {
	if pipe.Len() == 0 {
		return nil
	}
	commands, err := pipe.Exec(ctx)
	if said := redis.Error(nil); err != nil && (redis.IsAuthError(err) || !errors.As(err, &said)) {
		return err
	}
	for _, c := range commands {
		if err := c.Err(); redis.IsPermissionError(err) {
			d.refused[right(c.Args())] = err
		}
	}
	return nil
}

// reply is the reply to a command, nil if it was not sent or is an error.
func (d *dialogue) reply(c *redis.Cmd) any {
	if c == nil || c.Err() != nil {
		return nil
	}
	return c.Val()
}
