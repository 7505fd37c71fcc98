package checker

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A Misconfiguration is a setting of the Sentinels that makes a failover unsafe,
// or keeps it from happening.
type Misconfiguration struct {
	Problem Problem
	Master  string // the name
	Detail  string // one line
	Hint    string // what to do about it, one line
}

// A Problem is the kind of a [Misconfiguration].
type Problem string

// The closed set of problems.
const (
	ProblemDownAfter Problem = "down-after" // so short that an election can begin while Redis restarts
	ProblemQuorum    Problem = "quorum"     // it is no majority of the Sentinels, or more than there are
	ProblemDiffer    Problem = "differ"     // two Sentinels do not have the same settings, or do not count the same
)

// Problems returns the closed set in the order of the documentation.
func Problems() []Problem { return []Problem{ProblemDownAfter, ProblemQuorum, ProblemDiffer} }

// SafeDownAfter is the shortest down-after-milliseconds with which no election
// begins while Redis restarts within a second.
const SafeDownAfter = 2 * time.Second

// settingsAge is for how long the answer of a Sentinel that has fallen silent is
// held against those of the others: it may come back with its settings.
const settingsAge = 10 * time.Minute

// Settings are what the Sentinels have configured, over all of them and all names
// of masters. What none of them told is negative.
type Settings struct {
	DownAfter       time.Duration // the shortest
	FailoverTimeout time.Duration // the shortest
	Quorum          int64         // the lowest
	Sentinels       int64         // the highest count
}

// SettingsOf are the settings in the answers of the Sentinels.
func SettingsOf(asked []Asked) Settings {
	s := Settings{DownAfter: -1, FailoverTimeout: -1, Quorum: -1, Sentinels: -1}
	for _, a := range current(asked) {
		s.DownAfter = lowest(s.DownAfter, a.DownAfter)
		s.FailoverTimeout = lowest(s.FailoverTimeout, a.FailoverTimeout)
		s.Quorum, s.Sentinels = lowest(s.Quorum, a.Quorum), max(s.Sentinels, a.Sentinels)
	}
	return s
}

// lowest is the lower one of two that were told.
func lowest[T ~int64](a, b T) T {
	if a < 0 || b < 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Misconfigurations are what is wrong with the settings in the answers of the
// Sentinels: by the name of the master, and then in the order of [Problems].
func Misconfigurations(asked []Asked) (all []Misconfiguration) {
	answers := current(asked)
	for len(answers) > 0 {
		n := 1
		for n < len(answers) && answers[n].Name == answers[0].Name {
			n++
		}
		all = append(all, misconfigurations(answers[:n])...)
		answers = answers[n:]
	}
	return all
}

// current are the answers that count, by name and Sentinel.
func current(asked []Asked) (all []Asked) {
	var newest time.Time
	for _, a := range asked {
		if a.Time.After(newest) {
			newest = a.Time
		}
	}
	for _, a := range asked {
		if newest.Sub(a.Time) <= settingsAge {
			all = append(all, a)
		}
	}
	slices.SortStableFunc(all, func(a, b Asked) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sentinel, b.Sentinel))
	})
	return all
}

// misconfigurations are those of one name.
func misconfigurations(answers []Asked) (all []Misconfiguration) {
	master := answers[0].Name
	for _, a := range answers {
		if a.DownAfter >= 0 && a.DownAfter < SafeDownAfter {
			all = append(all, Misconfiguration{ProblemDownAfter, master,
				fmt.Sprintf("down-after-milliseconds of %s is %d at the Sentinel %s: an election can begin while Redis restarts",
					master, a.DownAfter.Milliseconds(), a.Sentinel),
				fmt.Sprintf("SENTINEL SET %s down-after-milliseconds %d, or more, at every Sentinel",
					master, SafeDownAfter.Milliseconds())})
			break
		}
	}
	for _, a := range answers {
		if why := quorumProblem(a.Quorum, a.Sentinels); why != "" {
			all = append(all, Misconfiguration{ProblemQuorum, master,
				fmt.Sprintf("the quorum of %s is %d at the Sentinel %s, %s", master, a.Quorum, a.Sentinel, why),
				fmt.Sprintf("SENTINEL SET %s quorum %d at every Sentinel", master, a.Sentinels/2+1)})
			break
		}
	}
	for _, s := range differing {
		if a, b, differ := apart(answers, s.value); differ {
			all = append(all, Misconfiguration{ProblemDiffer, master,
				fmt.Sprintf("%s of %s is %d at the Sentinel %s and %d at %s", s.name, master, s.value(a), a.Sentinel,
					s.value(b), b.Sentinel), fmt.Sprintf(s.hint, master)})
			break
		}
	}
	return all
}

// quorumProblem is why a quorum is not good for so many Sentinels; empty if it is.
func quorumProblem(quorum, sentinels int64) string {
	switch {
	case quorum < 0 || sentinels < 0:
	case quorum > sentinels:
		return fmt.Sprintf("and it knows %d Sentinels: there can be no failover", sentinels)
	case 2*quorum <= sentinels:
		return fmt.Sprintf("which is no majority of %d: a few that are cut off take the master for down", sentinels)
	}
	return ""
}

// differing are the settings that all Sentinels of a master must have in common.
var differing = []struct {
	name  string
	value func(Asked) int64 // negative if it was not told
	hint  string            // about the master
}{
	{"down-after-milliseconds", func(a Asked) int64 { return milliseconds(a.DownAfter) },
		"SENTINEL SET %s down-after-milliseconds, the same at every Sentinel"},
	{"failover-timeout", func(a Asked) int64 { return milliseconds(a.FailoverTimeout) },
		"SENTINEL SET %s failover-timeout, the same at every Sentinel"},
	{"the quorum", func(a Asked) int64 { return a.Quorum }, "SENTINEL SET %s quorum, the same at every Sentinel"},
	{"the number of Sentinels", func(a Asked) int64 { return a.Sentinels },
		"SENTINEL RESET %s at every Sentinel, one after the other and 30 s apart, makes them forget those that are gone"},
}

func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

// apart are the first two answers that do not have the same value.
func apart(answers []Asked, value func(Asked) int64) (a, b Asked, differ bool) {
	first := slices.IndexFunc(answers, func(a Asked) bool { return value(a) >= 0 })
	if first < 0 {
		return a, b, false
	}
	other := slices.IndexFunc(answers, func(b Asked) bool { return value(b) >= 0 && value(b) != value(answers[first]) })
	if other < 0 {
		return a, b, false
	}
	return answers[first], answers[other], true
}
