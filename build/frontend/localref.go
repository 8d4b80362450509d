package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
)

// localRef is a graph that was "solved". If it is one local source, its files can be read: those that
// the source's op names.
type localRef struct {
	c   *client
	def *pb.Definition

	once sync.Once
	t    *tree.Tree
	err  error
}

// maxFile is how many bytes a Dockerfile or .dockerignore may have.
const maxFile = 16 << 20

// local says which local source the graph is, and which of its files are to be read.
func (r *localRef) local() (name string, files []string, err error) {
	if len(r.def.Def) > 2 { // the source, and a pointer to it
		return "", nil, errNotLocal
	}
	op := &pb.Op{}
	if err := op.UnmarshalVT(r.def.Def[0]); err != nil {
		return "", nil, err
	}
	name, ok := strings.CutPrefix(op.GetSource().GetIdentifier(), "local://")
	if !ok {
		return "", nil, errNotLocal
	}
	if follow := op.GetSource().GetAttrs()[pb.AttrFollowPaths]; follow != "" {
		if err := json.Unmarshal([]byte(follow), &files); err != nil {
			return "", nil, err
		}
	}
	return name, files, nil
}

// tree gets the files, once.
func (r *localRef) tree(ctx context.Context) (*tree.Tree, error) {
	r.once.Do(func() {
		name, files, err := r.local()
		if err != nil {
			r.err = err
			return
		}
		r.t, r.err = r.c.opts.Source.Files(ctx, name, files)
	})
	return r.t, r.err
}

// find finds a file. Names and links stay inside the source.
func (r *localRef) find(ctx context.Context, name string) (*tree.Tree, int, error) {
	t, err := r.tree(ctx)
	if err != nil {
		return nil, 0, err
	}
	i, err := t.Resolve(name, true)
	return t, i, err
}

// ReadFile reads a file.
func (r *localRef) ReadFile(ctx context.Context, req gateway.ReadRequest) ([]byte, error) {
	data, err := r.read(ctx, req.Filename)
	// The front end takes any error for "there is none", and would send what the file was there to keep out.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errdefs.IsNotFound(err) && strings.HasSuffix(req.Filename, ".dockerignore") {
		r.c.state.mu.Lock()
		r.c.state.ignore = fmt.Errorf("%s: %w", req.Filename, err)
		r.c.state.mu.Unlock()
	}
	if req.Range != nil {
		data = data[min(max(0, req.Range.Offset), len(data)):]
		data = data[:min(max(0, req.Range.Length), len(data))]
	}
	return data, err
}

func (r *localRef) read(ctx context.Context, name string) ([]byte, error) {
	t, i, err := r.find(ctx, name)
	if err != nil {
		return nil, plain(err)
	}
	if i == tree.Root || t.Entries[i].Mode&session.ModeType != session.ModeReg {
		return nil, fmt.Errorf("it is not a regular file: %w", errdefs.ErrInvalidArgument)
	}
	c, err := t.Content(i)
	if err != nil {
		return nil, err
	}
	if c.Size() > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes: %w", maxFile, errdefs.ErrInvalidArgument)
	}
	return io.ReadAll(c.Reader())
}

// plain takes the path out of an error that will be named with it.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// StatFile says what a file is.
func (r *localRef) StatFile(ctx context.Context, req gateway.StatRequest) (*fstypes.Stat, error) {
	t, i, err := r.find(ctx, req.Path)
	if err != nil {
		return nil, err
	}
	return stat(t, i), nil
}

func stat(t *tree.Tree, i int) *fstypes.Stat {
	if i == tree.Root {
		return &fstypes.Stat{Path: "/", Mode: uint32(fs.ModeDir | 0o755)}
	}
	e := &t.Entries[i]
	mode := fs.FileMode(e.Mode & 0o777)
	switch e.Mode & session.ModeType {
	case session.ModeDir:
		mode |= fs.ModeDir
	case session.ModeLink:
		mode |= fs.ModeSymlink
	case session.ModeReg:
	default:
		mode |= fs.ModeIrregular
	}
	return &fstypes.Stat{Path: path.Base(e.Path), Mode: uint32(mode), Size: e.Size, ModTime: e.Mtime, Linkname: e.Link}
}

// ReadDir is not called by the Dockerfile front end.
func (r *localRef) ReadDir(context.Context, gateway.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errors.ErrUnsupported
}

// ToState is not called by the Dockerfile front end.
func (r *localRef) ToState() (llb.State, error) { return llb.State{}, errors.ErrUnsupported }

// Evaluate does nothing: whoever has the graph executes it.
func (r *localRef) Evaluate(context.Context) error { return nil }
