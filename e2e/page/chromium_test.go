package page_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"redis-is-master/e2e/lab"
)

// A tab is one page of a headless Chromium, spoken to by the DevTools
// protocol over a pipe: messages end with a NUL.
type tab struct {
	t       *testing.T
	to      *os.File
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan message
	events  []message
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// open starts a Chromium that reaches nothing but this machine.
func open(t *testing.T) *tab {
	t.Helper()
	lab.Require(t, "chromium")
	in, to, err := os.Pipe()
	lab.Check(t, err)
	from, out, err := os.Pipe()
	lab.Check(t, err)
	cmd := exec.Command(
		"chromium",
		"--headless=new",
		"--no-sandbox",
		"--disable-gpu",
		"--disable-dev-shm-usage",
		"--remote-debugging-pipe",
		"--user-data-dir="+t.TempDir(),
		"--no-first-run",
		"--disable-background-networking",
		"--disable-component-update",
		"--disable-sync",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"about:blank",
	)
	cmd.ExtraFiles = []*os.File{in, out} // descriptors 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stderr = &log
	lab.Check(t, cmd.Start())
	in.Close()
	out.Close()
	b := &tab{t: t, to: to, waiting: make(map[int]chan message)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(bufio.NewReader(from))
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its process group is its own
		cmd.Wait()
		to.Close()
		from.Close()
		<-read
		if t.Failed() {
			t.Log(log.String())
		}
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *tab) read(r *bufio.Reader) {
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if c, ok := b.waiting[m.ID]; ok {
			c <- m
			delete(b.waiting, m.ID)
		} else {
			b.events = append(b.events, m)
		}
		b.mu.Unlock()
	}
}

// call sends a command and waits for its result.
func (b *tab) call(method string, params map[string]any, result any) {
	b.t.Helper()
	c := make(chan message, 1)
	b.mu.Lock()
	b.next++
	m := message{ID: b.next, SessionID: b.session, Method: method}
	if params != nil {
		m.Params = params
	}
	b.waiting[m.ID] = c
	b.mu.Unlock()
	text, err := json.Marshal(m)
	lab.Check(b.t, err)
	_, err = b.to.Write(append(text, 0))
	lab.Check(b.t, err)
	var reply message
	lab.Check(b.t, lab.Wait("Chromium answers "+method, func() (bool, error) {
		select {
		case reply = <-c:
			return true, nil
		default:
			return false, nil
		}
	}))
	if reply.Error != nil {
		b.t.Fatalf("%s: %s", method, reply.Error)
	}
	if result != nil {
		lab.Check(b.t, json.Unmarshal(reply.Result, result))
	}
}

// eval is the value of an expression in the page, as text.
func (b *tab) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call(
		"Runtime.evaluate",
		map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true},
		&r,
	)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// visit loads a page to its end.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	lab.Check(b.t, lab.Wait(url+" is loaded", func() (bool, error) {
		return b.eval(`location.href + " " + document.readyState`) == url+" complete", nil
	}))
}

// seen are the events of a kind, each as JSON.
func (b *tab) seen(methods ...string) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		for _, m := range methods {
			if e.Method == m {
				text, _ := json.Marshal(e.Params)
				all = append(all, string(text))
			}
		}
	}
	return all
}

// screen sets the size, the scheme and whether it is a phone's.
func (b *tab) screen(width, height int, scheme string) {
	b.t.Helper()
	b.call(
		"Emulation.setDeviceMetricsOverride",
		map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
		nil,
	)
	b.call(
		"Emulation.setEmulatedMedia",
		map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}},
		nil,
	)
}

// picture writes the whole page as a PNG.
func (b *tab) picture(file string) {
	b.t.Helper()
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	lab.Check(b.t, err)
	lab.Check(b.t, os.WriteFile(file, png, 0o644))
}
