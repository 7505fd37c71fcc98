package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/flags"
)

// options are the flags that only the daemon has.
type options struct {
	interval, maxAge, drain      time.Duration
	rise, fall                   int
	socket, socketMode           string
	trackFile, promotionFile     string
	http, webConfig, agent       string
	textfile, disableFile, hello string
	exec                         string
	logFormat                    string
	envFile                      string
	dryRun, help, version        bool
	failoverOnCrash              bool
	failoverMaxLag               flags.Size
	vip                          vipOptions
	watch                        watchOptions
	kill                         killOptions

	mode os.FileMode
}

// defaultDisableFile is in the runtime directory of the unit.
const defaultDisableFile = "/run/redis-is-master/disabled"

// headings are those of --help.
var headings = map[string]string{"interval": "Checks", "socket": "Outputs", "vip": "Virtual IP", "check": "Other"}

func (o *options) add(fs *pflag.FlagSet) {
	o.interval, o.maxAge = checker.DefaultInterval, checker.DefaultMaxAge
	fs.Var((*flags.Seconds)(&o.interval), "interval", "`time` from one check to the next")
	fs.IntVar(&o.rise, "rise", checker.DefaultRise, "`number` of good checks in a row that make a yes")
	fs.IntVar(&o.fall, "fall", checker.DefaultFall,
		"`number` of checks without an answer in a row that end a yes; a definite answer ends it at once")
	fs.Var((*flags.Seconds)(&o.maxAge), "max-age", "`time` after which a check is too old to be believed")
	fs.StringVar(
		&o.hello,
		"hello",
		"auto",
		"`whether` the Sentinels' hellos on the node must confirm a master, off where there are no Sentinels: auto or off",
	)
	fs.StringVar(&o.disableFile, "disable-file", defaultDisableFile,
		"`file` that takes the node out while it exists; its first line is the reason that is shown; empty for none")
	fs.BoolVar(&o.failoverOnCrash, "failover-on-crash", false,
		"ask a Sentinel for a failover at once when the master's process is gone, rather than wait until the Sentinels "+
			"take it for down")
	o.failoverMaxLag = 1 << 20
	fs.Var(&o.failoverMaxLag, "failover-max-lag",
		"`size` that the closest replica may be behind then, in bytes of the stream, such as 1mb")
	fs.Var((*flags.Seconds)(&o.drain), "drain", "`time` to go on answering no after SIGTERM")

	fs.StringVar(&o.socket, "socket", flags.DefaultSocket,
		"unix socket `path` for redis-is-master --cached; empty for none")
	fs.StringVar(&o.socketMode, "socket-mode", "0666", "its permissions, an octal `mode`")
	fs.StringVar(&o.trackFile, "track-file", "", "`file` for keepalived's track_file with weight 0 reverse")
	fs.StringVar(&o.promotionFile, "promotion-file", "",
		"`file` for a second track_file with weight 1: of two masters, the one promoted later gets the VIP")
	fs.StringVar(&o.http, "http", "", "`address` to answer HTTP on, such as 127.0.0.1:9736")
	fs.StringVar(
		&o.webConfig,
		"web.config.file",
		"",
		"`file` for TLS and basic authentication of --http, as of the Prometheus exporters",
	)
	fs.StringVar(&o.agent, "agent", "", "`address` to answer HAProxy's agent-check on, such as 127.0.0.1:9737")
	fs.StringVar(&o.textfile, "textfile", "", "`file` for the textfile collector of the node exporter")
	fs.StringVar(&o.exec, "exec", "",
		"`program` to run at every change of the answer, and again until it exits 0; REDIS_IS_MASTER_ANSWER tells it")
	fs.StringVar(&o.logFormat, "log-format", "text", "`format` of the log: text or json")

	o.vip.add(fs)
	o.watch.add(fs)
	o.kill.add(fs)

	fs.BoolVar(&o.dryRun, "check", false,
		"check the flags and the files that they name, then exit: 0, or 3 with a line for each problem")
	fs.StringVar(&o.envFile, "env-file", "",
		"with --check: the `file` that gives the unit its OPTIONS; they are checked, too")
	fs.BoolVarP(&o.version, "version", "V", false, "print the version")
	fs.BoolVarP(&o.help, "help", "h", false, "print this text")
}

// check rejects contradictions before any I/O.
func (o *options) check(fs *pflag.FlagSet, s flags.Settings) error {
	mode, err := strconv.ParseUint(o.socketMode, 8, 32)
	switch {
	case o.interval <= 0:
		return flags.Errorf("--interval must be above 0")
	case o.maxAge <= 0:
		return flags.Errorf("--max-age must be above 0")
	case o.rise < 1 || o.fall < 1:
		return flags.Errorf("--rise and --fall must be 1 or more")
	case o.maxAge <= o.interval+s.Timeout:
		return flags.Errorf(
			"--max-age must be above the sum of --interval and --timeout, or a check could be stale " +
				"before it ends",
		)
	case err != nil || mode > 0o777:
		return flags.Errorf("--socket-mode is not an octal mode such as 0660")
	case o.failoverOnCrash && (o.hello == "off" || s.Policy.Want() != checker.RoleMaster):
		return flags.Errorf("--failover-on-crash needs the Sentinels and a master: it contradicts --hello off and --role")
	case o.hello != "auto" && o.hello != "off":
		return flags.Errorf("--hello must be auto or off")
	case o.logFormat != "text" && o.logFormat != "json":
		return flags.Errorf("--log-format must be text or json")
	}
	for name, address := range map[string]string{"http": o.http, "agent": o.agent} {
		_, port, err := net.SplitHostPort(address)
		if _, perr := strconv.ParseUint(port, 10, 16); address != "" && (err != nil || perr != nil) {
			return flags.Errorf("--%s is not an address such as 127.0.0.1:9736", name)
		}
	}
	if o.exec != "" && !filepath.IsAbs(o.exec) {
		return flags.Errorf("--exec is not the absolute path of a program; it gets no arguments: write a script for them")
	}
	o.mode = os.FileMode(mode)
	if err := flags.Needs(fs, [][2]string{{"env-file", "check"}, {"web.config.file", "http"},
		{"failover-max-lag", "failover-on-crash"}}); err != nil {
		return err
	}
	if err := o.vip.check(fs, s.Redis.Address, s.Policy, o.hello == "auto"); err != nil {
		return err
	}
	if err := o.kill.check(s.Redis.Address, o.vip.addresses); err != nil {
		return err
	}
	return o.watch.check(s.Redis.Address, s.Policy, o.vip.addresses)
}

// privateDirectories are those that a hardened unit has to itself, or does not
// see at all.
var privateDirectories = []string{"/tmp", "/var/tmp", "/home", "/root", "/run/user"}

// checkUnit rejects what cannot work in a systemd unit.
func (o *options) checkUnit(fs *pflag.FlagSet, p process, args []string) error {
	if p.getenv("INVOCATION_ID") == "" {
		return nil
	}
	file := filepath.Clean(o.disableFile)
	for _, dir := range privateDirectories {
		if strings.HasPrefix(file, dir+"/") {
			return flags.Errorf(
				"--disable-file is under %s, where a unit with PrivateTmp or ProtectHome does not see "+
					"what others make: put it into /run/redis-is-master",
				dir,
			)
		}
	}
	return misnamed(fs, p.environ, args)
}

// disabled reads the note of --disable-file. A file that exists and cannot be
// read disables, too.
func (o *options) disabled() (note string, disabled bool) {
	if unix.Faccessat(unix.AT_FDCWD, o.disableFile, unix.F_OK, 0) == unix.ENOENT {
		return "", false // by far the most often, and at every check
	}
	f, err := os.OpenFile(o.disableFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", false
	}
	note = "by " + o.disableFile
	if err != nil {
		return note, true
	}
	defer f.Close()
	buf := make([]byte, 200)
	n, _ := f.Read(buf)
	if line, _, _ := strings.Cut(string(buf[:n]), "\n"); line != "" {
		note = line
	}
	return note, true
}
