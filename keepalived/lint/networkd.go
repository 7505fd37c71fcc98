package lint

import (
	"path/filepath"
	"slices"
	"strings"
)

// networkd looks at whether systemd-networkd removes the VIP when it starts
// again: it removes what addresses it has not set itself.
func (l *linter) networkd(link *statement) {
	name := link.word(1)
	if name == "" {
		return
	}
	file := l.networkFile(name)
	if file == "" {
		return
	}
	keep := ""
	dropIns, _ := l.host.Glob(file + ".d/*.conf")
	if base := filepath.Base(file); !strings.HasPrefix(file, "/etc/") {
		more, _ := l.host.Glob("/etc/systemd/network/" + base + ".d/*.conf")
		dropIns = append(dropIns, more...)
	}
	for _, f := range append([]string{file}, dropIns...) {
		for _, value := range l.settings(f, "Network", "KeepConfiguration") {
			keep = value
		}
	}
	switch strings.ToLower(keep) {
	case "static", "yes", "true", "on", "1":
	default:
		l.hint(link.place, "systemd-networkd manages "+name+" by "+file+", and removes the VIP when it is restarted: "+
			"add KeepConfiguration=static to the section [Network]")
		l.topic(TopicNetworkd)
	}
}

// networkFile is the file by which systemd-networkd manages a link, as far as
// the name of the link tells: the first by its name, and one in /etc before one
// of the same name elsewhere.
func (l *linter) networkFile(link string) string {
	files := make(map[string]string)
	for _, dir := range []string{"/usr/lib", "/run", "/etc"} {
		found, _ := l.host.Glob(dir + "/systemd/network/*.network")
		for _, f := range found {
			files[filepath.Base(f)] = f
		}
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, patterns := range l.settings(files[name], "Match", "Name") {
			for _, p := range strings.Fields(patterns) {
				if ok, err := filepath.Match(p, link); ok && err == nil {
					return files[name]
				}
			}
		}
	}
	return ""
}

// settings are the values of a key in a section of a systemd file.
func (l *linter) settings(path, section, key string) (values []string) {
	text, err := l.host.ReadFile(path)
	if err != nil {
		return nil
	}
	within := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			within = line == "["+section+"]"
		}
		if name, value, found := strings.Cut(line, "="); within && found && strings.TrimSpace(name) == key {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}
