package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"pgexport.dev/e2e/cluster/internal/api"
	"pgexport.dev/e2e/cluster/internal/forward"
	"pgexport.dev/e2e/cluster/internal/mountns"
	"pgexport.dev/e2e/cluster/internal/netns"
	"pgexport.dev/e2e/cluster/internal/preflight"
	"pgexport.dev/e2e/cluster/internal/program"
	"pgexport.dev/e2e/cluster/internal/supervise"
)

// Serve is the supervisor. It returns only if it cannot do its work.
func (c *Cluster) Serve(ctx context.Context) error {
	if os.Getppid() != 1 || !netns.Pinned(fmt.Sprintf("/proc/self/fd/%d", hostNetwork)) {
		return errors.New("serve is for \"cluster up\" only")
	}
	if err := mountns.Setup(c.dir.Path("kubelet")); err != nil {
		return err
	}
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	syscall.CloseOnExec(hostNetwork)
	open := make(map[int]bool)
	if err := c.openPorts(open); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	supervisor := supervise.New(c.dir)
	for _, p := range program.All(c.dir, program.Host{Executable: executable, CNI: preflight.Plugins()}) {
		ready := func(context.Context) error { return nil }
		if p.NeedsAPI {
			ready = c.awaitAPI
		}
		supervisor.Go(ctx, p, ready)
	}
	for range hangUp {
		if err := c.openPorts(open); err != nil {
			log.Print(err)
		}
	}
	return nil
}

// openPorts opens those recorded ports on the host that are not open yet, and
// records which they became.
func (c *Cluster) openPorts(open map[int]bool) error {
	ports, err := forward.ReadPorts(c.dir)
	if err != nil {
		return err
	}
	for port, wanted := range ports {
		if open[port] {
			continue
		}
		var listener net.Listener
		err := netns.Do(fmt.Sprintf("/proc/self/fd/%d", hostNetwork), func() (err error) {
			listener, ports[port], err = forward.Listen(wanted)
			return err
		})
		if err != nil {
			return err
		}
		go forward.Serve(listener, target(port))
		open[port] = true
		log.Printf("127.0.0.1:%d leads to %s", ports[port], target(port))
	}
	return ports.Write(c.dir)
}

// target is where the server with this port is in the cluster's network.
func target(port int) string {
	host := netns.NodeAddress
	if port == apiPort {
		host = netns.APIAddress
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// awaitAPI returns when the API server is ready.
func (c *Cluster) awaitAPI(ctx context.Context) error {
	client, err := api.New(target(apiPort), c.dir.Path("pki"))
	if err != nil {
		return err
	}
	for client.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
