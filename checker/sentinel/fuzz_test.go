package sentinel

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"redis-is-master/checker"
)

// FuzzParseHello: what is read stands in the message, and is short.
func FuzzParseHello(f *testing.F) {
	f.Add("127.0.0.1,26379,8d6f2c,7,mymaster,10.0.0.1,6379,6")
	f.Add("2001:db8::1,26379,abc,7,mymaster,db-1.example,6379,6")
	f.Fuzz(func(t *testing.T, message string) {
		h, err := ParseHello(message)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(h.Master)
		from, fromPort, err2 := net.SplitHostPort(h.From)
		fields := strings.Split(message, ",")
		if err != nil || err2 != nil || len(message) > maxHello || len(fields) != 8 {
			t.Fatalf("%q was read as %+v", message, h)
		}
		for i, want := range map[int]string{0: from, 1: fromPort, 2: h.Sentinel, 4: h.Name, 5: host, 6: port} {
			if fields[i] != want {
				t.Fatalf("%q was read as %+v", message, h)
			}
		}
	})
}

// FuzzSentinelInfo: a master is named by one line of its own, by nothing else.
func FuzzSentinelInfo(f *testing.F) {
	f.Add("sentinel_tilt:0\r\nmaster0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3\r\n")
	f.Add("master0:name=other,status=ok,address=::1:6379\r\nmaster1:name=mymaster,status=sdown,address=a:1\r\n")
	f.Fuzz(func(t *testing.T, lines string) {
		s, err := checker.ParseSection("# Sentinel\r\n"+lines, "# Sentinel")
		if err != nil {
			return
		}
		address, status := masterOf(s, "mymaster")
		if address == "" || s.Err != nil {
			return
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil || len(host) > maxHost || !strings.Contains(lines, "name=mymaster") ||
			!strings.Contains(lines, fmt.Sprintf("address=%s:%s", host, port)) || !strings.Contains(lines, status) {
			t.Fatalf("%q was read as %q, %q, %v", lines, address, status, err)
		}
	})
}
