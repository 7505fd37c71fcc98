package lint

import (
	"fmt"
	"slices"
	"strconv"
)

// A tracked is a tracker as one instance tracks it.
type tracked struct {
	place
	name    string
	weight  int
	reverse bool
	own     bool // the weight is given here
	file    *trackFile
	script  *script
}

// concerns is whether the tracker has to do with Redis.
func (l *linter) concerns(t tracked) bool {
	return !l.ours || t.file != nil && t.file.redis || t.script != nil && t.script.redis
}

// syncGroups finds the groups that each instance is in.
func (l *linter) syncGroups() {
	l.groups = make(map[string][]*statement)
	for _, g := range l.root.all("vrrp_sync_group") {
		var members []string
		for _, b := range g.all("group") {
			for _, line := range b.block {
				members = append(members, line.words...)
			}
		}
		slices.Sort(members)
		for _, m := range slices.Compact(members) {
			l.groups[m] = append(l.groups[m], g)
		}
	}
}

// instances looks at who tracks what, and at the instances that follow Redis.
func (l *linter) instances(file string) {
	l.syncGroups()
	followed := false
	for _, i := range l.root.all("vrrp_instance") {
		var all []tracked
		for _, t := range l.tracked(i) {
			if l.concerns(t) {
				all = append(all, t)
			}
		}
		if len(all) > 0 {
			followed = true
			l.instance(i, all)
		}
	}
	for _, f := range l.files {
		if !f.used && (f.redis || !l.ours) {
			l.found(f.place, "no vrrp_instance tracks this file, so it decides nothing: "+
				"name it in the track_file block of the instance")
		}
	}
	for _, s := range l.scripts {
		if !s.used && (s.redis || !l.ours) {
			l.found(s.place, "no vrrp_instance tracks this script, so it is never run: "+
				"name it in the track_script block of the instance")
		}
	}
	if !followed {
		l.found(place{file, 1}, "no vrrp_instance follows Redis: see the profiles of redis-is-master")
	}
}

// tracked are the trackers of an instance, and of the group it is in.
func (l *linter) tracked(instance *statement) (all []tracked) {
	blocks := []*statement{instance}
	weightless := false
	for _, g := range l.groups[instance.word(1)] {
		blocks = append(blocks, g)
		weightless = weightless || g.last("sync_group_tracking_weight") == nil
	}
	for _, b := range blocks {
		for _, t := range b.all("track_file", "track_script") {
			for _, line := range t.block {
				n := tracked{place: line.place, name: line.word(0), own: len(line.words) > 1}
				if t.word(0) == "track_file" {
					if n.file = l.files[n.name]; n.file != nil {
						n.file.used = true
						n.weight, n.reverse = weight(line, 2, n.file.weight, n.file.reverse)
					}
				} else if n.script = l.scripts[n.name]; n.script != nil {
					n.script.used = true
					n.weight, n.reverse = weight(line, 2, n.script.weight, n.script.reverse)
				}
				if n.file == nil && n.script == nil {
					l.found(n.place, "there is no tracker "+n.name+": keepalived goes on without it: correct the name")
					continue
				}
				if weightless { // keepalived sets the weights in a group to 0
					n.weight, n.own = 0, true
				}
				all = append(all, n)
			}
		}
	}
	return all
}

// instance looks at one that follows Redis.
func (l *linter) instance(i *statement, all []tracked) {
	file := slices.ContainsFunc(all, func(t tracked) bool { return t.file != nil && !t.file.promotion })
	var role, fault, alive, promotion bool
	least := 0 // of the weights
	for _, t := range all {
		switch {
		case t.file != nil && t.file.promotion:
			promotion = true
			l.trackedPromotion(t)
			continue
		case t.file != nil:
			l.trackedFile(t)
		default:
			l.trackedScript(t, file)
			alive = alive || t.script.ours && t.weight == 0
			if t.script.alive {
				continue
			}
		}
		role = true
		if n := max(t.weight, -t.weight); n == 0 {
			fault = true
		} else if least == 0 || n < least {
			least = n
		}
	}
	switch {
	case !role:
		l.found(i.place, "nothing here asks for the role, so any node may hold the VIP: "+
			"track a track_file, or redis-is-master without --alive")
	case file && !alive:
		l.found(i.place, "a track file outlives the daemon that writes it: "+
			"track a vrrp_script with redis-is-master --cached --alive and weight 0 beside it")
	}
	if role && !fault {
		l.hint(i.place, "with a weight some node holds the VIP although it is not master, while there is no master "+
			"or adverts are lost: weight 0 (with a track_file: weight 0 reverse) makes that FAULT")
	}
	if file && fault && !promotion {
		l.hint(i.place, "after a partition two nodes hold the VIP, and the one with the higher address keeps it, "+
			"even if the other was promoted later: track the promotion file of redis-is-masterd with weight 1")
	}
	if !l.refresh && !isRefresh(i.last("garp_master_refresh")) {
		l.hint(i.place, "a switch or host that misses the announcement of a VIP goes on sending to the old node: "+
			"add garp_master_refresh 60")
		l.topic(TopicGARP)
	}
	if alone := i.last("unicast_fault_no_peer"); alone != nil && l.host.Version != "" && !atLeast(l.host.Version, 2, 2) {
		l.hint(alone.place, "keepalived before 2.2 ignores this line, and says so in its log: "+
			"see that the name of each host is among those above")
	}
	l.election(i, fault || !role, promotion, least)
	l.networkd(i.last("interface"))
}

func isRefresh(s *statement) bool {
	n, err := strconv.Atoi(s.word(1))
	return err == nil && n > 0
}

// weighed is the line that gives a tracked file its weight.
func (t tracked) weighed() place {
	if w := t.file.last("weight"); w != nil && !t.own {
		return w.place
	}
	return t.place
}

func (l *linter) trackedFile(t tracked) {
	switch {
	case t.weight == 0 && !t.reverse:
		l.found(t.weighed(), "without reverse, weight 0 makes 1 a FAULT, and 0 or a missing file a yes: "+
			"write weight 0 reverse")
	case t.weight != 0 && (t.weight < 0) != t.reverse:
		l.found(t.weighed(), "this weight lowers the priority of the master: write weight 0 reverse")
	}
}

func (l *linter) trackedPromotion(t tracked) {
	switch {
	case t.weight == 0:
		l.found(t.weighed(), "the file holds the number of a promotion, which weight 0 takes for a yes or a FAULT: "+
			"write weight 1, and sync_group_tracking_weight in a vrrp_sync_group")
	case t.weight != 1 || t.reverse:
		l.found(t.weighed(), "the number in the file is up to 99, and a priority 254 at most, "+
			"so with another weight than 1 an earlier promotion may win: write weight 1")
	}
}

func (l *linter) trackedScript(t tracked, besideFile bool) {
	if t.reverse && !t.script.reverse {
		l.found(t.place, "reverse makes a failed check a yes: remove the word")
	}
	switch {
	case t.script.alive && t.weight != 0:
		l.found(t.place, "the dead man's switch has a weight, so a node whose daemon is dead may hold the VIP: "+
			"give it weight 0")
	case besideFile && t.script.ours && !t.script.alive && t.weight == 0:
		l.hint(t.place, "this asks for the role beside the track file, so a promotion waits for its next run: "+
			"use --cached --alive")
	}
}

// highest is the priority above which the number of a promotion makes no
// difference any more: keepalived's priorities end at 254.
const highest = 254 - 99

// election looks at what decides between the nodes that may hold the VIP.
func (l *linter) election(i *statement, fault, promotion bool, least int) {
	nopreempt := i.last("nopreempt")
	var master *statement
	for _, s := range i.all("state") {
		if s.word(1) == "MASTER" {
			master = s
		}
	}
	var priorities []int
	for _, p := range i.all("priority") {
		n, err := strconv.Atoi(p.word(1))
		if err != nil {
			continue
		}
		priorities = append(priorities, n)
		switch {
		case n == 255:
			l.found(p.place, "priority 255 is above every weight, and makes nopreempt void: write priority 100 on all nodes")
		case promotion && n > highest:
			l.found(p.place, fmt.Sprintf("a priority ends at 254, so with %d an earlier promotion may win: "+
				"write priority 100 on all nodes", n))
		}
	}
	differ := 0
	if len(priorities) > 1 && !slices.Contains(priorities, 255) {
		differ = slices.Max(priorities) - slices.Min(priorities)
	}
	switch {
	case promotion && nopreempt != nil:
		l.found(nopreempt.place, "nopreempt keeps the VIP from the node that was promoted later: remove it")
	case fault && nopreempt == nil && !promotion:
		l.found(i.place, "without nopreempt a second node that says master takes the VIP from the first, "+
			"if its priority is higher: add nopreempt and state BACKUP, or the promotion file with weight 1")
	case !fault && nopreempt != nil:
		l.found(nopreempt.place, "with a weight, nopreempt keeps the VIP from the master while another node has it: "+
			"remove it")
	}
	switch {
	case master != nil && promotion:
		l.found(master.place, "state MASTER takes the VIP before it has listened to the other nodes: "+
			"write state BACKUP on all nodes")
	case master != nil && fault && nopreempt != nil:
		l.found(master.place, "state MASTER makes nopreempt void: write state BACKUP on all nodes")
	}
	switch {
	case promotion && differ > 0:
		l.found(i.last("priority").place, fmt.Sprintf("the priorities differ by %d, so an earlier promotion may win: "+
			"write priority 100 on all nodes", differ))
	case !fault && differ > 0 && differ >= least:
		l.found(i.last("priority").place, fmt.Sprintf("the priorities differ by %d, and the weight is %d, so a node that is "+
			"not master may win: write priority 100 on all nodes", differ, least))
	}
}
