package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"pgexport.dev/e2e/cluster/internal/netns"
)

// Status writes a table of the components and fails if the cluster cannot run
// pods.
func (c *Cluster) Status(ctx context.Context, out io.Writer) error {
	supervisor := c.supervisor()
	if !supervisor.alive() {
		return ErrDown
	}
	pids := c.hostPIDs()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COMPONENT\tPID\tUP\tEXITS\tLAST")
	fmt.Fprintf(table, "supervisor\t%d\t\t\t\n", supervisor.PID)
	for _, status := range c.status() {
		pid, up := "-", "-"
		if status.PID != 0 {
			pid, up = strconv.Itoa(pids[status.PID]), time.Since(status.Started).Round(time.Second).String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", status.Name, pid, up, status.Exits, status.Last)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	lines, err := c.Environment()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", strings.Join(lines, "\n"))
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Ready(ctx); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	if err := client.NodeReady(ctx, time.Time{}); err != nil {
		return fmt.Errorf("the node is not ready: %w", err)
	}
	return nil
}

// hostPIDs maps PIDs of the cluster's namespace to the host's.
func (c *Cluster) hostPIDs() map[int]int {
	found := make(map[int]int)
	processes, _ := netns.Processes(c.pin())
	for _, pid := range processes {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			continue
		}
		if inner, ok := innerPID(string(status)); ok {
			found[inner] = pid
		}
	}
	return found
}

// innerPID reads the line "NSpid: OUTER INNER" of /proc/PID/status: the PID in
// a namespace one below the host's.
func innerPID(status string) (int, bool) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 2 {
			return 0, false
		}
		pid, err := strconv.Atoi(fields[1])
		return pid, err == nil
	}
	return 0, false
}
