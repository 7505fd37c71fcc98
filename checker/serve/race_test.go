//go:build race

package serve_test

// slowdown is how many times slower the race detector makes a daemon.
const slowdown = 10
