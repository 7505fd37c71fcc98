package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Network is a switch with hosts on it, all in namespaces of their own:
// nothing of it is seen outside.
type Network struct {
	Hosts []*Host

	bridge *Namespace
}

// A Host has one link, eth0, to the switch.
type Host struct {
	*Namespace
	Name string
	Addr netip.Addr
	IPv6 netip.Addr

	net        *Network
	port       string       // the switch's end of the link
	straighten func() error // ends a delay
}

// NewNetwork makes a switch without hosts. End it by [Network.Close].
func NewNetwork() (*Network, error) {
	first()
	b, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	n := &Network{bridge: b}
	err = b.Run("ip", "link", "add", "name", "br0", "up", "type", "bridge", "stp_state", "0", "forward_delay", "0",
		"mcast_snooping", "0")
	if err != nil {
		n.Close()
	}
	return n, err
}

// first puts the observers, and all that they start, before what else the
// machine may be doing: on real nodes it has cores of its own.
func first() {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			syscall.Setpriority(syscall.PRIO_PROCESS, tid, -10) // a matter of precision, not of right
		}
	}
}

// Add puts a host onto the switch, the first as 10.0.0.1 and 2001:db8::1.
func (n *Network) Add(name string) (*Host, error) {
	ns, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	i := len(n.Hosts) + 1
	h := &Host{
		Namespace: ns, Name: name, net: n, port: fmt.Sprintf("port%d", i),
		Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
		IPv6: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)}),
	}
	n.Hosts = append(n.Hosts, h)
	if err := h.Set("ipv6/conf/default/accept_dad", "0"); err != nil {
		return h, err
	}
	for _, argv := range [][]string{
		{"ip", "link", "add", "name", "eth0", "type", "veth", "peer", "name", h.port, "netns", fmt.Sprint(n.bridge.tid)},
		{"ip", "addr", "add", h.Addr.String() + "/24", "dev", "eth0"},
		{"ip", "addr", "add", h.IPv6.String() + "/64", "dev", "eth0", "nodad"},
		{"ip", "link", "set", "eth0", "up"},
	} {
		if err := h.Run(argv...); err != nil {
			return h, err
		}
	}
	return h, h.Heal()
}

// plug puts the network of a process onto the switch.
func (n *Network) plug(pid int, address netip.Prefix) error {
	port := fmt.Sprint("plug", pid)
	for _, argv := range [][]string{
		{"link", "add", "name", "eth0", "type", "veth", "peer", "name", port, "netns", fmt.Sprint(n.bridge.tid)},
		{"addr", "add", address.String(), "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		argv = append([]string{"--net", "--target", fmt.Sprint(pid), "ip"}, argv...)
		if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
			return fmt.Errorf("nsenter %q: %w: %s", argv, err, out)
		}
	}
	return n.bridge.Run("ip", "link", "set", port, "master", "br0", "up")
}

// Install puts copies of programs into its /usr/local/bin, in which nothing
// else is then. Keepalived runs only what nobody but root can have changed.
func (h *Host) Install(programs ...string) error {
	if err := os.Mkdir(h.Path("/run/bin"), 0o755); err != nil {
		return err
	}
	for _, path := range programs {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%w: run make build", err)
		}
		if err := os.WriteFile(h.Path("/run/bin/"+filepath.Base(path)), b, 0o755); err != nil {
			return err
		}
	}
	return h.Do(func() error { return syscall.Mount("/run/bin", "/usr/local/bin", "", syscall.MS_BIND, "") })
}

// Process is a program to be started on it.
func (h *Host) Process(argv ...string) *Process { return newProcess(h, argv...) }

// Close removes it, and kills what runs on its hosts.
func (n *Network) Close() {
	for _, h := range n.Hosts {
		h.Namespace.Close()
	}
	n.bridge.Close()
}

// Cut pulls the cable: the host sees that its link is down.
func (h *Host) Cut() error { return h.net.bridge.Run("ip", "link", "set", h.port, "down") }

// Isolate makes the switch forward nothing from or to the host, whose link
// stays up.
func (h *Host) Isolate() error { return h.net.bridge.Run("ip", "link", "set", h.port, "nomaster") }

// Deafen loses what is sent to the host.
func (h *Host) Deafen() error { return drop(h.Namespace, "eth0") }

// Mute loses what the host sends.
func (h *Host) Mute() error { return drop(h.net.bridge, h.port) }

func drop(ns *Namespace, link string) error {
	return ns.Run("nft", fmt.Sprintf(
		"add table netdev lab; add chain netdev lab %[1]s { type filter hook ingress device %[1]s "+
			"priority 0; policy drop; }", link))
}

// LoseConnects loses one of every few packets that would open a connection to a port
// of the host. Lost says how many, and heal ends it.
func (h *Host) LoseConnects(port, every int) (lost func() (int, error), heal func() error, err error) {
	err = h.Run("nft", fmt.Sprintf("add table inet lab; add chain inet lab input { type filter hook input priority 0; }; "+
		"add rule inet lab input tcp dport %d tcp flags & (syn | ack) == syn numgen inc mod %d 0 counter drop", port, every))
	lost = func() (n int, err error) {
		out, err := h.Output("nft", "list", "chain", "inet", "lab", "input")
		if err != nil {
			return 0, err
		}
		_, counted, _ := strings.Cut(out, "counter packets ")
		_, err = fmt.Sscan(counted, &n)
		return n, err
	}
	return lost, func() error { return h.Run("nft", "delete table inet lab") }, err
}

// Heal undoes all of these.
func (h *Host) Heal() error {
	for _, c := range []struct {
		ns   *Namespace
		link string
	}{{h.Namespace, "eth0"}, {h.net.bridge, h.port}} {
		// The first makes the second no error where there is none.
		err := c.ns.Run("nft", fmt.Sprintf("add table netdev lab; add chain netdev lab %[1]s; "+
			"delete chain netdev lab %[1]s", c.link))
		if err != nil {
			return err
		}
	}
	if h.straighten != nil {
		if err := h.straighten(); err != nil {
			return err
		}
		h.straighten = nil
	}
	return h.net.bridge.Run("ip", "link", "set", h.port, "master", "br0", "up")
}
