package serve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A nodeView is a node of the replication, as far as this daemon knows: it has asked its
// own node and the Sentinels, and no other daemon.
type nodeView struct {
	Address, Role, Behind, VIP string
	Here                       bool
	NamedBy                    []string // the Sentinels that name it as the master
	Epoch                      *int64   // the highest at which one does
}

// nodes are all that the document tells of, by address.
func nodes(d report.Document) (all []nodeView) {
	o := d.Observation
	if o == nil {
		return nil
	}
	own := nodeView{Address: d.Address, Role: string(o.Role), VIP: addressesHere(d), Here: true}
	if o.Role == checker.RoleReplica && o.BehindBytes != nil {
		own.Behind = fmt.Sprintf("%d bytes", *o.BehindBytes)
	}
	all = append(all, own)
	at := func(address string) *nodeView {
		i := slices.IndexFunc(all, func(n nodeView) bool { return n.Address == address })
		if i < 0 {
			i = len(all)
			all = append(all, nodeView{Address: address, VIP: "?"})
		}
		return &all[i]
	}
	for _, s := range namings(o) {
		n := &all[0]
		if s.here {
			n.Address = s.master // by which the other nodes know it
		} else {
			n = at(s.master)
		}
		n.NamedBy = append(n.NamedBy, s.sentinel)
		if s.epoch != nil && (n.Epoch == nil || *n.Epoch < *s.epoch) {
			n.Epoch = s.epoch
		}
	}
	if o.Role == checker.RoleReplica && o.Master != "" {
		at(o.Master).Role = "master of this node"
	}
	for _, l := range o.Links {
		n := at(l.Address)
		n.Role, n.Behind = "replica of this node", behind(l)
	}
	slices.SortStableFunc(all, func(a, b nodeView) int { return strings.Compare(a.Address, b.Address) })
	return all
}

func behind(l report.Link) string {
	var parts []string
	if l.BehindBytes != nil {
		parts = append(parts, fmt.Sprintf("%d bytes", *l.BehindBytes))
	}
	if l.LagSeconds != nil && *l.LagSeconds > 1 { // it speaks once a second
		parts = append(parts, fmt.Sprintf("not heard for %d s", *l.LagSeconds))
	}
	return strings.Join(parts, ", ")
}

// A naming is which master a Sentinel names.
type naming struct {
	sentinel, master string
	here             bool
	epoch            *int64
}

// namings are what each Sentinel said last, by its address.
func namings(o *report.Observation) (all []naming) {
	add := func(n naming) {
		known := slices.ContainsFunc(all, func(b naming) bool { return b.sentinel == n.sentinel })
		if n.master != "" && !known {
			all = append(all, n)
		}
	}
	if s := o.Standing; s != nil {
		type said struct {
			naming
			at time.Time
		}
		var told []said
		for _, a := range s.Asked {
			told = append(told, said{naming{a.Sentinel, a.Master, a.NamesUs, a.Epoch}, a.Time})
		}
		for _, c := range s.Claims {
			told = append(told, said{naming{c.Sentinel, c.Master, c.NamesUs, new(int64(c.Epoch))}, c.Time})
		}
		slices.SortStableFunc(told, func(a, b said) int { return b.at.Compare(a.at) })
		for _, t := range told {
			add(t.naming)
		}
	}
	if q := o.Quorum; q != nil {
		for _, a := range q.Answers {
			add(naming{sentinel: a.Sentinel, master: a.Master, here: a.NamesUs})
		}
	}
	slices.SortStableFunc(all, func(a, b naming) int { return strings.Compare(a.sentinel, b.sentinel) })
	return all
}

// addressesHere are the virtual addresses that this host has: that of --vip, and those of
// --watch-vip. It is "?" where none is known, and ends with it where one is not.
func addressesHere(d report.Document) string {
	var all []string
	unknown := len(d.VIP)+len(d.HostAddresses) == 0
	for _, v := range d.VIP {
		if p, err := netip.ParsePrefix(v.Address); err == nil && v.Held {
			all = append(all, p.Addr().String())
		}
	}
	for _, a := range d.HostAddresses {
		unknown = unknown || a.Present == nil
		if a.Present != nil && *a.Present {
			all = append(all, a.Address)
		}
	}
	if unknown {
		all = append(all, "?")
	}
	return strings.Join(all, ", ")
}
