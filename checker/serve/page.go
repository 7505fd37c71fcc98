package serve

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"io"
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

// writePage answers with the document as a page for people.
func writePage(w http.ResponseWriter, code int, d report.Document) {
	host, _ := os.Hostname()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(code)
	io.WriteString(w, newView(host, d, time.Now()).render())
}

// wantsPage reports whether a client is a browser: all others get text.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// A view is what the page shows, all of it text.
type view struct {
	Host, Address, Version, Now         string
	Mark, Word, Tone                    string
	Reason, Detail, Hint, Stage         string
	Age, Since, LastCheck, Decided, Yes string
	Counts                              string
	VIP                                 []string
	Rules                               []ruleView
	Facts, Sentinels                    []value
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
		Host: host, Address: d.Address, Now: now.Format("2006-01-02 15:04:05 MST"),
		Tone: tone(d.Reason), Reason: string(d.Reason), Detail: d.Detail, Hint: d.Hint, Stage: string(d.Stage),
	}
	v.Yes = map[checker.Role]string{checker.RoleMaster: "Master", checker.RoleReplica: "Replica"}[d.Want]
	v.Yes = cmp.Or(v.Yes, "In service")
	switch d.Answer {
	case checker.Yes:
		v.Mark, v.Word = "✓", v.Yes
	case checker.No:
		v.Mark, v.Word = "–", map[checker.Role]string{checker.RoleMaster: "Not master", checker.RoleReplica: "Not a replica"}[d.Want]
		v.Word = cmp.Or(v.Word, "Out of service")
	default:
		v.Mark, v.Word = "?", "Unknown"
	}
	v.Decided = v.judge(d)
	v.Facts, v.Sentinels = observed(d)
	if d.Daemon == nil {
		return v
	}
	v.Version, v.Age = d.Daemon.Version, duration(d.Daemon.AgeSeconds)
	if since := d.Daemon.Since; !since.IsZero() {
		v.Since = duration(now.Sub(since).Seconds()) + ", since " + since.Format("2006-01-02 15:04:05 MST")
	}
	if d.Daemon.LastCheck != d.Reason {
		v.LastCheck = string(d.Daemon.LastCheck)
	}
	for _, a := range d.VIP {
		v.VIP = append(v.VIP, a.Text())
	}
	n := d.Daemon.Transitions
	v.Counts = fmt.Sprintf("%d yes, %d no, %d unknown", n[checker.Yes], n[checker.No], n[checker.Unknown])
	for _, t := range d.Daemon.History {
		v.Transitions = append(v.Transitions, transitionView{
			t.Time.Format("2006-01-02 15:04:05.000"), string(t.From), tone(t.From), string(t.To), tone(t.To), duration(t.LastedSeconds), t.Detail,
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
