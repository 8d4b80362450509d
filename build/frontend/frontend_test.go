package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/build/tree"
)

// source is a context in memory, "path" → content; a path that ends in "/" is a directory.
type source struct{ t *tree.Tree }

func newSource(t *testing.T, files map[string]string) source {
	t.Helper()
	s, err := tree.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var entries []tree.Entry
	contents := map[int]tree.Content{}
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.SortFunc(names, session.ComparePaths)
	for i, n := range names {
		e := tree.Entry{Entry: session.Entry{Path: strings.TrimSuffix(n, "/"), Mode: session.ModeReg | 0o644}}
		if strings.HasSuffix(n, "/") {
			e.Mode = session.ModeDir | 0o755
		} else if to, ok := strings.CutPrefix(files[n], "-> "); ok {
			e.Mode, e.Link = session.ModeLink|0o777, to
		} else {
			contents[i] = tree.Inline([]byte(files[n]))
		}
		entries = append(entries, e)
	}
	return source{s.New(entries, contents, nil)}
}

func (s source) Files(context.Context, string, []string) (*tree.Tree, error) { return s.t, nil }
func (s source) Tree(context.Context, string, solver.TreeOptions) (*tree.Tree, error) {
	return s.t, nil
}
func (s source) Secret(context.Context, string) ([]byte, error) { return nil, errdefs.ErrNotFound }
func (s source) Gone() <-chan struct{}                          { return nil }

// images knows "base" and nothing else.
type images struct{}

func (images) Resolve(_ context.Context, ref reference.Named, o solver.ImageOptions) (solver.Image, error) {
	if reference.Path(ref) != "library/base" {
		return solver.Image{}, fmt.Errorf("there is no image %s here, and docker.io knows none either: %w", reference.FamiliarString(ref), errdefs.ErrNotFound)
	}
	var img ocispec.Image
	img.OS, img.Architecture = "linux", "amd64"
	img.Config.Env = []string{"PATH=/bin"}
	img.RootFS.Type = "layers"
	img.RootFS.DiffIDs = []digest.Digest{digest.FromString("layer")}
	img.History = []ocispec.History{{CreatedBy: "base"}}
	b, err := json.Marshal(img)
	return solver.Image{Digest: digest.FromString("manifest"), Config: b}, err
}

func (images) Ensure(context.Context, reference.Canonical, solver.ImageOptions) ([]digest.Digest, func(), error) {
	return nil, nil, errors.New("nothing is to be made local before the graph is executed")
}

func run(t *testing.T, files map[string]string, change func(*Options)) (*Result, []Warning, error) {
	t.Helper()
	var warnings []Warning
	o := Options{
		Source: newSource(t, files), Images: images{}, Worker: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Capabilities: solver.Capabilities(), Warn: func(w Warning) { warnings = append(warnings, w) },
	}
	if change != nil {
		change(&o)
	}
	res, err := Dockerfile(t.Context(), o)
	return res, warnings, err
}

func ops(t *testing.T, def *pb.Definition) []*pb.Op {
	t.Helper()
	var out []*pb.Op
	for _, b := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(b); err != nil {
			t.Fatal(err)
		}
		out = append(out, op)
	}
	return out
}

func TestGraph(t *testing.T) {
	res, warnings, err := run(t, map[string]string{
		"Dockerfile":    "# syntax=docker/dockerfile:1\nARG V=1\nFROM base as b\nRUN echo $V\nCOPY . /src/\nFROM scratch\nCOPY --from=b /src /\nENV A=b\nLABEL x=y\n",
		".dockerignore": "# comment\n*.md\n!README.md\n",
	}, func(o *Options) { o.Labels = map[string]string{"given": "label"}; o.Args = map[string]string{"V": "2"} })
	if err != nil {
		t.Fatal(err)
	}
	var img ocispec.Image
	if err := json.Unmarshal(res.Config, &img); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(img.Config.Env, "A=b") || img.Config.Labels["given"] != "label" || len(img.History) != 3 {
		t.Errorf("%s", res.Config)
	}
	var sources []string
	for _, op := range ops(t, res.Definition) {
		if s := op.GetSource(); s != nil {
			sources = append(sources, s.Identifier)
			if strings.HasPrefix(s.Identifier, "local://") && s.Attrs[pb.AttrExcludePatterns] != `["*.md","!README.md"]` {
				t.Errorf("%v", s.Attrs)
			}
		}
	}
	slices.Sort(sources)
	want := []string{"docker-image://docker.io/library/base:latest@" + digest.FromString("manifest").String(), "local://context"}
	if !slices.Equal(sources, want) {
		t.Errorf("%q", sources)
	}
	if len(warnings) != 1 || warnings[0].Line != 3 || warnings[0].File != "Dockerfile" || !strings.HasPrefix(warnings[0].Text, "FromAsCasing: ") {
		t.Errorf("%+v", warnings)
	}
}

func TestErrors(t *testing.T) {
	base := "FROM base\n"
	for name, c := range map[string]struct {
		files  map[string]string
		change func(*Options)
		want   string
		is     func(error) bool
	}{
		"unknown instruction":  {map[string]string{"Dockerfile": "FROM base\nRUN true \\\n  && x\nCOPPY . .\n"}, nil, "Dockerfile:4: unknown instruction: COPPY (did you mean COPY?)", errdefs.IsInvalidArgument},
		"unknown flag":         {map[string]string{"Dockerfile": base + "COPY --chwn=1 a b\n"}, nil, "Dockerfile:2: unknown flag: --chwn (did you mean chown?)", errdefs.IsInvalidArgument},
		"unknown stage":        {map[string]string{"Dockerfile": base}, func(o *Options) { o.Target = "nope" }, `Dockerfile: target stage "nope" could not be found`, errdefs.IsInvalidArgument},
		"unknown image":        {map[string]string{"Dockerfile": "\nFROM nosuch:1\n"}, nil, "Dockerfile:2: there is no image nosuch:1 here, and docker.io knows none either: not found", errdefs.IsNotFound},
		"no dockerfile":        {map[string]string{"x": ""}, nil, "Dockerfile: there is no such file in the build context (name another with -f)", errdefs.IsInvalidArgument},
		"dockerfile elsewhere": {map[string]string{"x": ""}, func(o *Options) { o.Dockerfile = "d/D" }, "d/D: there is no such file in the build context (name another with -f)", errdefs.IsInvalidArgument},
		"empty dockerfile":     {map[string]string{"Dockerfile": ""}, nil, "Dockerfile: the Dockerfile cannot be empty", errdefs.IsInvalidArgument},
		"no FROM":              {map[string]string{"Dockerfile": "RUN x\n"}, nil, "Dockerfile:1: no build stage in current context, at \"RUN\"", errdefs.IsInvalidArgument},
		"bad healthcheck":      {map[string]string{"Dockerfile": base + "HEALTHCHECK --interval=x CMD y\n"}, nil, "", errdefs.IsInvalidArgument},
		"bad port":             {map[string]string{"Dockerfile": base + "EXPOSE x\n"}, nil, "Dockerfile:2: invalid containerPort: x", errdefs.IsInvalidArgument},
		"other syntax":         {map[string]string{"Dockerfile": "# syntax=example.org/own:1\n" + base}, nil, `Dockerfile:1: syntax "example.org/own:1": only docker/dockerfile is built in, and front ends are not run from images`, errdefs.IsInvalidArgument},
		"heredoc":              {map[string]string{"Dockerfile": base + "RUN <<E\nx\n"}, nil, "Dockerfile:2: unterminated heredoc, at \"RUN\"", errdefs.IsInvalidArgument},
		"ignore is a folder":   {map[string]string{"Dockerfile": base + "COPY . .\n", ".dockerignore/": ""}, nil, ".dockerignore: it is not a regular file: invalid argument", errdefs.IsInvalidArgument},
		"ignore loops":         {map[string]string{"Dockerfile": base + "COPY . .\n", ".dockerignore": "-> .dockerignore"}, nil, ".dockerignore: too many levels of symbolic links", func(error) bool { return true }},
		"dockerfile is a dir":  {map[string]string{"Dockerfile/": ""}, nil, "Dockerfile: it is not a regular file: invalid argument", errdefs.IsInvalidArgument},
		"platform":             {map[string]string{"Dockerfile": "FROM --platform=no/no/no/no base\n"}, nil, "", errdefs.IsInvalidArgument},
	} {
		_, _, err := run(t, c.files, c.change)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if c.want != "" && err.Error() != c.want || strings.Contains(err.Error(), "\n") || !c.is(err) {
			t.Errorf("%s: %q", name, err)
		}
	}
}

func TestDockerfileThroughLink(t *testing.T) {
	_, _, err := run(t, map[string]string{"Dockerfile": "-> d/../d/Real", "d/": "", "d/Real": "FROM scratch\n"}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	res, _, err := run(t, map[string]string{"Dockerfile": "FROM base\nRUN x\n"}, func(o *Options) {
		o.ExtraHosts = []solver.Host{{Name: "a", IP: "10.0.0.1"}, {Name: "b", IP: "::1"}}
		o.Ulimits = []solver.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}
		o.ShmSize = 1 << 20
		o.Network, o.Hostname, o.CgroupParent = "none", "h", "/p"
		o.Resources = &solver.Resources{Memory: 1 << 30, CPUQuota: 1000}
		o.NoCache = true
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range ops(t, res.Definition) {
		e := op.GetExec()
		if e == nil {
			continue
		}
		m := e.Meta
		if len(m.ExtraHosts) != 2 || m.ExtraHosts[1].IP != "::1" || len(m.Ulimit) != 1 || m.Ulimit[0].Hard != 20 || m.Hostname != "h" || m.CgroupParent != "/p" || e.Network != pb.NetMode_NONE {
			t.Errorf("%v", e)
		}
		md := res.Definition.Metadata[digest.FromBytes(res.Definition.Def[i]).String()]
		if !md.IgnoreCache || md.LinuxResources.GetMemory() != 1<<30 {
			t.Errorf("%v", md)
		}
		return
	}
	t.Error("no RUN")
}
