package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel/watch"
)

var redisChecks = []Check{
	{
		ID: "redis-reachable", Group: GroupRedis,
		About: "Redis answers at the address of the flags within a second, in whatever role. A node that does not answer " +
			"is never the master for this project.",
		judge: func(f Facts) []Result {
			e := cause(f.Redis.Err)
			switch {
			case e == nil:
				return tick("%s answers within %v", f.Redis.Address, f.Redis.Took.Round(100*time.Microsecond))
			case f.Redis.PasswordTrouble != "" && e.Reason == checker.ReasonAuth:
				return off // it was not asked
			case e.Reason == checker.ReasonAuth || e.Reason == checker.ReasonPermission && e.Stage != checker.StageDial ||
				e.Reason == checker.ReasonLoading:
				return tick("%s answers", f.Redis.Address)
			}
			bad := fail(hintOf(e, "start redis-server"), "%s", e)
			if e.Reason == checker.ReasonRefused && f.Host.own(f.Redis.Address) {
				return by(f.Host.start(f.Host.RedisUnit, "redis-server"), bad)
			}
			return bad
		},
	},
	{
		ID: "redis-credentials", Group: GroupRedis,
		About: "Redis accepts the user and the password, and the user that runs the daemon can read the password file. " +
			"Root can read every file, so that a check by hand may work where the daemon fails.",
		judge: func(f Facts) []Result {
			e := cause(f.Redis.Err)
			switch {
			case f.Redis.PasswordTrouble == noSuchFile:
				file := quote(f.Redis.Password)
				return by("install -m 0400 -o "+or(f.Daemon.Show["User"], "root")+" /dev/null "+file+
					" && systemd-ask-password 'Password of Redis:' >"+file,
					fail("it asks for the password of all nodes; for Redis without one, leave out --password-file",
						"%s: %s", f.Redis.Password, noSuchFile))
			case e != nil && e.Reason == checker.ReasonAuth && strings.Contains(e.Hint, "set requirepass"):
				return by(f.Redis.secure(), fail(hintOf(e, ""), "user %s: %s", f.Redis.User, e))
			case e != nil && e.Reason == checker.ReasonAuth:
				return fail(hintOf(e, "see --password-file and --user"), "user %s: %s", f.Redis.User, e)
			case f.Redis.PasswordTrouble != "":
				bad := fail("the file must exist, and be readable by the user of the daemon and by root alone",
					"the daemon cannot read %s: %s", f.Redis.Password, f.Redis.PasswordTrouble)
				if user := f.Daemon.Show["User"]; user != "" {
					file := quote(f.Redis.Password)
					bad = by("chown "+user+" "+file+" && chmod 0400 "+file, bad)
				}
				return bad
			case e != nil && e.Reason != checker.ReasonPermission && e.Reason != checker.ReasonLoading:
				return off
			case f.Redis.Password == "":
				return tick("user %s", f.Redis.User)
			}
			return tick("user %s, password of %s", f.Redis.User, f.Redis.Password)
		},
	},
	{
		ID: "redis-rights", Group: GroupRedis,
		About: "The ACL user may run INFO, and subscribe to the channel on which the Sentinels say whom they take for the " +
			"master. Without the second the daemon believes no master.",
		judge: func(f Facts) []Result {
			e := cause(f.Redis.Err)
			switch {
			case e != nil && e.Reason == checker.ReasonPermission && e.Stage != checker.StageDial:
				return by(f.Redis.cli("ACL SETUSER "+quote(f.Redis.User)+" +info", "CONFIG REWRITE"),
					fail(keepUser, "user %s may not run INFO", f.Redis.User))
			case e != nil:
				return off
			case f.Redis.Forbidden && f.Sentinels.Off:
				return tick("INFO; the hellos of the Sentinels are not wanted")
			case f.Redis.Forbidden:
				return by(f.Redis.cli(grant(watch.Grant, f.Redis.User), "CONFIG REWRITE"),
					fail(keepUser, "user %s may not subscribe to %s", f.Redis.User, watch.Channel))
			case !f.Redis.Subscribed:
				return warn("run it again", "whether %s may subscribe to %s could not be told: %v", f.Redis.User, watch.Channel,
					f.Redis.ListenErr)
			}
			return tick("INFO, and %s", watch.Channel)
		},
	},
	{
		ID: "redis-version", Group: GroupRedis,
		About: "The server is one of the releases that this project is tested with: Redis 6.0 to 8, Valkey 8 and 9. An " +
			"older one does not close its connections when its role changes, which is then noticed later.",
		judge: answered(func(f Facts) []Result {
			o := f.Redis.Observation
			name := strings.TrimSpace(o.Server + " " + o.Version)
			major, ok := majorOf(o.Version)
			known := map[string][2]int{"Redis": {6, 8}, "Valkey": {7, 9}}
			bounds, supported := known[o.Server]
			switch {
			case !ok || !supported:
				return warn("test a failover before you rely on it", "%s is not among the tested servers", name)
			case major < bounds[0]:
				return fail("upgrade to Redis 6.2 or later, or Valkey 8 or later", "%s is too old", name)
			case major > bounds[1]:
				return warn("test a failover before you rely on it", "%s is newer than the tested releases", name)
			}
			return tick("%s", name)
		}),
	},
	{
		ID: "redis-role", Group: GroupRedis,
		About: "The node is a master, or a replica whose link to its master is up. It is no Sentinel, no Redis Cluster " +
			"node, and has loaded its data.",
		judge: func(f Facts) []Result {
			o := f.Redis.Observation
			if e := cause(f.Redis.Err); e != nil {
				if e.Reason == checker.ReasonLoading {
					return warn("wait until it is loaded", "the data set is still loading")
				}
				return off
			}
			switch {
			case o.Role == checker.RoleSentinel:
				return fail("give the port of Redis by --port, which is mostly 6379", "%s is a Sentinel", f.Redis.Address)
			case o.Cluster:
				return fail("use the cluster's own failover; this is for one master and its replicas",
					"%s is a Redis Cluster node", f.Redis.Address)
			case o.Loading:
				return warn("wait until it is loaded", "the data set is still loading")
			case o.Role == checker.RoleMaster:
				return tick("master, %d online replicas", o.Replicas)
			case o.Role == checker.RoleReplica && !o.LinkUp:
				return by(f.Redis.follow(), fail("see the log of redis-server; masterauth must be the password of the master",
					"a replica whose link to %s is down", o.MasterAddr))
			case o.Role == checker.RoleReplica:
				return tick("replica of %s, link up", o.MasterAddr)
			}
			return fail("make it a master or a replica", "the role %s is neither master nor replica", o.WireRole)
		},
	},
	{
		ID: "redis-persistence", Group: GroupRedis,
		About: "A master that keeps no data on disk and is restarted by systemd comes back empty before the Sentinels " +
			"take it for down, and its replicas then delete their data, too. Also, the last save must not have failed: a " +
			"master that refuses writes is no use.",
		judge: answered(judgePersistence),
	},
	{
		ID: "redis-min-replicas", Group: GroupRedis,
		About: "min-replicas-to-write is 1 or more on every node. Without it a master that is cut off from its replicas " +
			"goes on taking writes, which are lost when it comes back as a replica.",
		judge: answered(func(f Facts) []Result {
			value, known := f.Redis.Settings["min-replicas-to-write"]
			if !known {
				return f.Redis.settingsUnknown("min-replicas-to-write")
			}
			n, _ := strconv.Atoi(value)
			if n < 1 {
				return by(f.Redis.cli("CONFIG SET min-replicas-to-write 1", "CONFIG REWRITE"), warn("do it on every node",
					"min-replicas-to-write is 0, by %s: a master that is cut off goes on taking writes, which are lost",
					f.Redis.SettingsFrom))
			}
			if f.Redis.Observation.Role == checker.RoleMaster && f.Redis.Observation.GoodReplicas < n {
				return fail("start the replicas, or see their redis-role",
					"min-replicas-to-write is %d, and %d replicas are in touch: Redis refuses writes", n,
					f.Redis.Observation.GoodReplicas)
			}
			return tick("min-replicas-to-write is %d, by %s", n, f.Redis.SettingsFrom)
		}),
	},
	{
		ID: "redis-announce", Group: GroupRedis,
		About: "The other nodes can be reached from here at the addresses that they announce. With NAT or containers a " +
			"replica may announce one that nobody reaches: then it can neither be promoted nor followed.",
		judge: answered(func(f Facts) []Result {
			if len(f.Redis.Nodes) == 0 {
				if f.Redis.Observation.Role != checker.RoleMaster {
					return off
				}
				bad := fail("start a replica: redis-cli REPLICAOF with the address and port of this node, on another node",
					"there is no replica to fail over to")
				if f.Sentinels.lead() || !f.Redis.Empty {
					return bad
				}
				bad[0].Hint = "on each node but the one that is to be the master"
				return by(f.Redis.cli("REPLICAOF "+theMaster+" 6379", "CONFIG REWRITE"), bad)
			}
			var all []string
			for _, p := range f.Redis.Nodes {
				if p.Err != "" {
					return fail("set replica-announce-ip and replica-announce-port of that node to what this host reaches, "+
						"or open the port", "%s cannot be reached: %s", p.Address, p.Err)
				}
				all = append(all, p.Address)
			}
			return tick("%s", strings.Join(all, ", "))
		}),
	},
}

const noSuchFile = "no such file or directory"

// lead reports whether a Sentinel names this node by an address that others reach.
func (s Sentinels) lead() bool {
	return slices.ContainsFunc(s.All, func(one Sentinel) bool {
		return one.Met && one.Report != nil && !isLoopback(one.Report.Master)
	})
}

// answered judges only where Redis has answered.
func answered(judge func(Facts) []Result) func(Facts) []Result {
	return func(f Facts) []Result {
		if f.Redis.Err != nil {
			return off
		}
		return judge(f)
	}
}

func judgePersistence(f Facts) []Result {
	r := f.Redis
	for key, what := range map[string]string{"rdb_last_bgsave_status": "save", "aof_last_write_status": "write of the AOF",
		"aof_last_bgrewrite_status": "rewrite of the AOF"} {
		if r.Persistence[key] == "err" {
			return fail("see the free space and the owner of the directory of redis-cli CONFIG GET dir, and the log of "+
				"redis-server", "the last %s has failed: Redis may refuse writes", what)
		}
	}
	save, knownSave := r.Settings["save"]
	aof := r.Persistence["aof_enabled"] == "1"
	switch {
	case aof:
		return tick("appendonly yes")
	case !knownSave:
		return r.settingsUnknown("save")
	case save != "":
		return tick("save %s", save)
	case r.Restart == "no":
		return tick("none, and %s has Restart=no", r.Unit)
	case r.Restart != "":
		return by(persist(r), fail("do it on every node; or systemctl edit "+r.Unit+" with [Service] Restart=no",
			"nothing is saved, and %s has Restart=%s: a master comes back empty, and its replicas follow", r.Unit, r.Restart))
	}
	return by(persist(r), warn("do it on every node; or make sure that nothing restarts it",
		"nothing is saved: a master that is restarted comes back empty, and its replicas follow"))
}

func persist(r Redis) string { return r.cli("CONFIG SET appendonly yes", "CONFIG REWRITE") }

// keepUser is how a changed user outlives a restart.
const keepUser = "as a user who may; where the users are in an aclfile, run ACL SAVE instead of CONFIG REWRITE"

// grant names the user in a command that grants rights, and quotes what a shell
// would take for its own.
func grant(command, user string) string {
	words := strings.Fields(strings.ReplaceAll(command, "NAME", quote(user)))
	for i, w := range words {
		if strings.ContainsAny(w, "&*|") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

func (r Redis) settingsUnknown(what string) []Result {
	return warn("run it as root; or let the user "+r.User+" ask: +config|get",
		"%s could not be learnt: %s", what, r.SettingsErr)
}

func majorOf(version string) (int, bool) {
	text, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// cause is the error as the checker has made it; nil for none.
func cause(err error) *checker.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*checker.Error](err); ok {
		return e
	}
	return &checker.Error{Reason: checker.ReasonProtocol, Stage: checker.StageReply, Err: fmt.Errorf("no answer")}
}

func hintOf(e *checker.Error, otherwise string) string {
	if e.Hint != "" {
		return e.Hint
	}
	return otherwise
}
