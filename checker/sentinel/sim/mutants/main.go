// Mutants attacks mutants of the Guard, to prove that the simulator can fail: each
// must be found within a minute. Run it by make sim-mutants.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"redis-is-master/checker/sentinel/sim"
)

// within is how long a mutant may live.
const within = time.Minute

// guard is the directory of the Guard's sources.
const guard = "checker/sentinel"

// A mutant is a Guard with one change to its source.
type mutant struct{ what, from, to string }

// mutants are rules that are dropped, bounds that are shortened, and comparisons
// that are turned; the first five are the holes that the table was built to mend.
var mutants = []mutant{
	{"a promotion that nobody announces is believed for ever", "return e.Disowned }", "return false }"},
	{"a replica of before the doubt vouches", "holdFollowed && fresh", "holdFollowed && (fresh || true)"},
	{"an election that is under way is not waited for", "if v.pendingEpoch > 0 {", "if false {"},
	{"a claim of before an interruption confirms", "(attended || c.last", "(true || c.last"},
	{"a Sentinel of a host that is cut off confirms it", "return -1 // the host", "hold = holdReconnect // the host"},
	{"a newer claim does not contradict", "return e.Contradicted }", "return false }"},
	{"a gap is no doubt", "(e.Gap || e.Flipped", "(false && e.Gap || e.Flipped"},
	{"a late promotion is believed", "e.InTouch && !e.ByHand)", "!e.ByHand)"},
	{"a promotion by hand is believed", "e.InTouch && !e.ByHand)", "e.InTouch)"},
	{"a promotion is believed though another is newer", "!e.Gap && !e.Superseded && (", "!e.Gap && ("},
	{"who is named otherwise is believed", "return e.NamesAnother && !(e.settles() && e.Followed) }", "return false }"},
	{"one Sentinel is enough at once", "minConfirmations = 2", "minConfirmations = 1"},
	{"an election is outlasted too early", "holdElection = 3200", "holdElection = 200"},
	{"a Sentinel that has fallen silent confirms", "holdSilent = 4700", "holdSilent = 4700000"},
	{"Sentinels may not be away for long", "holdReconnect = 15 * time.Second", "holdReconnect = 3 * time.Second"},
	{"another process is the same", "p.restarted = !p.first && (", "p.restarted = false && ("},
	{"a stall of the promotion may be a hang", "maxPromotionStall = 3 * time", "maxPromotionStall = 30 * time"},
	{"a claim of the same epoch contradicts", "claim.Epoch > *v.vetoAbove", "claim.Epoch >= *v.vetoAbove"},
	{"an old claim replaces a newer one", "if claim.Epoch < v.best.Epoch && ", "if false && "},
	{"a denied node is never confirmed", "case master:", "case false:"},
	{"nobody minds whom a Sentinel promotes", "return e.Moving }", "return false }"},
	{"a master that is cut off is believed", "return e.Isolated }", "return false }"},
	{"who did not answer agrees", "len(ids) >= p.known(now, v)", "true"},
	{"a failover that is under way vouches", "!r.FailingOver() && !r.TakesForDown() && !r.inFresh", "!r.inFresh"},
	{"a failover is over when its leader has died", "= holdPendingElection + 1500*time", "= 1500 * time"},
	{"a silence of any length is forgiven", "Silence: max(silence-quickRestart, 0)", "Silence: time.Hour"},
	{"a host that was suspended does not know it", "a.Now.Sub(p.asked)+o.Suspended", "a.Now.Sub(p.asked)"},
	{"no promotion is believed", "return e.Answered && e.promotes() }", "return false }"},
}

func main() {
	survivors := 0
	for _, m := range mutants {
		took, by, err := m.attack()
		switch {
		case err != nil:
			log.Fatalf("%s: %v", m.what, err)
		case by == "":
			survivors++
			fmt.Printf("%-60s not found in %v\n", m.what, within)
		default:
			fmt.Printf("%-60s found in %5.1f s: %s\n", m.what, took.Seconds(), by)
		}
	}
	if survivors > 0 {
		log.Fatalf("%d of %d mutants were not found", survivors, len(mutants))
	}
	fmt.Printf("all %d mutants were found\n", len(mutants))
}

// attack returns how long it took to find the mutant, and by what it was found.
func (m mutant) attack() (took time.Duration, by string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "mutant.test")
	if err := m.build(dir, binary); err != nil {
		return 0, "", err
	}
	begun := time.Now()
	out, err := exec.Command(binary, "-test.run", "^TestReal$", "-seeds", "0", "-attack", within.String()).
		CombinedOutput()
	if err == nil {
		return 0, "", nil
	}
	var found []string
	for _, i := range sim.Invariants() {
		if strings.Contains(string(out), "\n        "+i.Name+": ") {
			found = append(found, i.Name)
		}
	}
	if len(found) == 0 {
		return 0, "", fmt.Errorf("%w: %s", err, out)
	}
	return time.Since(begun), strings.Join(found, ", "), nil
}

// build compiles the simulator with the mutated source.
func (m mutant) build(dir, binary string) error {
	path, source, err := m.find()
	if err != nil {
		return err
	}
	changed, overlay := filepath.Join(dir, filepath.Base(path)), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(changed, []byte(strings.Replace(source, m.from, m.to, 1)), 0o600),
		os.WriteFile(overlay, text, 0o600))
	if err != nil {
		return err
	}
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, "./"+guard+"/sim")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// find returns the one source of the Guard that has what is changed.
func (m mutant) find() (path, source string, err error) {
	files, err := filepath.Glob(filepath.Join(guard, "*.go"))
	if err != nil {
		return "", "", err
	}
	times := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", "", err
		}
		if n := strings.Count(string(b), m.from); n > 0 && !strings.HasSuffix(file, "_test.go") {
			times += n
			path, source = file, string(b)
		}
	}
	if times != 1 {
		return "", "", fmt.Errorf("%q is in the sources %d times, not once", m.from, times)
	}
	path, err = filepath.Abs(path)
	return path, source, err
}
