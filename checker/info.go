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
	server, err := ParseSection(replies[2], "# Server")
	if err != nil {
		return Observation{}, err
	}
	o := Observation{
		RunID:   server.First("run_id"),
		Uptime:  server.seconds("uptime_in_seconds", 0),
		TCPPort: int(server.number("tcp_port", 0)),

		GoodReplicas: -1,
		Unreplicated: -1,
		LastIO:       -1,
		Behind:       -1,
	}
	// Valkey and Dragonfly report a redis_version, too: that of the Redis whose
	// protocol they speak.
	for _, product := range []struct{ name, key string }{
		{"Valkey", "valkey_version"}, {"Dragonfly", "dragonfly_version"}, {"Redis", "redis_version"},
	} {
		if o.Version = server.First(product.key); o.Version != "" {
			o.Server = product.name
			break
		}
	}
	// Valkey 8 calls it server_mode.
	switch mode := server.First("redis_mode", "server_mode"); mode {
	case "sentinel":
		o.Role, o.WireRole = RoleSentinel, "sentinel"
		return o, server.Err
	case "cluster":
		o.Cluster = true
	case "standalone":
	default:
		return Observation{}, fmt.Errorf("the server's mode is %s, neither standalone, cluster nor sentinel", quote(mode))
	}

	persistence, err := ParseSection(replies[1], "# Persistence")
	if err != nil {
		return Observation{}, err
	}
	o.Loading = persistence.Flag("loading", true)

	repl, err := ParseSection(replies[0], "# Replication")
	if err != nil {
		return Observation{}, err
	}
	o.WireRole = repl.First("role")
	switch o.WireRole {
	case "master":
		o.Role = RoleMaster
		o.Offset = repl.number("master_repl_offset", 0)
		o.Failover = repl.First("master_failover_state")
		o.Links = repl.replicas()
		o.Replicas = len(o.Links)
		good := 0
		for _, r := range o.Links {
			if r.heardWithin(maxReplicaLag) {
				good++
			}
			if r.heardWithin(0) {
				o.Acknowledged++
			}
			if r.heardWithin(followerLag) {
				o.Followers = append(o.Followers, r.Address)
				if behind := max(o.Offset-r.Offset, 0); r.Offset >= 0 && (o.Unreplicated < 0 || behind < o.Unreplicated) {
					o.Unreplicated = behind
				}
			}
		}
		o.GoodReplicas = int(repl.number("min_slaves_good_slaves", int64(good)))
	case "slave", "replica", "active-replica":
		o.Role = RoleReplica
		if o.WireRole == "active-replica" {
			o.Role = RoleActiveReplica
		}
		o.Offset = repl.number("slave_repl_offset", 0)
		if host := repl.First("master_host"); host != "" {
			o.MasterAddr = net.JoinHostPort(host, repl.First("master_port"))
		}
		o.LinkUp = repl.First("master_link_status") == "up"
		o.Syncing = repl.Flag("master_sync_in_progress", false)
		o.LastIO = repl.seconds("master_last_io_seconds_ago", -1)
	case "":
		return Observation{}, errors.New("INFO replication has no role line")
	default:
		return Observation{}, fmt.Errorf("the role is %s, which no server has", quote(o.WireRole))
	}
	if err := errors.Join(server.Err, persistence.Err, repl.Err); err != nil {
		return Observation{}, err
	}
	return o, nil
}

// A Section is the lines of one section of INFO.
type Section struct {
	// Err is the first thing found wrong with a value that was asked for.
	Err error

	lines string
}

// ParseSection finds the lines between header and the next header.
func ParseSection(reply, header string) (*Section, error) {
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
			return &Section{lines: rest}, nil
		}
		at += len(line) + len("\r\n")
	}
}

// Each calls f with every key and value.
func (s *Section) Each(f func(key, value string)) {
	for line := range strings.SplitSeq(s.lines, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			f(key, value)
		}
	}
}

// maxValue bounds a value that is asked for; the longest real one is a host name
// of 255 bytes.
const maxValue = 256

// get returns a key's value. A key that stands there twice is an error:
// neither value can be believed.
func (s *Section) get(key string) (value string, ok bool) {
	s.Each(func(k, v string) {
		if k == key {
			if ok {
				s.Fail("%s stands there twice", key)
			}
			value, ok = v, true
		}
	})
	if len(value) > maxValue {
		s.Fail("%s is longer than any server's", key)
		value = ""
	}
	return value, ok
}

// First returns the value of the first key that is there.
func (s *Section) First(keys ...string) string {
	for _, key := range keys {
		if value, ok := s.get(key); ok {
			return value
		}
	}
	return ""
}

// number returns a key's integer, or missing if there is no such key.
func (s *Section) number(key string, missing int64) int64 {
	value, ok := s.get(key)
	if !ok {
		return missing
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		s.Fail("%s is %s, not a number", key, quote(value))
	}
	return n
}

// seconds returns a key's whole seconds; Redis says -1 for "never".
func (s *Section) seconds(key string, missing time.Duration) time.Duration {
	n := s.number(key, -1)
	if n < 0 {
		return missing
	}
	if n > int64(1<<63-1)/int64(time.Second) {
		s.Fail("%s is too large", key)
		return missing
	}
	return time.Duration(n) * time.Second
}

// Flag returns a key's 0 or 1.
func (s *Section) Flag(key string, required bool) bool {
	value, ok := s.get(key)
	if value != "0" && value != "1" && (ok || required) {
		s.Fail("%s is %s, neither 0 nor 1", key, quote(value))
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

// heardWithin reports whether the replica was heard within so many seconds.
func (l Link) heardWithin(seconds int64) bool { return l.Lag >= 0 && l.Lag <= seconds }

// replicas reads lines such as
// "slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0".
func (s *Section) replicas() (online []Link) {
	last := -1
	s.Each(func(key, value string) {
		number, ok := strings.CutPrefix(key, "slave")
		index, err := strconv.ParseUint(number, 10, 31)
		if !ok || err != nil {
			return
		}
		if int(index) <= last {
			s.Fail("%s stands there twice, or out of order", key)
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
		l := Link{Address: net.JoinHostPort(fields["ip"], fields["port"])}
		if l.Lag, err = strconv.ParseInt(fields["lag"], 10, 64); err != nil {
			l.Lag = -1
		}
		if l.Offset, err = strconv.ParseInt(fields["offset"], 10, 64); err != nil {
			l.Offset = -1
		}
		online = append(online, l)
	})
	return online
}

// Fail notes that a value is wrong.
func (s *Section) Fail(format string, args ...any) {
	if s.Err == nil {
		s.Err = fmt.Errorf(format, args...)
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
