package vip

import (
	"errors"
	"fmt"
	"os"
	"time"

	"redis-is-master/checker/handover"
)

// A record is what a [VIP] hands over.
type record struct {
	link        link
	addrs       []*address
	turned      time.Time
	renewed     time.Time
	said        map[string]string
	companion   int // its process
	lost, begun time.Time
	stuck       bool
}

// The names of what [VIP.Hold] hands over; the number of the address follows that of a lock.
const (
	feedFile  = "vip-companion-feed"
	readyFile = "vip-companion-ready"
	lockFile  = "vip-lock-"
)

// ErrNoCompanion is that of [VIP.Hold] while the companion is not there.
var ErrNoCompanion = errors.New("the companion process is not ready")

// Hold leaves the addresses as they are until release is called, and returns what [Resume] needs. The companion lives
// on, and removes the addresses if nobody resumes.
func (v *VIP) Hold(at time.Time, files handover.Files) (rec []byte, release func(), err error) {
	for begun := time.Now(); !v.turning.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 2*tick {
			return nil, nil, errors.New("an address is being added or removed")
		}
	}
	c := v.companion
	c.mu.Lock()
	goOn := func() {
		c.mu.Unlock()
		v.turning.Unlock()
	}
	defer func() {
		if err != nil {
			goOn()
			return
		}
		release = goOn
	}()
	if !c.ready || c.pipe < 0 || c.child == nil {
		return nil, nil, ErrNoCompanion
	}
	r := record{link: v.link, addrs: v.addrs, turned: v.turned, renewed: v.renewed, said: v.said, companion: c.child.Pid,
		lost: c.lost, begun: c.begun, stuck: v.stuck.Load()}
	if rec, err = handover.Encode(at, r); err != nil {
		return nil, nil, err
	}
	files[feedFile] = c.pipe
	err = files.Add(readyFile, c.out)
	for i, f := range v.locks {
		err = errors.Join(err, files.Add(fmt.Sprint(lockFile, i), f))
	}
	return rec, nil, err
}

// Resume is [New] with what another VIP has handed over. Another host may have claimed an address meanwhile, unheard:
// every round of probes begins anew.
func Resume(o Options, at time.Time, rec []byte, files handover.Files) (*VIP, error) {
	r, err := handover.Decode[record](at, rec)
	if err != nil {
		return nil, err
	}
	if len(r.addrs) != len(o.Addresses) {
		return nil, errors.New("it is of other addresses")
	}
	now := time.Now()
	for i, a := range r.addrs {
		if a == nil || a.prefix != o.Addresses[i] {
			return nil, errors.New("it is of other addresses")
		}
		a.free, a.freeRoundBegun = time.Time{}, time.Time{}
		if a.state != held {
			a.round(now)
		}
	}
	v, err := open(o)
	if err != nil {
		return nil, err
	}
	if err = v.inherit(r, files); err != nil {
		v.kernel.close()
		return nil, err
	}
	v.publish()
	return v, nil
}

func (v *VIP) inherit(r record, files handover.Files) (err error) {
	c := v.companion
	defer func() {
		if err != nil {
			unlock(v.locks)
		}
	}()
	for i := range v.o.Addresses {
		f, err := files.TakeFile(fmt.Sprint(lockFile, i))
		if err != nil {
			return err
		}
		v.locks = append(v.locks, f)
	}
	if c.out, err = files.TakeFile(readyFile); err != nil {
		return err
	}
	if c.pipe, err = files.Take(feedFile); err != nil {
		return err
	}
	if c.child, err = os.FindProcess(r.companion); err != nil {
		return err
	}
	for i, a := range r.addrs {
		a.gap, a.force = v.addrs[i].gap, v.addrs[i].force
	}
	v.link, v.addrs, v.turned, v.renewed, v.said = r.link, r.addrs, r.turned, r.renewed, r.said
	v.stuck.Store(r.stuck)
	v.dirty.Store(true)
	c.locks, c.ready, c.lost, c.begun = v.locks, true, r.lost, r.begun
	return nil
}

// RecordShape changes with what the records of this package hold.
func RecordShape() string { return handover.Shape[record]() }
