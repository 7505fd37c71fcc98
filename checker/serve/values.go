package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"redis-is-master/checker/report"
)

// A value is a part of a JSON document, for people: a text, or facts, or a
// table with one row per element.
type value struct {
	Name, Text string
	Facts      []value
	Columns    []string
	Table      [][]value
}

// sentinels are the fields of an observation that are not the node's own
// word, with what they are called.
var sentinels = map[string]string{"hellos": "What the Sentinels say on the node", "quorum": "What the listed Sentinels answer"}

// observed are the fields of the observation, whatever they are: what the
// document is given in future is shown without a change here.
func observed(d report.Document) (facts, others []value) {
	b, err := json.Marshal(d.Observation)
	if err != nil || d.Observation == nil {
		return nil, nil
	}
	return observedIn(b)
}

func observedIn(b []byte) (facts, others []value) {
	for _, f := range fields(b) {
		v, shown := newValue(f.name, f.raw)
		title, other := sentinels[f.name]
		switch {
		case other && shown:
			v.Name = title
			others = append(others, v)
		case !other:
			facts = append(facts, v)
		}
	}
	return facts, others
}

// newValue reports whether there is anything to show.
func newValue(name string, raw json.RawMessage) (value, bool) {
	v := value{Name: strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(name, "_seconds"), "_bytes"), "_", " ")}
	switch raw[0] {
	case '{':
		for _, f := range fields(raw) {
			if inner, shown := newValue(f.name, f.raw); shown {
				v.Facts = append(v.Facts, inner)
			}
		}
		return v, len(v.Facts) > 0
	case '[':
		v.list(raw)
		return v, len(v.Table) > 0 || v.Text != ""
	case '"':
		json.Unmarshal(raw, &v.Text)
		if v.Text == "" {
			v.Text = "–"
			return v, false
		}
		if t, err := time.Parse(time.RFC3339Nano, v.Text); err == nil {
			v.Text = t.Local().Format("15:04:05.000")
		}
		if name == "run_id" && len(v.Text) > 12 { // enough to tell two apart
			v.Text = strings.ToValidUTF8(v.Text[:12], "") + "…"
		}
	case 't':
		v.Text = "yes"
	case 'f':
		v.Text = "no"
	case 'n':
		v.Text = "–"
		return v, false
	default:
		v.Text = string(raw)
		if n, err := strconv.ParseFloat(v.Text, 64); err == nil && strings.HasSuffix(name, "_seconds") {
			v.Text = duration(n)
		} else if strings.HasSuffix(name, "_bytes") {
			v.Text = thousands(v.Text) + " bytes"
		}
	}
	return v, true
}

// list makes a table of objects, and a line of all else.
func (v *value) list(raw json.RawMessage) {
	var elements []json.RawMessage
	json.Unmarshal(raw, &elements)
	var words []string
	var names []string
	for _, e := range elements {
		for _, f := range fields(e) {
			if !slices.Contains(names, f.name) {
				names = append(names, f.name)
			}
		}
		if e[0] != '{' {
			inner, _ := newValue("", e)
			words = append(words, inner.Text)
		}
	}
	if v.Text = strings.Join(words, ", "); len(names) == 0 {
		return
	}
	for _, name := range names {
		inner, _ := newValue(name, json.RawMessage("null"))
		v.Columns = append(v.Columns, inner.Name)
	}
	for _, e := range elements {
		row := make([]value, len(names))
		for _, f := range fields(e) {
			row[slices.Index(names, f.name)], _ = newValue(f.name, f.raw)
		}
		v.Table = append(v.Table, row)
	}
}

type field struct {
	name string
	raw  json.RawMessage
}

// fields are those of a JSON object, in its order; of anything else none.
func fields(raw json.RawMessage) (all []field) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return nil
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return all
		}
		var f field
		if err := d.Decode(&f.raw); err != nil {
			return all
		}
		f.name = fmt.Sprint(name)
		all = append(all, f)
	}
	return all
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
