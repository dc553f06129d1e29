package cgroup

import (
	"slices"
	"testing"
)

func TestHierarchiesAreAllControlGroupMounts(t *testing.T) {
	const mounts = `proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
cgroup /var/elsewhere/memory cgroup rw,memory 0 0
`
	want := []string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"}
	if got := hierarchies(mounts); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
