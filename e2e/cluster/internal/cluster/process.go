package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pgexport.dev/e2e/cluster/internal/state"
)

// process is a process of the host that was started earlier. Its start time
// tells it from a later one with the same number.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // ticks since boot
	Boot  string `json:"boot"`
}

// supervisorFile keeps the first process of the cluster's PID namespace.
func (c *Cluster) supervisorFile() string { return c.dir.Path("supervisor.json") }

// supervisor returns the cluster's first process, dead or alive, or the zero
// value if there never was one.
func (c *Cluster) supervisor() process {
	var p process
	if err := state.ReadJSON(c.supervisorFile(), &p); err != nil {
		return process{} // half a record is of a process that never started
	}
	return p
}

// identify describes a running process.
func identify(pid int) (process, error) {
	start, err := startTime(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := state.BootID()
	return process{PID: pid, Start: start, Boot: boot}, err
}

// alive says whether the process runs. A zombie does not.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	boot, err := state.BootID()
	if err != nil || boot != p.Boot {
		return false
	}
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

// kill ends the process and waits until it is gone, which for the first
// process of a PID namespace means: all of them.
func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the supervisor: %w", err)
	}
	for deadline := time.Now().Add(20 * time.Second); p.alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", p.PID)
		}
	}
	return nil
}

// startTime returns when a process started, in ticks since boot, or an error
// if it has ended.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	return parseStartTime(string(stat))
}

// parseStartTime reads field 22 of /proc/PID/stat (proc(5)); field 2, the name,
// may contain anything and ends with the last parenthesis.
func parseStartTime(stat string) (string, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const state, start = 3 - 3, 22 - 3
	if len(fields) <= start {
		return "", fmt.Errorf("unexpected process status %q", stat)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return "", os.ErrProcessDone
	}
	return fields[start], nil
}
