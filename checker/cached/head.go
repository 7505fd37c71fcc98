// Package cached is the protocol of the daemon's unix socket: a [Server] in the
// daemon, and [Ask] and [AskHead] in who asks it.
//
// The server says the same to every connection, reads nothing, and hangs up:
//
//	up ready 100%                                    as to an HAProxy agent
//	1 master <TAB> TROUBLE                           the schema, the role that the daemon wants, and why
//	                                                 the track file does not say the answer
//	master ok master <TAB> ADDRESS <TAB> DETAIL <TAB> HINT
//	replica role master <TAB> ...                    one line for each role that could be wanted:
//	any ok master <TAB> ...                          that, the reason, the role that the node has
//	{"schema":1, ...}                                the document, see [report.Document]
//
// The lines before the document are the head: enough for an exit code and for
// the text output.
package cached

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

var roles = [...]checker.Role{checker.RoleMaster, checker.RoleReplica, checker.RoleAny}

// headLines is how many lines the head has.
const headLines = 2 + len(roles)

// head is the begin of what the server says.
func head(d report.Document) string {
	has := checker.Role("-")
	if d.Observation != nil {
		has = d.Observation.Role
	}
	var b strings.Builder
	b.WriteString(report.Agent(checker.Verdict{Reason: d.Reason, Detail: d.Detail}))
	trouble := ""
	if d.Daemon != nil {
		trouble = d.Daemon.TrackFile
	}
	fmt.Fprintf(&b, "%d %s\t%s\n", d.Schema, d.Want, report.Line(trouble))
	for _, role := range roles {
		of, _ := d.For(role)
		fmt.Fprintf(&b, "%s %s %s\t%s\t%s\t%s\n", role, of.Reason, has,
			report.Line(of.Address), report.Line(of.Detail), report.Line(of.Hint))
	}
	return b.String()
}

// read is the document for who wants role, or for the role that the daemon
// wants if that is empty. All that says yes must agree. Of a head alone it has
// what the text output says.
func read(said []byte, role checker.Role) (report.Document, error) {
	lines := bytes.SplitN(said, []byte("\n"), headLines+1)
	if len(lines) <= headLines {
		return report.Document{}, errors.New("it ends inside the head")
	}
	second, trouble, ok := strings.Cut(string(lines[1]), "\t")
	schema, own, _ := strings.Cut(second, " ")
	if !ok || schema != strconv.Itoa(report.Schema) {
		return report.Document{}, errors.New("the head is none of this version")
	}
	if role == "" {
		role = checker.Role(own)
	}
	var d report.Document
	for i, line := range lines[2:headLines] {
		of, err := readRole(string(line), roles[i])
		if err != nil {
			return report.Document{}, err
		}
		up := string(lines[0])+"\n" == report.Agent(checker.Verdict{Reason: checker.OK})
		if of.Want == checker.Role(own) && up != (of.Answer == checker.Yes) {
			return report.Document{}, errors.New("it contradicts itself")
		}
		if of.Want == role {
			d = of
		}
	}
	if d.Want == "" {
		return report.Document{}, errors.New("the head has no such role")
	}
	rest := lines[headLines]
	if len(rest) == 0 {
		if trouble != "" {
			d.Daemon = &report.Daemon{TrackFile: trouble}
		}
		return d, nil
	}
	var whole report.Document
	if err := json.Unmarshal(rest, &whole); err != nil {
		return report.Document{}, errors.New("the document is none")
	}
	whole, known := whole.For(role)
	if !known || whole.Schema != d.Schema || whole.Answer != d.Answer || whole.Reason != d.Reason || whole.Daemon == nil {
		return report.Document{}, errors.New("the head and the document differ")
	}
	return whole, nil
}

// readRole reads the line of a head about one role.
func readRole(line string, want checker.Role) (report.Document, error) {
	fields := strings.Split(line, "\t")
	words := strings.Split(fields[0], " ")
	if len(fields) != 4 || len(words) != 3 || words[0] != string(want) {
		return report.Document{}, errors.New("the head is none of this version")
	}
	d := report.Document{Schema: report.Schema, Want: want, Reason: checker.Reason(words[1]),
		Address: fields[1], Detail: fields[2], Hint: fields[3], Rules: []report.Rule{}}
	d.Answer = d.Reason.Answer()
	if words[2] != "-" {
		d.Observation = &report.Observation{Role: checker.Role(words[2])}
	}
	return d, nil
}
