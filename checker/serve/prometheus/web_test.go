package prometheus_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

var fenced = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")

// block is the part of a document that is to be copied and holds a text.
func block(t *testing.T, file, text string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	lab.Check(t, err)
	for _, m := range fenced.FindAllStringSubmatch(string(b), -1) {
		if strings.Contains(m[1], text) {
			return m[1]
		}
	}
	t.Fatalf("%s has no block with %s", file, text)
	return ""
}

// replaced puts what there is here in the place of what a document names.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %s in:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func free(t *testing.T) string {
	t.Helper()
	port, err := lab.FreePort()
	lab.Check(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// run runs a program until the test ends.
func run(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	lab.Check(t, lab.Start(cmd))
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], log.String())
		}
	})
}

// TestWebSnippets: the configurations that the documents print for TLS and a login are
// enough for Prometheus to scrape the daemon, and for HAProxy to know the master.
func TestWebSnippets(t *testing.T) {
	t.Parallel()
	lab.Require(t, "prometheus", "haproxy")
	dir := lab.TempDir(t)
	lab.Check(t, lab.WriteCerts(dir))
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		lab.Check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	web := write("web.yml", replaced(t, block(t, "README.md", "tls_server_config"), "/etc/redis-is-master/web.pem",
		dir+"/server.pem", "/etc/redis-is-master/web.key", dir+"/server.key"))
	n := fake.Watched(t, fake.Replica)
	h, err := serve.NewHTTP("127.0.0.1:0", web, n.Monitor, serve.NewMetrics("test", n.Monitor).Handler(), n.Document)
	lab.Check(t, err)
	fake.Until(t, h.Run)
	_, port, err := net.SplitHostPort(h.Addr().String())
	lab.Check(t, err)

	haproxy := block(t, "../../../docker/README.md", "check-ssl")
	basic := regexp.MustCompile(`Basic (\S+)"`).FindStringSubmatch(haproxy)
	login, err := base64.StdEncoding.DecodeString(basic[1])
	lab.Check(t, err)
	user, password, _ := strings.Cut(string(login), ":")
	haproxy = replaced(t, haproxy, "/etc/haproxy/redis-ca.pem", dir+"/ca.pem", "port 9736", "port "+port, "10.0.0.1",
		"127.0.0.1", " agent-check agent-port 9737 agent-inter 100ms", "")
	socket := filepath.Join(dir, "haproxy.sock")
	const defaults = "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\n" +
		"    timeout check 500ms\n"
	run(t, "haproxy", "-db", "-f", write("haproxy.cfg", "global\n    stats socket "+socket+" level admin\n"+defaults+
		haproxy))
	routed := func(want string) {
		t.Helper()
		lab.Check(t, lab.Wait("HAProxy says "+want+" of node1", func() (bool, error) {
			c, err := net.Dial("unix", socket)
			if err != nil {
				return false, nil
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Second))
			fmt.Fprintln(c, "show stat master 4 -1") // servers
			said, _ := io.ReadAll(c)
			return regexp.MustCompile(`(?m)^master,node1,.*,` + want + `,`).Match(said), nil
		}))
	}
	routed("DOWN")
	n.Becomes(t, fake.Master)
	routed("UP")
	n.Becomes(t, fake.Replica)
	routed("DOWN")

	config := replaced(t, block(t, "README.md", "scheme: https"), "10.0.0.1:9736", h.Addr().String(),
		`, "10.0.0.2:9736", "10.0.0.3:9736"`, "", "/etc/prometheus/redis-ca.pem", dir+"/ca.pem",
		"/etc/prometheus/redis-password", write("password", password+"\n"), "scrape_interval: 5s", "scrape_interval: 1s")
	if !strings.Contains(config, "username: "+user+"\n") {
		t.Errorf("HAProxy has the login of %s", user)
	}
	address := free(t)
	run(t, "prometheus", "--config.file="+write("prometheus.yml", config), "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+address)
	lab.Check(t, lab.Wait("Prometheus has scraped the daemon", func() (bool, error) {
		r, err := http.Get("http://" + address + "/api/v1/query?query=up%7Bjob=%22redis%22%7D")
		if err != nil {
			return false, nil
		}
		defer r.Body.Close()
		said, err := io.ReadAll(r.Body)
		return strings.Contains(string(said), `,"1"]`), err
	}))
}
