package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// maxConnections bounds the HTTP connections; for a further one the one that
// has been idle, or silent since it came, for longest is closed.
const maxConnections = 256

// An HTTP answers over HTTP.
//
//	/master /primary /replica   200 if that is what the node is, else 503
//	/healthz                    200 as long as the daemon checks, whatever it finds
//	/status                     the document, JSON
//	/metrics                    for Prometheus
//	/                           the same for people: a page for a browser, else text; its code is that of the
//	                            wanted role, for a bare "option httpchk" of HAProxy asks here
type HTTP struct {
	Document func() report.Document
	Metrics  http.Handler
	listener net.Listener
}

// NewHTTP listens on a TCP address.
func NewHTTP(address string, metrics http.Handler, document func() report.Document) (*HTTP, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	return &HTTP{Document: document, Metrics: metrics, listener: l}, nil
}

// Addr is where it listens.
func (h *HTTP) Addr() net.Addr { return h.listener.Addr() }

// Run answers until ctx is done.
func (h *HTTP) Run(ctx context.Context, m *checker.Monitor) error {
	idle := &idlers{since: make(map[net.Conn]time.Time)}
	server := &http.Server{
		Handler:           h.handler(m),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ConnState:         idle.state,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that hang up are no news
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (h *HTTP) handler(m *checker.Monitor) http.Handler {
	// Not a ServeMux: it redirects //master, and a redirect is a yes to httpchk.
	pages := make(map[string]http.Handler)
	is := func(role checker.Role) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			s, _ := m.Status()
			v := s.For(role)
			answer(w, v.Answer() == checker.Yes, report.Line(string(v.Reason)+": "+v.Detail))
		}
	}
	pages["/master"] = is(checker.RoleMaster)
	pages["/primary"] = is(checker.RoleMaster)
	pages["/replica"] = is(checker.RoleReplica)
	pages["/healthz"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s, _ := m.Status()
		answer(w, s.Fresh(), "the last check was done "+s.Age.Round(time.Millisecond).String()+" ago")
	})
	pages["/status"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "page" { // for the page, to which a 503 is an error
			writePage(w, http.StatusOK, h.Document())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, h.Document().JSON()+"\n")
	})
	pages["/metrics"] = h.Metrics
	pages["/"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := h.Document()
		if wantsPage(r) {
			writePage(w, codeOf(d.Answer == checker.Yes), d)
			return
		}
		answer(w, d.Answer == checker.Yes, strings.TrimSuffix(d.Explain(), "\n"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			page, ok := pages[r.URL.Path]
			if !ok {
				page = http.NotFoundHandler()
			}
			page.ServeHTTP(w, r)
		default:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "only GET, HEAD and OPTIONS", http.StatusMethodNotAllowed)
		}
	})
}

func answer(w http.ResponseWriter, ok bool, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(codeOf(ok))
	io.WriteString(w, text+"\n")
}

func codeOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// idlers closes the connection that has been idle for longest when there are
// too many.
type idlers struct {
	mu    sync.Mutex
	open  int
	since map[net.Conn]time.Time // of those that have no request under way
}

func (i *idlers) state(c net.Conn, state http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch state {
	case http.StateNew:
		i.open++
		i.since[c] = time.Now()
	case http.StateIdle, http.StateActive:
		i.since[c] = time.Now() // a request that takes long is one whose rest does not come
	case http.StateClosed, http.StateHijacked:
		i.open--
		delete(i.since, c)
	}
	if i.open <= maxConnections || state != http.StateNew {
		return
	}
	var oldest net.Conn
	for other, since := range i.since {
		if oldest == nil || since.Before(i.since[oldest]) {
			oldest = other
		}
	}
	if oldest != nil {
		delete(i.since, oldest)
		oldest.Close()
	}
}
