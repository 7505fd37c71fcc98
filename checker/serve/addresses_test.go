package serve_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// TestHostAddresses: who asks by /status?vip= is told of these addresses alone whether
// this host has them. /status by itself tells of none.
func TestHostAddresses(t *testing.T) {
	t.Parallel()
	address := web(t, fake.Watched(t, fake.Master))
	ask := func(query string) (d report.Document) {
		t.Helper()
		r, err := send(http.MethodGet, address, "/status"+query)
		lab.Check(t, err)
		if r.code != http.StatusOK || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", query, r.code, r.header)
		}
		lab.Check(t, json.Unmarshal([]byte(r.body), &d))
		return d
	}
	present := func(a report.HostAddress) string {
		return a.Address + map[bool]string{true: " here", false: " elsewhere"}[a.Present != nil && *a.Present]
	}
	for query, want := range map[string]string{
		"":      "",
		"?vip=": "",
		"?vip=127.0.0.1&vip=192.0.2.1&vip=127.0.0.1": "127.0.0.1 here, 192.0.2.1 elsewhere",
		"?vip=::ffff:127.0.0.1":                      "127.0.0.1 here",
		"?vip=2001:db8::1":                           "2001:db8::1 elsewhere",
		"?vip=" + url.QueryEscape("<b>") + "&vip=fe80::1%25eth0&vip=10.0.0.1/32": "",
	} {
		d := ask(query)
		var got []string
		for _, a := range d.HostAddresses {
			if a.Present == nil {
				t.Errorf("%s: nothing is known of %s", query, a.Address)
			}
			got = append(got, present(a))
		}
		if strings.Join(got, ", ") != want || d.Answer == "" || d.Observation == nil {
			t.Errorf("%s: %q, want %s: %+v", query, got, want, d)
		}
	}
	if n := len(ask("?vip=127.0.0.1" + strings.Repeat("&vip=192.0.2.1", 15) + "&vip=192.0.2.2").HostAddresses); n != 2 {
		t.Errorf("%d addresses: more than 16 are looked up", n)
	}
}
