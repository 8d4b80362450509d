package solver

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// vertex is one operation of a graph.
type vertex struct {
	digest digest.Digest // of its LLB; differs each build where a local source is below
	op     *pb.Op
	meta   *pb.OpMetadata
	inputs []edge
	name   string
	place  place
}

// edge is one output of a vertex.
type edge struct {
	*vertex
	index int
}

// place is where in a Dockerfile a vertex comes from.
type place struct {
	file string
	line int
}

// decode makes a graph of a definition and returns its last vertex, which is what it is for; nil for
// an empty definition. A graph that asks for what the solver can't do is refused.
func decode(def *pb.Definition) (*edge, error) {
	if len(def.GetDef()) == 0 {
		return nil, nil
	}
	known := map[string]bool{}
	for _, c := range capabilities {
		known[c] = true
	}
	all := map[string]*vertex{}
	var order []*vertex
	var last *vertex
	for _, data := range def.Def {
		v := &vertex{digest: digest.FromBytes(data), op: &pb.Op{}}
		if err := v.op.UnmarshalVT(data); err != nil {
			return nil, fmt.Errorf("decode the build's graph: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		v.meta = def.Metadata[v.digest.String()]
		for id, on := range v.meta.GetCaps() {
			if on && !known[id] && !strings.HasPrefix(id, "source.git") { // git is refused by name, later
				return nil, fmt.Errorf("the build needs %q, which this engine does not have: %w", id, errdefs.ErrNotImplemented)
			}
		}
		for _, in := range v.op.Inputs {
			from := all[in.Digest]
			if from == nil {
				return nil, fmt.Errorf("the build's graph has an input that is not there: %w", errdefs.ErrInvalidArgument)
			}
			v.inputs = append(v.inputs, edge{from, int(in.Index)})
		}
		if err := v.check(); err != nil {
			return nil, err
		}
		v.name = v.describe()
		v.place = find(def.Source, v.digest)
		all[v.digest.String()] = v
		order = append(order, v)
		last = v
	}
	for _, v := range slices.Backward(order) { // a source that only a line like ADD URL names is at that line
		for _, in := range v.inputs {
			if in.place == (place{}) && in.op.GetSource() != nil && !strings.HasPrefix(in.op.GetSource().Identifier, "local://") {
				in.place = v.place
			}
		}
	}
	// The last op of a definition is only a pointer to what it is for.
	if last.op.Op == nil && len(last.inputs) == 1 {
		return &last.inputs[0], nil
	}
	return &edge{last, 0}, nil
}

// check holds an operation's numbers against its inputs, so that nobody else has to.
func (v *vertex) check() error {
	n := int64(len(v.inputs))
	bad := func() error {
		return fmt.Errorf("the build's graph has an operation with an impossible input: %w", errdefs.ErrInvalidArgument)
	}
	switch op := v.op.Op.(type) {
	case nil, *pb.Op_Source:
	case *pb.Op_Exec:
		if op.Exec.Meta == nil || len(op.Exec.Meta.Args) == 0 {
			return fmt.Errorf("the build's graph has a step without a command: %w", errdefs.ErrInvalidArgument)
		}
		roots := 0
		for _, m := range op.Exec.Mounts {
			if m.Input < -1 || m.Input >= n || m.Output < -1 || m.Output > 1000 {
				return bad()
			}
			if m.Dest == "/" {
				roots++
			}
		}
		if roots != 1 {
			return fmt.Errorf("the build's graph has a step without a root file system: %w", errdefs.ErrInvalidArgument)
		}
	case *pb.Op_File:
		if len(op.File.Actions) == 0 {
			return bad()
		}
		for i, a := range op.File.Actions {
			limit := n + int64(i)
			if a.Input < -1 || a.Input >= limit || a.SecondaryInput < -1 || a.SecondaryInput >= limit || a.Output < -1 || a.Output > 1000 {
				return bad()
			}
		}
	case *pb.Op_Merge:
		for _, in := range op.Merge.Inputs {
			if in.Input < 0 || in.Input >= n {
				return bad()
			}
		}
	case *pb.Op_Diff:
		if l, u := op.Diff.GetLower().GetInput(), op.Diff.GetUpper().GetInput(); l < -1 || l >= n || u < -1 || u >= n {
			return bad()
		}
	default:
		return fmt.Errorf("the build's graph has an operation of type %T, which this engine does not have: %w", op, errdefs.ErrNotImplemented)
	}
	return nil
}

// describe names a vertex for people.
func (v *vertex) describe() string {
	if name := v.meta.GetDescription()["llb.customname"]; name != "" {
		return name
	}
	switch op := v.op.Op.(type) {
	case *pb.Op_Source:
		return op.Source.Identifier
	case *pb.Op_Exec:
		return strings.Join(op.Exec.Meta.Args, " ")
	case *pb.Op_File:
		return describeFile(op.File)
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	}
	return ""
}

func describeFile(f *pb.FileOp) string {
	var names []string
	for _, a := range f.Actions {
		switch act := a.Action.(type) {
		case *pb.FileAction_Copy:
			names = append(names, fmt.Sprintf("copy %s %s", act.Copy.Src, act.Copy.Dest))
		case *pb.FileAction_Mkfile:
			names = append(names, "mkfile "+act.Mkfile.Path)
		case *pb.FileAction_Mkdir:
			names = append(names, "mkdir "+act.Mkdir.Path)
		case *pb.FileAction_Rm:
			names = append(names, "rm "+act.Rm.Path)
		case *pb.FileAction_Symlink:
			names = append(names, "symlink "+act.Symlink.Newpath)
		}
	}
	return strings.Join(names, ", ")
}

// find says where a vertex comes from: the first line that is given for it.
func find(src *pb.Source, dgst digest.Digest) place {
	for _, l := range src.GetLocations()[dgst.String()].GetLocations() {
		i := int(l.SourceIndex)
		if i < 0 || i >= len(src.Infos) || len(l.Ranges) == 0 {
			continue
		}
		return place{path.Clean(src.Infos[i].Filename), int(l.Ranges[0].GetStart().GetLine())}
	}
	return place{}
}
