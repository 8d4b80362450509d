package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/build/session/server"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/internal/mounttree"
	"github.com/berth-engine/berth/network"
	"github.com/berth-engine/berth/registry"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Build builds an image and gives it its names.
func (e *Engine) Build(ctx context.Context, req build.Request, tags []string) (_ digest.Digest, _ build.Result, err error) {
	var refs []reference.Named
	for _, t := range tags {
		ref, err := image.ParseName(t)
		if err != nil {
			return "", build.Result{}, err
		}
		refs = append(refs, ref)
	}
	l := e.leases.lease()
	defer e.endWork(l, &err)
	req.Hold = func(layers []digest.Digest) { l.hold(layers...) }
	made, err := e.builder.Build(ctx, req)
	if err != nil {
		return "", build.Result{}, err
	}
	img, err := e.keep(ctx, l, made.Config, "")
	if err != nil {
		return "", build.Result{}, err
	}
	for _, ref := range refs {
		if err := e.tag(ref, img.ID, img.Root()); err != nil {
			return "", build.Result{}, err
		}
	}
	return img.ID, made, nil
}

// BuildContexts is where the files of builds' contexts are kept.
func (e *Engine) BuildContexts() *server.Store { return e.builder.Contexts() }

// buildImages is the engine as where a build's base images come from.
type buildImages Engine

// Resolve finds an image here, or at its registry.
func (b *buildImages) Resolve(ctx context.Context, ref reference.Named, o solver.ImageOptions) (solver.Image, error) {
	e := (*Engine)(b)
	if !o.Pull {
		if found, ok, err := e.local(ref, o); ok || err != nil {
			return found, err
		}
	}
	got, err := e.registry.As(credentials(o.Credentials)).Inspect(ctx, reference.TagNameOnly(ref), registry.PullOptions{Platform: &o.Platform})
	if err != nil {
		return solver.Image{}, err
	}
	return solver.Image{Digest: got.Ref.Digest, Config: got.ConfigBytes}, nil
}

// local finds an image that is here and for the platform.
func (e *Engine) local(ref reference.Named, o solver.ImageOptions) (solver.Image, bool, error) {
	id, err := e.images.Lookup(reference.TagNameOnly(ref))
	if pinned, ok := ref.(reference.Canonical); ok && errdefs.IsNotFound(err) { // by its own ID
		if _, err = e.images.Get(pinned.Digest()); err == nil {
			id = pinned.Digest()
		}
	}
	if errdefs.IsNotFound(err) {
		return solver.Image{}, false, nil
	}
	if err != nil {
		return solver.Image{}, false, err
	}
	img, err := e.images.Get(id)
	if err != nil {
		return solver.Image{}, false, err
	}
	raw, err := e.blob(id)
	if err != nil {
		return solver.Image{}, false, err
	}
	cfg, err := image.ParseConfig(raw)
	if err != nil {
		return solver.Image{}, false, err
	}
	if cfg.OS != "" && !matches(o.Platform, cfg.Platform) {
		return solver.Image{}, false, nil
	}
	pin := id
	if img = img.In(e.images.Root(reference.TagNameOnly(ref), id)); img.Root() != "" && e.knownAs(ref, img) {
		pin = img.Root()
	}
	return solver.Image{Digest: pin, Config: raw}, true, nil
}

// knownAs tells whether the image is named REPOSITORY@DIGEST here, so that the pin is found again.
func (e *Engine) knownAs(ref reference.Named, img image.Image) bool {
	pinned, err := reference.WithDigest(reference.TrimNamed(ref), img.Root())
	if err != nil {
		return false
	}
	_, err = e.images.Lookup(pinned)
	return err == nil
}

// Ensure makes the layers of an image local and keeps them until release.
func (b *buildImages) Ensure(ctx context.Context, ref reference.Canonical, o solver.ImageOptions) (diffIDs []digest.Digest, release func(), err error) {
	e := (*Engine)(b)
	l := e.leases.lease()
	defer func() {
		if err != nil {
			e.endWork(l, &err)
		}
	}()
	id, err := e.images.Lookup(ref)
	if errdefs.IsNotFound(err) { // perhaps by its own ID
		id, err = ref.Digest(), nil
	}
	if err != nil {
		return nil, nil, err
	}
	release = func() { e.endLease(l) }
	img, err := e.holdImage(l, id)
	if !errdefs.IsNotFound(err) {
		return img.DiffIDs, release, err
	}
	p, err := e.pull(ctx, l, ref, PullOptions{Platform: &o.Platform, Credentials: credentials(o.Credentials), Progress: sum(o.Progress)})
	return p.Image.DiffIDs, release, err
}

// sum adds the progress of all layers up.
func sum(report func(current, total int64)) func(registry.Event) {
	if report == nil {
		return nil
	}
	current, total := map[digest.Digest]int64{}, map[digest.Digest]int64{}
	return func(ev registry.Event) {
		if ev.Stage != registry.Downloading {
			return
		}
		current[ev.Digest], total[ev.Digest] = ev.Current, ev.Total
		var c, t int64
		for d := range current {
			c, t = c+current[d], t+total[d]
		}
		report(c, t)
	}
}

func credentials(ask solver.Credentials) registry.Credentials {
	if ask == nil {
		return nil
	}
	return func(ctx context.Context, host string) (registry.Credential, error) {
		c, err := ask(ctx, host)
		return registry.Credential{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, err
	}
}

// buildSteps is the engine as what runs a build's steps: a container each, without a record.
type buildSteps Engine

// Run runs a step to its end.
func (b *buildSteps) Run(ctx context.Context, s solver.ExecSpec, stdout, stderr io.Writer) (code int, err error) {
	e := (*Engine)(b)
	undo := cleanup.New()
	defer undo.Run(&err)
	id, dir, err := e.stepDir(undo)
	if err != nil {
		return 0, err
	}
	cfg := stepConfig(s)
	who, err := lookUp(s.Rootfs, s.User, nil)
	if err != nil {
		return 0, err
	}
	c := &instance{Container: container.New(e.store, container.Record{ID: id, Name: id[:12], Config: cfg})}
	undo.Add(func() error { return e.networks.Detach(context.WithoutCancel(ctx), id) })
	sandbox, err := e.attach(ctx, c)
	if err != nil {
		return 0, err
	}
	undo.Add(sandbox.Close)
	spec, mounts, err := e.stepSpec(c, s, who)
	for _, m := range mounts[:len(mounts)-len(s.Mounts)] { // the step's own are closed by the solver
		undo.Add(m.Tree.Close)
	}
	if err != nil {
		return 0, err
	}
	filter, err := e.filters.filter(&cfg, e.machine)
	if err != nil {
		return 0, err
	}
	undo.Add(func() error { return e.runtime.Destroy(context.WithoutCancel(ctx), id, dir, e.cgroupPath(c)) })
	shim, err := e.runtime.Start(ctx, runtime.Config{
		ID: id, Dir: dir, Spec: spec, Root: s.Rootfs, Mounts: mounts, NetNS: sandbox.NS, Filter: filter,
		Attach: &runtime.AttachOptions{Stdout: true, Stderr: true},
	})
	var failed *runtime.StartError
	if errors.As(err, &failed) && failed.ExitCode() != 125 {
		fmt.Fprintln(stderr, failed)
		return failed.ExitCode(), nil
	}
	if err != nil {
		return 0, err
	}
	undo.Add(shim.Close)
	stop := context.AfterFunc(ctx, func() { _ = shim.Signal(context.WithoutCancel(ctx), 9, true) })
	defer stop()
	stream := shim.Attached()
	undo.Add(stream.Close)
	exit, err := stream.Copy(stdout, stderr)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return exit.Status, err
}

// stepDir makes the run-time directory of a step. A crash leaves it to the sweep at the next start:
// it has no record.
func (e *Engine) stepDir(undo *cleanup.Stack) (id, dir string, err error) {
	id = container.NewID()
	dir = e.store.ExecDir(id)
	if err := os.Mkdir(dir, 0o710); err != nil {
		return "", "", err
	}
	undo.Add(func() error { return os.RemoveAll(dir) })
	return id, dir, nil
}

// stepConfig is a step as a container.
func stepConfig(s solver.ExecSpec) container.Config {
	cfg := container.Config{
		Process:   container.Process{Cmd: s.Args, Env: s.Env, User: s.User, WorkingDir: s.Cwd},
		Isolation: container.Isolation{Privileged: s.Insecure, ReadonlyRootfs: s.ReadOnly},
		Resources: container.Resources{ShmSize: s.ShmSize, CgroupParent: s.CgroupParent},
		Network:   container.Network{Mode: network.DefaultBridge, Hostname: s.Hostname},
	}
	switch s.Network {
	case solver.NetworkHost:
		cfg.Network.Mode = network.Host
	case solver.NetworkNone:
		cfg.Network.Mode = network.None
	}
	for _, h := range s.ExtraHosts {
		cfg.Network.ExtraHosts = append(cfg.Network.ExtraHosts, h.Name+":"+h.IP)
	}
	for _, u := range s.Ulimits {
		cfg.Process.Rlimits = append(cfg.Process.Rlimits, container.Rlimit{Name: u.Name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	if r := s.Resources; r != nil {
		cfg.Resources.Memory, cfg.Resources.MemorySwap = r.Memory, r.MemorySwap
		cfg.Resources.CPUShares, cfg.Resources.CPUPeriod, cfg.Resources.CPUQuota = int64(r.CPUShares), int64(r.CPUPeriod), r.CPUQuota
		cfg.Resources.CpusetCPUs, cfg.Resources.CpusetMems = r.CpusetCpus, r.CpusetMems
	}
	return cfg
}

// stepSpec is a step's OCI configuration, and what is mounted in it: the engine's files first, the
// step's own last.
func (e *Engine) stepSpec(c *instance, s solver.ExecSpec, who identity) (*specs.Spec, []runtime.Mount, error) {
	own := make([]runtime.Mount, 0, len(s.Mounts))
	for _, m := range s.Mounts {
		own = append(own, runtime.Mount{Destination: m.Dest, Tree: m.Tree})
	}
	if err := e.writeFiles(c); err != nil {
		return nil, own, err
	}
	if err := os.Remove(filepath.Join(e.store.ExecDir(c.ID), hostnameFile)); err != nil { // a step's image keeps its own
		return nil, own, err
	}
	files, err := e.stepFiles(c)
	mounts := append(files, own...)
	if err != nil {
		return nil, mounts, err
	}
	in, err := e.inputs(c, who)
	if err != nil {
		return nil, mounts, err
	}
	spec, err := bundle.Spec(c.Config(), in)
	if err != nil {
		return nil, mounts, err
	}
	spec.Process.Env = s.Env // complete, and part of what is cached: nothing is added
	spec.Mounts = append(spec.Mounts, binds(mounts)...)
	return spec, mounts, nil
}

func (e *Engine) stepFiles(c *instance) ([]runtime.Mount, error) {
	var all []runtime.Mount
	for path, target := range e.files(c) {
		if strings.HasSuffix(path, "/"+hostnameFile) {
			continue
		}
		tree, err := mounttree.ClonePath(path, mounttree.Options{})
		if err != nil {
			return all, err
		}
		all = append(all, runtime.Mount{Destination: target, Tree: tree})
	}
	return all, nil
}
