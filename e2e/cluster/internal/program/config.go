package program

import (
	"encoding/json"
	"fmt"

	"pgexport.dev/e2e/cluster/internal/certificate"
	"pgexport.dev/e2e/cluster/internal/mountns"
	"pgexport.dev/e2e/cluster/internal/netns"
	"pgexport.dev/e2e/cluster/internal/state"
)

const (
	etcdFile       = "etcd.yaml"
	containerdFile = "containerd.toml"
	kubeletFile    = "kubelet.yaml"

	etcdAddress = "http://127.0.0.1:2379"
	etcdPeer    = "http://127.0.0.1:2380"

	// volumePlugins is an empty folder; the default is not ours to create.
	volumePlugins = mountns.KubeletFolder + "/volume-plugins"

	// PauseImage is the image of the sandbox container.
	PauseImage = "localhost/pause:1"
)

type object = map[string]any

// document renders a value as JSON, which the readers of YAML take as well.
func document(value object) string {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(err) // the values below are plain
	}
	return string(data) + "\n"
}

// etcdConfig trades durability against a power cut for speed: the data are
// dropped after a reboot anyway.
func etcdConfig(dir state.Dir) string {
	return document(object{
		"name":                           "default",
		"data-dir":                       dir.Path("etcd"),
		"listen-client-urls":             etcdAddress,
		"advertise-client-urls":          etcdAddress,
		"listen-peer-urls":               etcdPeer,
		"initial-advertise-peer-urls":    etcdPeer,
		"initial-cluster":                "default=" + etcdPeer,
		"unsafe-no-fsync":                true,
		"log-level":                      "warn",
		"warning-unary-request-duration": 2_000_000_000, // ns; embedded etcd has no default and calls every request slow
	})
}

// kubeletConfig: quick to notice, slow to evict, silent about images, and at
// home in a control group root of its own.
func kubeletConfig(dir state.Dir) string {
	pki := func(name string) string { return dir.Path("pki", name) }
	return document(object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",

		"address":            netns.NodeAddress,
		"port":               10250,
		"readOnlyPort":       0,
		"healthzBindAddress": "127.0.0.1",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": pki(certificate.CA + ".crt")},
		},
		"authorization":     object{"mode": "Webhook"},
		"tlsCertFile":       pki(certificate.Kubelet + ".crt"),
		"tlsPrivateKeyFile": pki(certificate.Kubelet + ".key"),

		"containerRuntimeEndpoint": "unix://" + ContainerdSocket,
		"podLogsDir":               dir.Path("pods"),
		"volumePluginDir":          volumePlugins,

		"cgroupDriver":           "cgroupfs",
		"cgroupRoot":             "/" + dir.Name(),
		"failCgroupV1":           false,
		"enforceNodeAllocatable": []string{"pods"},
		"oomScoreAdj":            0, // lower needs CAP_SYS_RESOURCE
		"failSwapOn":             false,
		"makeIPTablesUtilChains": false,

		// Empty: pods get 127.0.0.1, where nobody answers, so that a look-up
		// fails at once; the host's servers are out of reach.
		"resolvConf": "",
		// The same for pods that ask for the cluster's DNS. Without it each of
		// them gets an Event that it is missing.
		"clusterDNS": []string{"127.0.0.1"},

		"syncFrequency":             "1s",
		"nodeStatusUpdateFrequency": "2s",
		"serializeImagePulls":       false,
		"maxPods":                   200,

		// Images are loaded by hand and never collected.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
		},
	})
}

// bridgeConfig is the pods' network: a port on the bridge, an address, and a
// route to it. The addresses in use are kept in the mount namespace, as they
// are free again when it is gone.
func bridgeConfig() string {
	return document(object{
		"cniVersion": "0.4.0",
		"name":       "pgexport",
		"plugins": []object{{
			"type":        "bridge",
			"bridge":      netns.Bridge,
			"isGateway":   true,
			"hairpinMode": true,
			"ipMasq":      false,
			"ipam": object{
				"type":    "host-local",
				"dataDir": "/run/cni",
				"ranges": [][]object{{{
					"subnet": netns.PodNetwork, "rangeStart": "10.88.0.10", "rangeEnd": "10.88.0.250", "gateway": netns.NodeAddress,
				}}},
				"routes": []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	})
}

// containerdConfig: images stay in the state folder, all else in /run, which
// is the cluster's own. restrict_oom_score_adj: without CAP_SYS_RESOURCE runc
// may not lower the score and would fail.
func containerdConfig(dir state.Dir, host Host) string {
	return fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = %q

[plugins."io.containerd.internal.v1.opt"]
  path = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
    max_conf_num = 1

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`, dir.Path("containerd"), ContainerdSocket, dir.Path("containerd", "opt"), PauseImage, host.CNI, config(dir, "cni/net.d"))
}
