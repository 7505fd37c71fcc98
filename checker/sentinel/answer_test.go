package sentinel_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker/sentinel"
)

// masterReply is a reply to SENTINEL MASTER, with fields changed; an empty value
// takes one away.
func masterReply(change map[string]string) (reply []any) {
	fields := [][2]string{{"name", "mymaster"}, {"ip", "10.0.0.1"}, {"port", "6379"}, {"runid", ""}, {"flags",
		"master"},
		{"down-after-milliseconds", "5000"}, {"config-epoch", "3"}, {"num-slaves", "2"}, {"num-other-sentinels", "2"},
		{"quorum", "2"}, {"failover-timeout", "60000"}, {"failover-state", ""}, {"info-refresh", ""}}
	for _, f := range fields {
		value, changed := change[f[0]]
		if !changed {
			value = f[1]
		}
		if value != "" || f[0] == "runid" {
			reply = append(reply, f[0], value)
		}
	}
	return reply
}

func TestParseMaster(t *testing.T) {
	r, err := sentinel.ParseMaster("mymaster", masterReply(nil))
	if err != nil || r.Master != "10.0.0.1:6379" || r.ConfigEpoch != 3 || r.Quorum != 2 || r.OtherSentinels != 2 ||
		r.DownAfter != 5*time.Second || r.FailoverTimeout != time.Minute || r.FailingOver() || r.TakesForDown() ||
		r.FailoverState != "" || r.VotedEpoch != -1 || r.TiltFor != -1 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = sentinel.ParseMaster("mymaster", masterReply(map[string]string{"ip": "2001:db8::1", "config-epoch": "",
		"quorum":              "",
		"num-other-sentinels": "", "down-after-milliseconds": "", "failover-timeout": "",
		"flags": "s_down,master,failover_in_progress", "failover-state": "wait_promotion"}))
	if err != nil || r.Master != "[2001:db8::1]:6379" || r.ConfigEpoch != -1 || r.Quorum != -1 ||
		r.OtherSentinels != -1 ||
		r.DownAfter != -1 || r.FailoverTimeout != -1 || !r.FailingOver() || !r.TakesForDown() ||
		r.FailoverState != "wait_promotion" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = sentinel.ParseMaster("mymaster",
		masterReply(map[string]string{"down-after-milliseconds": "9223372036854775807"}))
	if err != nil || r.DownAfter < 24*time.Hour {
		t.Errorf("a down-after of ages is %v, %v", r.DownAfter, err)
	}
	for what, reply := range map[string]any{
		"nothing":            nil,
		"a string":           "OK",
		"half a pair":        masterReply(nil)[:3],
		"a number":           append(masterReply(nil), "x", int64(1)),
		"twice":              append(masterReply(nil), "ip", "10.0.0.2"),
		"another name":       masterReply(map[string]string{"name": "other"}),
		"no address":         masterReply(map[string]string{"ip": ""}),
		"port 0":             masterReply(map[string]string{"port": "0"}),
		"a replica":          masterReply(map[string]string{"flags": "slave"}),
		"no flags":           masterReply(map[string]string{"flags": ""}),
		"a negative epoch":   masterReply(map[string]string{"config-epoch": "-1"}),
		"a quorum of many":   masterReply(map[string]string{"quorum": "many"}),
		"an enormous number": masterReply(map[string]string{"config-epoch": "18446744073709551615"}),
	} {
		if r, err := sentinel.ParseMaster("mymaster", reply); err == nil || r.Master != "" && r.ConfigEpoch != -1 {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

func TestAddVote(t *testing.T) {
	var r sentinel.Report
	if err := r.AddVote([]any{int64(0), "4f5c", int64(7)}); err != nil || r.VotedEpoch != 7 ||
		r.VotedLeader != "4f5c" {
		t.Errorf("%+v, %v", r, err)
	}
	r = sentinel.Report{}
	if err := r.AddVote([]any{int64(1), "*", int64(7)}); err != nil || r.VotedEpoch != 7 || r.VotedLeader != "" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, reply := range []any{nil, "OK", []any{}, []any{int64(0), "*", "7"}, []any{int64(0), nil, int64(7)},
		[]any{int64(0), "*", int64(-7)}} {
		if err := r.AddVote(reply); err == nil {
			t.Errorf("%v is understood", reply)
		}
	}
}

const infoOfSentinel = "# Sentinel\r\nsentinel_masters:2\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n" +
	"master0:name=other,status=odown,address=10.0.0.9:6379,slaves=1,sentinels=5\r\n" +
	"master1:name=mymaster,status=ok,address=2001:db8::1:6379,slaves=2,sentinels=3\r\n"

func TestParseSentinelInfo(t *testing.T) {
	r, err := sentinel.ParseSentinelInfo("mymaster", infoOfSentinel)
	if err != nil || r.Err != nil || r.Master != "[2001:db8::1]:6379" || !slices.Equal(r.Flags, []string{"master"}) ||
		r.OtherSentinels != 2 ||
		r.ConfigEpoch != -1 || r.VotedEpoch != -1 || r.Tilt || r.TiltFor != -1 {
		t.Errorf("%+v, %v", r, err)
	}
	change := func(old, new string) string { return strings.Replace(infoOfSentinel, old, new, 1) }
	r, err = sentinel.ParseSentinelInfo("other", change("tilt:0\r\nsentinel_tilt_since_seconds:-1",
		"tilt:1\r\nsentinel_tilt_since_seconds:4"))
	if err != nil || !r.TakesForDown() || !r.Tilt || r.TiltFor != 4*time.Second {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = sentinel.ParseSentinelInfo("mymaster", change("tilt:0\r\nsentinel_tilt_since_seconds:-1", "tilt:1"))
	if err != nil || !r.Tilt || r.TiltFor != -1 {
		t.Errorf("before 7.0: %+v, %v", r, err)
	}
	if r, err = sentinel.ParseSentinelInfo("no one's", infoOfSentinel); err != nil || !errors.Is(r.Err,
		sentinel.ErrNoSuchMaster) || r.Master != "" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, text := range []string{"", "# Replication\r\nrole:master\r\n", infoOfSentinel[:len(infoOfSentinel)-1],
		change("tilt:0", "tilt:2"),
		change("status=ok", "status=fine"), change("name=other", "name=mymaster"), change("sentinel_tilt:0", "x:0"),
		change("tilt:0\r\nsentinel_tilt_since_seconds:-1", "tilt:1\r\nsentinel_tilt_since_seconds:soon")} {
		if r, err := sentinel.ParseSentinelInfo("mymaster", text); err == nil {
			t.Errorf("%q is understood: %+v", text, r)
		}
	}
}

func FuzzParseSentinel(f *testing.F) {
	f.Add("mymaster", infoOfSentinel)
	f.Add("mymaster", "name\nmymaster\nip\n10.0.0.1\nport\n6379\nflags\nmaster\nconfig-epoch\n3")
	f.Fuzz(func(t *testing.T, name, text string) {
		var list []any
		for field := range strings.SplitSeq(text, "\n") {
			list = append(list, field)
		}
		for _, parse := range []func() (sentinel.Report, error){
			func() (sentinel.Report, error) { return sentinel.ParseSentinelInfo(name, text) },
			func() (sentinel.Report, error) { return sentinel.ParseMaster(name, list) },
		} {
			r, err := parse()
			switch {
			case err != nil || r.Err != nil:
				if r.Master != "" || r.FailingOver() {
					t.Errorf("%+v, %v", r, err)
				}
			case r.Name != name || !strings.Contains(r.Master, ":") || !slices.Contains(r.Flags, "master") ||
				r.ConfigEpoch < -1 ||
				r.DownAfter < -1 || r.FailoverTimeout < -1:
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestParseNodes: whom a Sentinel has met, and when.
func TestParseNodes(t *testing.T) {
	id := strings.Repeat("a", 40)
	r, err := sentinel.ParseMaster("mymaster", masterReply(map[string]string{"runid": id, "info-refresh": "1500"}))
	want := []sentinel.Known{{Address: "10.0.0.1:6379", RunID: id, Age: 1500 * time.Millisecond}}
	if err != nil || !slices.Equal(r.Nodes, want) {
		t.Errorf("%+v, %v", r.Nodes, err)
	}
	for what, change := range map[string]map[string]string{
		"not met yet":           {"info-refresh": "1"},
		"when is not told":      {"runid": id},
		"before it was set up":  {"runid": id, "info-refresh": "-1"},
		"a run id without end":  {"runid": strings.Repeat("a", 1000), "info-refresh": "1"},
		"an age that is a word": {"runid": id, "info-refresh": "new"},
	} {
		if r, err := sentinel.ParseMaster("mymaster", masterReply(change)); err != nil || len(r.Nodes) != 0 {
			t.Errorf("%s: %+v, %v", what, r.Nodes, err)
		}
	}
	replica := func(ip, runID string) []any {
		return []any{"name", ip + ":6379", "ip", ip, "port", "6379", "runid", runID, "flags", "slave", "info-refresh", "7"}
	}
	if err := r.AddReplicas([]any{replica("10.0.0.2", "b"), replica("10.0.0.3", ""), replica("::1", "c")}); err != nil {
		t.Error(err)
	}
	want = append(want, sentinel.Known{Address: "10.0.0.2:6379", RunID: "b", Age: 7 * time.Millisecond},
		sentinel.Known{Address: "[::1]:6379", RunID: "c", Age: 7 * time.Millisecond})
	if !slices.Equal(r.Nodes, want) {
		t.Errorf("%+v", r.Nodes)
	}
	for _, reply := range []any{nil, "OK", []any{"x"}, []any{replica("10.0.0.2", "b")[:3]}} {
		if err := r.AddReplicas(reply); err == nil {
			t.Errorf("%v is a list of replicas", reply)
		}
	}
	many := sentinel.Report{}
	if err := many.AddReplicas(slices.Repeat([]any{replica("10.0.0.2", "b")}, 1000)); err != nil {
		t.Fatal(err)
	}
	if len(many.Nodes) != 64 {
		t.Errorf("%d replicas are read", len(many.Nodes))
	}
}
