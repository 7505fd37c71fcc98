package wire

import (
	"crypto/tls"
	"net"
)

// Secure makes a TLS connection over s, by its deadline. An empty ServerName
// in the configuration means host.
func Secure(s *Socket, config *tls.Config, host string) (net.Conn, error) {
	c := tls.Client(&records{Conn: s}, Expect(config, host))
	return c, c.Handshake()
}

// Expect is config with host for an empty ServerName.
func Expect(config *tls.Config, host string) *tls.Config {
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	return config
}
