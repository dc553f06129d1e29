// Package image builds and loads container images as archives.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// The files that list an archive's images, and what is needed of them.
// https://github.com/moby/docker-image-spec and
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md
const (
	dockerManifestFile = "manifest.json"
	ociIndexFile       = "index.json"
)

type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

type ociIndex struct {
	Manifests []struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"manifests"`
}

// ociNames are the annotations that containerd takes an image's name from, in
// its order.
var ociNames = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

// Archive is what is known about the tar file of one or more images.
type Archive struct {
	// Digest is the SHA-256 of the file.
	Digest string
	// References are the names of its images.
	References []string
}

// Inspect reads an archive of docker's or OCI's format.
func Inspect(path string) (Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return Archive{}, err
	}
	defer f.Close()
	sum := sha256.New()
	both := io.TeeReader(f, sum)
	references, err := readReferences(both)
	if err != nil {
		return Archive{}, fmt.Errorf("%s is no image archive: %w", path, err)
	}
	if _, err := io.Copy(io.Discard, both); err != nil { // padding after the archive
		return Archive{}, err
	}
	return Archive{Digest: hex.EncodeToString(sum.Sum(nil)), References: references}, nil
}

func readReferences(r io.Reader) ([]string, error) {
	var references []string
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch header.Name {
		case dockerManifestFile:
			var manifests []dockerManifest
			if err := json.NewDecoder(archive).Decode(&manifests); err != nil {
				return nil, fmt.Errorf("%s: %w", header.Name, err)
			}
			for _, manifest := range manifests {
				references = append(references, manifest.RepoTags...)
			}
		case ociIndexFile:
			var index ociIndex
			if err := json.NewDecoder(archive).Decode(&index); err != nil {
				return nil, fmt.Errorf("%s: %w", header.Name, err)
			}
			for _, manifest := range index.Manifests {
				references = append(references, nameOf(manifest.Annotations)...)
			}
		}
	}
	if len(references) == 0 {
		return nil, errors.New("it names no image")
	}
	slices.Sort(references)
	return slices.Compact(references), nil
}

func nameOf(annotations map[string]string) []string {
	for _, key := range ociNames {
		if name := annotations[key]; name != "" {
			return []string{name}
		}
	}
	return nil
}
