package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"pgexport.dev/e2e/cluster/internal/cluster"
	"pgexport.dev/e2e/cluster/internal/component"
	"pgexport.dev/e2e/cluster/internal/preflight"
	"pgexport.dev/e2e/cluster/internal/state"
)

// execute runs the tool and returns its exit code.
func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Some of what a node needs is there, and not every shell looks there.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	if err := tool().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return 0
}

// tool is the command line. The commands find the cluster when they run, after
// the flags are parsed.
func tool() *cobra.Command {
	var folder string
	root := &cobra.Command{
		Use:               "cluster",
		Short:             "A real Kubernetes on this machine for end-to-end tests",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		TraverseChildren:  true, // --state before kubectl is ours
	}
	root.PersistentFlags().StringVar(&folder, "state", "",
		"state folder (default $"+state.Variable+", else the folder above this binary's bin)")
	// with makes a command that needs the cluster.
	with := func(f func(*cobra.Command, *cluster.Cluster, []string) error) func(*cobra.Command, []string) error {
		return func(command *cobra.Command, args []string) error {
			dir, err := state.Find(folder)
			if err != nil {
				return err
			}
			return f(command, cluster.In(dir), args)
		}
	}
	root.AddCommand(
		up(with),
		&cobra.Command{
			Use: "down", Short: "Stop everything and remove all but the logs", Args: cobra.NoArgs,
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, _ []string) error { return c.Down() }),
		},
		&cobra.Command{
			Use: "status", Short: "Show the components; fail if pods cannot run", Args: cobra.NoArgs,
			RunE: with(func(command *cobra.Command, c *cluster.Cluster, _ []string) error {
				return c.Status(command.Context(), os.Stdout)
			}),
		},
		&cobra.Command{
			Use: "env", Short: "Print KEY=VALUE lines for a shell", Args: cobra.NoArgs,
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, _ []string) error {
				lines, err := c.Environment()
				for _, line := range lines {
					fmt.Println(line)
				}
				return err
			}),
		},
		&cobra.Command{
			Use: "load IMAGE.tar …", Short: "Load docker or OCI archives for pods", Args: cobra.MinimumNArgs(1),
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, args []string) error { return c.Load(args, report) }),
		},
		&cobra.Command{
			Use: "run -- COMMAND …", Short: "Run a command of this machine in the cluster's network", Args: cobra.MinimumNArgs(1),
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, args []string) error { return runInside(c, args) }),
		},
		&cobra.Command{
			Use: "kubectl …", Short: "Run the linked kubectl as administrator", DisableFlagParsing: true,
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, args []string) error { return kubectl(c, args) }),
		},
		&cobra.Command{
			Use: "preflight", Short: "Say in one line what keeps this machine from running pods", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				dir, err := state.Find(folder)
				if err != nil {
					return err
				}
				if err := preflight.Check(dir); err != nil {
					return fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "serve", Hidden: true, Args: cobra.NoArgs,
			RunE: with(func(_ *cobra.Command, c *cluster.Cluster, _ []string) error {
				return c.Serve(context.Background())
			}),
		},
	)
	return root
}

func up(with func(func(*cobra.Command, *cluster.Cluster, []string) error) func(*cobra.Command, []string) error) *cobra.Command {
	var publish []int
	command := &cobra.Command{
		Use: "up", Short: "Start the cluster, or what is missing of it, and wait until pods can run", Args: cobra.NoArgs,
		RunE: with(func(command *cobra.Command, c *cluster.Cluster, _ []string) error {
			return c.Up(command.Context(), publish, report)
		}),
	}
	command.Flags().IntSliceVar(&publish, "publish", nil,
		"port of a server in the cluster's network to publish on a free port of this machine's 127.0.0.1 (repeatable)")
	return command
}

// runInside replaces this process by a command in the cluster's network, so
// that its input, output, signals and exit code are the command's own.
func runInside(c *cluster.Cluster, args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the thread that enters is the one that becomes the command
	if err := c.Enter(); err != nil {
		return err
	}
	if err := syscall.Exec(path, args, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

// kubectl runs the linked kubectl; a kubeconfig among its arguments wins.
func kubectl(c *cluster.Cluster, args []string) error {
	kubeconfig, err := c.Kubeconfig()
	if err != nil {
		return err
	}
	if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
		return err
	}
	os.Args = append([]string{"kubectl"}, args...)
	os.Exit(component.Run(component.Command("kubectl")))
	return nil
}

// report prints a line of progress.
func report(format string, args ...any) { fmt.Printf(format+"\n", args...) }
