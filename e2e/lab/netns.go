package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Namespace is a network of its own and a /run of its own, in memory. It has
// no name: the kernel removes it, with all links and files in it, with the
// last process in it, however that ended. So nothing is left behind by a run
// that was killed, and two runs cannot meet.
type Namespace struct {
	calls chan func()
	tid   int // of the thread that holds it
	fd    int
}

// NewNamespace makes one, with its loopback up. End it by [Namespace.Close].
func NewNamespace() (*Namespace, error) {
	n := &Namespace{calls: make(chan func())}
	made := make(chan error)
	mortal(func() {
		n.tid = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
		}
		if err == nil {
			n.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", n.tid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- err
		if err == nil {
			for f := range n.calls {
				f()
			}
		}
	})
	if err := <-made; err != nil {
		return nil, fmt.Errorf("cannot make a network namespace, which needs root: %w", err)
	}
	return n, n.Run("ip", "link", "set", "lo", "up")
}

// Path is where this process finds a file of the namespace.
func (n *Namespace) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", n.tid, path) }

// Close lets go of it. Processes that were started in it are killed.
func (n *Namespace) Close() {
	close(n.calls)
	unix.Close(n.fd)
}

// Do runs f in it. F must be short, for there is one thread.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	n.calls <- func() { done <- f() }
	return <-done
}

// Run runs a command in it.
func (n *Namespace) Run(argv ...string) error {
	_, err := n.Output(argv...)
	return err
}

// Output runs a command in it and returns what it prints.
func (n *Namespace) Output(argv ...string) (string, error) {
	var out strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Set writes a network sysctl of it.
func (n *Namespace) Set(key, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
	})
}

// Dial connects from it, on a thread of its own, so that a dial that hangs
// holds up nothing else.
func (n *Namespace) Dial(network, address string, timeout time.Duration) (c net.Conn, err error) {
	done := make(chan struct{})
	mortal(func() {
		defer close(done)
		if err = unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		c, err = (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	})
	<-done
	return c, err
}

// CanNetwork says what is missing to make a [Network], nil if nothing is.
func CanNetwork() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	n, err := NewNamespace()
	if err != nil {
		return err
	}
	n.Close()
	return nil
}
