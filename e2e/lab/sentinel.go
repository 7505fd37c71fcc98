package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// MasterName is the name by which the Sentinels of a [Cluster] know it.
const MasterName = "mymaster"

// A Cluster is a master, its replicas and three Sentinels, on loopback.
type Cluster struct {
	Nodes     []*Redis // the first was started as the master
	Sentinels []*Redis
}

// StartCluster starts nodes with o, and three Sentinels that take a node for
// dead after a second. It returns when all know each other. End it by
// [Cluster.Close].
func StartCluster(nodes int, o Options) (c *Cluster, err error) {
	c = &Cluster{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	o.TCP = true
	for i := range nodes {
		per := o
		if i > 0 {
			per.Args = append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(c.Nodes[0].Port)}, o.Args...)
		}
		r, err := StartRedis(per)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, r)
	}
	for _, r := range c.Nodes[1:] {
		if err := r.Until("master_link_status:up", "INFO", "replication"); err != nil {
			return c, err
		}
	}
	for range 3 {
		s, err := StartRedis(Options{TCP: true, Sentinel: true})
		if err != nil {
			return c, err
		}
		c.Sentinels = append(c.Sentinels, s)
		if err := s.Monitor(MasterName, "127.0.0.1", c.Nodes[0].Port, o.Password); err != nil {
			return c, err
		}
	}
	return c, c.Ready()
}

// Monitor makes a Sentinel watch a master, which it takes for dead after a
// second. Password is that of the nodes; empty for none.
func (r *Redis) Monitor(name, host string, port int, password string) error {
	commands := [][]string{
		{"SENTINEL", "MONITOR", name, host, strconv.Itoa(port), "2"},
		{"SENTINEL", "SET", name, "down-after-milliseconds", "1000"},
		{"SENTINEL", "SET", name, "failover-timeout", "10000"},
	}
	if password != "" {
		commands = append(commands, []string{"SENTINEL", "SET", name, "auth-pass", password})
	}
	for _, args := range commands {
		if out, err := r.Do(args...); err != nil || out != "OK" {
			return fmt.Errorf("%s: %s %w", args, out, err)
		}
	}
	return nil
}

// Ready waits until every Sentinel knows all nodes and the other Sentinels, and
// has seen every replica to be one: it asks them every ten seconds, and one that
// has missed that a node became a replica takes the node's next promotion for
// an old one, and takes it back at once.
func (c *Cluster) Ready() error {
	for _, s := range c.Sentinels {
		err := Wait("the Sentinels know each other and the replicas", func() (bool, error) {
			out, err := s.Do("SENTINEL", "MASTER", MasterName)
			f := strings.Split(out, "\n")
			known := func(key string, n int) bool {
				for i := 0; i+1 < len(f); i += 2 {
					if f[i] == key {
						return f[i+1] == strconv.Itoa(n)
					}
				}
				return false
			}
			if err != nil || !known("num-slaves", len(c.Nodes)-1) || !known("num-other-sentinels", len(c.Sentinels)-1) {
				return false, err
			}
			out, err = s.Do("SENTINEL", "REPLICAS", MasterName)
			return strings.Count(out, "\nrole-reported\nslave\n") == len(c.Nodes)-1, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Master waits until all Sentinels name the same node as master, and it says
// so itself, and returns it.
func (c *Cluster) Master() (*Redis, error) {
	var master *Redis
	err := Wait("the Sentinels agree on a master", func() (bool, error) {
		named := ""
		for _, s := range c.Sentinels {
			out, err := s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
			if err != nil || named != "" && named != out {
				return false, err
			}
			named = out
		}
		for _, r := range c.Nodes {
			if strings.HasSuffix(named, "\n"+strconv.Itoa(r.Port)) {
				out, _ := r.Do("INFO", "replication")
				master = r
				return strings.Contains(out, "role:master"), nil
			}
		}
		return false, nil
	})
	return master, err
}

// Close ends all.
func (c *Cluster) Close() {
	for _, r := range append(c.Sentinels, c.Nodes...) {
		r.Close()
	}
}
