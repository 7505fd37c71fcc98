// Redis-is-master tells by its exit code whether a Redis node is the
// replication master.
//
// It lives for two milliseconds, and so need not ask its cgroup how many cores
// it may use.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import "redis-is-master/cmd/internal/oneshot"

func main() { oneshot.Main() }
