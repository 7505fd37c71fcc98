// Package page_test looks at the status page of a real daemon with a real
// browser.
package page_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m, nil)) }

// TestPage: a transition is on the open page within a second, and so is the
// daemon's death; without script it shows the same. Chromium has nothing to
// complain about, and asks nobody else. With PICTURES set to a directory,
// pictures of the page are left there.
func TestPage(t *testing.T) {
	r := lab.New(t, lab.Options{TCP: true})
	port, err := lab.FreePort()
	lab.Check(t, err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	url := "http://" + address + "/"
	d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), r, "--http", address)
	lab.Check(t, err)
	t.Cleanup(d.Close)
	lab.Check(t, d.Says(checker.OK))

	b := open(t)
	const word, reason = `document.querySelector("h1").textContent`, `document.querySelector("#answer code").textContent`
	shows := func(what string, within time.Duration, expression, want string) {
		t.Helper()
		begin := time.Now()
		lab.Check(t, lab.Wait(what, func() (bool, error) { return b.eval(expression) == want, nil }))
		if took := time.Since(begin); took > within {
			t.Errorf("%s after %v", what, took)
		}
	}
	picture := func(name string, width int, scheme string) {
		t.Helper()
		if dir := os.Getenv("PICTURES"); dir != "" {
			b.screen(width, 900, scheme)
			b.picture(filepath.Join(dir, name+".png"))
		}
	}
	b.screen(1200, 900, "light")
	b.visit(url)
	shows("the page says yes", time.Second, word, "Master")
	picture("master-light", 1200, "light")
	b.eval(`window.same = true`)

	r.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(r.Port))
	lab.Check(t, d.Says(checker.ReasonRole))
	shows("the page says no", time.Second, word, "Not master")
	shows("the title says no", time.Second, `document.title.includes("Not master")`, "true")
	r.Must(t, "REPLICAOF", "NO", "ONE")
	lab.Check(t, d.Says(checker.OK))
	shows("the page says yes again", time.Second, word, "Master")
	r.Kill()
	lab.Check(t, d.Says(checker.ReasonRefused))
	shows("the page says unknown", time.Second, word, "Unknown")
	shows("and why", time.Second, reason, "refused")
	picture("unknown-dark", 1200, "dark")
	picture("unknown-phone", 390, "dark")
	doc, err := d.Document()
	lab.Check(t, err)
	if rows := b.eval(`document.querySelectorAll("#transitions table tr").length - 1`); rows != fmt.Sprint(
		len(doc.Daemon.History),
	) {
		t.Errorf("%s transitions, want %d", rows, len(doc.Daemon.History))
	}
	if bars := b.eval(`document.querySelectorAll("#strips svg:first-of-type rect").length`); bars == "0" {
		t.Error("the strip is empty")
	}
	if b.eval(`window.same`) != "true" {
		t.Error("the page was loaded anew")
	}

	// Readable on a phone: nothing sticks out.
	for _, width := range []int{320, 390, 1200} {
		b.screen(width, 800, "dark")
		if over := b.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); over != "0" {
			t.Errorf("the page is %s pixels wider than a screen of %d", over, width)
		}
	}
	// Light and dark: what is written can be read.
	for _, scheme := range []string{"light", "dark"} {
		b.screen(1200, 900, scheme)
		for _, s := range []string{"#answer", "#age", "#age dt", "footer"} {
			if c := b.eval(fmt.Sprintf(contrast, s)); len(c) < 1 || c[0] < '4' && len(strings.Split(c, ".")[0]) == 1 {
				t.Errorf("%s in %s: the contrast is %s", s, scheme, c)
			}
		}
	}

	for _, e := range b.seen("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") {
		t.Errorf("the console says %s", e)
	}
	for _, e := range b.seen("Network.requestWillBeSent") {
		if !strings.Contains(e, `"url":"`+url) && !strings.Contains(e, `"url":"data:,"`) &&
			!strings.Contains(e, `"url":"about:blank"`) {
			t.Errorf("it asks elsewhere: %s", e)
		}
	}

	// A dead daemon leaves no yes on the screen.
	lab.New(t, lab.Options{Dir: r.Dir, TCP: true})
	d.Kill()
	lost := `document.documentElement.className + " " + getComputedStyle(document.getElementById("lost")).display`
	shows("the page says that the daemon is gone", 2*time.Second, lost, "lost block")
	picture("lost-phone", 390, "light")
	lab.Check(t, d.Start(lab.Program("redis-is-masterd"), r, "--http", address))
	lab.Check(t, d.Until("it is back", func(doc report.Document) bool { return true }))
	shows("the page says that it is back", 3*time.Second, `document.documentElement.className`, "")

	// Without script it says the same.
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	doc, err = d.Document()
	lab.Check(t, err)
	b.visit(url)
	if got := b.eval(reason); got != string(doc.Reason) {
		t.Errorf("without script: %s, the daemon says %s", got, doc.Reason)
	}

	// What would be injected does not run.
	response, err := http.Get(url + "status?page")
	lab.Check(t, err)
	response.Body.Close()
	policy := response.Header.Get("Content-Security-Policy")
	for _, loose := range []string{"unsafe", "*", "http:", "https:"} {
		if strings.Contains(policy, loose) || !strings.HasPrefix(policy, "default-src 'none'; ") {
			t.Errorf("the policy is %q", policy)
		}
	}
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	b.visit(url)
	b.eval(
		`document.body.insertAdjacentHTML("beforeend",` +
			` "<img src=x onerror='window.injected = 1'><a id=x style='color:red' href=/>x</a>");` +
			` const s = document.createElement("script"); s.textContent = "window.injected = 1"; document.body.append(s)`,
	)
	if got := b.eval(`new Promise(done => setTimeout(() => done(String(window.injected)), 100))`); got != "undefined" {
		t.Error("an injected script runs")
	}
}

// TestSentinels: a failover by real Sentinels on the page of the node that is
// promoted, with what each of them says, and what is known of each node.
func TestSentinels(t *testing.T) {
	c := lab.NewCluster(t, 2, lab.Options{})
	var pages, nodes [2]string // nodes are by which the Sentinels know them
	for i, says := range []checker.Reason{checker.OK, checker.ReasonRole} {
		port, err := lab.FreePort()
		lab.Check(t, err)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		pages[i], nodes[i] = "http://"+address+"/", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Nodes[i].Port))
		d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), c.Nodes[i], "--http", address)
		lab.Check(t, err)
		t.Cleanup(d.Close)
		lab.Check(t, d.Says(says))
	}
	b := open(t)
	b.screen(1200, 900, "light")
	show := func(what, expression, want string) {
		t.Helper()
		var last string
		if err := lab.Wait(what, func() (bool, error) { last = b.eval(expression); return last == want, nil }); err != nil {
			t.Fatalf("%v: %s\n%s", err, last, b.eval(`document.body.innerText`))
		}
	}
	cell := func(node string, column int) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#cluster tbody tr")]`+
			`.find(r => r.cells[0].textContent.startsWith(%q))?.cells[%d].textContent`, node, column)
	}
	b.visit(pages[0])
	show("the master knows its replica", cell(nodes[1], 1), "replica of this node")
	show("and how far that is behind", `String(/^\d+ bytes$/.test(`+cell(nodes[1], 2)+`))`, "true")
	b.visit(pages[1])
	show("this node is a replica", cell(nodes[1], 1)+` + "," + `+cell(nodes[1], 3), "replica,?")
	show("its master", cell(nodes[0], 1), "master of this node")
	show("whom three Sentinels name", `String(`+cell(nodes[0], 4)+`.split(", ").length)`, "3")
	show("the rule that decided is marked", `document.querySelector("#rules .decided code").textContent`, "role")
	c.Nodes[0].Kill()
	show("the promotion is on the page", `document.querySelector("h1").textContent`, "Master")
	show("so it is among the nodes", cell(nodes[1], 0)+` + ", " + `+cell(nodes[1], 1), nodes[1]+" (this node), master")
	show("named by all", `String(`+cell(nodes[1], 4)+`.split(", ").length)`, "3")
	// One for what it publishes, and one for what it answers.
	show("every Sentinel has two rows", `String(document.querySelectorAll("#sentinels tbody tr").length)`, "6")
	show(
		"and names this node",
		fmt.Sprintf(
			`String([...document.querySelectorAll("#sentinels tbody tr")]`+
				`.filter(r => r.innerText.includes("127.0.0.1:%d")).length)`,
			c.Nodes[1].Port,
		),
		"6",
	)
	if dir := os.Getenv("PICTURES"); dir != "" {
		b.picture(filepath.Join(dir, "sentinels-light.png"))
		b.screen(390, 900, "dark")
		b.picture(filepath.Join(dir, "sentinels-phone.png"))
	}
	b.screen(390, 900, "dark")
	if over := b.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); over != "0" {
		t.Errorf("the page is %s pixels wider than a phone", over)
	}
}

// contrast is the ratio of WCAG between an element's text and what is behind
// it.
const contrast = `(() => {
  const part = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = rgb => {
    const [r, g, b] = rgb.match(/[\d.]+/g).map(Number);
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  };
  let e = document.querySelector(%q), ink = light(getComputedStyle(e).color);
  while (/, 0\)$/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
  const paper = light(getComputedStyle(e).backgroundColor);
  return ((Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05)).toFixed(1);
})()`
