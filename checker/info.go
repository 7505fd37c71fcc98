package checker

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// infoSections are the sections a probe asks for, one INFO each: several
// sections in one INFO need Redis 7.0.
var infoSections = [...]string{"replication", "persistence", "server"}

var infoCommands = [][]string{{"INFO", infoSections[0]}, {"INFO", infoSections[1]}, {"INFO", infoSections[2]}}

// parseInfo reads the replies to INFO replication, persistence and server.
//
// Format: https://redis.io/docs/latest/commands/info/ , lines that end in
// CRLF, "# Section" or "key:value". A line outside its own section, or one
// that is not known, is ignored; what a yes depends on must be there, once.
func parseInfo(replies [len(infoSections)]string) (Observation, error) {
	server, err := parseSection(replies[2], "# Server")
	if err != nil {
		return Observation{}, err
	}
	o := Observation{
		Version: server.first("valkey_version", "redis_version"),
		RunID:   server.first("run_id"),
		Uptime:  server.seconds("uptime_in_seconds", 0),
		TCPPort: int(server.number("tcp_port", 0)),

		GoodReplicas: -1,
		LastIO:       -1,
		Behind:       -1,
	}
	// Valkey 8 calls it server_mode.
	switch mode := server.first("redis_mode", "server_mode"); mode {
	case "sentinel":
		o.Role, o.WireRole = RoleSentinel, "sentinel"
		return o, server.err
	case "cluster":
		o.Cluster = true
	case "standalone":
	default:
		return Observation{}, fmt.Errorf("the server's mode is %s, neither standalone, cluster nor sentinel", quote(mode))
	}

	persistence, err := parseSection(replies[1], "# Persistence")
	if err != nil {
		return Observation{}, err
	}
	o.Loading = persistence.flag("loading", true)

	repl, err := parseSection(replies[0], "# Replication")
	if err != nil {
		return Observation{}, err
	}
	o.WireRole = repl.first("role")
	switch o.WireRole {
	case "master":
		o.Role = RoleMaster
		o.Offset = repl.number("master_repl_offset", 0)
		o.Failover = repl.first("master_failover_state")
		replicas := repl.replicas()
		o.Replicas = len(replicas)
		good := 0
		for _, r := range replicas {
			if r.lag <= maxReplicaLag {
				good++
			}
			if r.lag <= followerLag {
				o.Followers = append(o.Followers, r.addr)
			}
		}
		o.GoodReplicas = int(repl.number("min_slaves_good_slaves", int64(good)))
	case "slave", "replica", "active-replica":
		o.Role = RoleReplica
		if o.WireRole == "active-replica" {
			o.Role = RoleActiveReplica
		}
		o.Offset = repl.number("slave_repl_offset", 0)
		if host := repl.first("master_host"); host != "" {
			o.MasterAddr = net.JoinHostPort(host, repl.first("master_port"))
		}
		o.LinkUp = repl.first("master_link_status") == "up"
		o.Syncing = repl.flag("master_sync_in_progress", false)
		o.LastIO = repl.seconds("master_last_io_seconds_ago", -1)
	case "":
		return Observation{}, errors.New("INFO replication has no role line")
	default:
		return Observation{}, fmt.Errorf("the role is %s, which no server has", quote(o.WireRole))
	}
	if err := errors.Join(server.err, persistence.err, repl.err); err != nil {
		return Observation{}, err
	}
	return o, nil
}

// A section is the lines of one INFO section, and the first thing found wrong
// with a value that was asked for.
type section struct {
	lines string
	err   error
}

// parseSection finds the lines between header and the next header.
func parseSection(reply, header string) (*section, error) {
	if reply != "" && !strings.HasSuffix(reply, "\r\n") {
		return nil, fmt.Errorf("the reply breaks off inside a line of %q", header)
	}
	for at := 0; ; {
		line, rest, more := strings.Cut(reply[at:], "\r\n")
		if !more {
			return nil, fmt.Errorf("the reply has no section %q", header)
		}
		if line == header {
			if strings.Contains("\r\n"+rest, "\r\n"+header+"\r\n") {
				return nil, fmt.Errorf("the reply has two sections %q", header)
			}
			if end := strings.Index("\r\n"+rest, "\r\n#"); end >= 0 {
				rest = rest[:end]
			}
			return &section{lines: rest}, nil
		}
		at += len(line) + len("\r\n")
	}
}

// each calls f with every key and value.
func (s *section) each(f func(key, value string)) {
	for line := range strings.SplitSeq(s.lines, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			f(key, value)
		}
	}
}

// get returns a key's value. A key that stands there twice is an error:
// neither value can be believed.
func (s *section) get(key string) (value string, ok bool) {
	s.each(func(k, v string) {
		if k == key {
			if ok {
				s.fail("%s stands there twice", key)
			}
			value, ok = v, true
		}
	})
	return value, ok
}

// first returns the value of the first key that is there.
func (s *section) first(keys ...string) string {
	for _, key := range keys {
		if value, ok := s.get(key); ok {
			return value
		}
	}
	return ""
}

// number returns a key's integer, or missing if there is no such key.
func (s *section) number(key string, missing int64) int64 {
	value, ok := s.get(key)
	if !ok {
		return missing
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		s.fail("%s is %s, not a number", key, quote(value))
	}
	return n
}

// seconds returns a key's whole seconds; Redis says -1 for "never".
func (s *section) seconds(key string, missing time.Duration) time.Duration {
	n := s.number(key, -1)
	if n < 0 {
		return missing
	}
	if n > int64(1<<63-1)/int64(time.Second) {
		s.fail("%s is too large", key)
		return missing
	}
	return time.Duration(n) * time.Second
}

// flag returns a key's 0 or 1.
func (s *section) flag(key string, required bool) bool {
	value, ok := s.get(key)
	if value != "0" && value != "1" && (ok || required) {
		s.fail("%s is %s, neither 0 nor 1", key, quote(value))
	}
	return value != "0" && ok
}

// How many seconds ago a replica was heard: one that is cut off stays online
// until repl-timeout. The first is the default of min-replicas-max-lag; each
// speaks once a second.
const (
	maxReplicaLag = 10
	followerLag   = 1
)

// A link is an online replica of a master.
type link struct {
	addr string // host:port
	lag  int64  // seconds since it was heard
}

// replicas reads lines such as
// "slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0".
func (s *section) replicas() (online []link) {
	last := -1
	s.each(func(key, value string) {
		number, ok := strings.CutPrefix(key, "slave")
		index, err := strconv.ParseUint(number, 10, 31)
		if !ok || err != nil {
			return
		}
		if int(index) <= last {
			s.fail("%s stands there twice, or out of order", key)
		}
		last = int(index)
		fields := map[string]string{"lag": "0"} // servers before 2.8 do not report it
		for pair := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(pair, "=")
			fields[k] = v
		}
		if fields["state"] != "online" {
			return
		}
		l := link{addr: net.JoinHostPort(fields["ip"], fields["port"])}
		if l.lag, err = strconv.ParseInt(fields["lag"], 10, 64); err != nil || l.lag < 0 {
			l.lag = maxReplicaLag + 1
		}
		online = append(online, l)
	})
	return online
}

func (s *section) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// quote makes a word of the server fit for a line of output.
func quote(s string) string {
	if s == "" {
		return "missing"
	}
	if len(s) > 32 {
		s = s[:32] + "..."
	}
	return strconv.QuoteToASCII(s)
}
