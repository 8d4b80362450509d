package compile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/internal/plainfile"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func (b *builder) plan() *Plan { return &Plan{Script: b.Script, b: b} }

// meetParent adds a meeting point and what the parent does there.
func (b *builder) meetParent(name string, do meeting) {
	b.Meet(name)
	b.meet = append(b.meet, do)
}

// receive adds a meeting point at which the parent hands files over.
func (b *builder) receive(name string, do meeting, regs ...script.Reg) {
	b.Receive(name, regs...)
	b.meet = append(b.meet, do)
}

// Launch makes the child, writes its id maps, serves its meeting points, and returns when the program was
// executed (with Inputs.Wait: when the child waits for its byte), or, for a slot, when it waits. A failed child
// has been reaped; the error wraps a *script.Failure where a step failed. The goroutine must be locked to
// its thread where Inputs.DeathSignal is set. Nobody may wait for any child (wait4 of -1) meanwhile.
func (p *Plan) Launch() (*script.Child, error) {
	c, err := p.clone()
	if err != nil {
		return nil, err
	}
	p.child = c
	if err := p.serve(); err != nil {
		c.PidFD.Close()
		return nil, err
	}
	return c, nil
}

// clone makes the child, in its version 2 cgroup where clone3 can do that.
func (p *Plan) clone() (*script.Child, error) {
	o := script.StartOptions{Flags: p.b.flags, Share: p.b.shares()}
	if o.Share {
		var err error
		if p.score, err = plainfile.Read(ownScore); err != nil {
			return nil, fmt.Errorf("score for running out of memory: %w", err)
		}
	}
	if g := p.b.in.Cgroup; g != nil && g.Version == 2 && g.Dir != nil {
		o.Cgroup = g.Dir
	}
	c, err := p.Script.Start(o)
	if errors.Is(err, script.ErrNoClone3) {
		o.Cgroup = nil // the script's own step joins it
		c, err = p.Script.Start(o)
	}
	return c, err
}

// serve does the parent's part at each meeting point, and waits for what the script ends in.
func (p *Plan) serve() error {
	for p.served < len(p.b.meet) {
		do := p.b.meet[p.served]
		if err := p.child.Meet(); err != nil {
			return err
		}
		p.served++
		last := p.served == len(p.b.meet)
		if last && p.b.waits {
			return nil // a slot: Finish goes on
		}
		var files []*os.File
		if do != nil {
			var err error
			if files, err = do(p); err != nil {
				p.child.Abandon()
				return err
			}
		}
		err := p.child.Go(files...)
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			p.child.Abandon()
			return err
		}
		if last && p.b.in.Wait != nil {
			p.child.Release()
			return nil // created
		}
	}
	if err := p.child.Started(); err != nil {
		return err
	}
	p.restoreScore()
	return nil
}

// writeMaps writes the id maps of a new user namespace.
func writeMaps(p *Plan) ([]*os.File, error) {
	l := p.b.spec.Linux
	dir := "/proc/" + strconv.Itoa(p.child.Pid)
	if os.Geteuid() != 0 {
		// an ordinary user may map its own id only after giving up setgroups (user_namespaces(7))
		if err := writeFile(dir+"/setgroups", "deny"); err != nil {
			return nil, fmt.Errorf("deny setgroups in the user namespace: %w", err)
		}
	}
	for _, m := range []struct {
		file string
		maps []specs.LinuxIDMapping
	}{{"uid_map", l.UIDMappings}, {"gid_map", l.GIDMappings}} {
		if err := writeFile(dir+"/"+m.file, mapText(m.maps)); err != nil {
			return nil, fmt.Errorf("write the %s of the user namespace (%s): %w", m.file, strings.ReplaceAll(strings.TrimSpace(mapText(m.maps)), "\n", ", "), err)
		}
	}
	return nil, nil
}

func mapText(maps []specs.LinuxIDMapping) string {
	var s strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&s, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return s.String()
}

// writeFile writes with one call: the kernel takes an id map whole or not at all.
func writeFile(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

// created is the time when everything is there and the root is still the host's: the runtime's hooks run in
// the parent, then those of the container in the child.
func (b *builder) created() error {
	inside := hooksInside(b.spec.Hooks)
	if b.in.Created == nil && inside == 0 {
		return nil
	}
	if inside == 0 {
		b.meetParent("hooks", func(p *Plan) ([]*os.File, error) { return nil, p.b.in.Created(p.child.Pid) })
		return nil
	}
	if b.in.State == nil {
		return fmt.Errorf("there are hooks, and nobody says what the container's state is")
	}
	b.stateReg = b.reg("state")
	b.receive("hooks", runtimeHooks, b.stateReg)
	return b.runHooks("createContainer", b.spec.Hooks.CreateContainer)
}

func runtimeHooks(p *Plan) ([]*os.File, error) {
	if f := p.b.in.Created; f != nil {
		if err := f(p.child.Pid); err != nil {
			return nil, err
		}
	}
	state, err := p.b.in.State(p.child.Pid)
	if err != nil {
		return nil, err
	}
	f, err := memory("state", state)
	if err != nil {
		return nil, fmt.Errorf("state for hooks: %w", err)
	}
	return []*os.File{f}, nil
}

// memory is a file that is nowhere.
func memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close releases the plan's memory. The child is not touched.
func (p *Plan) Close() error { return p.Script.Close() }
