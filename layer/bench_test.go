package layer

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/testroot"
)

// benchLayers puts n layers of some files each.
func benchLayers(b *testing.B, s *Store, n int) []digest.Digest {
	b.Helper()
	var ids []digest.Digest
	for i := range n {
		items := []item{{name: "etc/"}, {name: fmt.Sprintf("layer%d/", i)}}
		for k := range 50 {
			items = append(items, item{name: fmt.Sprintf("layer%d/file%d", i, k), data: "some content"})
		}
		ids = append(ids, put(b, s, items...))
	}
	return ids
}

// What a start pays for its root file system when its layers are mounted: stack, new upper, overlay.
func BenchmarkWarmStackAndMount(b *testing.B) {
	for _, n := range []int{1, 10, 20} {
		b.Run(fmt.Sprintf("%dlayers", n), func(b *testing.B) {
			s := newStore(b, Auto)
			ids := benchLayers(b, s, n)
			stack(b, s, ids...)
			for b.Loop() {
				st, err := s.Stack(b.Context(), ids)
				if err != nil {
					b.Fatal(err)
				}
				u := upperOf(b, s)
				f, err := st.Mount(b.Context(), u, MountOptions{Volatile: true})
				if err != nil {
					b.Fatal(err)
				}
				st.Release()
				b.StopTimer()
				f.Close()
				if err := u.Destroy(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// The same without making the upper: Stack alone, and Mount alone.
func BenchmarkWarmStack(b *testing.B) {
	s := newStore(b, Auto)
	ids := benchLayers(b, s, 10)
	stack(b, s, ids...)
	for b.Loop() {
		st, err := s.Stack(b.Context(), ids)
		if err != nil {
			b.Fatal(err)
		}
		st.Release()
	}
}

func BenchmarkView(b *testing.B) {
	s := newStore(b, Auto)
	st := stack(b, s, benchLayers(b, s, 10)...)
	for b.Loop() {
		f, err := st.Mount(b.Context(), nil, MountOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		f.Close()
		b.StartTimer()
	}
}

// The first start after a restart that found nothing mounted.
func BenchmarkColdStack(b *testing.B) {
	s := newStore(b, Auto)
	ids := benchLayers(b, s, 10)
	for b.Loop() {
		st, err := s.Stack(b.Context(), ids)
		if err != nil {
			b.Fatal(err)
		}
		st.Release()
		b.StopTimer()
		if _, err := s.releaseIdle(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// A step of a build: its directory becomes a tar, the tar a layer.
func BenchmarkStep(b *testing.B) {
	s := newStore(b, Auto)
	base := stack(b, s, put(b, s, baseItems...))
	for b.Loop() {
		b.StopTimer()
		u := upperOf(b, s)
		f := mountFile(b, base, u, MountOptions{Volatile: true})
		for k := range 20 {
			if err := os.WriteFile(fmt.Sprintf("%s/%s-%d", fdPath(f), testroot.Name(b), k), []byte("some content"), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
		b.StartTimer()
		if err := u.Settle(b.Context(), base, DiffOptions{}); err != nil {
			b.Fatal(err)
		}
		var tar bytes.Buffer
		if err := u.WriteTar(b.Context(), base, &tar, DiffOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Put(b.Context(), &tar, ""); err != nil {
			b.Fatal(err)
		}
	}
}

// An image of 500 MB in ten layers goes.
func BenchmarkRemove(b *testing.B) {
	s := newStore(b, Auto)
	big := bytes.Repeat([]byte("0123456789abcdef"), 50<<16)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var ids []digest.Digest
		for i := range 10 {
			ids = append(ids, put(b, s, item{name: fmt.Sprintf("%d-%d", n, i), data: string(big)}))
		}
		stack(b, s, ids...).Release()
		b.StartTimer()
		if err := s.Remove(b.Context(), ids...); err != nil {
			b.Fatal(err)
		}
	}
}
