package solver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/moby/buildkit/solver/pb"
)

// TestCacheMountsAreClaimedInOrder: of the whole names, not of their ids: who waits for one has none
// that comes after it, so two steps never have what the other waits for.
func TestCacheMountsAreClaimedInOrder(t *testing.T) {
	locked := &cacheMount{sharing: pb.CacheSharingOpt_LOCKED}
	names := []string{"a\x00base1", "a\x00base2", "a\x00base3", "b"}
	for at, held := range names {
		synctest.Test(t, func(t *testing.T) {
			c := &cacheMounts{locks: map[string]*mountLock{}}
			other, err := c.take(t.Context(), held, pb.CacheSharingOpt_LOCKED)
			if err != nil {
				t.Fatal(err)
			}
			wanted := map[string]*cacheMount{}
			for _, name := range slices.Backward(names) {
				wanted[name] = locked
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				uses, err := c.takeAll(t.Context(), wanted)
				if err != nil || len(uses) != len(names) {
					t.Errorf("%v %v", uses, err)
				}
				for _, u := range uses {
					u.release()
				}
			}()
			synctest.Wait()
			for i, name := range names {
				if got := c.inUse(dirOf(name)); got != (i <= at) {
					t.Errorf("while %q is waited for, %q is claimed: %v", held, name, got)
				}
			}
			other.release()
			<-done
			for _, name := range names {
				if c.inUse(dirOf(name)) {
					t.Errorf("%q is still claimed", name)
				}
			}
		})
	}
}

// TestNoCacheMountIsKept: who gives up while waiting has claimed nothing.
func TestNoCacheMountIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cacheMounts{locks: map[string]*mountLock{}}
		other, err := c.take(t.Context(), "b", pb.CacheSharingOpt_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer other.release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = c.takeAll(ctx, map[string]*cacheMount{"a": {sharing: pb.CacheSharingOpt_LOCKED}, "b": {sharing: pb.CacheSharingOpt_LOCKED}})
		if !errors.Is(err, context.Canceled) || c.inUse(dirOf("a")) {
			t.Errorf("%v, the first is claimed: %v", err, c.inUse(dirOf("a")))
		}
	})
}
