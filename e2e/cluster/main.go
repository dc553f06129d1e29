// Command cluster is a real Kubernetes on one node, in one binary, for
// end-to-end tests: it links etcd and Kubernetes, and it starts, runs and stops
// them. See README.md.
package main

import (
	"os"
	"path/filepath"

	"pgexport.dev/e2e/cluster/internal/component"
)

func main() { os.Exit(run()) }

// run dispatches: a link called like a linked program is that program, and so
// is a first argument; all else is the tool.
func run() int {
	if program := component.Command(filepath.Base(os.Args[0])); program != nil {
		return component.Run(program)
	}
	if len(os.Args) > 1 && os.Args[1] != "kubectl" {
		if program := component.Command(os.Args[1]); program != nil {
			os.Args = os.Args[1:]
			return component.Run(program)
		}
	}
	return execute()
}
