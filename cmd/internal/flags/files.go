package flags

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/pflag"
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
	if info, err := f.Stat(); err == nil {
		if err := trust(what, info); err != nil {
			return nil, err
		}
	}
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

// trust refuses a file that others can write, whatever it holds: who writes the
// password's keeps the node from being asked, who writes the CAs' makes any server
// the node. A link is followed, as to a secret of Kubernetes: what it leads to
// counts. The owner is not refused, for in a container he is often a user of the
// host; nor is the group that is root's or the process's own, which is the user's
// alone where umask is 002.
func trust(what string, info os.FileInfo) error {
	s, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case !ok || !mode.IsRegular():
	case mode&0o002 != 0:
		return Errorf("%s can be written by everyone: chmod o-w", what)
	case mode&0o020 != 0 && s.Gid != 0 && int(s.Gid) != os.Getegid():
		return Errorf("%s can be written by group %d: chmod g-w", what, s.Gid)
	}
	return nil
}

// exposed warns of a file that another owns, or that others can read although it
// is secret.
func exposed(what string, secret bool, info os.FileInfo) (warnings []string) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return nil
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		warnings = append(warnings, fmt.Sprintf("%s belongs to user %d, who can change it: chown root", what, s.Uid))
	}
	if secret && info.Mode()&0o004 != 0 {
		warnings = append(warnings, what+" is readable by everyone: chmod o-r")
	} else if secret && info.Mode()&0o040 != 0 && s.Gid != 0 && int(s.Gid) != os.Getegid() {
		if groups, err := os.Getgroups(); err == nil && !slices.Contains(groups, int(s.Gid)) {
			warnings = append(warnings, fmt.Sprintf("%s is readable by group %d: chmod g-r", what, s.Gid))
		}
	}
	return warnings
}

// checkFiles refuses and warns before the first check.
func (n *Node) checkFiles(s *Settings) error {
	for _, f := range []struct {
		flag, path string
		secret     bool
	}{
		{"--password-file", n.passwordFile, true},
		{"--cacert", n.tls.cacert, false},
		{"--cert", n.tls.cert, false},
		{"--key", n.tls.key, true},
		{"--master-password-file", n.masterPasswordFile, true},
		{"--sentinel-password-file", n.sentinelPasswordFile, true},
		{"--sentinel-cacert", n.sentinelTLS.cacert, false},
		{"--sentinel-cert", n.sentinelTLS.cert, false},
		{"--sentinel-key", n.sentinelTLS.key, true},
	} {
		if f.path == "" || f.path == "-" {
			continue
		}
		s.secret = s.secret || f.secret
		info, err := os.Stat(f.path)
		if err != nil {
			continue // it may come later
		}
		if err := trust(f.flag, info); err != nil {
			return err
		}
		s.Warnings = append(s.Warnings, exposed(f.flag, f.secret, info)...)
	}
	return nil
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

// A tlsFiles is the flags about TLS to one kind of server.
type tlsFiles struct {
	prefix                 string // of the flags' names
	on                     bool
	cacert, cert, key, sni string
}

// config reads the PEM files anew at every dial.
func (f *tlsFiles) config() func(context.Context) (*tls.Config, error) {
	return func(ctx context.Context) (*tls.Config, error) {
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
		config := &tls.Config{ServerName: f.sni}
		if f.cacert != "" {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem[0]) {
				return nil, Errorf("--%scacert holds no certificate", f.prefix)
			}
		}
		if f.cert != "" {
			pair, err := tls.X509KeyPair(pem[1], pem[2])
			if err != nil {
				return nil, Errorf("--%scert and its key are no pair: %v", f.prefix, err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		return config, nil
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
