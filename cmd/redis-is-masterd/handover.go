package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"redis-is-master/checker"
	"redis-is-master/checker/handover"
	"redis-is-master/checker/sentinel"
	"redis-is-master/checker/vip"
	"redis-is-master/keepalived"
)

// handoverVariable holds the number of the descriptor on which the program before in this process has left a document;
// or askHandover, for a --check that is asked which documents this program reads.
const (
	handoverVariable = "REDIS_IS_MASTERD_HANDOVER"
	askHandover      = "?"
)

// A document is what a program hands over to the next one in the same process. It holds no secret.
type document struct {
	Version int               `json:"version"`
	Shape   string            `json:"shape"` // of the records
	Process int               `json:"process"`
	Boot    string            `json:"boot"`
	Node    string            `json:"node"`
	Taken   time.Duration     `json:"taken"` // since the boot, suspensions counted
	Files   handover.Files    `json:"files"`
	Records map[string]record `json:"records"`
	// Sentinels are those that are to be asked.
	Sentinels []sentinel.Watched `json:"sentinels"`
}

// A record is what one part of the daemon hands over.
type record = json.RawMessage

// The names of the records.
const (
	monitorRecord   = "monitor"
	guardRecord     = "guard"
	selfRecord      = "self"
	redisRecord     = "redis"
	vipRecord       = "vip"
	trackRecord     = "track-file"
	promotionRecord = "promotion-file"
	execRecord      = "exec"
)

const (
	handoverVersion = 1
	maxHandover     = 4 << 20
)

// handoverShape is the same for two programs of which each can go on where the other was.
func handoverShape() string {
	return fmt.Sprintf("hand-over %d %s-%s-%s-%s", handoverVersion, checker.RecordShape(), sentinel.RecordShape(),
		vip.RecordShape(), keepalived.RecordShape())
}

// An inheritance is a document that this process has left to itself.
type inheritance struct {
	document
	at time.Time // when it was taken
}

// inherit reads what the program before has handed over, if there is anything. After an error all that it has left open
// is closed, and nothing is known.
func inherit(value string) (*inheritance, error) {
	if value == "" || value == askHandover {
		return nil, nil
	}
	d, err := readHandover(value)
	if err == nil {
		since := sinceBoot() - d.Taken
		if since >= 0 {
			return &inheritance{d, time.Now().Add(-since)}, nil
		}
		err = errors.New("it is of the future")
	}
	closeInherited()
	return nil, err
}

func readHandover(value string) (d document, err error) {
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= 2 {
		return d, errors.New("its variable is spoilt")
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "hand-over")
	if f == nil {
		return d, errors.New("its descriptor is none")
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxHandover))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return document{}, errors.New("it is spoilt")
	}
	switch {
	case d.Version != handoverVersion || d.Shape != handoverShape():
		return document{}, errors.New("it is of another version")
	case d.Process != os.Getpid():
		return document{}, errors.New("it is of another process")
	case d.Boot != bootID(): // it may be unknown, for no document outlives its process
		return document{}, errors.New("it is of another boot")
	}
	return d, nil
}

// closeInherited closes all descriptors but the standard ones that were not opened by this program: its own are all
// closed by an exec.
func closeInherited() {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// write makes a descriptor of the document, in memory: no full disk is in the way.
func (d document) write() (*os.File, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if len(b) > maxHandover {
		return nil, errors.New("there is too much to hand over")
	}
	fd, err := unix.MemfdCreate("hand-over", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("hand-over", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "hand-over")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sinceBoot is how long ago the host was booted, suspensions counted.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// children are the processes that this one has, from an earlier program.
//
// Format: /proc/PID/task/TID/children, PIDs with blanks between; proc(5).
func children() (all []int) {
	threads, _ := filepath.Glob("/proc/self/task/*/children")
	for _, path := range threads {
		b, _ := os.ReadFile(path)
		for word := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}

// reap waits in the background for the children that nobody else waits for.
func reap(all []int) {
	for _, pid := range all {
		go func() {
			for {
				if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
					return
				}
			}
		}()
	}
}

// without returns environ without some variables.
func without(environ []string, names ...string) (rest []string) {
next:
	for _, v := range environ {
		for _, name := range names {
			if strings.HasPrefix(v, name+"=") {
				continue next
			}
		}
		rest = append(rest, v)
	}
	return rest
}
