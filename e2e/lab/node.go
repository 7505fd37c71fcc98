package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/cached"
	"redis-is-master/checker/report"
)

// A Node is a machine of a [Site], with all that runs on one. Its files are
// where they are on a real one, in a /run of its own.
type Node struct {
	*Host
	Redis, Sentinel, Daemon, Keepalived *Process

	site *Site
}

// Paths on every node.
const (
	redisSocket    = "/run/redis.sock"
	sentinelSocket = "/run/sentinel.sock"
	PasswordFile   = "/run/password"
	DaemonDir      = "/run/redis-is-master"
	TrackFile      = "/run/redis-is-master/master"
	PromotionFile  = "/run/redis-is-master/promotion"
	DaemonSocket   = "/run/redis-is-master/check.sock"
)

const (
	redisPort    = 6379
	sentinelPort = 26379
	httpPort     = 9736
	agentPort    = 9737
)

// newNode writes the files of a node and starts nothing. The first node of a
// site is the master.
func newNode(s *Site, h *Host) (*Node, error) {
	n := &Node{Host: h, site: s}
	n.Redis = newProcess(h, "redis-server", "/run/redis/redis.conf")
	n.Sentinel = newProcess(h, "redis-sentinel", "/run/sentinel/sentinel.conf")
	n.Keepalived = newProcess(h, "keepalived", "--dont-fork", "--log-console", "--log-detail", "--no-syslog", "--vrrp",
		"--use-file", "/run/keepalived.conf", "--config-id", h.Name)
	// Adverts are sent every 20 ms, and a machine has cores of its own for that.
	n.Keepalived.Argv = append([]string{"chrt", "--rr", "10"}, n.Keepalived.Argv...)
	n.Daemon = newProcess(h, append([]string{s.options.Bin + "/redis-is-masterd", "--password-file", PasswordFile,
		"--track-file", TrackFile, "--promotion-file", PromotionFile,
		"--http", net.JoinHostPort(h.Addr.String(), fmt.Sprint(httpPort)),
		"--agent", net.JoinHostPort(h.Addr.String(), fmt.Sprint(agentPort))},
		s.options.Daemon...)...)
	if s.options.Held != "" {
		n.Daemon.Argv = append(n.Daemon.Argv, "--vip", s.options.Held, "--vip-interface", "eth0")
	}

	redis := fmt.Sprintf(`port %d
protected-mode no
unixsocket %s
dir /run/redis
save ""
appendonly yes
repl-diskless-sync-delay 0
requirepass %[3]s
masterauth %[3]s
replica-announce-ip %[4]s
`, redisPort, redisSocket, s.password, h.Addr)
	if master := s.net.Hosts[0]; h != master {
		redis += fmt.Sprintf("replicaof %s %d\n", master.Addr, redisPort)
	}
	sentinel := fmt.Sprintf(`port %d
protected-mode no
unixsocket %s
dir /run/sentinel
sentinel monitor %[3]s %[4]s %[5]d 2
sentinel auth-pass %[3]s %[6]s
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 10000
`, sentinelPort, sentinelSocket, MasterName, s.net.Hosts[0].Addr, redisPort, s.password)

	if s.options.Hook != "" {
		sentinel += fmt.Sprintf("sentinel client-reconfig-script %s /usr/local/bin/%s\n", MasterName,
			filepath.Base(s.options.Hook))
	}
	for _, dir := range []string{"/run/redis", "/run/sentinel", DaemonDir} {
		if err := os.Mkdir(h.Path(dir), 0o755); err != nil {
			return n, err
		}
	}
	for path, content := range map[string]string{
		"/run/redis/redis.conf":       redis,
		"/run/sentinel/sentinel.conf": sentinel,
		"/run/keepalived.conf":        s.options.Keepalived,
		PasswordFile:                  s.password + "\n",
	} {
		if err := os.WriteFile(h.Path(path), []byte(content), 0o600); err != nil {
			return n, err
		}
	}
	return n, h.Install(append([]string{s.options.Bin + "/redis-is-master"}, s.options.Programs...)...)
}

// Mkdir makes the directory of the daemon's outputs, as systemd would.
func (n *Node) Mkdir() error { return os.Mkdir(n.Path(DaemonDir), 0o755) }

// Processes are all that runs on it, in the order of their start.
func (n *Node) Processes() []*Process {
	return []*Process{n.Redis, n.Sentinel, n.Daemon, n.Keepalived}
}

// Break does to its link what the word says: [Cut], [Isolated], [Deaf],
// [Mute], [Late] or [Healed].
func (n *Node) Break(link string) error {
	do := map[string]func() error{Cut: n.Host.Cut, Isolated: n.Host.Isolate, Deaf: n.Host.Deafen, Mute: n.Host.Mute,
		Healed: n.Host.Heal, Late: func() error { return n.Host.Delay(20 * time.Millisecond) }}[link]
	n.site.Timeline.Add(time.Now(), n.Name, Link, link)
	return do()
}

// Lose ends the whole node, as a power cut would.
func (n *Node) Lose() error {
	err := n.Break(Cut)
	for _, p := range n.Processes() {
		p.Vanish()
	}
	// What a boot would not find, and keepalived had no time to take away.
	n.Run("ip", "addr", "del", netip.PrefixFrom(n.site.VIP, n.site.VIP.BitLen()).String(), "dev", "eth0")
	pids, _ := filepath.Glob(n.Path("/run/*.pid"))
	for _, path := range append(pids, n.Path(TrackFile), n.Path(PromotionFile), n.Path(DaemonSocket),
		n.Path(redisSocket), n.Path(sentinelSocket)) {
		os.Remove(path)
	}
	return err
}

// Return boots a node that was lost.
func (n *Node) Return() error {
	if err := n.Break(Healed); err != nil {
		return err
	}
	return n.start()
}

func (n *Node) start() error {
	for _, p := range n.Processes() {
		if p == n.Daemon && !n.site.hasDaemon() || p == n.Keepalived && !n.site.hasKeepalived() {
			continue
		}
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Dial connects to its Redis from beside it, whatever its links.
func (n *Node) Dial(timeout time.Duration) (*Conn, error) {
	c, err := net.DialTimeout("unix", n.Path(redisSocket), timeout)
	if err != nil {
		return nil, err
	}
	return NewConn(c, n.site.Password(), timeout)
}

// Ask sends one command to its Redis.
func (n *Node) Ask(command ...string) (string, error) {
	c, err := n.Dial(time.Second)
	if err != nil {
		return "", err
	}
	return ask(c, command)
}

// AskSentinel sends one command to its Sentinel.
func (n *Node) AskSentinel(command ...string) (string, error) {
	c, err := net.DialTimeout("unix", n.Path(sentinelSocket), time.Second)
	if err != nil {
		return "", err
	}
	conn, err := NewConn(c, "", time.Second)
	if err != nil {
		return "", err
	}
	return ask(conn, command)
}

func ask(c *Conn, command []string) (string, error) {
	defer c.Close()
	replies, err := c.Do(time.Second, command)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return replies[0], nil
}

// Fill writes keys to its Redis, which must be the master, and makes its file
// hold them and no history.
func (n *Node) Fill(keys int) error {
	c, err := n.Dial(time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	commands := make([][]string, keys)
	for i := range commands {
		commands[i] = []string{"SET", fmt.Sprintf("key:%d", i), "a value"}
	}
	if _, err = c.Do(Patience, append(commands, []string{"BGREWRITEAOF"})...); err != nil {
		return err
	}
	return Wait("the file is rewritten", func() (bool, error) {
		info, err := n.Ask("INFO", "persistence")
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0"), err
	})
}

// Document asks its daemon for what it knows.
func (n *Node) Document() (doc report.Document, err error) {
	return cached.Ask(n.Path(DaemonSocket), checker.DefaultTimeout, "")
}
