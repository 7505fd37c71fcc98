package serve_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// browse asks as a browser does.
func browse(t *testing.T, address, path, accept string) reply {
	t.Helper()
	c := hold(t, address, 1, "")[0]
	r, err := sendOn(c, bufio.NewReader(c), http.MethodGet, path, "Accept: "+accept+"\r\nConnection: close\r\n")
	lab.Check(t, err)
	return r
}

var word = regexp.MustCompile(
	`<section id="answer" data-live class="answer (\w+)" aria-live="polite">\n` +
		`<h1>([^<]*)</h1>\n<p class="reason"><code>([^<]*)</code>`,
)

// TestStatusPage: a browser is shown the same answer with the same reason, and
// the code of / stays that of the role.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	words := map[checker.Answer]string{checker.Yes: "Master", checker.No: "Not master", checker.Unknown: "Unknown"}
	for _, tt := range fake.States {
		t.Run(tt.Name, func(t *testing.T) {
			t.Parallel()
			address := web(t, tt.Node(t))
			code := map[bool]int{true: 200, false: 503}[tt.Reason == checker.OK]
			for path, want := range map[string]int{"/": code, "/status?page": 200} {
				r := browse(t, address, path, browser)
				m := word.FindStringSubmatch(r.body)
				if r.code != want || m == nil || m[2] != words[tt.Reason.Answer()] || m[3] != string(tt.Reason) ||
					(m[1] == "yes") != (tt.Reason == checker.OK) {
					t.Errorf("%s: %d, want %d: %q\n%s", path, r.code, want, m, r.body)
				}
				if r.header.Get("Content-Type") != "text/html; charset=utf-8" ||
					r.header.Get("Cache-Control") != "no-store" ||
					!strings.HasPrefix(r.header.Get("Content-Security-Policy"), "default-src 'none'; ") {
					t.Errorf("%s: %v", path, r.header)
				}
				if strings.Contains(r.body, "<no value>") || strings.Contains(r.body, "ZgotmplZ") {
					t.Errorf("%s: something is missing:\n%s", path, r.body)
				}
			}
			// Everybody else gets text, and /status stays a document.
			for _, accept := range []string{"*/*", "text/plain", ""} {
				if r := browse(t, address, "/", accept); !strings.HasPrefix(
					r.header.Get("Content-Type"),
					"text/plain",
				) ||
					r.code != code {
					t.Errorf("Accept %q: %d %v", accept, r.code, r.header)
				}
			}
			if r := browse(t, address, "/status", browser); !json.Valid([]byte(r.body)) {
				t.Errorf("/status is no JSON to a browser: %s", r.body)
			}
			for _, path := range []string{"/master?page", "/?page"} {
				if r := browse(t, address, path, "*/*"); r.code != code {
					t.Errorf("%s: %d, want %d", path, r.code, code)
				}
			}
		})
	}
}

// shown is the page of a document.
func shown(t *testing.T, d report.Document) string {
	t.Helper()
	h, err := serve.NewHTTP(
		"127.0.0.1:0",
		"",
		&checker.Monitor{},
		http.NotFoundHandler(),
		func(checker.Status) report.Document { return d },
	)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	return browse(t, h.Addr().String(), "/", browser).body
}

// TestEscape: whatever a server says of itself, it is text on the page.
func TestEscape(t *testing.T) {
	t.Parallel()
	const evil = `</style></script><script>alert(1)</script><img src=x onerror=alert(2)>" onload="alert(3)`
	last := time.Now()
	d := report.Document{
		Answer: checker.No, Reason: evil, Detail: evil, Hint: evil, Address: evil, Stage: evil, Want: evil,
		Observation: &report.Observation{
			Role:     evil,
			WireRole: evil,
			Version:  evil,
			RunID:    evil,
			Failover: evil,
			Master:   evil,
			Standing: &report.Standing{
				State:     evil,
				Detail:    evil,
				LastHello: &last,
				Claims:    []report.Claim{{Sentinel: evil, Name: evil, Master: evil}},
			},
			Quorum: &report.Quorum{Answers: []report.SentinelAnswer{{Sentinel: evil, Error: evil}}},
			Links:  []report.Link{{Address: evil + "2"}},
		},
		HostAddresses: []report.HostAddress{{Address: evil, Present: new(true)}},
		VIP:           []report.VIP{{Address: evil, Conflict: true, By: evil}},
		Rules:         []report.Rule{{Reason: evil, State: evil, Detail: evil}},
		Daemon: &report.Daemon{
			Version:   evil,
			LastCheck: evil,
			Since:     last,
			History:   []report.Transition{{Time: last, From: evil, To: evil, Detail: evil}},
		},
	}
	page := shown(t, d)
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	for _, bad := range []string{"<img", `" onload="`, "</style></script>"} {
		if strings.Contains(page, bad) {
			t.Errorf("it holds %s:\n%s", bad, page)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;alert(1)"); n < 27 {
		t.Errorf("only %d of what was said is shown", n)
	}
}

// TestPageFacts: it names the server, and says nothing of a master that has a
// meaning for a replica alone.
func TestPageFacts(t *testing.T) {
	t.Parallel()
	valkey, replica := fake.Master, fake.Replica
	valkey.O.Server, valkey.O.Version = "Valkey", "8.1.1"
	page := browse(t, web(t, fake.Watched(t, valkey)), "/", browser).body
	if !strings.Contains(page, `<span id="server" data-live>Valkey 8.1.1</span>`) ||
		strings.Contains(page, "link up") ||
		strings.Contains(page, "syncing</dt>") {
		t.Errorf("of a master:\n%s", page)
	}
	if page := browse(t, web(t, fake.Watched(t, replica)), "/", browser).body; !strings.Contains(
		page,
		"<dt>link up</dt><dd>yes</dd>",
	) {
		t.Errorf("of a replica:\n%s", page)
	}
}

// TestPolicyOfContent: the style and the script are those that the policy names.
func TestPolicyOfContent(t *testing.T) {
	t.Parallel()
	r := browse(t, web(t, fake.Watched(t, fake.Master)), "/", browser)
	for _, name := range []string{"style", "script"} {
		m := regexp.MustCompile(`(?s)<`+name+`>(.*?)</`+name+`>`).FindAllStringSubmatch(r.body, -1)
		if len(m) != 1 {
			t.Fatalf("%d of <%s>", len(m), name)
		}
		sum := sha256.Sum256([]byte(m[0][1]))
		if want := name + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(
			r.header.Get("Content-Security-Policy"),
			want,
		) {
			t.Errorf("the policy %s lacks %s", r.header.Get("Content-Security-Policy"), want)
		}
	}
}

// TestSentinelsView: what the document has of the Sentinels, a table of one
// row each; without it no section.
func TestSentinelsView(t *testing.T) {
	t.Parallel()
	d := report.Document{Observation: &report.Observation{Role: checker.RoleMaster}, Daemon: &report.Daemon{}}
	if page := shown(t, d); strings.Contains(page, "<h2>What the Sentinels") ||
		strings.Contains(page, "listed Sentinels") {
		t.Errorf("there is a section for nothing:\n%s", page)
	}
	d.Observation.Standing = &report.Standing{
		State:  checker.StateDenied,
		Detail: "they name another",
		Epoch:  7,
		Claims: []report.Claim{
			{
				Sentinel: "10.0.0.1:26379",
				RunID:    "abc",
				Name:     "mymaster",
				Master:   "10.0.0.2:6379",
				Epoch:    7,
			}, {Sentinel: "10.0.0.2:26379", Master: "10.0.0.1:6379", NamesUs: true, Epoch: 6}},
	}
	d.Observation.Quorum = &report.Quorum{
		Answers: []report.SentinelAnswer{
			{Sentinel: "10.0.0.3:26379", Error: "no route"},
			{Sentinel: "10.0.0.1:26379", Master: "10.0.0.2:6379"},
		},
	}
	page := shown(t, d)
	for _, want := range []string{
		"<h2>What the Sentinels say on the node</h2>", "<dt>state</dt><dd>denied: they name another</dd>",
		"<th>Sentinel</th><th>run id</th><th>name</th><th>master</th><th>this node</th>",
		"<td>10.0.0.1:26379</td><td>abc</td><td>mymaster</td><td>10.0.0.2:6379</td><td>no</td><td>7</td>",
		"<td>10.0.0.2:26379</td>",
		"<h2>What the listed Sentinels answer</h2>", "<th>why it does not count</th>", "<td>no route</td>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not hold %s:\n%s", want, page)
		}
	}
}

// TestClusterView: the page shows each node once, with what this daemon knows of it, and
// what it does not know as unknown.
func TestClusterView(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile(`<tr><td>(.*)</td></tr>`)
	rows := func(d report.Document) (all []string) {
		t.Helper()
		_, section, found := strings.Cut(shown(t, d), `<section id="cluster" data-live>`)
		section, _, _ = strings.Cut(section, "</section>")
		if !found || !strings.Contains(section, "redis-is-masterd cluster") {
			t.Fatalf("no section: %s", section)
		}
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			all = append(all, strings.ReplaceAll(m[1], "</td><td>", " | "))
		}
		return all
	}
	early := time.Now()
	late := early.Add(time.Second)
	const a, b, c = "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"
	standing := func(us bool, master string) *report.Standing {
		return &report.Standing{
			Claims: []report.Claim{
				{Sentinel: "s1", Master: a, NamesUs: us != (master == b), Epoch: 3, Time: early},
				{Sentinel: "s2", Master: master, NamesUs: us, Epoch: 4, Time: late},
				{Sentinel: "s3", Master: c, Epoch: 1, Time: early},
			},
			Asked: []report.Asked{{Sentinel: "s1", Master: master, NamesUs: us, Epoch: new(int64(4)), Time: late}},
		}
	}
	for _, tt := range []struct {
		name string
		d    report.Document
		want []string
	}{
		{"nothing is known", report.Document{Address: "127.0.0.1:6379"}, nil},
		{
			"a master",
			report.Document{Address: "127.0.0.1:6379", Observation: &report.Observation{
				Role:     checker.RoleMaster,
				Standing: standing(true, a),
				Links: []report.Link{
					{Address: c, LagSeconds: new(int64(7)), BehindBytes: new(int64(9))},
					{Address: b, LagSeconds: new(int64(1)), BehindBytes: new(int64(0))},
				},
			}, HostAddresses: []report.HostAddress{
				{Address: "10.0.0.100", Present: new(true)}, {Address: "10.0.0.101", Present: new(false)},
			}},
			[]string{
				a + " (this node) | master | – | 10.0.0.100 | s1, s2 | 4",
				b + " | replica of this node | 0 bytes | ? | – | –",
				c + " | replica of this node | 9 bytes, not heard for 7 s | ? | s3 | 1",
			},
		},
		{
			"a replica",
			report.Document{Address: "127.0.0.1:6379", Observation: &report.Observation{
				Role: checker.RoleReplica, Master: b, BehindBytes: new(int64(5)), Standing: standing(false, b),
			}, VIP: []report.VIP{{Address: "10.0.0.100/32"}}},
			[]string{
				b + " | master of this node | – | ? | s1, s2 | 4",
				c + " | – | – | ? | s3 | 1",
				"127.0.0.1:6379 (this node) | replica | 5 bytes | – | – | –",
			},
		},
		{
			"a listed Sentinel, and an address of which nothing is known",
			report.Document{Address: a, Observation: &report.Observation{
				Role: checker.RoleMaster,
				Quorum: &report.Quorum{Answers: []report.SentinelAnswer{
					{Sentinel: "s1", Master: a, NamesUs: true}, {Sentinel: "s2", Error: "no route"},
				}},
			}, HostAddresses: []report.HostAddress{{Address: "10.0.0.100"}}},
			[]string{a + " (this node) | master | – | ? | s1 | –"},
		},
	} {
		if got := rows(tt.d); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

// TestStrip: the bars are where the states were, in proportion, and short ones
// can be seen.
func TestStrip(t *testing.T) {
	t.Parallel()
	type bar struct {
		Class    string  `xml:"class,attr"`
		X, Width float64 `xml:"-"`
		RawX     string  `xml:"x,attr"`
		RawWidth string  `xml:"width,attr"`
		Title    string  `xml:"title"`
	}
	bars := func(d report.Document) (all [][]bar) {
		t.Helper()
		for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(shown(t, d), -1) {
			var s struct {
				Rects []bar `xml:"rect"`
			}
			lab.Check(t, xml.Unmarshal([]byte(svg), &s))
			for i := range s.Rects {
				r := &s.Rects[i]
				fmt.Sscan(r.RawX, &r.X)
				fmt.Sscan(r.RawWidth, &r.Width)
				if r.X < 0 || r.Width < 4 || r.X+r.Width > 1004 {
					t.Errorf("a bar is outside: %+v", *r)
				}
			}
			all = append(all, s.Rects)
		}
		return all
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want-5 || got > want+5 {
			t.Errorf("%s: %.2f, want %.2f", what, got, want)
		}
	}
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	// Ten minutes: 5 min of yes before 4 min ago, 100 ms of timeout, then a replica.
	d := report.Document{
		Reason: checker.ReasonRole,
		Answer: checker.No,
		Daemon: &report.Daemon{History: []report.Transition{
			{Time: ago(4 * time.Minute), From: checker.ReasonTimeout, To: checker.ReasonRole, LastedSeconds: .1},
			{
				Time:          ago(4*time.Minute + 100*time.Millisecond),
				From:          checker.OK,
				To:            checker.ReasonTimeout,
				LastedSeconds: 300,
			},
		}},
	}
	all := bars(d)
	if len(all) != 2 || len(all[0]) != 3 {
		t.Fatalf("%+v", all)
	}
	first := all[0]
	near("the yes begins", first[0].X, 100)
	near("its width", first[0].Width, 500)
	near("the timeout", first[1].X, 600)
	near("the role begins", first[2].X, 600)
	near("its width", first[2].Width, 400)
	for i, class := range []string{"yes", "unknown", "no"} {
		if first[i].Class != class {
			t.Errorf("bar %d is %s", i, first[i].Class)
		}
	}
	near("six hours: the yes begins", all[1][0].X, 1000-9*60*1000/(6*3600))
	if !strings.Contains(first[0].Title, "ok, 5 min 0 s") {
		t.Errorf("the title is %q", first[0].Title)
	}

	// What was before the history is left empty, what began before the strip is cut.
	d = report.Document{Reason: checker.OK, Answer: checker.Yes, Daemon: &report.Daemon{Since: ago(time.Minute)}}
	if all = bars(d); len(all[0]) != 1 {
		t.Fatalf("%+v", all)
	}
	near("without history", all[0][0].X, 900)
	d.Daemon.Since = ago(24 * time.Hour)
	near("for a day", bars(d)[1][0].Width, 1000)

	// A stale answer is none since it was last known.
	d = report.Document{
		Reason: checker.ReasonStale,
		Answer: checker.Unknown,
		Daemon: &report.Daemon{AgeSeconds: 60, History: []report.Transition{
			{Time: ago(5 * time.Minute), From: checker.ReasonRole, To: checker.OK, LastedSeconds: 3600},
		}},
	}
	first = bars(d)[0]
	if last := first[len(first)-1]; last.Class != "unknown" {
		t.Errorf("stale is %+v", last)
	} else {
		near("it is stale since", last.X, 900)
		near("the yes before", first[1].Width, 400)
	}
}
