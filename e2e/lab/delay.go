package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Delay makes everything from and to the host late. Instead of by the switch
// its frames are carried by this process, for not every kernel has netem.
func (h *Host) Delay(by time.Duration) error {
	b := h.net.bridge
	near, far := h.port+"n", h.port+"f"
	for _, argv := range [][]string{
		{"ip", "link", "set", h.port, "nomaster"},
		{"ip", "link", "add", "name", near, "up", "type", "veth", "peer", "name", far},
		{"ip", "link", "set", far, "master", "br0", "up"},
	} {
		if err := b.Run(argv...); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.straighten = func() error {
		cancel()
		return b.Run("ip", "link", "del", near)
	}
	var out, in int
	err := b.Do(func() (err error) {
		if out, err = rawSocket(h.port); err == nil {
			in, err = rawSocket(near)
		}
		return err
	})
	if err != nil {
		return err
	}
	go carry(ctx, out, in, by)
	go carry(ctx, in, out, by)
	return nil
}

// rawSocket gives and takes the frames of a link, with the header that says
// what the sender left to the hardware.
//
// Format: packet(7), and struct virtio_net_hdr before each frame.
func rawSocket(link string) (int, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return 0, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return 0, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	if err == nil {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_PROMISC})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("%s: %w", link, err)
	}
	return fd, nil
}

// carry takes what comes in on one socket to the other, later, until ctx is
// done; then it closes the first.
func carry(ctx context.Context, from, to int, by time.Duration) {
	type frame struct {
		due  time.Time
		data []byte
	}
	queue := make(chan frame, 1<<14)
	go func() {
		for f := range queue {
			time.Sleep(time.Until(f.due))
			if ctx.Err() == nil {
				unix.Write(to, f.data)
			}
		}
	}()
	defer unix.Close(from)
	defer close(queue)
	buf := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, sender, err := unix.Recvfrom(from, buf, 0)
		if s, ok := sender.(*unix.SockaddrLinklayer); err != nil || !ok || s.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		select {
		case queue <- frame{time.Now().Add(by), append([]byte(nil), buf[:n]...)}:
		default: // as a full switch would
		}
	}
}
