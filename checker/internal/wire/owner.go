package wire

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoOwner is the error of [Socket.Owner].
var ErrNoOwner = errors.New("it cannot be told who listens there")

// Owner is the user who listens where the socket is connected to: on a unix
// socket the one who made it listen, on a port of this host the one who holds the
// port now. Any error is [ErrNoOwner]: nobody listens any more, the server is on
// another host or in another network namespace, the process may not ask, or it is
// in a user namespace that has no such user, as systemd's PrivateUsers= makes one;
// but see [InheritSockDiag].
func (s *Socket) Owner() (uid uint32, err error) {
	if uid, err = s.owner(); uid == nobody {
		return 0, ErrNoOwner
	}
	return uid, err
}

// nobody is how the kernel calls all users that a namespace does not have.
const nobody = 65534

func (s *Socket) owner() (uid uint32, err error) {
	peer, err := unix.Getpeername(s.fd)
	if err != nil {
		return 0, ErrNoOwner
	}
	var at netip.AddrPort
	switch a := peer.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	default:
		c, err := unix.GetsockoptUcred(s.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return 0, ErrNoOwner
		}
		return c.Uid, nil
	}
	if !local(at.Addr()) {
		return 0, ErrNoOwner
	}
	if uid, err = listener(at); err != nil {
		return 0, ErrNoOwner
	}
	return uid, nil
}

func local(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, of := range addrs {
		if n, ok := of.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
			return true
		}
	}
	return false
}

// An inetDiag is the request for one socket: struct inet_diag_req_v2 of
// linux/inet_diag.h. Without a peer it means the one that listens.
type inetDiag struct {
	header           unix.NlMsghdr
	family, protocol uint8
	extensions, _    uint8
	states           uint32
	port, _          [2]byte // big-endian; of the peer
	address, _       [16]byte
	device           uint32
	cookie           [2]uint32
}

// Of the reply, struct inet_diag_msg, only the owner's place counts.
const uidAt = unix.SizeofNlMsghdr + 64

// sockDiag is a socket from outside the process's user namespace. The file is nil
// if there is none.
var sockDiag struct {
	sync.Mutex
	file     *os.File
	sequence uint32
}

// InheritSockDiag has all queries made on a netlink socket that another process
// made and that this function takes over. The kernel translates users for the
// namespace in which a socket was made, so that one of systemd tells them although
// the unit has PrivateUsers=. An error refuses a socket that asks about something
// else, such as another network namespace.
func InheritSockDiag(f *os.File) error {
	fd := int(f.Fd())
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return err
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain != unix.AF_NETLINK || protocol != unix.NETLINK_SOCK_DIAG {
		return errors.New("the socket is not one of sock_diag")
	}
	ours, err := newSockDiag()
	if err != nil {
		return err
	}
	defer unix.Close(ours)
	if networkOf(fd) != networkOf(ours) {
		return errors.New("the socket is of another network namespace")
	}
	sockDiag.Lock()
	defer sockDiag.Unlock()
	// A daemon that was killed may have left a reply: it is not one of ours.
	sockDiag.file, sockDiag.sequence = f, uint32(time.Now().UnixNano())
	return nil
}

// networkOf identifies the network namespace of a socket. It is 0 before Linux
// 5.14, which cannot tell.
func networkOf(fd int) uint64 {
	cookie, _ := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie
}

func newSockDiag() (fd int, err error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
}

// listener asks the kernel for the owner of the socket that listens at an
// address, which may be bound to all of them. Its error is ENOENT if there is none.
func listener(at netip.AddrPort) (uid uint32, err error) {
	sockDiag.Lock()
	defer sockDiag.Unlock()
	if sockDiag.file != nil {
		sockDiag.sequence++
		return listenerBy(int(sockDiag.file.Fd()), sockDiag.sequence, at)
	}
	fd, err := newSockDiag()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return listenerBy(fd, 0, at)
}

func listenerBy(fd int, sequence uint32, at netip.AddrPort) (uid uint32, err error) {
	const byFamily, noCookie, allStates = 20, 1<<32 - 1, 1<<32 - 1 // SOCK_DIAG_BY_FAMILY, INET_DIAG_NOCOOKIE
	q := inetDiag{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP, states: allStates}
	q.cookie = [2]uint32{noCookie, noCookie}
	q.header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(q)), Type: byFamily, Flags: unix.NLM_F_REQUEST, Seq: sequence}
	if at.Addr().Is4() {
		q.family = unix.AF_INET
	}
	copy(q.address[:], at.Addr().AsSlice())
	binary.BigEndian.PutUint16(q.port[:], at.Port())
	request := unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, ErrNoOwner
	}
	// The kernel has answered within the call; a filter may have dropped it.
	reply := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, reply, unix.MSG_DONTWAIT)
		switch {
		case err != nil:
			return 0, ErrNoOwner
		case n < unix.SizeofNlMsghdr || binary.NativeEndian.Uint32(reply[8:]) != sequence:
		case binary.NativeEndian.Uint16(reply[4:]) == unix.NLMSG_ERROR && n >= unix.SizeofNlMsghdr+4:
			return 0, unix.Errno(-int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:])))
		case n < uidAt+4 || binary.NativeEndian.Uint16(reply[4:]) != byFamily:
			return 0, ErrNoOwner
		default:
			return binary.NativeEndian.Uint32(reply[uidAt:]), nil
		}
	}
}
