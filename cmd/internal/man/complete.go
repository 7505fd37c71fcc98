package main

import (
	"fmt"
	"strings"
)

// bash completes flags, and after a flag its words or files.
func bash(name string, flags []option) string {
	function := "_" + strings.ReplaceAll(name, "-", "_")
	var all []string
	var cases strings.Builder
	for _, o := range flags {
		names := "--" + o.Long
		all = append(all, names)
		if o.Short != "" {
			names = "-" + o.Short + "|" + names
			all = append(all, "-"+o.Short)
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
	return fmt.Sprintf(`# bash completion of %[1]s
%[2]s() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	case $prev in
%[3]s	esac
	COMPREPLY=($(compgen -W '%[4]s' -- "$cur"))
}
complete -F %[2]s %[1]s
`, name, function, cases.String(), strings.Join(all, " "))
}

// zsh describes the flags to _arguments.
func zsh(name string, flags []option) string {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`, "'", `'\''`)
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n_arguments -s", name)
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
		fmt.Fprintf(&b, " \\\n\t'*--%s%s[%s]%s'", o.Long, sign, escape.Replace(o.Text), value)
		if o.Short != "" {
			if sign != "" {
				sign = "+"
			}
			fmt.Fprintf(&b, " \\\n\t'*-%s%s[%s]%s'", o.Short, sign, escape.Replace(o.Text), value)
		}
	}
	return b.String() + "\n"
}

// fish has one line per flag.
func fish(name string, flags []option) string {
	escape := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion of %[1]s\ncomplete -c %[1]s -f\n", name)
	for _, o := range flags {
		fmt.Fprintf(&b, "complete -c %s -l %s", name, o.Long)
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
