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
	only := flag.String("only", "", "a part alone: exec, watch, follow, scale, flip, idle or http")
	out := flag.String("out", "", "directory for BENCHMARKS.md and benchmarks.svg; nothing is written without it")
	readme := flag.String("readme", "", "file that shows the picture and the lines that matter, to be brought up to date")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("bench: %q is no flag", flag.Arg(0))
	}
	if b.setup != "" && *only != "follow" {
		log.Fatal("bench: -setup wants -only follow")
	}
	if *only != "" && *out != "" {
		log.Fatal("bench: -out wants all parts, without -only")
	}
	if err := b.all(*only); err != nil {
		log.Print("bench: ", err)
		defer os.Exit(1)
	}
	os.Stdout.Write(b.Bytes())
	if err := b.save(*out, *readme); err != nil {
		log.Fatal("bench: ", err)
	}
}

// all runs the parts. One that fails says so in the report, and the others
// are run nevertheless.
func (b *bench) all(only string) (failed error) {
	begun := time.Now()
	var parts markdown
	for _, part := range []struct {
		name, title string
		run         func() error
	}{
		{"exec", "The cost of one check", b.execs},
		{"watch", "The cost of watching", b.watching},
		{"follow", "How fast the VIP follows", b.follow},
		{"scale", "How the cost grows", b.scale},
		{"flip", "How fast the daemon says it", b.flips},
		{"idle", "The cost of a daemon that has nothing to say", b.idle},
		{"http", "The daemon's HTTP", b.throughput},
	} {
		if only != "" && only != part.name {
			continue
		}
		log.Print(part.title)
		b.markdown = markdown{}
		start := time.Now()
		if err := part.run(); err != nil {
			err = fmt.Errorf("%s: %w", part.name, err)
			b.printf("\n**This part failed:** %s\n", short(err))
			log.Print(err)
			failed = errors.Join(failed, err)
		}
		parts.printf("\n## %s\n\n%s\nThis part took %v: `-only %s`.\n", part.title, b.Bytes(), time.Since(start).Round(time.Second), part.name)
	}
	b.markdown = markdown{}
	b.printf("# Benchmarks\n\nWritten by `make bench`, as a whole.\n")
	machine(&b.markdown, time.Since(begun))
	b.Write(parts.Bytes())
	return failed
}

// save writes the files of a whole run.
func (b *bench) save(dir, readme string) error {
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "BENCHMARKS.md"), b.Bytes(), 0o644); err != nil {
			return err
		}
		if b.picture != nil {
			if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), b.picture, 0o644); err != nil {
				return err
			}
		}
	}
	if readme == "" || len(b.lines) != 3 || b.picture == nil {
		return nil
	}
	return b.update(readme, dir)
}

// update puts the picture and the lines that matter between the marks of a
// file beside dir.
func (b *bench) update(readme, dir string) error {
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
	block := fmt.Sprintf("![How fast the VIP follows, and where it should not have been](%s/benchmarks.svg)\n\n- %s\n", dir, strings.Join(b.lines, "\n- "))
	return os.WriteFile(readme, []byte(before+begin+block+end+after), 0o644)
}
