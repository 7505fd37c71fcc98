package checker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// told is the answer of a Sentinel that is configured as it should be.
func told(sentinel string, change ...func(*checker.Asked)) checker.Asked {
	a := checker.Asked{Sentinel: sentinel, Name: "mymaster", Time: time.Unix(1000, 0), DownAfter: 5 * time.Second,
		FailoverTimeout: time.Minute, Quorum: 2, Sentinels: 3}
	for _, f := range change {
		f(&a)
	}
	return a
}

func TestMisconfigurations(t *testing.T) {
	downAfter := func(d time.Duration) func(*checker.Asked) { return func(a *checker.Asked) { a.DownAfter = d } }
	timeout := func(d time.Duration) func(*checker.Asked) { return func(a *checker.Asked) { a.FailoverTimeout = d } }
	quorum := func(q, of int64) func(*checker.Asked) {
		return func(a *checker.Asked) { a.Quorum, a.Sentinels = q, of }
	}
	name := func(name string) func(*checker.Asked) { return func(a *checker.Asked) { a.Name = name } }
	old := func(a *checker.Asked) { a.Time = a.Time.Add(-11 * time.Minute) }
	silent := func(a *checker.Asked) { a.DownAfter, a.FailoverTimeout, a.Quorum, a.Sentinels = -1, -1, -1, -1 }
	for _, tc := range []struct {
		what  string
		asked []checker.Asked
		want  string // problem, master and a part of the detail of each
	}{
		{"none was asked", nil, ""},
		{"all is well", []checker.Asked{told("a:1"), told("b:1"), told("c:1")}, ""},
		{"2000 is enough", []checker.Asked{told("a:1", downAfter(2*time.Second))}, ""},
		{"1999 is not", []checker.Asked{told("a:1", downAfter(1999*time.Millisecond))},
			"down-after mymaster is 1999 at the Sentinel a:1"},
		{"they do not agree on it", []checker.Asked{told("b:1", downAfter(3*time.Second)), told("a:1")},
			"differ mymaster down-after-milliseconds of mymaster is 5000 at the Sentinel a:1 and 3000 at b:1"},
		{"on the other time", []checker.Asked{told("a:1"), told("b:1"), told("c:1", timeout(time.Second))},
			"differ mymaster failover-timeout of mymaster is 60000 at the Sentinel a:1 and 1000 at c:1"},
		{"on the quorum", []checker.Asked{told("a:1"), told("b:1", quorum(3, 3))},
			"differ mymaster the quorum of mymaster is 2 at the Sentinel a:1 and 3 at b:1"},
		{"on how many they are", []checker.Asked{told("a:1", quorum(3, 5)), told("b:1", quorum(3, 4))},
			"differ mymaster the number of Sentinels of mymaster is 5 at the Sentinel a:1 and 4 at b:1"},
		{"one is a majority of one", []checker.Asked{told("a:1", quorum(1, 1))}, ""},
		{"one is none of two", []checker.Asked{told("a:1", quorum(1, 2))}, "quorum mymaster which is no majority of 2"},
		{"two are none of four", []checker.Asked{told("a:1", quorum(2, 4))}, "quorum mymaster which is no majority of 4"},
		{"three of two cannot be", []checker.Asked{told("a:1", quorum(3, 2))}, "quorum mymaster and it knows 2 Sentinels"},
		{"who tells nothing differs from nobody", []checker.Asked{told("a:1", silent), told("b:1")}, ""},
		{"who is gone for long says nothing", []checker.Asked{told("a:1", downAfter(time.Second), old), told("b:1")}, ""},
		{"names are held apart", []checker.Asked{told("a:1", name("b"), downAfter(time.Second)), told("a:1", name("a")),
			told("b:1", name("b"), quorum(1, 3))},
			"down-after b is 1000; quorum b is 1 at the Sentinel b:1; differ b down-after-milliseconds of b"},
	} {
		before := fmt.Sprint(tc.asked)
		var got []string
		for _, m := range checker.Misconfigurations(tc.asked) {
			got = append(got, string(m.Problem)+" "+m.Master+" "+m.Detail)
			if !slices.Contains(checker.Problems(), m.Problem) || !strings.Contains(m.Hint, "SENTINEL ") ||
				!strings.Contains(m.Hint, " "+m.Master+" ") {
				t.Errorf("%s: %+v", tc.what, m)
			}
		}
		var want []string
		if tc.want != "" {
			want = strings.Split(tc.want, "; ")
		}
		if !slices.EqualFunc(got, want, func(got, want string) bool {
			w := strings.SplitN(want, " ", 3)
			return strings.HasPrefix(got, w[0]+" "+w[1]+" ") && strings.Contains(got, w[2])
		}) {
			t.Errorf("%s: %q, want %q", tc.what, got, want)
		}
		if fmt.Sprint(tc.asked) != before {
			t.Errorf("%s: what was given is changed", tc.what)
		}
	}
}

func TestSettings(t *testing.T) {
	none := checker.Settings{DownAfter: -1, FailoverTimeout: -1, Quorum: -1, Sentinels: -1}
	if got := checker.SettingsOf(nil); got != none {
		t.Errorf("of nobody: %+v", got)
	}
	got := checker.SettingsOf([]checker.Asked{
		told("a:1", func(a *checker.Asked) { a.DownAfter, a.Quorum = -1, -1 }),
		told("b:1", func(a *checker.Asked) { a.DownAfter, a.Sentinels = 3*time.Second, 5 }),
		told("c:1", func(a *checker.Asked) { a.FailoverTimeout, a.Quorum = 6*time.Second, 4 }),
		told("d:1", func(a *checker.Asked) { a.DownAfter, a.Time = time.Second, a.Time.Add(-time.Hour) }),
	})
	if want := (checker.Settings{DownAfter: 3 * time.Second, FailoverTimeout: 6 * time.Second, Quorum: 2,
		Sentinels: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
