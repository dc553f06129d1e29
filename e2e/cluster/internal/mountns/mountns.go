// Package mountns hides the shared folders of a Kubernetes node.
//
// containerd, runc and the kubelet have paths outside of any configuration
// (/run/containerd, /var/lib/kubelet/device-plugins, /var/log/containers …).
// In the cluster's mount namespace these are private and vanish with it; all
// else is the host's.
package mountns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// private lists, by folder, the entries that are the cluster's own.
var private = []struct {
	folder  string
	entries []string
}{
	{"/run", []string{"containerd", "netns", "runc", "cni"}},
	{"/var/lib", []string{"cni", "kubelet", "containerd"}},
	{"/var/log", []string{"containers", "pods"}},
}

// KubeletFolder is the kubelet's own folder in the node's mount namespace. At
// its usual place, the sockets in it have short enough paths anywhere.
const KubeletFolder = "/var/lib/kubelet"

// Setup turns the new mount namespace of the calling process, the first in its
// PID namespace or a child of it, into the node's. The folder kubelet becomes
// the KubeletFolder.
func Setup(kubelet string) error {
	// Changes of the host come in, ours do not get out; "shared" below it,
	// since the kubelet offers that to pods.
	for _, flag := range []uintptr{unix.MS_SLAVE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", flag|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("set mount propagation: %w", err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, p := range private {
		if err := shadow(p.folder, p.entries); err != nil {
			return fmt.Errorf("make %v below %s private: %w", p.entries, p.folder, err)
		}
	}
	if err := unix.Mount(kubelet, KubeletFolder, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the kubelet's folder: %w", err)
	}
	return nil
}

// shadow replaces a folder by one of our own in which every entry is the old
// one, except for some that are new, empty folders. Nothing is created on the
// host for it, not even a mount point.
func shadow(folder string, own []string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	old, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer old.Close()
	entries, err := old.ReadDir(-1)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for _, name := range own {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("/proc/self/fd/%d", old.Fd())
	for _, entry := range entries {
		if slices.Contains(own, entry.Name()) {
			continue
		}
		if err := keep(filepath.Join(source, entry.Name()), filepath.Join(folder, entry.Name()), entry.Type()); err != nil {
			return err
		}
	}
	return nil
}

// keep makes target what source is: the same link, or the same file or folder
// by a bind mount.
func keep(source, target string, kind os.FileMode) error {
	switch {
	case kind&os.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case kind.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		file, err := os.Create(target)
		if err != nil {
			return err
		}
		file.Close()
	}
	err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.ENOENT) {
		return os.Remove(target) // gone since the folder was read
	}
	return err
}
