package serve

import (
	"fmt"
	"html"
	"strings"
)

// render writes the page by hand: html/template keeps the linker from leaving
// out any method of any type, which nearly doubles the daemon.
func (v view) render() string {
	var b markup
	b.put(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="2"></noscript>
<link rel="icon" href="data:,">
<title>%s %s: %s %s</title>
<style>`, v.Mark, v.Word, v.Host, v.Address)
	b.WriteString(pageCSS)
	b.put(`</style>
</head>
<body>
<header><span><b>%s</b> %s</span><span id="version" data-live>redis-is-masterd %s</span></header>
<p id="lost" role="alert">The daemon has not answered for <span id="silence">0</span> s. What is below is no longer known.</p>
<main>
<section id="answer" data-live class="answer %s" aria-live="polite">
<h1>%s</h1>
<p class="reason"><code>%s</code> %s</p>
`, v.Host, v.Address, v.Version, v.Tone, v.Word, v.Reason, v.Detail)
	b.with(`<p>%s</p>`, v.Hint)
	b.put(`
</section>
<section id="age" data-live>
<dl class="tiles">
<div><dt>known</dt><dd>%s ago</dd></div>
`, v.Age)
	b.with(`<div><dt>this answer stands for</dt><dd>%s</dd></div>`, v.Since)
	b.put("\n")
	b.with(`<div><dt>the last check alone</dt><dd><code>%s</code></dd></div>`, v.LastCheck)
	b.put("\n")
	b.with(`<div><dt>what failed</dt><dd>%s</dd></div>`, v.Stage)
	for _, text := range v.VIP {
		b.put("\n<div><dt>VIP</dt><dd>%s</dd></div>", text)
	}
	b.put(`
<div><dt>answers since the start</dt><dd>%s</dd></div>
</dl>
</section>
<section id="strips" data-live>
<h2>States</h2>
`, v.Counts)
	for _, s := range v.Strips {
		b.put(`<div class="strip">
<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="states of the last %s">
`, s.Span)
		for _, p := range s.Parts {
			b.put(`<rect class="%s" x="%s" y="0" width="%s" height="10"><title>%s, %s, from %s</title></rect>
`, p.Tone, p.X, p.Width, p.Reason, p.Lasted, p.From)
		}
		b.put(`</svg>
<div class="scale"><span>%s ago</span><span>now</span></div>
</div>
`, s.Span)
	}
	b.put(`<ul class="key"><li><span class="dot yes"></span>%s</li><li><span class="dot no"></span>another role</li><li><span class="dot held"></span>held back</li><li><span class="dot unknown"></span>unknown</li><li><span class="dot"></span>not recorded</li></ul>
</section>
<div class="pair">
<section id="rules" data-live>
<h2>Rules</h2>
<p class="soft">%s</p>
`, v.Yes, v.Decided)
	v.rules(&b)
	b.put(`
</section>
<section id="node" data-live>
<h2>What the node says</h2>
`)
	if len(v.Facts) > 0 {
		b.facts(v.Facts)
	} else {
		b.put(`<p class="soft">It gave no answer that can be trusted.</p>`)
	}
	b.put(`
</section>
</div>
<div id="sentinels" data-live>`)
	for _, s := range v.Sentinels {
		b.put("<section>\n<h2>%s</h2>\n", s.Name)
		b.value(s)
		b.put("\n</section>")
	}
	b.put(`</div>
<section id="transitions" data-live>
<h2>Transitions</h2>
`)
	v.transitions(&b)
	b.put(`
</section>
</main>
<footer><span><a href="/status">status</a> <a href="/metrics">metrics</a> <a href="/healthz">healthz</a></span><span id="clock" data-live>%s</span></footer>
<script>`, v.Now)
	b.WriteString(pageJS)
	b.put("</script>\n</body>\n</html>\n")
	return b.String()
}

func (v view) rules(b *markup) {
	if len(v.Rules) == 0 {
		return
	}
	b.put(`<div class="scroll"><table>` + "\n")
	for _, r := range v.Rules {
		class, decided := r.State, ""
		if r.Decided {
			class, decided = class+" decided", " (decided)"
		}
		if r.Detail == "" {
			r.Detail = r.State
		}
		b.put(`<tr class="%s"><td class="mark">%s</td><td class="nowrap"><code>%s</code></td><td>%s%s</td></tr>`+"\n", class, r.Mark, r.Reason, r.Detail, decided)
	}
	b.put(`</table></div>`)
}

func (v view) transitions(b *markup) {
	if len(v.Transitions) == 0 {
		b.put(`<p class="soft">None since the start.</p>`)
		return
	}
	b.put(`<div class="scroll"><table class="stack">
<thead><tr><th>when</th><th>what</th><th>after</th><th>why</th></tr></thead>
`)
	for _, t := range v.Transitions {
		b.put(`<tr><td class="nowrap">%s</td><td class="nowrap"><span class="dot %s"></span><code>%s</code> &rarr; <span class="dot %s"></span><code>%s</code></td><td class="nowrap after">%s</td><td>%s</td></tr>
`, t.When, t.FromTone, t.From, t.ToTone, t.To, t.After, t.Why)
	}
	b.put(`</table></div>`)
}

// markup is HTML in the making.
type markup struct{ strings.Builder }

// put adds a format whose arguments are text, in an element or a quoted
// attribute: all of them are escaped.
func (b *markup) put(format string, text ...string) {
	escaped := make([]any, len(text))
	for i, s := range text {
		escaped[i] = html.EscapeString(s)
	}
	fmt.Fprintf(b, format, escaped...)
}

// with is put where there is text.
func (b *markup) with(format, text string) {
	if text != "" {
		b.put(format, text)
	}
}

func (b *markup) facts(all []value) {
	b.put("<dl>")
	for _, f := range all {
		class := ""
		if len(f.Table) > 0 {
			class = ` class="whole"`
		}
		b.put("<dt"+class+">%s</dt><dd"+class+">", f.Name)
		b.value(f)
		b.put("</dd>")
	}
	b.put("</dl>")
}

func (b *markup) value(v value) {
	switch {
	case len(v.Table) > 0:
		b.put(`<div class="scroll"><table class="data"><thead><tr>`)
		for _, c := range v.Columns {
			b.put("<th>%s</th>", c)
		}
		b.put("</tr></thead><tbody>\n")
		for _, row := range v.Table {
			b.put("<tr>")
			for _, cell := range row {
				b.put("<td>")
				b.value(cell)
				b.put("</td>")
			}
			b.put("</tr>\n")
		}
		b.put("</tbody></table></div>")
	case len(v.Facts) > 0:
		b.facts(v.Facts)
	default:
		b.put("%s", v.Text)
	}
}
