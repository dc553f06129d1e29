// Package component links the programs of a Kubernetes node into this binary,
// so that one file is the whole cluster.
package component

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics, as upstream's mains do
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/pkg/controller/job"
)

// Command returns the linked program called name, or nil if there is none.
func Command(name string) *cobra.Command {
	switch name {
	case "etcd":
		return etcd()
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		hurryJobs()
		return controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	case "kubectl":
		return kubectl.NewDefaultKubectlCommand()
	}
	return nil
}

// Run executes a linked program the way upstream's own main does and returns
// its exit code.
func Run(c *cobra.Command) int { return cli.Run(c) }

// hurryJobs shortens the two waits of the Job controller that tests would
// spend their time on: 1 s to collect changes of pods, and 10 s (doubling)
// before the pod that follows a failed one. Nothing else differs from upstream.
func hurryJobs() {
	job.SyncJobBatchPeriod = 100 * time.Millisecond
	job.DefaultJobPodFailureBackOff = time.Second
}
