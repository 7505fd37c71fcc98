package doctor_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/cmd/internal/doctor"
	"redis-is-master/e2e/lab"
)

// A breakage is one thing that is wrong on a node of a site that is well, and the
// line that must name it. It is undone before the next.
type breakage struct {
	name    string
	do      func(b *bench) error
	undo    func(b *bench) error // may be nil
	replica bool                 // look at a replica instead of the master
	flags   []string
	// What must be among the results.
	id    string
	state doctor.State
	says  string // a part of the detail
	hint  string // a part of the hint, or of the command
	mend  bool   // the command, run as it is printed, makes it a tick
}

// A bench is where things are broken.
type bench struct {
	s      *lab.Site
	n      *lab.Node // the one that is looked at
	config string    // of keepalived, as it should be
	more   []*lab.Process
}

// edit writes another keepalived.conf, which the running keepalived does not read.
func edit(oldnew ...string) func(b *bench) error {
	return func(b *bench) error {
		text := strings.NewReplacer(oldnew...).Replace(b.config)
		if len(oldnew) > 0 && text == b.config {
			return fmt.Errorf("nothing is replaced by %q", oldnew)
		}
		return os.WriteFile(b.n.Path("/run/keepalived.conf"), []byte(text), 0o600)
	}
}

func ask(command ...string) func(b *bench) error {
	return func(b *bench) error {
		_, err := b.n.Ask(command...)
		return err
	}
}

// everySentinel gives a command to all.
func everySentinel(command ...string) func(b *bench) error {
	return func(b *bench) error {
		for _, n := range b.s.Nodes {
			if _, err := n.AskSentinel(command...); err != nil {
				return err
			}
		}
		return nil
	}
}

func sentinel(command ...string) func(b *bench) error {
	return func(b *bench) error {
		_, err := b.n.AskSentinel(command...)
		return err
	}
}

func write(path, text string, mode os.FileMode) func(b *bench) error {
	return func(b *bench) error {
		if err := os.WriteFile(b.n.Path(path), []byte(text), mode); err != nil {
			return err
		}
		return os.Chmod(b.n.Path(path), mode)
	}
}

func remove(path string) func(b *bench) error {
	return func(b *bench) error { return os.RemoveAll(b.n.Path(path)) }
}

func command(argv ...string) func(b *bench) error {
	return func(b *bench) error { return b.n.Run(argv...) }
}

// steps does one after the other.
func steps(all ...func(b *bench) error) func(b *bench) error {
	return func(b *bench) error {
		for _, do := range all {
			if err := do(b); err != nil {
				return err
			}
		}
		return nil
	}
}

func listed(b ...string) []string {
	return append([]string{"--sentinel", "10.0.0.1", "--sentinel", "10.0.0.2", "--sentinel", "10.0.0.3",
		"--sentinel-master"}, b...)
}

const vip = "10.0.0.100/32"

var breakages = []breakage{
	{name: "nothing listens", flags: []string{"-p", "6390"},
		id: "redis-reachable", state: doctor.Failed, says: "connection refused", hint: "is redis-server running"},
	{name: "Redis is stopped", replica: true,
		do:   func(b *bench) error { return b.n.Redis.Signal(syscall.SIGSTOP) },
		undo: func(b *bench) error { return b.n.Redis.Signal(syscall.SIGCONT) },
		id:   "redis-reachable", state: doctor.Failed, says: "no answer after", hint: "hung, stopped"},
	{name: "a wrong password", do: write("/run/wrong", "wrong\n", 0o600), flags: []string{"--password-file", "/run/wrong"},
		id: "redis-credentials", state: doctor.Failed, says: "wrong", hint: "requirepass"},
	{name: "a user without +subscribe",
		do: steps(ask("ACL", "SETUSER", "vipcheck", "on", ">vipcheck", "resetkeys", "resetchannels", "-@all", "+info"),
			write("/run/vipcheck", "vipcheck\n", 0o600)),
		flags: []string{"--user", "vipcheck", "--password-file", "/run/vipcheck"},
		id:    "redis-rights", state: doctor.Failed, says: "may not subscribe",
		hint: "redis-cli ACL SETUSER vipcheck +subscribe '&__sentinel__:hello'", mend: true},
	{name: "a user that may not ask for the settings, where redis.conf has them",
		flags: []string{"--user", "vipcheck", "--password-file", "/run/vipcheck"},
		id:    "redis-min-replicas", state: doctor.OK, says: "by /run/redis/redis.conf"},
	{name: "a user without +info", do: ask("ACL", "SETUSER", "vipcheck", "-info"),
		undo:  ask("ACL", "DELUSER", "vipcheck"),
		flags: []string{"--user", "vipcheck", "--password-file", "/run/vipcheck"},
		id:    "redis-rights", state: doctor.Failed, says: "may not run INFO", hint: "ACL SETUSER vipcheck +info",
		mend: true},
	{name: "a link that is down", replica: true,
		do:   steps(ask("CONFIG", "SET", "masterauth", "wrong"), ask("CLIENT", "KILL", "TYPE", "master"), linkIs("down")),
		undo: steps(ask("CONFIG", "SET", "masterauth", lab.SitePassword), linkIs("up")),
		id:   "redis-role", state: doctor.Failed, says: "whose link to", hint: "masterauth"},
	{name: "nothing is saved", do: ask("CONFIG", "SET", "appendonly", "no"), undo: ask("CONFIG", "SET", "appendonly",
		"yes"),
		id: "redis-persistence", state: doctor.Warning, says: "comes back empty", hint: "CONFIG SET appendonly yes",
		mend: true},
	{name: "no min-replicas", do: ask("CONFIG", "SET", "min-replicas-to-write", "0"),
		undo: ask("CONFIG", "SET", "min-replicas-to-write", "1"),
		id:   "redis-min-replicas", state: doctor.Warning, says: "min-replicas-to-write is 0", hint: "CONFIG SET",
		mend: true},
	{name: "too few replicas", do: ask("CONFIG", "SET", "min-replicas-to-write", "3"),
		undo: ask("CONFIG", "SET", "min-replicas-to-write", "1"),
		id:   "redis-min-replicas", state: doctor.Failed, says: "refuses writes", hint: "start the replicas"},

	{name: "a Sentinel is gone", do: func(b *bench) error { other(b, 0).Sentinel.Kill(); return nil },
		id: "sentinels-reachable", state: doctor.Warning, says: "1 of 3 do not answer", hint: "redis-sentinel"},
	{name: "two Sentinels are gone", do: func(b *bench) error { other(b, 1).Sentinel.Kill(); return nil },
		id: "sentinels-reachable", state: doctor.Failed, says: "2 of 3 do not answer", hint: "redis-sentinel"},
	{name: "too few for a failover", undo: startSentinels, id: "sentinels-ckquorum", state: doctor.Failed,
		says: "reaches too few", hint: "26379"},
	{name: "a user without rights at the Sentinels",
		do: steps(everySentinel("ACL", "SETUSER", "doc", "on", ">doc", "-@all", "+info", "+auth"),
			write("/run/doc", "doc\n", 0o600)),
		flags: []string{"--sentinel-user", "doc", "--sentinel-password-file", "/run/doc"},
		id:    "sentinels-rights", state: doctor.Failed, says: "+sentinel|master", hint: "+sentinel|master", mend: true,
		undo: everySentinel("ACL", "DELUSER", "doc")},
	{name: "another name", flags: listed("other"),
		id: "sentinels-name", state: doctor.Failed, says: "does not know the name other, but mymaster",
		hint: "--sentinel-master"},
	{name: "a node that they do not know", flags: listed("mymaster", "-p", "6390"),
		do: func(b *bench) error {
			p := b.n.Process("redis-server", "--port", "6390", "--requirepass", lab.SitePassword, "--bind", "*",
				"--dir", "/run", "--save", "")
			b.more = append(b.more, p)
			return errors.Join(p.Start(), lab.Wait("the stray node listens", func() (bool, error) {
				c, err := b.n.Namespace.Dial("tcp", "127.0.0.1:6390", lab.Patience)
				if err != nil {
					return false, nil
				}
				return true, c.Close()
			}))
		},
		id: "sentinels-node", state: doctor.Failed, says: "has not met this node", hint: "REPLICAOF"},
	{name: "a quorum that is no majority", do: everySentinel("SENTINEL", "SET", lab.MasterName, "quorum", "1"),
		undo: everySentinel("SENTINEL", "SET", lab.MasterName, "quorum", "2"),
		id:   "sentinels-quorum", state: doctor.Failed, says: "no majority of 3", hint: "SENTINEL SET mymaster quorum 2",
		mend: true},
	{name: "a short down-after", do: everySentinel("SENTINEL", "SET", lab.MasterName, "down-after-milliseconds", "1500"),
		undo: everySentinel("SENTINEL", "SET", lab.MasterName, "down-after-milliseconds", "5000"),
		id:   "sentinels-down-after", state: doctor.Warning, says: "is 1500", hint: "down-after-milliseconds 2000",
		mend: true},
	{name: "other settings at one", do: sentinel("SENTINEL", "SET", lab.MasterName, "failover-timeout", "20000"),
		undo: everySentinel("SENTINEL", "SET", lab.MasterName, "failover-timeout", "10000"),
		id:   "sentinels-settings", state: doctor.Failed, says: "failover-timeout of mymaster is",
		hint: "the same at every Sentinel", mend: true},

	{name: "the daemon is dead", replica: true, do: func(b *bench) error { b.n.Daemon.Kill(); return nil },
		id: "daemon-socket", state: doctor.Failed, says: "connection refused", hint: "systemctl start redis-is-masterd"},
	{name: "a dead daemon's yes", replica: true, do: write(lab.TrackFile, "1\n", 0o644),
		undo: startDaemon,
		id:   "daemon-track-file", state: doctor.Failed, says: "says yes, and no daemon answers", hint: "echo 0 >"},
	{name: "the daemon is stopped", replica: true,
		do:   func(b *bench) error { return b.n.Daemon.Signal(syscall.SIGSTOP) },
		undo: func(b *bench) error { return b.n.Daemon.Signal(syscall.SIGCONT) },
		id:   "daemon-socket", state: doctor.Failed, says: "no answer after", hint: "systemctl restart"},
	{name: "another file", replica: true, do: write("/run/other", "1\n", 0o644), flags: []string{"--track-file",
		"/run/other"},
		id: "daemon-track-file", state: doctor.Failed, says: `holds "1", and the answer is no`, hint: "log"},
	{name: "a node that was taken out", replica: true, do: write("/run/redis-is-master/disabled", "for the test\n", 0o644),
		undo: remove("/run/redis-is-master/disabled"),
		id:   "daemon-answer", state: doctor.Warning, says: "for the test", hint: "remove the file"},
	{name: "a closed directory", do: command("chmod", "0700", lab.DaemonDir), undo: command("chmod", "0755",
		lab.DaemonDir),
		id: "daemon-directory", state: doctor.Failed, says: "others cannot enter", hint: "chmod 0755", mend: true},

	{name: "a program that anyone can write", do: command("chmod", "0777", hookProgram),
		undo: command("chmod", "0755", hookProgram),
		id:   "daemon-exec", state: doctor.Failed, says: "others can write", hint: "chmod go-w " + hookProgram, mend: true},
	{name: "a program that is not executable", do: command("chmod", "0644", hookProgram),
		undo: command("chmod", "0755", hookProgram),
		id:   "daemon-exec", state: doctor.Failed, says: "not executable", hint: "chmod +x " + hookProgram, mend: true},
	{name: "a program of another user", do: command("chown", "nobody", hookProgram),
		undo: command("chown", "root", hookProgram),
		id:   "daemon-exec", state: doctor.Failed, says: "another user", hint: "chown root " + hookProgram, mend: true},
	{name: "a program in a closed directory", do: steps(systemd("User=nobody"), command("chmod", "0700", "/run/bin")),
		undo: steps(command("chmod", "0755", "/run/bin"), remove("/run/systemd"), remove("/usr/local/bin/systemctl")),
		id:   "daemon-exec", state: doctor.Failed, says: "the user nobody may not run it",
		hint: "chmod a+x /usr/local/bin", mend: true},
	{name: "a program that is not there", flags: []string{"--exec", "/usr/local/bin/none"},
		id: "daemon-exec", state: doctor.Failed, says: "no such file", hint: "put it there"},
	{name: "a program that fails", replica: true, do: steps(write("/run/refused", "", 0o644),
		func(b *bench) error { b.n.Daemon.Kill(); return nil }, startDaemon),
		undo: remove("/run/refused"),
		id:   "daemon-exec", state: doctor.Failed, says: "exit status 1", hint: "runs it again"},

	{name: "a line that fails open", do: edit("weight 0 reverse", "weight 0"), undo: edit(),
		id: "keepalived-lint", state: doctor.Failed, says: "0 or a missing file a yes", hint: "weight 0 reverse"},
	{name: "no script security", do: edit("enable_script_security", ""), undo: edit(),
		id: "keepalived-security", state: doctor.Failed, says: "as root", hint: "add enable_script_security"},
	{name: "a script that may not ask", do: command("chmod", "0660", lab.DaemonSocket),
		undo: command("chmod", "0666", lab.DaemonSocket),
		id:   "keepalived-script-user", state: doctor.Failed, says: "nobody, who runs the script", hint: "script_user"},
	{name: "no refresh", do: edit("garp_master_refresh 60", ""), undo: edit(),
		id: "keepalived-garp", state: doctor.Warning, says: "misses the announcement", hint: "garp_master_refresh 60"},
	{name: "the VIP has the length of the network", do: edit("10.0.0.100/32", "10.0.0.100/24"), undo: edit(),
		id: "keepalived-prefix", state: doctor.Warning, says: "can become the source", hint: "write 10.0.0.100/32"},
	{name: "a firewall", replica: true,
		do: command("nft", "add table inet fw; add chain inet fw in { type filter hook input priority 0; }; "+
			"add rule inet fw in ip protocol 112 drop"),
		undo: command("nft", "delete table inet fw"),
		id:   "keepalived-vrrp", state: doctor.Failed, says: "its firewall drops them", hint: "protocol 112 accept"},
	{name: "a replica that has the VIP, too", replica: true, do: command("ip", "addr", "add", vip, "dev", "eth0"),
		undo: command("ip", "addr", "del", vip, "dev", "eth0"),
		id:   "keepalived-vip", state: doctor.Failed, says: "this host has 10.0.0.100, and so has",
		hint: "ip address del 10.0.0.100/32 dev eth0"},
	{name: "a second holder, seen from the master", do: func(b *bench) error {
		return other(b, 0).Run("ip", "addr",
			"add", vip, "dev", "eth0")
	},
		undo: func(b *bench) error { return other(b, 0).Run("ip", "addr", "del", vip, "dev", "eth0") },
		id:   "keepalived-vip", state: doctor.Failed, says: "and so has", hint: "ip address del"},
	{name: "keepalived does not run", replica: true,
		do:   func(b *bench) error { b.n.Keepalived.Stop(); return nil },
		undo: func(b *bench) error { return b.n.Keepalived.Start() },
		id:   "keepalived-running", state: doctor.Failed, says: "does not run", hint: "systemctl enable --now keepalived"},

	{name: "networkd removes the VIP",
		do: steps(command("mkdir", "-p", "/run/systemd/network"),
			write("/run/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\n", 0o644)),
		undo: remove("/run/systemd"),
		id:   "host-networkd", state: doctor.Warning, says: "removes the VIP", hint: "KeepConfiguration=static"},
	{name: "proxy ARP", do: command("sysctl", "-w", "net.ipv4.conf.eth0.proxy_arp=1"),
		undo: command("sysctl", "-w", "net.ipv4.conf.eth0.proxy_arp=0"),
		id:   "host-proxy-arp", state: doctor.Failed, says: "net.ipv4.conf.eth0.proxy_arp is 1", hint: "sysctl -w",
		mend: true},
	{name: "nothing listens on the VIP", replica: true, do: ask("CONFIG", "SET", "bind", "127.0.0.1"),
		undo: ask("CONFIG", "SET", "bind", "* -::*"),
		id:   "host-listen", state: doctor.Failed, says: "nothing listens on 10.0.0.100:6379", hint: "bind '* -::*'",
		mend: true},
	{name: "a unit that is not active", do: systemd("ActiveState=failed", "Result=exit-code"),
		id: "daemon-unit", state: doctor.Failed, says: "is failed (exit-code)",
		hint: "systemctl enable --now redis-is-masterd.service"},
	{name: "a unit that does not start at boot", do: systemd("UnitFileState=disabled"),
		id: "daemon-unit", state: doctor.Warning, says: "not started at boot", hint: "systemctl enable"},
	{name: "no unit", do: systemd("LoadState=not-found"),
		id: "daemon-unit", state: doctor.Warning, says: "runs without a unit", hint: "install the package"},
	{name: "no watchdog", do: systemd("WatchdogUSec=0"),
		id: "daemon-watchdog", state: doctor.Warning, says: "no watchdog", hint: "WatchdogSec=3s"},
	{name: "a hasty watchdog", do: systemd("WatchdogUSec=500ms"),
		id: "daemon-watchdog", state: doctor.Failed, says: "kills a healthy daemon", hint: "WatchdogSec=1.2s"},
	{name: "no tmpfiles", do: systemd(),
		id: "daemon-directory", state: doctor.Warning, says: "nothing makes /run/redis-is-master at boot",
		hint: "/etc/tmpfiles.d/redis-is-master.conf"},
	{name: "a password file of root's", do: systemd("User=nobody"),
		undo: steps(remove("/run/systemd"), remove("/usr/local/bin/systemctl")),
		id:   "redis-credentials", state: doctor.Failed, says: "not readable by the user nobody",
		hint: "chown nobody /run/password"},

	{name: "HAProxy without a check", do: proxy("option httpchk GET /master", "", "check port 9736", ""),
		id: "haproxy-check", state: doctor.Failed, says: "backend master", hint: "option httpchk"},
	{name: "HAProxy with an agent alone", do: proxy("    option httpchk GET /master", "", "http-check", "#"),
		id: "haproxy-check", state: doctor.Failed, says: "agent-check alone", hint: "option httpchk"},
	{name: "HAProxy with a tcp-check", do: proxy("option httpchk GET /master",
		"option tcp-check\n    tcp-check expect string role:master", "http-check", "#", "agent-check", "",
		"agent-port 9737", "",
		"agent-inter 100ms", "", "agent-addr", "#"),
		id: "haproxy-check", state: doctor.Warning, says: "every role:master", hint: "option httpchk"},
	{name: "HAProxy that keeps old sessions", do: proxy("on-marked-down shutdown-sessions", ""),
		id: "haproxy-sessions", state: doctor.Warning, says: "old connections", hint: "shutdown-sessions"},
	{name: "HAProxy refuses its file", do: proxy("balance leastconn", "balance nonsense"),
		id: "haproxy-config", state: doctor.Failed, says: "see /run/haproxy.cfg:", hint: "haproxy -c -f"},
	{name: "HAProxy is well", do: proxy(), undo: endMore,
		id: "haproxy-check", state: doctor.OK, says: "ask the daemon"},

	{name: "another cluster with the same number", replica: true, do: func(b *bench) error {
		h, err := b.s.AddHost("foreign")
		if err != nil {
			return err
		}
		p := h.Process("keepalived", "--dont-fork", "--log-console", "--no-syslog", "--vrrp", "--use-file",
			"/run/keepalived.conf", "--config-id", "foreign")
		b.more = append(b.more, p)
		return errors.Join(os.WriteFile(h.Path("/run/keepalived.conf"), []byte(foreign), 0o600), p.Start())
	}, undo: endMore,
		id: "keepalived-router-id", state: doctor.Failed, says: "with other addresses: 10.0.0.99", hint: "virtual_router_id"},
	{name: "nobody holds the VIP", replica: true, do: func(b *bench) error {
		for _, n := range b.s.Nodes {
			if n != b.n {
				n.Keepalived.Stop()
			}
		}
		return nil
	}, undo: func(b *bench) error {
		return errors.Join(other(b, 0).Keepalived.Start(), other(b, 1).Keepalived.Start())
	}, id: "keepalived-vrrp", state: doctor.Failed, says: "although there is a master", hint: "protocol 112"},
	{name: "a Sentinel in TILT", do: func(b *bench) error {
		n := other(b, 0)
		if err := n.Sentinel.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		stopped := time.Now()
		err := lab.Wait("its clock seems to jump", func() (bool, error) {
			return time.Since(stopped) > 2500*time.Millisecond, nil
		})
		return errors.Join(err, n.Sentinel.Signal(syscall.SIGCONT))
	}, id: "sentinels-tilt", state: doctor.Warning, says: "is in TILT", hint: "wait 30 s"},
	{name: "a replica that announces what nobody reaches", do: func(b *bench) error {
		_, err := other(b, 0).Ask("CONFIG", "SET", "replica-announce-port", "6399")
		if err == nil {
			_, err = b.n.Ask("CLIENT", "KILL", "TYPE", "replica")
		}
		return err
	}, undo: func(b *bench) error {
		_, err := other(b, 0).Ask("CONFIG", "SET", "replica-announce-port", "0")
		return err
	}, id: "redis-announce", state: doctor.Failed, says: ":6399 cannot be reached", hint: "replica-announce-port"},
	{name: "the VIP is bound by name", replica: true,
		do: steps(command("sysctl", "-w", "net.ipv4.ip_nonlocal_bind=1"),
			ask("CONFIG", "SET", "bind", "127.0.0.1 10.0.0.100"),
			command("sysctl", "-w", "net.ipv4.ip_nonlocal_bind=0")),
		undo: ask("CONFIG", "SET", "bind", "* -::*"),
		id:   "host-bind", state: doctor.Failed, says: "has bind 10.0.0.100", hint: "net.ipv4.ip_nonlocal_bind=1"},
}

func linkIs(state string) func(b *bench) error {
	return func(b *bench) error {
		return lab.Wait("the link is "+state, func() (bool, error) {
			info, err := b.n.Ask("INFO", "replication")
			return strings.Contains(info, "master_link_status:"+state), err
		})
	}
}

// foreign is the configuration of another cluster.
const foreign = `global_defs {
    vrrp_version 3
}
vrrp_instance other {
    state MASTER
    priority 90
    interface eth0
    virtual_router_id 51
    advert_int 0.05
    virtual_ipaddress {
        10.0.0.99/32
    }
}
`

// systemd lets the doctor see a systemd that says of the unit that it is well, but
// for some properties.
func systemd(but ...string) func(b *bench) error {
	all := append([]string{"LoadState=loaded", "ActiveState=active", "Result=success", "UnitFileState=enabled",
		"NRestarts=0", "NeedDaemonReload=no", "WatchdogUSec=3s", "User=root"}, but...)
	return steps(command("mkdir", "-p", "/run/systemd/system"),
		write("/usr/local/bin/systemctl", "#!/bin/sh\nprintf '%s\\n' '"+strings.Join(all, "' '")+"'\n", 0o755))
}

// proxy runs HAProxy, by the configuration of this project with ports of its own,
// and then changes its file.
func proxy(oldnew ...string) func(b *bench) error {
	return func(b *bench) error {
		text, err := os.ReadFile("../../../docker/haproxy.cfg")
		if err != nil {
			return err
		}
		good := strings.NewReplacer("bind :6379", "bind :7379", "bind :6380", "bind :7380").Replace(string(text))
		if !slices.ContainsFunc(b.more, func(p *lab.Process) bool { return strings.HasSuffix(p.Name, "haproxy") }) {
			p, err := lab.HAProxy(b.n.Host, good)
			if err != nil {
				return err
			}
			b.more = append(b.more, p)
			err = errors.Join(p.Start(), lab.Wait("HAProxy listens", func() (bool, error) {
				c, err := b.n.Namespace.Dial("tcp", "127.0.0.1:7379", lab.Patience)
				if err != nil {
					return false, nil
				}
				return true, c.Close()
			}))
			if err != nil {
				return err
			}
		}
		bad := strings.NewReplacer(oldnew...).Replace(good)
		if len(oldnew) > 0 && bad == good {
			return fmt.Errorf("nothing is replaced by %q", oldnew)
		}
		return os.WriteFile(b.n.Path("/run/haproxy.cfg"), []byte(bad), 0o600)
	}
}

// endMore ends what a breakage has started.
func endMore(b *bench) error {
	for _, p := range b.more {
		p.Kill()
	}
	b.more = nil
	return nil
}

// startSentinels starts those that were ended, and waits until all know each other.
func startSentinels(b *bench) error {
	for _, n := range b.s.Nodes {
		if err := n.Sentinel.Start(); err != nil {
			return err
		}
	}
	return lab.Wait("all Sentinels can fail over", func() (bool, error) {
		for _, n := range b.s.Nodes {
			if _, err := n.AskSentinel("SENTINEL", "CKQUORUM", lab.MasterName); err != nil {
				return false, nil
			}
		}
		return true, nil
	})
}

// startDaemon starts it, and waits until it answers.
func startDaemon(b *bench) error {
	return errors.Join(b.n.Daemon.Start(), lab.Wait("the daemon answers", func() (bool, error) {
		_, err := b.n.Document()
		return err == nil, nil
	}))
}

// master is the node that is one, whether or not all Sentinels live.
func master(t *testing.T, s *lab.Site) (m *lab.Node) {
	t.Helper()
	lab.Check(t, lab.Wait("there is one master", func() (bool, error) {
		count := 0
		for _, n := range s.Nodes {
			if info, _ := n.Ask("INFO", "replication"); strings.Contains(info, "role:master") {
				m = n
				count++
			}
		}
		return count == 1, nil
	}))
	return m
}

// other is one of the nodes that are not looked at.
func other(b *bench, i int) *lab.Node { return b.s.Others(b.n)[i] }

// mend runs what the doctor prints, as an administrator of Redis, and waits for the
// tick.
func mend(t *testing.T, at *bench, b breakage, d document) error {
	t.Helper()
	for _, r := range d.Checks {
		if r.ID != b.id || r.State == doctor.OK {
			continue
		}
		argv := []string{"env", "REDISCLI_AUTH=" + lab.SitePassword, "sh", "-ec", r.Run}
		if strings.Contains(r.Run, "26379") { // the Sentinels have none
			argv = argv[2:]
		}
		out, err := at.n.Output(argv...)
		if err != nil || strings.Contains(out, "ERR") || r.Run == "" {
			return fmt.Errorf("%s: %v %s", r.Run, err, out)
		}
	}
	return lab.Wait("it is mended", func() (bool, error) {
		for _, r := range examine(t, at.n, b.flags...).Checks {
			if r.ID == b.id && r.State != doctor.OK {
				return false, nil
			}
		}
		return true, nil
	})
}

// TestBroken breaks one thing after the other on a site that is well, and looks
// for the line that names it.
func TestBroken(t *testing.T) {
	t.Parallel()
	s := start(t)
	config, err := lab.Profile("../../../keepalived/track-file.conf")
	lab.Check(t, err)
	at := &bench{s: s, config: config}
	t.Cleanup(func() { endMore(at) })
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			began := time.Now()
			defer func() { t.Logf("%v", time.Since(began)) }()
			n := master(t, s)
			if b.replica {
				n = s.Others(n)[0]
			}
			at.n = n
			if b.do != nil {
				lab.Check(t, b.do(at))
			}
			if b.undo != nil {
				defer func() { lab.Check(t, b.undo(at)) }()
			}
			var last document
			err := lab.Wait("the line is there", func() (bool, error) {
				last = examine(t, n, b.flags...)
				return slices.ContainsFunc(last.Checks, func(r doctor.Result) bool {
					return r.ID == b.id && r.State == b.state && strings.Contains(r.Detail, b.says) &&
						strings.Contains(r.Hint+"\n"+r.Run, b.hint)
				}), nil
			})
			if err == nil && b.mend {
				err = mend(t, at, b, last)
			}
			if err != nil {
				t.Errorf("%v: %s of %s with %q and %q, but %+v", err, b.state, b.id, b.says, b.hint, last.unwell())
			}
		})
	}
}
