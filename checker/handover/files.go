package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files are the descriptors that are handed over, by what they are for.
type Files map[string]int

// Take returns a descriptor, which the caller owns from then on.
func (f Files) Take(name string) (fd int, err error) {
	fd, ok := f[name]
	if !ok {
		return -1, fmt.Errorf("no descriptor for %s is handed over", name)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return -1, fmt.Errorf("the descriptor for %s is none: %w", name, err)
	}
	unix.CloseOnExec(fd)
	delete(f, name)
	return fd, nil
}

// TakeFile is Take of a file.
func (f Files) TakeFile(name string) (*os.File, error) {
	fd, err := f.Take(name)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// TakeListener is Take of a TCP socket that listens.
func (f Files) TakeListener(name string) (*net.TCPListener, error) {
	file, err := f.TakeFile(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, errors.New(name + " is no TCP socket")
	}
	return t, nil
}

// Add adds what is open as c. The descriptor stays that of its owner.
func (f Files) Add(name string, c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f[name] = int(fd) })
}
