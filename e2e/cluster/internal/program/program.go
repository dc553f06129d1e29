// Package program says which programs make up the cluster and how each is
// configured.
package program

import (
	"path/filepath"
	"time"

	"pgexport.dev/e2e/cluster/internal/certificate"
	"pgexport.dev/e2e/cluster/internal/mountns"
	"pgexport.dev/e2e/cluster/internal/netns"
	"pgexport.dev/e2e/cluster/internal/state"
)

// ContainerdSocket is containerd's address in the cluster's mount namespace.
const ContainerdSocket = "/run/containerd/containerd.sock"

// Program is one supervised process.
type Program struct {
	Name string
	// Args is the command line, the executable first.
	Args []string
	// NeedsAPI delays the program until the API server is ready.
	NeedsAPI bool
}

// Host is what a cluster uses of the machine.
type Host struct {
	// Executable is this binary.
	Executable string
	// CNI is the folder of the network plugins.
	CNI string
}

// All returns the programs of the cluster in the folder dir.
func All(dir state.Dir, host Host) []Program {
	self := func(name string, args ...string) []string {
		return append([]string{host.Executable, name}, args...)
	}
	pki := func(name string) string { return dir.Path("pki", name) }
	// A controller authenticates to the API server, and asks it who its own
	// callers are, with the same kubeconfig. There is one of each: no election.
	controller := func(name string, args ...string) []string {
		kubeconfig := pki(name + ".kubeconfig")
		return self(name, append([]string{
			"--kubeconfig=" + kubeconfig,
			"--authentication-kubeconfig=" + kubeconfig,
			"--authorization-kubeconfig=" + kubeconfig,
			"--leader-elect=false",
			"--bind-address=127.0.0.1",
			"--profiling=false",
			"--kube-api-qps=500",
			"--kube-api-burst=1000",
		}, args...)...)
	}
	return []Program{
		{Name: "etcd", Args: self("etcd", "--config-file="+config(dir, etcdFile))},
		{Name: "kube-apiserver", Args: self("kube-apiserver",
			"--etcd-servers="+etcdAddress,
			"--bind-address="+netns.APIAddress,
			"--advertise-address="+netns.APIAddress,
			"--secure-port=443",
			"--tls-cert-file="+pki(certificate.APIServer+".crt"),
			"--tls-private-key-file="+pki(certificate.APIServer+".key"),
			"--client-ca-file="+pki(certificate.CA+".crt"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+pki(certificate.ServiceAccount+".pub"),
			"--service-account-signing-key-file="+pki(certificate.ServiceAccount+".key"),
			"--service-cluster-ip-range="+netns.Services,
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction",
			"--anonymous-auth=false",
			"--allow-privileged=true",
			"--kubelet-client-certificate="+pki(certificate.KubeletClient+".crt"),
			"--kubelet-client-key="+pki(certificate.KubeletClient+".key"),
			"--kubelet-certificate-authority="+pki(certificate.CA+".crt"),
			"--kubelet-preferred-address-types=InternalIP",
			"--enable-priority-and-fairness=false",
			"--profiling=false",
		)},
		{Name: "containerd", Args: []string{"containerd", "--config", config(dir, containerdFile)}},
		{Name: "kubelet", Args: self("kubelet",
			"--config="+config(dir, kubeletFile),
			"--kubeconfig="+pki("kubelet-client.kubeconfig"),
			"--hostname-override="+certificate.Node,
			"--node-ip="+netns.NodeAddress,
			"--root-dir="+mountns.KubeletFolder,
			"--cert-dir="+filepath.Join(mountns.KubeletFolder, "pki"),
		)},
		// Before the API server has made its roles, it would be forbidden all
		// and exit.
		{Name: "kube-controller-manager", NeedsAPI: true, Args: controller(certificate.ControllerManager,
			"--service-account-private-key-file="+pki(certificate.ServiceAccount+".key"),
			"--root-ca-file="+pki(certificate.CA+".crt"),
			"--use-service-account-credentials=true",
			"--cluster-signing-cert-file="+pki(certificate.CA+".crt"),
			"--cluster-signing-key-file="+pki(certificate.CA+".key"),
			"--flex-volume-plugin-dir="+volumePlugins,
		)},
		{Name: "kube-scheduler", NeedsAPI: true, Args: controller(certificate.Scheduler)},
	}
}

func config(dir state.Dir, name string) string { return dir.Path("config", name) }

// Prepare writes all configuration. The folders exist already.
func Prepare(dir state.Dir, host Host, now time.Time) error {
	if err := certificate.Write(dir.Path("pki"), now); err != nil {
		return err
	}
	files := map[string]string{
		etcdFile:       etcdConfig(dir),
		containerdFile: containerdConfig(dir, host),
		kubeletFile:    kubeletConfig(dir),
		filepath.Join("cni", "net.d", "bridge.conflist"): bridgeConfig(),
	}
	for name, content := range files {
		if err := dir.Create(filepath.Join("config", filepath.Dir(name))); err != nil {
			return err
		}
		if err := state.WriteFile(config(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
