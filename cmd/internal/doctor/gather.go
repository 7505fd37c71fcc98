package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

// A Target is what the daemon was told by its flags.
type Target struct {
	// Redis is the node; Sentinel tells how to reach any Sentinel. Neither is used
	// itself.
	Redis, Sentinel *checker.Redis
	// The files with their passwords; empty for none.
	PasswordFile, SentinelPasswordFile string
	// Listed are the addresses of the listed Sentinels, and Name what they call the
	// master.
	Listed      []string
	Name        string
	NoSentinels bool // --hello off, and none is listed

	Interval, Timeout, MaxAge time.Duration
	Socket, TrackFile         string
	Exec                      string         // the program of --exec; empty for none
	HTTP                      string         // where the daemon answers HTTP; empty for nowhere
	VIP                       []netip.Prefix // that the daemon holds
	VIPInterface              string
	WatchedVIP                []netip.Addr // that keepalived holds, as the daemon is told

	AskHTTP flags.HTTPSettings // how to ask the daemons of other nodes

	Unit string // such as redis-is-masterd.service
}

const (
	question = time.Second      // bounds each question
	whole    = 12 * time.Second // bounds all of them
)

// Gather asks for all facts within some seconds. It changes nothing, and sends
// passwords only to whom the daemon would.
func Gather(ctx context.Context, t Target) Facts {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	var f Facts
	var others sync.WaitGroup
	var keepalived Keepalived
	var haproxy HAProxy
	others.Go(func() { keepalived = gatherKeepalived(ctx, t) })
	others.Go(func() { haproxy = gatherHAProxy(ctx) })
	f.Daemon = gatherDaemon(ctx, t)
	var heard []checker.Hello
	f.Redis, heard = gatherRedis(ctx, t, len(t.Listed) == 0 && !knowsSentinels(f.Daemon.Document))
	f.Redis.PasswordTrouble = passwordTrouble(t, f.Daemon)
	f.Sentinels = gatherSentinels(ctx, t, f, heard)
	f.Redis.Nodes = reachNodes(ctx, f)
	others.Wait()
	f.Keepalived, f.HAProxy = keepalived, haproxy
	for i := range f.Keepalived.Scripts {
		f.Keepalived.Scripts[i].May = mayOpen(f.Keepalived.Scripts[i], f.Daemon)
	}
	f.Host = gatherHost(ctx, f)
	return f
}

// knowsSentinels reports whether a daemon has found some.
func knowsSentinels(doc *report.Document) bool {
	if doc == nil || doc.Observation == nil || doc.Observation.Standing == nil {
		return false
	}
	return len(doc.Observation.Standing.Asked)+len(doc.Observation.Standing.Claims) > 0
}

// within bounds one question.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, question)
}

// fresh is a node to be asked apart from any other question.
func fresh(r *checker.Redis, address string) *checker.Redis {
	return &checker.Redis{Network: r.Network, Address: address, Username: r.Username, Password: r.Password,
		PasswordHint: r.PasswordHint, TLS: r.TLS, Owner: r.Owner}
}

// client is go-redis on one connection, made as the daemon makes its own. It must
// be closed.
func client(ctx context.Context, node *checker.Redis) (*redis.Client, error) {
	password := ""
	if node.Password != nil {
		var err error
		if password, err = node.Password(ctx); err != nil {
			return nil, err
		}
	}
	return redis.NewClient(&redis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := within(ctx)
			defer cancel()
			return node.Connect(ctx)
		},
		Username:                 node.Username,
		Password:                 password,
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ContextTimeoutEnabled:    true,
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              question,
		ReadTimeout:              question,
		WriteTimeout:             question,
		PoolSize:                 2,
		PipelinePoolSize:         -1,
	}), nil
}

// guarded calls go-redis, which panics where a server sends other types than a
// real one does.
func guarded(f func()) {
	defer func() { _ = recover() }()
	f()
}

// may reports whether a user may do to a file what bit says: 4 to read, 2 to
// write.
func may(mode os.FileMode, owner, group, user int, groups []int, bit os.FileMode) bool {
	switch {
	case user == 0:
		return true
	case user == owner:
		return mode&(bit<<6) != 0
	}
	for _, g := range groups {
		if g == group {
			return mode&(bit<<3) != 0
		}
	}
	return mode&bit != 0
}
