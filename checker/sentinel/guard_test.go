package sentinel

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// A node replays what one node of a recording said and heard.
type node struct {
	name, port string
	follows    string // host:port, if known
	guard      Guard
	role       checker.Role // empty while it does not answer
	frozen     bool
	lives      int
	seen       time.Duration // the last probe that was answered
}

// believed is whether a daemon would say yes.
func (n *node) believed(now time.Duration) bool {
	return n.role == checker.RoleMaster && n.guard.state.Believed() && now-n.seen <= checker.DefaultMaxAge
}

func (n *node) at(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }

// probe asks the node at d.
func (n *node) probe(d time.Duration) {
	if n.role == "" || n.frozen {
		return
	}
	n.seen = d
	n.guard.On(
		Answer{
			n.at(d),
			n.at(d),
			checker.Observation{Role: n.role, RunID: strconv.Itoa(n.lives), Uptime: time.Hour, MasterAddr: n.follows},
		},
	)
}

// replayRecording runs a recording through the guards of all its nodes, which probe
// every 100 ms and at every change of the role, and calls each after every
// line.
func replayRecording(
	t *testing.T,
	file string,
	each func(now time.Duration, nodes map[string]*node, master string),
) map[string]*node {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	nodes := make(map[string]*node)
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		nodes[name] = &node{
			name:  name,
			guard: Guard{Gap: WatchGap(checker.DefaultInterval, checker.DefaultTimeout, checker.DefaultMaxAge)},
		}
	}
	var base, now time.Duration
	master := ""
	var asked time.Duration
	tick := func(to time.Duration) {
		for ; asked <= to; asked += checker.DefaultInterval {
			for _, n := range nodes {
				n.probe(asked)
			}
			each(asked, nodes, master)
		}
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		stamp, rest, _ := strings.Cut(s.Text(), " ")
		ms, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(rest)
		if fields[0] == "===" && fields[1] == "run" {
			base = now + 500*time.Millisecond
			victim := fields[len(fields)-1]
			for _, n := range nodes {
				if n.port == victim && strings.Contains(file, "stop") {
					n.frozen = true
				}
			}
		}
		now = base + time.Duration(ms*float64(time.Millisecond))
		tick(now)
		n := nodes[fields[0]]
		if n == nil {
			continue
		}
		switch {
		case fields[1] == "hello":
			h, err := ParseHello(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			n.frozen = false // it delivers
			n.guard.On(
				Heard{
					Now: n.at(now),
					Claim: checker.Claim{
						Hello:   h,
						NamesUs: n.port != "" && strings.HasSuffix(h.Master, ":"+n.port),
						Local:   true,
					},
				},
			)
		case fields[2] == "DOWN":
			n.role = ""
			n.lives++
		default:
			before := n.role
			n.role = map[string]checker.Role{"master": checker.RoleMaster, "slave": checker.RoleReplica}[fields[2]]
			if n.role == checker.RoleMaster && (before == checker.RoleReplica || master == "") {
				master = n.name
			}
			if m := nodes[master]; n.role == checker.RoleReplica && m != nil {
				n.follows = "127.0.0.1:" + m.port
			}
			n.probe(now)
		}
		// The port is the one that hellos name while this node is master.
		if n.port == "" && fields[1] == "hello" && n.role == checker.RoleMaster {
			h, _ := ParseHello(fields[2])
			n.port = h.Master[strings.LastIndexByte(h.Master, ':')+1:]
			digits := n.port[:len(n.port)-1]
			for _, other := range nodes {
				other.port = digits + other.name[1:]
			}
		}
		each(now, nodes, master)
	}
	return nodes
}

// TestRecordings: hellos of real failovers, restarts, wakes and planned
// failovers. A node that was restarted or woke is never believed; one that
// another supersedes while it answers, until the Sentinels say so; a promoted
// one at once.
func TestRecordings(t *testing.T) {
	for file, want := range map[string]struct {
		promotions int
		announced  time.Duration // from a promotion to the word of the Sentinels, at most
	}{
		"redis-7.0.15-failover.txt": {3, 0},
		"redis-7.0.15-stop.txt":     {3, 0},
		"redis-7.0.15-handover.txt": {3, 1300 * time.Millisecond},
		"redis-5.0.14-failover.txt": {3, 3 * time.Second}, // a failover two seconds after another
	} {
		t.Run(file, func(t *testing.T) {
			promotions, master, before, lives := -1, "", "", 0
			var since, worst time.Duration
			replayRecording(t, file, func(now time.Duration, nodes map[string]*node, truth string) {
				if truth != master {
					promotions++
					before, master, since = master, truth, now
					if n := nodes[before]; n != nil {
						if lives = n.lives; n.frozen {
							lives = -1
						}
					}
					if promotions > 0 && !nodes[master].believed(now) {
						t.Errorf("%v: %s was promoted and waits", now, master)
					}
				}
				for _, n := range nodes {
					if n.name == master || !n.believed(now) {
						continue
					}
					lie := now - since
					if worst = max(worst, lie); n.name != before || n.lives != lives || lie > want.announced {
						t.Fatalf("%v: %s is believed %v after %s was promoted", now, n.name, lie, master)
					}
				}
				if n := nodes[master]; n != nil && n.role == checker.RoleMaster && !n.frozen &&
					now > since+3*time.Second &&
					!n.believed(now) {
					t.Fatalf("%v: %s is the master and not believed: %+v", now, master, n.guard.Standing(n.at(now)))
				}
			})
			if promotions != want.promotions {
				t.Errorf("%d promotions, want %d", promotions, want.promotions)
			}
			t.Logf("a superseded master was believed for %v at most", worst)
		})
	}
}

// script runs steps of a node that is probed every 100 ms. Each line is a time
// in milliseconds and
//
//	role master|replica|none   what the node says from then on
//	follows WHOM               it is a replica of another than b
//	closed                     the connection was closed, as a Sentinel does that changes the role
//	redialled                  it was closed by whoever probes
//	followed by WHOM...        these replicas follow the node
//	restart                    it is another process, as of the next probe
//	alone                      no replica acknowledges anything
//	young                      it is one that was just started
//	former answers|silent      the master that it followed is there, or not
//	nameless                   its INFO has no run id, as Dragonfly's
//	hello S E/C WHOM [NAME]    Sentinel S (or S+T) says epoch E, current epoch C, and that WHOM (me, b, c) is the master
//	deaf, listening            the subscription does not stand, or does again
//	is STATE                   what the guard must say, at this moment
//
// unclear is a hello of which it cannot be told whom it names.
// A Sentinel whose name begins with l runs on the node's host.
func script(t *testing.T, lines string) {
	t.Helper()
	g := Guard{Gap: WatchGap(checker.DefaultInterval, checker.DefaultTimeout, checker.DefaultMaxAge)}
	o := checker.Observation{RunID: "0", Uptime: time.Hour, Connection: 1, MasterAddr: "b:6379", Acknowledged: 1}
	start := time.Unix(1000, 0)
	g.On(Subscription{Now: start, Stands: true})
	var probed time.Duration
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		ms, _ := strconv.Atoi(f[0])
		now := time.Duration(ms) * time.Millisecond
		for ; probed < now; probed += checker.DefaultInterval {
			if o.Role != "" {
				g.On(Answer{start.Add(probed), start.Add(probed + time.Millisecond), o})
				o.Redialled = false
			}
		}
		switch f[1] {
		case "role":
			o.Role = map[string]checker.Role{"master": checker.RoleMaster, "replica": checker.RoleReplica}[f[2]]
		case "restart":
			o.RunID += "+"
			o.Connection++
		case "closed", "redialled":
			o.Connection++
			o.Redialled = f[1] == "redialled"
		case "follows":
			o.MasterAddr = net.JoinHostPort(f[2], "6379")
		case "nameless":
			o.RunID = ""
		case "followed":
			o.Followers = nil
			for _, whom := range f[3:] {
				o.Followers = append(o.Followers, whom+":6379")
			}
		case "alone":
			o.Acknowledged = 0
		case "former":
			o.FormerAnswers = f[2] == "answers"
		case "young":
			o.Uptime = 0
		case "hello", "unclear":
			var h checker.Hello
			if _, err := fmt.Sscanf(f[3], "%d/%d", &h.Epoch, &h.Current); err != nil {
				t.Fatal(line, err)
			}
			h.Name, h.Master = "mymaster", net.JoinHostPort(f[4], "6379")
			if len(f) > 5 {
				h.Name = f[5]
			}
			for name := range strings.SplitSeq(f[2], "+") {
				h.Sentinel = name
				if f[1] == "unclear" {
					g.On(Heard{Now: start.Add(now), Claim: checker.Claim{Hello: h}, Unresolved: true})
					continue
				}
				g.On(
					Heard{
						Now:   start.Add(now),
						Claim: checker.Claim{Hello: h, NamesUs: f[4] == "me", Local: name[0] == 'l'},
					},
				)
			}
		case "deaf", "listening":
			g.On(Subscription{Now: start.Add(now), Stands: f[1] == "listening"})
		case "is":
			if got := g.Standing(start.Add(now)); string(got.State) != f[2] {
				t.Errorf("%s: it is %s: %s", strings.TrimSpace(line), got.State, got.Detail)
			}
		default:
			t.Fatal(line)
		}
	}
}

func TestGuard(t *testing.T) {
	for name, lines := range map[string]string{
		"a daemon that finds an old process believes the first Sentinel": `
			0 role master
			400 is unconfirmed
			500 hello s1+s2 3/3 me
			700 is unconfirmed
			900 is confirmed`,
		"claims of before the network was down confirm nobody": `
			0 alone
			0 role master
			500 hello s1+s2 3/3 me
			510 hello s1+s2 3/3 me
			4000 is unconfirmed
			8000 hello s1+s2+s3 4/4 b
			8000 is denied`,
		"without a replica the Sentinels must be heard twice": `
			0 alone
			0 role master
			500 hello s1+s2 3/3 me
			2400 is unconfirmed
			2500 hello s1 3/3 me
			2600 is unconfirmed
			2700 hello s2 3/3 me
			2850 is confirmed`,
		"a promotion that nobody announces, whose former master goes on": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			1150 is promoted
			1200 former answers
			2100 hello s2+s3 3/4 b
			4100 hello s2+s3 3/4 b
			6000 hello s2+s3 3/4 b
			6000 is promoted
			6150 is denied
			8000 hello s2+s3 3/4 b
			30000 is denied`,
		"and one whose former master is dead": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			1200 former silent
			2100 hello s2+s3 3/4 b
			6000 hello s2+s3 3/4 b
			9000 is promoted`,
		"and one that a single Sentinel does not know of": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			1200 former answers
			2100 hello s2 3/4 b
			6000 hello s2 3/4 b
			9000 is promoted`,
		"and one that was announced before the former master came back": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			2100 hello s2 3/4 b
			2200 hello s3 3/4 b
			2300 hello s1 4/4 me
			2400 is confirmed
			3000 former answers
			9000 is confirmed`,
		"a former master that is seen to follow after a hang may have done so before": `
			0 role master
			0 followed by b
			100 hello s1+s2 3/3 b
			2000 is denied
			2250 is followed
			3000 role none
			6000 role master
			7050 is denied
			8050 is denied
			8150 is followed`,
		"and a young one only when no election can be under way": `
			0 young
			0 role master
			500 hello s1+s2 3/3 me
			3600 is unconfirmed
			4000 is confirmed`,
		"a replica that is promoted soon after its restart": `
			0 role replica
			100 hello s1+s2 0/0 b
			2000 role none
			8000 restart
			8000 young
			8010 follows c
			8010 role replica
			9200 hello s1+s2 1/1 c
			10450 closed
			10450 role master
			10550 is promoted`,
		"a replica that follows the one before the last": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			3000 hello s3 5/5 c
			3050 closed
			3050 role master
			3150 is denied
			5100 hello s1+s2+s3 5/5 c
			9000 is denied`,
		"a promotion that comes as late as the network was down": `
			0 role replica
			100 hello l1+s2+s3 3/3 b
			2100 hello l1 3/4 b
			11000 hello l1 3/4 b
			21000 hello l1 3/4 b
			21600 hello s2+s3 5/5 c
			23600 hello s2+s3 5/5 c
			25600 closed
			25600 role master
			25700 is denied
			33100 is denied`,
		"a true one of a node that does not follow the last master yet": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			3000 hello s1+s2+s3 5/5 c
			4450 closed
			4450 role master
			4550 is denied
			5500 hello s1+s2+s3 6/6 me
			8600 is unconfirmed
			8900 is confirmed`,
		"a node that follows the new master before that is announced": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			2000 follows c
			2900 hello s1+s2+s3 4/4 c
			6050 closed
			6050 role master
			6150 is promoted`,
		"a master that the node knows by another name than the Sentinels": `
			0 follows redis-b
			0 role replica
			100 hello s1+s2+s3 3/3 b
			4050 closed
			4050 role master
			4150 is promoted`,
		"or by its address": `
			0 follows 10.0.0.2
			0 role replica
			100 hello s1+s2+s3 3/3 b
			3000 hello s1+s2+s3 4/4 b
			4050 closed
			4050 role master
			4150 is promoted`,
		"or as IPv6 is written, too": `
			0 follows 2001:db8:0:0::2
			0 role replica
			100 hello s1+s2+s3 3/3 2001:db8::2
			3000 hello s1+s2+s3 4/4 2001:db8::2
			4050 closed
			4050 role master
			4150 is promoted`,
		"a daemon that hears first of another than the node follows": `
			0 follows 10.0.0.2
			0 role replica
			3000 hello s3 5/5 10.0.0.3
			3050 closed
			3050 role master
			3150 is denied
			5100 hello s3 5/5 10.0.0.3
			9000 is denied`,
		"a replica again of whom it had followed": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			2100 hello s1+s2+s3 4/4 me
			3050 closed
			3050 hello s1+s2+s3 5/5 redis-b
			3060 role replica
			5100 hello s1+s2+s3 5/5 redis-b
			6450 closed
			6450 role master
			6550 is promoted`,
		"a node that died in a partition, and hears nobody since": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			500 role none
			8000 restart
			8000 young
			8010 role replica
			8150 closed
			8150 role master
			8250 is denied`,
		"and one that hears of another": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			500 role none
			8000 restart
			8000 young
			8010 role replica
			8150 hello s3 5/5 c
			8250 closed
			8250 role master
			8350 is denied
			9000 hello s1+s3 5/5 c
			9100 is denied`,
		"a daemon that began in a silence": `
			0 role replica
			20050 closed
			20050 role master
			20150 is unconfirmed`,
		"and heard its first word at the end of it": `
			0 role replica
			20000 hello s2 3/4 b
			20050 closed
			20050 role master
			20150 is denied`,
		"and only the Sentinel on this host before": `
			0 role replica
			500 hello l1 3/4 b
			19000 hello l1 3/4 b
			20000 hello s2 3/4 b
			20050 closed
			20050 role master
			20150 is denied`,
		"an operator's promotion after we have closed the connection": `
			0 role replica
			100 hello s1 3/3 b
			1050 redialled
			1050 role master
			1150 is denied
			1450 deaf
			1500 is denied`,
		"a Sentinel's, whose end of the subscription is seen late": `
			0 role replica
			100 hello s1 3/3 b
			1050 redialled
			1050 role master
			1105 is denied
			1110 deaf
			1110 is promoted`,
		"where nobody can listen, it was the Sentinel": `
			0 deaf
			0 role replica
			1050 redialled
			1050 role master
			1150 is promoted`,
		"a Sentinel's, for it has ended the subscription": `
			0 role replica
			100 hello s1 3/3 b
			1050 redialled
			1050 deaf
			1060 listening
			1070 role master
			1150 is promoted`,
		"a subscription that had ended before": `
			0 role replica
			100 hello s1 3/3 b
			450 deaf
			460 listening
			1050 redialled
			1070 role master
			1150 is denied`,
		"a restart of a process without a run id": `
			0 nameless
			0 role replica
			100 hello s1 3/3 b
			1050 closed
			1050 young
			1050 role master
			1150 is denied`,
		"and a promotion of one": `
			0 nameless
			0 role replica
			100 hello s1 3/3 b
			1050 closed
			1050 role master
			1150 is promoted`,
		"two promotions of one epoch": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1050 closed
			1050 role master
			1150 is promoted
			2100 hello s1 4/4 me
			2200 is confirmed
			2300 hello s2 3/4 b
			2350 is confirmed
			2400 hello s2 4/4 c
			2400 is denied`,
		"one stale voice does not outlive a newer one": `
			0 role master
			100 hello l1+s2+s3 4/4 me
			1000 is confirmed
			5000 hello s3 5/5 c
			5000 is denied
			7000 hello l1 4/4 me
			15000 hello l1 4/4 me
			23000 hello l1 4/4 me
			31000 hello l1 4/4 me
			60000 hello l1 4/4 me
			60100 is denied`,
		"a word that cannot be told is no silence": `
			0 role master
			10000 unclear s1 3/3 redis-b
			20000 unclear s1 3/3 redis-b
			34900 is unconfirmed
			35200 is no-sentinels`,
		"nor does it name this node any more": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1100 unclear s1 3/4 me
			1200 is confirmed
			2000 unclear s1 4/4 redis-b
			2000 is denied`,
		"nor another, after a promotion": `
			0 role replica
			0 follows redis-b
			100 hello s1+s2 3/3 redis-b
			1050 closed
			1050 role master
			2000 unclear s1 4/4 redis-a
			2100 is promoted`,
		"where nobody's can be told, a promotion is believed": `
			0 role replica
			2000 unclear s1+s2 4/4 redis-b
			4000 unclear s1+s2 4/4 redis-b
			6000 unclear s1+s2 4/4 redis-b
			8050 closed
			8050 role master
			8150 is promoted`,
		"Sentinels that never agreed on an address": `
			0 role master
			100 hello s1+s2 0/0 me
			1000 is confirmed
			1100 hello s3 0/0 10.9.9.9
			1100 is confirmed`,
		"the only Sentinel, set up anew": `
			0 role master
			100 hello s1 4/4 me
			16500 is confirmed
			20000 hello s9 0/0 me
			24000 hello s9 0/0 me
			28000 hello s9 0/0 me
			32000 hello s9 0/0 me
			36000 hello s9 0/0 me
			36100 is confirmed
			40000 hello s9 1/1 b
			40000 is denied`,
		"a replica that the Sentinels find late": `
			0 role replica
			9000 hello s1+s2+s3 3/3 b
			10050 closed
			10050 role master
			10150 is promoted`,
		"a replica that has heard nothing since its restart, for long": `
			0 role replica
			100 hello s1+s2 0/0 b
			1000 role none
			2000 restart
			2000 young
			2010 role replica
			8050 closed
			8050 role master
			8150 is denied`,
		"a replica that was cut off from the others, died and came back, is promoted by the Sentinel beside it": `
			0 role replica
			100 hello l1+s2+s3 3/3 b
			3000 hello l1 3/4 b
			12000 hello l1 3/4 b
			13000 role none
			14000 restart
			14000 young
			14010 role replica
			15200 hello l1 3/4 b
			15350 closed
			15350 role master
			15450 is denied`,
		"a replica that heard nothing for long before it died": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			19000 role none
			20000 restart
			20000 young
			20010 role replica
			20500 hello s2+s3 5/5 c
			21050 closed
			21050 role master
			21150 is denied
			22500 hello s2+s3 5/5 c
			22600 is denied`,
		"and nothing after": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			19000 role none
			20000 restart
			20000 young
			20010 role replica
			21050 closed
			21050 role master
			21150 is denied`,
		"a replica that answers for the first time long after it was heard of": `
			100 hello s1+s2+s3 3/3 b
			20000 role replica
			20550 closed
			20550 role master
			20650 is denied`,
		"a replica that was restarted long before it answers": `
			0 role replica
			100 hello s1+s2+s3 3/3 b
			1000 role none
			20000 restart
			20010 role replica
			24050 closed
			24050 role master
			24150 is denied`,
		"a quick restart is believed with the first hello": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1050 role none
			1550 restart
			1560 role master
			2000 is unconfirmed
			2010 hello s2+s3 3/3 me
			2150 is confirmed`,
		"a slow restart is not": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1050 role none
			2550 restart
			2560 role master
			3000 hello s2+s3 3/3 me
			6100 is unconfirmed
			6400 is confirmed`,
		"a restart in the middle of an election": `
			0 role master
			100 hello s1+s2 0/0 me
			1000 is confirmed
			1050 role none
			2450 restart
			2460 role master
			2900 hello s1+s2 0/0 me
			3900 hello s2+s3 0/1 me
			6500 is unconfirmed
			7000 hello s2 1/1 b
			7000 is denied`,
		"an election that came to nothing": `
			0 role master
			100 hello s1+s2 0/0 me
			1000 is confirmed
			1050 role none
			2450 restart
			2460 role master
			2900 hello s1+s2 0/1 me
			4900 hello s1+s2 0/1 me
			6900 hello s1+s2 0/1 me
			7800 is unconfirmed
			8100 is confirmed`,
		"an old election does not count": `
			0 role master
			100 hello s1+s2 0/7 me
			2100 hello s1+s2 0/7 me
			4000 is unconfirmed
			4100 hello s1+s2 0/7 me
			6000 is confirmed
			6050 role none
			6350 restart
			6360 role master
			6900 hello s1+s2 0/7 me
			7050 is confirmed`,
		"a short hang that an election has used": `
			0 role master
			100 hello s1+s2 0/0 me
			1000 is confirmed
			1050 role none
			2650 role master
			2660 hello s1+s2 0/0 me
			2660 hello s2+s3 0/0 me
			2900 is unconfirmed
			3700 hello s1 1/1 b
			3700 is denied`,
		"the backlog of a wake is contradicted by its end": `
			0 role master
			100 hello s1+s2 0/0 me
			1000 is confirmed
			1050 role none
			11050 role master
			11060 hello s1+s2 0/0 me
			11070 hello s2+s3 0/0 me
			11075 hello s1 1/1 b
			11080 is denied
			20000 is denied`,
		"a promotion under watch is believed, whatever old hellos say": `
			0 role replica
			100 hello s1 3/3 b
			1000 is replica
			1050 closed
			1050 role master
			1150 is promoted
			1200 hello s2 3/3 b
			1900 hello s3 3/4 b
			2000 is promoted
			2100 hello s1+s2 4/4 me
			2100 is confirmed
			2200 hello s2 3/4 b
			2300 is confirmed`,
		"an operator's promotion is not believed beside Sentinels that name another": `
			0 role replica
			100 hello s1 3/3 b
			1050 role master
			1150 is denied
			2100 hello s1 3/3 b
			9000 is denied`,
		"nor before they agree": `
			0 role replica
			100 hello s1 3/3 b
			1050 role master
			2100 hello s1+s2 4/4 me
			2300 is unconfirmed
			2500 is confirmed`,
		"it is where there are no Sentinels": `
			0 role replica
			1050 closed
			1050 role master
			1150 is promoted`,
		"the FAILOVER command makes the old master follow": `
			0 role replica
			100 hello s1 3/3 b
			1050 role master
			1150 is denied
			1200 followed by b c
			2200 is denied
			2500 is followed
			3000 hello s2 3/3 b
			9000 is followed
			9050 followed by c
			12000 is followed
			12600 is denied`,
		"one that does not follow does not help": `
			0 role replica
			100 hello s1 3/3 b
			1050 role master
			1200 followed by c
			9000 is denied`,
		"followed, and superseded": `
			0 role replica
			100 hello s1 3/3 b
			1050 role master
			1200 followed by b
			2500 is followed
			3000 hello s1 4/4 c
			3000 is denied
			9000 is denied`,
		"what followed before a hang": `
			0 role master
			0 followed by b
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1050 role none
			4050 role master
			4060 hello s1 4/4 b
			4200 is denied
			4210 followed by
			6000 is denied`,
		"and ended by a higher epoch": `
			0 role replica
			100 hello s1 3/3 b
			1050 closed
			1050 role master
			1150 is promoted
			1200 hello s1 4/4 c
			1200 is denied`,
		"a promotion while nobody looked is not believed": `
			0 role replica
			100 hello s1 3/3 b
			1050 role none
			4150 closed
			4150 role master
			4250 is denied
			4300 hello s1+s2 4/4 me
			4400 is unconfirmed
			7700 is confirmed`,
		"a promotion whose transaction waits for the disk": `
			0 role replica
			100 hello s1 3/3 b
			1050 role none
			3550 closed
			3550 role master
			3650 is promoted`,
		"a replica that comes back as another process and master": `
			0 role replica
			100 hello s1 3/3 b
			1050 restart
			1060 role master
			1150 is denied`,
		"the old master of a planned failover": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			2000 hello s1+s2 3/4 me
			2000 is confirmed
			2900 hello s1 4/4 b
			2900 is denied
			3000 hello s2+s3 3/4 me
			10000 is denied
			11000 role replica
			11200 is replica`,
		"no Sentinel": `
			0 role master
			14900 is unconfirmed
			15300 is no-sentinels
			15350 role none
			15550 restart
			15560 role master
			15700 is no-sentinels
			20000 hello s1 0/0 b
			20000 is denied`,
		"Sentinels that died": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			60000 is confirmed
			60050 role none
			60550 restart
			60560 role master
			75000 is unconfirmed
			76000 is no-sentinels`,
		"Sentinels that died after they had named another": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1100 hello s1 4/4 b
			60000 is denied`,
		"a Sentinel alone may be cut off together with the node": `
			0 young
			0 role master
			500 hello l1 0/0 me
			8000 is unconfirmed
			9000 hello s1 1/1 b
			9000 is denied`,
		"it is believed when nobody contradicts": `
			0 role master
			500 hello l1 0/0 me
			2500 hello l1 0/0 me
			15000 is unconfirmed
			15800 is confirmed`,
		"a late REPLICAOF after a silence of the Sentinels": `
			0 role replica
			100 hello s1 3/3 b
			30000 role master
			30200 is denied`,
		"a late REPLICAOF after a gap": `
			0 role replica
			100 hello s1 3/3 b
			1000 role none
			30000 role replica
			30150 role master
			30400 is denied`,
		"a late REPLICAOF behind the words that were lost with it": `
			0 role replica
			100 hello s1 3/3 b
			30000 hello s2 3/3 b
			30050 role master
			30200 is denied`,
		"a late REPLICAOF, while the Sentinel on this host was heard": `
			0 role replica
			100 hello s1+l1 3/3 b
			2100 hello l1 3/3 b
			4100 hello l1 3/3 b
			6100 hello l1 3/3 b
			6200 role master
			6400 is denied`,
		"a promotion some time after a silence": `
			0 role replica
			100 hello s1 3/3 b
			30000 hello s1 3/3 b
			32000 hello s1 3/3 b
			34000 closed
			34000 role master
			34200 is promoted`,
		"a subscription that stood through a hang has heard nothing": `
			0 role master
			1000 is unconfirmed
			1050 role none
			21000 role master
			21100 is unconfirmed
			21500 hello s1 4/4 b
			21500 is denied`,
		"nobody can listen": `
			0 deaf
			0 role master
			60000 is unconfirmed
			60000 listening
			74900 is unconfirmed
			75200 is no-sentinels`,
		"a name that was removed from the Sentinels": `
			0 role replica
			100 hello s1+s2 3/3 b old
			5000 hello s1+s2 0/0 b new
			7000 closed
			7000 role master
			8000 hello s1+s2 1/1 me new
			9000 is confirmed
			30000 hello s1+s2 1/1 me new
			30100 role none
			32100 restart
			32110 role master
			32500 hello s1+s2 1/1 me new
			36000 is confirmed`,
		"a name that only some have given up": `
			0 role replica
			100 hello s1+s2 3/3 b old
			5000 hello s1 0/0 b new
			7000 closed
			7000 role master
			8000 hello s1 1/1 me new
			30000 hello s1 1/1 me new
			30100 role none
			32100 restart
			32110 role master
			32500 hello s1+s3 1/1 me new
			36000 is denied`,
		"an old word before a silence and one after it": `
			0 role master
			100 hello s1+s2 3/3 me
			1000 is confirmed
			1100 hello s1 4/4 b
			1200 hello s2 3/4 me
			1300 role none
			21000 role master
			21010 hello s1+s2 3/4 me
			21020 is denied`,
		"Sentinels that were set up anew": `
			0 role master
			100 hello s1+s2 9/9 me
			1000 is confirmed
			2000 hello s1+s2 0/0 me
			6000 hello s1+s2 0/0 me
			10000 hello s1+s2 0/0 me
			14000 hello s1+s2 0/0 me
			18000 hello s1+s2 0/0 me
			18100 is confirmed
			20000 hello s1 1/1 b
			20000 is denied`,
		"two names": `
			0 role master
			100 hello s1+s2 3/3 me one
			200 hello s2+s3 8/8 me two
			1000 is confirmed
			2000 hello s1 4/4 b one
			2000 is denied
			3000 hello s2+s3 8/8 me two
			9000 is denied`,
		"a second name that never named this node": `
			0 role master
			100 hello s1+s2 3/3 me one
			1000 is confirmed
			2000 hello s2 0/0 b two
			2000 is denied`,
	} {
		t.Run(name, func(t *testing.T) { script(t, lines) })
	}
}

// TestNames: a promotion that was watched is believed before the listed
// Sentinels agree only as long as a majority names the master before it, each
// once, and nobody another.
func TestNames(t *testing.T) {
	before, here, third, silent := checker.SentinelAnswer{
		Master: "b:6379",
	}, checker.SentinelAnswer{
		Master:  "me:6379",
		NamesUs: true,
	}, checker.SentinelAnswer{
		Master: "c:6379",
	}, checker.SentinelAnswer{
		Err: errSilent,
	}
	down, twice, tilt, hereDown, who := before, before, before, checker.SentinelAnswer{
		Master:  "me:6379",
		NamesUs: true,
	}, third
	down.Err, twice.Err, tilt.Err = fmt.Errorf(
		"it: %w",
		errDown,
	), fmt.Errorf(
		"it: %w",
		errTwice,
	), fmt.Errorf(
		"it: %w",
		errTilt,
	)
	hereDown.Err, who.Err = down.Err, fmt.Errorf("it: %w", errUnresolvable)
	for _, tt := range []struct {
		want    bool
		answers []checker.SentinelAnswer
	}{
		{true, []checker.SentinelAnswer{before, before, before}},
		{true, []checker.SentinelAnswer{before, down, here}},
		{true, []checker.SentinelAnswer{before, before, silent}},
		{true, []checker.SentinelAnswer{before, hereDown, who}},
		{false, []checker.SentinelAnswer{before, who, silent}},
		{false, []checker.SentinelAnswer{before, silent, silent}},
		{false, []checker.SentinelAnswer{before, before, third}},
		{false, []checker.SentinelAnswer{before, twice, silent}},
		{false, []checker.SentinelAnswer{before, tilt, silent}},
		{false, nil},
	} {
		if got := agreeOn(checker.Quorum{Answers: tt.answers}, "b:6379"); got != tt.want {
			t.Errorf("%+v: %v", tt.answers, got)
		}
	}
}

// TestLongMaxAge: a status that is good for long does not hide a hang in
// which another node was elected.
func TestLongMaxAge(t *testing.T) {
	for _, tt := range []struct{ interval, timeout, maxAge, want time.Duration }{
		{checker.DefaultInterval, checker.DefaultTimeout, checker.DefaultMaxAge, time.Second},
		{checker.DefaultInterval, checker.DefaultTimeout, time.Minute, time.Second},
		{time.Second, time.Second, time.Minute, 2 * time.Second},
		{100 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond},
	} {
		if got := WatchGap(tt.interval, tt.timeout, tt.maxAge); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestParseHello(t *testing.T) {
	h, err := ParseHello("2001:db8::1,26379,abc,7,mymaster,db-1.example,6379,6")
	want := checker.Hello{
		Sentinel: "abc",
		From:     "[2001:db8::1]:26379",
		Current:  7,
		Name:     "mymaster",
		Master:   "db-1.example:6379",
		Epoch:    6,
	}
	if err != nil || h != want {
		t.Errorf("%+v, %v", h, err)
	}
	for _, message := range []string{
		"", ",,,,,,,", "127.0.0.1,26379,abc,7,mymaster,10.0.0.1,6379", "127.0.0.1,26379,abc,7,mymaster,10.0.0.1,6379,6,x",
		"127.0.0.1,26379,abc,-1,mymaster,10.0.0.1,6379,6",
		"127.0.0.1,26379,abc,7,mymaster,10.0.0.1,6379,99999999999999999999",
		"127.0.0.1,26379,abc,7,mymaster,10.0.0.1,0,6", "127.0.0.1,26379,abc,7,mymaster,10.0.0.1,70000,6",
		"127.0.0.1,26379,abc,7,mymaster,,6379,6",
		strings.Repeat("x", maxHello) + ",26379,abc,7,mymaster,10.0.0.1,6379,6",
		"127.0.0.1,26379," + strings.Repeat("x", maxName+1) + ",7,mymaster,10.0.0.1,6379,6",
		"127.0.0.1,26379,abc,7," + strings.Repeat("x", maxName+1) + ",10.0.0.1,6379,6",
	} {
		if h, err := ParseHello(message); err == nil {
			t.Errorf("%.60q: %+v", message, h)
		}
	}
}

// FuzzGuard: no sequence of probes and hellos makes a node believed which was
// not promoted under watch, nor confirmed by a hello at the best epoch of its
// time in this life of the process, nor left alone for holdReconnect.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x01, 0x10, 0x85, 0x02, 0x31, 0xc2, 0x20, 0x99, 0x41, 0x00})
	f.Add([]byte("mmhhmmrrmmhhzz0123456789"))
	for i := range 8 {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		b := make([]byte, 400)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g := Guard{Gap: WatchGap(checker.DefaultInterval, checker.DefaultTimeout, checker.DefaultMaxAge)}
		now := time.Unix(1000, 0)
		g.On(Subscription{Now: now, Stands: true})
		var (
			o         = checker.Observation{Role: checker.RoleMaster, RunID: "0", Uptime: time.Hour}
			seen      time.Time // the oracle's own, much simpler notes
			last      checker.Observation
			allowed   bool // a yes may be given
			confirmed bool // a hello at the best epoch has named this node in this life
			alone     bool // nobody was ever heard
			heard     = now
			life      = now
			best      = make(map[string]checker.Hello)
			lows      = make(map[string]time.Time)
			voices    = make(map[string]string) // whoever has spoken, by name
			lowVoices = make(map[string]string)
			spoke     = make(map[string]time.Time)
			denied    = make(map[string]bool)
		)
		for len(data) >= 2 {
			what, arg := data[0], data[1]
			data = data[2:]
			before := g.state
			switch what % 4 {
			case 0: // time passes
				now = now.Add(time.Duration(arg) * 20 * time.Millisecond)
			case 1: // the node changes
				switch arg % 4 {
				case 0:
					o.Role = checker.RoleMaster
				case 1:
					o.Role = checker.RoleReplica
				case 2:
					o.RunID += "+"
				case 3:
					o.Uptime = time.Duration(arg) * time.Second
				}
			case 2: // a probe
				g.On(Answer{now, now, o})
				gap := checker.DefaultMaxAge
				if last.Role == checker.RoleReplica {
					gap = maxPromotionStall
				}
				watched := !seen.IsZero() && now.Sub(seen) <= gap && o.RunID == last.RunID
				if !watched {
					allowed, confirmed, life = false, false, now
				}
				if o.Role != checker.RoleMaster {
					allowed, life = false, now
				} else if watched && last.Role == checker.RoleReplica {
					allowed = true
				}
				allowed = allowed || confirmed ||
					now.Sub(life) >= holdReconnect && (heard.Before(life) || len(best) == 0) ||
					alone
				alone = alone || len(best) == 0 && now.Sub(life) >= holdReconnect
				seen, last = now, o
			case 3: // a hello
				h := checker.Hello{
					Sentinel: strconv.Itoa(int(arg & 1)),
					Name:     strconv.Itoa(int(arg >> 1 & 1)),
					Epoch:    uint64(arg >> 2 & 3),
					Current:  uint64(arg >> 4 & 3),
				}
				here := arg>>6&1 == 1
				denies := before.Believed() &&
					!g.On(Heard{Now: now, Claim: checker.Claim{Hello: h, NamesUs: here, Local: arg>>7 == 1}}).
						Believed()
				if denies && here {
					t.Fatal("a hello that names this node denies it")
				}
				heard, alone = now, false
				if now.Sub(spoke[h.Name]) > silentAfter {
					delete(lows, h.Name)
				}
				spoke[h.Name] = now
				isNew := !strings.Contains(voices[h.Name], h.Sentinel)
				if isNew {
					voices[h.Name] += h.Sentinel
				}
				b, known := best[h.Name]
				if known && h.Epoch < b.Epoch {
					if lows[h.Name].IsZero() {
						lows[h.Name], lowVoices[h.Name] = now, ""
					}
					if !strings.Contains(lowVoices[h.Name], h.Sentinel) {
						lowVoices[h.Name] += h.Sentinel
					}
					if isNew {
						lowVoices[h.Name] += "?"
					}
					if now.Sub(lows[h.Name]) < holdReconnect || len(lowVoices[h.Name]) < len(voices[h.Name]) {
						break
					}
				}
				if known && h.Epoch > b.Epoch && !here && g.state.Believed() {
					t.Fatal("a higher epoch that names another does not deny it")
				}
				delete(lows, h.Name)
				best[h.Name], denied[h.Name] = h, !here
				confirmed = confirmed || here && last.Role == checker.RoleMaster
			}
			if !g.state.Believed() {
				continue
			}
			if !allowed && !confirmed {
				t.Fatalf("believed as %s without a reason: %+v", g.state, g.Standing(now))
			}
			if before.Believed() || g.state == checker.StatePromoted {
				continue
			}
			for name, d := range denied {
				if d {
					t.Fatalf("becomes %s, though %s names another", g.state, name)
				}
			}
		}
	})
}

// TestOrderOfNames: of two names, it does not matter which was heard first.
func TestOrderOfNames(t *testing.T) {
	start := time.Unix(1000, 0)
	run := func(names ...string) (states []checker.State) {
		g := Guard{Gap: time.Second}
		g.On(Subscription{Now: start, Stands: true})
		master := map[string]string{"one": "b:6379", "two": "c:6379"}
		followers := []string{"b:6379", "c:6379"}
		for ms := 0; ms < 20000; ms += 100 {
			now := start.Add(time.Duration(ms) * time.Millisecond)
			switch ms {
			case 5000: // one of them is gone for longer than is forgiven
				followers = []string{"c:6379"}
			case 8300: // the other is not seen for a moment, as the first is given up
				followers = nil
			case 8500:
				followers = []string{"b:6379", "c:6379"}
			}
			if ms%2000 == 0 {
				for _, name := range names {
					for _, s := range []string{"s1", "s2"} {
						h := checker.Hello{Sentinel: s, Name: name, Master: master[name], Epoch: 3, Current: 3}
						g.On(Heard{Now: now, Claim: checker.Claim{Hello: h}})
					}
				}
			}
			o := checker.Observation{Role: checker.RoleMaster, RunID: "a", Uptime: time.Hour, Followers: followers}
			states = append(states, g.On(Answer{now, now, o}))
		}
		return states
	}
	forth, back := run("one", "two"), run("two", "one")
	if !slices.Equal(forth, back) {
		for i := range forth {
			if forth[i] != back[i] {
				t.Fatalf("after %d ms: %s, in the other order %s", i*100, forth[i], back[i])
			}
		}
	}
	if !slices.Contains(forth, checker.StateFollowed) || forth[85] != checker.StateDenied {
		t.Errorf("%v", forth)
	}
}
