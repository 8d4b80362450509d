package frontend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	distref "github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/solver"
)

// client is what BuildKit's front end believes to be BuildKit. It serves one build; platforms, and the
// base images of each, are looked up in parallel.
type client struct {
	opts  Options
	attrs map[string]string
	state *state // shared with the second front end that a syntax line starts
}

type state struct {
	mu     sync.Mutex
	ignore error // a .dockerignore that is there but could not be read; guarded by mu
}

func (s *state) ignoreError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ignore
}

func (c *client) name() string {
	if c.opts.Dockerfile == "" {
		return "Dockerfile"
	}
	return c.opts.Dockerfile
}

// BuildOpts copies the options: it is called several times a build, and the front end writes into what
// it gets.
func (c *client) BuildOpts() gateway.BuildOpts {
	caps := make([]*apicaps.PBCap, len(c.opts.Capabilities))
	for i, id := range c.opts.Capabilities {
		caps[i] = &apicaps.PBCap{ID: id, Enabled: true}
	}
	attrs := maps.Clone(c.attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	return gateway.BuildOpts{
		Opts:    attrs,
		Workers: []gateway.WorkerInfo{{Platforms: []ocispec.Platform{platforms.Normalize(c.opts.Worker)}}},
		LLBCaps: pb.Caps.CapSet(caps),
		Caps:    gwpb.Caps.CapSet(gwpb.Caps.All()),
		Product: "berth",
	}
}

// Solve runs nothing. The reference that it gives can read files if the graph is one local source.
func (c *client) Solve(ctx context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	if req.Frontend != "" {
		return c.syntax(ctx, req)
	}
	res := gateway.NewResult()
	if len(req.Definition.GetDef()) > 0 { // none for FROM scratch and nothing more
		res.SetRef(&localRef{c: c, def: req.Definition})
	}
	return res, nil
}

// syntax answers a `# syntax=` line. The options now hold "cmdline", so the line is not looked for again.
func (c *client) syntax(ctx context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	source := req.FrontendOpt["source"]
	if req.Frontend != "gateway.v0" {
		return nil, fmt.Errorf("front end %q is not built in", req.Frontend)
	}
	named, err := distref.ParseNormalizedNamed(source)
	if err != nil {
		return nil, fmt.Errorf("syntax %q: %w", source, err)
	}
	switch distref.FamiliarName(named) {
	case "docker/dockerfile", "docker/dockerfile-upstream":
	default:
		return nil, fmt.Errorf("syntax %q: only docker/dockerfile is built in, and front ends are not run from images", source)
	}
	return builder.Build(ctx, &client{c.opts, req.FrontendOpt, c.state})
}

// ResolveImageConfig is what the front end calls for FROM and COPY --from.
func (c *client) ResolveImageConfig(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(c).ResolveImageConfig(ctx, name, opt)
}

// ResolveSourceMetadata finds an image and pins it.
func (c *client) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	name, ok := strings.CutPrefix(op.Identifier, "docker-image://")
	if !ok {
		return nil, fmt.Errorf("%s: only images can be asked about", op.Identifier)
	}
	named, err := distref.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	named = distref.TagNameOnly(named)
	o := solver.ImageOptions{Platform: c.opts.Worker, Pull: c.opts.Pull, Credentials: c.opts.Credentials}
	if opt.ImageOpt != nil {
		if p := opt.ImageOpt.Platform; p != nil {
			o.Platform = *p
		}
		o.Pull = o.Pull || opt.ImageOpt.ResolveMode == pb.AttrImageResolveModeForcePull
	}
	img, err := c.opts.Images.Resolve(ctx, named, o)
	if err != nil {
		return nil, &imageError{err}
	}
	// FROM adds the digest by itself, but an image that is a named context stays as it is given here.
	if _, pinned := named.(distref.Digested); !pinned {
		canonical, err := distref.WithDigest(named, img.Digest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		op = &pb.SourceOp{Identifier: "docker-image://" + canonical.String(), Attrs: op.Attrs}
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: img.Digest, Config: img.Config}}, nil
}

// imageError is an error of Images: a sentence by itself, whatever the front end puts around it.
type imageError struct{ error }

func (e *imageError) Unwrap() error { return e.error }

// Inputs has none: graphs that other graphs are inputs of come with BuildKit's own API.
func (c *client) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer is for front ends that run something themselves; Dockerfile's doesn't.
func (c *client) NewContainer(context.Context, gateway.NewContainerRequest) (gateway.Container, error) {
	return nil, fmt.Errorf("a front end that starts containers: %w", errdefs.ErrNotImplemented)
}

// Warn passes a finding on.
func (c *client) Warn(_ context.Context, _ digest.Digest, msg string, opts gateway.WarnOpts) error {
	if c.opts.Warn == nil {
		return nil
	}
	w := Warning{Text: msg, URL: opts.URL, File: opts.SourceInfo.GetFilename()}
	for _, d := range opts.Detail {
		w.Detail = strings.TrimSpace(w.Detail + "\n" + string(d))
	}
	if len(opts.Range) > 0 {
		w.Line = int(opts.Range[0].GetStart().GetLine())
	}
	c.opts.Warn(w)
	return nil
}

var errNotLocal = errors.New("only files of a local source can be read before the build")
