package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"redis-is-master/checker"
)

// HeadLines is how many lines of a wire are enough for an exit code and the
// text output.
const HeadLines = 4

// Head is the begin of what a daemon says on its unix socket, cheap to make
// and to read:
//
//	up ready 100%                  as to an HAProxy agent
//	1 master yes ok                the schema, the wanted role, the answer, the reason
//	yes 127.0.0.1:6379 master ...  the text
//	                               the hint, or nothing
//
// The document in one line of JSON follows it; see [ReadWire].
func (d Document) Head() string {
	return Agent(checker.Verdict{Reason: d.Reason, Detail: d.Detail}, "") +
		fmt.Sprintf("%d %s %s %s\n%s\n%s\n", d.Schema, d.Want, d.Answer, d.Reason, d.Text(), line(d.Hint))
}

// ReadWire reads what a daemon said. All that says yes in it must agree. Of a
// wire that ends after its head only the text output can be made.
func ReadWire(said []byte) (Document, error) {
	lines := bytes.SplitN(said, []byte("\n"), HeadLines+1)
	if len(lines) <= HeadLines {
		return Document{}, errors.New("it ends inside the head")
	}
	var d Document
	words := strings.Split(string(lines[1]), " ")
	if len(words) != 4 || words[0] != strconv.Itoa(Schema) {
		return Document{}, errors.New("the head is none of this version")
	}
	d.Schema, d.Want, d.Answer, d.Reason = Schema, checker.Role(words[1]), checker.Answer(words[2]), checker.Reason(words[3])
	if rest := lines[HeadLines]; len(rest) > 0 {
		head := d
		if err := json.Unmarshal(rest, &d); err != nil {
			return Document{}, errors.New("the document is none")
		}
		if d.Schema != head.Schema || d.Want != head.Want || d.Answer != head.Answer || d.Reason != head.Reason || d.Daemon == nil {
			return Document{}, errors.New("the head and the document differ")
		}
	} else {
		d.text, d.Hint = line(string(lines[2])), string(lines[3])
	}
	up := string(lines[0])+"\n" == Agent(checker.Verdict{Reason: checker.OK}, "")
	yes := d.Answer == checker.Yes
	if d.Answer != d.Reason.Answer() || up != yes || yes != strings.HasPrefix(string(lines[2]), "yes ") {
		return Document{}, errors.New("it contradicts itself")
	}
	return d, nil
}
