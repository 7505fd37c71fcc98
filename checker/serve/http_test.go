package serve_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

// web serves a node over HTTP and returns its address.
func web(t *testing.T, n *fake.Node) string {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics\n") })
	h, err := serve.NewHTTP("127.0.0.1:0", "", n.Monitor, metrics, n.Document)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	return h.Addr().String()
}

// A reply is what came back, in the parts that matter.
type reply struct {
	code   int
	header http.Header
	body   string
}

// send makes one request on a connection of its own and follows no redirect.
func send(method, address, path string) (r reply, err error) {
	c, err := net.DialTimeout("tcp", address, atOnce)
	if err != nil {
		return r, err
	}
	defer c.Close()
	return sendOn(c, bufio.NewReader(c), method, path, "Connection: close\r\n")
}

func sendOn(c net.Conn, from *bufio.Reader, method, path, header string) (r reply, err error) {
	c.SetDeadline(time.Now().Add(atOnce))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: test\r\n%s\r\n", method, path, header); err != nil {
		return r, err
	}
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		return r, err
	}
	b, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(b)}, errors.Join(err, response.Body.Close())
}

func get(t *testing.T, address, path string) reply {
	t.Helper()
	r, err := send(http.MethodGet, address, path)
	lab.Check(t, err)
	return r
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	// The codes of /master and /replica, by the names of states.
	codes := map[string][2]int{
		"a master":       {200, 503},
		"a replica":      {503, 200},
		"a hostile node": {503, 200},
	}
	for _, tt := range fake.States {
		t.Run(tt.Name, func(t *testing.T) {
			t.Parallel()
			want, ok := codes[tt.Name]
			if !ok {
				want = [2]int{503, 503}
			}
			alive := 200
			if tt.Reason == checker.ReasonStale {
				alive = 503
			}
			address := web(t, tt.Node(t))
			for path, code := range map[string]int{
				"/master": want[0], "/primary": want[0], "/replica": want[1], "/healthz": alive, "/master?x=/replica": want[0],
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
					r, err := send(method, address, path)
					lab.Check(t, err)
					if r.code != code {
						t.Errorf("%s %s: %d, want %d", method, path, r.code, code)
					}
					if got := r.header.Get("Cache-Control"); got != "no-store" {
						t.Errorf("%s %s: Cache-Control %q", method, path, got)
					}
					lines := 1
					if method == http.MethodHead {
						lines = 0
					}
					if strings.Count(r.body, "\n") != lines || lines == 1 && !strings.HasSuffix(r.body, "\n") ||
						strings.ContainsAny(r.body, "\r\x1b") {
						t.Errorf("%s %s: the body is not %d lines of text: %.200q", method, path, lines, r.body)
					}
				}
			}
			// The reason is that of all other outputs.
			if r := get(t, address, "/master"); !strings.HasPrefix(r.body, string(tt.Reason)+": ") ||
				!strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
				t.Errorf("/master: %q, %v", r.body, r.header)
			}

			r := get(t, address, "/status")
			var d report.Document
			lab.Check(t, json.Unmarshal([]byte(r.body), &d))
			if r.code != 200 || d.Schema != 1 || d.Reason != tt.Reason || d.Answer != tt.Reason.Answer() ||
				d.Daemon == nil ||
				!strings.HasSuffix(r.body, "}\n") ||
				r.header.Get("Content-Type") != "application/json" ||
				r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("/status: %+v", r)
			}
			r = get(t, address, "/") // its code is the wanted role's: a bare httpchk asks here
			if r.code != want[0] || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") ||
				!strings.HasPrefix(r.body, string(d.Answer)+" 127.0.0.1:6379 ") ||
				strings.Contains(r.body, "\x1b") {
				t.Errorf("/: %+v", r)
			}
			if r := get(t, address, "/metrics"); r.code != 200 || r.body != "metrics\n" {
				t.Errorf("/metrics: %+v", r)
			}
		})
	}
}

// TestEveryAnswer: whatever the reason, the code says what the answer is.
func TestEveryAnswer(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	address := web(t, n)
	loading, cluster, syncing := fake.Master, fake.Master, fake.Replica
	loading.O.Loading, cluster.O.Cluster, syncing.O.Syncing = true, true, true
	all := []fake.Outcome{
		loading,
		cluster,
		syncing,
		fake.Replica,
		{O: checker.Observation{Role: checker.RoleSentinel}},
		{Err: errors.New("no *Error")},
		{},
	}
	for _, reason := range checker.Reasons() {
		if reason.Answer() == checker.Unknown {
			all = append(all, fake.Failure(reason))
		}
	}
	for _, x := range all {
		n.Becomes(t, x)
		s, _ := n.Status()
		if r := get(t, address, "/master"); r.code != 503 ||
			!strings.HasPrefix(r.body, string(s.Verdict.Reason)+": ") {
			t.Errorf("%s: %d %s", s.Verdict.Reason, r.code, r.body)
		}
		n.Becomes(t, fake.Master)
		if r := get(t, address, "/master"); r.code != 200 {
			t.Errorf("after %s: %d %s", s.Verdict.Reason, r.code, r.body)
		}
	}
}

// TestNoOtherWay: nothing but the three paths is ever 2xx or 3xx by mistake.
// HAProxy's httpchk takes a redirect for a yes.
func TestNoOtherWay(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Failure(checker.ReasonRefused)))
	for _, path := range []string{
		"/nothing", "/master/", "/masters", "/Master", "/favicon.ico", "/status/x", "//master", "/./master", "/x/../master",
		"//", "/../", "http://other//master", "/%6daster",
	} {
		if r := get(t, address, path); r.code < 400 {
			t.Errorf("GET %s: %d, to %q", path, r.code, r.header.Get("Location"))
		} else if r.code != 404 && r.code != 503 {
			t.Errorf("GET %s: %d", path, r.code)
		}
	}
	if got, err := ask(address, "OPTIONS * HTTP/1.0\r\n\r\n"); err != nil ||
		!strings.HasPrefix(got, "HTTP/1.0 404 ") {
		t.Errorf("OPTIONS *: %q, %v", got, err)
	}
	for _, method := range []string{
		http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodTrace, http.MethodConnect,
		"BREW", "get",
	} {
		for _, path := range []string{"/master", "/healthz", "/status", "/metrics", "/", "/nothing"} {
			r, err := send(method, address, path)
			lab.Check(t, err)
			if r.code != 405 || r.header.Get("Allow") != "GET, HEAD, OPTIONS" ||
				r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %+v", method, path, r)
			}
		}
	}
}

// TestOldProtocol: HAProxy asks in HTTP/1.0, without a Host.
func TestOldProtocol(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	address := web(t, n)
	for range 2 {
		got, err := ask(address, "OPTIONS /replica HTTP/1.0\r\n\r\n")
		if err != nil || !strings.HasPrefix(got, "HTTP/1.0 503 ") {
			t.Errorf("/replica: %q, %v", got, err)
		}
		got, err = ask(address, "OPTIONS /master HTTP/1.0\r\n\r\n")
		if err != nil || !strings.HasPrefix(got, "HTTP/1.0 200 ") || !strings.Contains(got, "\r\n\r\nok: ") {
			t.Errorf("/master: %q, %v", got, err)
		}
	}
}

// TestHalfClosed: a client that asks often and closes its side is not told 200
// when its turn does not come.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Replica))
	for range 10 {
		c, err := net.DialTimeout("tcp", address, atOnce)
		lab.Check(t, err)
		c.SetDeadline(time.Now().Add(atOnce))
		_, err = io.WriteString(c, strings.Repeat("GET /master HTTP/1.1\r\nHost: test\r\n\r\n", 8))
		lab.Check(t, err)
		lab.Check(t, c.(*net.TCPConn).CloseWrite())
		said, err := io.ReadAll(c)
		c.Close()
		if err != nil || strings.Contains(string(said), " 200 ") || !strings.Contains(string(said), " 503 ") {
			t.Fatalf("%q, %v", said, err)
		}
	}
}

// hold keeps n connections open, each after it has sent something.
func hold(t *testing.T, address string, n int, say string) []net.Conn {
	t.Helper()
	all := make([]net.Conn, n)
	for i := range all {
		c, err := net.DialTimeout("tcp", address, atOnce)
		lab.Check(t, err)
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(lab.Patience))
		if say != "" { // it may be cut off already
			io.WriteString(c, say)
		}
		all[i] = c
	}
	return all
}

// TestIdleLimit: it is the longest idle that are closed, and no more of them
// than have to be.
func TestIdleLimit(t *testing.T) {
	t.Parallel()
	const limit, all = 1024, 1400
	address := web(t, fake.Watched(t, fake.Master))
	conns := make([]net.Conn, all)
	readers := make([]*bufio.Reader, all)
	for i := range conns {
		conns[i] = hold(t, address, 1, "")[0]
		readers[i] = bufio.NewReader(conns[i])
		if r, err := sendOn(conns[i], readers[i], http.MethodGet, "/master", ""); err != nil || r.code != 200 {
			t.Fatalf("client %d: %d, %v", i, r.code, err)
		}
	}
	// A place is free only when its connection is seen to have ended, so a few
	// more may go, and the order of the youngest is not exact.
	const slack = 40
	closed := 0
	for i, c := range conns[:all-limit+slack] {
		wait := atOnce
		if i >= all-limit {
			wait = time.Millisecond
		}
		c.SetReadDeadline(time.Now().Add(wait))
		if _, err := readers[i].ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed < all-limit {
		t.Errorf("%d of %d connections were closed, the limit is %d", closed, all, limit)
	}
	for i := all - limit + slack; i < all; i++ {
		if r, err := sendOn(conns[i], readers[i], http.MethodGet, "/master", ""); err != nil || r.code != 200 {
			t.Fatalf("client %d: %d, %v", i, r.code, err)
		}
	}
}

// TestSlowHeader: a client that sends its head byte by byte is cut off, and no
// one waits for it.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Master))
	slow := hold(t, address, 1, "GET /master HTTP/1.1\r\nX: ")[0]
	begin := time.Now()
	over := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, slow)
		over <- err
	}()
	drip := time.NewTicker(20 * time.Millisecond)
	defer drip.Stop()
	answers := 0
	for {
		select {
		case err := <-over:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it is not cut off")
			}
			t.Logf("cut off after %v, %d answers to others", time.Since(begin), answers)
			return
		case <-drip.C:
			io.WriteString(slow, "x")
			if r, err := send(http.MethodGet, address, "/master"); err != nil || r.code != 200 {
				t.Fatalf("another client: %d, %v", r.code, err)
			}
			answers++
		}
	}
}

// TestBigHeader: a head without end is refused.
func TestBigHeader(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Master))
	c := hold(t, address, 1, "GET /master HTTP/1.1\r\nHost: test\r\n"+
		strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 1000))[0]
	b, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(b), " 200 ") {
		t.Errorf("%v, %.100q", err, b)
	}
}

// TestAbort: clients that hang up in the middle leave nothing behind, which
// goleak looks for.
func TestAbort(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Master))
	for _, say := range []string{"", "GET", "GET /status HTTP/1.1\r\nHost: test\r\n\r\n"} {
		for range 100 {
			c := hold(t, address, 1, say)[0].(*net.TCPConn)
			c.SetLinger(0) // a reset
			c.Close()
		}
	}
	if r := get(t, address, "/master"); r.code != 200 {
		t.Errorf("%+v", r)
	}
}

// TestHTTPEnd: Run ends although clients hang on, and the port is free.
func TestHTTPEnd(t *testing.T) {
	t.Parallel()
	n := fake.Watched(t, fake.Master)
	h, err := serve.NewHTTP("127.0.0.1:0", "", n.Monitor, http.NotFoundHandler(), n.Document)
	lab.Check(t, err)
	stop := fake.Until(t, h.Run)
	address := h.Addr().String()
	hold(t, address, 10, "GET /master HTTP/1.1\r\nHost: test\r\n\r\n")
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > atOnce {
		t.Errorf("it took %v", took)
	}
	again, err := serve.NewHTTP(address, "", n.Monitor, http.NotFoundHandler(), n.Document)
	lab.Check(t, err)
	fake.Until(t, again.Run)
	if r := get(t, address, "/master"); r.code != 200 {
		t.Errorf("%+v", r)
	}
}
