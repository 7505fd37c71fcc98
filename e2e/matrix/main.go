// Command matrix runs the lab with each release's own packages: in a clean Debian
// in a directory, for each release and each of its servers. It writes the table of
// e2e/README.md.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"redis-is-master/e2e/lab"
)

var (
	redis  = lab.RedisPackages
	valkey = []string{"valkey-server", "valkey-sentinel", "valkey-tools"}
)

// A row is a release with one kind of server.
type row struct {
	name    string // as -only selects it
	title   string
	suite   string
	servers []string
	from    string // the suite beside it that has the servers
	lacks   string // what is not possible there, and why
}

const old = "profile cached: keepalived before 2.3.2 takes no interval below a second"

var rows = []row{
	{name: "debian11", title: "Debian 11", suite: "bullseye", servers: redis,
		lacks: old + "; unicast: keepalived 2.1 has no `unicast_fault_no_peer`"},
	{name: "debian12", title: "Debian 12", suite: "bookworm", servers: redis, lacks: old},
	{name: "debian12-valkey", title: "Debian 12, backports", suite: "bookworm", servers: valkey,
		from: "bookworm-backports", lacks: old},
	{name: "debian13", title: "Debian 13", suite: "trixie", servers: redis},
	{name: "debian13-valkey", title: "Debian 13", suite: "trixie", servers: valkey},
	{name: "sid", title: "Debian sid", suite: "sid", servers: redis},
	{name: "sid-valkey", title: "Debian sid", suite: "sid", servers: valkey},
}

// A part is what is run of a release: tests of a package.
type part struct{ name, title, pkg, run string }

// ten are the scenarios that every profile goes through; Valkey 9 has one more.
var ten = strings.Join([]string{"kill--9-of-Redis,-back-at-once", "kill--9-of-Redis,-back-after-5-s",
	"quick-restart-of-Redis", "Redis-is-stopped-and-woken", "the-cable-is-pulled", "the-node-hears-nothing",
	"SENTINEL-FAILOVER", "SENTINEL-FAILOVER-COORDINATED", "FAILOVER", "kill--9-of-the-daemon", "everything-is-cold"}, "|")

var parts = []part{
	{"config", "`keepalived -t` and the linter", "./keepalived/...", "^TestLint|^TestAccepted$/^installed$"},
	{"one-shot", "the one-shot", "./cmd/internal/oneshot",
		"^(TestServers|TestListedSentinels|TestMinUptime|TestMinReplicas|TestMaxLag|TestProtectedMode)$"},
	{"lab", "ten scenarios, every profile", "./e2e", "^TestScenarios$/.*/^(" + ten + ")$"},
	{"haproxy", "HAProxy", "./e2e", "^(TestHAProxy|TestHAProxyStarts)$"},
	{"guards", "two yes, false yes", "./e2e/guards -runs 1", "^(TestFalseYes|TestTwoYes)$"},
}

func main() {
	only := flag.String("only", "", "the `rows` to run, by commas; all if it is empty")
	of := flag.String("part", "", "the `parts` of each, by commas; all if it is empty")
	readme := flag.String("readme", "", "the `file` into which the table is written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, chosen(*only), chosen(*of), *readme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func chosen(list string) func(name string) bool {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	return func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
}

func run(ctx context.Context, row, part func(string) bool, readme string) error {
	if os.Geteuid() != 0 {
		return errors.New("not root: a root of another release needs it")
	}
	var lines []string
	var failed error
	for _, r := range rows {
		if !row(r.name) {
			continue
		}
		cells, err := r.run(ctx, part)
		lines = append(lines, "| "+strings.Join(cells, " | ")+" |")
		failed = errors.Join(failed, err)
	}
	head := []string{"release", "versions"}
	for _, p := range parts {
		if part(p.name) {
			head = append(head, p.title)
		}
	}
	head = append(head, "not possible")
	table := "| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n" +
		strings.Join(lines, "\n") + "\n"
	fmt.Print(table)
	if failed != nil || readme == "" {
		return failed
	}
	return written(readme, table)
}

// run is the row of the table.
func (r row) run(ctx context.Context, part func(string) bool) (cells []string, err error) {
	root, err := r.root(ctx)
	if err != nil {
		return []string{r.title, "no root"}, err
	}
	cells = []string{r.title, r.versions(ctx, root)}
	for _, p := range parts {
		if !part(p.name) {
			continue
		}
		began := time.Now()
		passed, perr := r.test(ctx, root, p)
		fmt.Fprintf(os.Stderr, "%s, %s: %d passed, %v, error: %v\n", r.name, p.name, passed,
			time.Since(began).Round(time.Second), perr)
		cell := fmt.Sprint(passed)
		if perr != nil {
			cell = "failed"
			err = errors.Join(err, fmt.Errorf("%s, %s: %w", r.name, p.name, perr))
		}
		cells = append(cells, cell)
	}
	return append(cells, cmp.Or(r.lacks, "–")), err
}

// root has the release's own packages. Valkey's programs are there by the names
// of Redis, too, as its packages of other systems have them.
func (r row) root(ctx context.Context) (string, error) {
	packages := slices.Clone(lab.Packages)
	if r.from == "" {
		packages = append(packages, r.servers...)
	}
	root, err := lab.Debian(ctx, r.suite, packages...)
	if err != nil || r.servers[0] == redis[0] {
		return root, err
	}
	recipe := []string{r.from, fmt.Sprint(r.servers), "their names in /usr/bin"}
	return lab.Derived(ctx, root, recipe, func(root string) error {
		var err error
		if r.from != "" {
			err = errors.Join(os.WriteFile(filepath.Join(root, "etc/apt/sources.list.d/from.list"),
				[]byte("deb "+lab.Mirror()+" "+r.from+" main\n"), 0o644),
				lab.Apt(ctx, root, "update",
					"install -y --no-install-recommends -t "+r.from+" "+strings.Join(r.servers, " ")))
		}
		for _, name := range []string{"server", "sentinel", "cli"} {
			err = errors.Join(err, os.Symlink("valkey-"+name, filepath.Join(root, "usr/bin/redis-"+name)))
		}
		return err
	})
}

var version = regexp.MustCompile(`\d+\.\d+[.\d]*`)

// versions are those of what runs in it.
func (r row) versions(ctx context.Context, root string) string {
	server := strings.ToUpper(r.servers[0][:1]) + strings.TrimSuffix(r.servers[0][1:], "-server")
	var all []string
	for name, argv := range map[string][]string{server: {"redis-server", "--version"},
		"keepalived": {"keepalived", "--version"}, "HAProxy": {"haproxy", "-v"}} {
		out, _ := exec.CommandContext(ctx, "chroot", append([]string{root}, argv...)...).CombinedOutput()
		all = append(all, name+" "+version.FindString(string(out)))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(strings.ToLower(b), strings.ToLower(a)) })
	return strings.Join(all, ", ")
}

// test runs a part in the root, and returns how many tests passed.
func (r row) test(ctx context.Context, root string, p part) (passed int, err error) {
	args := []string{"go", "test", "-json", "-count", "1", "-timeout", "60m", "-run", p.run}
	cmd, err := lab.Inside(ctx, root, append(args, strings.Fields(p.pkg)...)...)
	if err != nil {
		return 0, err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	passed, failed := count(out)
	err = cmd.Wait()
	if err == nil && failed != "" {
		err = errors.New("not all was run")
	}
	if err != nil {
		return passed, fmt.Errorf("%w\n%s%s", err, failed, errs.String())
	}
	if passed == 0 {
		return 0, errors.New("no test of these names")
	}
	return passed, nil
}

// count reads what go test -json prints: how many tests without a test below them
// have passed, and what the failed ones said.
func count(out io.Reader) (passed int, failed string) {
	said, above := make(map[string]string), make(map[string]bool)
	var done []string
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			said[""] += scanner.Text() + "\n"
			continue
		}
		name := e.Package + "/" + e.Test
		switch {
		case e.Action == "output" || e.Action == "build-output":
			said[name] += e.Output
		case e.Action == "fail" || e.Action == "build-fail":
			failed += said[""] + said[name]
			said[""] = ""
		case e.Action == "skip" && e.Test != "":
			failed += "skipped: " + said[name]
		case e.Action == "pass" && e.Test != "":
			done = append(done, name)
		}
		if e.Test != "" {
			above[name[:strings.LastIndex(name, "/")]] = true
		}
	}
	for _, name := range done {
		if !above[name] {
			passed++
		}
	}
	return passed, failed
}

const begin, end = "<!-- matrix -->\n", "<!-- /matrix -->\n"

// written replaces the table of a file.
func written(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		return fmt.Errorf("%s has no place for the table", path)
	}
	text := "Made by `make matrix` on " + time.Now().Format("2006-01-02") + "; the numbers are of tests that passed.\n\n"
	return os.WriteFile(path, []byte(before+begin+text+table+end+after), 0o644)
}
