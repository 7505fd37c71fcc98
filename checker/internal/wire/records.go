package wire

import (
	"encoding/binary"
	"net"
)

// records gives TLS one record at a time. Whatever comes after a reply thus
// stays in the socket, where [Socket.Quiet] sees it.
//
// Format: RFC 8446, section 5.1: type, version, length, payload.
type records struct {
	net.Conn
	header [5]byte
	have   int // bytes of the header
	left   int // bytes of the payload
}

func (r *records) Read(p []byte) (int, error) {
	if r.left > 0 {
		n, err := r.Conn.Read(p[:min(len(p), r.left)])
		r.left -= n
		return n, err
	}
	n, err := r.Conn.Read(p[:min(len(p), len(r.header)-r.have)])
	r.have += copy(r.header[r.have:], p[:n])
	if r.have == len(r.header) {
		r.have, r.left = 0, int(binary.BigEndian.Uint16(r.header[3:]))
	}
	return n, err
}
