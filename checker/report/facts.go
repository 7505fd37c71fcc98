package report

import (
	"fmt"
	"strings"

	"redis-is-master/checker"
)

// A Fact is one line of what is known of a node, for people.
type Fact struct{ Name, Value string }

// Facts is what the node said of itself: only what has a meaning for its role.
func (o Observation) Facts() []Fact {
	all := []Fact{
		{"role", fmt.Sprintf("%s (role:%s)", o.Role, o.WireRole)},
		{"server", strings.TrimSpace(o.Server + " " + o.Version)},
		{"run id", o.RunID},
		{"uptime", seconds(o.UptimeSeconds).String()},
		{"loading", YesNo(o.Loading)},
		{"cluster", YesNo(o.Cluster)},
		{"offset", thousands(o.OffsetBytes) + " bytes"},
	}
	switch o.Role {
	case checker.RoleMaster:
		good := ""
		if o.GoodReplicas != nil {
			good = fmt.Sprintf(", %d good", *o.GoodReplicas)
		}
		all = append(all, Fact{"replicas", fmt.Sprintf("%d online%s", o.Replicas, good)}, Fact{"failover", o.Failover})
	case checker.RoleReplica, checker.RoleActiveReplica:
		heard := "never"
		if o.LastIOSeconds != nil {
			heard = seconds(*o.LastIOSeconds).String() + " ago"
		}
		all = append(all, Fact{"master", o.Master}, Fact{"link up", YesNo(o.LinkUp)},
			Fact{"syncing", YesNo(o.Syncing)}, Fact{"last heard", heard})
		if o.BehindBytes != nil {
			all = append(all, Fact{"behind", thousands(*o.BehindBytes) + " bytes"})
		}
	}
	for i, f := range all {
		if f.Value == "" {
			all[i].Value = "not reported"
		}
	}
	return all
}

// heard is what each Sentinel said, one line each, and what follows from it.
func (o Observation) heard() (all []Fact) {
	if o.Standing != nil {
		all = append(all, Fact{"standing", string(o.Standing.State) + ": " + o.Standing.Detail})
		for _, c := range o.Standing.Claims {
			all = append(all, Fact{"heard", fmt.Sprintf("%s names %s as %s, epoch %d of %d, at %s", c.Sentinel,
				whom(c.Master, c.NamesUs), c.Name, c.Epoch, c.CurrentEpoch, c.Time.Format("15:04:05.000"))})
		}
	}
	if o.Standing != nil {
		for _, a := range o.Standing.Asked {
			all = append(all, Fact{"told", a.Sentinel + " " + a.said()})
		}
	}
	if o.Quorum != nil {
		for _, a := range o.Quorum.Answers {
			said := "names " + whom(a.Master, a.NamesUs)
			if a.Error != "" {
				said = "does not count: " + a.Error
			}
			all = append(all, Fact{"asked", a.Sentinel + " " + said})
		}
	}
	return all
}

// said is the answer in words.
func (a Asked) said() string {
	text := fmt.Sprintf("names %s as %s", whom(a.Master, a.NamesUs), a.Name)
	if a.FailingOver {
		text += ", has a failover under way"
	}
	if a.Down {
		text += ", takes it for down"
	}
	if a.DownAfterSeconds != nil {
		text += fmt.Sprintf(", down after %v s", *a.DownAfterSeconds)
	}
	return text + ", at " + a.Time.Format("15:04:05.000")
}

func whom(master string, namesUs bool) string {
	if namesUs {
		return "this node (" + master + ")"
	}
	return master
}

// YesNo is a fact that holds or not, in words.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// thousands groups the digits of n.
func thousands(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
