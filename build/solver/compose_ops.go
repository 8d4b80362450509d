package solver

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/berth-engine/berth/build/cache"
)

// merge is its inputs' layers one on the other. Nothing runs, and so nothing is remembered.
func (j *job) merge(ctx context.Context, v *vertex, op *pb.MergeOp) (*work, error) {
	in, err := j.inputs(ctx, v)
	if err != nil {
		return nil, err
	}
	w := &work{j: j, v: v}
	w.identify = func(ctx context.Context) (cache.ID, error) {
		var ids []cache.ID
		for _, i := range op.Inputs {
			id, err := in[i.Input].ID(ctx)
			if err != nil {
				return cache.ID{}, err
			}
			ids = append(ids, indexed(id, v.inputs[i.Input].index))
		}
		return idOf("merge", ids), nil
	}
	w.give = sync2(func(ctx context.Context) (*result, error) {
		out := &result{}
		for _, i := range op.Inputs {
			r, err := in[i.Input].give(ctx, v.inputs[i.Input].index)
			if err != nil {
				return nil, err
			}
			out.parts = append(out.parts, r.parts...)
		}
		return out, nil
	})
	return w, nil
}

// indexed tells outputs of one record apart.
func indexed(id cache.ID, index int) cache.ID {
	if index == 0 {
		return id
	}
	return idOf(fmt.Sprint("output ", index), []cache.ID{id})
}

// diff is what one result has on top of another that it stands on.
func (j *job) diff(ctx context.Context, v *vertex, op *pb.DiffOp) (*work, error) {
	in, err := j.inputs(ctx, v)
	if err != nil {
		return nil, err
	}
	input := func(ctx context.Context, i int64) (*result, cache.ID, error) {
		if i < 0 {
			return &result{}, cache.ID{}, nil
		}
		r, err := in[i].give(ctx, v.inputs[i].index)
		if err != nil {
			return nil, cache.ID{}, err
		}
		id, err := in[i].ID(ctx)
		return r, indexed(id, v.inputs[i].index), err
	}
	w := &work{j: j, v: v}
	w.identify = func(ctx context.Context) (cache.ID, error) {
		_, low, err := input(ctx, op.GetLower().GetInput())
		if err != nil {
			return cache.ID{}, err
		}
		_, up, err := input(ctx, op.GetUpper().GetInput())
		return idOf("diff", []cache.ID{low, up}), err
	}
	w.give = sync2(func(ctx context.Context) (*result, error) {
		low, _, err := input(ctx, op.GetLower().GetInput())
		if err != nil {
			return nil, err
		}
		up, _, err := input(ctx, op.GetUpper().GetInput())
		if err != nil {
			return nil, err
		}
		return above(ctx, low, up)
	})
	return w, nil
}

func above(ctx context.Context, low, up *result) (*result, error) {
	unrelated := fmt.Errorf("the difference of two trees of which neither stands on the other: %w", errdefs.ErrNotImplemented)
	if len(low.parts) > len(up.parts) {
		return nil, unrelated
	}
	for i, p := range low.parts {
		if p == up.parts[i] {
			continue
		}
		a, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		b, err := up.parts[i].wait(ctx)
		if err != nil {
			return nil, err
		}
		if a != b {
			return nil, unrelated
		}
	}
	return &result{up.parts[len(low.parts):]}, nil
}
