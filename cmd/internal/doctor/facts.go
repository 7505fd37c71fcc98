package doctor

import (
	"net/netip"
	"os"
	"time"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
	"redis-is-master/checker/sentinel"
	"redis-is-master/keepalived/lint"
)

// Facts are what is known of a node. What could not be learnt has a word about
// why instead, which holds no secret.
type Facts struct {
	Redis      Redis
	Sentinels  Sentinels
	Daemon     Daemon
	Keepalived Keepalived
	Host       Host
	HAProxy    HAProxy
}

// A Redis is what the node says, and what the host says of it.
type Redis struct {
	Address     string
	TLS         bool
	User        string // "default" if none is given
	Took        time.Duration
	Err         error // a [*checker.Error] where the node gave no answer
	Observation checker.Observation

	Subscribed bool  // the user may hear the Sentinels
	Forbidden  bool  // it may not
	ListenErr  error // neither is known

	// Password is the file, and PasswordTrouble why the daemon cannot read it.
	Password, PasswordTrouble string

	Settings     map[string]string // of redis.conf; nil if they could not be learnt
	SettingsFrom string            // where they were
	SettingsErr  string
	Persistence  map[string]string // INFO persistence
	Empty        bool              // it is known to hold no key
	Unit         string            // the unit that runs it; empty if not known
	Restart      string            // Restart= of that
	Replicas     []string          // of a master, as they announce themselves
	Nodes        []Peer            // the other nodes, as they announce themselves
}

// A Peer is an address, and whether this host reaches it.
type Peer struct {
	Address string
	Err     string
}

// Sentinels are all that were found.
type Sentinels struct {
	Off  bool   // the daemon is told that there are none
	Name string // by which they know the master; empty if not known
	All  []Sentinel
	// User and Password are how it is asked: the ACL user, and the file.
	User, Password string
	Trouble        string // why one may be missing
}

// A Sentinel is one of them, and what it answered.
type Sentinel struct {
	Address string
	From    []string // who tells of it
	Err     error    // a [*checker.Error] where it gave no answer
	Names   []string // of the masters that it watches
	Refused []string // rights that the user lacks there
	Report  *sentinel.Report
	Met     bool // it knows the process that was asked
	// Replicas are those that it knows.
	Replicas []Replica

	Quorum    string // what CKQUORUM said
	QuorumErr string
	Hosts     string // resolve-hostnames; empty if it did not tell
}

// A Daemon is what systemd, the socket and the files say of the daemon.
type Daemon struct {
	Systemd bool // it runs this host
	Unit    string
	Show    map[string]string // the properties of the unit
	ShowErr string
	Running bool // the daemon runs, whoever started it

	Interval, Timeout, MaxAge time.Duration

	Directory    string // of the outputs
	DirectoryErr string
	DirectoryMod os.FileMode
	Tmpfiles     string // the file that makes it at boot

	Socket      string
	SocketErr   error
	SocketMode  os.FileMode
	SocketUser  int
	SocketGroup int
	Document    *report.Document
	TrackFile   string
	Track       string // what it holds
	TrackErr    string
	TrackAge    time.Duration
	VIP         []netip.Prefix // that it holds itself

	Exec        string // the program of --exec; empty for none
	ExecTrouble string // why the daemon cannot, or may not, run it, and after a colon what to do
}

// A Keepalived is the one that runs in this network.
type Keepalived struct {
	Version string // empty if it is not installed
	Running bool
	Err     string // why that is not known
	File    string // the configuration that is in use
	FileErr string

	Findings []lint.Finding
	Summary  lint.Summary
	Scripts  []Access
	Wire     []Wire
	VIPs     []VIP
}

// An Access is whether the user of a script may open the daemon's socket.
type Access struct {
	lint.Script
	Known, May bool // the user exists; it may
}

// A Wire is what was seen of an instance on its network.
type Wire struct {
	Instance lint.Instance
	For      time.Duration // so long was listened
	Err      string
	Adverts  []Advert
	Filtered bool // adverts of others came, and none was let through
}

// An Advert is who sends adverts of a router id, and with which addresses.
type Advert struct {
	From      netip.Addr
	RouterID  int
	Own       bool // this host sends them
	Priority  int
	Addresses []netip.Addr
}

// A VIP is an address, and who holds it.
type VIP struct {
	Prefix    netip.Prefix
	Interface string
	Here      bool
	Others    []string // their hardware addresses
	Err       string
}

// A Host is what the kernel says.
type Host struct {
	Clock      string // empty if it is synchronised
	ClockErr   string
	Bound      []string // addresses of VIPs that a server's configuration names, with it: "bind of redis.conf: 10.0.0.100"
	Nonlocal4  bool
	Nonlocal6  bool
	Listening  []netip.AddrPort // TCP
	ListenErr  string
	ProxyARP   []string // the keys that are 1
	Interfaces []string
	Addresses  []netip.Addr

	Apt                     bool   // packages come by apt-get
	RedisUnit, SentinelUnit string // the units of the servers that are installed; empty for none
	SentinelFile            string // of Debian; empty if there is none
	Profile                 string // of keepalived, among the examples of the package; empty if it is not there
}

// An HAProxy is the one of this host.
type HAProxy struct {
	Running  bool
	File     string
	Text     string
	FileErr  string
	Invalid  string // why it refuses the configuration
	CheckErr string // why that is not known
}
