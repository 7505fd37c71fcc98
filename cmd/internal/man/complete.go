package main

import (
	"fmt"
	"slices"
	"strings"
)

// bash completes subcommands and flags, and after a flag its words or files.
func bash(name string, flags []option, subs []subcommand) string {
	function := "_" + strings.ReplaceAll(name, "-", "_")
	var cases strings.Builder
	for _, o := range flagsOf(flags, subs) {
		names := "--" + o.Long
		if o.Short != "" {
			names = "-" + o.Short + "|" + names
		}
		switch {
		case o.Value == "" || o.Optional:
		case o.Words() != nil:
			fmt.Fprintf(&cases, "\t%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", names,
				strings.Join(o.Words(), " "))
		case o.File():
			fmt.Fprintf(&cases, "\t%s) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", names)
		default:
			fmt.Fprintf(&cases, "\t%s) return ;;\n", names)
		}
	}
	choice := ""
	if len(subs) > 0 {
		var names []string
		for _, s := range subs {
			names = append(names, s.Name)
			if s.File {
				choice += fmt.Sprintf("\t%s) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", s.Name)
			} else {
				choice += fmt.Sprintf("\t%s) words='%s' ;;\n", s.Name, strings.Join(spellings(s.Flags), " "))
			}
		}
		choice = fmt.Sprintf("\tcase ${COMP_CWORD},${COMP_WORDS[1]} in\n\t1,*) words+=' %s' ;;\n%s\tesac\n",
			strings.Join(names, " "), strings.ReplaceAll(choice, "\t", "\t*,"))
	}
	return fmt.Sprintf(`# bash completion of %[1]s
%[2]s() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='%[4]s'
	COMPREPLY=()
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	case $prev in
%[3]s	esac
%[5]s	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F %[2]s %[1]s
`, name, function, cases.String(), strings.Join(spellings(flags), " "), choice)
}

// spellings are all that flags are called.
func spellings(flags []option) (all []string) {
	for _, o := range flags {
		all = append(all, "--"+o.Long)
		if o.Short != "" {
			all = append(all, "-"+o.Short)
		}
	}
	return all
}

// zsh describes the subcommands, and the flags of each, to _arguments.
func zsh(name string, flags []option, subs []subcommand) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n", name)
	if len(subs) == 0 {
		return b.String() + "_arguments -s" + zshFlags(flags) + "\n"
	}
	names := ""
	b.WriteString("if (( CURRENT > 2 )); then\n\tcase $words[2] in\n")
	for _, s := range subs {
		arguments := zshFlags(s.Flags)
		if s.File {
			arguments = " '*:file:_files'"
		}
		fmt.Fprintf(&b, "\t%s)\n\tshift words; (( CURRENT-- ))\n\t_arguments -s%s\n\treturn ;;\n", s.Name, arguments)
		names += fmt.Sprintf(` %s\:"%s"`, s.Name, zshEscape.Replace(s.Text))
	}
	fmt.Fprintf(&b, "\tesac\nfi\n_arguments -s '1:subcommand:((%s))'%s\n", strings.TrimSpace(names), zshFlags(flags))
	return b.String()
}

var zshEscape = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`, "'", `'\''`)

func zshFlags(flags []option) string {
	var b strings.Builder
	for _, o := range flags {
		value := ""
		switch {
		case o.Value == "":
		case o.Words() != nil:
			value = ":" + o.Value + ":(" + strings.Join(o.Words(), " ") + ")"
		case o.File():
			value = ":" + o.Value + ":_files"
		default:
			value = ":" + o.Value + ": "
		}
		sign := ""
		if o.Optional {
			sign = "=-"
			value = ":" + value
		} else if o.Value != "" {
			sign = "="
		}
		fmt.Fprintf(&b, " \\\n\t'*--%s%s[%s]%s'", o.Long, sign, zshEscape.Replace(o.Text), value)
		if o.Short != "" {
			if sign != "" {
				sign = "+"
			}
			fmt.Fprintf(&b, " \\\n\t'*-%s%s[%s]%s'", o.Short, sign, zshEscape.Replace(o.Text), value)
		}
	}
	return b.String()
}

// fish has one line per subcommand and flag.
func fish(name string, flags []option, subs []subcommand) string {
	escape := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion of %[1]s\ncomplete -c %[1]s -f\n", name)
	for _, sub := range subs {
		fmt.Fprintf(&b, "complete -c %s -n __fish_use_subcommand -a %s -d '%s'\n", name, sub.Name, escape.Replace(sub.Text))
		if sub.File {
			fmt.Fprintf(&b, "complete -c %s -n '__fish_seen_subcommand_from %s' -F\n", name, sub.Name)
		}
	}
	for _, o := range flagsOf(flags, subs) {
		fmt.Fprintf(&b, "complete -c %s%s -l %s", name, fishCondition(o, flags, subs), o.Long)
		if o.Short != "" {
			fmt.Fprintf(&b, " -s %s", o.Short)
		}
		switch {
		case o.Value == "" || o.Optional:
		case o.Words() != nil:
			fmt.Fprintf(&b, " -x -a '%s'", strings.Join(o.Words(), " "))
		case o.File():
			b.WriteString(" -r -F")
		default:
			b.WriteString(" -x")
		}
		fmt.Fprintf(&b, " -d '%s'\n", escape.Replace(o.Text))
	}
	return b.String()
}

// fishCondition is where a flag is offered; empty for everywhere.
func fishCondition(o option, flags []option, subs []subcommand) string {
	same := func(p option) bool { return p.Long == o.Long }
	var with, without []string
	for _, s := range subs {
		if slices.ContainsFunc(s.Flags, same) {
			with = append(with, s.Name)
		} else {
			without = append(without, s.Name)
		}
	}
	switch {
	case !slices.ContainsFunc(flags, same):
		return " -n '__fish_seen_subcommand_from " + strings.Join(with, " ") + "'"
	case len(without) > 0:
		return " -n 'not __fish_seen_subcommand_from " + strings.Join(without, " ") + "'"
	}
	return ""
}
