package watch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

const subscribed = "*3\r\n$9\r\nsubscribe\r\n$18\r\n__sentinel__:hello\r\n:1\r\n"

// subscribe answers a client until it has subscribed.
func subscribe(c net.Conn) {
	for in := bufio.NewScanner(c); in.Scan(); {
		switch strings.ToLower(in.Text()) {
		case "hello":
			io.WriteString(c, "-ERR unknown command\r\n")
		case "subscribe":
			io.WriteString(c, subscribed)
			return
		}
	}
}

// TestHostile: whatever a server says, at once or once the subscription stands,
// ends the subscription or is dropped. The subscription does not outlive its
// context, and no message is made up.
func TestHostile(t *testing.T) {
	for name, harm := range lab.Hostile {
		for _, stands := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				attacked := make(chan struct{}, 1)
				address := lab.Fake(t, nil, func(_ int, c net.Conn) {
					if stands {
						subscribe(c)
					}
					select {
					case attacked <- struct{}{}:
					default:
					}
					harm(c)
				})
				l := &Listener{
					Node: &checker.Redis{Address: address}, Retry: time.Millisecond, Closed: func() {}, Forbidden: func() {},
					Message: func(payload string) { t.Errorf("a message of %d bytes", len(payload)) },
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- l.Run(ctx) }()
				next := func() {
					select {
					case <-attacked:
					case <-time.After(lab.Patience):
						t.Error("it goes on with such a server")
					}
				}
				next()
				if name != "silence" && name != "one byte after the other" {
					next() // the first has ended
				}
				cancel()
				select {
				case <-done:
				case <-time.After(lab.Patience):
					t.Fatal("it does not end")
				}
			})
		}
	}
}

// TestBounded: each reply is counted by itself, and none is larger than the bound.
func TestBounded(t *testing.T) {
	bulk := func(n int) string { return fmt.Sprintf("$%d\r\n%s\r\n", n, strings.Repeat("x", n)) }
	const most = maxReplyBytes - len("$65527\r\n\r\n")
	two := "*2\r\n" + bulk(most/2) + bulk(most/2-len("*2\r\n$32763\r\n\r\n"))
	for name, tt := range map[string]struct {
		stream string
		err    error
	}{
		"the largest, again and again": {strings.Repeat(bulk(most), 3), nil},
		"an array of that size":        {strings.Repeat(two, 3), nil},
		"one byte more":                {bulk(most + 1), errUnbounded},
		"more in an array":             {"*2\r\n" + bulk(most/2) + bulk(most/2), errUnbounded},
		"small ones without end":       {strings.Repeat("+PONG\r\n", maxReplyBytes), nil},
	} {
		for _, step := range []int{len(tt.stream), 4096, 7} {
			b, err := new(bounded), error(nil)
			for chunk := range slices.Chunk([]byte(tt.stream), step) {
				if err = b.take(chunk); err != nil {
					break
				}
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("%s, in pieces of %d: %v", name, step, err)
			}
		}
	}
}

// FuzzBounded: where a stream is cut does not matter, and no more is remembered
// or let through than the bounds say.
func FuzzBounded(f *testing.F) {
	message := "*3\r\n$7\r\nmessage\r\n$18\r\n__sentinel__:hello\r\n$5\r\nhello\r\n"
	for _, s := range []string{subscribed + message, "*9000000000000000000\r\n", subscribed + "*0\r\n",
		subscribed + "*2\r\n:1\r\n*-1\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "$-2\r\n", subscribed + "+PONG\r\n", "$99999999999\r\nx"} {
		f.Add([]byte(s), byte(3))
	}
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		step := int(size) + 1
		whole, parts := new(bounded), new(bounded)
		err := whole.take(stream)
		for i := 0; i < len(stream) && parts.err == nil; i += step {
			parts.err = parts.take(stream[i:min(i+step, len(stream))])
		}
		same := whole.skip == parts.skip && string(whole.line) == string(parts.line)
		if !errors.Is(parts.err, err) || err == nil && !same {
			t.Fatalf("%q: %v at once, %v by %d", stream, err, parts.err, step)
		}
		if whole.skip > maxReplyBytes+2 || len(whole.line) > len(stream) || len(whole.pending) > maxReplyDepth+1 {
			t.Fatalf("%q: %+v", stream, whole)
		}
	})
}
