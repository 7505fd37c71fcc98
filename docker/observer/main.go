// Command observer prints what becomes of the node whose network namespace it
// runs in: one line for each change of the role that Redis says, looked at
// every two milliseconds, and of the VIP, at once when the kernel says so.
//
//	2006-01-02T15:04:05.000000Z node1 role master
//	2006-01-02T15:04:05.000000Z node1 vip up
package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"redis-is-master/e2e/lab"
)

const (
	every    = 2 * time.Millisecond
	patience = 100 * time.Millisecond
)

func main() {
	redis := pflag.String("redis", "", "address of the node's Redis")
	passwordFile := pflag.String("password-file", "", "file with the password")
	vip := pflag.String("vip", "", "the VIP")
	pflag.Parse()
	password, err := os.ReadFile(*passwordFile)
	if err == nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(*vip); err == nil {
			err = watchAddress(a)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "observer:", err)
		os.Exit(1)
	}
	go watchRole(*redis, strings.TrimRight(string(password), "\r\n"))
	// As process 1 of a container it would not be ended without this.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}

func watchRole(addr, password string) {
	var conn *lab.Conn
	look := func() string {
		for range 2 { // a Sentinel that changes a role closes all connections
			if conn == nil {
				c, err := net.DialTimeout("tcp", addr, patience)
				if err != nil {
					return "none"
				}
				if conn, err = lab.NewConn(c, password, patience); err != nil {
					c.Close()
					conn = nil
					continue
				}
			}
			replies, err := conn.Do(patience, []string{"ROLE"})
			if err == nil {
				role, _, _ := strings.Cut(replies[0], "\n")
				return role
			}
			conn.Close()
			conn = nil
		}
		return "none"
	}
	for role := ""; ; time.Sleep(every) {
		if now := look(); now != role {
			role = now
			say("role " + role)
		}
	}
}

// watchAddress says of an address whether it is there, and then each change.
//
// Format: rtnetlink(7).
func watchAddress(vip netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	groups := uint32(1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return err
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	there := false
	for _, a := range addrs {
		there = there || strings.HasPrefix(a.String(), vip.String()+"/")
	}
	state := map[bool]string{true: "up", false: "down"}
	say("vip " + state[there])
	go func() {
		buf := make([]byte, 1<<16)
		for {
			size, _, err := unix.Recvfrom(fd, buf, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "observer:", err)
				os.Exit(1)
			}
			messages, _ := syscall.ParseNetlinkMessage(buf[:size])
			for _, m := range messages {
				if m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR {
					continue
				}
				attrs, _ := syscall.ParseNetlinkRouteAttr(&m)
				for _, a := range attrs {
					if addr, ok := netip.AddrFromSlice(a.Value); ok && a.Attr.Type == unix.IFA_ADDRESS && addr == vip {
						say("vip " + state[m.Header.Type == unix.RTM_NEWADDR])
					}
				}
			}
		}
	}()
	return nil
}

var (
	saying  sync.Mutex
	host, _ = os.Hostname()
)

func say(what string) {
	saying.Lock()
	defer saying.Unlock()
	fmt.Println(time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), host, what)
}
