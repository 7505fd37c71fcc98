package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"redis-is-master/checker"
	"redis-is-master/cmd/internal/doctor"
	"redis-is-master/e2e/lab"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Main(m, func() error { return write(lab.Programs, "../../..", lab.Programs) }))
}

var commands = map[string]string{"redis-is-master": "1", "redis-is-masterd": "8"}

// names are the flags of a command, read in another way than by options.
func names(t *testing.T, command string) []string {
	t.Helper()
	out, _ := exec.Command(filepath.Join(lab.Programs, command), "--help").Output()
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^ {2}(?: {4}|-\w, )(--[a-z.-]+)`).FindAllStringSubmatch(string(out), -1) {
		all = append(all, m[1])
	}
	if len(all) < 20 {
		t.Fatalf("%s --help lists %d flags:\n%s", command, len(all), out)
	}
	return all
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=200", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv[0], err, out)
	}
	return string(out)
}

// TestPages: man formats them without a warning, and they have every flag and
// every reason.
func TestPages(t *testing.T) {
	t.Parallel()
	lab.Require(t, "man")
	for command, section := range commands {
		page := filepath.Join(lab.Programs, command+"."+section)
		if warnings := run(t, "sh", "-c", `man --warnings -E UTF-8 -l -Tutf8 -Z "$0" 2>&1 >/dev/null`, page); warnings != "" {
			t.Errorf("%s: %s", page, warnings)
		}
		text := regexp.MustCompile(".\b").ReplaceAllString(run(t, "man", "-E", "ascii", "-P", "cat", "-l", page), "")
		_, options, _ := strings.Cut(text, "\nOPTIONS\n")
		options, rest, _ := strings.Cut(options, "\n\n       -h, --help\n")
		for _, flag := range names(t, command) {
			if flag != "--help" && !regexp.MustCompile(`(?m)^ {7}(-\w, )?`+flag+`\b`).MatchString(options) {
				t.Errorf("%s(%s) has no %s", command, section, flag)
			}
		}
		for _, r := range checker.Reasons() {
			if !strings.Contains(rest, fmt.Sprintf("\n       %s (%s)\n", r, r.Answer())) {
				t.Errorf("%s(%s) does not explain %s", command, section, r)
			}
		}
		if command == "redis-is-masterd" && !regexp.MustCompile(`(?m)^ {7}--http-password-file file$`).MatchString(rest) {
			t.Errorf("%s(%s) has no flags of cluster", command, section)
		}
		for _, left := range []string{"{{", "<no value>", "`"} {
			if strings.Contains(text, left) {
				t.Errorf("%s(%s) holds %q", command, section, left)
			}
		}
	}
	if page := run(t, "man", "-P", "cat", "-l", filepath.Join(lab.Programs, "redis-is-master.1")); strings.Count(
		page,
		"no answer that can be trusted",
	) != 1 {
		t.Errorf("the exit codes are not those of the README:\n%s", page)
	}
}

// TestDoctorPage: man formats it without a warning, and it has each flag, and each
// check with its paragraph.
func TestDoctorPage(t *testing.T) {
	t.Parallel()
	lab.Require(t, "man")
	page := filepath.Join(lab.Programs, "redis-is-masterd-doctor.8")
	if warnings := run(t, "sh", "-c", `man --warnings -E UTF-8 -l -Tutf8 -Z "$0" 2>&1 >/dev/null`, page); warnings != "" {
		t.Errorf("%s: %s", page, warnings)
	}
	text := regexp.MustCompile(".\b").ReplaceAllString(run(t, "man", "-E", "ascii", "-P", "cat", "-l", page), "")
	words := strings.Join(strings.Fields(text), " ")
	for _, flag := range []string{"--output format", "--wait time", "--unit name"} {
		if !strings.Contains(words, flag) {
			t.Errorf("it has no %s", flag)
		}
	}
	for _, c := range doctor.Checks() {
		if !regexp.MustCompile(`(?m)^ {7}`+c.ID+`( |$)`).MatchString(text) || len(c.About) < 40 {
			t.Errorf("it does not explain %s", c.ID)
		}
	}
	for _, left := range []string{"{{", "<no value>", "`"} {
		if strings.Contains(text, left) {
			t.Errorf("it holds %q", left)
		}
	}
}

// offers are what is offered after a subcommand, and what is not.
var offers = []struct {
	after     []string
	typed     string
	want, not []string
	file      string // files are
}{
	{nil, "", []string{"doctor", "cluster", "lint", "remove-vip"}, nil, ""},
	{nil, "--", []string{"--http"}, []string{"--wait", "--unit"}, ""},
	{[]string{"doctor"}, "--", []string{"--wait", "--unit", "--output", "--env-file", "--port"}, []string{"lint"}, ""},
	{[]string{"cluster"}, "--", []string{"--unit", "--output", "--port"}, []string{"--wait"}, ""},
	{[]string{"doctor", "--output"}, "", []string{"text", "json"}, nil, ""},
	{[]string{"remove-vip"}, "--", []string{"--vip", "--vip-interface"}, []string{"--http", "--unit"}, ""},
	{[]string{"lint"}, "", nil, []string{"--http", "doctor"}, "file"},
}

// TestBash, TestZsh, TestFish: each shell itself offers every flag, and the
// values of one that has some.
func TestBash(t *testing.T) {
	t.Parallel()
	lab.Require(t, "bash")
	for command := range commands {
		complete := func(typed ...string) []string {
			script := `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); compopt() { :; }; ` + "_" + strings.ReplaceAll(
				command,
				"-",
				"_",
			) + `; printf '%s\n' "${COMPREPLY[@]}"`
			return strings.Fields(
				run(
					t,
					append(
						[]string{"bash", "-c", script, filepath.Join(lab.Programs, command+".bash"), command},
						typed...)...),
			)
		}
		offered := complete("--")
		for _, flag := range names(t, command) {
			if !slices.Contains(offered, flag) {
				t.Errorf("%s: %s is not offered: %q", command, flag, offered)
			}
		}
		for _, typed := range [][]string{{"--role", ""}, {"--role", "="}, {"--role", "=", ""}} {
			if got := complete(typed...); !slices.Equal(got, []string{"master", "replica", "any"}) {
				t.Errorf("%s %q: %q", command, typed, got)
			}
		}
		file := filepath.Join(t.TempDir(), "password")
		lab.Check(t, os.WriteFile(file, nil, 0o600))
		if got := complete("--password-file", file[:len(file)-3]); !slices.Equal(got, []string{file}) {
			t.Errorf("%s --password-file: %q", command, got)
		}
		if got := complete("--timeout", ""); len(got) != 0 {
			t.Errorf("%s --timeout: %q", command, got)
		}
		if command != "redis-is-masterd" {
			continue
		}
		for _, tt := range offers {
			got := complete(append(tt.after, tt.typed)...)
			if tt.file != "" {
				got = complete(append(tt.after, file[:len(file)-3])...)
				tt.want = []string{file}
			}
			for _, word := range tt.want {
				if !slices.Contains(got, word) {
					t.Errorf("after %q, %s is not offered: %q", tt.after, word, got)
				}
			}
			for _, word := range tt.not {
				if slices.Contains(got, word) {
					t.Errorf("after %q, %s is offered", tt.after, word)
				}
			}
		}
	}
}

func TestFish(t *testing.T) {
	t.Parallel()
	lab.Require(t, "fish")
	for command := range commands {
		complete := func(typed string) string {
			return "\n" + run(
				t,
				"fish",
				"--no-config",
				"-c",
				`source $argv[1]; complete -C $argv[2]`,
				filepath.Join(lab.Programs, command+".fish"),
				command+" "+typed,
			)
		}
		offered := complete("--")
		for _, flag := range names(t, command) {
			if !regexp.MustCompile(`(?m)^` + flag + `=?\t`).MatchString(offered) {
				t.Errorf("%s: %s is not offered:\n%s", command, flag, offered)
			}
		}
		for _, tt := range offers {
			got := complete(strings.Join(append(tt.after, tt.typed), " "))
			for _, word := range tt.want {
				if command == "redis-is-masterd" && !regexp.MustCompile(`(?m)^`+word+`=?\t`).MatchString(got) {
					t.Errorf("after %q, %s is not offered:\n%s", tt.after, word, got)
				}
			}
			for _, word := range tt.not {
				if command == "redis-is-masterd" && regexp.MustCompile(`(?m)^`+word+`=?\t`).MatchString(got) {
					t.Errorf("after %q, %s is offered", tt.after, word)
				}
			}
		}
		if got := complete("--role "); strings.Count(got, "\n") != 4 || !strings.Contains(got, "\nany\t") ||
			!strings.Contains(got, "\nmaster\t") ||
			!strings.Contains(got, "\nreplica\t") {
			t.Errorf("%s --role: %q", command, got)
		}
	}
}

func TestZsh(t *testing.T) {
	t.Parallel()
	lab.Require(t, "zsh")
	// A terminal that is large enough to list everything at once.
	const script = `
zmodload zsh/zpty
zpty z zsh -f -i
say() { zpty -w z "$1"; }
say "stty rows 500 cols 200; PROMPT=; unsetopt zle_bracketed_paste; LISTMAX=10000; fpath=($1 \$fpath); \
autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-colors; echo rea''dy"
zpty -r -m z got '*ready*'
zpty -w -n z "$2"$'\t'$'\t'
zpty -r -m z got "$3"
print -r -- "$got"
zpty -d z
`
	for command := range commands {
		complete := func(typed, until string) string {
			return run(t, "timeout", "20", "zsh", "-f", "-c", script, "zsh", lab.Programs, command+" "+typed, until)
		}
		flags := names(t, command)
		offered := complete("--", "*"+slices.Max(flags)+"*-- *") // the list is sorted
		for _, flag := range flags {
			if !regexp.MustCompile(flag + `[^a-z-]`).MatchString(offered) {
				t.Errorf("%s: %s is not offered:\n%s", command, flag, offered)
			}
		}
		complete("--role=", "*any*master*replica*")
		if command == "redis-is-masterd" {
			complete("", "*cluster*doctor*lint*remove-vip*")
			complete("doctor --", "*--output*--unit*--wait*")
			complete("cluster -o ", "*json*text*")
			complete("remove-vip --", "*--vip*--vip-interface*")
		}
	}
}

// TestWords: the commands accept every value that is offered, and no other.
func TestWords(t *testing.T) {
	t.Parallel()
	count := 0
	for command := range commands {
		flags, err := options(lab.Programs, command)
		lab.Check(t, err)
		for _, o := range flags {
			words := o.Words()
			if words == nil {
				continue
			}
			count++
			// What ends a command soon after it has accepted its flags.
			args := []string{"--unix-socket", "/nonexistent/redis.sock"}
			switch {
			case command == "redis-is-masterd":
				args = append(args, "--socket=", "--track-file", "/nonexistent/master", "--agent", "127.0.0.1:0")
			case o.Long == "timeout-state":
				args = append(args, "-o", "nagios")
			}
			for _, word := range append(words, "nonsense") {
				cmd := exec.Command(filepath.Join(lab.Programs, command), append(args, "--"+o.Long, word)...)
				out, _ := cmd.CombinedOutput()
				if refused := cmd.ProcessState.ExitCode() == 3; refused != (word == "nonsense") {
					t.Errorf("%s --%s %s: exit code %d: %s", command, o.Long, word, cmd.ProcessState.ExitCode(), out)
				}
			}
		}
	}
	if count < 6 {
		t.Errorf("%d flags have a list of values", count)
	}
}
