package state

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEverySpellingOfAFolderIsOneCluster(t *testing.T) {
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	// The state folder itself need not exist yet.
	one, err := At(filepath.Join(real, "state"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := At(filepath.Join(link, ".", "state"))
	if err != nil {
		t.Fatal(err)
	}
	if one != other || one.Name() != other.Name() {
		t.Errorf("%v and %v differ", one, other)
	}
	if elsewhere, _ := At(filepath.Join(real, "state2")); elsewhere.Name() == one.Name() {
		t.Error("two folders have one name")
	}
}

func TestFlagComesBeforeVariable(t *testing.T) {
	t.Setenv(Variable, "/a")
	for flag, want := range map[string]string{"": "/a/cluster", "/b": "/b/cluster"} {
		if dir, err := Find(flag); err != nil || dir.Path() != want {
			t.Errorf("%q: got %v, %v", flag, dir, err)
		}
	}
}

func TestClearKeepsWhatItIsTold(t *testing.T) {
	dir := Dir{t.TempDir()}
	if err := dir.Create("logs", "etcd/member"); err != nil {
		t.Fatal(err)
	}
	if err := dir.Clear("logs"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.Path("logs")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir.Path("etcd")); !os.IsNotExist(err) {
		t.Errorf("etcd is still there: %v", err)
	}
}

func TestTailIsTheLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := WriteFile(path, []byte("1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{2: "2\n3", 9: "1\n2\n3"} {
		if got := Tail(path, lines); got != want {
			t.Errorf("%d lines: got %q", lines, got)
		}
	}
	if got := Tail(path+".missing", 1); got != "" {
		t.Errorf("got %q", got)
	}
}
