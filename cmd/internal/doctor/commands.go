package doctor

import (
	"net"
	"strings"
)

// cli is a shell command that gives commands to the node, one after the other. The
// password is read from its file; a user without administration needs another's.
func (r Redis) cli(commands ...string) string {
	words := "redis-cli"
	if host, port, err := net.SplitHostPort(r.Address); err != nil {
		words += " -s " + quote(r.Address)
	} else if host != "127.0.0.1" || port != "6379" {
		words += " -h " + quote(host) + " -p " + quote(port)
	}
	if r.TLS {
		words += " --tls"
	}
	if r.Password != "" && r.Password != "-" && r.User == "default" {
		words = `REDISCLI_AUTH="$(cat ` + quote(r.Password) + `)" ` + words
	}
	return chain(words, commands)
}

// cli is the same for each of the Sentinels.
func (s Sentinels) cli(command string) string {
	var all []string
	for _, one := range s.All {
		host, port, _ := net.SplitHostPort(one.Address)
		words := "redis-cli -h " + quote(host) + " -p " + quote(port)
		if s.Password != "" && s.User == "default" {
			words = `REDISCLI_AUTH="$(cat ` + quote(s.Password) + `)" ` + words
		}
		all = append(all, chain(words, []string{command}))
	}
	return strings.Join(all, "; ")
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
