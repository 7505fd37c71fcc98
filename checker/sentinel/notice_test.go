package sentinel_test

import (
	"reflect"
	"strings"
	"testing"

	"redis-is-master/checker/sentinel"
)

func TestParseNotice(t *testing.T) {
	replica := func(kind string) sentinel.Notice {
		return sentinel.Notice{Kind: kind, Name: "mymaster", Type: "slave", Node: "10.0.0.2:6379",
			Master: "10.0.0.1:6379", Epoch: -1}
	}
	const ofReplica = "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"
	for _, test := range []struct {
		kind, message string
		want          sentinel.Notice
	}{
		{"+selected-slave", ofReplica, replica("+selected-slave")},
		{"+failover-state-send-slaveof-noone", ofReplica, replica("+failover-state-send-slaveof-noone")},
		{"+failover-state-wait-promotion", ofReplica, replica("+failover-state-wait-promotion")},
		{"+promoted-slave", ofReplica, replica("+promoted-slave")},
		{"+try-failover", "master mymaster 10.0.0.1 6379", sentinel.Notice{Kind: "+try-failover", Name: "mymaster",
			Type: "master",
			Node: "10.0.0.1:6379", Master: "10.0.0.1:6379", Epoch: -1}},
		{"+odown", "master mymaster 10.0.0.1 6379 #quorum 2/2", sentinel.Notice{Kind: "+odown", Name: "mymaster",
			Type: "master",
			Node: "10.0.0.1:6379", Master: "10.0.0.1:6379", Epoch: -1}},
		{"+sdown", "sentinel 4f5c 2001:db8::3 26379 @ mymaster 2001:db8::1 6379", sentinel.Notice{Kind: "+sdown",
			Name: "mymaster",
			Type: "sentinel", Node: "[2001:db8::3]:26379", Master: "[2001:db8::1]:6379", Epoch: -1}},
		{"+switch-master", "mymaster redis-1.example 6379 redis-2.example 6380",
			sentinel.Notice{Kind: "+switch-master", Name: "mymaster",
				Type: "master", Node: "redis-2.example:6380", Master: "redis-1.example:6379", Epoch: -1}},
		{"+new-epoch", "18446744073709551", sentinel.Notice{Kind: "+new-epoch", Epoch: 18446744073709551}},
		{"+vote-for-leader", "4f5c 7", sentinel.Notice{Kind: "+vote-for-leader", Epoch: 7, Leader: "4f5c"}},
		{"+tilt", "#tilt mode entered", sentinel.Notice{Kind: "+tilt", Epoch: -1}},
		{"-failover-abort-master-timeout", "master mymaster 10.0.0.1 6379",
			sentinel.Notice{Kind: "-failover-abort-master-timeout",
				Name: "mymaster", Type: "master", Node: "10.0.0.1:6379", Master: "10.0.0.1:6379", Epoch: -1}},
	} {
		got, err := sentinel.ParseNotice(test.kind, test.message)
		if err != nil || got != test.want {
			t.Errorf("%s %s:\n%+v, %v, not\n%+v", test.kind, test.message, got, err, test.want)
		}
		if got.Promotes() != strings.HasPrefix(test.message, ofReplica) ||
			got.Aborts() != strings.HasPrefix(test.kind, "-failover-abort") {
			t.Errorf("%s: promotes %t, aborts %t", test.kind, got.Promotes(), got.Aborts())
		}
	}
	for _, test := range [][2]string{
		{"+selected-slave", ""},
		{"+selected-slave", "slave 10.0.0.2:6379 10.0.0.2 6379"},
		{"+selected-slave", "slave 10.0.0.2:6379 10.0.0.2 6379 @  10.0.0.1 6379"},
		{"+selected-slave", "slave 10.0.0.2:6379 10.0.0.2 0 @ mymaster 10.0.0.1 6379"},
		{"+selected-slave", "slave 10.0.0.2:6379 10.0.0.2 65536 @ mymaster 10.0.0.1 6379"},
		{"+selected-slave", "slave of two names 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"},
		{"+switch-master", "mymaster 10.0.0.1 6379"},
		{"+switch-master", "mymaster 10.0.0.1 6379 10.0.0.2 -1"},
		{"+switch-master", "master mymaster 10.0.0.1 6379"},
		{"+new-epoch", "-1"},
		{"+new-epoch", "18446744073709551615"},
		{"+vote-for-leader", "7"},
		{"+odown", "master mymaster  6379"},
		{"+odown", strings.Repeat("x", 2000)},
		{"+slave", "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"},
	} {
		if got, err := sentinel.ParseNotice(test[0], test[1]); err == nil {
			t.Errorf("%s %.80s is understood: %+v", test[0], test[1], got)
		}
	}
}

func FuzzParseNotice(f *testing.F) {
	f.Add("+selected-slave", "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379")
	f.Add("+switch-master", "mymaster 10.0.0.1 6379 10.0.0.2 6379")
	f.Add("+vote-for-leader", "4f5c 7")
	f.Fuzz(func(t *testing.T, kind, message string) {
		n, err := sentinel.ParseNotice(kind, message)
		if err != nil {
			return
		}
		again, err := sentinel.ParseNotice(kind, message)
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Errorf("%v, and then %v, %v", n, again, err)
		}
		if n.Promotes() && (n.Name == "" || n.Type == "" || !strings.Contains(n.Node, ":") ||
			!strings.Contains(n.Master, ":")) {
			t.Errorf("whom does it promote? %+v", n)
		}
	})
}
