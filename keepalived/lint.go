package keepalived

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker"
)

// A Host is what [Lint] asks of the machine. Its functions are os.ReadFile,
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
}

func (f Finding) String() string {
	hint := ""
	if f.Hint {
		hint = "hint: "
	}
	return fmt.Sprintf("%s:%d: %s%s", f.File, f.Line, hint, f.Text)
}

// Lint reads a keepalived configuration, with what it includes, and says what
// in it fails open. It looks at the trackers that have to do with Redis, by
// their names or what they run; if there is none, at all. It does not do what
// keepalived --config-test does. The error is that of reading file.
func Lint(host Host, file string) ([]Finding, error) {
	l := &linter{host: host}
	root, err := parse(host, file, l.found)
	if err != nil {
		return nil, err
	}
	l.root = root
	l.global()
	l.trackers()
	l.instances(file)
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

// global looks at who runs the scripts.
func (l *linter) global() {
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
		l.found(at, "without enable_script_security a script that others can write to is run as root: add it to global_defs")
	}
	for _, s := range scripts {
		if u := s.last("user"); u != nil {
			l.exists(u.place, u.word(1))
		} else if l.user == "" && !l.host.User("keepalived_script") {
			l.found(s.place, "there is no script_user, and no user keepalived_script: keepalived runs the script as root, "+
				"or with enable_script_security drops it and goes on without: add script_user to global_defs")
		}
	}
}

func (l *linter) exists(at place, name string) {
	if name != "" && !l.host.User(name) {
		l.found(at, "there is no user "+name+": keepalived drops its scripts and goes on without them: create the user")
	}
}

// A trackFile is a track_file block. Its weight may be another where it is
// tracked.
type trackFile struct {
	*statement
	weight  int
	reverse bool
	redis   bool
	used    bool
}

// A script is a vrrp_script block.
type script struct {
	*statement
	argv    []string
	command []string // the same, split at blanks within a sh -c '...', too
	weight  int
	reverse bool
	redis   bool
	ours    bool // it runs redis-is-master
	alive   bool // with --cached --alive, so that it does not ask for the role
	used    bool
}

func mentionsRedis(s *statement) bool {
	text := s.raw
	for _, b := range s.block {
		text += "\n" + b.raw
	}
	return strings.Contains(strings.ToLower(text), "redis")
}

// trackers looks at the blocks that say what is tracked.
func (l *linter) trackers() {
	l.files, l.scripts = make(map[string]*trackFile), make(map[string]*script)
	for _, b := range l.root.all("track_file", "vrrp_track_file") {
		f := &trackFile{statement: b, weight: 1, redis: mentionsRedis(b)}
		f.weight, f.reverse = weight(b.last("weight"), 1, f.weight, false)
		l.files[b.word(1)] = f
		l.ours = l.ours || f.redis
	}
	for _, b := range l.root.all("vrrp_script") {
		s := &script{statement: b, redis: mentionsRedis(b)}
		s.weight, s.reverse = weight(b.last("weight"), 1, 0, false)
		if line := b.last("script"); line != nil {
			if words := splitQuoted(line.raw); len(words) > 1 {
				s.argv = splitQuoted(words[1])
			}
		}
		s.command = strings.Fields(strings.NewReplacer(`"`, " ", "'", " ", ";", " ", "|", " ").Replace(strings.Join(s.argv, " ")))
		s.ours = slices.ContainsFunc(s.command, isOurs)
		s.alive = s.ours && slices.Contains(s.command, "--alive")
		l.scripts[b.word(1)] = s
		l.ours = l.ours || s.redis
	}
	for _, f := range l.files {
		if f.redis || !l.ours {
			l.trackFile(f)
		}
	}
	for _, s := range l.scripts {
		if s.redis || !l.ours {
			l.script(s)
		}
	}
}

// weight reads "weight N [reverse]", the number being word i of s.
func weight(s *statement, i, before int, reverse bool) (int, bool) {
	if n, err := strconv.Atoi(s.word(i)); err == nil {
		before = n
	}
	switch s.word(i + 1) {
	case "reverse":
		reverse = true
	case "noreverse", "no_reverse":
		reverse = false
	}
	return before, reverse
}

func isOurs(arg string) bool {
	base := filepath.Base(arg)
	return base == "redis-is-master" || base == "redis-is-replica"
}

func (l *linter) trackFile(f *trackFile) {
	path := f.last("file")
	switch {
	case path.word(1) == "":
		l.found(f.place, "this track_file names no file: keepalived drops it and goes on without: add file")
	case !filepath.IsAbs(path.word(1)):
		l.found(path.place, "the path is not absolute, and depends on where keepalived was started: write it from / on")
	default:
		dir := filepath.Dir(path.word(1))
		if info, err := l.host.Stat(dir); err != nil || !info.IsDir() {
			l.found(path.place, "the directory "+dir+" does not exist: keepalived drops the tracker at its start, "+
				"says so only in its log, and every node may take the VIP: make it by tmpfiles.d")
		}
	}
	for _, init := range f.all("init_file") {
		for _, w := range init.words[1:] {
			if n, err := strconv.Atoi(w); w == "overwrite" {
				l.found(init.place, "overwrite puts its value over what the daemon wrote when keepalived starts: remove the word")
			} else if err == nil && n != 0 {
				l.found(init.place, "a file that nobody has written yet says master: write init_file 0")
			}
		}
	}
}

func (l *linter) script(s *script) {
	line := s.last("script")
	if len(s.argv) == 0 {
		l.found(s.place, "this vrrp_script runs nothing: add script")
		return
	}
	if words := splitQuoted(line.raw); len(words) > 2 {
		l.found(line.place, "keepalived drops the arguments that are not within the quotes: put the whole command into one pair")
	}
	program := s.argv[0]
	if filepath.IsAbs(program) {
		if info, err := l.host.Stat(program); err != nil || info.Mode()&0o111 == 0 {
			l.found(line.place, program+" is not there or not executable: keepalived drops the script and goes on without it: "+
				"install it, or run it by way of /usr/bin/env, which then fails")
		} else if user := cmp.Or(s.last("user").word(1), l.user); user == "root" && l.security && l.host.Writable(program) {
			l.found(line.place, "others than root can write to "+program+" or replace it: keepalived drops the script and goes on without it: "+
				"make it, and the directories above it, root's alone")
		}
	}
	if slices.ContainsFunc(s.command, func(w string) bool { return filepath.Base(w) == "redis-cli" }) {
		l.found(line.place, "redis-cli has no timeout, says role:master while loading, and exits 0 where it was not let in: use redis-is-master")
	}
	if showsPassword(s.command) {
		l.found(line.place, "there is a password in this line, and everyone can read it in ps: use redis-is-master --password-file FILE, and change it")
	}
	if s.reverse {
		at := s.place
		if w := s.last("weight"); w != nil {
			at = w.place
		}
		l.found(at, "reverse makes a failed check a yes: remove the word")
	}
	if s.ours && !guarded(s.command) {
		l.hint(line.place, "role:master alone is believed, which an old master says for 11 s after a hang, a partition or a planned failover: "+
			"add --sentinel for each Sentinel and --sentinel-master, or ask the daemon by --cached")
	}
	l.interval(s)
	l.timeout(s)
}

// guarded reports whether the arguments of redis-is-master say that more than
// the role counts, or that the role which counts is another.
func guarded(argv []string) bool {
	for i, a := range argv {
		value, _ := strings.CutPrefix(a, "--role=")
		if a == "--role" && i+1 < len(argv) {
			value = argv[i+1]
		}
		if value == "replica" || value == "any" || strings.HasPrefix(a, "--cached") || strings.HasPrefix(a, "--sentinel") || filepath.Base(a) == "redis-is-replica" {
			return true
		}
	}
	return false
}

// interval looks for fractions that keepalived may not understand.
func (l *linter) interval(s *script) {
	for _, b := range s.all("interval", "timeout") {
		n, err := strconv.ParseFloat(b.word(1), 64)
		if err != nil || n <= 0 || b.word(0) == "interval" && n >= 1 || n == float64(int(n)) {
			continue
		}
		switch {
		case l.host.Version == "":
			l.hint(b.place, "a fraction of a second here needs keepalived 2.3.2 or later, which is not installed here to be asked: write 1 for older ones")
		case !atLeast(l.host.Version, 2, 3, 2):
			l.found(b.place, "a fraction of a second here needs keepalived 2.3.2 or later, and this is "+l.host.Version+
				", which ignores the line: write whole seconds, or use a track_file")
		}
	}
}

func atLeast(version string, want ...int) bool {
	parts := strings.Split(version, ".")
	for i, w := range want {
		n := 0
		if i < len(parts) {
			n, _ = strconv.Atoi(parts[i])
		}
		if n != w {
			return n > w
		}
	}
	return true
}

// timeout compares keepalived's with our own.
func (l *linter) timeout(s *script) {
	if !s.ours {
		return
	}
	at, text := s.place, "1" // the default interval, which is the default timeout
	for _, name := range []string{"interval", "timeout"} {
		if b := s.last(name); b != nil {
			at, text = b.place, b.word(1)
		}
	}
	theirs, err := strconv.ParseFloat(text, 64)
	own := ownTimeout(s.command)
	if err == nil && own >= time.Duration(theirs*float64(time.Second)) {
		l.found(at, fmt.Sprintf("keepalived stops the check after %s s, before its own --timeout of %v: write a timeout above that", text, own))
	}
}

// ownTimeout is that of redis-is-master with these arguments.
func ownTimeout(argv []string) time.Duration {
	own := checker.DefaultTimeout
	for i, a := range argv {
		text, found := strings.CutPrefix(a, "--timeout=")
		if !found && strings.HasPrefix(a, "-t") {
			text, found = strings.TrimPrefix(a[2:], "="), len(a) > 2
		}
		if !found && (a == "--timeout" || a == "-t") && i+1 < len(argv) {
			text, found = argv[i+1], true
		}
		if !found {
			continue
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			text = strconv.FormatFloat(n, 'f', -1, 64) + "s"
		}
		if d, err := time.ParseDuration(text); err == nil {
			own = d
		}
	}
	return own
}

// showsPassword knows the ways in which people give Redis a password.
func showsPassword(command []string) bool {
	cli := false
	for i, w := range command {
		cli = cli || filepath.Base(w) == "redis-cli"
		more := i+1 < len(command)
		_, url, isURL := strings.Cut(w, "://")
		login, _, isLogin := strings.Cut(url, "@")
		_, password, _ := strings.Cut(login, ":")
		switch {
		case strings.Contains(w, "REDISCLI_AUTH="),
			isURL && isLogin && password != "",
			cli && strings.HasPrefix(w, "-a") && (len(w) > 2 || more),
			(w == "--pass" || w == "--password") && more,
			strings.HasPrefix(w, "--pass="), strings.HasPrefix(w, "--password="),
			strings.EqualFold(w, "AUTH") && more:
			return true
		}
	}
	return false
}

// A tracked is a tracker as one instance tracks it.
type tracked struct {
	place
	name    string
	weight  int
	reverse bool
	own     bool // the weight is given here
	file    *trackFile
	script  *script
}

// concerns is whether the tracker has to do with Redis.
func (l *linter) concerns(t tracked) bool {
	return !l.ours || t.file != nil && t.file.redis || t.script != nil && t.script.redis
}

// instances looks at who tracks what, and at the instances that follow Redis.
func (l *linter) instances(file string) {
	l.groups = make(map[string][]*statement)
	for _, g := range l.root.all("vrrp_sync_group") {
		var members []string
		for _, b := range g.all("group") {
			for _, line := range b.block {
				members = append(members, line.words...)
			}
		}
		slices.Sort(members)
		for _, m := range slices.Compact(members) {
			l.groups[m] = append(l.groups[m], g)
		}
	}
	followed := false
	for _, i := range l.root.all("vrrp_instance") {
		var all []tracked
		for _, t := range l.tracked(i) {
			if l.concerns(t) {
				all = append(all, t)
			}
		}
		if len(all) > 0 {
			followed = true
			l.instance(i, all)
		}
	}
	for _, f := range l.files {
		if !f.used && (f.redis || !l.ours) {
			l.found(f.place, "no vrrp_instance tracks this file, so it decides nothing: name it in the instance's track_file block")
		}
	}
	for _, s := range l.scripts {
		if !s.used && (s.redis || !l.ours) {
			l.found(s.place, "no vrrp_instance tracks this script, so it is never run: name it in the instance's track_script block")
		}
	}
	if !followed {
		l.found(place{file, 1}, "no vrrp_instance follows Redis: see the profiles of redis-is-master")
	}
}

// tracked are the trackers of an instance, and of the group it is in.
func (l *linter) tracked(instance *statement) (all []tracked) {
	blocks := []*statement{instance}
	weightless := false
	for _, g := range l.groups[instance.word(1)] {
		blocks = append(blocks, g)
		weightless = weightless || g.last("sync_group_tracking_weight") == nil
	}
	for _, b := range blocks {
		for _, t := range b.all("track_file", "track_script") {
			for _, line := range t.block {
				n := tracked{place: line.place, name: line.word(0), own: len(line.words) > 1}
				if t.word(0) == "track_file" {
					if n.file = l.files[n.name]; n.file != nil {
						n.file.used = true
						n.weight, n.reverse = weight(line, 2, n.file.weight, n.file.reverse)
					}
				} else if n.script = l.scripts[n.name]; n.script != nil {
					n.script.used = true
					n.weight, n.reverse = weight(line, 2, n.script.weight, n.script.reverse)
				}
				if n.file == nil && n.script == nil {
					l.found(n.place, "there is no tracker "+n.name+": keepalived goes on without it: correct the name")
					continue
				}
				if weightless { // keepalived sets the weights in a group to 0
					n.weight, n.own = 0, true
				}
				all = append(all, n)
			}
		}
	}
	return all
}

// instance looks at one that follows Redis.
func (l *linter) instance(i *statement, all []tracked) {
	file := slices.ContainsFunc(all, func(t tracked) bool { return t.file != nil })
	var role, fault, guarded bool
	least := 0 // of the weights
	for _, t := range all {
		if t.file != nil {
			l.trackedFile(t)
		} else {
			l.trackedScript(t, file)
			guarded = guarded || t.script.ours && t.weight == 0
			if t.script.alive {
				continue
			}
		}
		role = true
		if n := max(t.weight, -t.weight); n == 0 {
			fault = true
		} else if least == 0 || n < least {
			least = n
		}
	}
	switch {
	case !role:
		l.found(i.place, "nothing here asks for the role, so that any node may hold the VIP: track a track_file, or redis-is-master without --alive")
	case file && !guarded:
		l.found(i.place, "a track file outlives the daemon that writes it: track a vrrp_script with redis-is-master --cached --alive and weight 0 beside it")
	}
	if role && !fault {
		l.hint(i.place, "with a weight some node holds the VIP although it is not master, while there is no master or adverts are lost: "+
			"weight 0 (with a track_file: weight 0 reverse) makes that FAULT")
	}
	l.election(i, fault || !role, least)
}

func (l *linter) trackedFile(t tracked) {
	at := t.place
	if w := t.file.last("weight"); w != nil && !t.own {
		at = w.place
	}
	switch {
	case t.weight == 0 && !t.reverse:
		l.found(at, "weight 0 without reverse: 1 is FAULT, and 0 or a missing file is a yes: write weight 0 reverse")
	case t.weight != 0 && (t.weight < 0) != t.reverse:
		l.found(at, "this weight lowers the priority of the master: write weight 0 reverse")
	}
}

func (l *linter) trackedScript(t tracked, besideFile bool) {
	if t.reverse && !t.script.reverse {
		l.found(t.place, "reverse makes a failed check a yes: remove the word")
	}
	switch {
	case t.script.alive && t.weight != 0:
		l.found(t.place, "the dead man's switch has a weight, so that a node whose daemon is dead may hold the VIP: give it weight 0")
	case besideFile && t.script.ours && !t.script.alive && t.weight == 0:
		l.hint(t.place, "this asks for the role beside the track file, so that a promotion waits for its next run: use --cached --alive")
	}
}

// election looks at what decides between the nodes that may hold the VIP.
func (l *linter) election(i *statement, fault bool, least int) {
	nopreempt := i.last("nopreempt")
	var master *statement
	for _, s := range i.all("state") {
		if s.word(1) == "MASTER" {
			master = s
		}
	}
	var priorities []int
	owner := false
	for _, p := range i.all("priority") {
		n, err := strconv.Atoi(p.word(1))
		if err != nil {
			continue
		}
		priorities = append(priorities, n)
		if n == 255 {
			owner = true
			l.found(p.place, "priority 255 is above every weight, and makes nopreempt void: write 100 on all nodes")
		}
	}
	switch {
	case fault && nopreempt == nil:
		l.found(i.place, "without nopreempt a second node that says master takes the VIP from the first: add it, with state BACKUP")
	case fault && master != nil:
		l.found(master.place, "state MASTER makes nopreempt void: write state BACKUP on all nodes")
	case !fault && nopreempt != nil:
		l.found(nopreempt.place, "with a weight, nopreempt keeps the VIP from the master while another node has it: remove it")
	}
	if !fault && !owner && len(priorities) > 1 && slices.Max(priorities)-slices.Min(priorities) >= least {
		l.found(i.last("priority").place, fmt.Sprintf("the priorities differ by %d, and the weight is %d: a node that is not master may win: write 100 on all nodes",
			slices.Max(priorities)-slices.Min(priorities), least))
	}
}
