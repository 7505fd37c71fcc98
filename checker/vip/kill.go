package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
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
	fd, err := openNetlink(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	families := []byte{unix.AF_INET6}
	if addr.Is4() {
		families = []byte{unix.AF_INET, unix.AF_INET6} // an IPv6 socket may have an IPv4 connection
	}
	var found [][]byte // of both, before the first is ended: an address that comes back keeps its new connections
	for _, family := range families {
		requests, err := connections(fd, family, addr)
		if errors.Is(err, unix.ENOENT) { // sock_diag has no handler for TCP
			return 0, ErrCannotKill
		}
		if err != nil {
			return 0, fmt.Errorf("cannot list the connections to %v: %w", addr, err)
		}
		found = append(found, requests...)
	}
	for batch := range slices.Chunk(found, killBatch) {
		answers, err := exchange(fd, batch...)
		for _, answer := range answers {
			switch {
			case answer == nil:
				killed++
			case !errors.Is(answer, unix.ENOENT) && !errors.Is(answer, unix.ESTALE): // it has not ended by itself
				err = answer
			}
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			return killed, ErrCannotKill
		}
		if err != nil {
			return killed, fmt.Errorf("cannot end the connections to %v: %w", addr, err)
		}
	}
	return killed, nil
}

// CanKill returns why [KillConnections] could not end a connection: [ErrCannotKill], or that this process may not. It
// asks the kernel for what is not there; whether it would be allowed is checked first.
func CanKill() error {
	for _, try := range []struct {
		protocol int
		request  []byte
	}{
		{unix.NETLINK_SOCK_DIAG, endRequest(unix.AF_INET, make([]byte, diagIDLength))},
		{unix.NETLINK_ROUTE, netlinkMessage(unix.RTM_DELADDR, unix.NLM_F_REQUEST|unix.NLM_F_ACK,
			[]byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0})}, // of no interface
	} {
		fd, err := openNetlink(try.protocol)
		if err != nil {
			return err
		}
		answers, err := exchange(fd, try.request)
		unix.Close(fd)
		switch {
		case err != nil:
			return err
		case errors.Is(answers[0], unix.EOPNOTSUPP):
			return ErrCannotKill
		case errors.Is(answers[0], unix.EPERM):
			return errors.New("ending connections needs CAP_NET_ADMIN: run the daemon as root, or give the unit the drop-in " +
				"kill-connections.conf")
		}
	}
	return nil
}

// openNetlink opens a netlink socket on which an answer of the kernel is waited for for a second at most.
func openNetlink(protocol int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket AF_NETLINK", err)
	}
	timeout := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	return fd, nil
}

// connections lists the sockets of a family that are connections of addr, each as the request that ends it.
func connections(fd int, family byte, addr netip.Addr) (requests [][]byte, err error) {
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
				return requests, nil
			case m.Header.Type == unix.NLMSG_ERROR:
				return nil, netlinkError(m)
			case len(m.Data) >= diagReplyLength:
				requests = append(requests, endRequest(family, m.Data[4:4+diagIDLength]))
			}
		}
	}
}

// endRequest asks the kernel to end a connection.
func endRequest(family byte, id []byte) []byte {
	body := append([]byte{family, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff}, id...)
	return netlinkMessage(sockDestroy, unix.NLM_F_REQUEST|unix.NLM_F_ACK, body)
}

// netlinkMessage is a message whose body is of a length that is a multiple of 4.
//
// Format: netlink(7).
func netlinkMessage(kind, flags uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(b, kind), flags)
	return append(append(b, make([]byte, 8)...), body...) // sequence and port number
}

// exchange sends messages at once, and returns the kernel's answer to each.
func exchange(fd int, messages ...[]byte) (answers []error, err error) {
	var all []byte
	for _, m := range messages {
		all = append(all, m...)
	}
	if err := unix.Send(fd, all, 0); err != nil {
		return nil, os.NewSyscallError("send", err)
	}
	for len(answers) < len(messages) {
		got, err := receive(fd)
		if err != nil {
			return answers, err
		}
		for _, m := range got {
			answers = append(answers, netlinkError(m))
		}
	}
	return answers, nil
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
