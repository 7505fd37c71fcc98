package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
	"redis-is-master/checker/report"
)

// An HTTP answers over HTTP.
//
//	/master /primary /replica   200 if that is what the node is, else 503
//	/healthz                    200 as long as the daemon checks, whatever it finds
//	/status                     the document, JSON
//	/status?vip=ADDRESS         the same, and whether this host has the address; there may be several
//	/metrics                    for Prometheus
//	/                           the same for people: a page for a browser, else text; its code is that of the
//	                            wanted role, for a bare "option httpchk" of HAProxy asks here
//
// What clients can make it do is bounded: the document and the page are rendered
// once per check, and they and the metrics are given out at a pace; a connection
// has a pace of its own; and there are so many connections at most, see [places].
// The answers to HAProxy wait for nothing but the pace of their own connection.
type HTTP struct {
	listener *net.TCPListener
	config   string
	pages    map[string]page
	places   places

	closing atomic.Bool // every connection ends with its answer
	gate    gate
}

// A page is what a path leads to.
type page struct {
	serve http.HandlerFunc
	pace  *pace // at which it is given out, to all together; nil for any
}

// NewHTTP listens on a TCP address. Config is a file as of the Prometheus
// exporters, https://prometheus.io/docs/prometheus/latest/configuration/https/ ,
// for TLS and basic authentication; it is read at every request. Empty is
// neither.
func NewHTTP(address, config string, m *checker.Monitor, metrics http.Handler,
	document func(checker.Status) report.Document) (*HTTP, error) {
	if err := web.Validate(config); err != nil {
		return nil, fmt.Errorf("--web.config.file %s: %w", config, err)
	}
	l, err := (&net.ListenConfig{Control: smallBuffers}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	return &HTTP{listener: l.(*net.TCPListener), config: config, pages: pages(m, metrics, document)}, nil
}

// httpFile is the name of what [HTTP.Hold] hands over.
const httpFile = "http"

// ResumeHTTP is [NewHTTP] with what another HTTP has handed over.
func ResumeHTTP(files handover.Files, config string, m *checker.Monitor, metrics http.Handler,
	document func(checker.Status) report.Document) (*HTTP, error) {
	if err := web.Validate(config); err != nil {
		return nil, fmt.Errorf("--web.config.file %s: %w", config, err)
	}
	l, err := files.TakeListener(httpFile)
	if err != nil {
		return nil, err
	}
	return &HTTP{listener: l, config: config, pages: pages(m, metrics, document)}, nil
}

// Hold adds to files what [ResumeHTTP] needs, and accepts nobody until release is called: who connects waits. It
// returns when everybody who was accepted has the answer, or is slow to ask or to take it.
func (h *HTTP) Hold(files handover.Files) (release func(), err error) {
	h.closing.Store(true)
	if h.places.any() {
		time.Sleep(lastAnswers) // else the next question comes on a connection that is just being closed
	}
	opened := h.gate.close(h.listener)
	release = func() {
		h.closing.Store(false)
		opened()
	}
	if err := files.Add(httpFile, h.listener); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// lastAnswers is for how long clients that keep their connections are told to close them.
const lastAnswers = 100 * time.Millisecond

// smallBuffers bounds what the kernel keeps of a connection. Else it grows to
// megabytes for each client that asks without end, and when the memory for TCP
// is used up, the kernel drops what Redis answers.
func smallBuffers(_, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10))
	})
	return errors.Join(failed, err)
}

// Addr is where it listens.
func (h *HTTP) Addr() net.Addr { return h.listener.Addr() }

// Run answers until ctx is done.
func (h *HTTP) Run(ctx context.Context) error {
	defer h.listener.Close()
	for {
		server := h.newServer()
		defer context.AfterFunc(ctx, func() { server.Close() })()
		quiet := slog.New(slog.DiscardHandler)
		err := web.Serve(kept{h.listener}, server, &web.FlagConfig{WebConfigFile: &h.config}, quiet)
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, errHeld):
			return err
		}
		// Not by a Shutdown, which answers nothing that comes after its begin.
		h.gate.pass(ctx, h.places.idle)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// A kept listener is closed by its owner.
type kept struct{ *net.TCPListener }

// errHeld is that of a kept listener whose deadline has passed. Unlike that of the deadline it ends a server.
var errHeld = errors.New("the listener is held")

// Accept is of [net.Listener].
func (k kept) Accept() (net.Conn, error) {
	c, err := k.TCPListener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errHeld
	}
	return c, err
}

// Close ends an Accept that is under way.
func (k kept) Close() error { return k.SetDeadline(time.Unix(1, 0)) }

func (h *HTTP) newServer() *http.Server {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second, // of a refusal: to check a password takes its time
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ConnState:         h.places.state,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		// Else "OPTIONS *" is a yes to httpchk, whatever the answer.
		DisableGeneralOptionsHandler: true,

		ErrorLog: log.New(io.Discard, "", 0), // clients that hang up are no news
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true) // HTTP/2 has many requests on a connection, whose pace is one client's
	return server
}

// maxWait is how long a client may have to wait for the turn of a page.
const maxWait = 2 * time.Second

// writeTime is how long a client may take to read an answer.
const writeTime = time.Second

// connKey is that of the connection in the context of a request.
type connKey struct{}

// ServeHTTP answers one request.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 || h.closing.Load() { // nobody waits for a body
		w.Header().Set("Connection", "close")
	}
	c := r.Context().Value(connKey{}).(net.Conn)
	if !h.places.turn(r.Context(), c) { // without a word this would be a 200, which is a yes
		http.Error(w, "too many ask for this", http.StatusServiceUnavailable)
		return
	}
	serve := h.page(r)
	inTime := serve.pace == nil || serve.pace.wait(r.Context(), maxWait)
	h.places.answering(c)
	defer h.places.answered(c)
	out := http.NewResponseController(w)
	out.SetWriteDeadline(time.Now().Add(writeTime))
	if inTime {
		serve.serve(w, r)
	} else { // and only now, without a close: who is refused at once asks again at once
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many ask for this", http.StatusServiceUnavailable)
	}
	out.Flush()
}

// page is what a request asks for.
func (h *HTTP) page(r *http.Request) page {
	path := r.URL.Path // not a ServeMux: it redirects //master, and a redirect is a yes to httpchk
	// The open page asks for /status?page: to it, a 503 is an error.
	if path == "/" && wantsPage(r) || path == "/status" && r.URL.RawQuery == "page" {
		path = forPeople
	} else if path == "/status" && strings.HasPrefix(r.URL.RawQuery, "vip=") {
		path = withAddresses
	}
	found, ok := h.pages[path]
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions:
		return page{serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "only GET, HEAD and OPTIONS", http.StatusMethodNotAllowed)
		}}
	case !ok:
		return page{serve: http.NotFound}
	}
	return found
}

// These are the keys of the page in HTML, and of the document with the addresses that
// were asked about; no path is the same.
const (
	forPeople     = "page"
	withAddresses = "addresses"
)

// A rendering is a status in all forms.
type rendering struct {
	answer           checker.Answer
	document         report.Document
	text, json, page func() string
}

func pages(m *checker.Monitor, metrics http.Handler, document func(checker.Status) report.Document) map[string]page {
	says := checker.Shared(m, func(s checker.Status) rendering {
		d := document(s)
		return rendering{
			answer: d.Answer, document: d,
			text: sync.OnceValue(func() string { return strings.TrimSuffix(d.Explain(), "\n") }),
			json: sync.OnceValue(func() string { return d.JSON() + "\n" }),
			page: sync.OnceValue(func() string { return renderPage(d) }),
		}
	})
	is := func(role checker.Role) page {
		return page{serve: func(w http.ResponseWriter, _ *http.Request) {
			s, _ := m.Status()
			v := s.For(role)
			answer(w, v.Answer() == checker.Yes, report.Line(string(v.Reason)+": "+v.Detail))
		}}
	}
	documents, scrapes := &pace{every: 20 * time.Millisecond, burst: 20}, &pace{every: 50 * time.Millisecond, burst: 10}
	// It asks the kernel, so it is given out no more often than a check is done.
	lookups := &pace{every: checker.DefaultInterval, burst: 10}
	return map[string]page{
		"/master":  is(checker.RoleMaster),
		"/primary": is(checker.RoleMaster),
		"/replica": is(checker.RoleReplica),
		"/healthz": {serve: func(w http.ResponseWriter, _ *http.Request) {
			s, _ := m.Status()
			answer(w, s.Fresh(), "the last check was done "+s.Age.Round(time.Millisecond).String()+" ago")
		}},
		"/": {serve: func(w http.ResponseWriter, _ *http.Request) {
			now := says()
			answer(w, now.answer == checker.Yes, now.text())
		}},
		"/metrics": {pace: scrapes, serve: func(w http.ResponseWriter, r *http.Request) { metrics.ServeHTTP(w, r) }},
		"/status": {pace: documents, serve: func(w http.ResponseWriter, _ *http.Request) {
			write(w, http.StatusOK, "application/json", says().json())
		}},
		withAddresses: {pace: lookups, serve: func(w http.ResponseWriter, r *http.Request) {
			d := says().document
			d.HostAddresses = look(d.HostAddresses, r.URL.Query()["vip"])
			write(w, http.StatusOK, "application/json", d.JSON()+"\n")
		}},
		forPeople: {pace: documents, serve: func(w http.ResponseWriter, r *http.Request) {
			now, code := says(), http.StatusOK
			if r.URL.Path == "/" {
				code = codeOf(now.answer == checker.Yes)
			}
			w.Header().Set("Content-Security-Policy", pagePolicy)
			w.Header().Set("Referrer-Policy", "no-referrer")
			write(w, code, "text/html; charset=utf-8", now.page())
		}},
	}
}

func answer(w http.ResponseWriter, ok bool, text string) {
	write(w, codeOf(ok), "text/plain; charset=utf-8", text+"\n")
}

func write(w http.ResponseWriter, code int, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	io.WriteString(w, text)
}

func codeOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
