// Package keepalived writes the files that keepalived tracks.
package keepalived

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"redis-is-master/checker"
)

const (
	rewriteEvery = time.Second      // so that a file which was deleted or spoilt heals
	repeatEvery  = time.Minute      // how often a failure that lasts is reported
	readWithin   = 3 * time.Second  // keepalived reads a change within milliseconds, but may have no time
	unreadAfter  = 10 * time.Second // keepalived reads the file each time it is rewritten
)

// A TrackFile is a file for keepalived's track_file: a number and a newline.
//
// It is replaced by a rename within its directory, mode 0644. Where there is no
// room for a new file, the number goes into the old one, which has its room.
// Nothing is synced to the disk: a stalled disk must not keep a 1 alive, and
// after a power cut the daemon writes it anew. Its directory is best on a tmpfs.
//
// The methods but Run and Write may be called concurrently, and do not block.
type TrackFile struct {
	Path string
	// Number is what the file has to hold for a status; was is what it holds.
	// [Answer] if nil.
	Number func(s checker.Status, was int) int
	// Failed is called when the file cannot be replaced, once a minute while
	// that lasts, and with nil when it can be again.
	Failed func(error)
	// Unread is called when nobody has read the file for ten seconds, see
	// [TrackFile.UnreadFor], once a minute while that lasts, and with nil when
	// somebody has. Nil means nobody wants to know.
	Unread func(error)

	writing sync.Mutex  // held while the file is written
	mu      sync.Mutex  // held for a moment only, never while the file is written
	opened  bool        // number is known
	number  int         // what the file holds
	changed time.Time   // when it became that
	begun   time.Time   // when the write under way began; zero for none
	stuck   time.Time   // since when the file does not hold what it has to; zero if it does
	wrong   bool        // the file may hold a number where it has to hold 0
	written os.FileInfo // the file as it was before anybody could read it
	blind   bool        // the file system does not tell that a file was read
	read    time.Time   // when the file was last read, or keepalived was first seen to run
	reads   int         // how many of the last versions of the file were read, one after the other
	seen    int         // what keepalived has read last
}

// Answer is the [TrackFile.Number] for a track_file with weight 0 reverse: 1
// while the node is what is wanted, else 0.
func Answer(s checker.Status, _ int) int {
	if s.Verdict.Answer() == checker.Yes {
		return 1
	}
	return 0
}

// NewTrackFile writes 0. The directory must exist: keepalived drops a tracker
// whose directory is missing when it starts, and says so only in its log.
//
// A daemon that replaces itself and keeps its answer calls [ResumeTrackFile].
func NewTrackFile(path string, failed func(error)) (*TrackFile, error) {
	return newFile(&TrackFile{Path: path, Failed: failed}, "track file")
}

func newFile(t *TrackFile, what string) (*TrackFile, error) {
	dir := filepath.Dir(t.Path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("the %s %s: there is no directory %s: make it before keepalived starts, "+
			"which otherwise drops the tracker and says so only in its log", what, t.Path, dir)
	}
	if err := t.write(0); err != nil && t.written == nil { // else it was overwritten
		return nil, fmt.Errorf("the %s: %w", what, err)
	}
	return t, nil
}

// Run writes the file at every change and once a second, until ctx is done;
// then it writes 0.
func (t *TrackFile) Run(ctx context.Context, m *checker.Monitor) error {
	number := t.Number
	if number == nil {
		number = Answer
	}
	failed, unread := repeater{report: t.Failed}, repeater{report: t.Unread}
	m.Watch(ctx, rewriteEvery, func(s checker.Status) {
		failed.say(t.write(number(s, t.holds())))
		unread.say(t.unread())
	})
	failed.say(t.write(0))
	return nil
}

// A repeater reports an error when it begins, when it ends, and once a minute.
type repeater struct {
	report func(error)
	last   error
	said   time.Time
}

func (r *repeater) say(err error) {
	if r.report == nil || (err == nil) == (r.last == nil) && (err == nil || time.Since(r.said) < repeatEvery) {
		return
	}
	r.last, r.said = err, time.Now()
	r.report(err)
}

// Write makes the file hold 1 or 0. An error does not mean that it holds
// something else: see [TrackFile.Impaired].
func (t *TrackFile) Write(yes bool) error {
	if yes {
		return t.write(1)
	}
	return t.write(0)
}

// Impaired says why keepalived may be told a yes that is none: a write hangs
// for longer than a second, or a 0 could be brought into the file in no way.
// Empty if neither is so. It is for [checker.Monitor.Impaired]: the dead man's
// switch beside the file then has to fail.
func (t *TrackFile) Impaired() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.begun.IsZero() && time.Since(t.begun) > rewriteEvery:
		return t.Path + " cannot be written: the disk hangs"
	case t.wrong:
		return t.Path + " cannot be written, and does not say 0 as it should"
	}
	return ""
}

// Behind says why keepalived may not know the answer, although no other output
// is concerned: a number could not be written for longer than a second, so that
// the VIP is not on this master; or keepalived has read a number and, for three
// seconds, not the 0 that came after. Empty if neither is so. The dead man's
// switch has to fail while that of the track file says something; a promotion
// file that is behind is no reason to drop the VIP.
func (t *TrackFile) Behind() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.stuck.IsZero() && time.Since(t.stuck) > rewriteEvery:
		return t.Path + " cannot be written, and does not say yes as it should"
	case t.number == 0 && t.seen != 0 && !t.blind && time.Since(t.changed) > readWithin:
		return t.Path + " says 0, and keepalived has not read that: " + unreadHint
	}
	return ""
}

const unreadHint = "is its directory another than when keepalived started? systemctl reload keepalived"

// UnreadFor is how long nobody has read the file, if that is longer than ten
// seconds: keepalived reads it once a second. It is 0 where nobody has read it
// yet and no keepalived runs, and where the file system does not tell, as one
// that is mounted with noatime.
func (t *TrackFile) UnreadFor() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := time.Since(t.read)
	if t.blind || t.read.IsZero() || d < unreadAfter {
		return 0
	}
	return d
}

func (t *TrackFile) unread() error {
	d := t.UnreadFor()
	if d == 0 {
		return nil
	}
	return fmt.Errorf("nobody has read %s for %v: does keepalived run, and track it? %s",
		t.Path, d.Round(time.Second), unreadHint)
}

// holds is the number in the file; it reads one that an earlier daemon left.
func (t *TrackFile) holds() int {
	if !t.opened {
		n, now := readNumber(t.Path), time.Now()
		t.mu.Lock()
		t.opened, t.number, t.changed = true, n, now
		t.mu.Unlock()
	}
	return t.number
}

func readNumber(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, 16)
	n, _ := f.Read(b)
	number, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return number
}

func (t *TrackFile) write(number int) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.holds()
	t.mu.Lock()
	t.begun = time.Now()
	t.mu.Unlock()
	t.look()
	written, err := t.replace(number)
	held := err == nil
	if err != nil {
		written, held, err = t.makeDo(number, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if held && number != t.number {
		t.number, t.changed = number, t.begun
	}
	if written != nil {
		t.written = written
	}
	t.wrong = number == 0 && !held
	if held || number == 0 {
		t.stuck = time.Time{}
	} else if t.stuck.IsZero() {
		t.stuck = t.begun
	}
	t.begun = time.Time{}
	return err
}

// look notes whether the file was read since it was written. Who reads it once
// may be anybody; who reads it each time is keepalived.
func (t *TrackFile) look() {
	info, err := os.Lstat(t.Path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read.IsZero() && keepalivedRuns() {
		t.read = t.begun
	}
	if err != nil || t.written == nil || !os.SameFile(info, t.written) || accessed(info) == accessed(t.written) {
		t.reads = 0
		return
	}
	t.read = t.begun
	if t.reads++; t.reads > 1 || t.number == 0 {
		t.seen = t.number
	}
}

// pidFile is keepalived's, by default; a variable for the tests.
var pidFile = "/run/keepalived.pid"

func keepalivedRuns() bool {
	_, err := os.Stat(pidFile)
	return err == nil
}

func accessed(info os.FileInfo) syscall.Timespec { return info.Sys().(*syscall.Stat_t).Atim }

// never is the access time of a new file. The first read changes it, on a file
// system that is mounted with relatime, too.
var never = time.Unix(0, 0)

// replace puts a new file into the place of the old one, and returns it as it
// was before that.
func (t *TrackFile) replace(number int) (os.FileInfo, error) {
	f, err := os.CreateTemp(filepath.Dir(t.Path), "."+filepath.Base(t.Path)+".*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(content(number))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Chtimes(f.Name(), never, time.Time{})
	}
	info, serr := os.Lstat(f.Name())
	if err = errors.Join(err, serr); err == nil && t.written == nil {
		info, err = t.probe(info, f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), t.Path)
	}
	if err != nil {
		os.Remove(f.Name())
		return nil, err
	}
	return info, nil
}

func content(number int) []byte { return fmt.Appendln(nil, number) }

// probe finds out whether the file system tells that a file was read. It
// returns the file as it then is.
func (t *TrackFile) probe(before os.FileInfo, name string) (after os.FileInfo, err error) {
	if _, err = os.ReadFile(name); err != nil {
		return nil, err
	}
	if after, err = os.Lstat(name); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.blind = accessed(after) == accessed(before)
	t.mu.Unlock()
	if err = os.Chtimes(name, never, time.Time{}); err != nil {
		return nil, err
	}
	return os.Lstat(name)
}

// makeDo is for where there is no room for a new file: the number goes into
// the old one. If that fails, too, a 0 removes the file, which is a 0 to
// keepalived as well. The error is the cause, and what became of the file.
func (t *TrackFile) makeDo(number int, cause error) (written os.FileInfo, held bool, err error) {
	if written, err = overwrite(t.Path, content(number)); err == nil {
		return written, true, fmt.Errorf("no new file can be made, so the old one is overwritten: %w", cause)
	}
	if number != 0 {
		if readNumber(t.Path) == number { // of a file system that was made read-only, say
			return nil, true, fmt.Errorf("it cannot be written, and says %d as it should: %w", number, cause)
		}
		return nil, false, fmt.Errorf("it does not say %d as it should: %w", number, cause)
	}
	err = syscall.Unlink(t.Path)
	switch {
	case err == nil:
		t.mu.Lock()
		t.seen = 0 // keepalived is told of the removal, and reads nothing
		t.mu.Unlock()
	case !errors.Is(err, os.ErrNotExist):
		return nil, false, fmt.Errorf("it does not say 0 as it should: %w", errors.Join(cause, err))
	}
	return nil, true, fmt.Errorf("it cannot be written, so it is removed: %w", cause)
}

// overwrite changes a file in place, and returns it as it was before that.
// Keepalived reads it when it is closed. Whoever reads it earlier finds one
// number or the other if both have one digit, of which the write changes one
// byte.
func overwrite(path string, content []byte) (before os.FileInfo, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if before, err = f.Stat(); err == nil && !before.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return before, errors.Join(err, f.Close())
}
