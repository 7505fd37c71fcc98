package flags

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Seconds is a duration; a bare number means seconds.
type Seconds time.Duration

// maxBare is the longest time in seconds that may be given without a unit:
// above it, milliseconds were probably meant.
const maxBare = 60

func (s *Seconds) String() string { return time.Duration(*s).String() }

// Type names the value for people.
func (s *Seconds) Type() string { return "duration such as 500ms or 2" }

// Set parses text.
func (s *Seconds) Set(text string) error {
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		if number > maxBare {
			return Errorf("has a number above %d without a unit: write 500ms, or 500s", maxBare)
		}
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = Errorf("is below 0")
	}
	*s = Seconds(d)
	return err
}

// A List is a flag that may be given several times. That of pflag brings a CSV
// writer with it, which an exec pays for.
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }

// Type names the value for people.
func (l *List) Type() string { return "list" }

// Set adds a value.
func (l *List) Set(text string) error {
	*l = append(*l, text)
	return nil
}

// Parse parses the arguments. Its errors are [Error]s, or [pflag.ErrHelp].
func Parse(fs *pflag.FlagSet, args []string) error {
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	switch {
	case err == nil && fs.NArg() > 0:
		return stray(fs, args)
	case err == nil:
		return nil
	case errors.Is(err, pflag.ErrHelp):
		return pflag.ErrHelp
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		name, kind := e.GetFlag().Name, e.GetFlag().Value.Type()
		if why, ok := errors.AsType[Error](e.Unwrap()); ok {
			return Errorf("--%s %v", name, why)
		}
		switch kind {
		case "bool":
			return Errorf("--%s takes no value", name)
		case "uint16":
			kind = "number up to 65535"
		case "int":
			kind = "number"
		}
		return Errorf("--%s is not a %s", name, kind)
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Errorf("--%s needs a value: see --help", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := e.GetSpecifiedName()
		switch {
		case name == "a" || strings.Contains(name, "pass"):
			return Errorf("no flag takes a password, because everyone could read it in ps: give --password-file or " +
				"REDISCLI_AUTH")
		case len(name) == 1 && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-h") }):
			return errHost
		case len(name) == 1:
			return Errorf("there is no flag -%s: see --help", name)
		}
		return Errorf("there is no flag --%s: see --help", name)
	}
	return Errorf("the flags cannot be parsed: see --help")
}

const errHost = Error("-h prints the help: give the host with -H")

// stray says what to do about the first argument that belongs to no flag.
func stray(fs *pflag.FlagSet, args []string) error {
	i := firstStray(fs, args)
	if err := misquoted(i, args[i]); err != nil {
		return err
	}
	before := ""
	if i > 0 {
		before = args[i-1]
	}
	if slices.Contains(args[:i], "-h") {
		return errHost
	}
	if f := fs.Lookup(strings.TrimPrefix(before, "--")); f != nil && strings.HasPrefix(before, "--") {
		if f.Value.Type() == "bool" {
			return Errorf("--%s takes no value", f.Name)
		}
		return Errorf("--%s takes its value after an equals sign: write --%s=VALUE", f.Name, f.Name)
	}
	return Errorf("argument %d belongs to no flag: see --help", i+1)
}

// firstStray is the index of the first argument that is neither a flag nor the
// value of one. There must be one, and all flags must be known.
func firstStray(fs *pflag.FlagSet, args []string) int {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return i + 1
		case !strings.HasPrefix(a, "-") || a == "-":
			return i
		case strings.HasPrefix(a, "--"):
			if f := fs.Lookup(a[2:]); f != nil && f.NoOptDefVal == "" {
				i++
			}
		default:
			for k := 1; k < len(a); k++ {
				if fs.ShorthandLookup(a[k:k+1]).NoOptDefVal == "" {
					if k == len(a)-1 {
						i++
					}
					break
				}
			}
		}
	}
	return len(args) - 1
}

// Misquoted finds an argument that looks like a comment, or holds a quotation
// mark: an environment file of systemd, which is no shell script, leaves both
// in.
func Misquoted(args []string) error {
	for i, a := range args {
		if err := misquoted(i, a); err != nil {
			return err
		}
	}
	return nil
}

func misquoted(i int, a string) error {
	word := "argument " + strconv.Itoa(i+1)
	if name := strings.Trim(a, `"'`); strings.HasPrefix(name, "--") {
		name, _, _ = strings.Cut(name, "=")
		word += ", " + strings.Trim(name, `"'`) + ","
	}
	switch {
	case strings.HasPrefix(a, "#"):
		return Errorf("argument %d begins with #: a comment in an environment file needs a line of its own", i+1)
	case strings.ContainsAny(a, `"'`):
		return Errorf("%s contains a quotation mark: remove it", word)
	}
	return nil
}
