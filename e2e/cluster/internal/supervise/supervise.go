// Package supervise keeps programs running and reports on them.
package supervise

import (
	"context"
	"log"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"pgexport.dev/e2e/cluster/internal/program"
	"pgexport.dev/e2e/cluster/internal/state"
)

// Status is what is known about one program.
type Status struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid,omitempty"` // in the cluster's PID namespace; 0: not running
	Started time.Time `json:"started,omitzero"`
	Exits   int       `json:"exits"`          // how often it has ended so far
	Streak  int       `json:"streak"`         // how often it has ended soon after its start, in a row
	Last    string    `json:"last,omitempty"` // how it ended last
}

// Steady is how long a program must run to be forgiven its exits.
const Steady = 10 * time.Second

// Pauses before a program is started again; they double in between.
const (
	firstPause = 200 * time.Millisecond
	mostPause  = 5 * time.Second
)

// Supervisor runs programs until its process ends.
type Supervisor struct {
	dir    state.Dir
	mutex  sync.Mutex
	status []Status
}

// New returns a supervisor that writes logs and status into dir.
func New(dir state.Dir) *Supervisor { return &Supervisor{dir: dir} }

// StatusFile is where the supervisor of dir writes a list of Status.
func StatusFile(dir state.Dir) string { return dir.Path("status.json") }

// Go starts a program after ready returns, and again whenever it ends.
func (s *Supervisor) Go(ctx context.Context, p program.Program, ready func(context.Context) error) {
	s.mutex.Lock()
	index := len(s.status)
	s.status = append(s.status, Status{Name: p.Name})
	s.mutex.Unlock()
	go func() {
		if err := ready(ctx); err != nil {
			return
		}
		s.keep(ctx, p, index)
	}()
}

func (s *Supervisor) keep(ctx context.Context, p program.Program, index int) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, mostPause) {
		started := time.Now()
		err := s.once(ctx, p, index, started)
		log.Printf("%s ended after %s: %s", p.Name, time.Since(started).Round(time.Millisecond), ending(err))
		s.update(index, func(status *Status) {
			status.PID, status.Last = 0, ending(err)
			status.Exits++
			status.Streak++
			if time.Since(started) > Steady {
				status.Streak, pause = 1, firstPause
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// once runs the program and returns how it ended.
func (s *Supervisor) once(ctx context.Context, p program.Program, index int, started time.Time) error {
	output, err := os.OpenFile(s.dir.Log(p.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	s.update(index, func(status *Status) { status.PID, status.Started = command.Process.Pid, started })
	return command.Wait()
}

func (s *Supervisor) update(index int, change func(*Status)) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	change(&s.status[index])
	if err := state.WriteJSON(StatusFile(s.dir), s.status); err != nil {
		log.Printf("write status: %v", err)
	}
}

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
