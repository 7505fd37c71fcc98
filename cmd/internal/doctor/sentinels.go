package doctor

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/sentinel/watch"
)

const rights = "as a user who may, at every Sentinel"

// allow grants at every Sentinel what the daemon and the doctor need.
func (s Sentinels) allow() string {
	return s.cli(grant(watch.SentinelGrant+" +sentinel|ckquorum", s.User))
}

var sentinelChecks = []Check{
	{
		ID: "sentinels-known", Group: GroupSentinels,
		About: "At least three Sentinels are known, by --sentinel, by the daemon, by their hellos on this node, or by " +
			"each other. With two, the loss of one ends every failover; with one there is nobody to agree with.",
		judge: func(f Facts) []Result {
			s := f.Sentinels
			var all []string
			for _, one := range s.All {
				all = append(all, one.Address+" ("+strings.Join(one.From, ", ")+")")
			}
			list := strings.Join(all, ", ")
			switch {
			case len(s.All) == 0 && s.Off:
				return tick("none, as --hello off says")
			case len(s.All) == 0:
				return by(f.startSentinel(),
					fail("start redis-sentinel on three hosts, or give --hello off where there are to be none",
						"none is known%s", clause(s.Trouble)))
			case len(s.All) < 3:
				return by(f.startSentinel(), warn("start redis-sentinel on one more host, with the same sentinel monitor line",
					"only %d, so that the loss of one ends every failover: %s", len(s.All), list))
			}
			return tick("%d: %s", len(s.All), list)
		},
	},
	{
		ID: "sentinels-reachable", Group: GroupSentinels,
		About: "Every known Sentinel answers this host within a second. A failover needs a majority of all that are " +
			"known, also of those that are gone for good and were never forgotten.",
		judge: asked(func(f Facts) []Result {
			var gone []string
			hint, command := "", ""
			for _, one := range f.Sentinels.All {
				if e := cause(one.Err); e != nil && !refusal(e) {
					gone, hint = append(gone, e.Error()), hintOf(e, "start redis-sentinel there")
					if e.Reason == checker.ReasonRefused && f.Host.own(one.Address) {
						command = f.Host.openSentinel()
					}
				}
			}
			n := len(f.Sentinels.All)
			hint += "; one that is gone for good is forgotten by redis-cli -p 26379 SENTINEL RESET at the others, " +
				"one after the other and 30 s apart"
			switch {
			case len(gone) == 0:
				return tick("all %d answer", n)
			case 2*(n-len(gone)) <= n:
				return by(command, fail(hint, "%d of %d do not answer, so there can be no failover: %s", len(gone), n,
					strings.Join(gone, "; ")))
			}
			return by(command, warn(hint, "%d of %d do not answer: %s", len(gone), n, strings.Join(gone, "; ")))
		}),
	},
	{
		ID: "sentinels-rights", Group: GroupSentinels,
		About: "The Sentinels let the daemon in and let it ask: SENTINEL MASTER, REPLICAS, MYID and " +
			"IS-MASTER-DOWN-BY-ADDR, INFO, and the subscription to their events. INFO alone tells where the master is, and " +
			"no more.",
		judge: asked(func(f Facts) []Result {
			for _, one := range f.Sentinels.All {
				if e := cause(one.Err); e != nil && refusal(e) {
					hint := hintOf(e, "see --sentinel-user and --sentinel-password-file")
					if e.Reason == checker.ReasonAuth {
						hint = "see --sentinel-user and --sentinel-password-file"
					}
					bad := fail(hint, "%s", e)
					if e.Reason == checker.ReasonPermission {
						bad = by(f.Sentinels.allow(), bad)
					}
					return bad
				}
			}
			for _, one := range f.Sentinels.All {
				if len(one.Refused) > 0 {
					return by(f.Sentinels.allow(),
						fail(rights, "%s refuses this user: %s", one.Address, strings.Join(one.Refused, " ")))
				}
			}
			return reached(f, func(all []Sentinel) []Result { return tick("%d let this user ask", len(all)) })
		}),
	},
	{
		ID: "sentinels-name", Group: GroupSentinels,
		About: "All Sentinels know the master by the same name, which is that of --sentinel-master where it is given, and " +
			"they name the same node.",
		judge: asked(func(f Facts) []Result {
			return reached(f, func(all []Sentinel) []Result {
				name := f.Sentinels.Name
				if name == "" {
					return fail("redis-cli -p 26379 SENTINEL MONITOR mymaster ADDRESS 6379 2, at every Sentinel",
						"no Sentinel watches this node")
				}
				master, by := "", ""
				if bad := f.loopback(all); bad != nil {
					return bad
				}
				for _, one := range all {
					r := one.Report
					switch {
					case r == nil || r.Err != nil:
						return fail("write the same name into sentinel monitor of every Sentinel, and into --sentinel-master",
							"%s does not know the name %s, but %s", one.Address, name, listOr(one.Names, "none"))
					case master == "":
						master, by = r.Master, one.Address
					case r.Master != master:
						return fail("wait: they agree some seconds after a failover; else redis-cli -p 26379 SENTINEL RESET "+
							name+" at the one that is wrong",
							"%s names %s, and %s names %s", by, master, one.Address, r.Master)
					}
				}
				return tick("%s is %s", name, master)
			})
		}),
	},
	{
		ID: "sentinels-node", Group: GroupSentinels,
		About: "The Sentinels know this node: as the master that they name, or as one of its replicas. They never promote " +
			"a node that they do not know, and a master that they do not name is an old one.",
		judge: asked(func(f Facts) []Result {
			if f.Redis.Err != nil {
				return off
			}
			return told(f, func(all []Sentinel) []Result {
				for _, one := range all {
					if one.Met {
						continue
					}
					if len(one.Refused) > 0 {
						return by(f.Sentinels.allow(), warn(rights, "%s may not be asked for the replicas", one.Address))
					}
					bad := fail("wait: a Sentinel looks for new replicas every ten seconds; else redis-cli REPLICAOF with the "+
						"master that they name, or start the node anew as they know it",
						"%s names %s, and has not met this node", one.Address, one.Report.Master)
					host, port, err := net.SplitHostPort(one.Report.Master)
					if err == nil && f.Redis.Empty && f.Redis.Observation.Role == checker.RoleMaster {
						return by(f.Redis.cli("REPLICAOF "+quote(host)+" "+quote(port), "CONFIG REWRITE"), bad)
					}
					return bad
				}
				return tick("all %d have met this node", len(all))
			})
		}),
	},
	{
		ID: "sentinels-quorum", Group: GroupSentinels,
		About: "The quorum is a majority of the Sentinels. With less, a few that are cut off take the master for down; " +
			"with more than there are, there is no failover.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				if len(f.Sentinels.All) < 3 {
					return off // more are to come, by sentinels-known
				}
				if bad, found := misconfigured(all, checker.ProblemQuorum); found {
					most := int64(0)
					for _, one := range all {
						most = max(most, one.Report.OtherSentinels+1)
					}
					return by(f.Sentinels.set("quorum", most/2+1), bad)
				}
				return tick("%s", each(all, func(r *sentinel.Report) string {
					return fmt.Sprintf("%d of %d", r.Quorum, r.OtherSentinels+1)
				}))
			})
		}),
	},
	{
		ID: "sentinels-down-after", Group: GroupSentinels,
		About: "down-after-milliseconds is 2000 or more. With less an election can begin while Redis restarts within a " +
			"second, and the old master can be believed for a second.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				if bad, found := misconfigured(all, checker.ProblemDownAfter); found {
					bad[0].State = Warning
					return by(f.Sentinels.set("down-after-milliseconds", 5000), bad)
				}
				return tick("%s", each(all, func(r *sentinel.Report) string {
					return fmt.Sprintf("%d ms", r.DownAfter.Milliseconds())
				}))
			})
		}),
	},
	{
		ID: "sentinels-settings", Group: GroupSentinels,
		About: "down-after-milliseconds, failover-timeout, the quorum and the number of Sentinels are the same at every " +
			"Sentinel. They are not copied from one to the other.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				if bad, found := misconfigured(all, checker.ProblemDiffer); found {
					return by(or(f.Sentinels.alike(all), f.Sentinels.forget(all)), bad)
				}
				return tick("failover-timeout %s", each(all, func(r *sentinel.Report) string {
					return fmt.Sprintf("%d ms", r.FailoverTimeout.Milliseconds())
				}))
			})
		}),
	},
	{
		ID: "sentinels-hosts", Group: GroupSentinels,
		About: "Where the Sentinels name the master by a host name, this host can resolve it. A name that does not " +
			"resolve is nobody's, and no master is believed.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				for _, one := range all {
					host, _, _ := net.SplitHostPort(one.Report.Master)
					if _, err := netip.ParseAddr(host); err == nil {
						if one.Hosts == "yes" {
							return tick("addresses, though resolve-hostnames is yes")
						}
						continue
					}
					if one.Hosts == "unresolved" {
						return fail("add it to /etc/hosts, or see the resolver; or give --announce-addr",
							"%s names the master %s, which this host cannot resolve", one.Address, host)
					}
					return tick("%s, which this host resolves", host)
				}
				return tick("addresses")
			})
		}),
	},
	{
		ID: "sentinels-tilt", Group: GroupSentinels,
		About: "No Sentinel is in TILT. One that is does not take part in a failover for 30 seconds: its clock has " +
			"jumped, or its host was too busy to run it.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				for _, one := range all {
					if one.Report.Tilt {
						return warn("wait 30 s; if it comes again, see the load and the clock of that host",
							"%s is in TILT and takes part in no failover", one.Address)
					}
				}
				return tick("none")
			})
		}),
	},
	{
		ID: "sentinels-ckquorum", Group: GroupSentinels,
		About: "Every Sentinel says by SENTINEL CKQUORUM that it reaches enough others to agree that the master is down, " +
			"and to elect a leader.",
		judge: asked(func(f Facts) []Result {
			return told(f, func(all []Sentinel) []Result {
				for _, one := range all {
					if one.Quorum == "no" {
						return fail("start the other Sentinels, and open port 26379 between all of them",
							"%s reaches too few others for a failover", one.Address)
					}
				}
				for _, one := range all {
					if one.Quorum == "" {
						return by(f.Sentinels.allow(), warn(rights, "%s was not asked: %s", one.Address, one.QuorumErr))
					}
				}
				return tick("all %d reach enough others", len(all))
			})
		}),
	},
}

// loopback fails where a Sentinel names the master by an address that is another node
// at each of them, as Debian's configuration does. It is alone until that is mended: when
// it meets the others before, they may take themselves for one more.
func (f Facts) loopback(all []Sentinel) []Result {
	master := f.Redis.Observation.MasterAddr
	several := len(f.Sentinels.All) < 3 || master != "" && !isLoopback(master)
	for _, one := range all {
		several = several || !isLoopback(one.Address)
		if one.Report != nil && one.Report.Err == nil && !isLoopback(one.Report.Master) {
			master = one.Report.Master
		}
	}
	for _, one := range all {
		if several && one.Report != nil && one.Report.Err == nil && isLoopback(one.Report.Master) {
			return by(f.Sentinels.monitor(one, f.Redis, master),
				fail("each Sentinel must know the master by the address that all reach",
					"%s names %s, which is another node at each Sentinel", one.Address, one.Report.Master))
		}
	}
	return nil
}

// startSentinel starts or installs the one of this host; empty if it runs.
func (f Facts) startSentinel() string {
	if slices.ContainsFunc(f.Sentinels.All, func(one Sentinel) bool { return f.Host.own(one.Address) }) {
		return ""
	}
	return f.Host.start(f.Host.SentinelUnit, "redis-sentinel")
}

// openSentinel makes the Sentinel of this host listen on all addresses, which it does
// where nothing is said of it. It writes its file itself while it runs.
func (h Host) openSentinel() string {
	if h.SentinelUnit == "" || h.SentinelFile == "" {
		return ""
	}
	return fmt.Sprintf("systemctl stop %s && sed -i '/^bind /d' %s && systemctl start %[1]s",
		h.SentinelUnit, h.SentinelFile)
}

// asked judges only where there are Sentinels.
func asked(judge func(Facts) []Result) func(Facts) []Result {
	return func(f Facts) []Result {
		if len(f.Sentinels.All) == 0 {
			return off
		}
		return judge(f)
	}
}

// reached judges those that answered; that none did is told by another check.
func reached(f Facts, judge func([]Sentinel) []Result) []Result {
	var all []Sentinel
	for _, one := range f.Sentinels.All {
		if one.Err == nil {
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return off
	}
	return judge(all)
}

// told judges those that told of the master.
func told(f Facts, judge func([]Sentinel) []Result) []Result {
	return reached(f, func(all []Sentinel) []Result {
		all = slices.DeleteFunc(all, func(s Sentinel) bool { return s.Report == nil || s.Report.Err != nil })
		if len(all) == 0 {
			return off
		}
		return judge(all)
	})
}

// refusal reports whether a Sentinel is there, and does not let the user in.
func refusal(e *checker.Error) bool {
	return e.Reason == checker.ReasonAuth || e.Reason == checker.ReasonPermission && e.Stage != checker.StageDial ||
		e.Reason == checker.ReasonTLS
}

// set sets one thing at every Sentinel.
func (s Sentinels) set(key string, value int64) string {
	return s.cli(fmt.Sprintf("SENTINEL SET %s %s %d", quote(s.Name), key, value))
}

// alike sets what differs to the greatest value that one has; empty if that is not
// for a command to decide.
func (s Sentinels) alike(all []Sentinel) string {
	var commands []string
	for key, value := range map[string]func(*sentinel.Report) int64{
		"down-after-milliseconds": func(r *sentinel.Report) int64 { return r.DownAfter.Milliseconds() },
		"failover-timeout":        func(r *sentinel.Report) int64 { return r.FailoverTimeout.Milliseconds() },
		"quorum":                  func(r *sentinel.Report) int64 { return r.Quorum },
	} {
		least, most := value(all[0].Report), value(all[0].Report)
		for _, one := range all {
			least, most = min(least, value(one.Report)), max(most, value(one.Report))
		}
		if least != most {
			commands = append(commands, s.set(key, most))
		}
	}
	slices.Sort(commands)
	return strings.Join(commands, "; ")
}

// forget makes the Sentinel that knows the most know those that there are: all answer,
// and it counts one more.
func (s Sentinels) forget(all []Sentinel) string {
	most := slices.MaxFunc(all, func(a, b Sentinel) int {
		return cmp.Compare(a.Report.OtherSentinels, b.Report.OtherSentinels)
	})
	if len(all) < len(s.All) || most.Report.OtherSentinels < int64(len(all)) {
		return ""
	}
	return s.words(most) + " SENTINEL RESET " + quote(s.Name)
}

// misconfigured is the first problem of a kind.
func misconfigured(all []Sentinel, kind checker.Problem) (bad []Result, found bool) {
	var answers []checker.Asked
	for _, one := range all {
		r := one.Report
		a := checker.Asked{Sentinel: one.Address, Name: r.Name, DownAfter: r.DownAfter,
			FailoverTimeout: r.FailoverTimeout, Quorum: r.Quorum, Sentinels: -1}
		if r.OtherSentinels >= 0 {
			a.Sentinels = r.OtherSentinels + 1
		}
		answers = append(answers, a)
	}
	for _, m := range checker.Misconfigurations(answers) {
		if m.Problem == kind {
			return fail(m.Hint, "%s", m.Detail), true
		}
	}
	return nil, false
}

// each is a value of every Sentinel, or one if it is the same.
func each(all []Sentinel, value func(*sentinel.Report) string) string {
	var values []string
	for _, one := range all {
		values = append(values, value(one.Report))
	}
	if same := slices.Compact(slices.Clone(values)); len(same) == 1 {
		return same[0] + " at every Sentinel"
	}
	for i, one := range all {
		values[i] += " at " + one.Address
	}
	return strings.Join(values, ", ")
}

func listOr(all []string, otherwise string) string {
	if len(all) == 0 {
		return otherwise
	}
	return strings.Join(all, ", ")
}

// clause is a reason after a sentence.
func clause(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
