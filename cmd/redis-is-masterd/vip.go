package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
	"redis-is-master/checker/vip"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
)

// vipOptions are the flags about the addresses that the daemon itself holds.
type vipOptions struct {
	list              []string
	device            string
	probe, forceAfter time.Duration
	ahead             bool

	addresses []netip.Prefix
}

func (o *vipOptions) add(fs *pflag.FlagSet) {
	o.addAddresses(fs)
	o.probe = vip.DefaultProbe
	fs.Var((*flags.Seconds)(&o.probe), "vip-probe", "`time` to probe for a duplicate before taking the address")
	fs.BoolVar(&o.ahead, "vip-probe-ahead", false,
		"probe all the time while the answer is no, so that an address that nobody has is taken at once")
	fs.Var((*flags.Seconds)(&o.forceAfter), "vip-force-after",
		"`time` after which an address is taken although another host still answers for it; 0 for never")
}

// addAddresses adds the flags that say which addresses, and where.
func (o *vipOptions) addAddresses(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.list, "vip", nil,
		"`address` to hold while the answer is yes, where there is no keepalived, such as 10.0.0.100/32; repeat it for each")
	fs.StringVar(&o.device, "vip-interface", "", "the `interface` to hold them on")
}

// check rejects what would hold an address on less than a guarded yes.
func (o *vipOptions) check(fs *pflag.FlagSet, node string, p checker.Policy, hello bool) error {
	err := flags.Needs(fs, [][2]string{{"vip", "vip-interface"}, {"vip-interface", "vip"}, {"vip-probe", "vip"},
		{"vip-probe-ahead", "vip"}, {"vip-force-after", "vip"}})
	if err == nil {
		err = o.parse()
	}
	host, _, _ := net.SplitHostPort(node)
	switch {
	case err != nil || len(o.list) == 0:
		return err
	case p.Want() != checker.RoleMaster:
		return flags.Errorf("--vip and --role contradict each other: more than one node may be a replica")
	case !hello && !p.Sentinels && p.MinReplicas == 0:
		return flags.Errorf("--vip with --hello off needs --sentinel or --min-replicas: role:master alone is no reason " +
			"to hold an address")
	case slices.ContainsFunc(o.addresses, func(p netip.Prefix) bool { return p.Addr().String() == host }):
		return flags.Errorf("--vip is the address of the Redis node: it would be removed while the node is a replica")
	case o.probe < 15*time.Millisecond || o.probe > 10*time.Second:
		return flags.Errorf("--vip-probe is not between 15ms and 10s")
	case fs.Changed("vip-force-after") && o.forceAfter < vip.MinForceAfter:
		return flags.Errorf("--vip-force-after is below %v: for that long the old master of a planned failover may still "+
			"hold the address", vip.MinForceAfter)
	}
	return nil
}

func (o *vipOptions) parse() error {
	for _, text := range o.list {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Zone() != "" || !p.Addr().IsGlobalUnicast() || p.Addr().Is4In6() || p.Bits() == 0 {
			return flags.Errorf("--vip is not an address with a length, such as 10.0.0.100/32 or 2001:db8::100/128")
		}
		if slices.ContainsFunc(o.addresses, func(q netip.Prefix) bool { return q.Addr() == p.Addr() }) {
			return flags.Errorf("--vip is given twice with the same address")
		}
		o.addresses = append(o.addresses, p)
	}
	if len(o.list) > 0 && (o.device == "" || len(o.device) > 15) {
		return flags.Errorf("--vip-interface is not the name of an interface")
	}
	return nil
}

// companionCommand is the subcommand that the daemon starts: it removes the
// addresses when the daemon is gone.
const companionCommand = "vip-companion"

// open opens what holds the addresses, or goes on where the program before was.
func (o *vipOptions) open(maxAge time.Duration, logger *slog.Logger, in *inheritance) (v *vip.VIP, err error) {
	argv := []string{os.Args[0], companionCommand, "--max-age", maxAge.String(), "--vip-interface", o.device}
	for _, text := range o.list {
		argv = append(argv, "--vip", text)
	}
	options := vip.Options{Interface: o.device, Addresses: o.addresses, MaxAge: maxAge, Probe: o.probe,
		Ahead: o.ahead, ForceAfter: o.forceAfter, Companion: argv, Logger: logger}
	if in != nil {
		v, err = vip.Resume(options, in.at, in.Records[vipRecord], in.Files)
	} else {
		v, err = vip.New(options)
	}
	if err != nil {
		err = fmt.Errorf("--vip: %w", err)
	}
	return v, err
}

// removeVIP is the subcommand remove-vip, for the unit's ExecStopPost. The
// daemon's own flags are ignored, so that the unit can give it the same ones.
func removeVIP(p process, args []string) int {
	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	var o options
	node := flags.Node{Getenv: p.getenv, Stdin: p.stdin, FindsSentinels: true}
	node.Add(fs, checker.RoleMaster)
	o.add(fs)
	err := flags.Parse(fs, args)
	if err == nil {
		err = o.vip.parse()
	}
	if err == nil && len(o.vip.list) == 0 {
		err = flags.Errorf("remove-vip needs --vip and --vip-interface")
	}
	if err != nil {
		return p.fail(exit.Usage, err)
	}
	if err := vip.Remove(o.vip.device, o.vip.addresses); err != nil {
		return p.fail(exit.Failed, err)
	}
	return exit.OK
}

// runCompanion is the subcommand vip-companion.
func runCompanion(p process, args []string) int {
	fs := pflag.NewFlagSet(p.name, pflag.ContinueOnError)
	var o vipOptions
	maxAge := checker.DefaultMaxAge
	o.addAddresses(fs)
	fs.Var((*flags.Seconds)(&maxAge), "max-age", "")
	err := flags.Parse(fs, args)
	if err == nil {
		err = o.parse()
	}
	if err != nil {
		return p.fail(exit.Usage, err)
	}
	logger := newLogger(p.stderr, "text", p.journal)
	if err := vip.Guard(p.stdin, p.stdout, o.device, o.addresses, maxAge, logger); err != nil {
		return p.fail(exit.Failed, err)
	}
	return exit.OK
}
