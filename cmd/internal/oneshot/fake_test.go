package oneshot

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/e2e/lab"
)

// A real server's words, for the fakes to spoil.
const (
	replication = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
	persistence = "# Persistence\r\nloading:0\r\n"
	server      = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"
)

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// fake answers the first write of a client.
func fake(t *testing.T, answer func(c net.Conn)) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(lab.Fake(t, nil, func(_ int, c net.Conn) {
		c.Read(make([]byte, 4096))
		answer(c)
	}))
	lab.Check(t, err)
	return []string{"-p", port}
}

func says(parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, strings.Join(parts, ""))
		io.Copy(io.Discard, c) // until the client has had enough
	}
}

// TestFakes are the replies that a real server cannot be made to give.
func TestFakes(t *testing.T) {
	whole := bulk(replication) + bulk(persistence) + bulk(server)
	tests := []struct {
		name   string
		answer func(net.Conn)
		code   int
		reason checker.Reason
		says   string
	}{
		{"as a real server would", says(whole), exit.Yes, checker.OK, ""},
		{"one byte a second", func(c net.Conn) {
			for i := range whole {
				if _, err := io.WriteString(c, whole[i:i+1]); err != nil {
					return
				}
				c.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := c.Read(make([]byte, 1)); err == io.EOF {
					return
				}
			}
		}, exit.Unknown, checker.ReasonTimeout, "reply: no answer"},
		{"silence", says(), exit.Unknown, checker.ReasonTimeout, "reply: no answer"},
		{"half of the reply, then silence", says(whole[:len(whole)/2]), exit.Unknown, checker.ReasonTimeout, ""},
		{"half of the reply, then the end", func(c net.Conn) { io.WriteString(c, whole[:len(whole)/2]) }, exit.Unknown,
			checker.ReasonProtocol, "hung up"},
		{"all but the last byte, then the end", func(c net.Conn) { io.WriteString(c, whole[:len(whole)-1]) }, exit.Unknown,
			checker.ReasonProtocol, "hung up"},
		{"a reset in the middle", func(c net.Conn) {
			io.WriteString(c, whole[:40])
			c.(*net.TCPConn).SetLinger(0)
		}, exit.Unknown, checker.ReasonProtocol, "hung up"},
		{"the end at once", func(net.Conn) {}, exit.Unknown, checker.ReasonProtocol, ""},
		{"a bulk string of a gigabyte", says("$1073741824\r\n", replication), exit.Unknown, checker.ReasonProtocol,
			"larger than 1 MiB"},
		{"a bulk string beyond every number", says("$99999999999999999999\r\n", replication), exit.Unknown,
			checker.ReasonProtocol, "no number"},
		{"a bulk string of a megabyte and more", says(bulk(strings.Repeat("a:b\r\n", 1<<18))), exit.Unknown,
			checker.ReasonProtocol, "larger than 1 MiB"},
		{"an endless line", says("+", strings.Repeat("role:master", 1<<17)), exit.Unknown, checker.ReasonProtocol,
			"does not end"},
		{"an array of a million", says("*1000000\r\n", whole), exit.Unknown, checker.ReasonProtocol, "begins with"},
		{"role:master in another field", says(bulk("# Replication\r\nrole:slave\r\nmaster_host:role:master\r\n"),
			bulk(persistence), bulk(server)), exit.No, checker.ReasonRole, ""},
		{"role:master behind a line feed", says(bulk("# Replication\r\nmaster_host:x\nrole:master\r\n"), bulk(persistence),
			bulk(server)), exit.Unknown, checker.ReasonProtocol, "no role"},
		{"role:master in another section",
			says(bulk("# Keyspace\r\nrole:master\r\n# Replication\r\nconnected_slaves:0\r\n"), bulk(persistence),
				bulk(server)), exit.Unknown, checker.ReasonProtocol, "no role"},
		{"role:master without a section", says(bulk("role:master\r\n"), bulk(persistence), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "no section"},
		{"two roles", says(bulk(replication+"role:slave\r\n"), bulk(persistence), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "twice"},
		{"no role", says(bulk("# Replication\r\nconnected_slaves:0\r\n"), bulk(persistence), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "no role"},
		{"a role nobody has", says(bulk("# Replication\r\nrole:Master\r\n"), bulk(persistence), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "which no server has"},
		{"KeyDB's active replica",
			says(bulk("# Replication\r\nrole:active-replica\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\n"),
				bulk(persistence), bulk(server)), exit.No, checker.ReasonRole, " active-replica role: "},
		{"Dragonfly's replica", says(bulk("# Replication\r\nrole:replica\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\n"),
			bulk(persistence), bulk(server)), exit.No, checker.ReasonRole, " replica role: "},
		{"Valkey 8's mode", says(bulk(replication), bulk(persistence), bulk("# Server\r\nserver_mode:standalone\r\n")),
			exit.Yes, checker.OK, ""},
		{"an unknown mode", says(bulk(replication), bulk(persistence), bulk("# Server\r\nredis_mode:other\r\n")),
			exit.Unknown, checker.ReasonProtocol, "mode"},
		{"no word on loading", says(bulk(replication), bulk("# Persistence\r\n"), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "loading"},
		{"the sections in another order", says(bulk(persistence), bulk(replication), bulk(server)), exit.Unknown,
			checker.ReasonProtocol, "no section"},
		{"a reply too many", says(whole, bulk(replication)), exit.Unknown, checker.ReasonProtocol, "more came"},
		{"a reply too many, before", says("+OK\r\n", whole), exit.Unknown, checker.ReasonProtocol, ""},
		{"an error inside", says(bulk(replication), "-ERR no\r\n", bulk(server)), exit.Unknown, checker.ReasonProtocol, ""},
		{"LOADING inside", says(bulk(replication), "-LOADING Redis is loading the dataset in memory\r\n", bulk(server)),
			exit.No, checker.ReasonLoading, ""},
		{"missing CRLF after a bulk string", says("$12\r\n", "role:master\r\n\r\n"), exit.Unknown, checker.ReasonProtocol,
			"longer than announced"},
		{"missing CRLF inside a bulk string", says(bulk("# Replication\r\nrole:master"), bulk(persistence), bulk(server)),
			exit.Unknown, checker.ReasonProtocol, "breaks off"},
		{"line feed alone", says("$5\nhello\n"), exit.Unknown, checker.ReasonProtocol, "CRLF"},
		{"nil", says("$-1\r\n", bulk(persistence), bulk(server)), exit.Unknown, checker.ReasonProtocol, ""},
		{"a number", says(":1\r\n:1\r\n:1\r\n"), exit.Unknown, checker.ReasonProtocol, ""},
		{"RESP3 nobody asked for", says("=15\r\ntxt:role:master\r\n"), exit.Unknown, checker.ReasonProtocol, ""},
		{"a push nobody asked for", says(">1\r\n+role:master\r\n", whole), exit.Unknown, checker.ReasonProtocol, ""},
		{"garbage", says("\x00\x01\x02role:master\r\n"), exit.Unknown, checker.ReasonProtocol, "begins with"},
		{"an HTTP server", says("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), exit.Unknown,
			checker.ReasonProtocol, "speaks HTTP"},
		{"an SSH server", says("SSH-2.0-OpenSSH_9.2\r\n"), exit.Unknown, checker.ReasonProtocol, "begins with"},
		{"a TLS alert", says("\x15\x03\x01\x00\x02\x02\x46"), exit.Unknown, checker.ReasonTLS, "use --tls"},
		{"a password in an error", says("-ERR unknown command '" + password + "'\r\n-ERR x\r\n-ERR x\r\n"), exit.Unknown,
			checker.ReasonProtocol, ""},
		{"a password where a number should be", says("$" + password + "\r\n"), exit.Unknown, checker.ReasonProtocol, ""},
		{"escape sequences", says(bulk("# Replication\r\nrole:slave\r\nmaster_host:\x1b[31m\nyes\r\nmaster_port:1\r\n"),
			bulk(persistence), bulk(server)), exit.No, checker.ReasonRole, "?[31m?yes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := invocation{args: fake(t, tt.answer)}
			i.check(t, tt.code, tt.reason, tt.says)
		})
	}
}

// TestFakeTLS is a server that speaks plain text to a TLS client.
func TestFakeTLS(t *testing.T) {
	i := invocation{args: append(fake(t, says("-ERR what\r\n")), "--tls")}
	i.check(t, exit.Unknown, checker.ReasonTLS, "does not speak TLS")
	i = invocation{args: append(fake(t, func(net.Conn) {}), "--tls")}
	i.check(t, exit.Unknown, checker.ReasonTLS, "hung up")
}
