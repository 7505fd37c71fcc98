package watch

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestForget: which Sentinels give way to a new one, and which to time alone.
func TestForget(t *testing.T) {
	w := &Watcher{}
	for i := range maxSentinels {
		w.Know(fmt.Sprintf("10.0.0.%d:26379", i+1), "mymaster")
	}
	w.Keep("10.0.0.1:26379", "mymaster")
	known := func(address string) bool {
		return slices.ContainsFunc(w.peers, func(p *peer) bool { return p.address == address })
	}
	if w.Know("10.0.0.99:26379", "mymaster"); known("10.0.0.99:26379") || len(w.peers) != maxSentinels {
		t.Error("a new one takes the place of one that was just known")
	}
	now := time.Now()
	w.peers[0].reached, w.peers[3].reached, w.peers[5].reached = now.Add(-time.Hour), now.Add(-2*forgetForAnother),
		now.Add(-forgetForAnother)
	if w.Know("10.0.0.99:26379", "mymaster"); !known("10.0.0.99:26379") || known("10.0.0.4:26379") ||
		len(w.peers) != maxSentinels {
		t.Error("a new one does not take the place of the one that was not reached for the longest")
	}
	w.peers[0].seen, w.peers[7].seen = now.Add(-time.Hour), now.Add(-forgetAfter)
	gone := w.peers[7].address
	for w.forget(now, forgetAfter) {
	}
	if known(gone) || !known("10.0.0.1:26379") || len(w.peers) != maxSentinels-1 {
		t.Error("not the one that was neither heard nor reached is forgotten")
	}
	for i := range 2 * maxNames {
		w.Know("10.0.0.1:26379", fmt.Sprint("name", i))
	}
	if n := len(w.peers[0].names); n != maxNames {
		t.Errorf("%d names", n)
	}
}
