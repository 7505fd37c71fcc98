// Demo shows the check on a real master and a real replica, and on what goes
// wrong with them: run it by make demo.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"redis-is-master/e2e/lab"
)

func main() {
	log.SetFlags(0)
	bin := flag.String("bin", "bin", "directory with the built commands")
	flag.Parse()
	if err := demo(*bin); err != nil {
		log.Fatal("demo: ", err)
	}
}

func demo(bin string) error {
	check, err := filepath.Abs(filepath.Join(bin, "redis-is-master"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const password = "a password of the demo"
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Println("Two Redis servers with a password: a master, and a replica that follows it.")
	master, err := lab.StartRedis(lab.Options{TCP: true, Password: password})
	if err != nil {
		return err
	}
	defer master.Close()
	replica, err := lab.StartRedis(lab.Options{TCP: true, Password: password, Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}})
	if err != nil {
		return err
	}
	defer replica.Close()
	if err := replica.Until("master_link_status:up", "INFO", "replication"); err != nil {
		return err
	}
	if err := master.Until("state=online", "INFO", "replication"); err != nil {
		return err
	}

	show := func(title string, want int, r *lab.Redis, args ...string) error {
		args = append([]string{"-p", strconv.Itoa(r.Port)}, args...)
		fmt.Printf("\n# %s\n$ redis-is-master %s\n", title, strings.Join(args, " "))
		cmd := exec.Command(check, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stdout
		cmd.Env = []string{}
		cmd.Run()
		got := cmd.ProcessState.ExitCode()
		fmt.Printf("(exit code %d)\n", got)
		if got != want {
			return fmt.Errorf("exit code %d, want %d", got, want)
		}
		return nil
	}
	steps := []struct {
		title string
		want  int
		of    *lab.Redis
		args  []string
		first func() error
	}{
		{"The master: yes.", 0, master, []string{"--password-file", "password"}, nil},
		{"The replica: no.", 1, replica, []string{"--password-file", "password"}, nil},
		{"The same for Nagios.", 2, replica, []string{"--password-file", "password", "-o", "nagios"}, nil},
		{"Why, in full.", 0, master, []string{"--password-file", "password", "--explain"}, nil},
		{"Without the password nothing is known, and redis-cli would exit 0.", 2, master, nil, nil},
		{"The master hangs, and redis-cli would wait for ever.", 2, master, []string{"--password-file", "password"}, func() error { return master.Signal(syscall.SIGSTOP) }},
		{"The master is dead, the replica is promoted.", 0, replica, []string{"--password-file", "password"}, func() error {
			master.Kill()
			_, err := replica.Do("REPLICAOF", "NO", "ONE")
			return err
		}},
		{"And the dead one.", 2, master, []string{"--password-file", "password"}, nil},
	}
	for _, s := range steps {
		if s.first != nil {
			if err := s.first(); err != nil {
				return err
			}
		}
		if err := show(s.title, s.want, s.of, s.args...); err != nil {
			return err
		}
	}
	return nil
}
