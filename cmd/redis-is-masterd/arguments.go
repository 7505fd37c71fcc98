package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"redis-is-master/checker/hook"
	"redis-is-master/cmd/internal/exit"
	"redis-is-master/cmd/internal/flags"
)

// checkArguments is --check: it prints a line for each problem of the arguments
// and of the files that they name. It opens no connection and writes nothing.
func (o *options) checkArguments(ctx context.Context, fs *pflag.FlagSet, node *flags.Node,
	p process, args []string) int {
	problems := node.CheckFiles(ctx)
	if err := flags.Misquoted(args); err != nil {
		problems = append(problems, err)
	}
	for _, flag := range []struct{ name, path string }{
		{"track-file", o.trackFile}, {"socket", o.socket}, {"textfile", o.textfile}, {"disable-file", o.disableFile},
	} {
		dir := filepath.Dir(flag.path)
		if flag.path == "" || !fs.Changed(flag.name) && flag.name == "disable-file" {
			continue
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			problems = append(problems, flags.Errorf("the directory of the --%s does not exist", flag.name))
		}
	}
	if o.exec != "" {
		if err := hook.Check(o.exec); err != nil {
			problems = append(problems, flags.Errorf("--exec: %v", err))
		}
	}
	if o.vip.device != "" {
		if _, err := net.InterfaceByName(o.vip.device); err != nil {
			problems = append(problems, flags.Errorf("the --vip-interface does not exist"))
		}
	}
	if len(problems) > 0 {
		return p.failAll(problems)
	}
	fmt.Fprintln(p.stdout, "the flags and the files are valid")
	if p.asksHandover {
		fmt.Fprintln(p.stdout, handoverShape())
	}
	return exit.OK
}
