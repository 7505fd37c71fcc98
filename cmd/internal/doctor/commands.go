package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// What only the operator knows is a variable of the shell in a command: run without
// it, the command does nothing, and says which is missing.
const (
	theMaster    = "${MASTER:?the address of the master}"
	theInterface = "${INTERFACE:?of the VIP}"
	theVIP       = "${VIP:?the virtual IP}"
)

// start is a command that starts a server of this host, or installs it; empty where
// there is none.
func (h Host) start(unit, program string) string {
	if unit != "" {
		return "systemctl enable --now " + unit
	}
	if _, err := exec.LookPath(program); err == nil || !h.Apt {
		return ""
	}
	return "apt-get install -y " + program // which starts it
}

// own reports whether an address is one of this host.
func (h Host) own(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsLoopback() || slices.Contains(h.Addresses, a))
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// hasFile reports whether the password of the default user stands in a file.
func (r Redis) hasFile() bool { return r.Password != "" && r.Password != "-" && r.User == "default" }

// words begin each command to the node.
func (r Redis) words() string {
	words := "redis-cli"
	if host, port, err := net.SplitHostPort(r.Address); err != nil {
		words += " -s " + quote(r.Address)
	} else if host != "127.0.0.1" || port != "6379" {
		words += " -h " + quote(host) + " -p " + quote(port)
	}
	if r.TLS {
		words += " --tls"
	}
	return words
}

// authenticated are words with the password, which ps does not show.
func (r Redis) authenticated() string {
	if !r.hasFile() {
		return r.words()
	}
	return `REDISCLI_AUTH="$(cat ` + quote(r.Password) + `)" ` + r.words()
}

// tell gives the password of the file to a command as its last word, unseen.
func (r Redis) tell(words string) string { return `tr -d '\n' <` + quote(r.Password) + " | " + words }

// cli is a shell command that gives commands to the node, one after the other. The
// password is read from its file; a user without administration needs another's.
func (r Redis) cli(commands ...string) string {
	return chain(r.authenticated(), commands)
}

// secure sets the password of the file where Redis has none.
func (r Redis) secure() string {
	if !r.hasFile() {
		return ""
	}
	return r.tell(r.words()+" -x CONFIG SET masterauth") + " && " + r.tell(r.words()+" -x CONFIG SET requirepass") +
		" && " + r.cli("CONFIG REWRITE")
}

// follow gives the password of the file to the replication.
func (r Redis) follow() string {
	if !r.hasFile() {
		return ""
	}
	return r.tell(r.authenticated()+" -x CONFIG SET masterauth") + " && " + r.cli("CONFIG REWRITE")
}

// cli is the same for each of the Sentinels.
func (s Sentinels) cli(command string) string {
	var all []string
	for _, one := range s.All {
		all = append(all, chain(s.words(one), []string{command}))
	}
	return strings.Join(all, "; ")
}

// words begin each command to a Sentinel.
func (s Sentinels) words(one Sentinel) string {
	host, port, _ := net.SplitHostPort(one.Address)
	words := "redis-cli -h " + quote(host) + " -p " + quote(port)
	if s.Password != "" && s.User == "default" {
		words = `REDISCLI_AUTH="$(cat ` + quote(s.Password) + `)" ` + words
	}
	return words
}

// monitor makes a Sentinel watch another master than it does.
func (s Sentinels) monitor(one Sentinel, r Redis, master string) string {
	host, port := theMaster, "6379"
	if h, p, err := net.SplitHostPort(master); err == nil {
		host, port = quote(h), quote(p)
	}
	name := quote(s.Name)
	words := s.words(one)
	command := fmt.Sprintf("%s SENTINEL REMOVE %s; %s SENTINEL MONITOR %s %s %s %d", words, quote(one.Report.Name), words,
		name, host, port, max(2, len(s.All)/2+1))
	if r.hasFile() {
		command += " && " + r.tell(words+" -x SENTINEL SET "+name+" auth-pass")
	}
	return command
}

func chain(program string, commands []string) string {
	var all []string
	for _, c := range commands {
		all = append(all, program+" "+c)
	}
	return strings.Join(all, " && ")
}

// quote makes a path one word of a shell.
func quote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-@:+", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
