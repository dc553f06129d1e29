package image

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, files ...file) string {
	t.Helper()
	data, err := pack(files...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInspectFindsNamesInBothFormats(t *testing.T) {
	docker := `[{"Config":"c.json","RepoTags":["localhost/b:1","localhost/a:1"],"Layers":[]}]`
	oci := `{"manifests":[
		{"annotations":{"org.opencontainers.image.ref.name":"localhost/o:1"}},
		{"annotations":{"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"localhost/p:1"}}]}`
	for path, want := range map[string][]string{
		write(t, file{"layer.tar", 0o644, make([]byte, 9999)}, file{"manifest.json", 0o644, []byte(docker)}): {"localhost/a:1", "localhost/b:1"},
		write(t, file{"index.json", 0o644, []byte(oci)}):                                                     {"localhost/o:1", "localhost/p:1"},
	} {
		archive, err := Inspect(path)
		if err != nil || !slices.Equal(archive.References, want) {
			t.Errorf("got %v, %v, want %v", archive.References, err, want)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if archive.Digest != digest(data) {
			t.Error("the digest must be that of the whole file")
		}
	}
}

func TestInspectRefusesWhatIsNoImage(t *testing.T) {
	if _, err := Inspect(write(t, file{"readme", 0o644, nil})); err == nil {
		t.Error("an archive without images must fail")
	}
}

func TestAnArchiveIsLoadedOnlyIfAllItsNamesComeFromIt(t *testing.T) {
	archive := Archive{Digest: "x", References: []string{"a", "b"}}
	for _, test := range []struct {
		loaded Loaded
		want   bool
	}{
		{Loaded{}, false},
		{Loaded{"a": "x"}, false},
		{Loaded{"a": "x", "b": "y"}, false}, // b was replaced by another file
		{Loaded{"a": "x", "b": "x", "c": "y"}, true},
	} {
		if got := test.loaded.has(archive); got != test.want {
			t.Errorf("%v: got %v", test.loaded, got)
		}
	}
}

func TestPauseNeedsAStaticProgram(t *testing.T) {
	if err := static("/bin/sh"); err == nil {
		t.Fatal("this machine's shell is static: give the test another program that is not")
	}
	archive := filepath.Join(t.TempDir(), "pause.tar")
	if err := Pause("/bin/sh", "localhost/pause:1", archive); err == nil {
		t.Error("a dynamic program must be refused")
	}
}
