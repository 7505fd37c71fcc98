package flags

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/pflag"

	"redis-is-master/checker"
)

// maxFile bounds what is read of a password or PEM file.
const maxFile = 1 << 20

// fromFile reads the password anew at every dial.
func fromFile(what, path string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		data, err := readFile(ctx, what, path)
		if err != nil {
			return "", err
		}
		return onePassword(what, string(data))
	}
}

// fromStream reads the password once, from a stream that may never end.
func fromStream(r io.Reader) func(context.Context) (string, error) {
	var (
		start    sync.Once
		password string
		err      error
	)
	done := make(chan struct{})
	return func(ctx context.Context) (string, error) {
		start.Do(func() {
			go func() {
				defer close(done)
				data, rerr := io.ReadAll(io.LimitReader(r, maxFile))
				if rerr != nil {
					err = Errorf("the password on standard input: %v", Cause(rerr))
					return
				}
				password, err = onePassword("the password on standard input", string(data))
			}()
		})
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-done:
			return password, err
		}
	}
}

// onePassword takes off the newline that every editor adds.
func onePassword(what, text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return "", Errorf("%s is empty", what)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", Errorf("%s has more than one line", what)
	}
	return text, nil
}

// readFile reads a file or a pipe, by the deadline of ctx.
func readFile(ctx context.Context, what, path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without a writer does not block
	if err != nil {
		return nil, Errorf("%s: %v", what, Cause(err))
	}
	defer f.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = f.SetReadDeadline(deadline) // a plain file has none, and needs none
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err
	}
	if err != nil {
		return nil, Errorf("%s: %v", what, Cause(err))
	}
	return data, nil
}

// Cause leaves out the path, which is the user's own.
func Cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TLS is secure.Handshake; see there.
type TLS func(ca, cert, key []byte, name string) (checker.Handshake, error)

// A tlsFiles is the flags about TLS to one kind of server.
type tlsFiles struct {
	prefix                 string // of the flags' names
	on                     bool
	cacert, cert, key, sni string
}

// handshake reads the PEM files anew at every dial.
func (f *tlsFiles) handshake(tls TLS) func(context.Context) (checker.Handshake, error) {
	return func(ctx context.Context) (checker.Handshake, error) {
		var pem [3][]byte
		for i, file := range [len(pem)]struct{ name, path string }{{"cacert", f.cacert}, {"cert", f.cert}, {"key", f.key}} {
			if file.path == "" {
				continue
			}
			var err error
			if pem[i], err = readFile(ctx, "--"+f.prefix+file.name, file.path); err != nil {
				return nil, err
			}
		}
		h, err := tls(pem[0], pem[1], pem[2], f.sni)
		if err != nil {
			return nil, Errorf("--%s%v", f.prefix, err)
		}
		return h, nil
	}
}

// check rejects what needs TLS without it.
func (f *tlsFiles) check(fs *pflag.FlagSet, instead string) error {
	for _, name := range []string{"cacert", "cert", "key", "sni"} {
		if fs.Changed(f.prefix+name) && !f.on {
			return Errorf("--%s%s needs --%stls%s", f.prefix, name, f.prefix, instead)
		}
	}
	return Needs(fs, [][2]string{{f.prefix + "cert", f.prefix + "key"}, {f.prefix + "key", f.prefix + "cert"}})
}
