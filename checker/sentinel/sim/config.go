package sim

import (
	"cmp"
	"fmt"
	"time"
)

// Ports on which all listen.
const (
	port         = 6379
	sentinelPort = 26379
)

// A Profile is how keepalived learns of the daemon's answer.
type Profile string

// The profiles of the directory keepalived.
const (
	ProfileTrackFile Profile = "track-file" // a node that is not master is in FAULT
	ProfileWeight    Profile = "weight"     // the master's priority is higher
	ProfileScript    Profile = "script"     // no daemon: a script asks Redis and the Sentinels once a second
)

// A Config determines a history. The zero value of a field is its default.
type Config struct {
	Seed   uint64
	Length time.Duration // of the history; 30 s

	Nodes, Sentinels int           // 3 and 3; a Sentinel runs on each node, and more on hosts of their own
	Quorum           int           // a majority of the Sentinels
	ParallelSyncs    int           // 1
	DownAfter        time.Duration // 1 s
	FailoverTimeout  time.Duration // 10 s
	SyncTime         time.Duration // how long a full synchronisation takes at most; 500 ms
	Names            []string      // of the master; each is watched by itself, the first one decides; "mymaster"
	HostNames        bool          // the Sentinels announce host names
	Version          string        // of Redis; "7.0.15"

	Profile       Profile       // [ProfileTrackFile]
	Advert        time.Duration // advert_int; 20 ms
	PromotionFile bool          // the promotion's epoch is added to the priority
	WriteEvery    time.Duration // of the client; 20 ms
	Watch         bool          // daemons that are a [Watcher] are connected to the Sentinels
	CrashFailover bool          // and ask for a failover when their Redis is gone
	Blind         uint64        // bit 8*i+j: the daemon of node i cannot reach the Sentinel j, as by a firewall

	// UntilSettled ends a history when nothing has happened for 20 s, its last
	// fault is over, and Length is not reached.
	UntilSettled bool
	Faults       []Fault

	sentinelIDs, sentinelAddresses, addresses, ips []string
}

func (c Config) withDefaults() Config {
	c.Length = cmp.Or(c.Length, 30*time.Second)
	c.Nodes, c.Sentinels = cmp.Or(c.Nodes, 3), cmp.Or(c.Sentinels, 3)
	c.Quorum = cmp.Or(c.Quorum, c.Sentinels/2+1)
	c.ParallelSyncs = cmp.Or(c.ParallelSyncs, 1)
	c.DownAfter = cmp.Or(c.DownAfter, time.Second)
	c.FailoverTimeout = cmp.Or(c.FailoverTimeout, 10*time.Second)
	c.SyncTime = cmp.Or(c.SyncTime, 500*time.Millisecond)
	if len(c.Names) == 0 {
		c.Names = []string{"mymaster"}
	}
	c.Version = cmp.Or(c.Version, "7.0.15")
	c.Profile = cmp.Or(c.Profile, ProfileTrackFile)
	c.Advert = cmp.Or(c.Advert, 20*time.Millisecond)
	c.WriteEvery = cmp.Or(c.WriteEvery, 20*time.Millisecond)
	c.sentinelIDs, c.sentinelAddresses, c.addresses, c.ips = nil, nil, nil, nil
	for i := range c.Sentinels {
		c.sentinelIDs = append(c.sentinelIDs, sentinelID(i))
		c.sentinelAddresses = append(c.sentinelAddresses, fmt.Sprintf("%s:%d", c.hostIP(i), sentinelPort))
	}
	for i := range c.Nodes {
		c.addresses = append(c.addresses, fmt.Sprintf("%s:%d", c.Host(i), port))
		c.ips = append(c.ips, fmt.Sprintf("%s:%d", c.hostIP(i), port))
	}
	return c
}

// blind reports whether the daemon of a node cannot reach a Sentinel.
func (c *Config) blind(node, sentinel int) bool { return c.Blind>>(8*node+sentinel)&1 == 1 }

// Host is how the Sentinels call the host of a node.
func (c *Config) Host(node int) string {
	if c.HostNames {
		return fmt.Sprintf("node%d.example", node+1)
	}
	return c.hostIP(node)
}

func (c *Config) hostIP(host int) string { return fmt.Sprintf("10.0.0.%d", host+1) }

// Address is host:port of a node, as the Sentinels call it.
func (c *Config) Address(node int) string { return c.addresses[node] }

// IP is the IP address and port of a node.
func (c *Config) IP(node int) string { return c.ips[node] }
