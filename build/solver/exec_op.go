package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/layer"
)

// execStep runs a command.
type execStep struct{ op *pb.ExecOp }

func (e execStep) allowed(j *job) error {
	switch {
	case e.op.Security == pb.SecurityMode_INSECURE && !j.AllowAll:
		return fmt.Errorf("RUN --security=insecure is not supported: %w", errdefs.ErrPermissionDenied)
	case e.op.Network == pb.NetMode_HOST && !j.AllowHost:
		return fmt.Errorf("RUN --network=host is not allowed here; start the build with --network host: %w", errdefs.ErrPermissionDenied)
	case len(e.op.CdiDevices) > 0:
		return fmt.Errorf("RUN --device=%s: devices cannot be given to build steps yet: %w", e.op.CdiDevices[0].Name, errdefs.ErrNotImplemented)
	}
	for _, m := range e.op.Mounts {
		if m.MountType == pb.MountType_SSH && !m.SSHOpt.GetOptional() {
			return fmt.Errorf("RUN --mount=type=ssh: ssh agents cannot be given to build steps yet; use a secret: %w", errdefs.ErrNotImplemented)
		}
	}
	return nil
}

func (e execStep) depends(v *vertex) []dependency {
	deps := make([]dependency, len(v.inputs))
	whole := make([]bool, len(v.inputs))
	for _, m := range e.op.Mounts {
		if m.Input < 0 {
			continue
		}
		switch m.MountType {
		case pb.MountType_SECRET, pb.MountType_SSH, pb.MountType_TMPFS:
			continue
		}
		// By content only what the step can't change, or what nobody sees that it changes; and the root
		// never: that would mean to hash every base image.
		if m.Dest == "/" || !m.Readonly && m.Output >= 0 {
			whole[m.Input] = true
			continue
		}
		deps[m.Input].selections = append(deps[m.Input].selections, selection{path: m.Selector, follow: true})
	}
	for i := range deps {
		deps[i].content = !whole[i] && len(deps[i].selections) > 0
	}
	return deps
}

// exec is one execution of a command.
type exec struct {
	*run
	op     *pb.ExecOp
	spec   ExecSpec
	root   *workspace         // nil if the root file system is read-only
	spaces map[int]*workspace // by output
	points []string           // mount points in the root, resolved
	undos  []func() error
}

// undo has f called when the execution is over, the last first.
func (x *exec) undo(f func() error) { x.undos = append(x.undos, f) }

func (x *exec) cleanUp() (err error) {
	for _, f := range slices.Backward(x.undos) {
		err = errors.Join(err, f())
	}
	x.undos = nil
	return err
}

func (e execStep) run(ctx context.Context, r *run) (out map[int]*result, err error) {
	x := &exec{run: r, op: e.op, spaces: map[int]*workspace{}}
	defer func() { err = errors.Join(err, x.cleanUp()) }()
	if err := x.rootfs(ctx); err != nil {
		return nil, err
	}
	if err := x.process(ctx); err != nil {
		return nil, err
	}
	if err := x.mounts(ctx); err != nil {
		return nil, err
	}
	if err := x.mountPoints(); err != nil {
		return nil, err
	}
	if err := x.execute(ctx); err != nil {
		return nil, err
	}
	return x.results(ctx)
}

// rootfs mounts the root file system.
func (x *exec) rootfs(ctx context.Context) error {
	m := x.op.Mounts[slices.IndexFunc(x.op.Mounts, func(m *pb.Mount) bool { return m.Dest == "/" })]
	base, err := x.input(ctx, m.Input)
	if err != nil {
		return err
	}
	w, err := x.j.s.workspace(ctx, base)
	if err != nil {
		return err
	}
	x.undo(w.discard)
	x.root, x.spec.Rootfs, x.spec.ReadOnly = w, w.root, m.Readonly
	if m.Selector != "" && path.Clean("/"+m.Selector) != "/" {
		return fmt.Errorf("a root file system that is a part of another: %w", errdefs.ErrNotImplemented)
	}
	if m.Output >= 0 {
		x.spaces[int(m.Output)] = w
	}
	return nil
}

// mounts makes a detached mount of everything else. Cache mounts come last: others may wait for them
// while this step has them.
func (x *exec) mounts(ctx context.Context) error {
	trees := make([]*os.File, len(x.op.Mounts)) // nil where there is nothing to mount
	for i, m := range x.op.Mounts {
		if m.Dest == "/" || m.MountType == pb.MountType_CACHE {
			continue
		}
		var err error
		if trees[i], err = x.mount(ctx, m); err != nil {
			return err
		}
		x.owns(trees[i])
	}
	if err := x.cacheMounts(ctx, trees); err != nil {
		return err
	}
	for i, m := range x.op.Mounts {
		if trees[i] != nil {
			x.spec.Mounts = append(x.spec.Mounts, Mount{Dest: path.Clean("/" + m.Dest), Tree: trees[i], ReadOnly: m.Readonly || m.MountType == pb.MountType_SECRET})
		}
	}
	slices.SortStableFunc(x.spec.Mounts, func(a, b Mount) int {
		return strings.Count(a.Dest, "/") - strings.Count(b.Dest, "/")
	})
	return nil
}

// owns has a mount closed when the execution is over, unless that was done before.
func (x *exec) owns(f *os.File) {
	if f != nil {
		x.undo(func() error { _ = f.Close(); return nil })
	}
}

// mount makes one that is no cache mount; nil if there is nothing to mount.
func (x *exec) mount(ctx context.Context, m *pb.Mount) (*os.File, error) {
	switch m.MountType {
	case pb.MountType_BIND:
		return x.bind(ctx, m)
	case pb.MountType_SECRET:
		return x.secret(ctx, m)
	case pb.MountType_SSH:
		return nil, nil // optional, and there is none
	case pb.MountType_TMPFS:
		if path.Clean("/"+m.Dest) == "/dev/shm" {
			x.spec.ShmSize = m.TmpfsOpt.GetSize()
			return nil, nil
		}
		options := map[string]string{"mode": "1777"}
		if n := m.TmpfsOpt.GetSize(); n > 0 {
			options["size"] = strconv.FormatInt(n, 10)
		}
		return tmpfs(options)
	}
	return nil, fmt.Errorf("a mount of type %s: %w", m.MountType, errdefs.ErrNotImplemented)
}

// bind mounts an input: for reading, or with a directory on it that becomes an output or is thrown away.
func (x *exec) bind(ctx context.Context, m *pb.Mount) (*os.File, error) {
	r, err := x.input(ctx, m.Input)
	if err != nil {
		return nil, err
	}
	if m.Readonly {
		root, st, err := x.j.s.view(ctx, r)
		if err != nil {
			return nil, err
		}
		x.undo(st.release)
		return x.part(root, m)
	}
	w, err := x.j.s.workspace(ctx, r)
	if err != nil {
		return nil, err
	}
	x.undo(w.discard)
	if m.Output >= 0 {
		x.spaces[int(m.Output)] = w
	}
	root := w.root
	w.root = nil // closed by part; the workspace is unmounted when its clone is
	return x.part(root, m)
}

// part gives the part of the mount root that m selects, and closes root.
func (x *exec) part(root *os.File, m *pb.Mount) (*os.File, error) {
	defer root.Close()
	p, err := resolve(dirView{root}, m.Selector, true)
	if err != nil {
		return nil, missing(m.Selector, err)
	}
	return x.j.s.clone(root, p, m.Readonly)
}

func (x *exec) secret(ctx context.Context, m *pb.Mount) (*os.File, error) {
	o := m.SecretOpt
	if o == nil {
		return nil, fmt.Errorf("a secret without a name: %w", errdefs.ErrInvalidArgument)
	}
	data, err := x.j.Source.Secret(ctx, o.ID)
	if err != nil {
		if errdefs.IsNotFound(err) && o.Optional {
			return nil, nil
		}
		return nil, noSecret(o.ID, err)
	}
	return x.j.s.secretFile(data, o.Uid, o.Gid, o.Mode)
}

func noSecret(id string, err error) error {
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("the step requires the secret %q, which the build was not given; add --secret id=%s,src=FILE: %w", id, id, errdefs.ErrNotFound)
	}
	return err
}

// defaultPath is what a step gets as PATH where its image has none (BuildKit's DefaultPathEnvUnix).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process fills in everything but mounts.
func (x *exec) process(ctx context.Context) error {
	meta := x.op.Meta
	s := &x.spec
	s.Args, s.Cwd, s.User, s.Hostname = meta.Args, path.Clean("/"+meta.Cwd), meta.User, meta.Hostname
	if s.Hostname == "" {
		s.Hostname = "buildkitsandbox"
	}
	s.Env = slices.Clone(meta.Env)
	if p := meta.ProxyEnv; p != nil {
		for _, v := range [][2]string{{"http_proxy", p.HttpProxy}, {"https_proxy", p.HttpsProxy}, {"ftp_proxy", p.FtpProxy}, {"no_proxy", p.NoProxy}, {"all_proxy", p.AllProxy}} {
			if v[1] != "" {
				s.Env = append(s.Env, strings.ToUpper(v[0])+"="+v[1], v[0]+"="+v[1])
			}
		}
	}
	for _, e := range x.op.Secretenv {
		data, err := x.j.Source.Secret(ctx, e.ID)
		if errdefs.IsNotFound(err) && e.Optional {
			continue
		}
		if err != nil {
			return noSecret(e.ID, err)
		}
		s.Env = append(s.Env, e.Name+"="+string(data))
	}
	if !slices.ContainsFunc(s.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		s.Env = append(s.Env, "PATH="+defaultPath)
	}
	if !slices.ContainsFunc(s.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		s.Env = append(s.Env, "HOME="+homeOf(dirView{x.root.root}, s.User))
	}
	s.Network = map[pb.NetMode]Network{pb.NetMode_HOST: NetworkHost, pb.NetMode_NONE: NetworkNone}[x.op.Network]
	if s.Network == "" {
		s.Network = NetworkDefault
	}
	s.Insecure = x.op.Security == pb.SecurityMode_INSECURE
	s.CgroupParent = meta.CgroupParent
	for _, h := range meta.ExtraHosts {
		s.ExtraHosts = append(s.ExtraHosts, Host{h.Host, h.IP})
	}
	for _, u := range meta.Ulimit {
		s.Ulimits = append(s.Ulimits, Ulimit{u.Name, u.Soft, u.Hard})
	}
	if l := x.v.meta.GetLinuxResources(); l != nil {
		s.Resources = &Resources{
			Memory: l.Memory, MemorySwap: l.MemorySwap, CPUShares: l.CpuShares, CPUPeriod: l.CpuPeriod, CPUQuota: l.CpuQuota,
			CpusetCpus: l.CpusetCpus, CpusetMems: l.CpusetMems,
		}
	}
	return nil
}

// ownMounts are the mount points that every step has (ExecSpec).
var ownMounts = []struct {
	path string
	dir  bool
}{{"proc", true}, {"sys", true}, {"dev", true}, {"etc/hosts", false}, {"etc/resolv.conf", false}}

// mountPoints makes what is mounted on, where it is missing. What is made in the root appears in no
// layer; what is made in another mount (a cache mount below a cache mount) stays there.
func (x *exec) mountPoints() error {
	t := newTarget(x.root.root, x.created)
	defer t.close() // an O_PATH descriptor
	for _, own := range ownMounts {
		p, err := x.mountPoint(t, own.path, own.dir)
		if err != nil {
			return err
		}
		x.points = append(x.points, "/"+p)
	}
	for i := range x.spec.Mounts {
		m := &x.spec.Mounts[i]
		at, err := t.resolveNew(m.Dest)
		if err != nil {
			return err
		}
		m.Dest = "/" + at
		dir, err := isDirectory(m.Tree)
		if err != nil {
			return err
		}
		if err := x.pointOf(t, m, i, at, dir); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Dest, err)
		}
	}
	return nil
}

// pointOf makes the mount point of mount i: in the root, or in an earlier mount above it.
func (x *exec) pointOf(t *target, m *Mount, i int, at string, dir bool) error {
	for _, above := range slices.Backward(x.spec.Mounts[:i]) {
		rest, below := strings.CutPrefix(m.Dest, above.Dest+"/")
		if !below {
			continue
		}
		in := newTarget(above.Tree, x.created)
		defer in.close() // an O_PATH descriptor
		p, err := x.mountPoint(in, rest, dir)
		m.Dest = above.Dest + "/" + p
		return err
	}
	for _, own := range []string{"proc", "sys", "dev"} {
		if at == own || strings.HasPrefix(at, own+"/") {
			return nil // the executor's
		}
	}
	_, err := x.mountPoint(t, at, dir)
	x.points = append(x.points, m.Dest)
	return err
}

// mountPoint makes p in t, where it is missing, as a directory or a file, and gives it resolved.
func (x *exec) mountPoint(t *target, p string, dir bool) (string, error) {
	at, err := t.resolveNew(p)
	if err != nil {
		return "", err
	}
	st, err := t.stat(at)
	if err != nil {
		return "", err
	}
	if st != nil {
		if isDir(st) != dir {
			return "", fmt.Errorf("/%s is there, and not of the kind that is to be mounted on it: %w", at, errdefs.ErrInvalidArgument)
		}
		return at, nil
	}
	if dir {
		_, err := t.mkdirAll(at, 0o755, nil, nil)
		return at, err
	}
	if _, err := t.mkdirAll(path.Dir("/" + at)[1:], 0o755, nil, nil); err != nil {
		return "", err
	}
	f, err := t.create(at)
	if err != nil {
		return "", err
	}
	return at, errors.Join(unix.Fchmod(int(f.Fd()), 0o644), f.Close())
}

func isDirectory(f *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return isDir(&st), err
}

// execute runs the command.
func (x *exec) execute(ctx context.Context) error {
	code, err := x.j.s.opts.Executor.Run(ctx, x.spec, logger{x, 1}, logger{x, 2})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ok := code == 0
	if valid := x.op.Meta.ValidExitCodes; valid != nil {
		ok = slices.Contains(valid, int32(code))
	}
	if !ok {
		return &ExitError{Command: strings.Join(x.spec.Args, " "), Code: code}
	}
	return nil
}

// logger tells of a step's output.
type logger struct {
	x      *exec
	stream int
}

var _ io.Writer = logger{}

func (l logger) Write(b []byte) (int, error) {
	l.x.emit(Event{Kind: Log, Stream: l.stream, Data: b})
	return len(b), nil
}

// results ends the directories that are outputs.
func (x *exec) results(ctx context.Context) (map[int]*result, error) {
	for _, m := range x.spec.Mounts { // a directory must not be mounted when it is brought into shape
		if err := m.Tree.Close(); err != nil {
			return nil, err
		}
	}
	out := map[int]*result{}
	for i, w := range x.spaces {
		o := layer.DiffOptions{}
		if w == x.root {
			if x.spec.ReadOnly {
				out[i] = w.base
				continue
			}
			o.MountPoints = x.points
		}
		r, err := w.finish(ctx, o, x.created, x.v.name)
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}
