package guards

import (
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestForbiddenRestart: a daemon that may not subscribe hears nobody, which
// is not the same as that there is no Sentinel.
func TestForbiddenRestart(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(t, 2, lab.Options{Password: password, Args: []string{"--user", "vipcheck", "on", ">" + password, "resetkeys", "resetchannels", "-@all", "+info"}})
	master := c.Nodes[0]
	d, err := lab.StartDaemon(bin, master, "--user", "vipcheck")
	lab.Check(t, err)
	defer d.Close()
	lab.Check(t, d.Says(checker.OK))
	for round := range 1 {
		master.Kill()
		var now *lab.Redis
		now, err = c.Master()
		lab.Check(t, err)
		lab.Check(t, master.Restart())
		begun := time.Now()
		var yes, lie time.Duration
		for {
			step := time.Now()
			doc, err := d.Document()
			lab.Check(t, err)
			info, _ := master.Do("INFO", "replication")
			time.Sleep(2 * time.Millisecond) // the pace of the samples
			if doc.Reason == checker.OK {
				yes += time.Since(step)
			}
			if strings.Contains(info, "role:slave") || time.Since(begun) > lab.Patience {
				break
			}
			lie += time.Since(step)
		}
		t.Logf("round %d: it called itself master for %v beside %d, and was believed for %v", round, lie, now.Port, yes)
		if yes > 0 {
			t.Errorf("believed for %v", yes)
		}
	}
	t.Log(d.Log())
}
