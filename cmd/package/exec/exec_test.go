// Package exec_test runs the examples for --exec against servers that answer as the clouds do.
package exec_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"redis-is-master/e2e/lab"
)

// A cloud answers by a function, and keeps who has what.
type cloud struct {
	*httptest.Server
	mu     sync.Mutex
	holder string
	asked  int // to move it
}

func newCloud(t *testing.T, answer func(c *cloud, w http.ResponseWriter, r *http.Request, body string)) *cloud {
	t.Helper()
	lab.Require(t, "curl")
	c := &cloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(c, w, r, string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) is(t *testing.T, holder string, asked int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder != holder || c.asked != asked {
		t.Errorf("%s has it, and it was asked for %d times; want %s and %d", c.holder, c.asked, holder, asked)
	}
}

// run runs an example, with settings in a file.
func run(t *testing.T, name, answer, settings string, environ ...string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings")
	lab.Check(t, os.WriteFile(file, []byte(settings), 0o600))
	cmd := exec.Command("./" + name)
	cmd.Env = append(environ, "PATH="+os.Getenv("PATH"), "REDIS_IS_MASTER_ANSWER="+answer,
		strings.ToUpper(name)+"_SETTINGS="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

const token = "t0ken"

func tokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	lab.Check(t, os.WriteFile(path, []byte(token+"\n"), 0o600))
	return path
}

func TestHetzner(t *testing.T) {
	t.Parallel()
	busy := true
	c := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet && r.URL.Path == "/floating_ips/4711":
			fmt.Fprintf(w, `{"floating_ip": {"id": 4711, "ip": "131.232.99.1", "server": %s, "blocked": false}}`, c.holder)
		case r.Method == http.MethodPost && r.URL.Path == "/floating_ips/4711/actions/assign":
			var asked struct{ Server int }
			if err := json.Unmarshal([]byte(body), &asked); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			if c.asked++; !busy {
				c.holder = fmt.Sprint(asked.Server)
			}
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"action": {"id": 13, "command": "assign_floating_ip", "status": "running"}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	c.holder = "null"
	settings := "FLOATING_IP=4711\nSERVER=42\nTOKEN_FILE=" + tokenFile(t)
	api := "HETZNER_API=" + c.URL
	lab.Check(t, run(t, "hetzner", "no", settings, api))
	c.is(t, "null", 0)
	if err := run(t, "hetzner", "yes", settings, api); err == nil {
		t.Error("it is content before the address has moved")
	}
	busy = false
	lab.Check(t, run(t, "hetzner", "yes", settings, api))
	c.is(t, "42", 2)
	lab.Check(t, run(t, "hetzner", "yes", settings, api))
	c.is(t, "42", 2)
	if err := run(t, "hetzner", "yes", strings.ReplaceAll(settings, "4711", "1"), api); err == nil {
		t.Error("an address that does not exist is moved")
	}
}

func TestAWS(t *testing.T) {
	t.Parallel()
	const session = "s3ssion/=="
	c := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request, body string) {
		const credentials = "/latest/meta-data/iam/security-credentials/"
		signed := strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKID/") &&
			strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/ec2/aws4_request") &&
			r.Header.Get("X-Amz-Security-Token") == session
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" &&
			r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
			fmt.Fprint(w, token)
		case strings.HasPrefix(r.URL.Path, credentials) && r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == credentials:
			fmt.Fprint(w, "redis")
		case r.URL.Path == credentials+"redis":
			fmt.Fprintf(w, "{\n \"Code\" : \"Success\",\n \"AccessKeyId\" : \"AKID\",\n \"SecretAccessKey\" : \"s/cret+\",\n"+
				" \"Token\" : %q,\n \"Expiration\" : \"2027-01-01T00:00:00Z\"\n}", session)
		case r.Method != http.MethodPost || !signed:
			w.WriteHeader(http.StatusForbidden)
		default:
			r.Body = io.NopCloser(strings.NewReader(body))
			if r.FormValue("Action") != "AssignPrivateIpAddresses" || r.FormValue("AllowReassignment") != "true" ||
				r.FormValue("PrivateIpAddress.1") != "10.0.0.100" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			c.asked++
			c.holder = r.FormValue("NetworkInterfaceId")
			fmt.Fprint(w, "<AssignPrivateIpAddressesResponse><return>true</return></AssignPrivateIpAddressesResponse>")
		}
	})
	settings := "ADDRESS=10.0.0.100\nINTERFACE=eni-1\nREGION=eu-central-1\n"
	environ := []string{"AWS_API=" + c.URL, "AWS_METADATA=" + c.URL}
	lab.Check(t, run(t, "aws", "unknown", settings, environ...))
	c.is(t, "", 0)
	lab.Check(t, run(t, "aws", "yes", settings, environ...))
	c.is(t, "eni-1", 1)
	if err := run(t, "aws", "yes", strings.ReplaceAll(settings, ".100", ".1"), environ...); err == nil {
		t.Error("another address is moved")
	}
}

func TestConsul(t *testing.T) {
	t.Parallel()
	c := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request, body string) {
		var service struct {
			Name, ID, Address string
			Port              int
			Tags              []string
		}
		err := json.Unmarshal([]byte(body), &service)
		switch {
		case r.Header.Get("X-Consul-Token") != token:
			w.WriteHeader(http.StatusForbidden)
		case r.Method != http.MethodPut || r.URL.Path != "/v1/agent/service/register":
			w.WriteHeader(http.StatusNotFound)
		case err != nil || service.Name != "redis" || service.ID != "redis-6379" || service.Address != "10.0.0.1" ||
			service.Port != 6379:
			w.WriteHeader(http.StatusBadRequest)
		default:
			c.asked++
			c.holder = strings.Join(service.Tags, ",")
		}
	})
	settings := "ADDRESS=10.0.0.1\nPORT=6379\nTOKEN_FILE=" + tokenFile(t)
	api := "CONSUL_API=" + c.URL
	for i, tag := range []string{"master", "replica", "master"} {
		answer := map[string]string{"master": "yes", "replica": "unknown"}[tag]
		lab.Check(t, run(t, "consul", answer, settings, api))
		c.is(t, tag, i+1)
	}
	if err := run(t, "consul", "yes", "ADDRESS=10.0.0.1\nPORT=6379\nTOKEN_FILE=", api); err == nil {
		t.Error("without a token it is content")
	}
}
