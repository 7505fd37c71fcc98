package wire

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// replay is a connection whose other side says what Reader holds, in reads of
// at most size bytes.
type replay struct {
	net.Conn
	io.Reader
	size int
}

func (r *replay) Write(p []byte) (int, error) { return len(p), nil }
func (r *replay) Read(p []byte) (int, error)  { return r.Reader.Read(p[:min(len(p), r.size)]) }

// TestExchange reads each stream whole and in parts, as the replies to two
// commands.
func TestExchange(t *testing.T) {
	tests := []struct {
		name, stream string
		want         []string // with a "-" before the text of an error reply
		err          string
	}{
		{"strings", "+OK\r\n$5\r\nab\r\nc\r\n", []string{"OK", "ab\r\nc"}, ""},
		{"an empty one", "$0\r\n\r\n+\r\n", []string{"", ""}, ""},
		{"errors", "-ERR no\r\n-NOAUTH yes\r\n", []string{"-ERR no", "-NOAUTH yes"}, ""},
		{"one and the end", "+OK\r\n", nil, "EOF"},
		{"half and the end", "+OK\r\n$5\r\nab", nil, "EOF"},
		{"a reply too many", "+a\r\n+b\r\n+c\r\n", nil, "more came"},
		{"a byte too many", "+a\r\n+b\r\n+", nil, "more came"},
		{"a refusal and the end", "-ERR max number of clients reached\r\n", nil, "max number"},
		{"another error and the end", "-ERR other\r\n", nil, "EOF"},
		{"a bulk string that goes on", "$2\r\nabc\r\n", nil, "longer"},
		{"a bulk string with a carriage return alone", "$2\r\nab\rx", nil, "longer"},
		{"nil", "$-1\r\n", nil, "no number"},
		{"a length with a sign", "$+2\r\n", nil, "no number"},
		{"a length that is none", "$\r\n", nil, "no number"},
		{"an empty line", "\r\n", nil, "begins with"},
		{"an array", "*1\r\n+OK\r\n", nil, "begins with"},
		{"a number", ":1\r\n", nil, "begins with"},
		{"a line feed alone", "+OK\n", nil, "CRLF"},
		{"too long a bulk string", "$1048577\r\n", nil, "larger"},
		{
			"two that are too long together",
			"$600000\r\n" + strings.Repeat("x", 600000) + "\r\n$600000\r\n" + strings.Repeat("x", 600000) + "\r\n",
			nil,
			"larger",
		},
		{"an endless line", "+" + strings.Repeat("x", 5000), nil, "does not end"},
	}
	for _, tt := range tests {
		for _, size := range []int{len(tt.stream), 1, 3} {
			if size < 4 && len(tt.stream) > 1<<16 {
				continue
			}
			replies, errs, err := Exchange(
				&replay{Reader: strings.NewReader(tt.stream), size: size},
				[][]string{{"A"}, {"B"}},
			)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					// A surplus that comes in a later read is found by the next probe.
					if !(size < len(tt.stream) && tt.err == "more came" && err == nil) {
						t.Errorf("%s, by %d: error %v, want %q", tt.name, size, err, tt.err)
					}
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, by %d: %v", tt.name, size, err)
				continue
			}
			for i := range replies {
				if errs[i] != nil {
					replies[i] = "-" + errs[i].Error()
				}
				if replies[i] != tt.want[i] {
					t.Errorf("%s, by %d: %q, want %q", tt.name, size, replies[i], tt.want[i])
				}
			}
		}
	}
}

func TestEncode(t *testing.T) {
	if got := string(encode([][]string{{"AUTH", "a\r\nb"}, {"INFO", "server"}})); got !=
		"*2\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n" {
		t.Errorf("%q", got)
	}
}

// FuzzDecode: what is decoded is what stands there, and where a stream is cut
// does not matter.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "$5\r\nhello\r\n", "-ERR x\r\n", "$0\r\n\r\n+"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		text, n, err := decode(stream)
		if n > len(stream) || n < 0 {
			t.Fatalf("%q: length %d", stream, n)
		}
		if n == 0 {
			return
		}
		if want := []byte(text + "\r\n"); err == nil && !bytes.HasSuffix(stream[:n], want) {
			t.Fatalf("%q was read as %q", stream[:n], text)
		}
		for i := range n {
			if _, m, err := decode(stream[:i]); m != 0 || err != nil {
				t.Fatalf("%q: whole already after %d bytes: %d, %v", stream, i, m, err)
			}
		}
	})
}
