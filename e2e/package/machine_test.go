package package_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"redis-is-master/e2e/lab"
)

// A machine is a clean Debian in a directory, booted by its own systemd in
// namespaces of its own: network, processes, mounts, cgroups. Nothing of it
// is left when the test ends.
type machine struct {
	t    *testing.T
	root string
	pid  string // of its systemd
}

// bootPatience is how long a boot may take: some twenty units, beside whatever else runs.
const bootPatience = 5 * time.Minute

// boot starts its systemd.
func (m *machine) boot() {
	m.t.Helper()
	const inside = `
ip link set lo up
hostname machine
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run tmp dev; do mount -t tmpfs tmpfs $d; done
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "umount -l /mnt; mount --make-rshared /
exec /lib/systemd/systemd --system --unit=multi-user.target"
`
	// A cgroup of its own, found by a mount that only this process sees.
	const outside = `
mkdir -p "$0.cgroup"
mount -t cgroup2 none "$0.cgroup"
mkdir "$0.cgroup/package-$$"
echo $$ >"$0.cgroup/package-$$/cgroup.procs"
umount "$0.cgroup"
exec unshare --cgroup --pid --uts --ipc --net --mount --propagation private --fork --kill-child sh -ec "$1" "$0"
`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", outside, m.root, inside)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	lab.Check(m.t, lab.Start(cmd)) // and it ends with this process
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	m.t.Cleanup(func() {
		cmd.Process.Kill() // and with it, by --kill-child, its systemd
		<-ended
		const sweep = `mount -t cgroup2 none "$0.cgroup"; find "$0.cgroup/package-$1" -depth -type d -exec rmdir {} +`
		lab.Wait("the cgroups of the machine are gone", func() (bool, error) { // its processes are still ending
			return exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", sweep, m.root,
				strconv.Itoa(cmd.Process.Pid)).Run() == nil, nil
		})
		if m.t.Failed() {
			m.t.Log(log.String())
		}
	})
	err := lab.WaitFor(bootPatience, "systemd has started", func() (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("the machine does not boot: %s", log.String())
		default:
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		m.pid = strings.TrimSpace(string(children))
		comm, _ := os.ReadFile("/proc/" + m.pid + "/comm")
		if m.pid == "" || string(comm) != "systemd\n" {
			return false, nil
		}
		_, state := m.try("systemctl is-system-running")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded"), nil
	})
	if err != nil {
		_, left := m.try("systemctl is-system-running; systemctl list-jobs; journalctl --no-pager -n 40")
		m.t.Fatalf("%v: %s", err, left)
	}
}

// try runs a shell command in the machine, or in a chroot if it is not booted.
func (m *machine) try(command string) (code int, out string) {
	cmd := m.command(60, nil, "bash", "-c", command)
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(b))
}

// command is a program of the machine, which may take some seconds.
func (m *machine) command(seconds int, environ []string, argv ...string) *exec.Cmd {
	all := []string{"timeout", "-k", "1", strconv.Itoa(seconds), "chroot", m.root}
	if m.pid != "" {
		all = append(all[:4:4], "nsenter", "--all", "--target", m.pid)
	}
	all = append(all, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
	all = append(append(all, environ...), argv...)
	return exec.Command(all[0], all[1:]...)
}

// typed runs a shell command on a terminal, and answers what it asks for.
func (m *machine) typed(command string, environ []string, answers map[string]string) (code int, out string) {
	cmd := m.command(300, append(environ, "COMMAND="+command), "script", "-qefc", `bash -c "$COMMAND"`, "/dev/null")
	keys, err := cmd.StdinPipe()
	lab.Check(m.t, err)
	screen, err := cmd.StdoutPipe()
	lab.Check(m.t, err)
	cmd.Stderr = cmd.Stdout
	lab.Check(m.t, cmd.Start())
	defer keys.Close()
	buf := make([]byte, 4096)
	for {
		n, err := screen.Read(buf)
		out += string(buf[:n])
		for prompt, answer := range answers {
			if strings.Contains(out, prompt) {
				delete(answers, prompt)
				io.WriteString(keys, answer+"\n")
			}
		}
		if err != nil {
			break
		}
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(out)
}

// must is try for what has to succeed.
func (m *machine) must(command string) string {
	m.t.Helper()
	code, out := m.try(command)
	if code != 0 {
		m.t.Fatalf("%s: exit code %d\n%s", command, code, out)
	}
	return out
}

// says fails the test unless the output of a command is one.
func (m *machine) says(want, command string) {
	m.t.Helper()
	if _, out := m.try(command); out != want {
		m.t.Errorf("%s: %q, want %q", command, out, want)
	}
}

// until waits until the output of a command is one.
func (m *machine) until(want, command string) {
	m.t.Helper()
	var last string
	err := lab.Wait(command+" says "+want, func() (bool, error) {
		_, last = m.try(command)
		return last == want, nil
	})
	if err != nil {
		_, journal := m.try("journalctl --no-pager -n 40")
		m.t.Fatalf("%v; last: %q\n%s", err, last, journal)
	}
}

// get asks by HTTP in the machine, which has no client but bash.
func (m *machine) get(port, path string) string {
	m.t.Helper()
	return m.must(
		fmt.Sprintf(`exec 3<>/dev/tcp/127.0.0.1/%s; printf 'GET %s HTTP/1.0\r\n\r\n' >&3; cat <&3`, port, path),
	)
}

// write makes a file in the machine's root, and its directory.
func (m *machine) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	lab.Check(m.t, os.MkdirAll(filepath.Dir(filepath.Join(m.root, path)), 0o755))
	lab.Check(m.t, os.WriteFile(filepath.Join(m.root, path), []byte(text), mode))
}
