package guards

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-is-master/checker"
	"redis-is-master/e2e/lab"
)

// A wire carries TCP to a node until it is cut, which it is by the words that
// it is told to look for, before they arrive; what was sent meanwhile arrives
// when it is mended, as after the loss of packets.
type wire struct {
	listener net.Listener
	port     int
	to       string
	cutAt    []byte

	mu     sync.Mutex
	mended *sync.Cond
	armed  bool
	cut    chan struct{} // closed when it is cut
	down   bool
	open   []net.Conn
}

func newWire(t *testing.T, cutAt string) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	lab.Check(t, err)
	w := &wire{
		listener: l,
		port:     l.Addr().(*net.TCPAddr).Port,
		cutAt:    []byte(cutAt),
		cut:      make(chan struct{}),
		armed:    true,
	}
	w.mended = sync.NewCond(&w.mu)
	return w
}

func (w *wire) serve(wg *sync.WaitGroup) {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			from.Close()
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, from, to)
		w.mu.Unlock()
		wg.Go(func() { w.copy(to, from, true) })
		wg.Go(func() { w.copy(from, to, false) })
	}
}

func (w *wire) copy(to, from net.Conn, look bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		if look && w.armed && bytes.Contains(buf[:n], w.cutAt) {
			w.armed, w.down = false, true
			close(w.cut)
		}
		for w.down {
			w.mended.Wait()
		}
		w.mu.Unlock()
		to.Write(buf[:n])
		if err != nil {
			to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
	w.mended.Broadcast()
}

func (w *wire) close() {
	w.listener.Close()
	w.mend()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.Close()
	}
}

// TestLatePromotion: the network loses a Sentinel's REPLICAOF NO ONE; the
// Sentinels give up, and promote another node; then it arrives after all.
func TestLatePromotion(t *testing.T) {
	t.Run("hello", func(t *testing.T) { latePromotion(t, false) })
	t.Run("sentinel", func(t *testing.T) { latePromotion(t, true) })
}

func latePromotion(t *testing.T, asked bool) {
	t.Parallel()
	w := newWire(t, "\r\nNO\r\n$3\r\nONE\r\n")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer w.close()
	master := lab.New(t, lab.Options{TCP: true})
	of := "127.0.0.1 " + strconv.Itoa(master.Port)
	late := lab.New(
		t,
		lab.Options{
			TCP: true,
			Args: []string{
				"--replicaof",
				of,
				"--replica-announce-port",
				strconv.Itoa(w.port),
				"--replica-priority",
				"1",
			},
		},
	)
	other := lab.New(t, lab.Options{TCP: true, Args: []string{"--replicaof", of}})
	w.to = late.Addr()
	wg.Go(func() { w.serve(&wg) })
	for _, r := range []*lab.Redis{late, other} {
		lab.Check(t, r.Until("master_link_status:up", "INFO", "replication"))
	}
	c := &lab.Cluster{Nodes: []*lab.Redis{master, late, other}}
	for range 3 {
		s := lab.New(t, lab.Options{TCP: true, Sentinel: true})
		s.Must(t, "SENTINEL", "MONITOR", lab.MasterName, "127.0.0.1", strconv.Itoa(master.Port), "2")
		s.Must(t, "SENTINEL", "SET", lab.MasterName, "down-after-milliseconds", "1000")
		s.Must(t, "SENTINEL", "SET", lab.MasterName, "failover-timeout", "3000")
		c.Sentinels = append(c.Sentinels, s)
	}
	lab.Check(t, c.Ready())
	announce := "127.0.0.1:" + strconv.Itoa(w.port)
	args := []string{"--announce-addr", announce}
	if asked {
		args = append(args, "--hello", "off", "--sentinel-master", lab.MasterName)
		for _, s := range c.Sentinels {
			args = append(args, "--sentinel", s.Addr())
		}
	}
	d, err := lab.StartDaemon(lab.Program("redis-is-masterd"), late, args...)
	lab.Check(t, err)
	defer d.Close()
	lab.Check(t, lab.Wait("the daemon has heard the Sentinels", func() (bool, error) {
		doc, err := d.Document()
		return asked ||
			doc.Observation != nil && doc.Observation.Standing != nil &&
				len(doc.Observation.Standing.Claims) == 3, err
	}))
	master.Kill()
	select {
	case <-w.cut:
	case <-time.After(lab.Patience):
		t.Fatal("nobody promotes it")
	}
	cut := time.Now()
	for _, s := range c.Sentinels {
		lab.Check(t, lab.Wait("another node is promoted", func() (bool, error) {
			out, err := s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", lab.MasterName)
			return strings.HasSuffix(out, "\n"+strconv.Itoa(other.Port)), err
		}))
	}
	t.Log("another node is promoted, and named by all, after", time.Since(cut))
	w.mend()
	mended := time.Now()
	var lie, yes time.Duration
	var first, last time.Time
	log := ""
	for time.Since(mended) < 15*time.Second {
		begun := time.Now()
		doc, err := d.Document()
		lab.Check(t, err)
		info, _ := late.Do("INFO", "replication")
		time.Sleep(2 * time.Millisecond) // the pace of the samples
		took := time.Since(begun)
		if strings.Contains(info, "role:master") {
			lie += took
			if first.IsZero() {
				first = time.Now()
			}
			last = time.Now()
		}
		named, _ := c.Sentinels[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", lab.MasterName)
		if doc.Reason == checker.OK && strings.HasSuffix(named, "\n"+strconv.Itoa(other.Port)) {
			yes += took
		}
		if line := string(doc.Reason) + ": " + doc.Detail; line != log &&
			string(doc.Reason) != strings.SplitN(log, ":", 2)[0] {
			log = line
			t.Log(time.Since(mended), line)
		}
	}
	if first.IsZero() {
		t.Fatal("it never came: this shows nothing")
	}
	t.Logf(
		"it called itself master for %v (from %v to %v), and was believed for %v",
		lie,
		first.Sub(mended),
		last.Sub(mended),
		yes,
	)
	if yes > 0 {
		t.Errorf("a node that is not the master was believed for %v", yes)
	}
}
