// Package sentinel knows what the Sentinels say of a node, by what they publish
// on it and by what they answer, and decides whether its role:master can be
// believed.
package sentinel

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"redis-is-master/checker"
)

// Bounds on a hello, for whoever may publish on the channel: a real one is some
// 130 bytes, with host names up to 255 more each.
const (
	maxHello = 512
	maxName  = 64 // of a master, and a Sentinel's run id, which has 40
)

// ParseHello reads a message of the channel __sentinel__:hello.
//
// Format: sentinelSendHello in Redis's sentinel.c, eight fields:
// ip,port,runid,current_epoch,master_name,master_ip,master_port,master_config_epoch.
func ParseHello(message string) (checker.Hello, error) {
	if len(message) > maxHello {
		return checker.Hello{}, fmt.Errorf("a hello has %d bytes at most, not %d", maxHello, len(message))
	}
	f := strings.Split(message, ",")
	if len(f) != 8 {
		return checker.Hello{}, fmt.Errorf("a hello has 8 fields, not %d", len(f))
	}
	if len(f[2]) > maxName || len(f[4]) > maxName {
		return checker.Hello{}, fmt.Errorf("a hello's run id and name have %d bytes at most", maxName)
	}
	h := checker.Hello{Sentinel: f[2], From: net.JoinHostPort(f[0], f[1]), Name: f[4],
		Master: net.JoinHostPort(f[5], f[6])}
	_, err1 := strconv.ParseUint(f[1], 10, 16)
	port, err2 := strconv.ParseUint(f[6], 10, 16)
	var err3, err4 error
	h.Current, err3 = strconv.ParseUint(f[3], 10, 64)
	h.Epoch, err4 = strconv.ParseUint(f[7], 10, 64)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return checker.Hello{}, err
		}
	}
	if f[0] == "" || f[2] == "" || f[4] == "" || f[5] == "" || port == 0 {
		return checker.Hello{}, fmt.Errorf("a hello has an empty field")
	}
	return h, nil
}
