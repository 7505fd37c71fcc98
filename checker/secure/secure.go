// Package secure puts TLS over the connections of package checker. It is apart
// from it because an exec pays for what is linked: crypto/tls is a tenth of
// what a check without TLS costs.
package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"redis-is-master/checker"
)

// Handshake is what [checker.Redis.TLS] returns, made of PEM: the CAs to
// trust, nil for the system's; the client's certificate and its key, nil for
// none; and the name to ask for and to expect, empty for the host. Its errors
// begin with the name of the first file that they are about.
func Handshake(ca, cert, key []byte, name string) (checker.Handshake, error) {
	config := &tls.Config{ServerName: name}
	if ca != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("cacert holds no certificate")
		}
	}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert and key are no pair: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return Over(config), nil
}

// Over makes a handshake of a configuration. An empty ServerName becomes the
// host that was dialled.
func Over(config *tls.Config) checker.Handshake {
	return func(conn net.Conn, host string) (net.Conn, error) {
		config := config.Clone()
		if config.ServerName == "" {
			config.ServerName = host
		}
		t := tls.Client(conn, config)
		return t, explain(t.Handshake())
	}
}

func explain(err error) error {
	because := func(err error, hint string) error { return &checker.HandshakeError{Err: err, Hint: hint} }
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return because(errors.New("the server does not speak TLS"), "leave out --tls, or give its tls-port")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return because(err, "give the CA that signed the server's certificate with --cacert")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return because(err, "give a name that is in the server's certificate with --sni")
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return because(err, "see the dates of the server's certificate, and the clock")
	}
	return err
}
