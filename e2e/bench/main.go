// Bench compares redis-is-master, side by side, with what people use today:
// what a check costs, what watching costs, how fast a VIP follows, how the
// cost grows. It writes what it found as Markdown, and one picture: run it by
// make bench.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"redis-is-master/e2e/lab"
)

const password = lab.SitePassword

// A bench is one run, and what was asked of it.
type bench struct {
	markdown
	bin       string        // directory with the built commands
	runs      int           // execs of each program
	failovers int           // of each set-up
	labs      int           // that run side by side
	setup     string        // a part of the names of those that follow, empty for all
	period    time.Duration // of watching
	lines     []string      // those that matter most, for the README
	picture   []byte
}

func main() {
	log.SetFlags(log.Ltime)
	b := &bench{}
	flag.StringVar(&b.bin, "bin", "bin", "directory with the built commands")
	flag.IntVar(&b.runs, "runs", 400, "execs of each program")
	flag.IntVar(&b.failovers, "failovers", 10, "failovers of each set-up")
	flag.IntVar(&b.labs, "labs", 3, "labs side by side")
	flag.DurationVar(&b.period, "watch", time.Minute, "how long each way to watch is measured")
	flag.StringVar(&b.setup, "setup", "", "with -only follow: only the set-ups that match this regular expression")
	only := flag.String("only", "", "a part alone: exec, watch, crash, follow, cached, haproxy, scale, flip, idle or http")
	out := flag.String("out", "", "directory for BENCHMARKS.md and benchmarks.svg; nothing is written without it")
	readme := flag.String("readme", "", "file that shows the picture and the lines that matter, to be brought up to date")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("bench: %q is no flag", flag.Arg(0))
	}
	if b.setup != "" && *only != "follow" {
		log.Fatal("bench: -setup wants -only follow")
	}
	parts, err := b.parts(*only)
	if err != nil {
		log.Print("bench: ", err)
		defer os.Exit(1)
	}
	for _, p := range parts {
		fmt.Print(p)
	}
	if err := b.save(parts, *out, *readme); err != nil {
		log.Fatal("bench: ", err)
	}
}

// parts runs the parts and returns their sections of the report. One that fails
// says so there, and the others are run nevertheless.
func (b *bench) parts(only string) (sections []string, failed error) {
	for _, part := range []struct {
		name, title string
		run         func() error
	}{
		{"exec", "The cost of one check", b.execs},
		{"watch", "The cost of watching", b.watching},
		{"crash", "How long a crash takes", b.dying},
		{"follow", "How fast the VIP follows", b.follow},
		{"cached", "How fast the VIP follows the cached check, with a newer keepalived", b.cached},
		{"haproxy", "How fast a newer HAProxy follows", b.haproxy},
		{"scale", "How the cost grows", b.scale},
		{"flip", "How fast the daemon says it", b.flips},
		{"idle", "The cost of a daemon that has nothing to say", b.idle},
		{"http", "The daemon's HTTP", b.throughput},
	} {
		if only != "" && only != part.name {
			continue
		}
		log.Print(part.title)
		b.markdown, b.lines = markdown{}, nil
		start := time.Now()
		if err := part.run(); err != nil {
			err = fmt.Errorf("%s: %w", part.name, err)
			b.printf("\n**This part failed:** %s\n", short(err))
			log.Print(err)
			failed = errors.Join(failed, err)
		}
		for _, l := range b.lines {
			b.printf("\n<!-- for the README: %s -->\n", l)
		}
		sections = append(sections, fmt.Sprintf("%s%s\n\n%s\n`make bench ONLY=%s` took %v on %s, with "+
			"redis-is-master %s.\n", heading, part.title, b.Bytes(),
			part.name, time.Since(start).Round(time.Second), time.Now().UTC().Format("2006-01-02"),
			version(filepath.Join(b.bin, "redis-is-master"), "--version")))
	}
	return sections, failed
}

// heading begins a section of the report.
const heading = "## "

// merge puts new sections in the place of the old ones of the same title, or at
// the end, and a new head before them.
func merge(report, head string, sections []string) string {
	_, old, _ := strings.Cut(report, "\n"+heading)
	var all []string
	if old != "" {
		for _, s := range strings.Split(old, "\n"+heading) {
			all = append(all, heading+strings.TrimRight(s, "\n")+"\n")
		}
	}
	for _, s := range sections {
		title, _, _ := strings.Cut(s, "\n")
		i := slices.IndexFunc(all, func(o string) bool { return strings.HasPrefix(o, title+"\n") })
		if i < 0 {
			i, all = len(all), append(all, "")
		}
		all[i] = s
	}
	return head + "\n" + strings.Join(all, "\n")
}

// save merges the sections into the report, and brings the README up to date.
func (b *bench) save(sections []string, dir, readme string) error {
	if dir == "" {
		return nil
	}
	file := filepath.Join(dir, "BENCHMARKS.md")
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var head markdown
	head.printf("# Benchmarks\n\nWritten by `make bench`, which can also run a part alone.\n")
	machine(&head)
	report := merge(string(old), head.String(), sections)
	if err := os.WriteFile(file, []byte(report), 0o644); err != nil {
		return err
	}
	if b.picture != nil {
		if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), b.picture, 0o644); err != nil {
			return err
		}
	}
	if readme == "" {
		return nil
	}
	return update(readme, dir, report)
}

// readmeLines is how many lines a whole report has for the README.
const readmeLines = 3

// update puts the picture, and the lines of the report that are for it, between
// the marks of a file beside dir.
func update(readme, dir, report string) error {
	const begin, end = "<!-- written by make bench -->\n", "<!-- until here -->\n"
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return fmt.Errorf("%s has no place for the benchmarks", readme)
	}
	block := fmt.Sprintf("![How fast the VIP follows, and where it should not have been](%s/benchmarks.svg)\n\n", dir)
	lines := regexp.MustCompile(`(?m)^<!-- for the README: (.*) -->$`).FindAllStringSubmatch(report, -1)
	if len(lines) != readmeLines {
		return nil // a part has failed, which the report says
	}
	for _, l := range lines {
		block += "- " + l[1] + "\n"
	}
	return os.WriteFile(readme, []byte(before+begin+block+end+after), 0o644)
}
