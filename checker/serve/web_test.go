package serve_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

// TestWebConfig: TLS and basic authentication, of a file that is read at every
// request.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lab.Check(t, lab.WriteCerts(dir))
	file := filepath.Join(dir, "web.yml")
	const byTLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
	// The hash of "fakepassword".
	users := func(name string) string {
		return "basic_auth_users: {" + name + ": $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n"
	}
	say := func(text string) { t.Helper(); lab.Check(t, os.WriteFile(file, []byte(text), 0o600)) }
	n := fake.Watched(t, fake.Master)

	say("tls_server_config: {cert: x}\n")
	for _, path := range []string{file, filepath.Join(dir, "missing")} {
		if _, err := serve.NewHTTP("127.0.0.1:0", path, n.Monitor, http.NotFoundHandler(), n.Document); err == nil ||
			!strings.Contains(err.Error(), "--web.config.file "+path) {
			t.Errorf("%s: %v", path, err)
		}
	}

	say(byTLS + users("ada"))
	h, err := serve.NewHTTP("127.0.0.1:0", file, n.Monitor, http.NotFoundHandler(), n.Document)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	lab.Check(t, err)
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(ca)
	client := &http.Client{
		Timeout:   lab.Patience,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: known}},
	}
	defer client.CloseIdleConnections()
	is := func(what, user, password string, want int) {
		t.Helper()
		for _, path := range []string{"/master", "/primary"} {
			r, err := http.NewRequest(http.MethodGet, "https://"+h.Addr().String()+path, nil)
			lab.Check(t, err)
			if user != "" {
				r.SetBasicAuth(user, password)
			}
			response, err := client.Do(r)
			lab.Check(t, err)
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %s is %d, want %d", what, path, response.StatusCode, want)
			}
		}
	}
	is("nobody", "", "", 401)
	is("a wrong password", "ada", "x", 401)
	is("another user", "eve", "fakepassword", 401)
	is("the user", "ada", "fakepassword", 200)
	if r, err := send(http.MethodGet, h.Addr().String(), "/master"); err != nil || r.code != 400 {
		t.Errorf("without TLS: %d, %v", r.code, err)
	}
	say(byTLS + users("bob"))
	is("a user who was removed", "ada", "fakepassword", 401)
	is("a user who was added", "bob", "fakepassword", 200)
	n.Becomes(t, fake.Replica)
	is("no master", "bob", "fakepassword", 503)
}
