package forward

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"pgexport.dev/e2e/cluster/internal/state"
)

// Ports maps ports of servers in the cluster's network to ports of 127.0.0.1
// on the host; 0 asks for any free one.
type Ports map[int]int

// PortsFile is where a cluster's ports are kept, wanted ones and open ones.
func PortsFile(dir state.Dir) string { return dir.Path("ports.json") }

// ReadPorts returns the ports of a cluster.
func ReadPorts(dir state.Dir) (Ports, error) {
	ports := make(Ports)
	return ports, state.ReadJSON(PortsFile(dir), &ports)
}

// Write keeps the ports of a cluster.
func (p Ports) Write(dir state.Dir) error { return state.WriteJSON(PortsFile(dir), p) }

// Want adds those ports that are not there yet and says whether there were
// any.
func (p Ports) Want(ports []int) (added bool) {
	for _, port := range ports {
		if _, known := p[port]; !known {
			p[port] = 0
			added = true
		}
	}
	return added
}

// Open says whether every port has its place on the host.
func (p Ports) Open() bool {
	for _, host := range p {
		if host == 0 {
			return false
		}
	}
	return true
}

// Address is where the host finds the server on this port.
func (p Ports) Address(port int) string { return Local(p[port]) }

// Local is an address of this host that no other machine reaches.
func Local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Listen opens a port of the host, the wanted one if it is free.
func Listen(wanted int) (net.Listener, int, error) {
	listener, err := net.Listen("tcp", Local(wanted))
	if err != nil && wanted != 0 {
		listener, err = net.Listen("tcp", Local(0))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open a port of the host: %w", err)
	}
	return listener, listener.Addr().(*net.TCPAddr).Port, nil
}

// Published lists the servers' ports but one in order.
func (p Ports) Published(but int) []int {
	var ports []int
	for port := range p {
		if port != but {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports
}
