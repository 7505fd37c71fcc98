package serve

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

var (
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string

	// pagePolicy lets a browser run what is embedded here and nothing else,
	// and ask nobody but the daemon.
	pagePolicy = "default-src 'none'; style-src " + hashOf(pageCSS) + "; script-src " + hashOf(pageJS) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"yesNo": report.YesNo,
	"clock": func(t time.Time) string { return t.Local().Format("15:04:05.000") },
	"list":  func(all []string) string { return strings.Join(all, ", ") },
	"brief": func(id string) string { return id[:min(len(id), 12)] }, // enough to tell two apart
}).Parse(pageHTML))

// renderPage is the document as a page for people.
func renderPage(d report.Document) string {
	host, _ := os.Hostname()
	var b strings.Builder
	if err := pageTemplate.Execute(&b, newView(host, d, time.Now())); err != nil { // no document can make it fail
		panic(err)
	}
	return b.String()
}

// wantsPage reports whether a client is a browser: all others get text.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// A view is what the page shows.
type view struct {
	CSS                                 template.CSS
	JS                                  template.JS
	Host, Address, Server, Version, Now string
	Mark, Word, Tone                    string
	Reason, Detail, Hint, Stage         string
	Age, Since, LastCheck, Decided, Yes string
	Counts                              string
	VIP                                 []report.VIP
	Troubles                            []string
	Crash                               *report.CrashFailover
	Exec                                *report.Exec
	Rules                               []ruleView
	Facts                               []report.Fact
	Nodes                               []nodeView
	Standing                            *report.Standing
	Quorum                              *report.Quorum
	Strips                              []strip
	Transitions                         []transitionView
}

type ruleView struct {
	Mark, Reason, State, Detail string
	Decided                     bool
}

type transitionView struct{ When, From, FromTone, To, ToTone, After, Why string }

func newView(host string, d report.Document, now time.Time) view {
	v := view{
		CSS: template.CSS(pageCSS), JS: template.JS(pageJS), VIP: d.VIP, Troubles: d.Troubles(),
		Host: host, Address: d.Address,
		Now:  now.Format("2006-01-02 15:04:05 MST"),
		Tone: tone(d.Reason), Reason: string(d.Reason), Detail: d.Detail, Hint: d.Hint, Stage: string(d.Stage),
	}
	v.Yes = map[checker.Role]string{checker.RoleMaster: "Master", checker.RoleReplica: "Replica"}[d.Want]
	v.Yes = cmp.Or(v.Yes, "In service")
	switch d.Answer {
	case checker.Yes:
		v.Mark, v.Word = "✓", v.Yes
	case checker.No:
		v.Mark, v.Word = "–", map[checker.Role]string{
			checker.RoleMaster: "Not master", checker.RoleReplica: "Not a replica"}[d.Want]
		v.Word = cmp.Or(v.Word, "Out of service")
	default:
		v.Mark, v.Word = "?", "Unknown"
	}
	v.Decided, v.Nodes = v.judge(d), nodes(d)
	if o := d.Observation; o != nil {
		v.Facts, v.Standing, v.Quorum = o.Facts(), o.Standing, o.Quorum
		v.Server = strings.TrimSpace(o.Server + " " + o.Version)
	}
	if d.Daemon == nil {
		return v
	}
	v.Version, v.Age, v.Crash = d.Daemon.Version, duration(d.Daemon.AgeSeconds), d.Daemon.CrashFailover
	v.Exec = d.Daemon.Exec
	if since := d.Daemon.Since; !since.IsZero() {
		v.Since = duration(now.Sub(since).Seconds()) + ", since " + since.Format("2006-01-02 15:04:05 MST")
	}
	if d.Daemon.LastCheck != d.Reason {
		v.LastCheck = string(d.Daemon.LastCheck)
	}
	n := d.Daemon.Transitions
	v.Counts = fmt.Sprintf("%d yes, %d no, %d unknown", n[checker.Yes], n[checker.No], n[checker.Unknown])
	for _, t := range d.Daemon.History {
		v.Transitions = append(v.Transitions, transitionView{
			t.Time.Format("2006-01-02 15:04:05.000"), string(t.From), tone(t.From), string(t.To), tone(t.To),
			duration(t.LastedSeconds), t.Detail,
		})
	}
	v.Strips = []strip{newStrip(d, now, 10*time.Minute, "10 min"), newStrip(d, now, 6*time.Hour, "6 h")}
	return v
}

// judge fills in the rules, and says which one decided.
func (v *view) judge(d report.Document) string {
	decided := ""
	for _, r := range d.Rules {
		rule := ruleView{Mark: "–", Reason: string(r.Reason), State: string(r.State), Detail: r.Detail}
		switch r.State {
		case checker.RuleHeld:
			rule.Mark = "✓"
		case checker.RuleBroken:
			rule.Mark = "✗"
			if rule.Decided = decided == "" && r.Reason == d.Reason; rule.Decided {
				decided = "The first broken rule decides: " + rule.Reason + "."
			}
		}
		v.Rules = append(v.Rules, rule)
	}
	switch {
	case decided != "":
		return decided
	case d.Answer == checker.Yes:
		return "Every rule holds."
	case d.Observation == nil:
		return "No rule was applied: " + string(d.Reason) + " decided."
	}
	return "Not a rule, but the daemon decided: " + string(d.Reason) + "."
}

// tone is the colour of a reason: the answer, and for a no whether it is about
// the role or in spite of it.
func tone(r checker.Reason) string {
	if a := r.Answer(); a != checker.No || r == checker.ReasonRole {
		return string(a)
	}
	return "held"
}

// duration has two units at most: a page is read at a glance.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
