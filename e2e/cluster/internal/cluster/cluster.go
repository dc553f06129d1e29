// Package cluster starts, runs and stops one cluster.
//
// One process, the supervisor, owns it. It runs below catatonit, the first
// process of a PID namespace: when either ends, for whatever reason, the kernel
// ends all the others and takes the mounts with them. Only the network
// namespace is kept by a mount on a file, so that servers which tests started
// in it outlive the supervisor.
package cluster

import (
	"errors"
	"fmt"
	"os"

	"pgexport.dev/e2e/cluster/internal/api"
	"pgexport.dev/e2e/cluster/internal/forward"
	"pgexport.dev/e2e/cluster/internal/image"
	"pgexport.dev/e2e/cluster/internal/netns"
	"pgexport.dev/e2e/cluster/internal/program"
	"pgexport.dev/e2e/cluster/internal/state"
)

// apiPort is the API server's port in the cluster's network.
const apiPort = 443

// ErrDown says that there is no running cluster.
var ErrDown = errors.New("the cluster is not up: run \"cluster up\"")

// Cluster is the cluster whose files are in one folder.
type Cluster struct{ dir state.Dir }

// In returns the cluster in a folder.
func In(dir state.Dir) *Cluster { return &Cluster{dir} }

// pin is the file that keeps the network namespace.
func (c *Cluster) pin() string { return c.dir.Path("network") }

// client returns a client of the API server by way of the host's port.
func (c *Cluster) client() (*api.Client, error) {
	ports, err := forward.ReadPorts(c.dir)
	if err != nil {
		return nil, err
	}
	if ports[apiPort] == 0 {
		return nil, errors.New("the supervisor has not opened its ports yet")
	}
	return api.New(ports.Address(apiPort), c.dir.Path("pki"))
}

// Kubeconfig returns the administrator's kubeconfig of the running cluster.
func (c *Cluster) Kubeconfig() (string, error) {
	if !c.supervisor().alive() {
		return "", ErrDown
	}
	return c.dir.Kubeconfig(), nil
}

// Load imports image archives, and reports on each.
func (c *Cluster) Load(archives []string, report func(string, ...any)) error {
	unlock, err := c.dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, archive := range archives {
		references, imported, err := c.load(archive)
		if err != nil {
			return err
		}
		verb := "already loaded"
		if imported {
			verb = "loaded"
		}
		for _, reference := range references {
			report("%s %s", verb, reference)
		}
	}
	return nil
}

// load imports one archive. containerd's socket is in a folder that only the
// cluster's mount namespace has; the first process lends its view.
func (c *Cluster) load(archive string) (references []string, imported bool, err error) {
	supervisor := c.supervisor()
	if !supervisor.alive() {
		return nil, false, ErrDown
	}
	socket := fmt.Sprintf("/proc/%d/root%s", supervisor.PID, program.ContainerdSocket)
	return image.Load(archive, socket, c.dir.Path("images.json"))
}

// Enter moves the calling thread into the cluster's network. The goroutine
// must be locked to its thread.
func (c *Cluster) Enter() error {
	if !c.supervisor().alive() {
		return ErrDown
	}
	return netns.Enter(c.pin())
}

// Environment returns what a shell needs to use the running cluster.
func (c *Cluster) Environment() ([]string, error) {
	if !c.supervisor().alive() {
		return nil, ErrDown
	}
	ports, err := forward.ReadPorts(c.dir)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"KUBECONFIG=" + c.dir.Kubeconfig(),
		"API_SERVER=https://" + ports.Address(apiPort),
		"NODE_ADDRESS=" + netns.NodeAddress,
	}
	for _, port := range ports.Published(apiPort) {
		lines = append(lines, fmt.Sprintf("PUBLISHED_%d=%s", port, ports.Address(port)))
	}
	return lines, nil
}

// removeIfThere removes a file that may be missing.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
