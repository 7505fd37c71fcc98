package checker

import (
	"strings"
	"testing"
)

// TestFrames feeds each stream whole and byte by byte.
func TestFrames(t *testing.T) {
	tests := []struct {
		name, stream string
		replies      int
		refusal      string
		err          string
	}{
		{"a status", "+OK\r\n", 1, "", ""},
		{"a bulk string", "$5\r\nab\r\nc\r\n", 1, "", ""},
		{"an empty one", "$0\r\n\r\n", 1, "", ""},
		{"nil", "$-1\r\n*-1\r\n", 2, "", ""},
		{"an empty array", "*0\r\n", 1, "", ""},
		{"arrays in arrays", "*3\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n*1\r\n*0\r\n+OK\r\n", 2, "", ""},
		{"half", "*2\r\n:1\r\n", 0, "", ""},
		{"an error", "-ERR no\r\n-NOAUTH yes\r\n", 2, "NOAUTH yes", ""},
		{"a bulk string that goes on", "$2\r\nabc\r\n", 0, "", "longer"},
		{"a bulk string with a carriage return alone", "$2\r\nab\rx", 0, "", "longer"},
		{"a negative length", "$-2\r\n", 0, "", "no number"},
		{"a length with a sign", "$+-2\r\n", 0, "", "no number"},
		{"an empty line", "\r\n", 0, "", "no Redis reply"},
		{"nested arrays beyond the bound", strings.Repeat("*40\r\n", 2), 0, "", "more elements"},
		{"too long a bulk string", "$1048577\r\n", 0, "", "larger"},
	}
	for _, tt := range tests {
		for _, size := range []int{len(tt.stream), 1, 3} {
			f := frames{budget: maxReply}
			var err error
			for rest := []byte(tt.stream); len(rest) > 0 && err == nil; {
				n := min(size, len(rest))
				err = f.feed(rest[:n])
				rest = rest[n:]
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s, by %d: error %v, want %q", tt.name, size, err, tt.err)
				}
				continue
			}
			if err != nil || f.replies != tt.replies || f.refusal != tt.refusal {
				t.Errorf("%s, by %d: %d replies, %q, %v", tt.name, size, f.replies, f.refusal, err)
			}
		}
	}
}

// FuzzFrames: where a stream is cut into reads must not matter.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "$5\r\nhello\r\n", "*2\r\n:1\r\n*1\r\n$-1\r\n", "-ERR x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, parts := frames{budget: maxReply}, frames{budget: maxReply}
		err := whole.feed(stream)
		for i := range stream {
			if perr := parts.feed(stream[i : i+1]); perr != nil {
				if err == nil {
					t.Fatalf("%q: whole is fine, in parts %v", stream, perr)
				}
				return
			}
		}
		if err != nil {
			t.Fatalf("%q: in parts it is fine, whole %v", stream, err)
		}
		if whole.replies != parts.replies || whole.complete(whole.replies) != parts.complete(parts.replies) {
			t.Fatalf("%q: whole %+v, parts %+v", stream, whole, parts)
		}
	})
}
