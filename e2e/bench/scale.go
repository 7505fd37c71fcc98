package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"redis-is-master/checker/report"
	"redis-is-master/e2e/lab"
)

// scale measures what many daemons cost, each with a Redis of its own.
func (b *bench) scale() error {
	const period = 20 * time.Second
	b.printf("One daemon for each Redis, all with the defaults (`--interval` 100 ms), over %v; the sums of all, "+
		"CPU in %% of a core. PSS is RSS with what is shared divided.\n", period)
	b.head("daemons", "their CPU %", "their RSS MiB", "their PSS MiB", "CPU % of Redis",
		"CPU % of each daemon", "PSS MiB of each")
	for _, n := range []int{1, 10, 100} {
		log.Printf("  %d daemons", n)
		if err := b.many(n, period); err != nil {
			b.row(n, "failed: "+short(err), "", "", "", "", "")
			return err
		}
	}
	return nil
}

func (b *bench) many(n int, period time.Duration) error {
	redis, daemons := make([]*lab.Redis, n), make([]*lab.Daemon, n)
	defer func() {
		for i := range n {
			if daemons[i] != nil {
				daemons[i].Close()
			}
			if redis[i] != nil {
				redis[i].Close()
			}
		}
	}()
	// Each waits for its Redis or daemon to answer, a few at a time.
	free := make(chan struct{}, 4)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			if redis[i], errs[i] = lab.StartRedis(lab.Options{TCP: true, Password: password}); errs[i] == nil {
				daemons[i], errs[i] = lab.StartDaemon(filepath.Join(b.bin, "redis-is-masterd"), redis[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, d := range daemons {
		if err := d.Until("the daemon says yes", func(doc report.Document) bool { return doc.Reason == "ok" }); err != nil {
			return err
		}
	}
	used := func() (us, them time.Duration) {
		for i := range n {
			us += cpu(daemons[i].Pid())
			them += cpu(redis[i].Pid())
		}
		return us, them
	}
	us, them := used()
	time.Sleep(period)
	usThen, themThen := used()
	resident, proportional := 0.0, 0.0
	for _, d := range daemons {
		resident += rss(d.Pid())
		proportional += pss(d.Pid())
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / period.Seconds() }
	b.row(n, percent(usThen-us), fmt.Sprintf("%.1f", resident), fmt.Sprintf("%.1f", proportional),
		percent(themThen-them), percent(usThen-us)/float64(n), fmt.Sprintf("%.1f", proportional/float64(n)))
	return nil
}

// pss is the memory of a process, in MiB, with what it shares divided by those
// that share it.
//
// Format: /proc/PID/smaps_rollup; proc(5).
func pss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if m := regexp.MustCompile(`(?m)^Pss:\s+(\d+)`).FindSubmatch(b); m != nil {
		kib, _ := strconv.ParseFloat(string(m[1]), 64)
		return kib / 1024
	}
	return 0
}
