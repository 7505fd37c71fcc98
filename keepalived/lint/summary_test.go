package lint

import (
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// TestSummarize: the profiles say what they hold, and who asks the socket.
func TestSummarize(t *testing.T) {
	t.Parallel()
	host := Host{ReadFile: os.ReadFile, Glob: func(string) ([]string, error) { return nil, nil }, Stat: os.Stat,
		User: func(string) bool { return true }, Writable: func(string) bool { return false }}
	for file, want := range map[string]Summary{
		"track-file.conf": {
			Instances: []Instance{{Name: "redis", Interface: "eth0", RouterID: 51, Advert: 10 * time.Millisecond,
				Refresh: true, Follows: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.100/32")}}},
			CachedScripts: []Script{{Name: "redis_is_masterd_alive", User: "nobody"}},
		},
		"script-ipv6-unicast.conf": {Instances: []Instance{{Name: "redis", Interface: "eth0", RouterID: 51,
			Advert: 100 * time.Millisecond, Refresh: true, Unicast: true, Follows: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::100/128")}}}},
	} {
		got, err := Summarize(host, "../"+file)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.CachedScripts, want.CachedScripts) {
			t.Errorf("%s: scripts %+v, want %+v", file, got.CachedScripts, want.CachedScripts)
		}
		for i := range got.Instances {
			g, w := got.Instances[i], want.Instances[0]
			same := g.Name == w.Name && g.Interface == w.Interface && g.RouterID == w.RouterID && g.Advert == w.Advert &&
				g.Unicast == w.Unicast && g.Refresh == w.Refresh && g.Follows == w.Follows &&
				slices.Contains(g.Addresses, w.Addresses[0])
			if !same || len(got.Instances) != 1 {
				t.Errorf("%s: %+v, want %+v", file, got.Instances, want.Instances)
			}
		}
	}
}
