package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// The configurations of HAProxy: the one that this project ships, with its
// agent, without it, and with nothing else; and what people have without it.
func haproxyConfigs(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../docker/haproxy.cfg")
	lab.Check(t, err)
	shipped := string(b)
	cut := func(text string, what ...string) string {
		for _, w := range what {
			if !strings.Contains(text, w) {
				t.Fatalf("docker/haproxy.cfg no longer holds %q", w)
			}
			text = strings.ReplaceAll(text, w, "")
		}
		return text
	}
	const agent = " agent-check agent-port 9737 agent-inter 100ms"
	return map[string]string{
		"httpchk and agent-check": shipped,
		"httpchk": cut(
			shipped,
			agent,
			" agent-addr 10.0.0.1",
			" agent-addr 10.0.0.2",
			" agent-addr 10.0.0.3",
		),
		"agent-check": cut(
			shipped,
			"    option httpchk GET /master\n",
			"check port 9736 inter 100ms fastinter 10ms fall 2 rise 1 ",
		),
	}
}

// TestHAProxy: clients behind HAProxy on a host of its own write to one node
// at a time, whatever happens to the master.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	lab.Require(t, "haproxy")
	s := start(t, profiles[0])
	proxy, err := s.AddHost("proxy")
	lab.Check(t, err)
	configs := haproxyConfigs(t)
	configs["tcp-check"], err = lab.Profile("bench/haproxy-tcp-check.cfg")
	lab.Check(t, err)
	for name, config := range configs {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			h, err := lab.HAProxy(proxy, config)
			lab.Check(t, err)
			lab.Check(t, h.Start())
			defer h.Kill()
			s.Client.Use(net.JoinHostPort(proxy.Addr.String(), "6379"))
			if err := s.Settle(); err != nil {
				t.Fatalf("%v\n%s", err, h.Tail(20))
			}
			for _, fault := range []string{"kill -9 of Redis, back at once", "SENTINEL FAILOVER"} {
				m := s.Master()
				from := time.Now()
				lab.Check(t, find(fault).do(s, m))
				lab.Check(t, s.Settle())
				at, _ := s.Timeline.First(from, "", lab.Fault, "")
				begun, stray := handover(s.Client.Acks(at.At), m)
				t.Logf(
					"%s: the new master acknowledged a write after %v, and the old one %d after that",
					fault,
					begun.Sub(at.At).Round(time.Millisecond),
					stray,
				)
				// By the role alone both nodes of a planned failover are masters.
				if byRole := name == "tcp-check"; stray > 0 && !byRole {
					t.Errorf(
						"%s: %d writes went to the old master after the first one to the new\n%s\n%s",
						fault,
						stray,
						s.Timeline.Text(from),
						h.Tail(10),
					)
				}
			}
		})
	}
}

// handover is when another node than one acknowledged a write at first, and
// how many the old one acknowledged after that.
func handover(acks []lab.Ack, old *lab.Node) (begun time.Time, stray int) {
	for _, a := range acks {
		switch {
		case a.Node != old && begun.IsZero():
			begun = a.At
		case a.Node == old && !begun.IsZero():
			stray++
		}
	}
	return begun, stray
}

func find(name string) scenario {
	for _, sc := range scenarios {
		if sc.name == name {
			return sc
		}
	}
	panic("no scenario " + name)
}

// TestHAProxyStarts: not even in the moment of its start or reload does HAProxy send
// a write to a node that is master by its role alone.
func TestHAProxyStarts(t *testing.T) {
	t.Parallel()
	lab.Require(t, "haproxy")
	s := start(t, profiles[0])
	proxy, err := s.AddHost("proxy")
	lab.Check(t, err)
	s.Client.Use(net.JoinHostPort(proxy.Addr.String(), "6379"))
	s.Client.Short(true)
	m, stray := s.Master(), s.Others(s.Master())[1] // HAProxy asks the last one last
	from := s.Note("REPLICAOF NO ONE on %s", stray.Name)
	_, err = stray.Ask("REPLICAOF", "NO", "ONE")
	lab.Check(t, err)
	// Its first checks are spread over the first inter: the longer, the likelier a stray write.
	config := strings.ReplaceAll(haproxyConfigs(t)["httpchk and agent-check"], "inter 100ms", "inter 2s")
	var serving *lab.Process
	starts := 0
	for ; starts < 20; starts++ {
		role, err := stray.Ask("ROLE")
		lab.Check(t, err)
		if !strings.HasPrefix(role, "master") {
			break // the Sentinels have undone it
		}
		next, err := lab.HAProxy(proxy, config)
		lab.Check(t, err)
		if serving == nil {
			lab.Check(t, next.Start())
		} else {
			lab.Check(t, next.Start("-sf", strconv.Itoa(serving.Pid())))
		}
		defer next.Kill()
		var begun time.Time
		lab.Check(t, lab.Wait("the new HAProxy serves", func() (bool, error) {
			info, _ := manage(proxy, "show info")
			begun = time.Now()
			return strings.Contains(info, fmt.Sprintf("\nPid: %d\n", next.Pid())), nil
		}))
		lab.Check(t, lab.Wait("it lets writes in", func() (bool, error) {
			last, ok := s.Client.Last()
			return ok && last.Sent.After(begun), nil
		}))
		if serving != nil {
			serving.Kill() // the client's reader would keep it for ever
		}
		serving = next
	}
	if starts < 3 {
		t.Fatalf("the Sentinels left time for %d starts only", starts)
	}
	for _, a := range s.Client.Acks(from) {
		if a.Node != m {
			t.Fatalf("%s acknowledged a write %v after it was made a master\n%s", a.Node.Name, a.At.Sub(from),
				s.Timeline.Text(from))
		}
	}
	t.Logf("%d starts, %d writes", starts, len(s.Client.Acks(from)))
}

// manage sends a command to the HAProxy of a host.
func manage(h *lab.Host, command string) (string, error) {
	c, err := net.DialTimeout("unix", h.Path("/run/haproxy.sock"), time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintln(c, command)
	said, err := io.ReadAll(c)
	return string(said), err
}

// followHAProxy is the keepalived.conf of those who run HAProxy on every node
// and let the VIP follow it: it needs not be on the master.
const followHAProxy = `global_defs {
    enable_script_security
    script_user root
}
vrrp_script haproxy {
    script "/usr/local/bin/haproxy-is-alive"
    interval 1
    weight 0
    fall 1
    rise 1
}
vrrp_instance redis {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority %d
    advert_int 1
    virtual_ipaddress {
        10.0.0.100/32
    }
    track_script {
        haproxy
    }
}
`

// TestHAProxyOnEveryNode: the VIP follows HAProxy, which follows the daemons.
func TestHAProxyOnEveryNode(t *testing.T) {
	t.Parallel()
	lab.Require(t, "haproxy")
	s := start(t, profiles[0])
	config := strings.ReplaceAll(haproxyConfigs(t)["httpchk and agent-check"], "bind :63", "bind 10.0.0.100:163")
	var haproxies []*lab.Process
	for i, n := range s.Nodes {
		lab.Check(t, n.Set("ipv4/ip_nonlocal_bind", "1"))
		h, err := lab.HAProxy(n.Host, config)
		lab.Check(t, err)
		lab.Check(t, h.Start())
		haproxies = append(haproxies, h)
		n.Keepalived.Stop()
		// What "pidof haproxy" is on a machine; the nodes share their PIDs.
		lab.Check(
			t,
			os.WriteFile(
				n.Path("/usr/local/bin/haproxy-is-alive"),
				fmt.Appendf(nil, "#!/bin/sh\nkill -0 %d\n", h.Pid()),
				0o755,
			),
		)
		lab.Check(t, os.WriteFile(n.Path("/run/keepalived.conf"), fmt.Appendf(nil, followHAProxy, 101-i), 0o600))
		lab.Check(t, n.Keepalived.Start())
	}
	s.Client.Use("10.0.0.100:16379")
	holds := func(n *lab.Node) {
		t.Helper()
		lab.Check(t, s.Timeline.Until(n.Name+" alone has the VIP", func(now lab.State) bool {
			h := now.Holders()
			return len(h) == 1 && h[0] == n.Name
		}))
	}
	writes := func() {
		t.Helper()
		from := time.Now()
		lab.Check(t, lab.Wait("the master is written to", func() (bool, error) {
			last, ok := s.Client.Last()
			return ok && last.Sent.After(from) && last.Node == s.Master(), nil
		}))
	}
	holds(s.Nodes[0])
	writes()

	m := s.Master()
	from := s.Note("kill -9 of Redis on %s", m.Name)
	m.Redis.Kill()
	lab.Check(
		t,
		s.Timeline.Until(
			"another master",
			func(now lab.State) bool { return now.Agreed() != "" && now.Agreed() != m.Name },
		),
	)
	writes()
	lab.Check(t, m.Redis.Start())
	lab.Check(
		t,
		s.Timeline.Until(
			"the old one is a replica",
			func(now lab.State) bool { return now.Role[m.Name] == lab.Replica },
		),
	)
	begun, stray := handover(s.Client.Acks(from), m)
	t.Logf("the new master acknowledged a write after %v", begun.Sub(from).Round(time.Millisecond))
	if stray > 0 {
		t.Errorf("%d writes went to the old master after the first one to the new\n%s", stray, s.Timeline.Text(from))
	}
	holds(s.Nodes[0])

	s.Note("kill -9 of HAProxy on %s", s.Nodes[0].Name)
	haproxies[0].Kill()
	holds(s.Nodes[1])
	writes()
}
