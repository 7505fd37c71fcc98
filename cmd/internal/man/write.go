package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/doctor"
)

// Write makes all files: pages named by their section, completions by what
// each shell looks for.
func write(bin, root, out string) error {
	codes, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	reasons, err := os.ReadFile(filepath.Join(root, "checker/sentinel/README.md"))
	if err != nil {
		return err
	}
	ofCluster, err := options(bin, "redis-is-masterd", "cluster")
	if err != nil {
		return err
	}
	ofCluster = slices.DeleteFunc(ofCluster, func(o option) bool { return !strings.HasPrefix(o.Long, "http-") })
	commands := make(map[string][]option)
	for name, section := range map[string]string{"redis-is-master": "1", "redis-is-masterd": "8"} {
		if commands[name], err = options(bin, name); err != nil {
			return err
		}
		page, err := page(filepath.Join(root, "cmd/package", name+"."+section+".in"), string(codes)+string(reasons),
			commands[name], ofCluster)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name+"."+section), page, 0o644); err != nil {
			return err
		}
	}
	if err := writeDoctor(bin, root, out); err != nil {
		return err
	}
	commands["redis-is-replica"] = commands["redis-is-master"]
	for name, flags := range commands {
		var subs []subcommand
		if name == "redis-is-masterd" {
			if subs, err = subcommands(bin, name, flags); err != nil {
				return err
			}
		}
		for file, text := range map[string]string{
			name + ".bash": bash(name, flags, subs), "_" + name: zsh(name, flags, subs),
			name + ".fish": fish(name, flags, subs),
		} {
			if err := os.WriteFile(filepath.Join(out, file), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeDoctor makes the page of the subcommand doctor. Its checks are those of the
// program.
func writeDoctor(bin, root, out string) error {
	const name = "redis-is-masterd-doctor.8"
	flags, err := options(bin, "redis-is-masterd", "doctor")
	if err != nil {
		return err
	}
	page, err := page(filepath.Join(root, "cmd/package", name+".in"), "", flags, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, name), page, 0o644)
}

// roffChecks is a paragraph for each check of the doctor, in the order of its
// output.
func roffChecks() string {
	var b strings.Builder
	group := doctor.Group("")
	for _, c := range doctor.Checks() {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, ".SS %s\n", roff(string(group)))
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roff(c.ID), roff(c.About))
	}
	return strings.TrimRight(b.String(), "\n")
}

// page fills in the text of a page. Its tables are those of the READMEs; ofCluster are
// the flags that only the subcommand cluster has.
func page(file, readme string, flags, ofCluster []option) ([]byte, error) {
	t, err := template.New(filepath.Base(file)).Funcs(template.FuncMap{
		"options": func() string { return roffOptions(flags) },
		"cluster": func() string { return roffOptions(ofCluster) },
		"codes":   func() string { return roffTable(readme, regexp.MustCompile(`(?m)^\| ([0-3]) \| (.*) \|$`)) },
		"checks":  roffChecks,
		"reasons": func() string { return roffReasons(readme) },
		"default": func(name string) (string, error) {
			for _, o := range flags {
				if o.Long == name {
					return o.Default, nil
				}
			}
			return "", fmt.Errorf("there is no flag --%s", name)
		},
	}).ParseFiles(file)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, nil)
	return b.Bytes(), err
}

// roff makes a text safe for a page, and Markdown's code bold.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "\\|", "|").Replace(s)
	s = regexp.MustCompile("`([^`]*)`").ReplaceAllString(s, `\fB$1\fR`)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func roffOptions(flags []option) string {
	var b strings.Builder
	for _, o := range flags {
		b.WriteString(".TP\n")
		if o.Short != "" {
			fmt.Fprintf(&b, `\fB\-%s\fR, `, o.Short)
		}
		fmt.Fprintf(&b, `\fB%s\fR`, roff("--"+o.Long))
		switch {
		case o.Optional:
			fmt.Fprintf(&b, `[=\fI%s\fR]`, roff(o.Value))
		case o.Value != "":
			fmt.Fprintf(&b, ` \fI%s\fR`, roff(o.Value))
		}
		fmt.Fprintf(&b, "\n%s\n", roff(o.Text))
		if o.Default != "" {
			fmt.Fprintf(&b, "(default %s)\n", roff(o.Default))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// roffTable is the rows of the READMEs that match, each as a term and its
// text.
func roffTable(readme string, row *regexp.Regexp) string {
	var b strings.Builder
	for _, m := range row.FindAllStringSubmatch(readme, -1) {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roff(m[1]), roff(m[2]))
	}
	return strings.TrimRight(b.String(), "\n")
}

// roffReasons is what the READMEs say of every reason, in its order.
func roffReasons(readme string) string {
	_, section, _ := strings.Cut(readme, "\n## Reasons\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var b strings.Builder
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (?:(yes|no|unknown) \\| )?([^|]*)\\|").
		FindAllStringSubmatch(section, -1) {
		answer := string(checker.Reason(m[1]).Answer())
		text := strings.TrimSpace(m[3])
		if text == "" {
			text = "every rule holds"
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR (%s)\n%s\n", roff(m[1]), answer, roff(text))
	}
	return strings.TrimRight(b.String(), "\n")
}
