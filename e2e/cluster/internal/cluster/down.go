package cluster

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"pgexport.dev/e2e/cluster/internal/cgroup"
	"pgexport.dev/e2e/cluster/internal/netns"
)

// farewell is how long servers that tests started in the cluster's network may
// take to end.
const farewell = 3 * time.Second

// Down stops the cluster and everything in its network, and removes all its
// data but the logs.
func (c *Cluster) Down() error {
	unlock, err := c.dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.supervisor().kill(); err != nil {
		return err
	}
	if netns.Pinned(c.pin()) {
		if err := c.emptyNetwork(); err != nil {
			return err
		}
	}
	if err := errors.Join(netns.Remove(c.pin()), cgroup.Remove(c.dir.Name())); err != nil {
		return err
	}
	return c.dir.Clear("lock", "logs")
}

// emptyNetwork ends the processes in the cluster's network, first politely.
func (c *Cluster) emptyNetwork() error {
	begin := time.Now()
	signal := unix.SIGTERM
	signalled := make(map[int]unix.Signal)
	for ; ; time.Sleep(20 * time.Millisecond) {
		pids, err := netns.Processes(c.pin())
		if err != nil || len(pids) == 0 {
			return err
		}
		switch waited := time.Since(begin); {
		case waited > 2*farewell:
			return fmt.Errorf("processes %v do not end", pids)
		case waited > farewell:
			signal = unix.SIGKILL
		}
		for _, pid := range pids {
			if signalled[pid] != signal {
				signalled[pid] = signal
				_ = unix.Kill(pid, signal) // it may have ended by itself
			}
		}
	}
}
