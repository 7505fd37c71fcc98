package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// Offsets into an Ethernet frame, lengths, and values.
const (
	header      = 14 // destination, source, type
	etherSource = 6

	typeARP  = 0x0806
	typeIPv6 = 0x86dd

	arpLength = header + 28
	arpSender = header + 14 // protocol address of the sender

	icmp       = header + 40
	icmpTarget = icmp + 8

	solicitation  = 135
	advertisement = 136
	protoICMPv6   = 58
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// probe is a frame that asks who has an address, and does not claim it.
//
// Format: RFC 5227, section 1.1, the ARP Probe; for IPv6 the Neighbor
// Solicitation of RFC 4862, section 5.4.2.
func probe(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp(mac, make([]byte, 4), addr)
	}
	t := addr.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	return neighbor(mac, netip.IPv6Unspecified(), group, []byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, addr, nil)
}

// announcement is a frame that tells all neighbours that mac has an address.
//
// Format: RFC 5227, section 1.1, the ARP Announcement; for IPv6 the
// unsolicited Neighbor Advertisement of RFC 4861, section 7.2.6, with the
// Override flag.
func announcement(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp(mac, addr.AsSlice(), addr)
	}
	const override = 0x20
	return neighbor(mac, addr, netip.IPv6LinkLocalAllNodes(), []byte{advertisement, 0, 0, 0, override, 0, 0, 0}, addr,
		append([]byte{2, 1}, mac...))
}

// arp is an ARP request for target.
//
// Format: RFC 826.
func arp(mac net.HardwareAddr, sender []byte, target netip.Addr) []byte {
	b := ethernet(broadcast, mac, typeARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac...), sender...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	return b
}

// neighbor is a message of Neighbor Discovery.
//
// Format: RFC 4861, sections 4.3 and 4.4; the checksum is that of RFC 4443,
// section 2.3.
func neighbor(mac net.HardwareAddr, from, to netip.Addr, head []byte, target netip.Addr, option []byte) []byte {
	message := append(append(head, target.AsSlice()...), option...)
	group := to.As16()
	b := ethernet(net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}, mac, typeIPv6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(message)), protoICMPv6, 255)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(message[2:], checksum(from, to, message))
	return append(b, message...)
}

func ethernet(to, from net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 96)
	return binary.BigEndian.AppendUint16(append(append(b, to...), from...), kind)
}

func checksum(from, to netip.Addr, message []byte) uint16 {
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, 0, 0, byte(len(message)), 0, 0, 0, protoICMPv6)
	var sum uint32
	for _, part := range [][]byte{pseudo, message} { // both of an even length
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// claim returns the sender of a frame which says that its sender has an address; nil if it is another frame.
func claim(frame []byte, addr netip.Addr) net.HardwareAddr {
	if len(frame) < header {
		return nil
	}
	var claims bool
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case addr.Is4() && kind == typeARP:
		claims = len(frame) >= arpLength && bytes.Equal(frame[header:header+6], []byte{0, 1, 8, 0, 6, 4}) &&
			bytes.Equal(frame[arpSender:arpSender+4], addr.AsSlice())
	case addr.Is6() && kind == typeIPv6:
		claims = len(frame) >= icmpTarget+16 && frame[header+6] == protoICMPv6 && frame[icmp] == advertisement &&
			bytes.Equal(frame[icmpTarget:icmpTarget+16], addr.AsSlice())
	}
	if !claims {
		return nil
	}
	return bytes.Clone(frame[etherSource : etherSource+6])
}
