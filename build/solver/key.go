package solver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/moby/buildkit/solver/pb"

	"github.com/berth-engine/berth/build/cache"
)

// keyVersion changes when the same key would mean something else.
const keyVersion = "berth step 1"

func hashKeys(keys []cache.Key) cache.Key {
	h := sha256.New()
	for _, k := range keys {
		h.Write(k[:])
	}
	return cache.Key(h.Sum(nil))
}

// deterministicID is the id of what is known by its input alone.
func deterministicID(parts ...string) cache.ID {
	h := sha256.New()
	writeStrings(h, append([]string{keyVersion}, parts...)...)
	return cache.ID(h.Sum(nil)[:16])
}

// idOf is the id of what is made of other results, and of nothing else.
func idOf(what string, ids []cache.ID) cache.ID {
	h := sha256.New()
	writeStrings(h, keyVersion, what)
	for _, id := range ids {
		h.Write(id[:])
	}
	return cache.ID(h.Sum(nil)[:16])
}

// operation is the operation's part of a key: without inputs (they differ each build), without proxy
// variables and the addresses of extra hosts.
func operation(op *pb.Op) ([]byte, error) {
	c := op.CloneVT()
	c.Inputs, c.Constraints = nil, nil
	if e := c.GetExec(); e != nil {
		e.Meta.ProxyEnv = nil
		for _, h := range e.Meta.ExtraHosts {
			h.IP = ""
		}
	}
	b, err := c.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode an operation: %w", err)
	}
	return b, nil
}

// dependency is how a step's key depends on an input: by its record, or, with selections, by content.
type dependency struct {
	content    bool
	selections []selection
}

// definitionKey is the key by the records of all inputs. It is false where an input has none yet.
func (j *job) definitionKey(ctx context.Context, v *vertex, op []byte, in []*work, deps []dependency) (cache.Key, bool, error) {
	for i, w := range in {
		if deps[i].content && !w.cheap() {
			return cache.Key{}, false, nil
		}
	}
	k, err := j.key(ctx, v, op, in, func(int) bool { return false }, deps)
	return k, err == nil, err
}

// contentKey is the key by the contents of the inputs of which only those matter. It may execute them.
func (j *job) contentKey(ctx context.Context, v *vertex, op []byte, in []*work, deps []dependency) (cache.Key, error) {
	return j.key(ctx, v, op, in, func(i int) bool { return deps[i].content }, deps)
}

func (j *job) key(ctx context.Context, v *vertex, op []byte, in []*work, byContent func(i int) bool, deps []dependency) (cache.Key, error) {
	h := sha256.New()
	writeStrings(h, keyVersion, string(op))
	for i, w := range in {
		var index [8]byte
		binary.LittleEndian.PutUint64(index[:], uint64(v.inputs[i].index))
		if byContent(i) {
			dgst, err := w.digest(ctx, v.inputs[i].index, deps[i].selections)
			if err != nil {
				return cache.Key{}, err
			}
			writeStrings(h, "content")
			h.Write(dgst[:])
			continue
		}
		id, err := w.ID(ctx)
		if err != nil {
			return cache.Key{}, err
		}
		writeStrings(h, "record")
		h.Write(index[:])
		h.Write(id[:])
	}
	return cache.Key(h.Sum(nil)), nil
}
