package cluster

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestStartTimeIsReadBehindAnyName(t *testing.T) {
	const rest = " 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 999 88"
	for _, name := range []string{"(sh)", "(a b)", "(evil) S 1 (x)"} {
		got, err := parseStartTime("42 " + name + " S" + rest)
		if err != nil || got != "4711" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := parseStartTime("42 (sh) Z" + rest); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a zombie has ended, got %v", err)
	}
	if _, err := parseStartTime("42 (sh) S 1"); err == nil {
		t.Error("too few fields must fail")
	}
}

func TestProcessIsAliveUntilItEnds(t *testing.T) {
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("a running process is alive")
	}
	if later := (process{p.PID, p.Start + "0", p.Boot}); later.alive() {
		t.Error("another process with the same number is not it")
	}
	if err := p.kill(); err != nil { // a zombie by then, as nobody waits for it
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("a killed process is not alive")
	}
	_ = command.Wait()
}

func TestInnerPIDIsThatOfTheClustersNamespace(t *testing.T) {
	for status, want := range map[string]int{
		"Name:\tkubelet\nNSpid:\t1943\t17\n": 17,
		"NSpid:\t1943\n":                     0, // the host's
		"NSpid:\t1943\t17\t1\n":              0, // a container's
		"Name:\tx\n":                         0,
	} {
		if got, _ := innerPID(status); got != want {
			t.Errorf("%q: got %d, want %d", status, got, want)
		}
	}
}
