// Floor is the least that a Go program which can open a connection costs.
package main

import _ "net" // linked and initialised, never used

func main() {}
