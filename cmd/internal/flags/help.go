package flags

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// helpWidth is the longest line of --help.
const helpWidth = 80

// Help lists the flags of fs in the order in which they were defined, in lines
// of 80 columns. Headings holds, by the name of the first flag below it, each
// heading but those of a [Node], whose flags must come first.
func Help(fs *pflag.FlagSet, headings map[string]string) string {
	var groups [][]*pflag.Flag
	var titles []string
	fs.SortFlags = false
	fs.VisitAll(func(f *pflag.Flag) {
		title := headings[f.Name]
		switch f.Name {
		case "host":
			title = "Connection"
		case "tls":
			title = "TLS"
		case "role":
			title = "Policy"
		case "sentinel":
			title = "Sentinels"
		}
		if title != "" {
			titles, groups = append(titles, title), append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], f)
	})
	var b strings.Builder
	for i, flags := range groups {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:\n", titles[i])
		group(&b, flags)
	}
	return b.String()
}

// group writes flags in two columns.
func group(b *strings.Builder, flags []*pflag.Flag) {
	width := 0
	for _, f := range flags {
		width = max(width, len(synopsis(f)))
	}
	for _, f := range flags {
		_, text := pflag.UnquoteUsage(f)
		if value := f.NoOptDefVal; value != "" && value != "true" {
			text += " (default\x00" + value + ")"
		} else if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			text += " (default\x00" + f.DefValue + ")"
		}
		column := synopsis(f)
		for line := range wrap(text, helpWidth-width-3) {
			fmt.Fprintf(b, "%-*s   %s\n", width, column, line)
			column = ""
		}
	}
}

// synopsis is the flag with its short form and its value.
func synopsis(f *pflag.Flag) string {
	text := "      --" + f.Name
	if f.Shorthand != "" {
		text = "  -" + f.Shorthand + ", --" + f.Name
	}
	value, _ := pflag.UnquoteUsage(f)
	switch {
	case f.Value.Type() == "bool":
		return text
	case f.NoOptDefVal != "":
		return text + "[=" + value + "]"
	}
	return text + " " + value
}

// wrap yields the lines of text, and does not break a line at a zero byte.
func wrap(text string, width int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		line := ""
		for word := range strings.FieldsSeq(text) {
			if line != "" && len(line)+1+len(word) > width {
				if !yield(strings.ReplaceAll(line, "\x00", " ")) {
					return
				}
				line = ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		yield(strings.ReplaceAll(line, "\x00", " "))
	}
}
