package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/vip"
	"redis-is-master/cmd/internal/flags"
)

// vipOptions are the flags about the addresses that the daemon itself holds.
type vipOptions struct {
	list              []string
	device            string
	probe, forceAfter time.Duration
	ahead             bool
	remove, companion bool

	addresses []netip.Prefix
}

func (o *vipOptions) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.list, "vip", nil, "`address` to hold while the answer is yes, where there is no keepalived, such as 10.0.0.100/32; repeat it for each")
	fs.StringVar(&o.device, "vip-interface", "", "the `interface` to hold them on")
	fs.DurationVar(&o.probe, "vip-probe", vip.DefaultProbe, "`time` to ask for before an address is taken: another host that has it keeps it")
	fs.BoolVar(&o.ahead, "vip-probe-ahead", false, "ask all the time while the answer is no, so that an address that nobody has is taken at once")
	fs.DurationVar(&o.forceAfter, "vip-force-after", 0, "`time` after which an address is taken although another host still answers for it; 0 for never")
	fs.BoolVar(&o.remove, "vip-remove", false, "instead of all this, remove each --vip from --vip-interface, for ExecStopPost; other flags do not matter")
	fs.BoolVar(&o.companion, "vip-companion", false, "what the daemon starts")
	fs.Lookup("vip-companion").Hidden = true
}

// check rejects what would hold an address on less than a guarded yes.
func (o *vipOptions) check(fs *pflag.FlagSet, node string, p checker.Policy, hello bool) error {
	err := flags.Needs(fs, [][2]string{{"vip", "vip-interface"}, {"vip-interface", "vip"}, {"vip-probe", "vip"}, {"vip-probe-ahead", "vip"}, {"vip-force-after", "vip"}})
	if err == nil {
		err = o.parse()
	}
	switch {
	case err != nil || len(o.list) == 0:
		return err
	case p.Want() != checker.RoleMaster:
		return flags.Errorf("--vip and --role contradict each other: more than one node may be a replica")
	case !hello && !p.Sentinels && p.MinReplicas == 0:
		return flags.Errorf("--vip with --hello off needs --sentinel or --min-replicas: role:master alone is no reason to hold an address")
	case slices.ContainsFunc(o.addresses, func(p netip.Prefix) bool { host, _, _ := net.SplitHostPort(node); return host == p.Addr().String() }):
		return flags.Errorf("--vip is the address of the Redis node: it would be removed while that is a replica")
	case o.probe < 15*time.Millisecond || o.probe > 10*time.Second:
		return flags.Errorf("--vip-probe is not between 15ms and 10s")
	case fs.Changed("vip-force-after") && o.forceAfter < vip.MinForceAfter:
		return flags.Errorf("--vip-force-after is below %v: the old master of a planned failover is right in holding the address for that long", vip.MinForceAfter)
	}
	return nil
}

func (o *vipOptions) parse() error {
	for _, text := range o.list {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Zone() != "" || !p.Addr().IsGlobalUnicast() || p.Addr().Is4In6() || p.Bits() == 0 {
			return flags.Errorf("--vip is no address with its length, such as 10.0.0.100/32 or 2001:db8::100/128")
		}
		if slices.ContainsFunc(o.addresses, func(q netip.Prefix) bool { return q.Addr() == p.Addr() }) {
			return flags.Errorf("--vip is given twice with the same address")
		}
		o.addresses = append(o.addresses, p)
	}
	if len(o.list) > 0 && (o.device == "" || len(o.device) > 15) {
		return flags.Errorf("--vip-interface is no name of an interface")
	}
	return nil
}

// publisher opens what holds the addresses.
func (o *vipOptions) publisher(maxAge time.Duration, logger *slog.Logger) (*vip.VIP, error) {
	argv := []string{os.Args[0], "--vip-companion", "--max-age", maxAge.String(), "--vip-interface", o.device}
	for _, text := range o.list {
		argv = append(argv, "--vip", text)
	}
	v, err := vip.New(vip.Options{Interface: o.device, Addresses: o.addresses, MaxAge: maxAge, Probe: o.probe, Ahead: o.ahead,
		ForceAfter: o.forceAfter, Companion: argv, Logger: logger})
	if err != nil {
		err = fmt.Errorf("--vip: %w", err)
	}
	return v, err
}

// run does what needs no Redis: it removes the addresses, now or when the
// daemon is gone.
func (o *vipOptions) run(maxAge time.Duration, stdin io.Reader, stdout, stderr io.Writer, fail func(int, error) int) int {
	if err := o.parse(); err != nil {
		return fail(exitUsage, err)
	}
	if len(o.list) == 0 {
		return fail(exitUsage, flags.Errorf("--vip-remove needs --vip and --vip-interface"))
	}
	var err error
	if o.companion {
		err = vip.Guard(stdin, stdout, o.device, o.addresses, maxAge, slog.New(slog.NewTextHandler(stderr, nil)))
	} else {
		err = vip.Remove(o.device, o.addresses)
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	return exitOK
}
