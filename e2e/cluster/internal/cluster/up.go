package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"pgexport.dev/e2e/cluster/internal/certificate"
	"pgexport.dev/e2e/cluster/internal/cgroup"
	"pgexport.dev/e2e/cluster/internal/forward"
	"pgexport.dev/e2e/cluster/internal/image"
	"pgexport.dev/e2e/cluster/internal/netns"
	"pgexport.dev/e2e/cluster/internal/preflight"
	"pgexport.dev/e2e/cluster/internal/program"
	"pgexport.dev/e2e/cluster/internal/state"
)

// hostNetwork is the descriptor on which the supervisor is given the host's
// network namespace.
const hostNetwork = 3

// Up starts the cluster, or whatever of it is missing, and returns when pods
// can run and the ports are published. It reports its progress.
func (c *Cluster) Up(ctx context.Context, publish []int, report func(string, ...any)) error {
	if err := preflight.Check(c.dir); err != nil {
		return err
	}
	unlock, err := c.dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()

	begin := time.Now()
	verb := "already up"
	if c.supervisor().alive() {
		if err := c.publish(publish); err != nil {
			return err
		}
	} else {
		verb = "up"
		if err := c.start(publish, report); err != nil {
			return err
		}
	}
	if err := c.await(ctx, begin, verb == "up", report); err != nil {
		return err
	}
	if err := c.writeKubeconfig(); err != nil {
		return err
	}
	report("%s after %s; export KUBECONFIG=%s", verb, since(begin), c.dir.Kubeconfig())
	return nil
}

// start prepares everything and starts the supervisor.
func (c *Cluster) start(publish []int, report func(string, ...any)) error {
	if err := c.cleanUp(); err != nil {
		return err
	}
	if err := c.forgetAfterReboot(); err != nil {
		return err
	}
	if err := c.dir.Create("logs", "config", "kubelet", "containerd", "pods"); err != nil {
		return err
	}
	if err := c.dir.RotateLogs(); err != nil {
		return err
	}
	if err := cgroup.Create(c.dir.Name()); err != nil {
		return err
	}
	if err := netns.Ensure(c.pin()); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	host := program.Host{Executable: executable, CNI: preflight.Plugins()}
	if err := program.Prepare(c.dir, host, time.Now()); err != nil {
		return err
	}
	if err := c.want(publish); err != nil {
		return err
	}
	report("starting etcd, the API server, containerd and the kubelet")
	return c.startSupervisor(executable)
}

// cleanUp removes what a supervisor that ended left outside of the folder. Its
// network namespace stays for those who are in it.
func (c *Cluster) cleanUp() error {
	return errors.Join(
		cgroup.Remove(c.dir.Name()),
		removeIfThere(c.dir.Path("status.json")),
	)
}

// forgetAfterReboot drops the data of an earlier run of the machine: etcd
// does not wait for the disk, so it may have lost some. Ports, certificates
// and logs stay.
func (c *Cluster) forgetAfterReboot() error {
	boot, err := state.BootID()
	if err != nil {
		return err
	}
	if before := c.supervisor().Boot; before == "" || before == boot {
		return nil
	}
	return c.dir.Clear("lock", "logs", "network", "pki", "ports.json", "kubeconfig")
}

// startSupervisor runs this binary's serve command below catatonit in new PID
// and mount namespaces and in the cluster's network.
func (c *Cluster) startSupervisor(executable string) error {
	hostNet, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer hostNet.Close()
	output, err := os.OpenFile(c.dir.Log("supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command("catatonit", "--", executable, "serve", "--state", c.dir.Root())
	command.Dir = "/"
	// Nothing else of the caller's environment: a proxy, say, is not for what
	// happens inside.
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	command.Stdout, command.Stderr = output, output
	command.ExtraFiles = []*os.File{hostNet}
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
	}
	if err := netns.Do(c.pin(), command.Start); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	supervisor, err := identify(command.Process.Pid)
	if err != nil {
		return fmt.Errorf("the supervisor ended at once: %w\n%s", err, state.Tail(c.dir.Log("supervisor"), tailLines))
	}
	// While this command waits for the cluster, it is the parent and must
	// collect the supervisor, or that would seem alive after its end.
	go func() { _ = command.Wait() }()
	return state.WriteJSON(c.supervisorFile(), supervisor)
}

// want records the ports that shall be published.
func (c *Cluster) want(publish []int) error {
	ports, err := forward.ReadPorts(c.dir)
	if err != nil {
		return err
	}
	if !ports.Want(append(publish, apiPort)) {
		return nil
	}
	return ports.Write(c.dir)
}

// publish has the running supervisor publish more ports.
func (c *Cluster) publish(ports []int) error {
	if err := c.want(ports); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		known, err := forward.ReadPorts(c.dir)
		if err != nil || known.Open() {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the supervisor does not publish the ports; see " + c.dir.Log("supervisor"))
		}
		// catatonit passes the signal on. A supervisor that is just starting
		// reads the ports anyway.
		if err := syscall.Kill(c.supervisor().PID, syscall.SIGHUP); err != nil {
			return fmt.Errorf("tell the supervisor about new ports: %w", err)
		}
	}
}

// writeKubeconfig writes the kubeconfig for the host, readable by the user who
// called sudo.
func (c *Cluster) writeKubeconfig() error {
	ports, err := forward.ReadPorts(c.dir)
	if err != nil {
		return err
	}
	pair, authority, err := certificate.Read(c.dir.Path("pki"), certificate.Admin)
	if err != nil {
		return err
	}
	content, err := certificate.Kubeconfig("https://"+ports.Address(apiPort), authority, pair)
	if err != nil {
		return err
	}
	if err := state.WriteFile(c.dir.Kubeconfig(), content, 0o600); err != nil {
		return err
	}
	if user, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil {
		return os.Chown(c.dir.Kubeconfig(), user, -1)
	}
	return nil
}

// loadPause gives containerd the image of the sandbox container.
func (c *Cluster) loadPause() error {
	catatonit, err := exec.LookPath("catatonit")
	if err != nil {
		return err
	}
	archive := c.dir.Path("pause.tar")
	if err := image.Pause(catatonit, program.PauseImage, archive); err != nil {
		return fmt.Errorf("build the pause image: %w", err)
	}
	_, _, err = c.load(archive)
	return err
}

func since(begin time.Time) string {
	return fmt.Sprintf("%.1f s", time.Since(begin).Seconds())
}
