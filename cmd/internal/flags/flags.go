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
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/sentinel"
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

	host, socket, url, user, passwordFile string
	redisUser, masterPasswordFile         string
	port                                  uint16
	tls                                   tlsFiles
	timeout                               time.Duration
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

	// FindsSentinels says that the command finds them by itself: what tells how to
	// reach them then needs no --sentinel.
	FindsSentinels bool

	fs *pflag.FlagSet
}

// Add defines the flags in fs. Role is the default of --role.
func (n *Node) Add(fs *pflag.FlagSet, role checker.Role) {
	n.fs, n.timeout = fs, checker.DefaultTimeout
	fs.StringVarP(&n.host, "host", "H", "127.0.0.1", "name or `address` of the Redis node")
	fs.Uint16VarP(&n.port, "port", "p", 6379, "its TCP `port`")
	fs.StringVarP(&n.socket, "unix-socket", "s", "", "`path` of its unix socket, instead of host and port")
	fs.StringVarP(&n.url, "url", "u", "", "redis://, rediss:// or unix:// `URL`, without a password, instead of those")
	fs.VarP((*Seconds)(&n.timeout), "timeout", "t", "total `time` for lookup, dial, TLS, AUTH and reply")
	fs.StringVar(&n.user, "user", "", "ACL user `name`")
	fs.StringVar(&n.passwordFile, "password-file", "", "`file` with the password, - for standard input; without it the "+
		"environment variable REDISCLI_AUTH or the systemd credential redis-password is used")
	fs.StringVar(&n.redisUser, "redis-user", "", "`name` or uid of the user of this host who must be the one "+
		"that listens there, before a password is sent")

	fs.BoolVar(&n.tls.on, "tls", false, "connect by TLS")
	fs.StringVar(&n.tls.cacert, "cacert", "", "PEM `file` of the CAs to trust, instead of the system's")
	fs.StringVar(&n.tls.cert, "cert", "", "PEM `file` of the client certificate")
	fs.StringVar(&n.tls.key, "key", "", "PEM `file` of its key")
	fs.StringVar(&n.tls.sni, "sni", "", "`name` to ask for and to expect in the server's certificate, "+
		"instead of the host")

	fs.StringVar(&n.role, "role", string(role), "the `role` that is a yes: master, replica or any")
	fs.BoolVar(&n.allowLoading, "allow-loading", false, "accept a node that is still loading its data set")
	fs.BoolVar(&n.allowCluster, "allow-cluster", false, "accept a Redis Cluster node")
	fs.Var(&n.maxLag, "max-lag", "accept a replica only if it heard its master within a `limit` such as 15s, or is at "+
		"most so many bytes behind it, such as 1mb; may be given once for each")
	fs.StringVar(&n.masterPasswordFile, "master-password-file", "", "`file` with the password for the master that "+
		"--max-lag in bytes asks, where it may be sent without --tls")
	fs.IntVar(&n.minReplicas, "min-replicas", 0, "accept a master only with this `number` of online replicas that it "+
		"heard within min-replicas-max-lag, or within 10s where Redis does not count them")
	fs.Var((*Seconds)(&n.minUptime), "min-uptime", "refuse a master whose process is younger than this `time`, unless "+
		"the Sentinels vouch for it")
	fs.StringVar(&n.announce, "announce-addr", "", "what the Sentinels call this node, if that is none of this host's "+
		"addresses: `host`, or host:port")

	fs.Var(&n.sentinels, "sentinel", "`address` of a Sentinel, such as 10.0.0.1:26379; repeat it for each: a majority "+
		"of them must name this node as master")
	fs.StringVar(&n.sentinelMaster, "sentinel-master", "", "`name` by which they know the master, such as mymaster")
	fs.StringVar(&n.sentinelUser, "sentinel-user", "", "ACL user `name` for them")
	fs.StringVar(&n.sentinelPasswordFile, "sentinel-password-file", "", "`file` with the password for them; without it "+
		"none is sent")
	n.sentinelTLS.prefix = "sentinel-"
	fs.BoolVar(&n.sentinelTLS.on, "sentinel-tls", false, "connect to them by TLS")
	fs.StringVar(&n.sentinelTLS.cacert, "sentinel-cacert", "", "PEM `file` of the CAs to trust for them")
	fs.StringVar(&n.sentinelTLS.cert, "sentinel-cert", "", "PEM `file` of the client certificate for them")
	fs.StringVar(&n.sentinelTLS.key, "sentinel-key", "", "PEM `file` of its key")
	fs.StringVar(&n.sentinelTLS.sni, "sentinel-sni", "", "`name` to expect in their certificates, instead of their hosts")
}

// NodeFlags are the names that [Node.Add] defines.
var NodeFlags = []string{"host", "port", "unix-socket", "url", "timeout", "user", "password-file", "redis-user",
	"tls", "cacert", "cert", "key", "sni",
	"role", "allow-loading", "allow-cluster", "max-lag", "master-password-file", "min-replicas", "min-uptime",
	"announce-addr",
	"sentinel", "sentinel-master", "sentinel-user", "sentinel-password-file",
	"sentinel-tls", "sentinel-cacert", "sentinel-cert", "sentinel-key", "sentinel-sni"}

// DefaultSocket is where the daemon answers and the one-shot asks it.
const DefaultSocket = "/run/redis-is-master/check.sock"

// Timeout is the total of one check.
func (n *Node) Timeout() (time.Duration, error) {
	if n.timeout <= 0 {
		return 0, Errorf("--timeout must be above 0")
	}
	return n.timeout, nil
}

// Settings are what the flags of a [Node] amount to.
type Settings struct {
	Redis     *checker.Redis
	Self      *sentinel.Self
	Witnesses []checker.Witness // whom the policy asks
	Policy    checker.Policy
	Timeout   time.Duration
	Warnings  []string // for standard error

	// Sentinel tells how to reach any Sentinel; it has no Address.
	Sentinel *checker.Redis
	// Listed are the addresses of those that are listed, and Name what they call the
	// master.
	Listed []string
	Name   string

	secret bool // there is one
}

// HideSecrets keeps the memory of the process from core dumps and from other
// processes of the same user, if there is a secret.
func (s Settings) HideSecrets() {
	if s.secret {
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // it cannot fail
	}
}

// Settings checks the flags against each other and resolves them. It opens
// neither a connection nor a file. Its errors are [Error]s.
func (n *Node) Settings() (Settings, error) {
	address := net.JoinHostPort(strings.Trim(n.host, "[]"), strconv.Itoa(int(n.port)))
	s := Settings{
		Redis: &checker.Redis{Network: "tcp", Address: address, Username: n.user},
		Policy: checker.Policy{Role: checker.Role(n.role), AllowLoading: n.allowLoading, AllowCluster: n.allowCluster,
			MinUptime: n.minUptime, MinReplicas: n.minReplicas, Sentinels: len(n.sentinels) > 0},
	}
	s.Self = &sentinel.Self{Node: s.Redis, Announced: n.announce}
	var err error
	if s.Timeout, err = n.Timeout(); err != nil {
		return s, err
	}
	err = Conflicts(n.fs, [][2]string{
		{"unix-socket", "host"}, {"unix-socket", "port"}, {"unix-socket", "tls"},
		{"url", "host"}, {"url", "port"}, {"url", "unix-socket"},
	})
	if err != nil {
		return s, err
	}
	switch s.Policy.Role {
	case checker.RoleMaster, checker.RoleReplica, checker.RoleAny:
	case "slave":
		return s, Errorf("--role must be master, replica or any: what Redis calls a slave is a replica")
	case "primary":
		return s, Errorf("--role must be master, replica or any: a primary is a master")
	default:
		return s, Errorf("--role must be master, replica or any")
	}
	if strings.ContainsAny(n.host, "/@") {
		return s, Errorf("--host is neither a name nor an address: give a URL with --url")
	}
	if _, _, err := net.SplitHostPort(n.host); err == nil {
		return s, Errorf("--host has a port in it: give the port with --port")
	}
	if strings.Contains(n.socket, "://") {
		return s, Errorf("--unix-socket is not a path: give a URL with --url")
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
		s.Redis.TLS = n.tls.config()
	}
	if err := n.password(s.Redis); err != nil {
		return s, err
	}
	s.secret = s.Redis.Password != nil
	if s.Redis.Username != "" && s.Redis.Password == nil {
		return s, Errorf("--user needs a password: give --password-file or REDISCLI_AUTH; " +
			"without a password Redis is not even told the user")
	}
	if n.fs.Changed("redis-user") {
		if s.Redis.Owner, err = uid(n.redisUser); err != nil {
			return s, err
		}
	}
	if err := n.guards(&s); err != nil {
		return s, err
	}
	return s, n.checkFiles(&s)
}

// guards resolves the flags of the guards.
func (n *Node) guards(s *Settings) error {
	if n.minReplicas < 0 {
		return Errorf("--min-replicas is below 0")
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
	needs := [][2]string{{"sentinel", "sentinel-master"}, {"sentinel-master", "sentinel"},
		{"sentinel-user", "sentinel-password-file"}}
	if !n.FindsSentinels {
		needs = append(needs, [2]string{"sentinel-password-file", "sentinel"}, [2]string{"sentinel-tls", "sentinel"})
	}
	err := Needs(n.fs, needs)
	if err == nil {
		err = n.sentinelTLS.check(n.fs, "")
	}
	if err != nil {
		return err
	}
	if n.fs.Changed("announce-addr") && !isHost(n.announce) {
		host, port, err := net.SplitHostPort(n.announce)
		if p, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || p == 0 || !isHost(host) {
			return Errorf("--announce-addr is neither a host nor host:port")
		}
	}
	if n.fs.Changed("sentinel-password-file") && n.sentinelPasswordFile == "" {
		return Errorf("--sentinel-password-file is empty")
	}
	if strings.Contains(n.sentinelMaster, ",") || n.fs.Changed("sentinel-master") && n.sentinelMaster == "" {
		return Errorf("--sentinel-master is not the name of one master")
	}
	if n.fs.Changed("master-password-file") && (n.masterPasswordFile == "" || s.Policy.MaxLagBytes == 0) {
		return Errorf("--master-password-file is empty, or given without --max-lag in bytes")
	}
	if s.Policy.MaxLagBytes > 0 {
		master := &checker.Redis{Username: s.Redis.Username, Password: s.Redis.Password, TLS: s.Redis.TLS}
		if n.masterPasswordFile != "" {
			master.Password = fromFile("--master-password-file", n.masterPasswordFile)
		} else if master.Password != nil && master.TLS == nil {
			return Errorf("--max-lag in bytes would send the password in clear to whatever address the replica calls " +
				"its master: use --tls, or say by --master-password-file that it may")
		}
		s.Witnesses = append(s.Witnesses, &checker.Upstream{Master: master})
	}
	s.Sentinel, s.Name = n.sentinelAt(""), n.sentinelMaster
	if !s.Policy.Sentinels {
		return nil
	}
	poll := &sentinel.Poll{Name: n.sentinelMaster, Self: s.Self}
	s.Witnesses = append(s.Witnesses, poll)
	seen := make(map[string]bool)
	for _, address := range n.sentinels {
		address, err := sentinelAddress(address)
		if err != nil {
			return err
		}
		if seen[address] {
			return Errorf("--sentinel is given twice with the same address")
		}
		seen[address] = true
		s.Listed = append(s.Listed, address)
		poll.Sentinels = append(poll.Sentinels, n.sentinelAt(address))
	}
	return nil
}

func (n *Node) sentinelAt(address string) *checker.Redis {
	r := &checker.Redis{Address: address, Username: n.sentinelUser}
	if n.sentinelPasswordFile != "" {
		r.Password = fromFile("--sentinel-password-file", n.sentinelPasswordFile)
	}
	if n.sentinelTLS.on {
		r.TLS = n.sentinelTLS.config()
	}
	return r
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
		return "", Errorf("--sentinel is not an address such as 10.0.0.1:26379")
	}
	return net.JoinHostPort(host, port), nil
}

// parseLag reads a duration, or bytes with kb, mb or gb as redis.conf has them.
func parseLag(text string) (time.Duration, int64, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, 0, nil
	}
	bytes, err := parseSize(text)
	if err != nil {
		return 0, 0, Errorf("--max-lag is neither a time such as 15s nor a size such as 1mb")
	}
	return 0, bytes, nil
}

// parseSize reads bytes, with kb, mb or gb as redis.conf has them.
func parseSize(text string) (int64, error) {
	number, unit := strings.ToLower(text), int64(1)
	for i, suffix := range []string{"kb", "mb", "gb"} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, 1<<(10*(i+1))
			break
		}
	}
	bytes, err := strconv.ParseInt(number, 10, 32)
	if err != nil || bytes <= 0 {
		return 0, errors.New("not a size such as 1mb")
	}
	return bytes * unit, nil
}

// Size is a flag in bytes, such as 1mb.
type Size int64

// String implements [pflag.Value].
func (s *Size) String() string {
	for i, suffix := range []string{"gb", "mb", "kb"} {
		if unit := Size(1) << (10 * (3 - i)); *s >= unit && *s%unit == 0 {
			return strconv.FormatInt(int64(*s/unit), 10) + suffix
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Set implements [pflag.Value].
func (s *Size) Set(text string) error {
	n, err := parseSize(text)
	*s = Size(n)
	return err
}

// Type implements [pflag.Value].
func (s *Size) Type() string { return "size" }

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
		return false, Errorf("--url is not a URL such as redis://host:6379, rediss://host:6379 " +
			"or unix:///run/redis/redis.sock")
	}
	if _, set := u.User.Password(); set {
		return false, Errorf("--url holds a password, which everyone can read in ps: give --password-file or REDISCLI_AUTH")
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
			return false, Errorf("--url has a path that is not a database number: is it unix://?")
		}
		host, port := u.Hostname(), u.Port()
		if host == "" {
			host = "127.0.0.1"
		}
		if port == "" {
			port = "6379"
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false, Errorf("--url has a port that is not a number up to 65535")
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
	return false, Errorf("--url does not begin with redis://, rediss:// or unix://")
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

// credential is the file that systemd makes of LoadCredential=redis-password:.
const credential = "redis-password"

// password finds the source of the password, if there is one.
func (n *Node) password(r *checker.Redis) error {
	const copied = "systemd copied the credential when the unit was started: restart the unit after a change of its file"
	dir := n.Getenv("CREDENTIALS_DIRECTORY")
	switch {
	case n.fs.Changed("password-file") && n.passwordFile == "":
		return Errorf("--password-file is empty")
	case n.passwordFile == "-":
		r.Password, r.PasswordHint = fromStream(n.Stdin), "it was read from standard input, once"
		return nil
	case n.passwordFile != "":
		r.Password = fromFile("--password-file", n.passwordFile)
		if dir != "" && filepath.Dir(n.passwordFile) == filepath.Clean(dir) {
			r.PasswordHint = copied
		}
		return nil
	}
	if p := n.Getenv("REDISCLI_AUTH"); p != "" {
		r.Password, r.PasswordHint = func(context.Context) (string, error) { return p, nil }, "it is that of REDISCLI_AUTH"
		return nil
	}
	if path := filepath.Join(dir, credential); dir != "" && exists(path) {
		r.Password, r.PasswordHint = fromFile("the credential "+credential, path), copied
	}
	return nil
}

// uid is that of a user of this host.
func uid(name string) (*uint32, error) {
	id := name
	if u, err := user.Lookup(name); err == nil {
		id = u.Uid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return nil, Errorf("--redis-user is no user of this host")
	}
	return new(uint32(n)), nil
}

// CheckFiles reads the files that the flags name, but not standard input, and
// returns what is wrong with each. Call it after [Node.Settings].
func (n *Node) CheckFiles(ctx context.Context) (problems []error) {
	note := func(what string, err error) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = Errorf("%s: reading it does not end; is it a pipe?", what)
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	var r checker.Redis
	if err := n.password(&r); err == nil && r.Password != nil && n.passwordFile != "-" {
		_, err = r.Password(ctx)
		note("--password-file", err)
	}
	if n.sentinelPasswordFile != "" {
		_, err := fromFile("--sentinel-password-file", n.sentinelPasswordFile)(ctx)
		note("--sentinel-password-file", err)
	}
	for _, files := range []*tlsFiles{&n.tls, &n.sentinelTLS} {
		if files.on {
			_, err := files.config()(ctx)
			note("a file of --"+files.prefix+"tls", err)
		}
	}
	return problems
}
