package wire

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotHere is an error of [Listening]: the server is on another host, or in
// another network namespace, as in a container.
var ErrNotHere = errors.New("it is not on this host, as far as this process can see")

// An Endpoint is where a socket is connected to.
type Endpoint struct {
	addr netip.AddrPort
	path string // of a unix socket
}

// Peer is where the socket is connected to. It is not known of one that was reset.
func (s *Socket) Peer() (at Endpoint, ok bool) {
	peer, err := unix.Getpeername(s.fd)
	if err != nil {
		return at, false
	}
	switch a := peer.(type) {
	case *unix.SockaddrInet4:
		at.addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		at.addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	case *unix.SockaddrUnix:
		at.path = a.Name
	}
	return at, at != Endpoint{}
}

// Listening reports whether a process of this host's network namespace listens at
// an endpoint. It is an error, such as [ErrNotHere], if that cannot be told.
//
// A unix socket is told by the name of its file alone: the server may know the
// directory by another name.
func Listening(at Endpoint) (bool, error) {
	switch {
	case at.path != "":
		return unixListening(at.path)
	case !at.addr.IsValid() || !local(at.addr.Addr()):
		return false, ErrNotHere
	}
	_, err := listener(at.addr)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil, err
}

// unixListening reads /proc/net/unix.
//
// Format: unix_seq_show in Linux's af_unix.c: Num RefCount Protocol Flags Type St
// Inode Path; the flag __SO_ACCEPTCON is that of a listener.
func unixListening(file string) (bool, error) {
	const flags, name, fields, acceptsConnections = 3, 7, 8, "00010000"
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		of := strings.Fields(lines.Text())
		if len(of) >= fields && of[flags] == acceptsConnections && path.Base(of[name]) == path.Base(file) {
			return true, nil
		}
	}
	return false, lines.Err()
}
