package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/cmd/internal/flags"
)

const (
	moveWithin  = 5 * time.Second // keepalived needs 4 s to take a VIP with advert_int 1
	repeatAfter = time.Minute     // a contradiction that lasts is logged again
)

// watchOptions are the flags about the addresses that keepalived holds.
type watchOptions struct {
	list []string

	addresses []netip.Addr
}

func (o *watchOptions) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.list, "watch-vip", nil,
		"`address` that keepalived holds: warn where this host has it without a yes, or lacks it with one, for "+
			"longer than 5s; repeat it for each")
}

// check rejects what cannot be watched, or is known beforehand.
func (o *watchOptions) check(node string, p checker.Policy, own []netip.Prefix) (err error) {
	if o.addresses, err = heldByKeepalived("watch-vip", o.list, node, own); err != nil {
		return err
	}
	if len(o.list) > 0 && p.Want() != checker.RoleMaster {
		return flags.Errorf("--watch-vip and --role contradict each other: more than one node may be a replica")
	}
	return nil
}

// A sighting is whether this host has an address, and since when that
// contradicts the answer. The zero value is an address that is not known.
type sighting struct {
	known, present bool
	since          time.Time // zero if they agree
}

// next is the sighting after s, given the answer and whether the address is here.
func (s sighting) next(yes, present bool, now time.Time) sighting {
	if yes == present {
		return sighting{known: true, present: present}
	}
	if s.since.IsZero() || s.present != present {
		s.since = now
	}
	return sighting{known: true, present: present, since: s.since}
}

// contradiction names what has lasted for longer than keepalived needs; empty
// for nothing.
func (s sighting) contradiction(now time.Time) string {
	switch {
	case s.since.IsZero() || now.Sub(s.since) <= moveWithin:
		return ""
	case s.present:
		return vipWithoutMaster
	}
	return masterWithoutVIP
}

const (
	masterWithoutVIP = "master without VIP"
	vipWithoutMaster = "VIP without master"
)

// contradictionHints are what to do about each.
var contradictionHints = map[string]string{
	masterWithoutVIP: "see keepalived's log: does it run, and track the file? was the runtime directory made anew " +
		"since it started? systemctl reload keepalived",
	vipWithoutMaster: "see keepalived's log; was the runtime directory made anew since it started? systemctl reload " +
		"keepalived; if it was killed, start it: it has left the address behind",
}

// A watchedVIP is an address, and what was logged about it.
type watchedVIP struct {
	address netip.Addr
	sighting
	logged string // the contradiction
	at     time.Time
}

// A vipWatch looks whether this host has the addresses that keepalived holds.
// Its methods may be called concurrently with Run.
type vipWatch struct {
	logger *slog.Logger

	mu     sync.Mutex
	vips   []watchedVIP
	looked time.Time
	err    error // of that look
}

// Run looks once a second, and at each change of the answer, until ctx is done.
func (w *vipWatch) Run(ctx context.Context, m *checker.Monitor) error {
	m.Watch(ctx, time.Second, func(s checker.Status) {
		here, err := net.InterfaceAddrs()
		w.look(s.Verdict.Answer(), here, err, time.Now())
	})
	return nil
}

// look notes what this host has, and logs what contradicts the answer.
func (w *vipWatch) look(answer checker.Answer, here []net.Addr, err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err == nil {
		w.logger.Warn("cannot list the addresses of this host, so no VIP is watched", "error", err)
	} else if err == nil && w.err != nil {
		w.logger.Info("can list the addresses of this host again")
	}
	w.err, w.looked = err, now
	for i := range w.vips {
		v := &w.vips[i]
		if err != nil {
			v.known = false
			continue
		}
		before := v.sighting
		v.sighting = before.next(answer == checker.Yes, has(here, v.address), now)
		v.log(w.logger, answer, before.since, now)
	}
}

func (v *watchedVIP) log(logger *slog.Logger, answer checker.Answer, began, now time.Time) {
	switch c := v.contradiction(now); {
	case c != "" && (c != v.logged || now.Sub(v.at) >= repeatAfter):
		v.logged, v.at = c, now
		logger.Warn(c, "address", v.address, "answer", answer, "for", now.Sub(v.since).Round(time.Second),
			"hint", contradictionHints[c])
	case v.since.IsZero() && v.logged != "":
		logger.Info("the VIP and the answer agree again", "address", v.address, "answer", answer, "was", v.logged,
			"lasted", now.Sub(began).Round(time.Second))
		v.logged = ""
	}
}

func has(here []net.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(here, func(have net.Addr) bool {
		n, ok := have.(*net.IPNet)
		if !ok {
			return false
		}
		b, _ := netip.AddrFromSlice(n.IP)
		return b.Unmap() == a
	})
}

// Present tells of each address whether this host has it. What is not known is
// left out.
func (w *vipWatch) Present() map[string]bool {
	all := make(map[string]bool)
	for _, a := range w.Addresses() {
		if a.Present != nil {
			all[a.Address] = *a.Present
		}
	}
	return all
}

// Addresses tells of each address whether this host has it.
func (w *vipWatch) Addresses() (all []report.HostAddress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.vips {
		a := report.HostAddress{Address: v.address.String()}
		if v.known {
			a.Present = new(v.present)
		}
		all = append(all, a)
	}
	return all
}

// Troubles are a line for each address that contradicts the answer.
func (w *vipWatch) Troubles() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return []string{fmt.Sprintf("whether this host has the VIP is not known: %v", w.err)}
	}
	for _, v := range w.vips {
		if c := v.contradiction(w.looked); c != "" {
			verb := map[bool]string{true: "has", false: "lacks"}[v.present]
			all = append(all, fmt.Sprintf("%s: this host %s %v; %s", c, verb, v.address, contradictionHints[c]))
		}
	}
	return all
}

// watch is what looks after the addresses.
func (o *watchOptions) watch(logger *slog.Logger) *vipWatch {
	w := &vipWatch{logger: logger}
	for _, a := range o.addresses {
		w.vips = append(w.vips, watchedVIP{address: a})
	}
	return w
}
