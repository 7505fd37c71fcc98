package main

import (
	"context"
	"fmt"

	"redis-is-master/checker"
	unixsocket "redis-is-master/checker/cached"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/keepalived"
)

// outputs opens the outputs. What cannot be opened ends the daemon before it has
// begun.
func (d *daemon) outputs(m *checker.Monitor) (all []output, err error) {
	metrics := serve.NewMetrics(flags.Version(), m)
	all = []output{{Run: idle, Checked: metrics.Checked}}
	var addresses func() []report.VIP
	behind := func() string { return "" }
	watched := d.watch.watch(d.logger)
	document := func(status checker.Status) report.Document {
		doc := report.FromStatus(d.Redis.Address, flags.Version(), d.Policy, status)
		if addresses != nil {
			doc.VIP = addresses()
		}
		doc.Daemon.TrackFile, doc.Daemon.WatchedVIP = behind(), watched.Troubles()
		return doc
	}
	if d.socket != "" { // first: a daemon that runs already must be noticed before anything is touched
		s, err := unixsocket.NewServer(d.socket, d.mode, m, document)
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: func(ctx context.Context, _ *checker.Monitor) error { return s.Run(ctx) }})
	}
	if len(d.vip.addresses) > 0 {
		v, err := d.vip.open(d.maxAge, d.logger)
		if err != nil {
			return nil, err
		}
		addresses = v.States
		metrics.Addresses(addresses)
		all = append(all, output{Run: v.Run, Checked: v.Checked, Impaired: v.Impaired})
	}
	if len(d.watch.addresses) > 0 {
		metrics.WatchedVIPs(watched.Present)
		all = append(all, output{Run: watched.Run}) // keepalived decides, so it impairs nothing
	}
	if d.agent != "" {
		a, err := serve.NewAgent(d.agent)
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: a.Run})
	}
	if d.http != "" {
		h, err := serve.NewHTTP(d.http, d.webConfig, m, metrics.Handler(), document)
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: func(ctx context.Context, _ *checker.Monitor) error { return h.Run(ctx) }})
	}
	if d.trackFile != "" {
		t, err := keepalived.NewTrackFile(d.trackFile, d.writes("the track file"))
		if err != nil {
			return nil, err
		}
		behind = t.Behind
		metrics.File("track", serve.FileState{Behind: t.Behind, Unread: t.UnreadFor})
		t.Unread = d.unread
		all = append(all, output{Run: t.Run, Impaired: t.Impaired})
	}
	if d.promotionFile != "" {
		t, err := keepalived.NewPromotionFile(d.promotionFile, d.writes("the promotion file"))
		if err != nil {
			return nil, err
		}
		metrics.File("promotion", serve.FileState{Behind: t.Behind, Unread: t.UnreadFor})
		t.Unread = d.unread
		all = append(all, output{Run: t.Run}) // the track file decides, so this one impairs nothing
	}
	if d.textfile != "" {
		t := &serve.Textfile{Path: d.textfile, Metrics: metrics, Failed: d.writes("the textfile")}
		if err := t.Write(); err != nil {
			return nil, fmt.Errorf("--textfile: %w", err)
		}
		all = append(all, output{Run: t.Run})
	}
	return all, nil
}

// unread logs that keepalived does not read a file.
func (d *daemon) unread(err error) {
	if err != nil {
		d.logger.Warn("keepalived does not follow", "error", err)
	} else {
		d.logger.Info("keepalived follows again")
	}
}

// writes logs that a file cannot be written, and that it can again.
func (d *daemon) writes(what string) func(error) {
	return func(err error) {
		if err != nil {
			d.logger.Error("cannot write "+what, "error", err)
		} else {
			d.logger.Info("can write " + what + " again")
		}
	}
}
