package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"redis-is-master/e2e/lab"
)

// cached measures the profile for keepalived 2.3.2 and later, and haproxy what
// HAProxy 3.2 can do, which this machine may not have.
func (b *bench) cached() error {
	return b.newer("trixie", "^cached", "The second set-up has two busy loops beside it.", "keepalived", "--version")
}

func (b *bench) haproxy() error {
	return b.newer("sid", "^HAProxy 3", "The second set-up has no agent, and asks over one connection to each node.",
		"haproxy", "-v")
}

// newer measures set-ups in a clean Debian of another release: this program does
// it in there.
func (b *bench) newer(suite, setups, remark string, version ...string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root, err := lab.Debian(ctx, suite, slices.Concat(lab.Packages, lab.RedisPackages)...)
	if err != nil {
		return err
	}
	inside := func(argv ...string) (string, error) {
		cmd, err := lab.Inside(ctx, root, argv...)
		if err != nil {
			return "", err
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs.String())
		}
		return cmp.Or(string(out), errs.String()), err // keepalived says its version on standard error
	}
	what, err := inside(version...)
	if err != nil {
		return err
	}
	what, _, _ = strings.Cut(what, "\n")
	b.printf("%s, in Debian %s. As above, but one lab at a time. %s\n\n", what, suite, remark)
	out, err := inside("go", "run", "./e2e/bench", "-bin", b.bin, "-only", "follow", "-setup", setups, "-labs", "1")
	_, text, ok := strings.Cut(out, "\n\n") // its title
	text, _, found := strings.Cut(text, "\n`make bench ONLY=")
	if !ok || !found {
		return errors.Join(err, errors.New("it printed no report"))
	}
	b.printf("%s\n", text)
	return err
}
