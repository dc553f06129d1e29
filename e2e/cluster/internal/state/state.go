// Package state knows where one cluster keeps its files and what it is called.
//
// Everything a cluster owns lies in one folder; whatever must have a name
// outside of it (the control groups) derives that name from the folder's path,
// so clusters of different checkouts never meet.
package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Variable names the environment variable that overrides the state folder.
const Variable = "PGEXPORT_STATE"

// Dir is the folder of one cluster.
type Dir struct{ path string }

// Find returns the cluster's folder below the state folder, which is, in this
// order: the flag, the environment variable, the folder above this binary's
// bin folder (the build puts it into STATE/bin).
func Find(flag string) (Dir, error) {
	root := flag
	if root == "" {
		root = os.Getenv(Variable)
	}
	if root == "" {
		executable, err := os.Executable()
		if err != nil {
			return Dir{}, err
		}
		bin := filepath.Dir(executable)
		if filepath.Base(bin) != "bin" {
			return Dir{}, errors.New("no state folder: pass --state DIR or set " + Variable)
		}
		root = filepath.Dir(bin)
	}
	return At(root)
}

// At returns the cluster's folder below the state folder root, which need not
// exist. Symbolic links are resolved, so that every spelling is one cluster.
func At(root string) (Dir, error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return Dir{}, err
	}
	return Dir{filepath.Join(resolve(absolute), "cluster")}, nil
}

// resolve follows the symbolic links of the part of path that exists.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(resolve(parent), filepath.Base(path))
}

// Root is the state folder this cluster's folder lies in.
func (d Dir) Root() string { return filepath.Dir(d.path) }

// Path returns a path inside the cluster's folder.
func (d Dir) Path(elements ...string) string {
	return filepath.Join(append([]string{d.path}, elements...)...)
}

// Name is unique to this folder on this machine and safe in any file system.
func (d Dir) Name() string {
	sum := sha256.Sum256([]byte(d.path))
	return "pgexport-" + hex.EncodeToString(sum[:4])
}

// Log is the log file of a component.
func (d Dir) Log(component string) string { return d.Path("logs", component+".log") }

// RotateLogs sets the logs of the run before aside as NAME.log.old.
func (d Dir) RotateLogs() error {
	logs, err := filepath.Glob(d.Log("*"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		if err := os.Rename(log, log+".old"); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig is the administrator's kubeconfig for the host.
func (d Dir) Kubeconfig() string { return d.Path("kubeconfig") }

// Create makes the cluster's folder and those folders inside it.
func (d Dir) Create(folders ...string) error {
	for _, folder := range append(folders, "") {
		if err := os.MkdirAll(d.Path(folder), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Clear removes everything in the cluster's folder but what keep names.
func (d Dir) Clear(keep ...string) error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kept := make(map[string]bool, len(keep))
	for _, name := range keep {
		kept[name] = true
	}
	for _, entry := range entries {
		if kept[entry.Name()] {
			continue
		}
		if err := os.RemoveAll(d.Path(entry.Name())); err != nil {
			return fmt.Errorf("clear the state folder: %w", err)
		}
	}
	return nil
}
