package solver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
)

// source makes the work of a source operation.
func (j *job) source(ctx context.Context, v *vertex, op *pb.SourceOp) (*work, error) {
	scheme, rest, _ := strings.Cut(op.Identifier, "://")
	switch scheme {
	case "docker-image":
		return j.image(ctx, v, rest, op.Attrs)
	case "local":
		return j.local(ctx, v, rest, op.Attrs)
	case "http", "https":
		return j.remote(ctx, v, op)
	case "git":
		name := op.Identifier
		if full := op.Attrs[pb.AttrFullRemoteURL]; full != "" {
			name = full
		}
		return nil, fmt.Errorf("%s: git repositories are not sources here yet; clone it and give the directory: %w", name, errdefs.ErrNotImplemented)
	}
	return nil, fmt.Errorf("%s: sources of this kind are not known: %w", op.Identifier, errdefs.ErrNotImplemented)
}

func (j *job) platform(v *vertex) ocispec.Platform {
	if p := v.op.Platform; p != nil {
		return platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion})
	}
	return j.Platform
}

// image is known by its digest and platform; its layers come only when something stands on them.
func (j *job) image(ctx context.Context, v *vertex, name string, attrs map[string]string) (*work, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	opts := ImageOptions{
		Platform: j.platform(v), Credentials: j.Credentials, Pull: j.Pull || attrs[pb.AttrImageResolveMode] == pb.AttrImageResolveModeForcePull,
	}
	canonical, ok := named.(reference.Canonical)
	if !ok {
		img, err := j.s.opts.Images.Resolve(ctx, reference.TagNameOnly(named), opts)
		if err != nil {
			return nil, err
		}
		if canonical, err = reference.WithDigest(reference.TagNameOnly(named), img.Digest); err != nil {
			return nil, err
		}
	}
	opts.Pull = false // it is pinned
	w := &work{j: j, v: v, id: deterministicID("image", canonical.Digest().String(), platforms.FormatAll(opts.Platform))}
	w.give = sync2(func(ctx context.Context) (*result, error) {
		return j.ensure(ctx, v, canonical, opts)
	})
	return w, nil
}

// sync2 makes a give of a function that is called once, by the first who asks.
func sync2(f func(context.Context) (*result, error)) func(context.Context, int) (*result, error) {
	var mu sync.Mutex
	var r *result
	return func(ctx context.Context, index int) (*result, error) {
		mu.Lock()
		defer mu.Unlock()
		if r != nil {
			return r, nil
		}
		got, err := f(ctx)
		if err == nil {
			r = got
		}
		return got, err
	}
}

func (j *job) ensure(ctx context.Context, v *vertex, ref reference.Canonical, opts ImageOptions) (*result, error) {
	j.tell(Event{Kind: Started, Vertex: v.digest, Name: v.name})
	opts.Progress = func(current, total int64) {
		j.tell(Event{Kind: Status, Vertex: v.digest, Name: reference.FamiliarString(ref), Current: current, Total: total})
	}
	at := time.Now()
	ids, release, err := j.s.opts.Images.Ensure(ctx, ref, opts)
	if err != nil {
		return nil, err
	}
	j.s.hold(hold{at: at, release: release})
	r := &result{}
	for _, id := range ids {
		r.parts = append(r.parts, layerPart(id, time.Time{}, ""))
	}
	j.tell(Event{Kind: Done, Vertex: v.digest, Name: v.name})
	return r, nil
}

// local is a local source: known by its content, and that only of what is asked.
func (j *job) local(ctx context.Context, v *vertex, name string, attrs map[string]string) (*work, error) {
	j.tell(Event{Kind: Started, Vertex: v.digest, Name: v.name})
	opts := TreeOptions{Progress: func(current, total int64) {
		j.tell(Event{Kind: Status, Vertex: v.digest, Name: "transferring " + name, Current: current, Total: total})
	}}
	for attr, to := range map[string]*[]string{pb.AttrFollowPaths: &opts.Follow, pb.AttrExcludePatterns: &opts.Exclude} {
		if s := attrs[attr]; s != "" {
			if err := json.Unmarshal([]byte(s), to); err != nil {
				return nil, fmt.Errorf("%s: %w: %w", attr, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	for _, p := range opts.Follow {
		if path.Clean("/"+p) == "/" {
			opts.Follow = nil // everything
			break
		}
	}
	t, err := j.Source.Tree(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	j.tell(Event{Kind: Done, Vertex: v.digest, Name: v.name})
	return j.filesWork(v, t), nil
}

// filesWork is work whose result is a tree in memory. It becomes a layer when something is to be mounted
// from it.
func (j *job) filesWork(v *vertex, t *tree.Tree) *work {
	w := &work{j: j, v: v, files: t}
	w.identify = func(ctx context.Context) (cache.ID, error) {
		dgst, err := digestOf(ctx, treeView{t}, []selection{{}})
		if err != nil {
			return cache.ID{}, err
		}
		return deterministicID("files", string(dgst[:])), nil
	}
	w.give = func(ctx context.Context, index int) (*result, error) { return j.layerOf(ctx, w) }
	return w
}

// layerOf makes a layer of a tree, if the cache has none.
func (j *job) layerOf(ctx context.Context, w *work) (*result, error) {
	id, err := w.ID(ctx)
	if err != nil {
		return nil, err
	}
	if r, ok := j.s.known(ctx, id, 0); ok {
		return r, nil
	}
	e, err := j.s.once(ctx, "files "+string(id[:]), j.Source.Gone(), func(Event) {}, func(ctx context.Context, _ func(Event)) (*execution, error) {
		if r, ok := j.s.known(ctx, id, 0); ok {
			return &execution{id, map[int]*result{0: r}}, nil
		}
		all := make([]int, len(w.files.Entries))
		for i := range all {
			all[i] = i
		}
		if err := w.files.Load(ctx, all); err != nil {
			return nil, err
		}
		dgst, err := j.s.put(ctx, func(to io.Writer) error { return w.files.WriteTar(ctx, to) })
		if err != nil {
			return nil, err
		}
		created := time.Now().UTC()
		layers := []cache.Layer{{DiffID: dgst, Created: created, Description: w.v.name}}
		rec := &cache.Record{ID: id, Created: created, Description: w.v.name, Outputs: map[int][]cache.Layer{0: layers}}
		var replaced []digest.Digest
		if old, ok := j.s.opts.Cache.Get(id); ok {
			rec.Digests = old.Digests
			for _, l := range old.Outputs[0] {
				replaced = append(replaced, l.DiffID)
			}
		}
		j.s.opts.Cache.Put(rec)
		j.s.letGo(replaced)
		return &execution{id, map[int]*result{0: fromLayers(layers)}}, nil
	})
	if err != nil {
		return nil, err
	}
	return e.outputs[0], nil
}

// document is the work of a file operation that makes a few small files of nothing: what a Dockerfile
// has in it (heredocs, the directory of a cache mount). nil if the operation is anything else.
func (j *job) document(v *vertex, op *pb.FileOp) *work {
	if len(v.inputs) > 0 {
		return nil
	}
	entries := map[string]tree.Entry{}
	data := map[string][]byte{}
	for i, a := range op.Actions {
		first := i == 0 && a.Input == -1
		if !first && int(a.Input) != i-1 || a.SecondaryInput != -1 || a.Output != -1 && i != len(op.Actions)-1 {
			return nil
		}
		e := tree.Entry{Entry: session.Entry{Mtime: j.Now.Truncate(time.Second).UnixNano()}}
		switch act := a.Action.(type) {
		case *pb.FileAction_Mkfile:
			if act.Mkfile.Owner != nil || act.Mkfile.Timestamp != -1 {
				return nil
			}
			e.Path, e.Mode, e.Size = path.Clean("/" + act.Mkfile.Path)[1:], session.ModeReg|uint32(act.Mkfile.Mode)&0o777, int64(len(act.Mkfile.Data))
			data[e.Path] = act.Mkfile.Data
		case *pb.FileAction_Mkdir:
			if act.Mkdir.Owner != nil || act.Mkdir.Timestamp != -1 || act.Mkdir.MakeParents {
				return nil
			}
			e.Path, e.Mode = path.Clean("/" + act.Mkdir.Path)[1:], session.ModeDir|uint32(act.Mkdir.Mode)&0o777
		default:
			return nil
		}
		if _, twice := entries[e.Path]; twice || strings.Contains(e.Path, "/") || session.CheckPath(e.Path) != nil {
			return nil // the ordinary way knows what that means
		}
		entries[e.Path] = e
	}
	b, err := operation(v.op)
	if err != nil {
		return nil
	}
	w := j.filesWork(v, j.s.opts.Contents.FromEntries(entries, data))
	w.id = deterministicID("document", string(b))
	return w
}

// remote is a file from the network.
func (j *job) remote(ctx context.Context, v *vertex, op *pb.SourceOp) (*work, error) {
	req, err := newFetch(op)
	if err != nil {
		return nil, err
	}
	if req.checksum != "" { // known without asking; fetched when it is needed
		w := j.filesWork(v, j.s.remoteTree(req, func(ctx context.Context) (fetched, error) { return j.fetch(ctx, v, req) }))
		w.id = deterministicID("http", req.checksum.String(), req.filename, fmt.Sprint(req.perm))
		return w, nil
	}
	got, err := j.fetch(ctx, v, req)
	if err != nil {
		return nil, err
	}
	w := j.filesWork(v, j.s.remoteTree(req, func(context.Context) (fetched, error) { return got, nil }))
	w.id = deterministicID("http", digest.NewDigestFromBytes(digest.SHA256, got.sum[:]).String(), req.filename, fmt.Sprint(req.perm))
	return w, nil
}
