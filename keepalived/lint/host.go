package lint

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

var version = regexp.MustCompile(`^Keepalived v([0-9.]+)`)

// ThisHost is the machine that the program runs on. It asks the installed
// keepalived for its version.
func ThisHost() Host {
	h := Host{ReadFile: os.ReadFile, Glob: filepath.Glob, Stat: os.Stat, User: userExists, Writable: writable}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "keepalived", "--version").CombinedOutput(); err == nil {
		if m := version.FindSubmatch(out); m != nil {
			h.Version = string(m[1])
		}
	}
	return h
}

// userExists also finds those that are not in /etc/passwd.
func userExists(name string) bool {
	if _, err := user.Lookup(name); err == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "getent", "passwd", "--", name).Run() == nil
}

// writable is the rule of keepalived's enable_script_security.
func writable(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for ; ; path = filepath.Dir(path) {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return true
		}
		sticky := st.Mode&syscall.S_IFMT == syscall.S_IFDIR && st.Mode&syscall.S_ISVTX != 0
		if st.Uid != 0 || !sticky && (st.Mode&0o002 != 0 || st.Gid != 0 && st.Mode&0o020 != 0) {
			return true
		}
		if path == "/" || path == "." {
			return false
		}
	}
}
