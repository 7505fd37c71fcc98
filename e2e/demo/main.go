// Demo shows what one check says of a master and of a replica, and then the
// whole chain on three nodes: the master dies, the VIP moves, and the old
// master comes back and is refused. Run it by make demo.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"redis-is-master/e2e/lab"
)

func main() {
	log.SetFlags(0)
	bin := flag.String("bin", "bin", "directory with the built commands")
	flag.Parse()
	if err := cmp.Or(possible(), checks(*bin), chain(*bin)); err != nil {
		log.Fatal("demo: ", err)
	}
}

// possible says which program or right is missing.
func possible() error {
	var missing []string
	for _, p := range []string{"redis-server", "redis-sentinel", "redis-cli", "keepalived", "ip", "nft"} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if missing != nil {
		return errors.New("not installed: " + strings.Join(missing, ", ") + "; make lab installs it as root")
	}
	return lab.CanNetwork()
}

// checks shows the one-shot.
func checks(bin string) error {
	check, err := filepath.Abs(filepath.Join(bin, "redis-is-master"))
	if err != nil {
		return err
	}
	const password = "a password of the demo"
	master, err := lab.StartRedis(lab.Options{TCP: true, Password: password})
	if err != nil {
		return err
	}
	defer master.Close()
	replica, err := lab.StartRedis(lab.Options{TCP: true, Password: password,
		Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}})
	if err != nil {
		return err
	}
	defer replica.Close()
	if err := cmp.Or(replica.Until("master_link_status:up", "INFO", "replication"),
		master.Until("state=online", "INFO", "replication")); err != nil {
		return err
	}
	for _, c := range []struct {
		title    string
		of       *lab.Redis
		password string
		want     int
	}{
		{"one check of a master", master, password, 0},
		{"of its replica", replica, password, 1},
		{"without the password, where redis-cli exits 0", master, "", 2},
	} {
		cmd := exec.Command(check, "-p", strconv.Itoa(c.of.Port))
		cmd.Env = []string{"REDISCLI_AUTH=" + c.password}
		out, _ := cmd.CombinedOutput()
		code := cmd.ProcessState.ExitCode()
		fmt.Printf("# %s\n$ redis-is-master -p %d; echo $?\n%s%d\n", c.title, c.of.Port, out, code)
		if code != c.want {
			return fmt.Errorf("exit code %d, want %d", code, c.want)
		}
	}
	return nil
}

// chain shows a failover on three nodes.
func chain(bin string) error {
	fmt.Println("\n# three nodes, each with Redis, Sentinel, redis-is-masterd and keepalived, and a client that " +
		"writes through the VIP")
	conf, err := lab.Profile("keepalived/track-file.conf")
	if err != nil {
		return err
	}
	v := &viewer{}
	s, err := lab.StartSite(lab.SiteOptions{Bin: bin, Keepalived: conf, Seen: v.show})
	if err != nil {
		return err
	}
	defer s.Close()
	m := s.Master()
	fmt.Printf("%s is the master and has the VIP %s. Times are milliseconds since the fault.\n\n", m.Name, s.VIP)
	v.begin()
	fault := s.Note("kill -9 of Redis on %s", m.Name)
	m.Redis.Kill()
	if err := cmp.Or(s.Moved(m), s.Announced()); err != nil {
		return err
	}
	next := s.Master()
	s.Note("Redis on %s is started again", m.Name)
	if err := cmp.Or(m.Redis.Start(), s.Settle()); err != nil {
		return err
	}
	v.end()

	since := func(node string, kind lab.Kind, what string) float64 {
		e, _ := s.Timeline.First(fault, node, kind, what)
		return milliseconds(e.At.Sub(fault))
	}
	promoted, up := since(next.Name, lab.Role, lab.Master), since(next.Name, lab.VIP, "up")
	claimed, replica := since(m.Name, lab.Role, lab.Master), since(m.Name, lab.Role, lab.Replica)
	fmt.Printf(`
the VIP was gone from the dead node after       %8.1f ms
Sentinel promoted %s after                   %8.1f ms
the VIP was on it                               %8.1f ms after that
its first write was acknowledged                %8.1f ms after that
the Sentinels announced it to their clients     %8.1f ms after that
%s came back and called itself master for    %8.1f ms
`, since(m.Name, lab.VIP, "down"), next.Name, promoted, up-promoted, since(next.Name, lab.Write, "")-up,
		since("", lab.Said, "+switch-master")-since(next.Name, lab.Write, ""), m.Name, replica-claimed)
	violations := s.Violations(fault, lab.FaultBounds)
	fmt.Printf("two holders of the VIP, or a holder that was no master: %d times\n", len(violations))
	if len(violations) > 0 {
		return fmt.Errorf("the invariant is broken: %v", violations)
	}
	return nil
}

// A viewer prints events as they come.
type viewer struct {
	fault time.Time
	last  map[string]string
}

func (v *viewer) begin() { v.fault, v.last = time.Now(), map[string]string{} }
func (v *viewer) end()   { v.last = nil }

// show is called with one event at a time.
func (v *viewer) show(e lab.Event) {
	if v.last == nil {
		return
	}
	text := ""
	switch e.Kind {
	case lab.Fault:
		text = strings.ToUpper(e.What)
	case lab.Role:
		text = "Redis: " + e.What
	case lab.Answer:
		text = "redis-is-masterd: " + e.What
	case lab.VIP:
		text = "VIP " + e.What
	case lab.Write:
		text = "the client writes here"
	case lab.Said:
		// Every Sentinel says the same; the first one counts.
		event, _, _ := strings.Cut(e.What, " ")
		if event == "+sdown" || event == "+promoted-slave" || event == "+switch-master" || event == "+convert-to-slave" {
			e.Node, text = "", "Sentinel: "+e.What
		}
		if v.last[event] != "" {
			return
		}
		v.last[event] = text
	}
	if text != "" {
		fmt.Printf("%9.1f  %-6s %s\n", milliseconds(e.At.Sub(v.fault)), e.Node, text)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
