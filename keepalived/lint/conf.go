package lint

import (
	"path/filepath"
	"strings"
)

// Bounds of what is read, so that a file which includes or defines itself
// comes to an end.
const (
	maxDepth = 16
	maxLines = 40_000 // and statements
	maxLine  = 1 << 14
)

// A place is a line of a configuration file.
type place struct {
	file string
	line int
}

// A statement is one line of a keepalived configuration, and the block that
// follows it.
type statement struct {
	place
	raw   string
	words []string
	block []*statement
	open  bool // it has a block, and no other can follow
}

// word is the word i of a statement, or "".
func (s *statement) word(i int) string {
	if s == nil || i >= len(s.words) {
		return ""
	}
	return s.words[i]
}

// all are the statements of a block that begin with one of the names.
func (s *statement) all(names ...string) (found []*statement) {
	for _, b := range s.block {
		for _, n := range names {
			if b.word(0) == n {
				found = append(found, b)
			}
		}
	}
	return found
}

// last is the last statement of a block that begins with name, or nil.
func (s *statement) last(name string) *statement {
	if all := s.all(name); len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// A parser reads a configuration as keepalived 2.2.7 does (lib/parser.c). A
// line that begins with @name is for some hosts; it is read as if for all.
type parser struct {
	host        Host
	report      func(at place, text string)
	stack       []*statement
	definitions map[string]string
	multiline   string // the definition that goes on in the next line
	lines       int
	cut         bool
}

func parse(host Host, file string, report func(place, string)) (*statement, error) {
	p := &parser{host: host, report: report, stack: []*statement{{}}, definitions: make(map[string]string)}
	b, err := host.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p.file(file, b, 0)
	return p.stack[0], nil
}

func (p *parser) file(name string, content []byte, depth int) {
	at := place{file: name}
	for text := range strings.Lines(string(content)) {
		at.line++
		text = uncomment(strings.TrimRight(text, "\r\n"))
		if p.multiline == "" && text == "" {
			continue
		}
		p.line(at, text, depth)
	}
}

// uncomment removes a comment and the blanks around the rest.
func uncomment(s string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+1 < len(s):
			i++
			if quoted || s[i] != '#' && s[i] != '!' {
				b.WriteByte(c)
			}
		case !quoted && (c == '#' || c == '!'):
			return strings.Trim(b.String(), " \t")
		}
		b.WriteByte(s[i])
	}
	return strings.Trim(b.String(), " \t")
}

// line takes one line, without its comment: a part of a definition, an
// include, or statements.
func (p *parser) line(at place, text string, depth int) {
	if p.lines++; p.lines > maxLines || depth > maxDepth || len(text) > maxLine {
		if !p.cut {
			p.cut = true
			p.report(at, "from here on this is too long, or too deeply nested, to be checked: make it simpler")
		}
		return
	}
	if p.multiline != "" {
		more, goesOn := strings.CutSuffix(text, "\\")
		if total := p.definitions[p.multiline] + "\n" + strings.TrimRight(more, " \t"); len(total) <= maxLine {
			p.definitions[p.multiline] = total
		}
		if !goesOn {
			p.multiline = ""
		}
		return
	}
	for strings.HasPrefix(text, "@") {
		_, rest, found := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		if !found {
			return
		}
		text = strings.TrimLeft(rest, " ")
	}
	if name, value, found := strings.Cut(text, "="); found && strings.HasPrefix(name, "$") && isName(name[1:]) {
		value, goesOn := strings.CutSuffix(strings.TrimLeft(value, " \t"), "\\")
		p.definitions[name[1:]] = strings.TrimRight(value, " \t")
		if goesOn {
			p.multiline = name[1:]
		}
		return
	}
	if replaced := p.substitute(text); replaced != text {
		for part := range strings.SplitSeq(replaced, "\n") {
			p.line(at, uncomment(part), depth+1)
		}
		return
	}
	if len(text) > 7 && strings.HasPrefix(text, "include") {
		rest := text[7:]
		if strings.IndexByte("rmwba", rest[0]) >= 0 {
			rest = rest[1:]
		}
		if pattern := strings.TrimLeft(rest, " \t"); pattern != rest {
			p.include(at, pattern, depth+1)
			return
		}
	}
	p.statements(at, text)
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// substitute replaces each ${NAME}, and each $NAME that a blank or the end of
// the line follows, once. What becomes longer than maxLine is not finished.
func (p *parser) substitute(text string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, rest := after, ""
		if i := strings.IndexAny(after, " \t"); i >= 0 {
			name, rest = after[:i], after[i:]
		}
		if braced, behind, closed := strings.Cut(after, "}"); closed && strings.HasPrefix(braced, "{") {
			name, rest = braced[1:], behind
		}
		value, defined := p.definitions[name]
		if !defined {
			b.WriteByte('$')
			text = after
			continue
		}
		if b.Len()+len(value)+len(rest) > maxLine {
			return b.String() + value + rest
		}
		b.WriteString(value)
		text = rest
	}
}

// include reads the files of an include directive. Keepalived passes over
// those that are not there.
func (p *parser) include(at place, pattern string, depth int) {
	if words := splitWords(pattern); len(words) > 0 {
		pattern = words[0]
	}
	if depth > maxDepth {
		p.report(at, "this include is nested too deeply to be followed: does a file include itself?")
		return
	}
	if strings.Contains(pattern, "{") {
		p.report(at, "braces in an include are not understood here, so what it includes is unchecked: "+
			"write one include for each")
		return
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.file), pattern)
	}
	files := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		files, _ = p.host.Glob(pattern)
	}
	for _, f := range files {
		b, err := p.host.ReadFile(f)
		if err != nil {
			p.report(at, "keepalived cannot read "+f+", and ignores it: make it readable, or remove the include")
			continue
		}
		p.file(f, b, depth)
	}
}

// statements splits a line at the braces that are not in double quotes.
func (p *parser) statements(at place, text string) {
	begin, quoted := 0, false
	for i := 0; i <= len(text); i++ {
		if i < len(text) && text[i] == '"' {
			quoted = !quoted
		}
		if i < len(text) && (quoted || text[i] != '{' && text[i] != '}') {
			continue
		}
		top := p.stack[len(p.stack)-1]
		if raw := strings.Trim(text[begin:i], " \t"); raw != "" {
			p.lines++
			top.block = append(top.block, &statement{place: at, raw: raw, words: splitWords(raw)})
		}
		begin = i + 1
		switch {
		case i == len(text):
		case text[i] == '{':
			n := len(top.block)
			if n == 0 || top.block[n-1].open {
				p.lines++
				top.block = append(top.block, &statement{place: at})
				n++
			}
			top.block[n-1].open = true
			p.stack = append(p.stack, top.block[n-1])
		case len(p.stack) > 1:
			p.stack = p.stack[:len(p.stack)-1]
		}
	}
}

// splitWords splits at blanks; a part in double quotes is one word.
func splitWords(s string) (words []string) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return words
		}
		end := strings.IndexAny(s, " \t\"")
		skip := 0
		if s[0] == '"' {
			s, skip = s[1:], 1
			end = strings.IndexByte(s, '"')
		}
		if end < 0 {
			return append(words, s)
		}
		words = append(words, s[:end])
		s = s[end+skip:]
	}
}

// splitQuoted splits a line with a script at the blanks that are not in
// single or double quotes, and removes quotes and backslashes.
func splitQuoted(s string) (words []string) {
	var word strings.Builder
	var quote byte
	within := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			within = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, within = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if within {
				words = append(words, word.String())
				word.Reset()
				within = false
			}
		default:
			word.WriteByte(c)
			within = true
		}
	}
	if within {
		words = append(words, word.String())
	}
	return words
}
