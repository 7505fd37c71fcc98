package keepalived

import (
	"errors"
	"time"

	"redis-is-master/checker/handover"
)

// A record is what a [TrackFile] hands over: what keepalived has read, and what it could not be told.
type record struct {
	number, seen         int
	opened, wrong, blind bool
	changed, stuck, read time.Time
	reads                int
}

// Hold leaves the file as it is until release is called, and returns what [ResumeTrackFile] needs. It is an error while
// a write hangs.
func (t *TrackFile) Hold(at time.Time) (rec []byte, release func(), err error) {
	for begun := time.Now(); !t.writing.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > holdPatience {
			return nil, nil, errors.New(t.Path + " is being written for long: the disk hangs")
		}
	}
	t.mu.Lock()
	rec, err = handover.Encode(at,
		record{t.number, t.seen, t.opened, t.wrong, t.blind, t.changed, t.stuck, t.read, t.reads})
	t.mu.Unlock()
	if err != nil {
		t.writing.Unlock()
		return nil, nil, err
	}
	return rec, t.writing.Unlock, nil
}

// holdPatience is how long a write may take that is under way.
const holdPatience = 100 * time.Millisecond

// ResumeTrackFile is [NewTrackFile] for a file that another TrackFile has kept. It writes nothing.
func ResumeTrackFile(path string, failed func(error), at time.Time, rec []byte) (*TrackFile, error) {
	t := &TrackFile{Path: path, Failed: failed}
	return t, t.restore(at, rec)
}

// ResumePromotionFile is [NewPromotionFile] for a file that another TrackFile has kept. It writes nothing.
func ResumePromotionFile(path string, failed func(error), at time.Time, rec []byte) (*TrackFile, error) {
	t := promotionFile(path, failed)
	return t, t.restore(at, rec)
}

func (t *TrackFile) restore(at time.Time, rec []byte) error {
	r, err := handover.Decode[record](at, rec)
	if err != nil {
		return err
	}
	t.number, t.seen, t.opened, t.wrong, t.blind = r.number, r.seen, r.opened, r.wrong, r.blind
	t.changed, t.stuck, t.read, t.reads = r.changed, r.stuck, r.read, r.reads
	return nil
}

// RecordShape changes with what the records of this package hold.
func RecordShape() string { return handover.Shape[record]() }
