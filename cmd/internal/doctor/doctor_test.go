package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel"
	"redis-is-master/keepalived/lint"
)

// well are the facts of a master on which nothing is to be mended.
func well() Facts {
	vip := netip.MustParsePrefix("10.0.0.100/32")
	instance := lint.Instance{Name: "redis", Interface: "eth0", RouterID: 51, Advert: 10 * time.Millisecond, Refresh: true,
		Addresses: []netip.Prefix{vip}}
	f := Facts{
		Redis: Redis{Address: "127.0.0.1:6379", User: "default", Password: "/etc/redis-is-master/password", Subscribed: true,
			Observation: checker.Observation{Role: checker.RoleMaster, Server: "Redis", Version: "7.0.15", RunID: "run",
				TCPPort: 6379, Replicas: 2, GoodReplicas: 2},
			Settings:     map[string]string{"save": "", "min-replicas-to-write": "1", "bind": "* -::*"},
			SettingsFrom: "CONFIG GET",
			Persistence:  map[string]string{"aof_enabled": "1"},
			Nodes:        []Peer{{Address: "10.0.0.2:6379"}, {Address: "10.0.0.3:6379"}}},
		Sentinels: Sentinels{Name: "mymaster"},
		Daemon: Daemon{Systemd: true, Unit: "redis-is-masterd.service", Show: map[string]string{"LoadState": "loaded",
			"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no", "WatchdogUSec": "3s"},
			Running: true, Interval: 100 * time.Millisecond, Timeout: 500 * time.Millisecond, MaxAge: time.Second,
			Directory: "/run/redis-is-master", DirectoryMod: 0o755, Tmpfiles: "/usr/lib/tmpfiles.d/redis-is-master.conf",
			Socket: "/run/redis-is-master/check.sock", SocketMode: 0o660,
			Document: &report.Document{Answer: checker.Yes, Reason: checker.OK, Detail: "role:master",
				Daemon: &report.Daemon{AgeSeconds: 0.05}},
			TrackFile: "/run/redis-is-master/master", Track: "1"},
		Keepalived: Keepalived{Version: "2.2.7", Running: true, File: "/etc/keepalived/keepalived.conf",
			Summary: lint.Summary{Instances: []lint.Instance{instance}},
			Scripts: []Access{{Script: lint.Script{Name: "alive", User: "redis-is-master"}, Known: true, May: true}},
			Wire: []Wire{{Instance: instance, Adverts: []Advert{{From: netip.MustParseAddr("10.0.0.1"), RouterID: 51, Own: true,
				Priority: 101, Addresses: []netip.Addr{vip.Addr()}}}}},
			VIPs: []VIP{{Prefix: vip, Interface: "eth0", Here: true}}},
		Host: Host{Listening: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6379")}, Interfaces: []string{"eth0"}},
		HAProxy: HAProxy{Running: true, File: "/etc/haproxy/haproxy.cfg",
			Text: "backend master\n option httpchk GET /master\n" +
				" default-server check port 9736 on-marked-down shutdown-sessions\n server a 10.0.0.1:6379\n"},
	}
	for _, a := range []string{"10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"} {
		f.Sentinels.All = append(f.Sentinels.All, Sentinel{Address: a, From: []string{"the daemon"}, Met: true, Quorum: "yes",
			Names: []string{"mymaster"}, Report: &sentinel.Report{Name: "mymaster", Master: "10.0.0.1:6379", Quorum: 2,
				OtherSentinels: 2, DownAfter: 5 * time.Second, FailoverTimeout: time.Minute}})
	}
	return f
}

// replica makes the facts those of a replica.
func replica(f *Facts) {
	f.Redis.Observation = checker.Observation{Role: checker.RoleReplica, Server: "Redis", Version: "7.0.15", RunID: "run",
		TCPPort: 6379, MasterAddr: "10.0.0.1:6379", LinkUp: true}
	f.Daemon.Document.Answer, f.Daemon.Document.Reason = checker.No, checker.ReasonRole
	f.Daemon.Track = "0"
	f.Keepalived.Wire[0].Adverts[0].Own = false
	f.Keepalived.VIPs[0].Here, f.Keepalived.VIPs[0].Others = false, []string{"02:00:00:00:00:01"}
}

var refused = &checker.Error{Reason: checker.ReasonRefused, Stage: checker.StageDial, Address: "there",
	Err: errors.New("connection refused")}

var (
	unsent = &checker.Error{Reason: checker.ReasonAuth, Stage: checker.StageDial, Err: errors.New("no such file")}
	open   = &checker.Error{Reason: checker.ReasonAuth, Stage: checker.StageAuth,
		Err:  errors.New("a password was given, and the server has none"),
		Hint: "give none, or set requirepass in redis.conf"}
)

// judged are facts that no lab can be brought to, or not soon, and what must be
// said of them.
var judged = []struct {
	name  string
	facts func(f *Facts)
	id    string
	state State
	says  string
}{
	{"an old Redis", func(f *Facts) { f.Redis.Observation.Version = "5.0.14" }, "redis-version", Failed,
		"5.0.14 is too old"},
	{"a new Redis", func(f *Facts) { f.Redis.Observation.Version = "11.0.0" }, "redis-version", Warning, "newer than"},
	{"Valkey", func(f *Facts) { f.Redis.Observation.Server, f.Redis.Observation.Version = "Valkey", "9.1.2" },
		"redis-version",
		OK, "Valkey 9.1.2"},
	{"another server", func(f *Facts) { f.Redis.Observation.Server = "Dragonfly" }, "redis-version", Warning, "not among"},
	{"a Sentinel's port", func(f *Facts) { f.Redis.Observation.Role = checker.RoleSentinel }, "redis-role", Failed,
		"is a Sentinel"},
	{"a cluster", func(f *Facts) { f.Redis.Observation.Cluster = true }, "redis-role", Failed, "Cluster"},
	{"loading", func(f *Facts) { f.Redis.Observation.Loading = true }, "redis-role", Warning, "loading"},
	{"an active replica", func(f *Facts) {
		f.Redis.Observation.Role, f.Redis.Observation.WireRole = checker.RoleActiveReplica, "active-replica"
	}, "redis-role", Failed, "active-replica"},
	{"nothing saved, and restarted", func(f *Facts) {
		f.Redis.Persistence, f.Redis.Unit, f.Redis.Restart = nil, "redis-server.service", "always"
	}, "redis-persistence", Failed, "redis-server.service has Restart=always"},
	{"nothing saved, and not restarted", func(f *Facts) {
		f.Redis.Persistence, f.Redis.Unit, f.Redis.Restart = nil, "redis-server.service", "no"
	}, "redis-persistence", OK, "Restart=no"},
	{"a save that failed", func(f *Facts) { f.Redis.Persistence["rdb_last_bgsave_status"] = "err" }, "redis-persistence",
		Failed, "the last save has failed"},
	{"settings that are not known", func(f *Facts) { f.Redis.Settings, f.Redis.SettingsErr = nil, "no right" },
		"redis-min-replicas", Warning, "could not be learnt: no right"},
	{"no replica", func(f *Facts) { f.Redis.Nodes = nil }, "redis-announce", Failed, "no replica to fail over to"},
	{"a subscription that is not known", func(f *Facts) { f.Redis.Subscribed, f.Redis.ListenErr = false, refused },
		"redis-rights", Warning, "could not be told"},

	{"no password file", func(f *Facts) {
		f.Redis.Err, f.Redis.Password, f.Redis.PasswordTrouble = unsent, "/etc/password", noSuchFile
	}, "redis-credentials", Failed, "/etc/password: no such file"},
	{"a Redis without a password", func(f *Facts) { f.Redis.Err, f.Redis.Password = open, "/etc/password" },
		"redis-credentials", Failed, "the server has none"},
	{"a Sentinel that names itself", func(f *Facts) { f.Sentinels.All[1].Report.Master = "127.0.0.1:6379" },
		"sentinels-name", Failed, "10.0.0.2:26379 names 127.0.0.1:6379, which is another node at each"},
	{"a Sentinel of this host that others do not reach", func(f *Facts) {
		f.Host.Addresses, f.Host.SentinelUnit = []netip.Addr{netip.MustParseAddr("10.0.0.1")}, "redis-sentinel.service"
		f.Host.SentinelFile, f.Sentinels.All[0].Err = "/etc/redis/sentinel.conf", refused
	}, "sentinels-reachable", Warning, "1 of 3"},
	{"a keepalived without a configuration", func(f *Facts) {
		f.Keepalived.File, f.Keepalived.Running, f.Host.Profile = "", false, exampleProfile
	}, "keepalived-running", Failed, "has no configuration"},
	{"no Sentinel", func(f *Facts) { f.Sentinels.All = nil }, "sentinels-known", Failed, "none is known"},
	{"no Sentinel is wanted", func(f *Facts) { f.Sentinels = Sentinels{Off: true} }, "sentinels-known", OK, "--hello off"},
	{"two Sentinels", func(f *Facts) { f.Sentinels.All = f.Sentinels.All[:2] }, "sentinels-known", Warning, "only 2"},
	{"two names of the master", func(f *Facts) { f.Sentinels.All[1].Report.Master = "10.0.0.2:6379" }, "sentinels-name",
		Failed,
		"10.0.0.2:26379 names 10.0.0.2:6379"},
	{"a name that does not resolve", func(f *Facts) {
		f.Sentinels.All[0].Report.Master, f.Sentinels.All[0].Hosts = "redis1:6379", "unresolved"
	}, "sentinels-hosts", Failed, "redis1, which this host cannot resolve"},
	{"a name that resolves", func(f *Facts) { f.Sentinels.All[0].Report.Master = "redis1:6379" }, "sentinels-hosts", OK,
		"redis1, which this host resolves"},
	{"CKQUORUM is refused", func(f *Facts) { f.Sentinels.All[2].Quorum, f.Sentinels.All[2].QuorumErr = "", "no right" },
		"sentinels-ckquorum", Warning, "was not asked: no right"},

	{"an old answer", func(f *Facts) { f.Daemon.Document.Daemon.AgeSeconds = 3 }, "daemon-age", Failed, "3s old"},
	{"a no of a master", func(f *Facts) {
		f.Daemon.Document.Answer, f.Daemon.Document.Reason = checker.No, checker.ReasonSentinel
	}, "daemon-answer", Failed, "no: sentinel"},
	{"a daemon that starts", func(f *Facts) {
		f.Daemon.Document.Answer, f.Daemon.Document.Reason = checker.No, checker.ReasonUnconfirmed
	}, "daemon-answer", Warning, "unconfirmed"},
	{"a trouble", func(f *Facts) { f.Daemon.Document.Daemon.Credentials = "the password is refused" }, "daemon-answer",
		Warning, "the password is refused"},
	{"no socket", func(f *Facts) { f.Daemon.Socket = "" }, "daemon-socket", Warning, "no socket"},
	{"a file that is not written", func(f *Facts) { f.Daemon.TrackAge = time.Minute }, "daemon-track-file", Failed,
		"not written for 1m0s"},
	{"no directory", func(f *Facts) { f.Daemon.DirectoryErr = "no such file or directory" }, "daemon-directory", Failed,
		"no such file"},
	{"crash failover", func(f *Facts) {
		f.Daemon.Document.Daemon.CrashFailover = &report.CrashFailover{Ready: true}
	}, "daemon-crash-failover", OK, "at once"},
	{"crash failover off", func(*Facts) {}, "daemon-crash-failover", OK, "after 5s"},
	{"crash failover to nobody", func(f *Facts) {
		f.Daemon.Document.Daemon.CrashFailover = &report.CrashFailover{Missing: "no replica is online"}
	}, "daemon-crash-failover", Warning, "no replica is online"},

	{"a keepalived without reverse", func(f *Facts) { f.Keepalived.Version = "2.0.10" }, "keepalived-version", Failed,
		"2.0.10"},
	{"an old keepalived", func(f *Facts) { f.Keepalived.Version = "2.0.20" }, "keepalived-version", Warning, "not tested"},
	{"two senders", func(f *Facts) {
		w := &f.Keepalived.Wire[0]
		other := w.Adverts[0]
		other.Own, other.From = false, netip.MustParseAddr("10.0.0.2")
		w.Adverts = append(w.Adverts, other)
	}, "keepalived-vrrp", Failed, "two nodes send adverts"},
	{"a sender that has given up", func(f *Facts) {
		w := &f.Keepalived.Wire[0]
		other := w.Adverts[0]
		other.Own, other.From, other.Priority = false, netip.MustParseAddr("10.0.0.2"), 0
		w.Adverts = append(w.Adverts, other)
	}, "keepalived-vrrp", OK, "10.0.0.1 sends"},
	{"a wire that cannot be heard", func(f *Facts) { f.Keepalived.Wire[0].Err = "operation not permitted" },
		"keepalived-vrrp",
		Warning, "could not be listened to"},
	{"a master without the VIP", func(f *Facts) { f.Keepalived.VIPs[0].Here = false }, "keepalived-vip", Failed,
		"the answer is yes, and this host does not have 10.0.0.100"},
	{"a VIP that nobody has", func(f *Facts) { replica(f); f.Keepalived.VIPs[0].Others = nil }, "keepalived-vip", Failed,
		"no host has 10.0.0.100"},
	{"two others with the VIP", func(f *Facts) {
		replica(f)
		f.Keepalived.VIPs[0].Others = []string{"02:00:00:00:00:01", "02:00:00:00:00:02"}
	}, "keepalived-vip", Failed, "2 hosts have 10.0.0.100"},
	{"whoever has the VIP", func(f *Facts) { replica(f); f.Keepalived.VIPs[0].Err = "operation not permitted" },
		"keepalived-vip", Warning, "could not be told"},
	{"a keepalived that cannot be told", func(f *Facts) { f.Keepalived.Err = "only root" }, "keepalived-running", Warning,
		"only root"},

	{"a clock that is not synchronised", func(f *Facts) { f.Host.Clock = "the clock is not synchronised" }, "host-clock",
		Warning, "not synchronised"},
	{"a clock that is not known", func(f *Facts) { f.Host.ClockErr = "operation not permitted" }, "host-clock", Warning,
		"could not be told"},
	{"HAProxy does not run", func(f *Facts) { f.HAProxy.Running = false }, "haproxy-config", Warning, "does not run"},
	{"HAProxy cannot be checked", func(f *Facts) { f.HAProxy.CheckErr = "haproxy is not installed" }, "haproxy-config",
		Warning,
		"could not be checked"},
}

// TestExamine: what is said of facts.
func TestExamine(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Facts){"master": func(*Facts) {}, "replica": replica} {
		f := well()
		change(&f)
		for _, r := range Examine(f) {
			if r.State != OK {
				t.Errorf("a %s that is well: %+v", name, r)
			}
		}
	}
	for _, tt := range judged {
		f := well()
		tt.facts(&f)
		results := Examine(f)
		if !slices.ContainsFunc(results, func(r Result) bool {
			return r.ID == tt.id && r.State == tt.state && strings.Contains(r.Detail, tt.says)
		}) {
			t.Errorf("%s: no %s of %s with %q in\n%s", tt.name, tt.state, tt.id, tt.says, Text(results, false))
		}
	}
}

// TestCommands: what is printed is what a shell runs, and what it lacks it asks for.
func TestCommands(t *testing.T) {
	t.Parallel()
	f := well()
	f.Redis.Password, f.Redis.User = "/etc/a password", "default"
	f.Sentinels.All[1].Report.Master = "127.0.0.1:6379"
	for _, tt := range []struct{ got, want string }{
		{f.Redis.secure(), `tr -d '\n' <'/etc/a password' | redis-cli -x CONFIG SET masterauth && tr -d '\n' ` +
			`<'/etc/a password' | redis-cli -x CONFIG SET requirepass && REDISCLI_AUTH="$(cat '/etc/a password')" ` +
			`redis-cli CONFIG REWRITE`},
		{f.Sentinels.monitor(f.Sentinels.All[1], Redis{}, "10.0.0.1:6379"), "redis-cli -h 10.0.0.2 -p 26379 SENTINEL " +
			"REMOVE mymaster; redis-cli -h 10.0.0.2 -p 26379 SENTINEL MONITOR mymaster 10.0.0.1 6379 2"},
		{Host{SentinelUnit: "s.service", SentinelFile: "/s"}.openSentinel(), "systemctl stop s.service && " +
			"sed -i '/^bind /d' /s && systemctl start s.service"},
		{Host{RedisUnit: "r.service"}.start("r.service", "none"), "systemctl enable --now r.service"},
		{Host{Apt: true}.start("", "no-such-program"), "apt-get install -y no-such-program"},
		{Host{Apt: true}.start("", "sh"), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s\nwant\n%s", tt.got, tt.want)
		}
	}
	for _, variable := range []string{theMaster, theInterface, theVIP} {
		if out, err := exec.Command("sh", "-c", "echo \"it runs, with "+variable+"\"").CombinedOutput(); err == nil ||
			strings.Contains(string(out), "it runs") {
			t.Errorf("%s: %s", variable, out)
		}
	}
}

// TestNothing: facts that are all missing make no check panic, and no tick about
// what was not learnt.
func TestNothing(t *testing.T) {
	t.Parallel()
	f := Facts{Redis: Redis{Err: refused}, Daemon: Daemon{Socket: "x", SocketErr: refused}}
	if all := Examine(f); Worst(all) != Failed {
		t.Errorf("%+v", all)
	}
	Examine(Facts{})
}

// TestTable: the IDs are a closed set of words, each of its group, and each result
// that is no tick has a hint.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	last := 0
	for _, c := range Checks() {
		group := slices.Index(Groups(), c.Group)
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`).MatchString(c.ID) || !strings.HasPrefix(c.ID, string(c.Group)+"-") ||
			seen[c.ID] || group < last || !strings.HasSuffix(c.About, ".") {
			t.Errorf("%+v", c)
		}
		seen[c.ID], last = true, group
	}
	for _, tt := range judged {
		f := well()
		tt.facts(&f)
		for _, r := range Examine(f) {
			if (r.State == OK) != (r.Hint+r.Run == "") || r.Detail == "" {
				t.Errorf("%s: %+v", tt.name, r)
			}
		}
	}
}

// TestRender: what people and tools get.
func TestRender(t *testing.T) {
	t.Parallel()
	all := []Result{
		{ID: "redis-role", Group: GroupRedis, State: OK, Detail: "master"},
		{ID: "host-clock", Group: GroupHost, State: Warning, Detail: "a\nb\x1b[31m", Hint: "wait"},
		{ID: "host-bind", Group: GroupHost, State: Failed, Detail: "c", Run: "mend"},
	}
	want := "redis\n  ✓ redis-role  master\n\nhost\n  ! host-clock  a?b?[31m\n                do: wait\n" +
		"  ✗ host-bind   c\n                run: mend\n\n✗ 1 ok, 1 warning, 1 failure\n"
	if got := Text(all, false); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	if got := Text(all, true); strings.Count(got, "\x1b[3") != 4 || strings.Count(got, "\x1b[0m") != 4 {
		t.Errorf("in colours: %q", got)
	}
	var doc struct {
		Schema int
		State  State
		Checks []Result
	}
	if err := json.Unmarshal([]byte(JSON(all)), &doc); err != nil || doc.Schema != 1 || doc.State != Failed ||
		len(doc.Checks) != 3 || doc.Checks[1].Hint != "wait" {
		t.Errorf("%v: %s", err, JSON(all))
	}
	if !strings.Contains(JSON(nil), `"checks":[]`) {
		t.Errorf("%s", JSON(nil))
	}
}

// TestParse: what is read of others.
func TestParse(t *testing.T) {
	t.Parallel()
	conf := "# x\nsave 900 1\nsave 300 10\nmin-slaves-to-write 2\nbind 10.0.0.1\n"
	if got, ok := parseConfig(conf); !ok || got["save"] != "900 1 300 10" || got["min-replicas-to-write"] != "2" ||
		got["bind"] != "10.0.0.1" {
		t.Errorf("%v %v", got, ok)
	}
	if got, _ := parseConfig(""); got["save"] == "" {
		t.Error("Redis saves by default")
	}
	if got, _ := parseConfig("save 900 1\nsave \"\"\n"); got["save"] != "" {
		t.Errorf("save is %q", got["save"])
	}
	if _, ok := parseConfig("include /etc/redis/more.conf\n"); ok {
		t.Error("what is included is not known")
	}
	const tcp = "  sl  local_address rem_address   st\n" +
		"   0: 0100007F:18EB 00000000:0000 0A 00000000:00000000\n" +
		"   1: 0100007F:18EB 0100007F:D431 01 00000000:00000000\n" +
		"   2: 00000000000000000000000001000000:18EB 00000000000000000000000000000000:0000 0A 0\n   x\n"
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6379"), netip.MustParseAddrPort("[::1]:6379")}
	if got := parseListening(tcp); littleEndian && !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, argv := range [][]string{{"k", "-f", "x"}, {"k", "-fx"}, {"k", "--file", "x"}, {"k", "--file=x"}} {
		if got := flagOf(argv, "-f", "--file"); got != "x" {
			t.Errorf("%q: %q", argv, got)
		}
	}
	for text, want := range map[string]time.Duration{"3s": 3 * time.Second, "1min 30s": 90 * time.Second, "500ms": 500e6,
		"3000000": 3 * time.Second} {
		if got, ok := microseconds(text); !ok || got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if _, ok := microseconds("infinity"); ok {
		t.Error("infinity is no time")
	}
	if !may(0o640, 1, 2, 3, []int{2}, 4) || may(0o600, 1, 2, 3, []int{2}, 4) || may(0o040, 1, 2, 1, []int{2}, 4) ||
		!may(0o604, 1, 2, 3, nil, 4) || !may(0, 1, 2, 0, nil, 4) {
		t.Error("the rights to a file")
	}
}

// FuzzAdvert: no packet makes the parser panic, or invent addresses.
func FuzzAdvert(f *testing.F) {
	v3 := append([]byte{0x45, 0, 0, 32, 0, 0, 0, 0, 255, protoVRRP, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18},
		0x31, 51, 100, 1, 0, 1, 0, 0, 10, 0, 0, 100)
	v6 := append(append([]byte{0x60, 0, 0, 0, 0, 24, protoVRRP, 255}, bytes.Repeat([]byte{0xfe}, 32)...),
		append([]byte{0x31, 51, 100, 1, 0, 1, 0, 0}, bytes.Repeat([]byte{1}, 16)...)...)
	f.Add(v3)
	f.Add(v6)
	f.Add([]byte{})
	for _, b := range [][]byte{v3, v6} {
		if a, ok := parseAdvert(b); !ok || a.RouterID != 51 || a.Priority != 100 || len(a.Addresses) != 1 {
			f.Errorf("%+v of %v", a, b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := parseAdvert(b); ok && len(a.Addresses)*4 > len(b) {
			t.Errorf("%v of %v", a, b)
		}
	})
}

// Bad are the checks of which [TestExamine] shows that they are no tick.
func Bad() (ids []string) {
	for _, tt := range judged {
		if tt.state != OK {
			ids = append(ids, tt.id)
		}
	}
	return ids
}
