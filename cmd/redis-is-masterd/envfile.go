package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"redis-is-master/cmd/internal/flags"
)

// optionsVariable is what the unit puts on the command line.
const optionsVariable = "OPTIONS"

// readEnvFile returns the flags that an environment file gives the unit, and
// what is wrong with its lines. It accepts less than systemd: no quotation mark
// but around the whole value, and no continued line.
//
// Format: EnvironmentFile in systemd.exec(5)
func readEnvFile(fs *pflag.FlagSet, path string) (words []string, problems []error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{flags.Errorf("--env-file: %v", flags.Cause(err))}
	}
	problem := func(line int, format string, args ...any) {
		problems = append(problems, flags.Errorf("line %d of the --env-file "+format, append([]any{line}, args...)...))
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line[:1], "#;") {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch {
		case !found:
			problem(number, "is neither NAME=VALUE nor a comment")
			continue
		case strings.HasSuffix(line, `\`):
			problem(number, "ends with a backslash: write all flags into one line")
			continue
		case name != optionsVariable:
			if holdsFlags(fs, unquote(value)) != "" {
				problem(number, "sets %s, but the unit reads its flags from %s", name, optionsVariable)
			}
			continue
		}
		words = strings.Fields(unquote(value))
		if err := flags.Misquoted(words); err != nil {
			problem(number, "is wrong: %v", err)
		}
	}
	return words, problems
}

// unquote takes off quotation marks around all of value.
func unquote(value string) string {
	for _, mark := range []string{`"`, `'`} {
		inner, begins := strings.CutPrefix(value, mark)
		inner, ends := strings.CutSuffix(inner, mark)
		if begins && ends && !strings.Contains(inner, mark) {
			return inner
		}
	}
	return value
}

// misnamed finds a variable of a unit that holds flags which are not on the
// command line.
func misnamed(fs *pflag.FlagSet, environ, args []string) error {
	given := make(map[string]bool)
	for _, a := range args {
		given[a] = true
	}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if first := holdsFlags(fs, value); first != "" && !given[first] {
			return flags.Errorf("the variable %s holds flags, but the unit reads its flags from %s", name, optionsVariable)
		}
	}
	return nil
}

// holdsFlags returns the first word of value if that is a flag of fs.
func holdsFlags(fs *pflag.FlagSet, value string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(value), " ")
	if name, long := strings.CutPrefix(first, "--"); long {
		name, _, _ = strings.Cut(name, "=")
		if fs.Lookup(name) != nil {
			return first
		}
	} else if name, short := strings.CutPrefix(first, "-"); short && len(name) == 1 && fs.ShorthandLookup(name) != nil {
		return first
	}
	return ""
}
