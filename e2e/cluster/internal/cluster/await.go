package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgexport.dev/e2e/cluster/internal/api"
	"pgexport.dev/e2e/cluster/internal/state"
	"pgexport.dev/e2e/cluster/internal/supervise"
)

const (
	// patience is how long one step may take, on a busy machine.
	patience = 2 * time.Minute
	// tooMany is how often in a row a component may end soon after its start.
	tooMany   = 5
	tailLines = 15
)

// step is one thing to wait for.
type step struct {
	// done is what to say when it has come; "" for nothing.
	done string
	// component is whose fault it most likely is if it does not.
	component string
	check     func(context.Context) error
}

// await waits until pods can run, in the order in which things come about. It
// reports them if the cluster is new.
func (c *Cluster) await(ctx context.Context, begin time.Time, fresh bool, report func(string, ...any)) error {
	client := func(ask func(*api.Client) error) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		return ask(client)
	}
	// Of a cluster that is up, an older report of its node is good enough.
	reported := time.Time{}
	if fresh {
		reported = begin
	}
	steps := []step{
		{"", "containerd", func(context.Context) error { return c.loadPause() }},
		{"API server ready", "kube-apiserver", func(ctx context.Context) error {
			return client(func(a *api.Client) error { return a.Ready(ctx) })
		}},
		{"node ready", "kubelet", func(ctx context.Context) error {
			return client(func(a *api.Client) error { return a.NodeReady(ctx, reported) })
		}},
		{"", "kube-controller-manager", func(ctx context.Context) error {
			return client(func(a *api.Client) error { return a.CanRunPods(ctx) })
		}},
		{"", "supervisor", func(context.Context) error { return stopped(c.status()) }},
	}
	for _, s := range steps {
		if err := c.awaitStep(ctx, s); err != nil {
			return err
		}
		if fresh && s.done != "" {
			report("%s after %s", s.done, since(begin))
		}
	}
	return nil
}

func (c *Cluster) awaitStep(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := s.check(ctx)
		if err == nil {
			return nil
		}
		if !c.supervisor().alive() {
			return c.failure("supervisor", errors.New("it has ended"))
		}
		if name, last := c.failing(); name != "" {
			return c.failure(name, errors.New(last))
		}
		select {
		case <-ctx.Done():
			return c.failure(s.component, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// failing returns a component that ends again and again, and how. One that
// has kept running since is forgiven.
func (c *Cluster) failing() (name, last string) {
	for _, status := range c.status() {
		recent := status.PID == 0 || time.Since(status.Started) < supervise.Steady
		if status.Streak >= tooMany && recent {
			return status.Name, status.Last
		}
	}
	return "", ""
}

// stopped fails if any component is not running at the moment.
func stopped(all []supervise.Status) error {
	for _, status := range all {
		if status.PID == 0 {
			return fmt.Errorf("%s is not running: %s", status.Name, status.Last)
		}
	}
	return nil
}

// status returns what the supervisor wrote last.
func (c *Cluster) status() []supervise.Status {
	var status []supervise.Status
	if err := state.ReadJSON(supervise.StatusFile(c.dir), &status); err != nil {
		return nil // not written yet
	}
	return status
}

// failure describes why a component fails, with the end of its log.
func (c *Cluster) failure(component string, err error) error {
	log := c.dir.Log(component)
	return fmt.Errorf("%s: %w; the end of %s:\n%s", component, err, log, state.Tail(log, tailLines))
}
