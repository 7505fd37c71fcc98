package guards

import (
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// TestForbiddenRestart: a daemon that may not subscribe hears nobody, which is
// not the same as that there is no Sentinel. It believes no master.
func TestForbiddenRestart(t *testing.T) {
	t.Parallel()
	c := lab.NewCluster(
		t,
		2,
		lab.Options{
			Password: password,
			Args: []string{
				"--user",
				"vipcheck",
				"on",
				">" + password,
				"resetkeys",
				"resetchannels",
				"-@all",
				"+info",
			},
		},
	)
	master := c.Nodes[0]
	d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), master, "--user", "vipcheck")
	lab.Check(t, err)
	defer d.Close()
	lab.Check(t, d.Says(checker.ReasonPermission))
	master.Kill()
	_, err = c.Master()
	lab.Check(t, err)
	lab.Check(t, master.Restart())
	lab.Check(t, lab.Wait("the Sentinels make it a replica", func() (bool, error) {
		doc, err := d.Document()
		if doc.Answer == checker.Yes {
			t.Fatalf("believed: %s", doc.JSON())
		}
		info, _ := master.Do("INFO", "replication")
		return strings.Contains(info, "role:slave"), err
	}))
	doc, err := d.Document()
	lab.Check(t, err)
	if n := doc.Daemon.Transitions[checker.Yes]; n != 0 {
		t.Errorf("it was believed %d times", n)
	}
}
