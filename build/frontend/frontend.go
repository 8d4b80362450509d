package frontend

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/solver"
)

// Options say what to build, in the words of build.Request.
type Options struct {
	Source      solver.Source
	Images      solver.Images
	Credentials solver.Credentials
	// Capabilities are the names of what the solver can do (solver.Capabilities).
	Capabilities []string
	// Worker is the platform of the engine; Platform, if not nil, the one to build for.
	Worker   ocispec.Platform
	Platform *ocispec.Platform

	Dockerfile   string
	Target       string
	Args         map[string]string
	Labels       map[string]string
	Contexts     map[string]string
	NoCache      bool
	NoCacheStage []string
	Pull         bool
	Network      string
	ExtraHosts   []solver.Host
	Hostname     string
	ShmSize      int64
	Ulimits      []solver.Ulimit
	CgroupParent string
	Resources    *solver.Resources

	// Warn gets each finding of the linter as it is met. It may be called from several goroutines; nil
	// means nobody listens.
	Warn func(Warning)
}

// Warning is something that the linter found.
type Warning struct {
	Text   string // one sentence
	Detail string // what the rule is about
	URL    string
	File   string
	Line   int // from 1; 0 if unknown
}

// Result is a graph and what to call its result.
type Result struct {
	// Definition is the graph. An empty one is an image without layers.
	Definition *pb.Definition
	// Config is the image's configuration as far as the Dockerfile says it: with the base's diff_ids and
	// history, and history lines of its own, without layers or times for what is yet to be made.
	Config []byte
	// Platform is what the image is for.
	Platform ocispec.Platform
}

// Dockerfile makes the graph. An error in the Dockerfile is an *Error.
func Dockerfile(ctx context.Context, opts Options) (*Result, error) {
	c := &client{opts: opts, attrs: attributes(opts), state: &state{}}
	res, err := builder.Build(ctx, c)
	if ignore := c.state.ignoreError(); ignore != nil {
		return nil, ignore // whatever else went wrong may come of it
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explain(err, c.name())
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	out := &Result{Definition: &pb.Definition{}, Config: res.Metadata[exptypes.ExporterImageConfigKey], Platform: opts.Worker}
	if opts.Platform != nil {
		out.Platform = *opts.Platform
	}
	if r, ok := ref.(*localRef); ok && r != nil {
		out.Definition = r.def
	}
	if len(out.Config) == 0 {
		return nil, errors.New("the Dockerfile's front end gave no image configuration")
	}
	return out, nil
}

// attributes are the options as BuildKit's front end reads them.
func attributes(o Options) map[string]string {
	a := map[string]string{"filename": o.Dockerfile, "target": o.Target, "cgroup-parent": o.CgroupParent, "hostname": o.Hostname}
	for k, v := range o.Args {
		a["build-arg:"+k] = v
	}
	for k, v := range o.Labels {
		a["label:"+k] = v
	}
	for k, v := range o.Contexts {
		a["context:"+k] = v
	}
	if o.Platform != nil {
		a["platform"] = platforms.FormatAll(*o.Platform)
	}
	switch {
	case o.NoCache:
		a["no-cache"] = ""
	case len(o.NoCacheStage) > 0:
		a["no-cache"] = strings.Join(o.NoCacheStage, ",")
	}
	a["image-resolve-mode"] = pb.AttrImageResolveModeDefault
	if o.Pull {
		a["image-resolve-mode"] = pb.AttrImageResolveModeForcePull
	}
	if o.Network != "" && o.Network != string(solver.NetworkDefault) {
		a["force-network-mode"] = o.Network
	}
	if len(o.ExtraHosts) > 0 {
		a["add-hosts"] = fields(o.ExtraHosts, func(h solver.Host) string { return h.Name + "=" + h.IP })
	}
	if o.ShmSize > 0 {
		a["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	if len(o.Ulimits) > 0 {
		a["ulimit"] = fields(o.Ulimits, func(u solver.Ulimit) string { return fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard) })
	}
	resources(a, o.Resources)
	maps.DeleteFunc(a, func(k, v string) bool {
		return v == "" && slices.Contains([]string{"filename", "target", "cgroup-parent", "hostname"}, k)
	})
	return a
}

func resources(a map[string]string, r *solver.Resources) {
	if r == nil {
		return
	}
	for k, v := range map[string]int64{"memory": r.Memory, "memswap": r.MemorySwap, "cpushares": int64(r.CPUShares), "cpuperiod": int64(r.CPUPeriod), "cpuquota": r.CPUQuota} {
		if v != 0 {
			a[k] = strconv.FormatInt(v, 10)
		}
	}
	for k, v := range map[string]string{"cpusetcpus": r.CpusetCpus, "cpusetmems": r.CpusetMems} {
		if v != "" {
			a[k] = v
		}
	}
}

// fields writes a line of comma-separated values.
func fields[T any](all []T, f func(T) string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	line := make([]string, len(all))
	for i, v := range all {
		line[i] = f(v)
	}
	_ = w.Write(line) // into a Builder, which doesn't fail
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// CheckContexts says which named context cannot be.
func CheckContexts(contexts map[string]string) error {
	for name, value := range contexts {
		kind, _, _ := strings.Cut(value, ":")
		if kind != "local" && kind != "docker-image" {
			return fmt.Errorf("build context %q: %q: only a directory or docker-image://REFERENCE can be a named context so far: %w", name, value, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
