package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// TestWrongHolder: a holder is wrong before the change by one master, and
// after it by another.
func TestWrongHolder(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	vip := func(ms int, node, what string) lab.Event {
		return lab.Event{At: at(ms), Node: node, Kind: lab.VIP, What: what}
	}
	const from, change, to = 100, 200, 1000
	for _, tt := range []struct {
		name   string
		before string // who is the master before the change, nobody if empty
		events []lab.Event
		want   int
	}{
		{"it moves at once", "", []lab.Event{vip(0, "a", "up"), vip(100, "a", "down"), vip(200, "b", "up")}, 0},
		{"the dead keeps it for a while", "", []lab.Event{vip(0, "a", "up"), vip(150, "a", "down"), vip(300, "b", "up")}, 50},
		{"the dead keeps it beyond the change", "",
			[]lab.Event{vip(0, "a", "up"), vip(300, "a", "down"), vip(300, "b", "up")}, 200},
		{"both have it", "", []lab.Event{vip(0, "a", "up"), vip(100, "a", "down"), vip(200, "b", "up"),
			vip(400, "a", "up"), vip(500, "a", "down")}, 100},
		{"it is there until the end", "", []lab.Event{vip(0, "a", "up")}, 900},
		{"the old master is right until the change", "a",
			[]lab.Event{vip(0, "a", "up"), vip(250, "a", "down"), vip(250, "b", "up")}, 50},
		{"the new one is early", "a", []lab.Event{vip(0, "a", "up"), vip(180, "a", "down"), vip(180, "b", "up")}, 20},
		{"others do not count", "", []lab.Event{vip(0, "a", "up"), {At: at(50), Node: "a", Kind: lab.Role, What: "down"},
			vip(100, "a", "down")}, 0},
	} {
		master := func(t time.Time) string {
			switch {
			case !t.Before(at(change)):
				return "b"
			case t.Before(at(from)):
				return "a"
			}
			return tt.before
		}
		if got := wrongHolder(tt.events, at(from), at(to), master, at(change)); got != time.Duration(
			tt.want,
		)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", tt.name, got, tt.want)
		}
	}
}

// sampled is a result of every set-up, one of which has failed.
func sampled() (all []*result) {
	for i, u := range setups {
		r := &result{setup: u, rounds: 18}
		if i == 1 {
			r.failed = []error{errors.New("a < b | \"c\"\nmore")}
		} else {
			x := float64(i)
			r.role.all = []float64{1400}
			for _, s := range []*sample{&r.killVIP, &r.killWrite, &r.roleVIP, &r.roleWrite} {
				s.all = []float64{1500 + 100*x, 1600 + 100*x, 1700 + 200*x}
			}
			r.wrong[planned].all, r.lost[planned].all = []float64{1000 * x}, []float64{100 * x}
		}
		all = append(all, r)
	}
	return all
}

// TestPicture: it is XML, everything is inside it, and every set-up is named.
func TestPicture(t *testing.T) {
	picture := draw(sampled())
	var texts []string
	in := ""
	for d := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			in = e.Name.Local
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.Contains(a.Value, "%!") ||
					strings.HasPrefix(a.Value, "-") {
					t.Errorf("<%s %s=%q>", in, a.Name.Local, a.Value)
				}
			}
		case xml.CharData:
			if in == "text" {
				texts = append(texts, string(e))
			}
		}
	}
	all := strings.Join(texts, "\n")
	for _, u := range setups {
		if !strings.Contains(all, u.name) {
			t.Errorf("%s is not in the picture", u.name)
		}
		if len(u.name) > 27 {
			t.Errorf("%s is too long for the picture", u.name)
		}
	}
	if !strings.Contains(all, "failed") {
		t.Error("nothing says that a set-up has failed")
	}
}

// TestShow: the table of a run in which a set-up failed says so, and so does
// the exit; the README is not touched by it.
func TestShow(t *testing.T) {
	b := &bench{}
	if err := b.show(sampled()); err == nil || !strings.Contains(err.Error(), setups[1].name) {
		t.Errorf("error %v", err)
	}
	if text := b.String(); !strings.Contains(text, "| "+setups[1].name+" | 0 | failed |") ||
		!strings.Contains(text, "a < b / \"c\"") {
		t.Error(text)
	}
	if len(b.lines) > 0 {
		t.Errorf("lines for the README: %q", b.lines)
	}
	good := sampled()
	*good[1] = *good[2]
	good[1].setup = setups[1]
	if err := (&bench{}).show(good); err != nil {
		t.Error(err)
	}
}

// TestUpdate: what is outside the marks stays.
func TestUpdate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	const before, after = "# Title\n\n", "\nMore.\n"
	lab.Check(
		t,
		os.WriteFile(file, []byte(before+"<!-- written by make bench -->\nold\n<!-- until here -->\n"+after), 0o644),
	)
	report := func(lines ...string) (text string) {
		for _, l := range lines {
			text += "\n<!-- for the README: " + l + " -->\n"
		}
		return text
	}
	lab.Check(t, update(file, "e2e", report("one", "two")))
	untouched, err := os.ReadFile(file)
	lab.Check(t, err)
	if !strings.Contains(string(untouched), "old") {
		t.Error("a part that has failed changes the README")
	}
	lab.Check(t, update(file, "e2e", report("one", "two", "three")))
	got, err := os.ReadFile(file)
	lab.Check(t, err)
	if text := string(got); !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) ||
		strings.Contains(text, "old") ||
		!strings.Contains(text, "(e2e/benchmarks.svg)") ||
		!strings.Contains(text, "\n- two\n") {
		t.Error(text)
	}

	// The README has the marks, and what is between them is small.
	readme, err := os.ReadFile("../../README.md")
	lab.Check(t, err)
	lab.Check(t, os.WriteFile(file, readme, 0o644))
	good := sampled()
	*good[1] = *good[2]
	good[1].setup = setups[1]
	b := &bench{}
	lab.Check(t, b.show(good))
	lab.Check(t, update(file, "e2e", report(append(b.lines, crashLine(crashed()), strings.Repeat("x", 150))...)))
	got, err = os.ReadFile(file)
	lab.Check(t, err)
	_, block, _ := strings.Cut(string(got), "<!-- written by make bench -->\n")
	if block, _, _ = strings.Cut(block, "<!-- until here -->"); strings.Count(block, "\n- ") != 3 ||
		len(block) > 1000 {
		t.Errorf("%d characters:\n%s", len(block), block)
	}

	lab.Check(t, os.WriteFile(file, []byte(before), 0o644))
	if update(file, "e2e", report("one", "two", "three")) == nil {
		t.Error("a file without the marks is no error")
	}
}

// TestMerge: a part that is run alone takes the place of its section, and the
// others stay.
func TestMerge(t *testing.T) {
	section := func(title, text string) string { return heading + title + "\n\n" + text + "\n" }
	report := merge(
		"",
		"# Old head\n",
		[]string{section("One", "1"), section("Two", "2\n\n### Two and a half\n\nmore")},
	)
	report = merge(report, "# Head\n", []string{section("One", "new")})
	report = merge(report, "# Head\n", []string{section("Three", "3")})
	want := "# Head\n\n" + section(
		"One",
		"new",
	) + "\n" + section(
		"Two",
		"2\n\n### Two and a half\n\nmore",
	) + "\n" + section(
		"Three",
		"3",
	)
	if report != want {
		t.Errorf("%q, want %q", report, want)
	}
}

// TestWatchConfigurations: what is measured is what is shipped, as often.
func TestWatchConfigurations(t *testing.T) {
	for _, w := range watchers {
		b, err := os.ReadFile(filepath.Join("../..", w.conf))
		lab.Check(t, err)
		if w.haproxy() {
			conf := oneServer(string(b), 20*time.Millisecond)
			if strings.Count(conf, "\n    server ") != 1 || !strings.Contains(conf, "inter 20ms") ||
				strings.Contains(conf, "inter 1") {
				t.Errorf("%s:\n%s", w.name, conf)
			}
			continue
		}
		conf := manyScripts(string(b), w.script, 10)
		scripts, want := strings.Count(conf, "\nvrrp_script "), 10
		switch {
		case w.script == "none":
			want = 0
		case strings.Contains(w.conf, "track-file"):
			want = 1
		}
		if scripts != want || want == 10 && strings.Count(conf, "        check") != want ||
			w.script != "" && want > 0 && strings.Count(conf, w.script) != want {
			t.Errorf("%s has %d scripts, want %d:\n%s", w.name, scripts, want, conf)
		}
	}
}

func TestQuantile(t *testing.T) {
	all := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(all, q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 || math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

// crashed are results of all set-ups.
func crashed() (all []*crashResult) {
	for _, u := range crashSetups() {
		for _, ms := range downAfters {
			all = append(all, &crashResult{setup: u, downAfter: ms, write: sample{all: []float64{float64(ms) + 300}}})
		}
	}
	return all
}

// TestShowCrashes: a set-up that failed says so, and a promise that is not kept is
// missed.
func TestShowCrashes(t *testing.T) {
	b, results := &bench{}, crashed()
	if err := b.showCrashes(results); err != nil || len(b.lines) != 1 || !strings.Contains(b.String(), "**missed**") {
		t.Errorf("%v, %q\n%s", err, b.lines, b)
	}
	b = &bench{}
	results[0].failed = errors.New("in vain")
	if err := b.showCrashes(results); err == nil || len(b.lines) > 0 || !strings.Contains(b.String(), "in vain") {
		t.Errorf("%v, %q\n%s", err, b.lines, b)
	}
}
