package vip_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-is-master/checker/handover"
	"redis-is-master/checker/vip"
	"redis-is-master/e2e/lab"
)

// TestHoldWithoutCompanion: while the companion is being started nothing is handed over, and all goes on.
func TestHoldWithoutCompanion(t *testing.T) {
	v := vip.Unready()
	for range 2 {
		if _, release, err := v.Hold(time.Now(), handover.Files{}); !errors.Is(err, vip.ErrNoCompanion) || release != nil {
			t.Fatalf("Hold returns %v", err)
		}
	}
}

// TestReload: the addresses stay, and so does the companion, which removes them when the last program is killed. A
// program that cannot go on with them takes them anew.
func TestReload(t *testing.T) {
	s := newSite(t, "one")
	n := s.start(s.Hosts[0], "--vip", vip4.String(), "--vip", vip6.String())
	n.promote()
	for _, p := range []netip.Prefix{vip4, vip6} {
		s.next(n.Host, p, time.Time{}, true)
	}
	n.wait("they are held", func() bool { return n.vip().Held })
	done := 0
	reload := func() {
		done++
		lab.Check(t, n.daemon.Signal(syscall.SIGHUP))
		n.wait(fmt.Sprintf("reload %d is done", done), func() bool {
			return strings.Count(n.daemon.Tail(1000), "msg=reloaded") == done
		})
	}
	companion := n.companions()
	for range 2 {
		n.keeps(vip4, func(begun time.Time) {
			for range 10 {
				reload()
			}
			if changes := s.events(n.Host, vip6, begun); len(changes) > 0 {
				t.Errorf("the second address has changed: %v", changes)
			}
		})
	}
	if now := n.companions(); len(now) != 1 || now[0] != companion[0] {
		t.Errorf("companions %v, before %v", now, companion)
	}
	if n.logged("is taken\" address=10.0.0.100/32") && strings.Count(n.daemon.Tail(1000), "the address is taken") > 2 {
		t.Error("an address was taken anew")
	}
	for _, p := range []netip.Prefix{vip4, vip6} {
		from := n.demote()
		s.next(n.Host, p, from, false)
		from = n.promote()
		for _, back := range []netip.Prefix{vip4, vip6} { // the kernel tells of an IPv6 address a moment later
			s.next(n.Host, back, from, true)
		}
	}
	n.keeps(vip4, func(time.Time) { // a dead companion of before is noticed
		old := n.companions()[0]
		lab.Check(t, syscall.Kill(old, syscall.SIGKILL))
		n.wait("there is a new companion", func() bool {
			now := n.companions()
			return len(now) == 1 && now[0] != old
		})
		reload()
	})
	n.wait("they are held", func() bool { return n.vip().Held })
	from := time.Now()
	n.daemon.Signal(syscall.SIGKILL)
	for _, p := range []netip.Prefix{vip4, vip6} {
		if after := s.next(n.Host, p, from, false).Sub(from); after > 500*time.Millisecond {
			t.Errorf("removed %v after kill -9", after)
		}
	}
}

// TestReloadWithoutRecord: a program that finds nothing to go on with leaves no address to nobody.
func TestReloadWithoutRecord(t *testing.T) {
	s := newSite(t, "one")
	dir := lab.TempDir(t)
	program := dir + "/redis-is-masterd"
	lab.Check(t, os.Symlink(lab.Program("redis-is-masterd"), program))
	n := s.startProgram(s.Hosts[0], program, []string{"--vip", vip4.String()})
	s.next(n.Host, vip4, n.promote(), true)
	n.wait("it is held", func() bool { return n.vip().Held })
	companion := n.companions()[0]
	script := "#!/bin/bash\nreal=" + lab.Program("redis-is-masterd") + `
if [[ " $* " != *" --check "* && "$REDIS_IS_MASTERD_HANDOVER" ]]; then
	file=/proc/self/fd/$REDIS_IS_MASTERD_HANDOVER
	text=$(sed 's/"vip"/"viP"/' $file); : >$file; printf %s "$text" >$file
fi
exec -a "$0" $real "$@"
`
	lab.Check(t, os.Remove(program))
	lab.Check(t, os.WriteFile(program, []byte(script), 0o755))
	from := time.Now()
	lab.Check(t, n.daemon.Signal(syscall.SIGHUP))
	down := s.next(n.Host, vip4, from, false)
	s.next(n.Host, vip4, down, true)
	n.wait("the log says so", func() bool { return n.logged("so this is a restart") })
	n.wait("the companion of before is gone", func() bool { return syscall.Kill(companion, 0) != nil })
	n.wait("there is one companion", func() bool { return len(n.companions()) == 1 })
}
