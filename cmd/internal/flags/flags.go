// Package flags holds the flags that both commands share: how to reach the
// node, what to expect of it, and what contradicts what.
package flags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
)

// An Error is a mistake in the command line, the environment or a file that
// they name, in one line. It never repeats a value: any of them could be a
// password that was meant for another flag.
type Error string

func (e Error) Error() string { return string(e) }

// Errorf makes an [Error].
func Errorf(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }

// A Node is the flags about one Redis node.
type Node struct {
	// Getenv and Stdin are the process's, or a test's.
	Getenv func(string) string
	Stdin  io.Reader
	// TLS is secure.Handshake, or nil where that is not linked.
	TLS TLS

	host, socket, url, user, passwordFile string
	port                                  uint16
	tls                                   tlsFiles
	timeout                               seconds
	role                                  string
	allowLoading, allowCluster            bool
	minUptime                             time.Duration
	minReplicas                           int
	maxLag                                List
	announce                              string
	sentinels                             List
	sentinelMaster                        string
	sentinelUser, sentinelPasswordFile    string
	sentinelTLS                           tlsFiles

	fs *pflag.FlagSet
}

// Add defines the flags in fs. Role is the default of --role.
func (n *Node) Add(fs *pflag.FlagSet, role checker.Role) {
	n.fs, n.timeout = fs, seconds(checker.DefaultTimeout)
	fs.StringVarP(&n.host, "host", "H", "127.0.0.1", "name or `address` of the Redis node")
	fs.Uint16VarP(&n.port, "port", "p", 6379, "its TCP `port`")
	fs.StringVarP(&n.socket, "unix-socket", "s", "", "`path` of its unix socket, instead of host and port")
	fs.StringVarP(&n.url, "url", "u", "", "redis://, rediss:// or unix:// `URL` instead; without a password")
	fs.StringVar(&n.user, "user", "", "ACL user `name`")
	fs.StringVar(&n.passwordFile, "password-file", "", "`file` with the password, - for standard input; else the environment variable REDISCLI_AUTH, else the systemd credential redis-password")
	fs.BoolVar(&n.tls.on, "tls", false, "connect by TLS")
	fs.StringVar(&n.tls.cacert, "cacert", "", "PEM `file` of the CAs to trust, instead of the system's")
	fs.StringVar(&n.tls.cert, "cert", "", "PEM `file` of the client certificate")
	fs.StringVar(&n.tls.key, "key", "", "PEM `file` of its key")
	fs.StringVar(&n.tls.sni, "sni", "", "`name` to ask for and to expect in the server's certificate, instead of the host")
	fs.VarP(&n.timeout, "timeout", "t", "total `duration` over lookup, dial, TLS, AUTH and reply; a bare number is seconds")
	fs.StringVar(&n.role, "role", string(role), "the `role` that is a yes: master, replica or any")
	fs.BoolVar(&n.allowLoading, "allow-loading", false, "accept a node that is still loading its data set")
	fs.BoolVar(&n.allowCluster, "allow-cluster", false, "accept a Redis Cluster node")
	fs.Var(&n.maxLag, "max-lag", "accept a replica only if it heard its master within a `limit` such as 15s, or is at most so many bytes behind it, such as 1mb; may be given once for each")
	fs.IntVar(&n.minReplicas, "min-replicas", 0, "accept a master only with this `number` of online replicas that it heard within min-replicas-max-lag, 10s where that is not counted")
	fs.DurationVar(&n.minUptime, "min-uptime", 0, "do not believe a master whose process is younger than this `time`, unless the Sentinels vouch for it")
	fs.Var(&n.sentinels, "sentinel", "`address` of a Sentinel, such as 10.0.0.1:26379; repeat it for each: a majority of them must name this node as master")
	fs.StringVar(&n.sentinelMaster, "sentinel-master", "", "`name` by which they know the master, such as mymaster")
	fs.StringVar(&n.sentinelUser, "sentinel-user", "", "ACL user `name` for them")
	fs.StringVar(&n.sentinelPasswordFile, "sentinel-password-file", "", "`file` with the password for them; none is sent without it")
	n.sentinelTLS.prefix = "sentinel-"
	fs.BoolVar(&n.sentinelTLS.on, "sentinel-tls", false, "connect to them by TLS")
	fs.StringVar(&n.sentinelTLS.cacert, "sentinel-cacert", "", "PEM `file` of the CAs to trust for them")
	fs.StringVar(&n.sentinelTLS.cert, "sentinel-cert", "", "PEM `file` of the client certificate for them")
	fs.StringVar(&n.sentinelTLS.key, "sentinel-key", "", "PEM `file` of its key")
	fs.StringVar(&n.sentinelTLS.sni, "sentinel-sni", "", "`name` to expect in their certificates, instead of their hosts")
	fs.StringVar(&n.announce, "announce-addr", "", "what the Sentinels call this node, where that is none of this host's addresses: `host`, or host:port")
}

// NodeFlags are the names that [Node.Add] defines.
var NodeFlags = []string{"host", "port", "unix-socket", "url", "user", "password-file", "tls", "cacert", "cert", "key", "sni",
	"timeout", "role", "allow-loading", "allow-cluster", "max-lag", "min-replicas", "min-uptime", "sentinel", "sentinel-master", "sentinel-user",
	"sentinel-password-file", "sentinel-tls", "sentinel-cacert", "sentinel-cert", "sentinel-key", "sentinel-sni", "announce-addr"}

// DefaultSocket is where the daemon answers and the one-shot asks it.
const DefaultSocket = "/run/redis-is-master/check.sock"

// Timeout is the total of one check.
func (n *Node) Timeout() time.Duration { return time.Duration(n.timeout) }

// Settings are what the flags of a [Node] amount to.
type Settings struct {
	Redis    *checker.Redis
	Self     *checker.Self
	Others   *checker.Others // nil if the policy asks nobody
	Policy   checker.Policy
	Timeout  time.Duration
	Warnings []string // for standard error
}

// Settings checks the flags against each other and resolves them. It opens
// neither a connection nor a file. Its errors are [Error]s.
func (n *Node) Settings() (Settings, error) {
	s := Settings{
		Redis: &checker.Redis{Network: "tcp", Address: net.JoinHostPort(strings.Trim(n.host, "[]"), strconv.Itoa(int(n.port))), Username: n.user},
		Policy: checker.Policy{Role: checker.Role(n.role), AllowLoading: n.allowLoading, AllowCluster: n.allowCluster,
			MinUptime: n.minUptime, MinReplicas: n.minReplicas, Sentinels: len(n.sentinels) > 0},
		Timeout: time.Duration(n.timeout),
	}
	s.Self = &checker.Self{Node: s.Redis, Announced: n.announce}
	err := Conflicts(n.fs, [][2]string{
		{"unix-socket", "host"}, {"unix-socket", "port"}, {"unix-socket", "tls"},
		{"url", "host"}, {"url", "port"}, {"url", "unix-socket"},
	})
	if err != nil {
		return s, err
	}
	switch s.Policy.Role {
	case checker.RoleMaster, checker.RoleReplica, checker.RoleAny:
	default:
		return s, Errorf("--role is none of master, replica, any")
	}
	if strings.ContainsAny(n.host, "/@") {
		return s, Errorf("--host is no name or address: for a URL there is --url")
	}
	if strings.Contains(n.socket, "://") {
		return s, Errorf("--unix-socket is no path: for a URL there is --url")
	}
	switch {
	case n.fs.Changed("unix-socket"):
		s.Redis.Network, s.Redis.Address = "unix", n.socket
	case n.fs.Changed("url"):
		if n.tls.on, err = n.parseURL(s.Redis); err != nil {
			return s, err
		}
	}
	if s.Redis.Network == "tcp" {
		if host, port, _ := net.SplitHostPort(s.Redis.Address); host == "" || port == "0" {
			return s, Errorf("--host is empty, or --port is 0")
		}
	} else if s.Redis.Address == "" {
		return s, Errorf("--unix-socket is empty")
	}
	if err := n.tls.check(n.fs, ", or --url rediss://"); err != nil {
		return s, err
	}
	if n.tls.on {
		s.Redis.TLS = n.tls.handshake(n.TLS)
	}
	if s.Redis.Password, err = n.password(); err != nil {
		return s, err
	}
	if s.Redis.Username != "" && s.Redis.Password == nil {
		return s, Errorf("--user needs a password: give --password-file or REDISCLI_AUTH; without one, Redis would not be told the user at all")
	}
	for flag, file := range map[string]string{"password-file": n.passwordFile, "sentinel-password-file": n.sentinelPasswordFile} {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
			s.Warnings = append(s.Warnings, "the --"+flag+" is readable by everyone: chmod o-r")
		}
	}
	err = n.guards(&s)
	if err == nil && n.TLS == nil && (n.tls.on || n.sentinelTLS.on) {
		err = ErrTLS
	}
	return s, err
}

// ErrTLS is of [Node.Settings] that want TLS of a [Node] that has none.
const ErrTLS = Error("TLS is not linked")

// guards resolves the flags of the guards.
func (n *Node) guards(s *Settings) error {
	if n.minUptime < 0 || n.minReplicas < 0 {
		return Errorf("--min-uptime or --min-replicas is below 0")
	}
	for _, text := range n.maxLag {
		d, bytes, err := parseLag(text)
		switch {
		case err != nil:
			return err
		case d > 0 && s.Policy.MaxLag > 0 || bytes > 0 && s.Policy.MaxLagBytes > 0:
			return Errorf("--max-lag is given twice for the same measure")
		case d > 0:
			s.Policy.MaxLag = d
		default:
			s.Policy.MaxLagBytes = bytes
		}
	}
	err := Needs(n.fs, [][2]string{{"sentinel", "sentinel-master"}, {"sentinel-master", "sentinel"}, {"sentinel-user", "sentinel-password-file"},
		{"sentinel-password-file", "sentinel"}, {"sentinel-tls", "sentinel"}})
	if err == nil {
		err = n.sentinelTLS.check(n.fs, "")
	}
	if err != nil {
		return err
	}
	if n.fs.Changed("announce-addr") && !isHost(n.announce) {
		host, port, err := net.SplitHostPort(n.announce)
		if p, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || p == 0 || !isHost(host) {
			return Errorf("--announce-addr is no host or host:port")
		}
	}
	if n.fs.Changed("sentinel-password-file") && n.sentinelPasswordFile == "" {
		return Errorf("--sentinel-password-file is empty")
	}
	if strings.Contains(n.sentinelMaster, ",") || n.fs.Changed("sentinel-master") && n.sentinelMaster == "" {
		return Errorf("--sentinel-master is no name of a master")
	}
	if !s.Policy.Sentinels && s.Policy.MaxLagBytes == 0 {
		return nil
	}
	s.Others = &checker.Others{Name: n.sentinelMaster, Self: s.Self}
	if s.Policy.MaxLagBytes > 0 {
		s.Others.Master = &checker.Redis{Username: s.Redis.Username, Password: s.Redis.Password, TLS: s.Redis.TLS}
	}
	seen := make(map[string]bool)
	for _, address := range n.sentinels {
		address, err := sentinelAddress(address)
		if err != nil {
			return err
		}
		if seen[address] {
			return Errorf("--sentinel is given twice with the same address, which would count twice")
		}
		seen[address] = true
		r := &checker.Redis{Address: address, Username: n.sentinelUser}
		if n.sentinelPasswordFile != "" {
			r.Password = fromFile("--sentinel-password-file", n.sentinelPasswordFile)
		}
		if n.sentinelTLS.on {
			r.TLS = n.sentinelTLS.handshake(n.TLS)
		}
		s.Others.Sentinels = append(s.Others.Sentinels, r)
	}
	return nil
}

// isHost reports whether text can be a name or an address, without a port.
func isHost(text string) bool {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	_, err := netip.ParseAddr(text)
	return err == nil || text != "" && !strings.ContainsAny(text, "/@, :[]")
}

// sentinelAddress adds the port that Sentinels have by default.
func sentinelAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), "26379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !isHost(host) {
		return "", Errorf("--sentinel is no address such as 10.0.0.1:26379")
	}
	return net.JoinHostPort(host, port), nil
}

// parseLag reads a duration, or bytes with kb, mb or gb as redis.conf has them.
func parseLag(text string) (time.Duration, int64, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, 0, nil
	}
	number, unit := strings.ToLower(text), int64(1)
	for i, suffix := range []string{"kb", "mb", "gb"} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, 1<<(10*(i+1))
			break
		}
	}
	bytes, err := strconv.ParseInt(number, 10, 32)
	if err != nil || bytes <= 0 {
		return 0, 0, Errorf("--max-lag is neither a duration such as 15s nor bytes such as 1mb, above 0")
	}
	return 0, bytes * unit, nil
}

// Conflicts rejects two flags that were both given, Needs the first without
// the second.
func Conflicts(fs *pflag.FlagSet, pairs [][2]string) error {
	for _, p := range pairs {
		if fs.Changed(p[0]) && fs.Changed(p[1]) {
			return Errorf("--%s and --%s contradict each other: give one of them", p[0], p[1])
		}
	}
	return nil
}

// Needs rejects the first flag of a pair without the second.
func Needs(fs *pflag.FlagSet, pairs [][2]string) error {
	for _, p := range pairs {
		if fs.Changed(p[0]) && !fs.Changed(p[1]) {
			return Errorf("--%s needs --%s", p[0], p[1])
		}
	}
	return nil
}

// parseURL fills r from --url.
//
// Format: https://www.iana.org/assignments/uri-schemes/prov/redis ; a
// database is accepted and ignored, for INFO belongs to none.
func (n *Node) parseURL(r *checker.Redis) (useTLS bool, err error) {
	u, err := url.Parse(n.url)
	if err != nil {
		return false, Errorf("--url is no URL: it looks like redis://host:6379, rediss://host:6379 or unix:///run/redis/redis.sock")
	}
	if _, set := u.User.Password(); set {
		return false, Errorf("--url holds a password, which everyone can read in ps: give --password-file or REDISCLI_AUTH instead")
	}
	if user := u.User.Username(); user != "" {
		if n.user != "" {
			return false, Errorf("--url and --user contradict each other: give the user in one of them")
		}
		r.Username = user
	}
	if u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return false, Errorf("--url takes no options: give flags instead")
	}
	switch u.Scheme {
	case "redis", "rediss":
		if db := strings.Trim(u.Path, "0123456789"); db != "" && db != "/" {
			return false, Errorf("--url has a path that is no database number: is it unix://?")
		}
		host, port := u.Hostname(), u.Port()
		if host == "" {
			host = "127.0.0.1"
		}
		if port == "" {
			port = "6379"
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false, Errorf("--url has a port that is none")
		}
		r.Address = net.JoinHostPort(host, port)
		if u.Scheme == "redis" && n.tls.on {
			return false, Errorf("--url redis:// and --tls contradict each other: write rediss://")
		}
		return u.Scheme == "rediss", nil
	case "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return false, Errorf("--url unix:// needs an absolute path, with three slashes: unix:///run/redis/redis.sock")
		}
		if n.tls.on {
			return false, Errorf("--url unix:// and --tls contradict each other: Redis has no TLS on a unix socket")
		}
		r.Network, r.Address = "unix", u.Path
		return false, nil
	}
	return false, Errorf("--url begins with none of redis://, rediss://, unix://")
}

// Parse parses the arguments. Its errors are [Error]s, or [pflag.ErrHelp].
func Parse(fs *pflag.FlagSet, args []string) error {
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if err == nil {
		if fs.NArg() > 0 {
			return Errorf("there is an argument that belongs to no flag: see --help")
		}
		return nil
	}
	if errors.Is(err, pflag.ErrHelp) {
		return pflag.ErrHelp
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		kind := e.GetFlag().Value.Type()
		if kind == "uint16" {
			kind = "number up to 65535"
		}
		return Errorf("--%s has a value that is no %s: see --help", e.GetFlag().Name, kind)
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Errorf("--%s needs a value: see --help", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := e.GetSpecifiedName()
		if slices.Contains([]string{"a", "pass", "password", "askpass"}, name) {
			return Errorf("there is no flag for a password, for everyone could read it in ps: give --password-file or REDISCLI_AUTH")
		}
		if len(name) == 1 {
			return Errorf("there is no flag -%s: see --help", name)
		}
		return Errorf("there is no flag --%s: see --help", name)
	}
	return Errorf("the flags cannot be parsed: see --help")
}

// Version is that of the build: set by the linker, or that of the module.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

var version string

// seconds is a duration for which a bare number means seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration above 0, such as 500ms or 2" }

func (s *seconds) Set(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("not above 0")
	}
	*s = seconds(d)
	return err
}

// A List is a flag that may be given several times. That of pflag brings a CSV
// writer with it, which an exec pays for.
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }
func (l *List) Type() string   { return "list" }

// Set adds a value.
func (l *List) Set(text string) error {
	*l = append(*l, text)
	return nil
}

// credential is the file that systemd makes of LoadCredential=redis-password:.
const credential = "redis-password"

// password finds the source of the password; nil means that there is none.
func (n *Node) password() (func(context.Context) (string, error), error) {
	switch {
	case n.fs.Changed("password-file") && n.passwordFile == "":
		return nil, Errorf("--password-file is empty")
	case n.passwordFile == "-":
		return fromStream(n.Stdin), nil
	case n.passwordFile != "":
		return fromFile("--password-file", n.passwordFile), nil
	}
	if p := n.Getenv("REDISCLI_AUTH"); p != "" {
		return func(context.Context) (string, error) { return p, nil }, nil
	}
	if dir := n.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if path := filepath.Join(dir, credential); exists(path) {
			return fromFile("the credential "+credential, path), nil
		}
	}
	return nil, nil
}
