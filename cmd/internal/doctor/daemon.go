package doctor

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/hook"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel/watch"
)

var daemonChecks = []Check{
	{
		ID: "daemon-unit", Group: GroupDaemon,
		About: "systemd runs the daemon by its unit, has started it from the unit's present file, and will start it at " +
			"boot.",
		judge: func(f Facts) []Result {
			d := f.Daemon
			state := d.Show["ActiveState"]
			switch {
			case !d.Systemd:
				return off
			case d.ShowErr != "":
				return warn("see systemctl status "+d.Unit, "systemd did not tell: %s", d.ShowErr)
			case d.Show["LoadState"] == "not-found" && f.Daemon.Document != nil:
				return warn("install the package, and systemctl enable --now "+d.Unit,
					"the daemon runs without a unit: nothing starts it again, or at boot")
			case d.Show["LoadState"] == "not-found":
				return fail("install the package, and systemctl enable --now "+d.Unit, "there is no unit %s", d.Unit)
			case state != "active":
				return by("systemctl enable --now "+d.Unit, fail("if it does not help: journalctl -u "+d.Unit+" -n 20",
					"%s is %s (%s)", d.Unit, state, d.Show["Result"]))
			case d.Show["UnitFileState"] == "disabled":
				return by("systemctl enable "+d.Unit, warn("", "%s is not started at boot", d.Unit))
			case d.Show["NeedDaemonReload"] == "yes":
				return by("systemctl daemon-reload && systemctl restart "+d.Unit,
					warn("on the master this drops the VIP for some seconds", "%s has changed since systemd has read it", d.Unit))
			}
			return tick("%s is active, restarts %s", d.Unit, d.Show["NRestarts"])
		},
	},
	{
		ID: "daemon-watchdog", Group: GroupDaemon,
		About: "The unit has a watchdog, which restarts a daemon that hangs, and its time is well above that of a check.",
		judge: func(f Facts) []Result {
			d := f.Daemon
			if d.Show["LoadState"] != "loaded" || d.Show["ActiveState"] != "active" {
				return off // systemd tells it of what runs
			}
			after, ok := microseconds(d.Show["WatchdogUSec"])
			switch {
			case !ok || after == 0:
				return by(watchdog(d.Unit, 3*time.Second), warn("then systemctl restart "+d.Unit+", on the replicas first",
					"the unit has no watchdog"))
			case after <= d.Interval+d.Timeout:
				return by(watchdog(d.Unit, 2*(d.Interval+d.Timeout)),
					fail("then systemctl restart "+d.Unit+", on the replicas first",
						"the watchdog of %v is not above --interval and --timeout, so that it kills a healthy daemon", after))
			}
			return tick("%v", after)
		},
	},
	{
		ID: "daemon-directory", Group: GroupDaemon,
		About: "The directory of the outputs exists, others can enter it, and tmpfiles.d makes it at boot: keepalived " +
			"ignores a track file whose directory is missing when it starts.",
		judge: func(f Facts) []Result {
			d := f.Daemon
			switch {
			case d.Directory == "":
				return off
			case d.DirectoryErr != "":
				return by("mkdir -p "+quote(d.Directory), fail("keepalived must be started anew after it: it has ignored the file",
					"%s: %s", d.Directory, d.DirectoryErr))
			case d.DirectoryMod&0o001 == 0:
				return by("chmod 0755 "+quote(d.Directory), fail("", "others cannot enter %s, which has mode %04o", d.Directory,
					d.DirectoryMod.Perm()))
			case d.Systemd && d.Tmpfiles == "" && strings.HasPrefix(d.Directory, "/run/"):
				user := or(d.Show["User"], "root")
				return by("echo 'd "+d.Directory+" 0755 "+user+" "+user+" -' >/etc/tmpfiles.d/redis-is-master.conf",
					warn("", "nothing makes %s at boot before keepalived starts", d.Directory))
			}
			return tick("%s", d.Directory)
		},
	},
	{
		ID: "daemon-socket", Group: GroupDaemon,
		About: "The daemon answers on its unix socket, which redis-is-master --cached and the dead man's switch of " +
			"keepalived ask.",
		judge: func(f Facts) []Result {
			d := f.Daemon
			switch {
			case d.Socket == "":
				return warn("leave out --socket= in the flags", "the daemon has no socket, so that nothing notices its death")
			case d.SocketErr != nil:
				e := cause(d.SocketErr)
				command := "systemctl start " + d.Unit
				switch {
				case e.Reason == checker.ReasonPermission:
					return warn("run it as root, or as a user of the group of the socket", "%s", e)
				case d.Running:
					command = "systemctl restart " + d.Unit
				}
				return by(command, fail("if it does not help: journalctl -u "+d.Unit+" -n 20", "%s", e))
			}
			return tick("%s, mode %04o", d.Socket, d.SocketMode.Perm())
		},
	},
	{
		ID: "daemon-age", Group: GroupDaemon,
		About: "The answer of the daemon is younger than --max-age: it goes on asking.",
		judge: documented(func(f Facts) []Result {
			doc := f.Daemon.Document
			age := time.Duration(doc.Daemon.AgeSeconds * float64(time.Second))
			if doc.Reason == checker.ReasonStale || age > f.Daemon.MaxAge {
				return fail("see the load of this host, and the log of "+f.Daemon.Unit, "the answer is %v old, and --max-age is %v",
					age.Round(time.Millisecond), f.Daemon.MaxAge)
			}
			return tick("%v, of at most %v", age.Round(time.Millisecond), f.Daemon.MaxAge)
		}),
	},
	{
		ID: "daemon-answer", Group: GroupDaemon,
		About: "The daemon says yes on the node that the Sentinels name as master, and no on a replica that could be " +
			"promoted; and it has nothing to complain of.",
		judge: documented(judgeAnswer),
	},
	{
		ID: "daemon-track-file", Group: GroupDaemon,
		About: "The track file says what the daemon says, and is written once a second.",
		judge: func(f Facts) []Result {
			d := f.Daemon
			want := "0"
			if d.Document != nil && d.Document.Answer == checker.Yes {
				want = "1"
			}
			switch {
			case d.TrackFile == "":
				return off
			case d.TrackErr != "":
				return fail("systemctl restart "+d.Unit+", and see the space in "+filepath.Dir(d.TrackFile), "%s: %s",
					d.TrackFile, d.TrackErr)
			case d.Document == nil && d.Track == "1":
				return fail("systemctl start "+d.Unit+", or echo 0 >"+d.TrackFile,
					"%s says yes, and no daemon answers: keepalived may hold the VIP", d.TrackFile)
			case d.Document == nil:
				return off
			case d.Track != want:
				return fail("see the log of "+d.Unit+", and the space in "+filepath.Dir(d.TrackFile),
					"%s holds %q, and the answer is %s", d.TrackFile, d.Track, d.Document.Answer)
			case d.TrackAge > 5*time.Second:
				return fail("let the flags of "+d.Unit+" name this file", "%s was not written for %v", d.TrackFile,
					d.TrackAge.Round(time.Second))
			}
			return tick("%s holds %s", d.TrackFile, want)
		},
	},
	{
		ID: "daemon-crash-failover", Group: GroupDaemon,
		About: "What a crash of Redis would lead to now: with --failover-on-crash the daemon of a believed master asks a " +
			"Sentinel for a failover at once, if a majority of them answers and a replica is online; without it the " +
			"Sentinels elect one after down-after-milliseconds.",
		judge: documented(judgeCrash),
	},
	{
		ID: "daemon-exec", Group: GroupDaemon,
		About: "The program of --exec exists, the user of the daemon may run it, nobody else may write it, and its last " +
			"run has exited 0. Else what it moves, such as the address of a cloud, does not follow the master.",
		judge: judgeExec,
	},
}

// watchdog is a command that gives the unit one.
func watchdog(unit string, after time.Duration) string {
	dir := "/etc/systemd/system/" + unit + ".d"
	return fmt.Sprintf("mkdir -p %s && printf '[Service]\\nWatchdogSec=%v\\n' >%s/watchdog.conf && "+
		"systemctl daemon-reload",
		dir, after, dir)
}

// documented judges only where the daemon has answered.
func documented(judge func(Facts) []Result) func(Facts) []Result {
	return func(f Facts) []Result {
		if f.Daemon.Document == nil || f.Daemon.Document.Daemon == nil {
			return off
		}
		return judge(f)
	}
}

func judgeAnswer(f Facts) []Result {
	doc := f.Daemon.Document
	line := fmt.Sprintf("%s: %s: %s", doc.Answer, doc.Reason, doc.Detail)
	// What is wrong with the Sentinels is told by their own checks.
	mine := *doc.Daemon
	mine.Sentinels = nil
	if troubles := (report.Document{Daemon: &mine}).Troubles(); len(troubles) > 0 {
		return warn("see the log of "+f.Daemon.Unit, "%s; but %s", doc.Answer, strings.Join(troubles, "; "))
	}
	switch {
	case doc.Answer == checker.Yes:
		return tick("%s", line)
	case doc.Reason == checker.ReasonDisabled:
		return warn("remove the file of --disable-file, which is mostly /run/redis-is-master/disabled", "%s", line)
	case doc.Reason == checker.ReasonRole && f.Redis.Err == nil && f.Redis.Observation.Role == checker.RoleReplica &&
		f.Redis.Observation.LinkUp:
		return tick("%s", line)
	case doc.Reason == checker.ReasonStarting || doc.Reason == checker.ReasonUnconfirmed:
		return warn(or(doc.Hint, "wait some seconds, and run it again"), "%s", line)
	}
	return fail(or(doc.Hint, "see the checks above, and the log of "+f.Daemon.Unit), "%s", line)
}

func judgeCrash(f Facts) []Result {
	d := f.Daemon
	after := ""
	for _, s := range f.Sentinels.All {
		if s.Report != nil && s.Report.DownAfter > 0 {
			after = fmt.Sprintf(" after %v", s.Report.DownAfter)
			break
		}
	}
	crash := d.Document.Daemon.CrashFailover
	switch {
	case f.Sentinels.Off:
		return off
	case crash == nil:
		return tick("off: the Sentinels elect a new master%s", after)
	case d.Document.Answer != checker.Yes:
		return tick("on: nothing while this node is no believed master")
	case !crash.Ready:
		return warn("see the Sentinels above; the user may need: redis-cli -p 26379 "+watch.FailoverGrant,
			"on, but no failover could be asked for: %s; the Sentinels elect%s instead", crash.Missing, after)
	}
	return tick("on: the daemon asks a Sentinel for a failover at once")
}

func judgeExec(f Facts) []Result {
	d := f.Daemon
	switch {
	case d.Exec == "":
		return off
	case d.ExecTrouble != "":
		text, hint := d.ExecTrouble, "put it there, of root, with mode 0755"
		i := strings.LastIndex(text, ": ")
		if i < 0 {
			return fail(hint, "%s: %s", d.Exec, text)
		}
		command := text[i+2:]
		if start, ok := strings.CutSuffix(command, " it"); ok {
			command = start + " " + quote(d.Exec)
		}
		return by(command, fail("", "%s is not run: %s", d.Exec, text[:i]))
	case d.Document == nil || d.Document.Daemon == nil:
		return tick("%s may be run; how it has ended is not known", d.Exec)
	case d.Document.Daemon.Exec == nil:
		return by("systemctl restart "+d.Unit, fail("on the master this drops the VIP for some seconds",
			"the daemon that runs was started without --exec"))
	}
	last := d.Document.Daemon.Exec
	if last.Error != "" {
		return fail("mend what it says; the daemon runs it again within 30 s", "%s %s", d.Exec, last.Text())
	}
	if behind := time.Duration(last.BehindSeconds * float64(time.Second)); behind > hook.DefaultTimeout {
		return warn("see the log of "+d.Unit, "%s has not told the answer for %v", d.Exec, behind.Round(time.Second))
	}
	return tick("%s %s", d.Exec, last.Text())
}

// microseconds reads a time of systemctl show: 3s, 1min 30s, 500ms, infinity or
// a bare number.
func microseconds(text string) (time.Duration, bool) {
	if n, err := strconv.ParseUint(text, 10, 62); err == nil {
		return time.Duration(n) * time.Microsecond, true
	}
	text = strings.NewReplacer(" ", "", "min", "m", "us", "µs").Replace(text)
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
