package vip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
)

// leaveWithin is how long a daemon that ends waits until the addresses have left, which takes keepalived milliseconds.
const leaveWithin = 500 * time.Millisecond

// A Hangup ends the TCP connections to addresses that another program, such as keepalived, takes off this host.
//
// It waits until an address has left: a client that was told earlier could come back to this host and wait anew. So it
// delays nothing either. And it ends nothing while the answer is yes: connections survive a restart of keepalived.
type Hangup struct {
	Addresses []netip.Addr
	Logger    *slog.Logger

	waiting map[netip.Addr]bool // there may be connections to end
	failed  string              // the failure that was logged last
}

// Run ends the connections until ctx is done; then it waits a moment for addresses that are about to leave.
func (h *Hangup) Run(ctx context.Context, m *checker.Monitor) error {
	kick := make(chan struct{}, 1)
	wake := func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	h.waiting = make(map[netip.Addr]bool)
	for _, a := range h.Addresses {
		h.waiting[a] = true // an earlier daemon may have died before it could
	}
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	helpers.Go(func() { watchAddresses(inner, wake) })
	helpers.Go(func() { m.Watch(inner, time.Second, func(checker.Status) { wake() }) })
	for ctx.Err() == nil {
		h.look(m)
		select {
		case <-ctx.Done():
		case <-kick:
		}
	}
	for patience := time.After(leaveWithin); h.look(m); {
		select {
		case <-patience:
			return nil
		case <-kick:
		}
	}
	return nil
}

// look ends the connections to the addresses that have left while the answer is no, and reports whether there may be
// others to end later.
func (h *Hangup) look(m *checker.Monitor) (later bool) {
	have, err := net.InterfaceAddrs()
	var failed error
	defer func() { h.tell(failed) }()
	s, _ := m.Status() // after the addresses: one that comes back needs a yes
	if failed = err; err != nil || s.Verdict.Reason == checker.ReasonStarting {
		return true
	}
	here := make(map[netip.Addr]bool)
	for _, a := range have {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			here[ip.Unmap()] = true
		}
	}
	for _, a := range h.Addresses {
		switch {
		case here[a] || s.Verdict.Answer() == checker.Yes:
			h.waiting[a] = true
		case h.waiting[a]:
			begun := time.Now()
			killed, err := hangUp(a)
			if failed = errors.Join(failed, err); err == nil {
				delete(h.waiting, a)
			}
			if killed > 0 {
				h.Logger.Info("the connections to an address that has left this host are ended", "address", a,
					"connections", killed, "took", time.Since(begun))
			}
		}
	}
	return len(h.waiting) > 0
}

// tell logs a failure, once while it lasts.
func (h *Hangup) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != h.failed {
		h.Logger.Warn("clients of an address that has left this host may wait for long", "error", err)
	}
	h.failed = text
}

// loopback is the index of the loopback interface in every network namespace.
const loopback = 1

// hangUp ends the connections to an address that this host does not have.
func hangUp(addr netip.Addr) (killed int, err error) {
	if addr.Is4() { // from an IPv6 address a reset can be sent all the same
		giveBack, err := lend(addr)
		if err != nil {
			return 0, err
		}
		defer giveBack()
	}
	return KillConnections(addr)
}

// lend gives the host an IPv4 address, so that it can send a reset from there, for five seconds at most or until
// giveBack. The host answers no ARP request for the address meanwhile and receives nothing that is sent there: the
// kernel adds an address together with a local route, which is removed at once, and a blackhole before it hides the
// route from the first moment on. One message carries all this, so that nothing is left halfway where this process is
// killed.
//
// Format: rtnetlink(7).
func lend(addr netip.Addr) (giveBack func(), err error) {
	fd, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	attribute := func(kind uint16, value []byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		return append(binary.NativeEndian.AppendUint16(b, kind), value...)
	}
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	ip := addr.AsSlice()
	route := func(kind byte, more ...byte) []byte { // rtmsg
		b := append([]byte{unix.AF_INET, 32, 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL, unix.RT_SCOPE_HOST, kind},
			number(0)...)
		return append(append(b, attribute(unix.RTA_DST, ip)...), more...)
	}
	address := append([]byte{unix.AF_INET, 32, 0, unix.RT_SCOPE_HOST}, number(loopback)...) // ifaddrmsg
	address = append(address, attribute(unix.IFA_LOCAL, ip)...)
	blackhole := route(unix.RTN_BLACKHOLE)
	local := route(unix.RTN_LOCAL, attribute(unix.RTA_OIF, number(loopback))...)
	const lifetime = 4 // in seconds; thousands of connections need one
	cache := append(append(number(lifetime), number(lifetime)...), make([]byte, 8)...)
	lent := append(append(address[:len(address):len(address)], attribute(unix.IFA_CACHEINFO, cache)...),
		attribute(unix.IFA_FLAGS, number(unix.IFA_F_NOPREFIXROUTE))...)
	const do, create = unix.NLM_F_REQUEST | unix.NLM_F_ACK, unix.NLM_F_CREATE | unix.NLM_F_EXCL
	errs, err := exchange(fd,
		netlinkMessage(unix.RTM_NEWROUTE, do|create, blackhole),
		netlinkMessage(unix.RTM_NEWADDR, do|create, lent),
		netlinkMessage(unix.RTM_DELROUTE, do, local),
		netlinkMessage(unix.RTM_DELROUTE, do, blackhole))
	if err == nil && errs[1] != nil && !errors.Is(errs[1], unix.EEXIST) { // an earlier one was not given back
		err = errs[1]
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot send from %v: %w", addr, err)
	}
	return func() {
		exchange(fd, netlinkMessage(unix.RTM_DELADDR, do, address))
		unix.Close(fd)
	}, nil
}
