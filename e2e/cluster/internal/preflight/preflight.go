// Package preflight tells whether this machine can run pods, and if not, in
// one line, why and what to do.
package preflight

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pgexport.dev/e2e/cluster/internal/cgroup"
	"pgexport.dev/e2e/cluster/internal/state"
)

// instead is the way out where this machine cannot be changed.
const instead = "or use a cluster you have: USE_EXISTING_CLUSTER=1 KUBECONFIG=…"

// commands maps the programs a cluster needs to the Debian packages they are in.
var commands = []struct{ command, pack string }{
	{"containerd", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{"catatonit", "catatonit"},
	{"mount", "mount"},
}

// pluginFolders are where distributions put the network plugins.
var pluginFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// plugins are the network plugins in use.
var plugins = []string{"bridge", "host-local", "loopback"}

// Check looks for all that a cluster in the folder dir needs of the machine.
// It leaves nothing behind but the (empty) folder.
func Check(dir state.Dir) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("pods need Linux, this is %s: run this on Linux, %s", runtime.GOOS, instead)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("pods need root: run this with sudo, %s", instead)
	}
	if missing := missingPackages(exec.LookPath); len(missing) > 0 {
		return fmt.Errorf("programs are missing: apt-get install --no-install-recommends %s, %s", strings.Join(missing, " "), instead)
	}
	if err := dir.Create(); err != nil {
		return err
	}
	if err := space(dir.Path()); err != nil {
		return fmt.Errorf("%w: remove what is not needed, or choose another folder by PGEXPORT_STATE, %s", err, instead)
	}
	if err := cgroups(dir.Name()); err != nil {
		return fmt.Errorf("control groups cannot be made (%w): run outside of this container or as a privileged one, %s", err, instead)
	}
	if err := namespaces(dir); err != nil {
		return fmt.Errorf("%w: load the kernel module or leave this container, %s", err, instead)
	}
	return nil
}

// Plugins returns the folder that has all network plugins, or "".
func Plugins() string {
	for _, folder := range pluginFolders {
		if hasAll(folder, plugins) {
			return folder
		}
	}
	return ""
}

func hasAll(folder string, names []string) bool {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// missingPackages returns the packages of those programs that cannot be found.
func missingPackages(find func(string) (string, error)) []string {
	var missing []string
	seen := make(map[string]bool)
	add := func(pack string) {
		if !seen[pack] {
			seen[pack] = true
			missing = append(missing, pack)
		}
	}
	for _, c := range commands {
		if _, err := find(c.command); err != nil {
			add(c.pack)
		}
	}
	if Plugins() == "" {
		add("containernetworking-plugins")
	}
	return missing
}

// space looks for room for images, volumes and what tests deliver, above the
// hundredth of the disk at which the kubelet evicts pods, the operator's too.
func space(folder string) error {
	const wanted = 6 << 30 // bytes
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return fmt.Errorf("the free space of %s cannot be read (%w)", folder, err)
	}
	size := uint64(disk.Bsize) // bytes
	if free, needed := disk.Bavail*size, disk.Blocks*size/100+wanted; free < needed {
		return fmt.Errorf("the disk of %s has %.1f GiB free of the %.1f GiB that are needed", folder, gib(free), gib(needed))
	}
	return nil
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }

// cgroups tries to make a group, unless the cluster has one.
func cgroups(name string) error {
	if cgroup.Exists(name) {
		return nil
	}
	return errors.Join(cgroup.Create(name), cgroup.Remove(name))
}

// namespaces tries what the node's network and its containers need, on a
// thread whose namespaces end with it.
func namespaces(dir state.Dir) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- errors.Join(network(), overlay(dir.Path()))
	}()
	return <-done
}

func network() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("no network namespace (%w)", err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}}); err != nil {
		return fmt.Errorf("no network bridge (%w)", err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe1"}, PeerName: "probe2"}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("no veth devices (%w)", err)
	}
	return nil
}

func overlay(folder string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("no mount namespace (%w)", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	probe, err := os.MkdirTemp(folder, ".probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(probe)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(probe, name), 0o755); err != nil {
			return err
		}
	}
	merged := filepath.Join(probe, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", probe)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("no overlay file system in %s (%w)", folder, err)
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}
