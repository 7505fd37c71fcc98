package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Markdown is written to piece by piece.
type markdown struct{ bytes.Buffer }

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

// head begins a table.
func (m *markdown) head(columns ...string) {
	m.printf("\n| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
}

// row goes on with it. A float gets two digits.
func (m *markdown) row(cells ...any) {
	for _, c := range cells {
		if f, ok := c.(float64); ok {
			c = fmt.Sprintf("%.2f", f)
		}
		m.printf("| %v ", c)
	}
	m.printf("|\n")
}

func (m *markdown) targets() { m.head("target", "measured", "at most", "") }

func (m *markdown) target(what string, got, atMost float64) {
	word := "met"
	if got > atMost {
		word = "**missed**"
	}
	m.row(what, got, atMost, word)
}

// A sample is what was measured again and again, in milliseconds.
type sample struct {
	name   string
	atMost float64
	all    []float64
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *sample) add(d time.Duration) { s.all = append(s.all, milliseconds(d)) }

// samples begins a table of them.
func (m *markdown) samples() { m.head("", "runs", "p50", "p99", "max", "p99 at most", "") }

func (m *markdown) sample(s *sample) {
	word := "met"
	if quantile(s.all, 0.99) > s.atMost {
		word = "**missed**"
	}
	m.row(s.name, len(s.all), quantile(s.all, 0.5), quantile(s.all, 0.99), quantile(s.all, 1),
		fmt.Sprintf("%.0f", s.atMost), word)
}

// quantile is that of the nearest rank, and of nothing 0.
func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// machine says what was measured, and on what.
func machine(m *markdown) {
	m.head("", "")
	memory := field("/proc/meminfo", `MemTotal:\s*(\d+) kB`)
	var kib float64
	fmt.Sscan(memory, &kib)
	m.row("machine", fmt.Sprintf("%d cores of %s, %.0f GiB, Linux %s", runtime.NumCPU(),
		field("/proc/cpuinfo", `model name\s*:\s*(.*)`), kib/(1<<20), line("uname", "-r")))
	m.row("system", field("/etc/os-release", `PRETTY_NAME="(.*)"`))
	m.row("versions", strings.Join([]string{
		"Redis " + version("redis-server", "--version"),
		"keepalived " + version("keepalived", "--version"),
		"HAProxy " + version("haproxy", "-v"),
		"gcc " + version("gcc", "-dumpfullversion"),
		runtime.Version(),
		"monitoring-plugins-contrib " + version("dpkg-query", "-Wf", "${Version}", "monitoring-plugins-contrib"),
	}, ", "))
}

// field is what an expression finds in a file.
func field(path, expression string) string {
	b, _ := os.ReadFile(path)
	if found := regexp.MustCompile(expression).FindSubmatch(b); found != nil {
		return string(found[1])
	}
	return "unknown"
}

// line is the first that a command writes.
func line(argv ...string) string {
	out, _ := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

// version is the first thing in that line that looks like one.
func version(argv ...string) string {
	said := line(argv...)
	if v := regexp.MustCompile(`\d+\.\d[^\s,]*`).FindString(said); v != "" {
		return v
	}
	words := strings.Fields(said)
	if len(words) == 0 {
		return "missing"
	}
	return words[len(words)-1]
}

// short is the first line of an error, fit for a table.
func short(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return strings.ReplaceAll(text[:min(len(text), 200)], "|", "/")
}
