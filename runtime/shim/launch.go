package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/internal/jsonlog"
	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/script"
)

// container is a container that runs, and what of it must be tidied up when it ends.
type container struct {
	id      string
	dir     string
	ctx     context.Context // of the process
	machine *machine
	spec    *specs.Spec
	filter  filter
	group   *group
	file    *protocol.RecordFile
	record  protocol.Record // as file has it but for the exit
	socket  *os.File        // where requests come in
	name    os.FileInfo     // of the socket's name in dir
	log     *jsonlog.Writer // nil: none
	io      *stdio
	pid     int
	pidfd   *os.File
	root    *os.File   // the root directory
	held    []*os.File // namespaces, so that they outlast the exit's report
	proxies []*proxy
	reaper  reaper

	ended chan struct{} // closed when exit is set

	mu    sync.Mutex
	exit  protocol.ExitReport // set before ended is closed
	execs int                 // that run; guarded by mu

	namespaces func() (uintptr, error) // that an exec enters

	work sync.WaitGroup // goroutines that the end waits for
}

// filter is a seccomp program.
type filter struct {
	bpf  []byte
	bits uint
}

// files are the descriptors of a StartRequest by what they are for.
type files struct {
	root, netns, stream *os.File
	mounts              []compile.Mount
	listeners           []*os.File
}

func sortFiles(layout protocol.Files, in []*os.File) (f files, err error) {
	if len(in) != layout.Count() {
		return f, fmt.Errorf("the request names %d descriptors and has %d", layout.Count(), len(in))
	}
	next := func() *os.File { g := in[0]; in = in[1:]; return g }
	if layout.Root {
		f.root = next()
	}
	for _, d := range layout.Mounts {
		f.mounts = append(f.mounts, compile.Mount{Destination: d, Tree: next()})
	}
	if layout.NetNS {
		f.netns = next()
	}
	for range layout.Listeners {
		f.listeners = append(f.listeners, next())
	}
	if layout.Stream {
		f.stream = next()
	}
	return f, nil
}

// launchContainer is the start, from the request to the running program. Nothing is left of one that fails.
func launchContainer(ctx context.Context, on *machine, m protocol.Message, s *slot) (_ *container, err error) {
	var req protocol.StartRequest
	if err := m.Decode(&req); err != nil {
		return nil, err
	}
	f, err := sortFiles(req.Files, slices.Clone(m.Files))
	if err != nil {
		return nil, err
	}
	undo := cleanup.New()
	defer undo.Run(&err)

	c := &container{ctx: ctx, machine: on, id: req.ID, dir: req.Dir, spec: req.Spec, filter: filter{req.Filter, req.FilterBits}, root: f.root, ended: make(chan struct{})}
	if err := c.takeGroup(s); err != nil {
		return nil, err
	}
	undo.Add(func() error { return errors.Join(c.group.killAll(ctx), c.group.remove(ctx, patience)) }) // a slot's child waits in it
	if err := c.group.limit(resources(req.Spec)); err != nil {
		return nil, err
	}
	if c.socket, err = protocol.Listen(c.dir); err != nil {
		return nil, err
	}
	undo.Add(func() error {
		return errors.Join(c.socket.Close(), os.Remove(filepath.Join(c.dir, protocol.SocketName)))
	})
	if c.name, err = os.Lstat(filepath.Join(c.dir, protocol.SocketName)); err != nil {
		return nil, err
	}
	c.record = protocol.Record{ID: c.id, Shim: os.Getpid(), Cgroup: c.group.Name()}
	if c.file, err = protocol.CreateRecord(c.dir, c.record); err != nil {
		return nil, err
	}
	undo.Add(func() error { return errors.Join(c.file.Close(), os.Remove(filepath.Join(c.dir, protocol.RecordName))) })
	if req.Log.Path != "" {
		if c.log, err = jsonlog.NewWriter(req.Log.Path, jsonlog.WriteOptions{MaxSize: req.Log.MaxSize, MaxFiles: req.Log.MaxFiles}); err != nil {
			return nil, err
		}
		undo.Add(c.log.Close)
	}
	if c.io, err = newStdio(req.Spec.Process.Terminal, req.Stdin, hostID(req.Spec)); err != nil {
		return nil, err
	}
	undo.Add(func() error { c.io.close(); return nil })
	if f.stream != nil {
		if err := c.attachFirst(f.stream, req.Attach); err != nil {
			return nil, err
		}
	}
	child, err := c.play(req, f, s)
	if err != nil {
		return nil, err
	}
	c.pid, c.record.Pid, c.record.Started = child.Pid, child.Pid, time.Now()
	if c.pidfd, err = pidfdOf(child); err == nil {
		err = errors.Join(c.file.Write(c.record), c.io.started())
	}
	if err != nil {
		return nil, errors.Join(err, c.group.killAll(ctx))
	}
	if sharesPids(c.spec) {
		c.reaper.adopt()
	}
	c.namespaces = sync.OnceValues(func() (uintptr, error) { return compile.NamespacesOf(c.pid) })
	c.io.pump(c.log)
	c.proxies = startProxies(req.Files.Listeners, f.listeners)
	undo.Cancel()
	for _, g := range m.Files { // what is still needed is held by its user
		if g != c.root && g != f.stream && !slices.Contains(f.listeners, g) && !slices.Contains(c.held, g) {
			_ = g.Close()
		}
	}
	return c, nil
}

// takeGroup makes the container's cgroup, or takes that of its slot.
func (c *container) takeGroup(s *slot) (err error) {
	if s != nil {
		c.group = s.takeGroup()
		return nil
	}
	if c.spec.Linux == nil || c.spec.Linux.CgroupsPath == "" {
		return errors.New("the configuration names no cgroup")
	}
	c.group, err = c.machine.newGroup(c.ctx, c.spec.Linux.CgroupsPath, resources(c.spec))
	return err
}

func resources(spec *specs.Spec) *specs.LinuxResources {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.Resources
}

// play compiles the start and has it played.
func (c *container) play(req protocol.StartRequest, f files, s *slot) (*script.Child, error) {
	join, err := c.group.Join()
	if err != nil {
		return nil, err
	}
	defer join.Close()
	in := compile.Inputs{
		Root: f.root, Mounts: f.mounts, Cgroup: join, Stdio: c.io.child, Console: c.io.theirs,
		Filter: req.Filter, FilterFlags: req.FilterBits, DeathSignal: unix.SIGKILL, Init: req.Init,
		MakeCwd: true, Share: true, Host: c.machine.host(),
	}
	if f.netns != nil {
		in.Namespaces = map[specs.LinuxNamespaceType]*os.File{specs.NetworkNamespace: f.netns}
	}
	if s != nil {
		c.held = s.takeNamespaces()
		if f.netns != nil {
			c.held = append(c.held, f.netns)
		}
		return s.finish(req.Spec, in)
	}
	in.Created = c.hold
	plan, err := compile.Start(req.Spec, in)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	return plan.Launch()
}

// hold opens the namespaces of the starting process.
func (c *container) hold(pid int) error {
	c.held = append(c.held, namespaces(pid, "mnt", "ipc", "uts", "net")...)
	return nil
}

// namespaces opens namespaces of a process, so that they outlast it: the kernel takes them down before it tells the
// parent of its end otherwise.
func namespaces(pid int, kinds ...string) (held []*os.File) {
	for _, ns := range kinds {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // a kernel without it has nothing to take down
		}
		held = append(held, os.NewFile(uintptr(fd), ns))
	}
	return held
}

// sharesPids tells whether the container is in our pid namespace, so that its orphans are ours.
func sharesPids(spec *specs.Spec) bool {
	return spec.Linux == nil || !slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
}

// hostID returns the user of the process as the host numbers it.
func hostID(spec *specs.Spec) int {
	id := spec.Process.User.UID
	if spec.Linux != nil {
		for _, m := range spec.Linux.UIDMappings {
			if id >= m.ContainerID && id-m.ContainerID < m.Size {
				return int(m.HostID + id - m.ContainerID)
			}
		}
	}
	return int(id)
}

// failure is an error as it crosses to the engine.
func failure(err error) protocol.Failure {
	var step *script.Failure
	if errors.As(err, &step) && step.Errno != 0 {
		return protocol.Failure{Step: step.Step, Object: step.Object, Errno: step.Errno, Exec: step.Exec, Detail: err.Error()}
	}
	return protocol.Failure{Detail: err.Error(), Gone: errors.Is(err, errEnded), NoTerminal: errors.Is(err, errNoTerminal)}
}

var errEnded = errors.New("the process has ended")
