package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"redis-is-master/checker"
	"redis-is-master/checker/report"
)

// A daemonClient asks the daemons of other nodes.
type daemonClient struct {
	transport      *http.Transport
	scheme, port   string
	user, password string // none where the user is empty
	vips           []netip.Addr
	err            error // why nobody can be asked
}

// maxStatus and maxHeader bound what is read of a daemon.
const (
	maxStatus = 1 << 20
	maxHeader = 16 << 10
)

var errUnasked = errors.New("not asked")

// newDaemonClient reads the files of --http-password-file and of TLS, once: they may be
// pipes.
func newDaemonClient(ctx context.Context, t Target, vips []netip.Addr) *daemonClient {
	// It uses no proxy, whatever the environment says: the nodes are neighbours.
	c := &daemonClient{scheme: "http", vips: vips, transport: &http.Transport{DisableKeepAlives: true,
		DisableCompression: true, MaxResponseHeaderBytes: maxHeader}}
	at, port, err := net.SplitHostPort(t.HTTP)
	if c.port = port; err != nil {
		c.err = fmt.Errorf("%w: there is no --http", errUnasked)
		return c
	}
	if ip, err := netip.ParseAddr(at); at == "localhost" || err == nil && ip.IsLoopback() {
		c.err = fmt.Errorf("%w: --http is on loopback", errUnasked)
		return c
	}
	reading, cancel := within(ctx)
	defer cancel()
	if t.AskHTTP.TLS != nil {
		c.scheme = "https"
		c.transport.TLSClientConfig, c.err = t.AskHTTP.TLS(reading)
	}
	if t.AskHTTP.Password != nil && c.err == nil {
		c.user = t.AskHTTP.User
		c.password, c.err = t.AskHTTP.Password(reading)
	}
	if c.user != "" && c.scheme != "https" { // the flags allow none of this
		c.err = errors.New("a password is sent by TLS alone")
	}
	return c
}

// ask returns what the daemon of a node says, also of the addresses by which the node is
// known. It follows no redirect.
func (c *daemonClient) ask(ctx context.Context, node string, known []netip.Addr) (*report.Document, error) {
	if c.err != nil {
		return nil, c.err
	}
	ctx, cancel := within(ctx)
	defer cancel()
	host, _, _ := net.SplitHostPort(node)
	target := url.URL{Scheme: c.scheme, Host: net.JoinHostPort(host, c.port), Path: "/status",
		RawQuery: url.Values{"vip": texts(slices.Concat(c.vips, known))}.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, errors.New("its address is no host")
	}
	if c.user != "" {
		request.SetBasicAuth(c.user, c.password)
	}
	reply, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, explainHTTP(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxStatus))
	if err != nil {
		return nil, explainHTTP(err)
	}
	doc := new(report.Document)
	switch {
	case reply.StatusCode == http.StatusUnauthorized && c.user != "":
		return nil, errors.New("it refuses the password: see --http-user and --http-password-file")
	case reply.StatusCode == http.StatusUnauthorized && c.scheme != "https":
		return nil, errors.New("it wants a password, which is sent by TLS alone: give it a certificate by " +
			"--web.config.file, then --http-tls, --http-user and --http-password-file")
	case reply.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("it wants a password: see --http-user and --http-password-file")
	case reply.StatusCode == http.StatusBadRequest && c.scheme != "https":
		return nil, errors.New("it wants TLS: see --http-tls")
	case reply.StatusCode != http.StatusOK || json.Unmarshal(body, doc) != nil || !plausible(doc):
		return nil, fmt.Errorf("another program answers on port %s", c.port)
	}
	return doc, nil
}

// plausible reports whether a daemon can have said it.
func plausible(doc *report.Document) bool {
	switch doc.Answer {
	case checker.Yes, checker.No, checker.Unknown:
		return doc.Schema == report.Schema
	}
	return false
}

// saysOf tells what a daemon, which may be nil for none, has said of an address.
func saysOf(doc *report.Document) func(netip.Addr) (present, known bool) {
	return func(a netip.Addr) (present, known bool) {
		if doc == nil {
			return false, false
		}
		for _, one := range doc.HostAddresses {
			if one.Address == a.String() && one.Present != nil {
				return *one.Present, true
			}
		}
		return false, false
	}
}

func texts(all []netip.Addr) []string {
	list := []string{}
	for _, a := range all {
		list = append(list, a.String())
	}
	return list
}

// brief bounds what another program has a part in.
func brief(text string) string {
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// explainHTTP says what to do about an error of TLS.
func explainHTTP(err error) error {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
			return errors.New("its certificate is of a CA that is not trusted: see --http-cacert")
		}
		if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
			return errors.New("its certificate is for another name: see --http-sni")
		}
		return fmt.Errorf("its certificate: %w", e.Err)
	}
	remote, _ := errors.AsType[*net.OpError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case noTLS || errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("it has no TLS: leave out --http-tls")
	case remote != nil && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate"):
		return errors.New("it wants a client certificate, or refuses this one: see --http-cert")
	}
	return fmt.Errorf("no answer: %w", err)
}
