// Man makes the manual pages and the completions of bash, zsh and fish from
// what the built commands say of their flags, and from the README's tables:
// there is nothing of its own in it that could drift. Run it by make man.
package main

import (
	"flag"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	bin := flag.String("bin", "bin", "directory with the built commands")
	root := flag.String("root", ".", "directory of the README and the pages' text")
	out := flag.String("out", "bin/man", "directory to write to")
	flag.Parse()
	if err := os.MkdirAll(*out, 0o755); err != nil {
		log.Fatal("man: ", err)
	}
	if err := write(*bin, *root, *out); err != nil {
		log.Fatal("man: ", err)
	}
}
