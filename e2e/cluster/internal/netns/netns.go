// Package netns keeps the cluster's private network: a network namespace
// without any way out of the machine, kept alive by a mount on a file, with a
// bridge for the node's address and the API server's.
package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses inside the network. The API server is bound to its own service
// address, so pods reach it without kube-proxy.
const (
	Bridge      = "pgexport0"
	NodeAddress = "10.88.0.1"
	PodNetwork  = "10.88.0.0/24"
	APIAddress  = "10.96.0.1"
	Services    = "10.96.0.0/24"
)

// bridgeMAC is fixed: a bridge without its own address changes it as ports
// come and go, and pods would wait for ARP entries to expire.
var bridgeMAC = net.HardwareAddr{0x0a, 0x58, 10, 88, 0, 1}

// Ensure creates the namespace pinned at the file pin, if it is not there, and
// gives it its loopback device, bridge and addresses.
func Ensure(pin string) error {
	if !Pinned(pin) {
		if err := create(pin); err != nil {
			return fmt.Errorf("create the network namespace: %w", err)
		}
	}
	return Do(pin, configure)
}

// Pinned says whether a namespace is mounted on the file.
func Pinned(pin string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(pin, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// Remove unpins the namespace; it ends with its last process.
func Remove(pin string) error {
	for Pinned(pin) {
		if err := unix.Unmount(pin, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", pin, err)
		}
	}
	// Unlinking also detaches copies of the mount in other mount namespaces.
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Enter moves the calling thread into the namespace. The goroutine must be
// locked to its thread.
func Enter(pin string) error {
	file, err := os.Open(pin)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", pin, err)
	}
	return nil
}

// Do runs f on a thread inside the namespace. Sockets and processes that f
// makes belong to the namespace; goroutines it starts do not.
func Do(pin string, f func() error) error {
	return onThread(func() error {
		if err := Enter(pin); err != nil {
			return err
		}
		return f()
	})
}

// Processes returns the processes in the namespace, without the caller.
func Processes(pin string) ([]int, error) {
	var want, got unix.Stat_t
	if err := unix.Stat(pin, &want); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that has just gone is not in the namespace.
		if unix.Stat(filepath.Join("/proc", entry.Name(), "ns/net"), &got) == nil &&
			got.Dev == want.Dev && got.Ino == want.Ino {
			found = append(found, pid)
		}
	}
	return found, nil
}

// onThread runs f on a thread of its own that ends with it, so whatever f does
// to its thread's namespaces hurts nobody.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		done <- f()
	}()
	return <-done
}

func create(pin string) error {
	file, err := os.OpenFile(pin, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		return unix.Mount(self, pin, "", unix.MS_BIND, "")
	})
}

// configure brings up the devices of the namespace of the calling thread.
func configure() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge, HardwareAddr: bridgeMAC}}
	if err := netlink.LinkAdd(bridge); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("create bridge %s: %w", Bridge, err)
	}
	link, err := netlink.LinkByName(Bridge)
	if err != nil {
		return err
	}
	// The API server's address is alone in its network: other service
	// addresses have no route and fail at once instead of waiting for ARP.
	for _, address := range []string{NodeAddress + "/24", APIAddress + "/32"} {
		parsed, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(link, parsed); err != nil {
			return fmt.Errorf("add %s to %s: %w", address, Bridge, err)
		}
	}
	return netlink.LinkSetUp(link)
}
