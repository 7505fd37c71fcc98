package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"redis-is-master/checker/cached"
	"redis-is-master/checker/hook"
)

func gatherDaemon(ctx context.Context, t Target) Daemon {
	d := Daemon{Systemd: hasSystemd(), Unit: t.Unit, Interval: t.Interval, Timeout: t.Timeout, MaxAge: t.MaxAge,
		Socket: t.Socket, TrackFile: t.TrackFile, VIP: t.VIP}
	if d.Systemd {
		d.Show, d.ShowErr = systemctl(ctx, t.Unit, "LoadState", "ActiveState", "Result", "UnitFileState", "NRestarts",
			"NeedDaemonReload", "WatchdogUSec", "User")
	}
	running, _ := processes("redis-is-masterd")
	d.Running = len(running) > 0
	for _, file := range []string{t.TrackFile, t.Socket} {
		if file != "" {
			d.Directory = filepath.Dir(file)
			break
		}
	}
	if d.Directory != "" {
		if info, err := os.Stat(d.Directory); err != nil {
			d.DirectoryErr = reason(err)
		} else {
			d.DirectoryMod = info.Mode()
		}
		d.Tmpfiles = tmpfilesOf(d.Directory)
	}
	if t.Socket != "" {
		if info, err := os.Stat(t.Socket); err == nil {
			d.SocketMode = info.Mode()
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				d.SocketUser, d.SocketGroup = int(s.Uid), int(s.Gid)
			}
		}
		doc, err := cached.Ask(t.Socket, question, "")
		if d.SocketErr = err; err == nil {
			d.Document = &doc
		}
	}
	if t.TrackFile != "" {
		info, err := os.Stat(t.TrackFile)
		var text []byte
		if err == nil {
			text, err = readAtMost(t.TrackFile, 64)
		}
		if err != nil {
			d.TrackErr = reason(err)
		} else {
			d.Track, d.TrackAge = strings.TrimSpace(string(text)), time.Since(info.ModTime())
		}
	}
	if t.Exec != "" {
		d.Exec, d.ExecTrouble = t.Exec, execTrouble(t.Exec, d.Show["User"])
	}
	return d
}

// execTrouble is why a user cannot, or may not, run the program of --exec.
func execTrouble(program, name string) string {
	uid, groups, known := userOf(or(name, "root"))
	if !known {
		return "" // the unit does not start then, which another check tells
	}
	if err := hook.CheckFor(program, uid); err != nil {
		if _, missing := errors.AsType[*fs.PathError](err); missing {
			return reason(err)
		}
		return err.Error()
	}
	for path := program; path != "/" && path != "."; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return reason(err)
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if ok && !may(info.Mode(), int(s.Uid), int(s.Gid), uid, groups, 1) {
			return fmt.Sprintf("the user %s may not run it, by the mode of %s: chmod a+x %[2]s", name, quote(path))
		}
	}
	return ""
}

// readAtMost reads the begin of a plain file.
func readAtMost(path string, n int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, n)
	got, err := f.Read(buf)
	if got > 0 || err == nil || err.Error() == "EOF" {
		return buf[:got], nil
	}
	return nil, err
}

// reason leaves out the path.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return err.Error()
}

// hasSystemd reports whether systemd runs this host.
//
// Format: sd_booted(3).
func hasSystemd() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// systemctl shows properties of a unit, or says why it does not.
func systemctl(ctx context.Context, unit string, properties ...string) (show map[string]string, why string) {
	out, err := output(ctx, "systemctl", "show", "--property", strings.Join(properties, ","), "--", unit)
	if err != nil {
		return nil, err.Error()
	}
	show = make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		show[key] = value
	}
	return show, ""
}

// output runs a program for a second at most, and returns what it prints.
func output(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = question / 10
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = errors.New(argv[0] + " has not answered")
	case errors.Is(err, exec.ErrNotFound):
		err = errors.New(argv[0] + " is not installed")
	}
	return out.String(), err
}

// tmpfilesOf is the file by which systemd-tmpfiles makes a directory; empty if
// there is none.
func tmpfilesOf(directory string) string {
	for _, dir := range []string{"/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d", "/lib/tmpfiles.d"} {
		files, _ := filepath.Glob(dir + "/*.conf")
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				words := strings.Fields(line)
				if len(words) > 1 && strings.HasPrefix(strings.ToLower(words[0]), "d") && words[1] == directory {
					return file
				}
			}
		}
	}
	return ""
}

// A running is a process of this network.
type running struct {
	pid  int
	uid  int
	argv []string
}

// processes are those of a name that run in the network of this one.
//
// Format: proc(5), comm, cmdline and ns/net.
func processes(name string) (all []running, err error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, errors.New("/proc cannot be read")
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		// comm is cut after 15 bytes.
		if comm, err := os.ReadFile(dir + "/comm"); err != nil || strings.TrimSpace(string(comm)) != name[:min(15,
			len(name))] {
			continue
		}
		network, nerr := os.Readlink(dir + "/ns/net")
		if errors.Is(nerr, fs.ErrPermission) {
			err = errors.New("only root may know the processes of others")
			continue
		}
		line, rerr := os.ReadFile(dir + "/cmdline")
		if network != own || rerr != nil {
			continue
		}
		one := running{uid: -1, argv: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")}
		one.pid, _ = strconv.Atoi(filepath.Base(dir))
		if info, err := os.Stat(dir); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				one.uid = int(s.Uid)
			}
		}
		if one.pid != os.Getpid() {
			all = append(all, one)
		}
	}
	return all, err
}

// flagOf is the value of a flag on a command line: of "-f FILE", "-fFILE", "--file
// FILE" and "--file=FILE".
func flagOf(argv []string, short, long string) string {
	for i, a := range argv {
		switch {
		case i == 0:
		case (a == short || a == long) && i+1 < len(argv):
			return argv[i+1]
		case strings.HasPrefix(a, long+"="):
			return a[len(long)+1:]
		case strings.HasPrefix(a, short) && !strings.HasPrefix(a, "--") && len(a) > len(short):
			return a[len(short):]
		}
	}
	return ""
}

// passwordTrouble is why the user that runs the daemon cannot read the password
// file; empty if it can, or is not known.
func passwordTrouble(t Target, d Daemon) string {
	if t.PasswordFile == "" || t.PasswordFile == "-" {
		return ""
	}
	info, err := os.Stat(t.PasswordFile)
	if err != nil {
		return reason(err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	name := d.Show["User"]
	if name == "" || !ok {
		return ""
	}
	uid, groups, known := userOf(name)
	if !known || may(info.Mode(), int(s.Uid), int(s.Gid), uid, groups, 4) {
		return ""
	}
	return "it is not readable by the user " + name
}

// userOf is the uid of a user, and the groups that it has.
func userOf(name string) (uid int, groups []int, known bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, nil, false
	}
	uid, err = strconv.Atoi(u.Uid)
	ids, _ := u.GroupIds()
	for _, id := range append(ids, u.Gid) {
		if n, err := strconv.Atoi(id); err == nil {
			groups = append(groups, n)
		}
	}
	return uid, groups, err == nil
}
