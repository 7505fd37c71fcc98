package checker

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	masterInfo = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n" +
		"slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\n" +
		"slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n" +
		"master_failover_state:no-failover\r\nmaster_repl_offset:14\r\n"
	replicaInfo = "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\nmaster_link_status:up\r\n" +
		"master_last_io_seconds_ago:3\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:77\r\n"
	persistenceInfo = "# Persistence\r\nloading:0\r\nasync_loading:0\r\n"
	serverInfo      = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\nuptime_in_seconds:12\r\n"
)

func TestParseInfo(t *testing.T) {
	o, err := parseInfo([3]string{masterInfo, persistenceInfo, serverInfo})
	want := Observation{
		Role:         RoleMaster,
		WireRole:     "master",
		Server:       "Redis",
		Version:      "7.0.15",
		RunID:        "abc",
		Uptime:       12 * time.Second,
		Replicas:     1,
		GoodReplicas: 1,
		Links:        []Link{{Address: "10.0.0.2:6379", Lag: 0, Offset: 14}},
		Acknowledged: 1,
		Offset:       14,
		Failover:     "no-failover",
		Followers:    []string{"10.0.0.2:6379"},
		LastIO:       -1,
		Behind:       -1,
	}
	if err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("master: %+v, %v", o, err)
	}
	o, err = parseInfo([3]string{replicaInfo, persistenceInfo, serverInfo})
	want = Observation{
		Role:         RoleReplica,
		WireRole:     "slave",
		Server:       "Redis",
		Version:      "7.0.15",
		RunID:        "abc",
		Uptime:       12 * time.Second,
		Offset:       77,
		MasterAddr:   "10.0.0.2:6379",
		LinkUp:       true,
		GoodReplicas: -1,
		LastIO:       3 * time.Second,
		Unreplicated: -1,
		Behind:       -1,
	}
	if err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("replica: %+v, %v", o, err)
	}
	for _, tt := range []struct{ lines, server, version string }{
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n", "Valkey", "8.1.1"},
		{"redis_version:7.4.0\r\ndragonfly_version:df-v1.30.0\r\n", "Dragonfly", "df-v1.30.0"},
		{"redis_version:8.0.2\r\n", "Redis", "8.0.2"},
		{"", "", ""},
	} {
		o, err := parseInfo(
			[3]string{masterInfo, persistenceInfo, "# Server\r\nredis_mode:standalone\r\n" + tt.lines},
		)
		if err != nil || o.Server != tt.server || o.Version != tt.version {
			t.Errorf("%q: %s %s, %v", tt.lines, o.Server, o.Version, err)
		}
	}
	o, err = parseInfo([3]string{"", "", "# Server\r\nredis_mode:sentinel\r\n"})
	if err != nil || o.Role != RoleSentinel {
		t.Errorf("sentinel: %+v, %v", o, err)
	}
}

// TestParseInfoRejects: one change to a good reply, and no role is believed.
// What FuzzParseInfo finds is kept here, by name.
func TestParseInfoRejects(t *testing.T) {
	tests := []struct{ name, section, old, new, says string }{
		{"a role twice", "replication", "role:master\r\n", "role:master\r\nrole:master\r\n", "twice"},
		{"a role in another case", "replication", "role:master", "ROLE:master", "no role"},
		{"a role with a blank", "replication", "role:master", "role: master", "no server has"},
		{"a role with a NUL", "replication", "role:master", "role:master\x00", "no server has"},
		{"an empty role", "replication", "role:master", "role:", "no role"},
		{"a role after a line feed", "replication", "\r\nrole", "\nrole", "no section"},
		{"a header in another case", "replication", "# Replication", "# replication", "no section"},
		{"a header with a blank", "replication", "# Replication", "# Replication ", "no section"},
		{
			"the role before the header",
			"replication",
			"# Replication\r\nrole:master\r\n",
			"role:master\r\n# Replication\r\n",
			"no role",
		},
		{"the last CRLF missing", "replication", ":14\r\n", ":14", "breaks off"},
		{"an offset that is no number", "replication", "repl_offset:14", "repl_offset:14x", "not a number"},
		{
			"an offset beyond every number",
			"replication",
			"repl_offset:14",
			"repl_offset:99999999999999999999",
			"not a number",
		},
		{"a replica twice", "replication", "slave1:", "slave0:", "twice"},
		{
			"a replica twice, another between",
			"replication",
			"master_failover",
			"slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\nmaster_failover",
			"twice",
		},
		{
			"two sections",
			"replication",
			"connected_slaves",
			"# Other\r\n# Replication\r\nconnected_slaves",
			"two sections",
		},
		{"loading twice", "persistence", "loading:0", "loading:0\r\nloading:0", "twice"},
		{"an endless version", "server", "redis_version:", "redis_version:" + strings.Repeat("7", 1000), "longer"},
		{"loading neither 0 nor 1", "persistence", "loading:0", "loading:2", "neither 0 nor 1"},
		{"loading missing", "persistence", "\r\nloading:0", "\r\n", "missing"},
		{
			"a mode twice",
			"server",
			"redis_mode:standalone",
			"redis_mode:standalone\r\nredis_mode:standalone",
			"twice",
		},
		{"a mode missing", "server", "redis_mode", "mode", "missing"},
		{"an uptime that is no number", "server", "uptime_in_seconds:12", "uptime_in_seconds:", "not a number"},
		{
			"an uptime beyond every duration",
			"server",
			"uptime_in_seconds:12",
			"uptime_in_seconds:9999999999999",
			"too large",
		},
	}
	for _, tt := range tests {
		in := [3]string{masterInfo, persistenceInfo, serverInfo}
		i := map[string]int{"replication": 0, "persistence": 1, "server": 2}[tt.section]
		if !strings.Contains(in[i], tt.old) {
			t.Fatalf("%s: the case changes nothing", tt.name)
		}
		in[i] = strings.Replace(in[i], tt.old, tt.new, 1)
		if o, err := parseInfo(in); err == nil || !strings.Contains(err.Error(), tt.says) || o.Role != "" {
			t.Errorf("%s: %+v, %v", tt.name, o, err)
		}
	}
}

// FuzzParseInfo looks for a master that no line of its own in the section
// says, and for a truncated reply that is believed.
func FuzzParseInfo(f *testing.F) {
	f.Add(masterInfo, persistenceInfo, serverInfo)
	f.Add(replicaInfo, persistenceInfo, serverInfo)
	f.Add("", "", "# Server\r\nserver_mode:sentinel\r\n")
	f.Add("# Replication\r\nmaster_host:role:master\r\n# Replication\r\nrole:master\r\n", persistenceInfo, serverInfo)
	f.Fuzz(func(t *testing.T, replication, persistence, server string) {
		o, err := parseInfo([3]string{replication, persistence, server})
		if err != nil {
			if o.Role != "" {
				t.Fatalf("an error and a role: %+v", o)
			}
			return
		}
		switch o.Role {
		case RoleMaster, RoleReplica, RoleActiveReplica:
		case RoleSentinel:
			return
		default:
			t.Fatalf("role %q", o.Role)
		}
		lines := strings.Split(replication, "\r\n")
		section, roles := "", 0
		for _, l := range lines[:len(lines)-1] {
			if strings.HasPrefix(l, "#") {
				section = l
			}
			if section == "# Replication" && strings.HasPrefix(l, "role:") {
				roles++
				if l != "role:"+o.WireRole {
					t.Fatalf("%q was read as %+v", l, o)
				}
			}
		}
		if roles != 1 || lines[len(lines)-1] != "" {
			t.Fatalf("%d roles in %q gave %+v", roles, replication, o)
		}
		if !strings.Contains(persistence, "loading:") || !strings.Contains(server, "_mode:") {
			t.Fatalf("%+v without %q and %q", o, persistence, server)
		}
	})
}

// TestGoodReplicas: one that is cut off stays online for a minute.
func TestGoodReplicas(t *testing.T) {
	for reply, want := range map[string][2]int{
		"slave0:ip=a,port=1,state=online,offset=1,lag=10\r\nslave1:ip=b,port=1,state=online,offset=1,lag=11\r\n":     {2, 1},
		"slave0:ip=a,port=1,state=online,offset=1,lag=1\r\nmin_slaves_good_slaves:0\r\n":                             {1, 0},
		"slave0:ip=a,port=1,state=online,offset=1\r\n":                                                               {1, 1},
		"slave0:ip=a,port=1,state=online,offset=1,lag=-1\r\nslave1:ip=a,port=1,state=online,offset=1,lag=x\r\n":      {2, 0},
		"slave0:ip=a,port=1,state=send_bulk,offset=1,lag=0\r\n":                                                      {0, 0},
		"slave0:ip=a,port=1,state=online,offset=1,lag=99\r\nslave1:ip=a,port=1,state=wait_bgsave,offset=1,lag=0\r\n": {1, 0},
	} {
		o, err := parseInfo([3]string{"# Replication\r\nrole:master\r\n" + reply, persistenceInfo, serverInfo})
		if err != nil || o.Replicas != want[0] || o.GoodReplicas != want[1] {
			t.Errorf("%q: %d online, %d good, %v", reply, o.Replicas, o.GoodReplicas, err)
		}
	}
}
