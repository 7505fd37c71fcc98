package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Where things are in the picture, in pixels.
const (
	width  = 800
	left   = 196 // of the timelines
	right  = 476 // their end
	wrongs = 546 // the bars of the wrong holders
	end    = 662 // their end
	row    = 25
	bar    = 13
)

// The picture has its own background, so that it can be read wherever it is.
const style = `
svg { --back: #ffffff; --text: #1f2328; --faint: #59636e; --line: #d9dee3;
  --wait: #c4ccd4; --today: #d9820f; --ours: #0a8f80; --wrong: #cf3341;
  font: 12px ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans",
    Helvetica, Arial, sans-serif }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --text: #e6edf3; --faint: #9198a1; --line: #2b323b;
    --wait: #48515c; --today: #f0a43a; --ours: #2cc9b5; --wrong: #ff6b75 } }
text { fill: var(--text) } .title { font-size: 17px; font-weight: 650 } .group { font-weight: 650 }
.faint { fill: var(--faint) } .small { font-size: 11px }
.back { fill: var(--back) } .line { stroke: var(--line) } .wait { fill: var(--wait) } .wrong { fill: var(--wrong) }
.today { fill: var(--today) } .ours { fill: var(--ours) }
.slowest { stroke: var(--faint); stroke-width: 1.5; fill: none }
`

// A canvas is an SVG picture.
type canvas struct{ bytes.Buffer }

func (c *canvas) text(x, y float64, class, anchor, format string, args ...any) {
	fmt.Fprintf(c, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">%s</text>\n",
		x, y, class, anchor, html.EscapeString(fmt.Sprintf(format, args...)))
}

func (c *canvas) bar(from, to, y float64, class string) {
	fmt.Fprintf(c, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"1.5\" class=\"%s\"/>\n",
		from, y, max(0, to-from), bar, class)
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(c, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2, class)
}

// draw draws a timeline for each set-up, and beside it for how long the VIP
// was where it should not have been.
func draw(results []*result) []byte {
	slowest, longest, failovers := 1000.0, 1000.0, 0
	for _, r := range results {
		slowest = max(slowest, quantile(r.killWrite.all, 1))
		longest = max(longest, r.worstWrong())
		failovers = max(failovers, len(r.killWrite.all))
	}
	seconds := math.Ceil(slowest / 1000)
	at := func(ms float64) float64 { return left + (right-left)*ms/(1000*seconds) }
	height := 152 + float64(len(results)+2)*row

	c := &canvas{}
	fmt.Fprintf(c, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" viewBox=\"0 0 %d %.0f\" "+
		"role=\"img\">\n", width, height, width, height)
	fmt.Fprintf(c, "<title>How long clients wait after kill -9 of the Redis master, "+
		"and for how long the VIP is on a wrong node</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(c, "<rect width=\"%d\" height=\"%.0f\" rx=\"8\" class=\"back\"/>\n", width, height)
	c.text(20, 32, "title", "start", "When the Redis master dies, or is moved")

	// The heads, which are the legend, too.
	c.text(left, 60, "group", "start", "kill -9 until clients write again")
	c.text(wrongs, 60, "group", "start", "VIP on a wrong node")
	c.text(width-20, 60, "group", "end", "writes lost")
	c.bar(left, left+16, 68, "wait")
	c.text(left+21, 79, "faint small", "start", "election")
	c.bar(left+82, left+90, 68, "today")
	c.bar(left+90, left+98, 68, "ours")
	c.text(left+103, 79, "faint small", "start", "the VIP follows")
	c.line(left+202, 74.5, left+222, 74.5, "slowest")
	c.line(left+222, 71, left+222, 78, "slowest")
	c.text(left+227, 79, "faint small", "start", "slowest of %d", failovers)
	c.text(wrongs, 79, "faint small", "start", "seconds, worst round")
	c.text(width-20, 79, "faint small", "end", "worst round")

	top, bottom := 92.0, height-50
	for s := 0.0; s <= seconds; s++ {
		c.line(at(1000*s), top, at(1000*s), bottom, "line")
		c.text(at(1000*s), bottom+15, "faint small", "middle", "%.0f", s)
	}
	y := top
	group := func(name string) {
		c.text(20, y+17, "group", "start", "%s", name)
		y += row
	}
	group("Today")
	for i, r := range results {
		if r.ours && !results[max(0, i-1)].ours {
			group("With redis-is-master")
		}
		c.row(r, y, at, longest)
		y += row
	}
	c.text(20, bottom+15, "faint small", "start", "seconds, median of %d", failovers)
	c.text(20, height-14, "faint small", "start",
		"* with --failover-on-crash, which is opt-in: a forced failover asks nobody's consent but ours")
	fmt.Fprint(c, "</svg>\n")
	return c.Bytes()
}

func (c *canvas) row(r *result, y float64, at func(float64) float64, longest float64) {
	class := "today"
	if r.ours {
		class = "ours"
	}
	base := y + 17
	c.text(32, base, "", "start", "%s", r.name)
	if len(r.killWrite.all) == 0 {
		c.text(left+4, base, "faint", "start", "failed")
		return
	}
	promoted, write, slowest := quantile(r.role.all, 0.5), quantile(r.killWrite.all, 0.5), quantile(r.killWrite.all, 1)
	c.bar(at(0), at(promoted), y+6, "wait")
	c.bar(at(promoted), max(at(write), at(promoted)+2), y+6, class)
	middle := y + 6 + bar/2.0
	if at(slowest) > at(write)+2 {
		c.line(at(write), middle, at(slowest), middle, "slowest")
		c.line(at(slowest), middle-3.5, at(slowest), middle+3.5, "slowest")
	}
	c.text(wrongs-16, base, "", "end", "%.2f", write/1000)

	wrong := r.worstWrong()
	to := wrongs + (end-wrongs)*wrong/longest
	c.bar(wrongs, max(to, wrongs+1), y+6, "wrong")
	c.text(max(to, wrongs+1)+6, base, "", "start", "%.1f", wrong/1000)
	c.text(width-20, base, "", "end", "%.0f", r.worstLost())
}
