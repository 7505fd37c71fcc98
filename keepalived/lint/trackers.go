package lint

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker"
)

// A trackFile is a track_file block. An instance that tracks it may give
// another weight.
type trackFile struct {
	*statement
	weight    int
	reverse   bool
	redis     bool
	promotion bool // it holds the number of a promotion, and says nothing of the role
	used      bool
}

// A script is a vrrp_script block.
type script struct {
	*statement
	argv    []string
	command []string // the same, with the words of a sh -c '...' apart
	weight  int
	reverse bool
	redis   bool
	ours    bool // it runs redis-is-master
	alive   bool // with --cached --alive, so that it does not ask for the role
	used    bool
}

// text is a block in lower case.
func (s *statement) text() string {
	text := s.raw
	for _, b := range s.block {
		text += "\n" + b.raw
	}
	return strings.ToLower(text)
}

// trackers looks at the blocks that say what is tracked.
func (l *linter) trackers() {
	l.files, l.scripts = make(map[string]*trackFile), make(map[string]*script)
	for _, b := range l.root.all("track_file", "vrrp_track_file") {
		f := &trackFile{statement: b, redis: strings.Contains(b.text(), "redis")}
		f.promotion = strings.Contains(filepath.Base(b.last("file").word(1)), "promotion")
		f.weight, f.reverse = weight(b.last("weight"), 1, 1, false)
		l.files[b.word(1)] = f
		l.ours = l.ours || f.redis
	}
	for _, b := range l.root.all("vrrp_script") {
		s := &script{statement: b, redis: strings.Contains(b.text(), "redis")}
		s.weight, s.reverse = weight(b.last("weight"), 1, 0, false)
		if line := b.last("script"); line != nil {
			if words := splitQuoted(line.raw); len(words) > 1 {
				s.argv = splitQuoted(words[1])
			}
		}
		s.command = shellWords(strings.Join(s.argv, " "))
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

// shellWords are the words of a shell command, however it is quoted.
func shellWords(command string) []string {
	blank := func(r rune) rune {
		if strings.ContainsRune("\"';|()`", r) {
			return ' '
		}
		return r
	}
	return strings.Fields(strings.Map(blank, command))
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

func isRedisCli(arg string) bool { return filepath.Base(arg) == "redis-cli" }

func (l *linter) trackFile(f *trackFile) {
	path := f.last("file")
	switch {
	case path.word(1) == "":
		l.found(f.place, "this track_file names no file, so keepalived ignores it: add file")
	case !filepath.IsAbs(path.word(1)):
		l.found(path.place, "the path is not absolute, so it depends on where keepalived is started: begin it with /")
	default:
		dir := filepath.Dir(path.word(1))
		if info, err := l.host.Stat(dir); err != nil || !info.IsDir() {
			l.found(path.place, "the directory "+dir+" does not exist: keepalived ignores the file, "+
				"says so only in its log, and every node may take the VIP: create it by tmpfiles.d")
		}
	}
	for _, init := range f.all("init_file") {
		for _, w := range init.words[1:] {
			if n, err := strconv.Atoi(w); w == "overwrite" {
				l.found(init.place, "overwrite replaces what the daemon has written when keepalived starts: "+
					"remove the word")
			} else if err == nil && n != 0 {
				l.found(init.place, "a file that the daemon has not written yet says yes: write init_file 0")
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
		l.found(line.place, "keepalived ignores the arguments outside the quotes: "+
			"put the whole command into one pair of quotes")
	}
	l.program(s, line.place)
	if slices.ContainsFunc(s.command, isRedisCli) {
		l.found(line.place, "redis-cli "+cliFails)
	}
	if showsPassword(s.command) {
		l.found(line.place, "everyone can read the password in this line in ps: "+hidePassword)
	}
	for _, word := range s.argv {
		l.scriptFile(line.place, word)
	}
	if s.reverse {
		at := s.place
		if w := s.last("weight"); w != nil {
			at = w.place
		}
		l.found(at, "reverse makes a failed check a yes: remove the word")
	}
	if s.ours && !guarded(s.command) {
		l.hint(line.place, "an old master says role:master for 11 s after a hang, a partition or a planned failover, "+
			"and this believes it: add --sentinel for each Sentinel and --sentinel-master, or ask the daemon by --cached")
	}
	l.fractions(s)
	l.timeout(s)
	l.slow(s)
}

const (
	cliFails = "has no timeout, says role:master while loading, and exits 0 where it was not let in: " +
		"use redis-is-master"
	hidePassword = "use redis-is-master --password-file FILE, and change the password"
)

// program looks at whether keepalived will run the program at all.
func (l *linter) program(s *script, at place) {
	program := s.argv[0]
	if !filepath.IsAbs(program) {
		return
	}
	info, err := l.host.Stat(program)
	user := cmp.Or(s.last("user").word(1), l.user)
	switch {
	case err != nil || info.Mode()&0o111 == 0:
		l.found(at, program+" is missing or not executable, so keepalived ignores the script: "+
			"install it, or run it by /usr/bin/env, which then fails")
	case user == "root" && l.security && l.host.Writable(program):
		l.found(at, "others than root can write to "+program+" or replace it, so keepalived ignores the script: "+
			"let only root write to it and to the directories above it")
	}
}

// maxScript is how long a script may be that is looked at.
const maxScript = 1 << 16

// scriptFile looks at a shell script that the line names.
func (l *linter) scriptFile(at place, path string) {
	if !filepath.IsAbs(path) {
		return
	}
	text, err := l.host.ReadFile(path)
	if err != nil || len(text) > maxScript || !strings.HasPrefix(string(text), "#!") {
		return
	}
	n, cli, password := 0, 0, 0 // lines
	for line := range strings.Lines(string(text)) {
		n++
		words := shellWords(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if cli == 0 && slices.ContainsFunc(words, isRedisCli) {
			cli = n
		}
		if password == 0 && showsPassword(words) {
			password = n
		}
	}
	if cli > 0 {
		l.found(at, fmt.Sprintf("%s runs redis-cli in line %d, which %s", path, cli, cliFails))
	}
	if password > 0 {
		l.found(at, fmt.Sprintf("%s gives a password as an argument in line %d, and everyone can read it in ps: %s",
			path, password, hidePassword))
	}
}

// guarded reports whether the arguments of redis-is-master say that more than
// the role counts, or that the role which counts is another.
func guarded(argv []string) bool {
	for i, a := range argv {
		value, _ := strings.CutPrefix(a, "--role=")
		if a == "--role" && i+1 < len(argv) {
			value = argv[i+1]
		}
		if value == "replica" || value == "any" || filepath.Base(a) == "redis-is-replica" ||
			strings.HasPrefix(a, "--cached") || strings.HasPrefix(a, "--sentinel") {
			return true
		}
	}
	return false
}

// fractions looks for fractions of a second that keepalived may not understand.
func (l *linter) fractions(s *script) {
	const needs = "a fraction of a second here needs keepalived 2.3.2 or later, "
	for _, b := range s.all("interval", "timeout") {
		n, err := strconv.ParseFloat(b.word(1), 64)
		if err != nil || n <= 0 || b.word(0) == "interval" && n >= 1 || n == float64(int(n)) {
			continue
		}
		switch {
		case l.host.Version == "":
			l.hint(b.place, needs+"and keepalived is not installed here: earlier ones ignore the line")
		case !atLeast(l.host.Version, 2, 3, 2):
			l.found(b.place, needs+"and this is "+l.host.Version+", which ignores the line: "+
				"write whole seconds, or use a track_file")
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

// seconds is the number of a statement, or another if there is none. Keepalived
// before 2.3.2 ignores a fraction of an interval below 1.
func (l *linter) seconds(s *statement, otherwise float64) float64 {
	n, err := strconv.ParseFloat(s.word(1), 64)
	if err != nil || n <= 0 || n < 1 && l.host.Version != "" && !atLeast(l.host.Version, 2, 3, 2) {
		return otherwise
	}
	return n
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
		l.found(at, fmt.Sprintf("keepalived stops the check after %s s, before its own --timeout of %v: "+
			"write a timeout that is longer", text, own))
	}
}

// slowAfter is how many seconds keepalived may take to believe a check. The
// Sentinels have elected another master by then.
const slowAfter = 5

// slow says how long it takes until keepalived believes what the script says.
func (l *linter) slow(s *script) {
	at := s.place
	count := func(name string) int {
		b := s.last(name)
		n, err := strconv.Atoi(b.word(1))
		if err != nil || n < 1 {
			return 1
		}
		at = b.place
		return n
	}
	runs := max(count("rise"), count("fall"))
	interval := l.seconds(s.last("interval"), 1)
	if b := s.last("interval"); b != nil {
		at = b.place
	}
	timeout := l.seconds(s.last("timeout"), interval)
	if late := float64(runs) * interval; late > slowAfter {
		hangs := interval + float64(runs)*max(interval, timeout)
		l.hint(at, fmt.Sprintf("keepalived notices a change after up to %g s (interval × fall or rise), "+
			"and after %g s if the check hangs, and the VIP moves then: "+
			"write interval 1, fall 1, rise 1 and timeout 2", late, hangs))
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
