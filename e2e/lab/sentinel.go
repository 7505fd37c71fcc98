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
		commands := [][]string{
			{"SENTINEL", "MONITOR", MasterName, "127.0.0.1", strconv.Itoa(c.Nodes[0].Port), "2"},
			{"SENTINEL", "SET", MasterName, "down-after-milliseconds", "1000"},
			{"SENTINEL", "SET", MasterName, "failover-timeout", "10000"},
		}
		if o.Password != "" {
			commands = append(commands, []string{"SENTINEL", "SET", MasterName, "auth-pass", o.Password})
		}
		for _, args := range commands {
			if out, err := s.Do(args...); err != nil || out != "OK" {
				return c, fmt.Errorf("%s: %s %w", args, out, err)
			}
		}
	}
	return c, c.Ready()
}

// Ready waits until every Sentinel knows all nodes and the other Sentinels.
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
			return known("num-slaves", len(c.Nodes)-1) && known("num-other-sentinels", len(c.Sentinels)-1), err
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
