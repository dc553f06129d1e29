package image

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"pgexport.dev/e2e/cluster/internal/state"
)

// Loaded maps an image's name to the digest of the archive it was loaded from
// last.
type Loaded map[string]string

// has says whether every image of the archive is loaded from just this file.
func (l Loaded) has(archive Archive) bool {
	for _, reference := range archive.References {
		if l[reference] != archive.Digest {
			return false
		}
	}
	return true
}

// Load imports an archive into the containerd at the socket, where pods find
// it, unless that very file is there already. It returns the images' names and
// whether it had to do anything. loadedFile remembers what is there and must
// go with containerd's own data.
func Load(path, socket, loadedFile string) (references []string, imported bool, err error) {
	archive, err := Inspect(path)
	if err != nil {
		return nil, false, err
	}
	loaded := make(Loaded)
	if err := state.ReadJSON(loadedFile, &loaded); err != nil {
		return nil, false, err
	}
	if loaded.has(archive) {
		return archive.References, false, nil
	}
	input, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer input.Close()
	command := exec.Command("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", "-")
	command.Stdin = input
	if output, err := command.CombinedOutput(); err != nil {
		return nil, false, fmt.Errorf("import %s: %w: %s", path, err, strings.TrimSpace(string(output)))
	}
	for _, reference := range archive.References {
		loaded[reference] = archive.Digest
	}
	return archive.References, true, state.WriteJSON(loadedFile, loaded)
}
