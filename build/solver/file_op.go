package solver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/layer"
)

// fileStep is a list of file actions.
type fileStep struct{ op *pb.FileOp }

func (f fileStep) allowed(*job) error { return nil }

func (f fileStep) depends(v *vertex) []dependency {
	deps := make([]dependency, len(v.inputs))
	whole := make([]bool, len(v.inputs)) // more matters than what is copied
	note := func(i int64) {
		if i >= 0 && int(i) < len(whole) {
			whole[i] = true
		}
	}
	for _, a := range f.op.Actions {
		note(a.Input)
		for _, o := range []*pb.UserOpt{ownerOf(a).GetUser(), ownerOf(a).GetGroup()} {
			if n := o.GetByName(); n != nil {
				note(n.Input)
			}
		}
		if c := a.GetCopy(); c != nil && a.SecondaryInput >= 0 && int(a.SecondaryInput) < len(deps) {
			deps[a.SecondaryInput].selections = append(deps[a.SecondaryInput].selections, ofCopy(c))
		}
	}
	for i := range deps {
		deps[i].content = !whole[i] && len(deps[i].selections) > 0
	}
	return deps
}

func ownerOf(a *pb.FileAction) *pb.ChownOpt {
	switch act := a.Action.(type) {
	case *pb.FileAction_Copy:
		return act.Copy.Owner
	case *pb.FileAction_Mkfile:
		return act.Mkfile.Owner
	case *pb.FileAction_Mkdir:
		return act.Mkdir.Owner
	case *pb.FileAction_Symlink:
		return act.Symlink.Owner
	}
	return nil
}

// files is the execution of a list of actions. An action that goes on from the one before, whose result
// nobody else wants, works in the same directory.
type files struct {
	*run
	op    *pb.FileOp
	uses  []int // how often the result of each action is wanted
	space []*workspace
	done  []*result
}

func (f fileStep) run(ctx context.Context, r *run) (out map[int]*result, err error) {
	n := len(f.op.Actions)
	x := &files{run: r, op: f.op, uses: make([]int, n), space: make([]*workspace, n), done: make([]*result, n)}
	defer func() {
		for _, w := range x.space {
			if w != nil {
				err = errors.Join(err, w.discard())
			}
		}
	}()
	for i, a := range f.op.Actions {
		for _, in := range []int64{a.Input, a.SecondaryInput} {
			if k := x.action(in); k >= 0 {
				x.uses[k]++
			}
		}
		if a.Output >= 0 {
			x.uses[i]++
		}
	}
	for i, a := range f.op.Actions {
		if err := x.act(ctx, i, a); err != nil {
			return nil, err
		}
	}
	out = map[int]*result{}
	for i, a := range f.op.Actions {
		if a.Output >= 0 {
			if out[int(a.Output)], err = x.result(ctx, i); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// action says which action's result an input number means; -1 for an input of the vertex, or none.
func (x *files) action(in int64) int { return max(-1, int(in)-len(x.in)) }

// result ends action i's directory and gives its result.
func (x *files) result(ctx context.Context, i int) (*result, error) {
	if x.done[i] == nil {
		w := x.space[i]
		x.space[i] = nil
		r, err := w.finish(ctx, layer.DiffOptions{}, x.created, x.v.name)
		if err != nil {
			return nil, err
		}
		x.done[i] = r
	}
	return x.done[i], nil
}

func (x *files) act(ctx context.Context, i int, a *pb.FileAction) (err error) {
	if k := x.action(a.Input); k >= 0 && x.uses[k] == 1 && x.space[k] != nil {
		x.space[i], x.space[k] = x.space[k], nil
	} else {
		base, err := x.base(ctx, a.Input)
		if err != nil {
			return err
		}
		if x.space[i], err = x.j.s.workspace(ctx, base); err != nil {
			return err
		}
	}
	t := newTarget(x.space[i].root, x.created)
	defer func() { err = errors.Join(err, t.close()) }()
	own, err := x.owner(ctx, a, t)
	if err != nil {
		return err
	}
	switch act := a.Action.(type) {
	case *pb.FileAction_Copy:
		return x.copy(ctx, a, act.Copy, t, own)
	case *pb.FileAction_Mkfile:
		return makeFile(t, act.Mkfile, own)
	case *pb.FileAction_Mkdir:
		return makeDir(t, act.Mkdir, own)
	case *pb.FileAction_Rm:
		return removePath(t, act.Rm)
	case *pb.FileAction_Symlink:
		return makeLink(t, act.Symlink, own)
	}
	return fmt.Errorf("a file operation without meaning: %w", errdefs.ErrInvalidArgument)
}

func (x *files) base(ctx context.Context, in int64) (*result, error) {
	if k := x.action(in); k >= 0 {
		return x.result(ctx, k)
	}
	return x.input(ctx, in)
}

func (x *files) copy(ctx context.Context, a *pb.FileAction, c *pb.FileActionCopy, t *target, own *owner) (err error) {
	if a.SecondaryInput < 0 {
		return fmt.Errorf("a copy without a source: %w", errdefs.ErrInvalidArgument)
	}
	v, done, err := x.read(ctx, a.SecondaryInput)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return copyFiles(ctx, v, t, c, own)
}

// read opens an input, or an action's result, for reading.
func (x *files) read(ctx context.Context, in int64) (view, func() error, error) {
	k := x.action(in)
	if k < 0 {
		return x.in[in].read(ctx, x.v.inputs[in].index)
	}
	r, err := x.result(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	root, st, err := x.j.s.view(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return dirView{root}, func() error { return errors.Join(root.Close(), st.release()) }, nil
}

// owner looks up who is to own what the action makes; nil: as it comes.
func (x *files) owner(ctx context.Context, a *pb.FileAction, t *target) (*owner, error) {
	o := ownerOf(a)
	if o == nil {
		return nil, nil
	}
	in := func(n *pb.NamedUserOpt, f func(view) error) (err error) {
		if n.Input == a.Input {
			return f(t.dirView)
		}
		if n.Input < 0 {
			return fmt.Errorf("%q cannot be looked up in an empty file system: %w", n.Name, errdefs.ErrInvalidArgument)
		}
		v, done, err := x.read(ctx, n.Input)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		return f(v)
	}
	own := &owner{}
	if u := o.User.GetByName(); u != nil {
		if err := in(u, func(v view) error { return lookUpUser(v, u.Name, own) }); err != nil {
			return nil, err
		}
	} else if o.User != nil {
		own.uid, own.gid = o.User.GetByID(), o.User.GetByID()
	}
	if g := o.Group.GetByName(); g != nil {
		return own, in(g, func(v view) error { return lookUpGroup(v, g.Name, own) })
	} else if o.Group != nil {
		own.gid = o.Group.GetByID()
	}
	return own, nil
}

// maxUserFile is how many bytes of a passwd or group file are read: an image may have anything there.
const maxUserFile = 10 << 20

func userFile(v view, p string) (io.Reader, error) {
	at, err := resolve(v, p, true)
	if err != nil {
		return nil, err
	}
	n, err := v.lstat(at)
	if err != nil {
		return nil, err
	}
	if !n.isRegular() || n.size > maxUserFile {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes: %w", p, maxUserFile, errdefs.ErrInvalidArgument)
	}
	c, err := v.open(n)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := io.ReadAll(io.LimitReader(c, maxUserFile))
	return bytes.NewReader(b), err
}

func lookUpUser(v view, name string, own *owner) error {
	r, err := userFile(v, "/etc/passwd")
	var found []user.User
	if err == nil {
		found, err = user.ParsePasswdFilter(r, func(u user.User) bool { return u.Name == name })
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look up the user %q: %w", name, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("the user %q is not in /etc/passwd of the image: %w", name, errdefs.ErrInvalidArgument)
	}
	own.uid, own.gid = uint32(found[0].Uid), uint32(found[0].Gid)
	return nil
}

// homeOf is the home directory of a step's user ("name" or number, perhaps with ":group"): what passwd
// says, or "/", as for a container.
func homeOf(v view, who string) string {
	who, _, _ = strings.Cut(who, ":")
	if who == "" {
		who = "0"
	}
	id, err := strconv.Atoi(who)
	if err != nil {
		id = -1
	}
	r, err := userFile(v, "/etc/passwd")
	if err == nil {
		found, err := user.ParsePasswdFilter(r, func(u user.User) bool { return u.Name == who || u.Uid == id })
		if err == nil && len(found) > 0 && found[0].Home != "" {
			return found[0].Home
		}
	}
	if id == 0 || who == "root" {
		return "/root"
	}
	return "/"
}

func lookUpGroup(v view, name string, own *owner) error {
	r, err := userFile(v, "/etc/group")
	var found []user.Group
	if err == nil {
		found, err = user.ParseGroupFilter(r, func(g user.Group) bool { return g.Name == name })
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look up the group %q: %w", name, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("the group %q is not in /etc/group of the image: %w", name, errdefs.ErrInvalidArgument)
	}
	own.gid = uint32(found[0].Gid)
	return nil
}

func makeDir(t *target, a *pb.FileActionMkDir, own *owner) error {
	p, err := t.resolveNew(a.Path)
	if err != nil {
		return err
	}
	when := timestamp(a.Timestamp)
	if a.MakeParents {
		_, err := t.mkdirAll(p, uint32(a.Mode), own, when)
		return err
	}
	st, err := t.stat(p)
	if err != nil || st != nil {
		return err
	}
	return t.mkdir(p, uint32(a.Mode), own, when)
}

func makeFile(t *target, a *pb.FileActionMkFile, own *owner) error {
	p, err := t.resolveNew(a.Path)
	if err != nil {
		return err
	}
	st, err := t.stat(p)
	if err != nil {
		return err
	}
	if isDir(st) {
		return pathError("write", p, unix.EISDIR)
	}
	if err := t.remove(p); err != nil { // never written through: it may be a device
		return err
	}
	f, err := t.create(p)
	if err != nil {
		return err
	}
	_, err = f.Write(a.Data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if own == nil {
		own = &owner{}
	}
	return t.setAttributes(p, unix.S_IFREG|uint32(a.Mode)&0o777, own, timestamp(a.Timestamp))
}

func makeLink(t *target, a *pb.FileActionSymlink, own *owner) error {
	p, err := t.resolveNew(a.Newpath)
	if err != nil {
		return err
	}
	dir, name, err := t.parent(p)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(a.Oldpath, dir, name); err != nil {
		return pathError("symlink", p, err)
	}
	if own == nil {
		own = &owner{}
	}
	return t.setAttributes(p, unix.S_IFLNK, own, timestamp(a.Timestamp))
}

func removePath(t *target, a *pb.FileActionRm) error {
	names := []string{path.Clean("/" + a.Path)[1:]}
	if a.AllowWildcard {
		var err error
		if names, err = expand(t.dirView, selection{path: a.Path, wildcard: true}); err != nil {
			return err
		}
	}
	for _, name := range names {
		if name == "" {
			return fmt.Errorf("the root cannot be removed: %w", errdefs.ErrInvalidArgument)
		}
		p, err := resolve(t.dirView, name, false)
		if errors.Is(err, fs.ErrNotExist) && a.AllowNotFound {
			continue
		}
		if err != nil {
			return err
		}
		if err := t.remove(p); err != nil {
			return err
		}
	}
	return nil
}
