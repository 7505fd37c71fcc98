package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
)

// settings are those of redis.conf that are looked at.
var settings = []string{"save", "min-replicas-to-write", "bind"}

// hearFor is how long the Sentinels are listened to where nothing else tells of
// them: each says hello every two seconds.
const hearFor = 2200 * time.Millisecond

func gatherRedis(ctx context.Context, t Target, listen bool) (r Redis, heard []checker.Hello) {
	r = Redis{Address: t.Redis.Address, User: or(t.Redis.Username, "default"), Password: t.PasswordFile,
		TLS: t.Redis.TLS != nil}
	node := fresh(t.Redis, t.Redis.Address)
	defer node.Close()
	asking, cancel := within(ctx)
	defer cancel()
	started := time.Now()
	r.Observation, r.Err = node.Probe(asking)
	r.Took = time.Since(started)
	if r.Err != nil {
		return r, nil
	}
	c, err := client(asking, node)
	if err != nil {
		r.ListenErr, r.SettingsErr = err, "there was no connection"
		return r, nil
	}
	defer c.Close()
	var both sync.WaitGroup
	both.Go(func() { guarded(func() { r.ask(ctx, c) }) })
	both.Go(func() { guarded(func() { heard = r.hear(ctx, c, listen) }) })
	both.Wait()
	return r, heard
}

// ask learns what INFO and CONFIG tell.
func (r *Redis) ask(ctx context.Context, c *redis.Client) {
	asking, cancel := within(ctx)
	defer cancel()
	pipe := c.Pipeline()
	server, persistence := pipe.Info(asking, "server"), pipe.Info(asking, "persistence")
	replication, keyspace := pipe.Info(asking, "replication"), pipe.Info(asking, "keyspace")
	var got []*redis.Cmd
	for _, s := range settings {
		got = append(got, pipe.Do(asking, "CONFIG", "GET", s))
	}
	_, _ = pipe.Exec(asking) // each has an error of its own
	r.Persistence = section(persistence.Val(), "# Persistence")
	r.Replicas = replicasOf(section(replication.Val(), "# Replication"))
	r.Empty = keyspace.Err() == nil && strings.TrimSpace(keyspace.Val()) == "# Keyspace"
	about := section(server.Val(), "# Server")
	values := make(map[string]string)
	for i, cmd := range got {
		if pair, ok := cmd.Val().([]any); ok && cmd.Err() == nil && len(pair) == 2 {
			values[settings[i]], _ = pair[1].(string)
		}
	}
	if len(values) == len(settings) {
		r.Settings, r.SettingsFrom = values, "CONFIG GET"
	} else {
		r.SettingsErr = r.readConfig(about["config_file"])
	}
	r.Unit, r.Restart = unitOf(ctx, about["process_id"])
}

// readConfig reads the file that Redis was started with, where the user may not
// ask for it. It returns why that cannot be.
func (r *Redis) readConfig(file string) string {
	const refused = "the user may not run CONFIG GET"
	if file == "" {
		return refused + ", and redis-server was started without a file"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return refused + ", and its file cannot be read"
	}
	values, ok := parseConfig(string(text))
	if !ok {
		return refused + ", and " + file + " includes other files"
	}
	r.Settings, r.SettingsFrom = values, file
	return ""
}

// parseConfig reads what is looked at of a redis.conf. It is not ok if some of it
// may be elsewhere.
func parseConfig(text string) (values map[string]string, ok bool) {
	values = map[string]string{"save": "3600 1 300 100 60 10000", "min-replicas-to-write": "0", "bind": "* -::*"}
	var saves []string
	saved := false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		rest := strings.Join(words[1:], " ")
		switch strings.ToLower(words[0]) {
		case "include":
			return nil, false
		case "save":
			saved = true
			if rest == `""` || rest == "''" {
				saves = nil
			} else {
				saves = append(saves, rest)
			}
		case "min-replicas-to-write", "min-slaves-to-write":
			values["min-replicas-to-write"] = rest
		case "bind":
			values["bind"] = rest
		}
	}
	if saved {
		values["save"] = strings.Join(saves, " ")
	}
	return values, true
}

// section is a section of INFO.
func section(reply, header string) map[string]string {
	all := make(map[string]string)
	if s, err := checker.ParseSection(reply, header); err == nil {
		s.Each(func(key, value string) { all[key] = value })
	}
	return all
}

// hear learns whether the user may subscribe, and listens, where that is wanted,
// to what the Sentinels say.
func (r *Redis) hear(ctx context.Context, c *redis.Client, longer bool) (all []checker.Hello) {
	sub := c.Subscribe(ctx)
	defer sub.Close()
	if err := sub.Subscribe(ctx, watch.Channel); err != nil {
		r.Forbidden, r.ListenErr = redis.IsPermissionError(err), fmt.Errorf("no connection")
		return nil
	}
	deadline := time.Now().Add(question)
	for {
		got, err := sub.ReceiveTimeout(ctx, max(time.Millisecond, time.Until(deadline)))
		switch m := got.(type) {
		case *redis.Subscription:
			r.Subscribed = true
			if !longer {
				return nil
			}
			deadline = time.Now().Add(hearFor)
		case *redis.Message:
			if h, err := sentinel.ParseHello(m.Payload); err == nil {
				all = append(all, h)
			}
		}
		if err != nil {
			if !r.Subscribed {
				r.Forbidden, r.ListenErr = redis.IsPermissionError(err), fmt.Errorf("no answer")
			}
			return all
		}
	}
}

// unitOf is the unit of systemd that runs a process of this host, and its
// Restart=. Both are empty where that is not known.
func unitOf(ctx context.Context, pid string) (unit, restart string) {
	n, err := strconv.Atoi(pid)
	if err != nil || !hasSystemd() {
		return "", ""
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n))
	if !strings.Contains(string(name), "redis") && !strings.Contains(string(name), "valkey") {
		return "", "" // another host's, or another container's
	}
	cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n))
	for line := range strings.Lines(string(cgroup)) {
		if base := filepath.Base(strings.TrimSpace(line)); strings.HasSuffix(base, ".service") {
			unit = base
		}
	}
	if unit == "" {
		return "", ""
	}
	show, why := systemctl(ctx, unit, "Restart")
	if why != "" {
		return "", ""
	}
	return unit, show["Restart"]
}

// reachNodes dials the other nodes at the addresses that they announce.
func reachNodes(ctx context.Context, f Facts) (all []Peer) {
	if f.Redis.Err != nil {
		return nil
	}
	seen := make(map[string]bool)
	add := func(address string) {
		if address != "" && !seen[address] && len(all) < 16 {
			seen[address] = true
			all = append(all, Peer{Address: address})
		}
	}
	o := f.Redis.Observation
	add(o.MasterAddr)
	for _, a := range f.Redis.Replicas {
		add(a)
	}
	for _, s := range f.Sentinels.All { // which a replica has no other way to know of
		if s.Report == nil {
			continue
		}
		for _, k := range s.Report.Nodes {
			if k.RunID != o.RunID && k.Age < 25*time.Second {
				add(k.Address)
			}
		}
	}
	var dialling sync.WaitGroup
	for i := range all {
		dialling.Go(func() {
			ctx, cancel := within(ctx)
			defer cancel()
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", all[i].Address)
			if err == nil {
				c.Close()
				return
			}
			all[i].Err = checker.Classify(checker.StageDial, all[i].Address, time.Now().Add(-question), err).Err.Error()
		})
	}
	dialling.Wait()
	return all
}

// replicasOf are the addresses of the replicas as INFO replication has them.
//
// Format: "slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0".
func replicasOf(replication map[string]string) (all []string) {
	for i := range 64 {
		line, ok := replication["slave"+strconv.Itoa(i)]
		if !ok {
			continue
		}
		fields := make(map[string]string)
		for part := range strings.SplitSeq(line, ",") {
			key, value, _ := strings.Cut(part, "=")
			fields[key] = value
		}
		if fields["ip"] != "" && fields["port"] != "" {
			all = append(all, net.JoinHostPort(fields["ip"], fields["port"]))
		}
	}
	return all
}
