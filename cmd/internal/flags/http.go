package flags

import (
	"context"
	"crypto/tls"

	"github.com/spf13/pflag"
)

// An HTTP is the flags about the HTTP of the daemons of other nodes.
type HTTP struct {
	tls                tlsFiles
	user, passwordFile string

	fs *pflag.FlagSet
}

// Add defines the flags in fs.
func (h *HTTP) Add(fs *pflag.FlagSet) {
	h.fs, h.tls.prefix = fs, "http-"
	fs.BoolVar(&h.tls.on, "http-tls", false, "ask them by TLS")
	fs.StringVar(&h.tls.cacert, "http-cacert", "", "PEM `file` of the CAs to trust for them, instead of the system's")
	fs.StringVar(&h.tls.cert, "http-cert", "", "PEM `file` of the client certificate for them")
	fs.StringVar(&h.tls.key, "http-key", "", "PEM `file` of its key")
	fs.StringVar(&h.tls.sni, "http-sni", "", "`name` to expect in their certificates, instead of their addresses")
	fs.StringVar(&h.user, "http-user", "", "`name` of the user of basic authentication")
	fs.StringVar(&h.passwordFile, "http-password-file", "", "`file` with the user's password, which needs --http-tls")
}

// HTTPSettings are what the flags of an [HTTP] amount to.
type HTTPSettings struct {
	TLS      func(context.Context) (*tls.Config, error) // nil for none
	User     string
	Password func(context.Context) (string, error) // nil for none
}

// Settings checks the flags against each other. It opens no file. Its errors are
// [Error]s.
func (h *HTTP) Settings() (s HTTPSettings, err error) {
	if err := h.tls.check(h.fs, ""); err != nil {
		return s, err
	}
	switch {
	case h.fs.Changed("http-password-file") && !h.tls.on:
		return s, Errorf("--http-password-file needs --http-tls: the password would go in clear to other hosts")
	case h.fs.Changed("http-password-file") && h.passwordFile == "":
		return s, Errorf("--http-password-file is empty")
	case h.fs.Changed("http-user") && h.user == "":
		return s, Errorf("--http-user is empty")
	}
	both := [][2]string{{"http-user", "http-password-file"}, {"http-password-file", "http-user"}}
	if err := Needs(h.fs, both); err != nil {
		return s, err
	}
	if h.tls.on {
		s.TLS = h.tls.config()
	}
	if h.passwordFile != "" {
		s.User, s.Password = h.user, fromFile("--http-password-file", h.passwordFile)
	}
	return s, nil
}

// HideSecrets is [Settings.HideSecrets].
func (s HTTPSettings) HideSecrets() { Settings{secret: s.Password != nil}.HideSecrets() }
