package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"redis-is-master/checker"
)

// TestSettingsLog: the log says once what is wrong with the settings of the
// Sentinels, if that lasts, and again when it has changed.
func TestSettingsLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	out := settingsOutput(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1000, 0)
	check := func(downAfter, quorum int, want ...string) {
		t.Helper()
		log.Reset()
		for range 300 { // half a minute
			now = now.Add(100 * time.Millisecond)
			out.Checked(checker.Check{Time: now, Observation: checker.Observation{Standing: checker.Standing{
				Asked: []checker.Asked{{Sentinel: "a:1", Name: "mymaster", Time: now, FailoverTimeout: time.Minute,
					DownAfter: time.Duration(downAfter) * time.Millisecond, Quorum: int64(quorum), Sentinels: 3}}}}})
		}
		if got := strings.Count(log.String(), "\n"); got != len(want) {
			t.Errorf("it logs %d lines, want %q\n%s", got, want, log.String())
		}
		for _, w := range want {
			if !strings.Contains(log.String(), w) {
				t.Errorf("it does not log %q\n%s", w, log.String())
			}
		}
	}
	check(5000, 2)
	check(1000, 2, "level=WARN msg=\"the settings of the Sentinels are not safe\" master=mymaster problem=down-after")
	check(1000, 2)
	check(1500, 1, "is 1500 at the Sentinel a:1", "problem=quorum")
	log.Reset()
	out.Checked(checker.Check{Time: now, Err: &checker.Error{Reason: checker.ReasonTimeout}})
	if log.Len() > 0 {
		t.Errorf("a check that failed says something: %s", log.String())
	}
	check(5000, 1, "level=INFO msg=\"the settings of the Sentinels are mended\" master=mymaster problem=down-after")
	check(5000, 2, "problem=quorum")
	check(5000, 2)

	// What lasts for less than ten seconds is not logged.
	for _, downAfter := range []time.Duration{time.Second, 5 * time.Second} {
		for range 50 {
			now = now.Add(100 * time.Millisecond)
			out.Checked(checker.Check{Time: now, Observation: checker.Observation{Standing: checker.Standing{
				Asked: []checker.Asked{{Name: "mymaster", Time: now, DownAfter: downAfter, Quorum: 2, Sentinels: 3}}}}})
		}
	}
	if check(5000, 2); log.Len() > 0 {
		t.Errorf("logged at once: %s", log.String())
	}
}
