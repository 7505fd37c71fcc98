package main

import (
	"context"
	"fmt"

	"redis-is-master/checker"
	unixsocket "redis-is-master/checker/cached"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel/watch"
	"redis-is-master/checker/serve"
	"redis-is-master/cmd/internal/flags"
	"redis-is-master/keepalived"
)

// outputs opens the outputs, or goes on with what the program before has opened. What
// cannot be opened ends the daemon before it has begun.
func (d *daemon) outputs(m *checker.Monitor, r *watch.Replacement) (all []output, err error) {
	metrics := serve.NewMetrics(flags.Version(), m)
	all = []output{{Run: idle, Checked: metrics.Checked}}
	var addresses func() []report.VIP
	behind := func() string { return "" }
	hooked := func() *report.Exec { return nil }
	watched := d.watch.watch(d.logger)
	cannotKill := ""
	document := func(status checker.Status) report.Document {
		doc := report.FromStatus(d.Redis.Address, flags.Version(), d.Policy, status)
		doc.HostAddresses = watched.Addresses()
		if addresses != nil {
			doc.VIP = addresses()
		}
		doc.Daemon.TrackFile, doc.Daemon.WatchedVIP = behind(), watched.Troubles()
		doc.Daemon.KillConnections = cannotKill
		doc.Daemon.Exec = hooked()
		if r != nil {
			doc.Daemon.CrashFailover = report.NewCrashFailover(r.State())
		}
		return doc
	}
	if r != nil {
		metrics.CrashFailover(r.State)
	}
	in := d.inherited
	if d.socket != "" { // first: a daemon that runs already must be noticed before anything is touched
		var s *unixsocket.Server
		if in != nil {
			s, err = unixsocket.Resume(d.socket, in.Files, m, document)
		} else {
			s, err = unixsocket.NewServer(d.socket, d.mode, m, document)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: func(ctx context.Context, _ *checker.Monitor) error { return s.Run(ctx) },
			Hold: func(h *handing) error {
				release, err := s.Hold(h.Files)
				if err == nil {
					h.releases = append(h.releases, release)
				}
				return err
			}})
	}
	if len(d.vip.addresses) > 0 {
		v, err := d.vip.open(d.maxAge, d.logger, in)
		if err != nil {
			return nil, err
		}
		addresses = v.States
		metrics.Addresses(addresses)
		all = append(all, output{Run: v.Run, Checked: v.Checked, Impaired: v.Impaired,
			Hold: func(h *handing) error {
				record, release, err := v.Hold(h.at, h.Files)
				return h.held(vipRecord, record, release, err)
			}})
	}
	if len(d.watch.addresses) > 0 {
		metrics.WatchedVIPs(watched.Present)
		all = append(all, output{Run: watched.Run}) // keepalived decides, so it impairs nothing
	}
	if len(d.kill.addresses) > 0 {
		var o output
		o, cannotKill = d.hangup()
		all = append(all, o)
	}
	if d.agent != "" {
		var a *serve.Agent
		if in != nil {
			a, err = serve.ResumeAgent(in.Files)
		} else {
			a, err = serve.NewAgent(d.agent)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: a.Run, Drain: a.Hold})
	}
	if d.http != "" {
		var h *serve.HTTP
		if in != nil {
			h, err = serve.ResumeHTTP(in.Files, d.webConfig, m, metrics.Handler(), document)
		} else {
			h, err = serve.NewHTTP(d.http, d.webConfig, m, metrics.Handler(), document)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, output{Run: func(ctx context.Context, _ *checker.Monitor) error { return h.Run(ctx) },
			Drain: h.Hold})
	}
	if d.trackFile != "" {
		var t *keepalived.TrackFile
		if failed := d.writes("the track file"); in != nil {
			t, err = keepalived.ResumeTrackFile(d.trackFile, failed, in.at, in.Records[trackRecord])
		} else {
			t, err = keepalived.NewTrackFile(d.trackFile, failed)
		}
		if err != nil {
			return nil, err
		}
		behind = t.Behind
		metrics.File("track", serve.FileState{Behind: t.Behind, Unread: t.UnreadFor})
		t.Unread = d.unread
		all = append(all, output{Run: t.Run, Impaired: t.Impaired, Hold: holdFile(trackRecord, t)})
	}
	if d.promotionFile != "" {
		var t *keepalived.TrackFile
		if failed := d.writes("the promotion file"); in != nil {
			t, err = keepalived.ResumePromotionFile(d.promotionFile, failed, in.at, in.Records[promotionRecord])
		} else {
			t, err = keepalived.NewPromotionFile(d.promotionFile, failed)
		}
		if err != nil {
			return nil, err
		}
		metrics.File("promotion", serve.FileState{Behind: t.Behind, Unread: t.UnreadFor})
		t.Unread = d.unread
		// The track file decides, so this one impairs nothing.
		all = append(all, output{Run: t.Run, Hold: holdFile(promotionRecord, t)})
	}
	if d.exec != "" {
		h := d.hook()
		if in != nil {
			err = h.Restore(in.Records[execRecord])
		}
		if err != nil {
			return nil, err
		}
		hooked = func() *report.Exec { return stateOf(h) }
		metrics.Exec(h.State)
		all = append(all, output{Run: h.Run, Hold: func(handing *handing) error {
			record, release, err := h.Hold()
			return handing.held(execRecord, record, release, err)
		}})
	}
	if d.textfile != "" {
		t := &serve.Textfile{Path: d.textfile, Metrics: metrics, Failed: d.writes("the textfile")}
		if in == nil {
			if err := t.Write(); err != nil {
				return nil, fmt.Errorf("--textfile: %w", err)
			}
		}
		all = append(all, output{Run: t.Run, Hold: func(h *handing) error { return h.lock(&t.Writing, t.Path) }})
	}
	return all, nil
}

// holdFile is the Hold of a file that keepalived reads.
func holdFile(name string, t *keepalived.TrackFile) func(*handing) error {
	return func(h *handing) error {
		record, release, err := t.Hold(h.at)
		return h.held(name, record, release, err)
	}
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
