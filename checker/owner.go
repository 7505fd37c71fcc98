package checker

import (
	"fmt"
	"os"

	"redis-is-master/checker/internal/wire"
)

// InheritSockDiag has the owners of ports asked for on a netlink socket of
// sock_diag that was made outside this process's user namespace, and takes it over.
// Without it no other user can be told under systemd's PrivateUsers=. It is for the
// whole process. An error says why the socket is of no use; it is then not used.
func InheritSockDiag(f *os.File) error { return wire.InheritSockDiag(f) }

// An ownerError is about a listener that no password may be sent to.
type ownerError struct{ text, hint string }

func (e ownerError) Error() string { return e.text }

// checkOwner refuses another user's listener: when Redis is dead, whoever is on
// the host may bind its port. Root's is none, for root can read the password. A
// listener whose owner cannot be told any more is refused, too: its owner may
// have closed it as soon as it had our connection.
func (r *Redis) checkOwner(s *wire.Socket) error {
	const see = "see with ss -ltnp who listens there; "
	want, pinned := r.Owner, r.Owner != nil
	if !pinned {
		if want = r.owner.Load(); want == nil {
			return nil
		}
	}
	uid, err := s.Owner()
	switch {
	case err != nil && pinned:
		return ownerError{err.Error(),
			"leave out --redis-user where Redis runs on another host or in a container; a unit with PrivateUsers= " +
				"needs a port, not a unix socket, and redis-is-masterd.socket"}
	case err != nil:
		return ownerError{fmt.Sprintf("%v, but it was user %d", err, *want), see + "if Redis was moved, restart this daemon"}
	case uid == *want, uid == 0 && !pinned:
		return nil
	case pinned:
		return ownerError{fmt.Sprintf("user %d listens there, not user %d", uid, *want), see + "see --redis-user"}
	}
	return ownerError{fmt.Sprintf("user %d listens there, but it was user %d", uid, *want),
		see + "if Redis runs as another user now, restart this daemon"}
}

// RememberOwner asks once on a connection on which the node has answered who
// listens there, so that no later connection gives the password to somebody else.
// A second [Redis.Probe] does it by itself; who goes on asking should do it after
// the first. It may not be called during another method.
func (r *Redis) RememberOwner() {
	if r.socket == nil || r.Owner != nil || r.ownerAsked == r.dials || r.owner.Load() != nil {
		return
	}
	r.ownerAsked = r.dials
	if uid, err := r.socket.Owner(); err == nil {
		r.owner.Store(&uid)
	}
}

// Listening reports whether a process of this host listens where the node was last
// connected to. It is an error if that cannot be told: the node is on another host,
// or in a container that has its own network. It may not be called during another
// method.
func (r *Redis) Listening() (bool, error) { return wire.Listening(r.peer) }
