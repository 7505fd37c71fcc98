package wire

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestListening: a listener is seen until it is closed, whatever became of its
// connections or of the file of its socket.
func TestListening(t *testing.T) {
	for network, address := range map[string]string{
		"tcp": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "listening.sock"),
	} {
		t.Run(network, func(t *testing.T) {
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s, err := Dial(t.Context(), network, l.Addr().String(), time.Now().Add(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			at, ok := s.Peer()
			if !ok {
				t.Fatal("it is not known where it is connected to")
			}
			if is, err := Listening(at); err != nil || !is {
				t.Errorf("it listens: %v, %v", is, err)
			}
			if network == "unix" {
				os.Remove(address)
				if is, err := Listening(at); err != nil || !is {
					t.Errorf("its file is gone, and it listens: %v, %v", is, err)
				}
			}
			l.Close()
			if is, err := Listening(at); err != nil || is {
				t.Errorf("it listens no more: %v, %v", is, err)
			}
		})
	}
	another := Endpoint{addr: netip.MustParseAddrPort("192.0.2.1:6379")}
	for what, at := range map[string]Endpoint{"nothing": {}, "another host": another} {
		if is, err := Listening(at); err == nil || is {
			t.Errorf("%s: %v, %v", what, is, err)
		}
	}
}
