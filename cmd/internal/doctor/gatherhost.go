package doctor

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func gatherHost(ctx context.Context, f Facts) Host {
	var h Host
	h.lookAround(ctx)
	var clock unix.Timex
	if state, err := unix.Adjtimex(&clock); err != nil {
		h.ClockErr = err.Error()
	} else if state == unix.TIME_ERROR || clock.Status&unix.STA_UNSYNC != 0 {
		h.Clock = "the clock is not synchronised"
	}
	h.Nonlocal4 = sysctl("net/ipv4/ip_nonlocal_bind") == "1"
	h.Nonlocal6 = sysctl("net/ipv6/ip_nonlocal_bind") == "1"
	for _, v := range f.Keepalived.VIPs {
		vip := v.Prefix.Addr().String()
		if slices.Contains(strings.Fields(strings.ReplaceAll(f.Redis.Settings["bind"], "-", "")), vip) {
			h.Bound = append(h.Bound, "redis.conf has bind "+vip)
		}
		if bindsVIP(f.HAProxy.Text, vip) {
			h.Bound = append(h.Bound, f.HAProxy.File+" has bind "+vip)
		}
		if !slices.Contains(h.Interfaces, v.Interface) {
			h.Interfaces = append(h.Interfaces, v.Interface)
		}
	}
	for _, name := range append([]string{"all"}, h.Interfaces...) {
		if sysctl("net/ipv4/conf/"+name+"/proxy_arp") == "1" {
			h.ProxyARP = append(h.ProxyARP, "net.ipv4.conf."+name+".proxy_arp")
		}
	}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil && file == "/proc/self/net/tcp" {
			h.ListenErr = reason(err)
		}
		h.Listening = append(h.Listening, parseListening(string(text))...)
	}
	return h
}

// lookAround learns what commands can be given to this host.
func (h *Host) lookAround(ctx context.Context) {
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				h.Addresses = append(h.Addresses, p.Addr())
			}
		}
	}
	if _, err := exec.LookPath("apt-get"); err == nil {
		h.Apt = true
	}
	if hasSystemd() {
		h.RedisUnit = firstUnit(ctx, "redis-server.service", "redis.service", "valkey-server.service", "valkey.service")
		h.SentinelUnit = firstUnit(ctx, "redis-sentinel.service", "valkey-sentinel.service")
	}
	for name, file := range map[*string]string{&h.SentinelFile: "/etc/redis/sentinel.conf", &h.Profile: exampleProfile} {
		if _, err := os.Stat(file); err == nil {
			*name = file
		}
	}
}

const exampleProfile = "/usr/share/doc/redis-is-master/examples/keepalived/track-file.conf"

// firstUnit is the first unit of some that is installed.
func firstUnit(ctx context.Context, units ...string) string {
	for _, u := range units {
		if show, _ := systemctl(ctx, u, "LoadState"); show["LoadState"] == "loaded" {
			return u
		}
	}
	return ""
}

func sysctl(path string) string {
	b, _ := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(b))
}

// bindsVIP reports whether a line of haproxy.cfg binds an address.
func bindsVIP(text, address string) bool {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "bind" {
			continue
		}
		host, _, err := net.SplitHostPort(words[1])
		if err == nil && host == address {
			return true
		}
	}
	return false
}

// parseListening reads the sockets that listen.
//
// Format: /proc/net/tcp of proc(5): the address in hexadecimal, as words in the
// order of the machine's bytes, and the state 0A.
func parseListening(text string) (all []netip.AddrPort) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 4 || words[3] != "0A" {
			continue
		}
		host, port, _ := strings.Cut(words[1], ":")
		b, err := hex.DecodeString(host)
		n, perr := strconv.ParseUint(port, 16, 16)
		if err != nil || perr != nil || len(b)%4 != 0 {
			continue
		}
		if littleEndian {
			for i := 0; i < len(b); i += 4 {
				slices.Reverse(b[i : i+4])
			}
		}
		if a, ok := netip.AddrFromSlice(b); ok {
			all = append(all, netip.AddrPortFrom(a, uint16(n)))
		}
	}
	return all
}

// littleEndian is the order of this machine's bytes.
var littleEndian = func() bool {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], 1)
	return b[0] == 1
}()

const defaultHAProxy = "/etc/haproxy/haproxy.cfg"

func gatherHAProxy(ctx context.Context) HAProxy {
	h := HAProxy{File: defaultHAProxy}
	all, _ := processes("haproxy")
	if h.Running = len(all) > 0; h.Running {
		h.File = or(flagOf(all[0].argv, "-f", "--file"), defaultHAProxy)
	}
	text, err := os.ReadFile(h.File)
	if err != nil {
		h.FileErr = reason(err)
		return h
	}
	h.Text = string(text)
	if len(backends(h.Text)) == 0 {
		return h
	}
	out, err := output(ctx, "haproxy", "-c", "-f", h.File)
	if err == nil {
		return h
	}
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		h.Invalid = firstAlert(out)
	} else {
		h.CheckErr = err.Error()
	}
	return h
}

// firstAlert is the first line that names a line of the file. Its text is left
// out, for it may repeat a secret of the configuration.
func firstAlert(out string) string {
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "parsing ["); ok {
			place, _, _ := strings.Cut(rest, "]")
			return "see " + place
		}
	}
	return "see what it prints"
}
