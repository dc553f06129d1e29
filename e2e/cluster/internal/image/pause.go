package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
)

// Pause writes a docker archive with the image of the sandbox container: the
// statically linked program catatonit, which with -P waits and reaps.
func Pause(catatonit, reference, archive string) error {
	if err := static(catatonit); err != nil {
		return err
	}
	program, err := os.ReadFile(catatonit)
	if err != nil {
		return err
	}
	layer, err := pack(file{"catatonit", 0o755, program})
	if err != nil {
		return err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      time.Unix(0, 0).UTC(),
		"config":       object{"Entrypoint": []string{"/catatonit", "-P"}, "User": "65535:65535"},
		"rootfs":       object{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return err
	}
	configName, layerName := digest(config)+".json", digest(layer)+".tar"
	manifest, err := json.Marshal([]dockerManifest{{
		Config: configName, RepoTags: []string{reference}, Layers: []string{layerName},
	}})
	if err != nil {
		return err
	}
	all, err := pack(
		file{configName, 0o644, config},
		file{layerName, 0o644, layer},
		file{dockerManifestFile, 0o644, manifest},
	)
	if err != nil {
		return err
	}
	return os.WriteFile(archive, all, 0o644)
}

// static fails if the program needs a dynamic loader, which the image has not.
func static(program string) error {
	binary, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer binary.Close()
	for _, header := range binary.Progs {
		if header.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked; the pause image needs a static one, as Debian has it", program)
		}
	}
	return nil
}

type file struct {
	name string
	mode int64
	data []byte
}

// pack returns a tar archive that depends on nothing but the files.
func pack(files ...file) ([]byte, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
