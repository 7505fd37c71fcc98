package doctor

import (
	"regexp"
	"slices"
	"strings"
)

var haproxyChecks = []Check{
	{
		ID: "haproxy-config", Group: GroupHAProxy,
		About: "HAProxy accepts its configuration, and runs. It is looked at only where it leads to Redis.",
		judge: proxied(func(f Facts) []Result {
			h := f.HAProxy
			switch {
			case h.Invalid != "":
				return fail("haproxy -c -f "+h.File, "HAProxy refuses %s: %s", h.File, h.Invalid)
			case h.CheckErr != "":
				return warn("haproxy -c -f "+h.File, "%s could not be checked: %s", h.File, h.CheckErr)
			case !h.Running:
				return warn("systemctl enable --now haproxy", "HAProxy does not run")
			}
			return tick("%s", h.File)
		}),
	},
	{
		ID: "haproxy-check", Group: GroupHAProxy,
		About: "Every backend of Redis asks the daemon, by option httpchk. A tcp-check for role:master believes an old " +
			"master for 11 seconds; an agent without httpchk keeps the last word of a daemon that is dead; without check " +
			"HAProxy sends to every node.",
		judge: proxied(func(f Facts) []Result {
			for _, b := range backends(f.HAProxy.Text) {
				switch {
				case !b.check:
					return fail("write option httpchk GET /master, and check port 9736 on each server; see docker/haproxy.cfg",
						"backend %s does not check its servers", b.name)
				case b.agent && !b.http:
					return fail("add option httpchk GET /master, and check port 9736",
						"backend %s has an agent-check alone, which keeps the last word of a dead daemon", b.name)
				case !b.http && b.tcp:
					return warn("use option httpchk GET /master, and check port 9736",
						"backend %s believes every role:master, also that of an old master", b.name)
				case !b.http:
					return fail("write option httpchk GET /master, and check port 9736 on each server",
						"backend %s asks no node for its role", b.name)
				}
			}
			return tick("all backends ask the daemon")
		}),
	},
	{
		ID: "haproxy-sessions", Group: GroupHAProxy,
		About: "The backend of the master has on-marked-down shutdown-sessions: else old connections stay on the node " +
			"that is master no more.",
		judge: proxied(func(f Facts) []Result {
			for _, b := range backends(f.HAProxy.Text) {
				if b.http && !b.shutdown {
					return warn("add on-marked-down shutdown-sessions to default-server",
						"backend %s leaves old connections on a node that is master no more", b.name)
				}
			}
			return tick("they end with the role")
		}),
	},
}

// proxied judges only where HAProxy leads to Redis.
func proxied(judge func(Facts) []Result) func(Facts) []Result {
	return func(f Facts) []Result {
		if f.HAProxy.FileErr != "" && f.HAProxy.Running {
			return warn("run it as root", "%s could not be read: %s", f.HAProxy.File, f.HAProxy.FileErr)
		}
		if len(backends(f.HAProxy.Text)) == 0 {
			return off
		}
		return judge(f)
	}
}

// A backend is a section of haproxy.cfg with servers of Redis, and how it finds
// out which of them is the master.
type backend struct {
	name                              string
	redis                             bool
	check, http, tcp, agent, shutdown bool
}

var portOfRedis = regexp.MustCompile(`:(6379|6380|16379)$`)

// backends reads the sections of haproxy.cfg that lead to Redis: by the port of a
// server, or by what they ask.
//
// Format: https://docs.haproxy.org/2.6/configuration.html#4 .
func backends(text string) []backend {
	var all []backend
	var defaults, now backend
	section := ""
	end := func() {
		if section == "defaults" {
			defaults = now
		} else if (section == "backend" || section == "listen") && now.redis {
			all = append(all, now)
		}
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist":
			end()
			section, now = words[0], backend{}
			if section == "backend" || section == "listen" {
				now = defaults
			}
			if len(words) > 1 {
				now.name = words[1]
			}
			continue
		}
		has := func(word string) bool { return slices.Contains(words, word) }
		switch {
		case words[0] == "server" || words[0] == "default-server":
			now.check = now.check || has("check")
			now.agent = now.agent || has("agent-check")
			now.shutdown = now.shutdown || has("shutdown-sessions")
			now.redis = now.redis || words[0] == "server" && len(words) > 2 && portOfRedis.MatchString(words[2])
		case words[0] == "option" && has("httpchk"):
			now.http = true
		case words[0] == "tcp-check" && strings.Contains(line, "role:master"):
			now.tcp, now.redis = true, true
		case words[0] == "option" && has("redis-check"):
			now.redis = true
		}
	}
	end()
	return all
}
