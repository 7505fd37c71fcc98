package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrCannotKill is what [KillConnections] returns where the kernel cannot end the connections of others.
var ErrCannotKill = errors.New("the kernel cannot end connections: it was built without CONFIG_INET_DIAG_DESTROY")

// Of linux/inet_diag.h and linux/sock_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	diagBytecode     = 1 // INET_DIAG_REQ_BYTECODE
	sourceCondition  = 7 // INET_DIAG_BC_S_COND

	diagIDLength    = 48 // inet_diag_sockid, with which a reply goes on after its first 4 bytes
	diagReplyLength = 72 // inet_diag_msg
)

// killable are the states, a bit each, of a TCP socket that has a peer: all but TIME_WAIT, CLOSE and LISTEN.
const killable = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_SYN_RECV |
	1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT | 1<<unix.BPF_TCP_LAST_ACK |
	1<<unix.BPF_TCP_CLOSING | 1<<unix.BPF_TCP_NEW_SYN_RECV

// killBatch is how many connections are ended by one message.
const killBatch = 100

// KillConnections ends each TCP connection of this network namespace whose local address is addr, and returns how many
// there were. The local program gets ECONNABORTED, and the peer a reset, if the host can still send from addr. Sockets
// that listen stay. It needs CAP_NET_ADMIN, and waits for each answer of the kernel for a second at most.
//
// Format: sock_diag(7), linux/inet_diag.h.
func KillConnections(addr netip.Addr) (killed int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, os.NewSyscallError("socket NETLINK_SOCK_DIAG", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	families := []byte{unix.AF_INET6}
	if addr.Is4() {
		families = []byte{unix.AF_INET, unix.AF_INET6} // an IPv6 socket may have an IPv4 connection
	}
	for _, family := range families {
		found, err := connections(fd, family, addr)
		if errors.Is(err, unix.ENOENT) { // sock_diag has no handler for TCP
			return killed, ErrCannotKill
		}
		if err != nil {
			return killed, fmt.Errorf("cannot list the connections to %v: %w", addr, err)
		}
		for len(found) > 0 {
			batch := found[:min(killBatch, len(found))]
			n, err := destroy(fd, family, batch)
			killed += n
			if errors.Is(err, unix.EOPNOTSUPP) {
				return killed, ErrCannotKill
			}
			if err != nil {
				return killed, fmt.Errorf("cannot end the connections to %v: %w", addr, err)
			}
			found = found[len(batch):]
		}
	}
	return killed, nil
}

// connections lists the sockets of a family that are connections of addr, each by its inet_diag_sockid.
func connections(fd int, family byte, addr netip.Addr) (ids [][]byte, err error) {
	ip := addr.AsSlice()
	condition := binary.NativeEndian.AppendUint16([]byte{sourceCondition, byte(12 + len(ip))}, uint16(12+len(ip)+4))
	condition = append(condition, unix.AF_INET6, byte(addr.BitLen()), 0, 0)
	if addr.Is4() {
		condition[4] = unix.AF_INET
	}
	condition = append(append(condition, 0xff, 0xff, 0xff, 0xff), ip...) // any port
	body := binary.NativeEndian.AppendUint32([]byte{family, unix.IPPROTO_TCP, 0, 0}, killable)
	body = append(body, make([]byte, diagIDLength)...)
	body = binary.NativeEndian.AppendUint16(body, uint16(4+len(condition)))
	body = append(binary.NativeEndian.AppendUint16(body, diagBytecode), condition...)
	if err := unix.Send(fd, netlinkMessage(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, body), 0); err != nil {
		return nil, os.NewSyscallError("send", err)
	}
	for {
		messages, err := receive(fd)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return ids, nil
			case m.Header.Type == unix.NLMSG_ERROR:
				return nil, netlinkError(m)
			case len(m.Data) >= diagReplyLength:
				ids = append(ids, m.Data[4:4+diagIDLength])
			}
		}
	}
}

// destroy ends connections, and returns how many of them were still there.
func destroy(fd int, family byte, ids [][]byte) (killed int, err error) {
	var all []byte
	for _, id := range ids {
		body := append([]byte{family, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff}, id...)
		all = append(all, netlinkMessage(sockDestroy, unix.NLM_F_REQUEST|unix.NLM_F_ACK, body)...)
	}
	if err := unix.Send(fd, all, 0); err != nil {
		return 0, os.NewSyscallError("send", err)
	}
	for answered := 0; answered < len(ids); {
		messages, rerr := receive(fd)
		if rerr != nil {
			return killed, rerr
		}
		for _, m := range messages {
			answered++
			switch merr := netlinkError(m); {
			case merr == nil:
				killed++
			case !errors.Is(merr, unix.ENOENT) && !errors.Is(merr, unix.ESTALE): // it has not ended by itself
				err = merr
			}
		}
	}
	return killed, err
}

// netlinkMessage is a message whose body is of a length that is a multiple of 4.
//
// Format: netlink(7).
func netlinkMessage(kind, flags uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(b, kind), flags)
	return append(append(b, make([]byte, 8)...), body...) // sequence and port number
}

func receive(fd int) ([]syscall.NetlinkMessage, error) {
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch err {
		case nil:
			return syscall.ParseNetlinkMessage(buf[:n])
		case unix.EINTR:
		default:
			return nil, os.NewSyscallError("recv", err)
		}
	}
}

// netlinkError is the error of a message of type NLMSG_ERROR, nil if it is an acknowledgement.
func netlinkError(m syscall.NetlinkMessage) error {
	if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
		return errors.New("the kernel's answer is not understood")
	}
	if code := -int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return syscall.Errno(code)
	}
	return nil
}
