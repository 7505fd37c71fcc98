package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"redis-is-master/e2e/lab"
)

// cached measures the profile for keepalived 2.3.2 and later, which this machine
// may not have, in a clean Debian 13: this program does it in there.
func (b *bench) cached() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root, err := lab.Debian(ctx, "trixie", slices.Concat(lab.Packages, lab.RedisPackages)...)
	if err != nil {
		return err
	}
	cmd, err := lab.Inside(ctx, root, "go", "run", "./e2e/bench", "-bin", b.bin, "-only", "follow", "-setup", "^cached",
		"-labs", "1")
	if err != nil {
		return err
	}
	cmd.Stderr = log.Writer()
	out, err := cmd.Output()
	_, text, ok := strings.Cut(string(out), "\n\n") // its title
	text, _, found := strings.Cut(text, "\n`make bench ONLY=")
	if !ok || !found {
		return errors.Join(err, errors.New("it printed no report"))
	}
	version, _ := lab.Inside(ctx, root, "keepalived", "--version")
	line, _ := version.CombinedOutput()
	first, _, _ := strings.Cut(string(line), "\n")
	b.printf("%s. As above, but one lab at a time; the second set-up has two busy loops beside it.\n\n%s\n", first, text)
	return err
}
