package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A subcommand is one of a command, as the usage of that describes it.
type subcommand struct {
	Name, Text string
	Flags      []option
	File       bool // it takes the name of a file
}

var synopsis = regexp.MustCompile(`(?m)^ {7}\S+ ([a-z-]+) (.*)$`)

// subcommands reads those of a command, which has some flags of its own.
func subcommands(bin, name string, flags []option) (all []subcommand, err error) {
	out, _ := exec.Command(filepath.Join(bin, name), "--help").Output()
	for _, m := range synopsis.FindAllStringSubmatch(string(out), -1) {
		s := subcommand{Name: m[1], File: m[2] == "FILE"}
		about := regexp.MustCompile(`(?m)^` + s.Name + ` (.*)\.$`).FindStringSubmatch(string(out))
		if about == nil {
			return nil, fmt.Errorf("%s --help does not say what %s does", name, s.Name)
		}
		s.Text = about[1]
		if m[2] == "[flags]" { // of its own, and those of the command
			if s.Flags, err = options(bin, name, s.Name); err != nil {
				return nil, err
			}
		}
		for _, o := range flags {
			own := slices.ContainsFunc(s.Flags, func(p option) bool { return p.Long == o.Long })
			if named := strings.Contains(m[2], "--"+o.Long+" "); !own && (m[2] == "[flags]" || named) {
				s.Flags = append(s.Flags, o)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// flagsOf are the flags of a command and of its subcommands, each once.
func flagsOf(flags []option, subs []subcommand) (all []option) {
	all = slices.Clone(flags)
	for _, s := range subs {
		for _, o := range s.Flags {
			if !slices.ContainsFunc(all, func(p option) bool { return p.Long == o.Long }) {
				all = append(all, o)
			}
		}
	}
	return all
}
