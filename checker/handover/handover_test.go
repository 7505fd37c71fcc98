package handover

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	since time.Time
	Names []string
}

type kind string

type known struct {
	Reason kind
	Cause  error
}

func (k *known) Error() string { return "known" }

type outer struct {
	zero, at  time.Time
	took      time.Duration
	yes       bool
	n         int
	epoch     uint64
	pointer   *inner
	none      *inner
	byKind    map[kind]int
	all       []*inner
	fixed     [2]inner
	err, nilE error
	text      error
	addr      netip.Addr
}

// TestRoundTrip: all fields come back, and the ages of the times are those of before.
func TestRoundTrip(t *testing.T) {
	before := time.Now()
	v := outer{zero: time.Time{}, none: nil, nilE: nil,
		at: before.Add(-time.Second), took: 5, yes: true, n: -3, epoch: 1<<64 - 1,
		pointer: &inner{since: before.Add(time.Second), Names: []string{"a"}}, byKind: map[kind]int{"x": 1},
		all: []*inner{{}, nil}, fixed: [2]inner{{Names: []string{}}, {}},
		err: &known{"timeout", errors.New("cause")}, text: errors.New("text"), addr: netip.MustParseAddr("::1")}
	record, err := Encode(before, v, (*known)(nil))
	if err != nil {
		t.Fatal(err)
	}
	after := before.Add(time.Hour)
	got, err := Decode[outer](after, record, (*known)(nil))
	if err != nil {
		t.Fatal(err)
	}
	v.at, v.pointer.since = after.Add(-time.Second), after.Add(time.Second)
	if !got.at.Equal(v.at) || !got.pointer.since.Equal(v.pointer.since) || !got.zero.IsZero() {
		t.Errorf("times %v, %v, %v", got.at, got.pointer.since, got.zero)
	}
	got.at, got.pointer.since = v.at, v.pointer.since
	if !reflect.DeepEqual(got, v) {
		t.Errorf("got %+v, want %+v", got, v)
	}
}

// TestSpoilt: what is not whole and of this shape is nothing.
func TestSpoilt(t *testing.T) {
	now := time.Now()
	good, err := Encode(now, inner{since: now, Names: []string{"name"}})
	if err != nil {
		t.Fatal(err)
	}
	for what, record := range map[string]string{
		"empty": "", "cut off": string(good[:len(good)-3]), "of another type": `{"shape":"0","value":{}}`,
		"without a field":   strings.Replace(string(good), `"since"`, `"sinse"`, 1),
		"with another":      strings.Replace(string(good), `"since":0`, `"since":0,"more":1`, 1),
		"with a wrong type": strings.Replace(string(good), `"name"`, `7`, 1),
	} {
		if got, err := Decode[inner](now, []byte(record)); err == nil || got.Names != nil {
			t.Errorf("a record that is %s: %+v", what, got)
		}
	}
	type renamed struct {
		since time.Time
		Words []string
	}
	if _, err := Decode[renamed](now, good); err == nil {
		t.Errorf("%v is a record of another type", renamed{since: now})
	}
	if _, err := Encode(now, struct{ f func() }{}); err == nil {
		t.Error("a function is handed over")
	}
}
