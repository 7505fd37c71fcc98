// Package prometheus_test holds the alerts and the dashboard against what the
// daemon exports.
package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"redis-is-master/checker"
	"redis-is-master/checker/hook"
	"redis-is-master/checker/report"
	"redis-is-master/checker/serve"
	"redis-is-master/e2e/lab"
)

// exported are the labels of every series that the daemon exports, by its
// name, as Prometheus gets them from it.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	m := &checker.Monitor{
		Policy: checker.Policy{Role: checker.RoleReplica},
		Probe: func(context.Context) (checker.Observation, error) {
			return checker.Observation{
				Role:     checker.RoleReplica,
				WireRole: "slave",
				LinkUp:   true,
				LastIO:   time.Second,
				Standing: checker.Standing{LastHello: time.Now(), Asked: []checker.Asked{{Time: time.Now()}}},
			}, nil
		},
	}
	metrics := serve.NewMetrics("test", m)
	quiet := serve.FileState{Behind: func() string { return "" }, Unread: func() time.Duration { return 0 }}
	metrics.File("track", quiet)
	metrics.File("promotion", quiet)
	metrics.Addresses(func() []report.VIP { return []report.VIP{{Address: "10.0.0.100/32"}} })
	metrics.CrashFailover(func() checker.CrashFailover { return checker.CrashFailover{} })
	metrics.Exec(func() hook.State { return hook.State{} })
	metrics.WatchedVIPs(func() map[string]bool { return map[string]bool{"10.0.0.101": true} })
	ctx, stop := context.WithCancel(t.Context())
	m.Checked = func(c checker.Check) {
		metrics.Checked(c)
		stop()
	}
	lab.Check(t, m.Run(ctx))
	w := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(w.Body)
	lab.Check(t, err)
	all := make(map[string][]string)
	for name, family := range families {
		var labels []string
		for _, pair := range family.Metric[0].Label {
			labels = append(labels, pair.GetName())
		}
		all[name] = labels
		if family.Metric[0].Histogram != nil {
			all[name+"_bucket"] = append(labels, "le")
		}
	}
	return all
}

var (
	series   = regexp.MustCompile(`(redis_is_master_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// holds fails the test where an expression asks for what is not exported, and
// notes what it does ask for.
func holds(t *testing.T, where, expr string, all map[string][]string, used map[string]bool) {
	t.Helper()
	var labels []string
	for _, m := range series.FindAllStringSubmatch(expr, -1) {
		have, ok := all[m[1]]
		if !ok {
			t.Errorf("%s: there is no %s", where, m[1])
		}
		used[m[1]] = true
		labels = append(labels, have...)
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(have, "job", "instance"), l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
		if r := regexp.MustCompile(`reason=~?"([^"$]*)"`).FindStringSubmatch(m[2]); r != nil {
			for _, reason := range strings.Split(r[1], "|") {
				if !slices.Contains(checker.Reasons(), checker.Reason(reason)) {
					t.Errorf("%s: there is no reason %s", where, reason)
				}
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(m[1], ", ") {
			if !slices.Contains(append(labels, "job", "instance"), l) {
				t.Errorf("%s: nothing in it has the label %s", where, l)
			}
		}
	}
}

// TestRules: promtool's tests of the alerts hold, every alert has one that
// makes it fire, and they ask for what there is.
func TestRules(t *testing.T) {
	t.Parallel()
	lab.Require(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile("rules.yml")
	lab.Check(t, err)
	tests, err := os.ReadFile("rules_test.yml")
	lab.Check(t, err)
	readme, err := os.ReadFile("README.md")
	lab.Check(t, err)
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 6 {
		t.Errorf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !regexp.MustCompile(`alertname: ` + a[1] + `\n +exp_alerts:\n +- exp_labels:`).Match(tests) {
			t.Errorf("no test makes %s fire", a[1])
		}
		if !strings.Contains(string(readme), "| `"+a[1]+"` |") {
			t.Errorf("the README does not explain %s", a[1])
		}
	}
	all, used := exported(t), make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(rules), -1) {
		holds(t, m[1], m[1], all, used)
	}
}

// TestDashboard: every panel asks for what there is, in PromQL, and everything
// there is has its panel.
func TestDashboard(t *testing.T) {
	t.Parallel()
	lab.Require(t, "promtool")
	b, err := os.ReadFile("dashboard.json")
	lab.Check(t, err)
	type place struct{ H, W, X, Y int }
	var dashboard struct {
		Title  string
		UID    string
		Panels []struct {
			ID      int
			Title   string
			GridPos place
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Expr string } }
		Templating  struct {
			List []struct{ Name, Definition string }
		}
	}
	lab.Check(t, json.Unmarshal(b, &dashboard))
	all, used := exported(t), make(map[string]bool)
	variables := map[string]bool{"__rate_interval": true, "__interval": true, "__all": true}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
		holds(t, "variable "+v.Name, v.Definition, all, used)
	}
	var exprs []string
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range dashboard.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: its number is taken, or it asks for nothing", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("panel %q lies on %q, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
			holds(t, p.Title, target.Expr, all, used)
		}
	}
	for _, a := range dashboard.Annotations.List {
		exprs = append(exprs, a.Expr)
		holds(t, "annotation", a.Expr, all, used)
	}
	for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(b), -1) {
		if !variables[m[1]] {
			t.Errorf("there is no variable %s", m[1])
		}
	}
	for name := range all {
		if strings.HasPrefix(name, "redis_is_master_") && !used[name] && !used[name+"_bucket"] &&
			name != "redis_is_master_role" {
			t.Errorf("no panel shows %s", name)
		}
	}
	if len(exprs) < 10 || len(slices.Collect(maps.Keys(all))) < 15 {
		t.Fatalf("%d expressions, %d series", len(exprs), len(all))
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, e := range exprs {
		e = strings.NewReplacer("$__rate_interval", "1m", "$__interval", "1m", "$job", ".*", "$instance", ".*").
			Replace(e)
		fmt.Fprintf(&rules, "  - {record: %q, expr: %q}\n", fmt.Sprintf("panel:%d", i), e)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	lab.Check(t, os.WriteFile(file, []byte(rules.String()), 0o600))
	if out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
