package shim

import (
	"context"
	"fmt"
	"os"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/script"
)

// slot is a container that is not one yet: a cgroup, and a child in it that has played the first half of its start and
// waits for the rest.
type slot struct {
	ctx   context.Context
	group *group
	plan  *compile.Plan
	child *script.Child // nil once it is a container's
	held  []*os.File    // its namespaces
}

// prepare makes a slot.
func prepare(ctx context.Context, on *machine, m protocol.Message) (_ *slot, err error) {
	var req protocol.PrepareRequest
	if err := m.Decode(&req); err != nil {
		return nil, err
	}
	defer m.Close()
	if err := become(req.ID, req.Log); err != nil {
		return nil, err
	}
	s := &slot{ctx: ctx}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.group, err = on.newGroup(ctx, req.Cgroup, nil); err != nil {
		return nil, err
	}
	join, err := s.group.Join()
	if err != nil {
		return nil, err
	}
	defer join.Close()
	s.plan, err = compile.Prepare(req.Spec, compile.Inputs{Cgroup: join, DeathSignal: unix.SIGKILL, LateNetwork: req.LateNetwork, Share: true, Host: on.host()})
	if err != nil {
		return nil, fmt.Errorf("prepare a slot: %w", err)
	}
	if s.child, err = s.plan.Launch(); err != nil {
		return s, err
	}
	kinds := []string{"mnt", "ipc", "uts"}
	if !req.LateNetwork { // else it is still in ours
		kinds = append(kinds, "net")
	}
	s.held = namespaces(s.child.Pid, kinds...)
	return s, nil
}

// takeNamespaces hands them over to the container.
func (s *slot) takeNamespaces() []*os.File {
	held := s.held
	s.held = nil
	return held
}

// takeGroup hands the cgroup over to the container.
func (s *slot) takeGroup() *group {
	g := s.group
	s.group = nil
	return g
}

// finish makes the waiting child the container.
func (s *slot) finish(spec *specs.Spec, in compile.Inputs) (*script.Child, error) {
	child := s.child
	s.child = nil // whatever comes of it, it waits no longer
	err := s.plan.Finish(spec, in)
	runtime.KeepAlive(in)
	return child, err
}

// close ends a child that still waits, and gives back what the slot has.
func (s *slot) close() {
	if s.child != nil {
		s.child.Abandon()
	}
	if s.plan != nil {
		_ = s.plan.Close() // memory that no child uses any more
	}
	for _, f := range s.held {
		_ = f.Close() // nothing was written
	}
	if s.group != nil {
		_ = s.group.remove(s.ctx, patience) // Launcher.Close does it where we cannot
	}
}
