package checker_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"redis-is-master/checker"
)

// A program that acts only while the local node is the master.
func Example() {
	node := &checker.Redis{
		Network:  "unix",
		Address:  "/nonexistent/redis.sock",
		Username: "vipcheck",
		Password: func(context.Context) (string, error) {
			p, err := os.ReadFile("/dev/stdin")
			return strings.TrimSpace(string(p)) + "secret", err
		},
	}
	defer node.Close()

	check := checker.Run(context.Background(), checker.DefaultTimeout, node.Probe, checker.Policy{AllowUnconfirmed: true})
	fmt.Println(check.Verdict.Answer(), check.Verdict.Reason)
	if check.Verdict.Answer() == checker.Yes {
		fmt.Println("this node is the master")
	}
	// Output: unknown refused
}
