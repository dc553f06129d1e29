// Package cgroup keeps the control groups of the cluster's pods below a root
// of their own: a kubelet removes every pod group it does not know.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controllers are those the kubelet wants for its pods.
var controllers = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}

// Hierarchies returns the mount points of all control group hierarchies: those
// of version 1, the one of version 2, or all of them. Beside version 1 the
// latter has no controllers, but runc makes groups there nevertheless.
func Hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	found := hierarchies(string(mounts))
	if len(found) == 0 {
		return nil, errors.New("no control group hierarchy is mounted")
	}
	return found, nil
}

// hierarchies picks from the lines of /proc/self/mounts.
func hierarchies(mounts string) []string {
	var found []string
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") && strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			found = append(found, fields[1])
		}
	}
	return found
}

// Create makes the group name in every hierarchy.
func Create(name string) error {
	mounted, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range mounted {
		if err := os.MkdirAll(filepath.Join(hierarchy, name), 0o755); err != nil {
			return fmt.Errorf("create control group: %w", err)
		}
		enable(hierarchy)
	}
	return nil
}

// enable passes version 2's controllers on to children. Those the kernel does
// not have stay off; the kubelet says so if it needs one.
func enable(hierarchy string) {
	file := filepath.Join(hierarchy, "cgroup.subtree_control")
	for _, controller := range controllers {
		_ = os.WriteFile(file, []byte("+"+controller), 0)
	}
}

// Remove removes the group name and all below it from every hierarchy. The
// kernel lets go of a group a moment after its last process.
func Remove(name string) error {
	mounted, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range mounted {
		group := filepath.Join(hierarchy, name)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := removeTree(group)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove control group: %w", err)
			}
		}
	}
	return nil
}

// Exists says whether any hierarchy has the group.
func Exists(name string) bool {
	mounted, _ := Hierarchies()
	for _, hierarchy := range mounted {
		if _, err := os.Stat(filepath.Join(hierarchy, name)); err == nil {
			return true
		}
	}
	return false
}

// removeTree removes a group after those inside it. Its files cannot be
// removed and go with it.
func removeTree(group string) error {
	var groups []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if err := unix.Rmdir(groups[i]); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
