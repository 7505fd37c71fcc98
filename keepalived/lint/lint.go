// Package lint says what in a keepalived configuration lets a node hold the VIP that should not.
package lint

import (
	"cmp"
	"fmt"
	"os"
	"slices"
)

// A Host is what [File] asks of the machine. Its functions are os.ReadFile,
// filepath.Glob, os.Stat and the like; see [ThisHost].
type Host struct {
	ReadFile func(path string) ([]byte, error)
	Glob     func(pattern string) ([]string, error)
	Stat     func(path string) (os.FileInfo, error)
	User     func(name string) bool // whether it exists
	Writable func(path string) bool // whether others than root can write to it, or replace it
	Version  string                 // keepalived's, such as "2.2.7"; empty if it is not installed
}

// A Finding is a line of a keepalived configuration by which a node may hold
// the VIP that should not, and what to do.
type Finding struct {
	File string
	Line int
	Hint bool // it may be meant so
	Text string
	// Topic is set where a program may want to show the finding apart.
	Topic Topic
}

// A Topic is what some findings have in common.
type Topic string

// The topics. Most findings have none.
const (
	TopicSecurity Topic = "security" // enable_script_security, and who runs the scripts
	TopicGARP     Topic = "garp"     // whether the VIP is announced again
	TopicNetworkd Topic = "networkd" // whether systemd-networkd removes the VIP
)

// topic marks the finding that was made last.
func (l *linter) topic(t Topic) { l.findings[len(l.findings)-1].Topic = t }

func (f Finding) String() string {
	hint := ""
	if f.Hint {
		hint = "hint: "
	}
	return fmt.Sprintf("%s:%d: %s%s", f.File, f.Line, hint, f.Text)
}

// File reads the keepalived configuration at path, with what it includes, and
// says what in it fails open. It looks at the trackers that have to do with
// Redis, by their names or what they run; if there is none, at all. It does not
// do what keepalived --config-test does. The error is that of reading path.
func File(host Host, path string) ([]Finding, error) {
	l := &linter{host: host}
	root, err := parse(host, path, l.found)
	if err != nil {
		return nil, err
	}
	l.root = root
	l.global()
	l.trackers()
	l.instances(path)
	slices.SortFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(l.findings), nil
}

type linter struct {
	host     Host
	root     *statement
	findings []Finding
	user     string                  // the script_user
	security bool                    // enable_script_security
	refresh  bool                    // vrrp_garp_master_refresh
	groups   map[string][]*statement // the sync groups of an instance
	files    map[string]*trackFile
	scripts  map[string]*script
	ours     bool // some tracker has to do with Redis
}

func (l *linter) found(at place, text string) {
	l.findings = append(l.findings, Finding{File: at.file, Line: at.line, Text: text})
}

func (l *linter) hint(at place, text string) {
	l.findings = append(l.findings, Finding{File: at.file, Line: at.line, Text: text, Hint: true})
}

// global looks at the global_defs: who runs the scripts.
func (l *linter) global() {
	for _, g := range l.root.all("global_defs") {
		l.refresh = l.refresh || isRefresh(g.last("vrrp_garp_master_refresh"))
	}
	scripts := l.root.all("vrrp_script")
	if len(scripts) == 0 {
		return
	}
	at := scripts[0].place
	for _, g := range l.root.all("global_defs") {
		at = g.place
		l.security = l.security || g.last("enable_script_security") != nil
		if u := g.last("script_user"); u != nil {
			l.user = u.word(1)
			l.exists(u.place, l.user)
		}
	}
	if !l.security {
		l.found(at, "keepalived runs a script as root even if others can write to it: "+
			"add enable_script_security to global_defs")
		l.topic(TopicSecurity)
	}
	for _, s := range scripts {
		if u := s.last("user"); u != nil {
			l.exists(u.place, u.word(1))
		} else if l.user == "" && !l.host.User("keepalived_script") {
			l.found(s.place, "there is no script_user and no user keepalived_script: keepalived runs the script as root, "+
				"or ignores it where enable_script_security is set: add script_user to global_defs")
			l.topic(TopicSecurity)
		}
	}
}

func (l *linter) exists(at place, name string) {
	if name != "" && !l.host.User(name) {
		l.found(at, "there is no user "+name+", so keepalived ignores the scripts of that user: create the user")
		l.topic(TopicSecurity)
	}
}
