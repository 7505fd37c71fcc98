package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestFullNotifySocket: a systemd that reads nothing holds up no check, and is told
// that the daemon is ready when it reads again.
func TestFullNotifySocket(t *testing.T) {
	for _, path := range []string{
		filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@redis-is-master-test-%d", os.Getpid()),
	} {
		systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		lab.Check(t, err)
		defer systemd.Close()
		t.Setenv("NOTIFY_SOCKET", path)
		for begun := time.Now(); notify("STATUS=full") == nil; {
			if time.Since(begun) > 10*time.Second {
				t.Fatal("the socket is never full")
			}
		}
		n := newNotifier("127.0.0.1:6379")
		begun := time.Now()
		n.checked(checker.Check{})
		if took := time.Since(begun); took > time.Second || n.ready.Load() {
			t.Errorf("%s: it took %v, and is ready: %v", path, took, n.ready.Load())
		}
		read := func() string {
			b := make([]byte, 100)
			lab.Check(t, systemd.SetReadDeadline(time.Now().Add(10*time.Second)))
			size, err := systemd.Read(b)
			lab.Check(t, err)
			return string(b[:size])
		}
		read()
		n.checked(checker.Check{})
		for said := read(); said != "READY=1"; said = read() {
			if said != "STATUS=full" {
				t.Fatalf("%s: %q", path, said)
			}
		}
	}
}
