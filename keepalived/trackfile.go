// Package keepalived gives keepalived what it acts upon.
package keepalived

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"redis-is-master/checker"
)

// rewrite is how often a track file is written although nothing changed, so
// that one which was deleted or spoilt heals.
const rewrite = time.Second

// epoch carries a monotonic clock: a jump of the wall clock must not hide a
// write that hangs.
var epoch = time.Now()

// A TrackFile is a file for keepalived's track_file with weight 0 reverse: it
// holds "1" and a newline while the node is what is wanted, else "0".
//
// It is replaced by a rename within its directory, mode 0644, and not synced
// to the disk: a stalled disk must not keep a "1" alive, and after a power
// cut the daemon writes it anew. Its directory is best on a tmpfs.
type TrackFile struct {
	Path string
	// Failed is called when the file cannot be written, and with nil when it
	// can again.
	Failed func(error)

	begun atomic.Int64 // when the write under way began, in nanoseconds since epoch; 0 for none
	wrong atomic.Bool  // the file may hold a 1 that should be a 0
}

// Impaired says why keepalived may be told what is not so: a write hangs, or a
// 0 could be brought into the file in no way. Empty if neither is so. It is
// for [checker.Monitor.Impaired]: the dead man's switch beside the file must
// then speak.
func (t *TrackFile) Impaired() string {
	if begun := t.begun.Load(); begun != 0 && time.Since(epoch)-time.Duration(begun) > rewrite {
		return "the track file cannot be written: its disk hangs"
	}
	if t.wrong.Load() {
		return "the track file cannot be written, and holds what is no longer true"
	}
	return ""
}

// NewTrackFile writes "0". Its directory must exist: keepalived drops a
// tracker whose directory is missing at its start, and says so only in its
// log.
func NewTrackFile(path string, failed func(error)) (*TrackFile, error) {
	t := &TrackFile{Path: path, Failed: failed}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("the directory of the track file %s does not exist: make it before keepalived starts, which otherwise drops the tracker without a word but in its log", path)
	}
	if err := t.Write(false); err != nil {
		return nil, fmt.Errorf("the track file: %w", err)
	}
	return t, nil
}

// Run writes the file at every change and once a second, until ctx is done;
// then it writes "0".
func (t *TrackFile) Run(ctx context.Context, m *checker.Monitor) error {
	var last error
	write := func(yes bool) {
		err := t.Write(yes)
		if (err == nil) != (last == nil) {
			t.Failed(err)
		}
		last = err
	}
	m.Watch(ctx, rewrite, func(s checker.Status) { write(s.Verdict.Answer() == checker.Yes) })
	write(false)
	return nil
}

// Write replaces the file. Where there is no room for a new one a "0" goes
// into the old one, and if that fails, too, the old one is removed: to
// keepalived that is a 0 as well.
func (t *TrackFile) Write(yes bool) error {
	t.begun.Store(int64(time.Since(epoch)))
	defer t.begun.Store(0)
	written, err := t.write(yes)
	t.wrong.Store(!yes && !written)
	return err
}

// write returns the first thing that failed, and whether the file says so
// nevertheless.
func (t *TrackFile) write(yes bool) (written bool, err error) {
	content := "0\n"
	if yes {
		content = "1\n"
	}
	err = t.replace(content)
	if err == nil || yes {
		return err == nil, err
	}
	if old, oerr := os.OpenFile(t.Path, os.O_WRONLY, 0); oerr == nil {
		_, werr := old.WriteAt([]byte(content), 0)
		if cerr := old.Close(); werr == nil && cerr == nil {
			return true, err
		}
	}
	if rerr := syscall.Unlink(t.Path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		return false, errors.Join(err, rerr)
	}
	return true, err
}

func (t *TrackFile) replace(content string) error {
	f, err := os.CreateTemp(filepath.Dir(t.Path), "."+filepath.Base(t.Path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.Path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
