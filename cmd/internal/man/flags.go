package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// An option is one flag, as --help describes it.
type option struct {
	Short, Long string
	Value       string // what it takes; empty if nothing
	Optional    bool   // it may be given without a value, which is then the default
	Text        string
	Default     string
}

var (
	// begins is the first line of a flag, up to its text.
	begins   = regexp.MustCompile(`^(?:  -(\w), |      )--([a-z.-]+)(?: ([^\s[]+)|\[=([^\s\]]+)\])?   +(\S.*)$`)
	heading  = regexp.MustCompile(`(?m)^[A-Z].*:$`)
	defaults = regexp.MustCompile(` \(default ([^)]*)\)$`)
	words    = regexp.MustCompile(`: ((?:[a-z]+, )*[a-z]+(?:,| or) [a-z]+)$`)
)

// options reads the flags of a command, or of a subcommand, from its --help.
func options(bin, name string, subcommand ...string) (all []option, err error) {
	// Its exit code is 3, for 0 means yes.
	out, _ := exec.Command(filepath.Join(bin, name), append(subcommand, "--help")...).Output()
	first := heading.FindIndex(out)
	if first == nil {
		return nil, fmt.Errorf("%s --help lists no flags: %q", name, out)
	}
	for line := range strings.SplitSeq(strings.TrimRight(string(out[first[0]:]), "\n"), "\n") {
		if m := begins.FindStringSubmatch(line); m != nil {
			all = append(all, option{Short: m[1], Long: m[2], Value: m[3] + m[4], Optional: m[4] != "", Text: m[5]})
		} else if line == "" || heading.MatchString(line) {
			continue
		} else if len(all) > 0 && strings.HasPrefix(line, strings.Repeat(" ", 17)) {
			all[len(all)-1].Text += " " + strings.TrimSpace(line)
		} else {
			return nil, fmt.Errorf("%s --help has a line that is no flag: %q", name, line)
		}
	}
	for i, o := range all {
		if m := defaults.FindStringSubmatch(o.Text); m != nil {
			all[i].Default, all[i].Text = m[1], strings.TrimSuffix(o.Text, m[0])
		}
	}
	return all, nil
}

// Words are the values that the text lists, if it ends with such a list.
func (o option) Words() []string {
	m := words.FindStringSubmatch(o.Text)
	if m == nil || o.Value == "" {
		return nil
	}
	list := strings.NewReplacer(" or ", ", ").Replace(m[1])
	return strings.Split(list, ", ")
}

// File reports whether its value is the name of a file.
func (o option) File() bool {
	return o.Value == "file" || o.Value == "path" || o.Value == "socket"
}
