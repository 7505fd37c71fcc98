package e2e

import (
	"os/exec"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// TestBusy: the VIP stays where it is beside eight busy loops, which have the
// priority of everything here. The unit gives its daemon more than that.
func TestBusy(t *testing.T) {
	s := start(t, profiles[0])
	from := time.Now()
	for range 8 {
		loop := exec.Command("sh", "-c", "while :; do :; done")
		lab.Check(t, lab.Start(loop)) // which ends with the test
		defer loop.Wait()
		defer loop.Process.Kill()
	}
	time.Sleep(*busy) // the fault is the time, and nothing is awaited
	if e, moved := s.Timeline.First(from, "", lab.VIP, ""); moved {
		t.Errorf("the VIP went %s on %s after %v", e.What, e.Node, e.At.Sub(from))
	}
	t.Logf("\n%s", s.Timeline.Text(from))
}
