package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

// asks are those of --http-tls with the CA of a server, and of a user if there is a
// password.
func asks(ca *httptest.Server, sni, password string) (s flags.HTTPSettings) {
	s.TLS = func(context.Context) (*tls.Config, error) {
		pool := x509.NewCertPool()
		if ca != nil {
			pool.AddCert(ca.Certificate())
		}
		return &tls.Config{RootCAs: pool, ServerName: sni}, nil
	}
	if password != "" {
		s.User, s.Password = "ada", func(context.Context) (string, error) { return password, nil }
	}
	return s
}

// TestAskDaemon: what can be wrong with TLS and a login is said with the flag that mends
// it, and what answers instead of a daemon is bounded. No password is ever part of it.
func TestAskDaemon(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("HTTPS_PROXY", "http://192.0.2.1:1")
	const secret = "a-secret-of-the-test"
	var asked, elsewhere atomic.Int64
	daemon := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if user, password, ok := r.BasicAuth(); r.URL.Path == "/status" && ok && (user != "ada" || password != secret) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		d := report.Document{Schema: report.Schema, Answer: checker.Yes, Reason: checker.OK}
		for _, a := range r.URL.Query()["vip"] {
			d.HostAddresses = append(d.HostAddresses, report.HostAddress{Address: a, Present: new(true)})
		}
		json.NewEncoder(w).Encode(d)
	}
	wants := func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		daemon(w, r)
	}
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer target.Close()
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
	}
	serve := func(h http.HandlerFunc, byTLS, wantsCert bool) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if wantsCert {
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		}
		if byTLS {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	plain, secured := serve(daemon, false, false), serve(daemon, true, false)
	locked := serve(wants, true, false)
	unread := asks(secured, "", "x")
	unread.Password = func(context.Context) (string, error) {
		return "", errors.New("--http-password-file: no such file or directory")
	}
	inClear := asks(secured, "", secret)
	inClear.TLS = nil
	for name, tt := range map[string]struct {
		to   *httptest.Server
		by   flags.HTTPSettings
		want string // how the error begins; empty for none
	}{
		"plain":           {plain, flags.HTTPSettings{}, ""},
		"TLS":             {secured, asks(secured, "", ""), ""},
		"TLS and a login": {locked, asks(locked, "", secret), ""},
		"by a name":       {secured, asks(secured, "example.com", ""), ""},
		"another name": {secured, asks(secured, "redis.test", ""),
			"its certificate is for another name: see --http-sni"},
		"an unknown CA": {secured, asks(nil, "", secret),
			"its certificate is of a CA that is not trusted: see --http-cacert"},
		"it wants TLS":           {secured, flags.HTTPSettings{}, "it wants TLS: see --http-tls"},
		"it has no TLS":          {plain, asks(secured, "", secret), "it has no TLS: leave out --http-tls"},
		"it wants a certificate": {serve(daemon, true, true), asks(secured, "", ""), "it wants a client certificate"},
		"it wants a login":       {locked, asks(locked, "", ""), "it wants a password: see --http-user"},
		"in clear": {serve(wants, false, false), flags.HTTPSettings{},
			"it wants a password, which is sent by TLS alone"},
		"a wrong password":      {secured, asks(secured, "", "another-secret"), "it refuses the password"},
		"an unread password":    {secured, unread, "--http-password-file: no such file"},
		"no TLS for a password": {plain, inClear, "a password is sent by TLS alone"},
		"a redirect":            {serve(redirect, true, false), asks(secured, "", secret), "another program answers"},
		"another program":       {serve(text("hello"), false, false), flags.HTTPSettings{}, "another program answers"},
		"another schema": {serve(text(`{"schema":7,"answer":"yes"}`), false, false), flags.HTTPSettings{},
			"another program answers"},
		"no such answer": {serve(text(`{"schema":1,"answer":"perhaps"}`), false, false), flags.HTTPSettings{},
			"another program answers"},
		"without end": {serve(text(`{"schema":1,"detail":"`+strings.Repeat("x", maxStatus)+`"}`), false, false),
			flags.HTTPSettings{}, "another program answers"},
	} {
		at, err := url.Parse(tt.to.URL)
		if err != nil {
			t.Fatal(err)
		}
		asked.Store(0)
		own := netip.MustParseAddr("127.0.0.1")
		c := newDaemonClient(t.Context(), Target{HTTP: ":" + at.Port(), AskHTTP: tt.by}, []netip.Addr{own})
		doc, err := c.ask(t.Context(), "127.0.0.1:6379", nil)
		var n Member
		n.learn(doc, err)
		n.look(nil, []netip.Addr{own}, saysOf(doc))
		if (n.Error == "") != (tt.want == "") || !strings.HasPrefix(n.Error, tt.want) || n.unasked {
			t.Errorf("%s: %+v, want %s", name, n, tt.want)
		}
		if tt.want == "" && (n.Answer != checker.Yes || !n.VIPKnown || asked.Load() != 1) {
			t.Errorf("%s: %+v", name, n)
		}
		if strings.Contains(n.Error, "secret") || strings.Contains(n.Error, "YWRh") { // base64 of "ada"
			t.Errorf("%s: it shows the password: %s", name, n.Error)
		}
	}
	if elsewhere.Load() > 0 {
		t.Error("a redirect is followed")
	}
}

// TestAskHostile: a reply that is none of HTTP, and words without end, are cut.
func TestAskHostile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "\x1b[31m"+strings.Repeat("x", 10*maxHeader)+"\r\n\r\n")
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, err = newDaemonClient(t.Context(), Target{HTTP: ":" + port}, nil).ask(t.Context(), "127.0.0.1:1", nil)
	long := strings.Repeat("y", 1000)
	n := Member{}
	n.learn(nil, err)
	m := Member{}
	m.learn(&report.Document{Answer: checker.No, Reason: checker.Reason(long),
		Observation: &report.Observation{Role: checker.Role(long)},
		VIP:         []report.VIP{{Address: long, Held: true}}}, nil)
	c := Cluster{Nodes: []Member{n, m}}
	c.judge()
	if n.Error == "" || len(c.Text()) > 3000 || strings.Contains(c.Text(), "\x1b") || len(m.VIP) > 0 {
		t.Errorf("%d bytes: %+v: %s", len(c.Text()), n, c.Text())
	}
}
