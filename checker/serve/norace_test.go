//go:build !race

package serve_test

const slowdown = 1
