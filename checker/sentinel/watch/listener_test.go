package watch_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"redis-is-master/checker"
	"redis-is-master/checker/internal/fake"
	"redis-is-master/checker/sentinel/watch"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// listen runs a listener for one test; what it calls arrives on the channels.
func listen(t *testing.T, node *checker.Redis) (closed, forbidden chan struct{}, messages chan string) {
	t.Helper()
	closed, forbidden, messages = make(chan struct{}, 100), make(chan struct{}, 100), make(chan string, 100)
	l := &watch.Listener{
		Node: node, Retry: 5 * time.Millisecond,
		Closed:    func() { closed <- struct{}{} },
		Forbidden: func() { forbidden <- struct{}{} },
		Message:   func(payload string) { messages <- payload },
	}
	fake.Until(t, l.Run)
	return closed, forbidden, messages
}

func next[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(lab.Patience):
		t.Fatal("in vain waited for " + what)
	}
	return v
}

func node(r *lab.Redis) *checker.Redis {
	n := &checker.Redis{Network: "unix", Address: r.Socket}
	if r.Password != "" {
		n.Password = func(context.Context) (string, error) { return r.Password, nil }
	}
	return n
}

func TestListener(t *testing.T) {
	dir := lab.TempDir(t)
	r := lab.New(t, lab.Options{Dir: dir, Password: "x"})
	closed, forbidden, messages := listen(t, node(r))
	publish := func(text string) {
		t.Helper()
		lab.Check(t, lab.Wait("somebody listens", func() (bool, error) {
			out, err := r.Do("PUBLISH", watch.Channel, text)
			return out == "1", err
		}))
		if got := next(t, "the message", messages); got != text {
			t.Errorf("%q", got)
		}
	}
	for i := range 5 {
		publish("before " + strconv.Itoa(i))
		r.Must(t, "CLIENT", "KILL", "TYPE", "pubsub")
		next(t, "the end of the subscription", closed)
		publish("after " + strconv.Itoa(i))
	}
	// A crash, and a server that comes back later.
	r.Kill()
	next(t, "the end of the subscription", closed)
	r = lab.New(t, lab.Options{Dir: dir, Password: "x"})
	publish("back")
	if len(closed)+len(forbidden)+len(messages) != 0 {
		t.Errorf("%d ends, %d refusals, %d messages too many", len(closed), len(forbidden), len(messages))
	}
}

func TestForbidden(t *testing.T) {
	r := lab.New(t, lab.Options{})
	r.Must(t, "ACL", "SETUSER", "vipcheck", "on", ">x", "resetkeys", "resetchannels", "-@all", "+info")
	n := node(r)
	n.Username, n.Password = "vipcheck", func(context.Context) (string, error) { return "x", nil }
	closed, forbidden, _ := listen(t, n)
	next(t, "the refusal", forbidden)
	// What the README grants is enough.
	r.Must(t, "ACL", "SETUSER", "vipcheck", "+subscribe", "&"+watch.Channel)
	granted, _, messages := listen(t, n)
	lab.Check(t, lab.Wait("somebody listens", func() (bool, error) {
		out, err := r.Do("PUBLISH", watch.Channel, "hi")
		return out == "1", err
	}))
	next(t, "the message", messages)
	if len(closed)+len(granted) != 0 {
		t.Error("a subscription has ended")
	}
}
