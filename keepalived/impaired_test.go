package keepalived

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// TestImpaired: a file that keeps its 1 although it should be 0 is said, for
// the dead man's switch to act.
func TestImpaired(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Missing(t, "not root: cannot mount a disk")
	}
	disk := t.TempDir()
	lab.Check(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	f := &TrackFile{Path: filepath.Join(disk, "master")}
	lab.Check(t, f.Write(true))
	lab.Check(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	if err := f.Write(true); err == nil || f.Impaired() != "" {
		t.Errorf("a 1 that is still true: %v, %q", err, f.Impaired())
	}
	if err := f.Write(false); err == nil || f.Impaired() == "" {
		t.Errorf("a 1 that is not: %v, %q", err, f.Impaired())
	}
	lab.Check(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT, ""))
	if err := f.Write(false); err != nil || f.Impaired() != "" {
		t.Errorf("written: %v, %q", err, f.Impaired())
	}
	// A write that hangs.
	f.begun = time.Now().Add(-2 * rewriteEvery)
	if f.Impaired() == "" {
		t.Error("a write is under way for two seconds, and nobody is told")
	}
}
