package component

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcd is a minimal etcd main: one member from a configuration file, until it
// is told to stop.
func etcd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:  "etcd",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			config, err := embed.ConfigFromFile(file)
			if err != nil {
				return err
			}
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
			server, err := embed.StartEtcd(config)
			if err != nil {
				return err
			}
			defer server.Close()
			select {
			case <-stop:
				return nil
			case err := <-server.Err():
				return err
			}
		},
	}
	c.Flags().StringVar(&file, "config-file", "", "etcd configuration file (YAML)")
	return c
}
