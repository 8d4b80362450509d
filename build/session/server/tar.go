package server

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/build/tree"
)

// Tar is a context that came whole: a solver.Source with the sources "context" and "dockerfile", and no
// secrets.
type Tar struct {
	t    *tree.Tree
	gone chan struct{}
}

var _ solver.Source = (*Tar)(nil)

// maxDockerfile is how many bytes a Dockerfile that comes instead of an archive may have.
const maxDockerfile = 16 << 20

// FromStream reads a context: a tar, plain or compressed (gzip, zstd, bzip2, xz), or a Dockerfile and
// nothing else, which is then the only file and has the name "Dockerfile".
func FromStream(ctx context.Context, store *Store, r io.Reader) (*Tar, error) {
	plain, err := tree.Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("read the context: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	defer plain.Close()
	peek := bufio.NewReaderSize(plain, 4096)
	head, err := peek.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the context: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if !isTar(head) {
		return fromDockerfile(store, peek)
	}
	t, err := store.Contents.FromTar(ctx, peek)
	if err != nil {
		return nil, err
	}
	return &Tar{t, make(chan struct{})}, nil
}

// isTar says whether a stream that begins with head is a tar, by the checksum of its first header. Two
// blocks of zeros are an empty one.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	head = head[:512]
	if bytes.Count(head, []byte{0}) == 512 {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil || errors.Is(err, io.ErrUnexpectedEOF) // the header was good and wants more than 512 bytes
}

func fromDockerfile(store *Store, r io.Reader) (*Tar, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	if len(b) > maxDockerfile || bytes.IndexByte(b, 0) >= 0 {
		return nil, fmt.Errorf("the context is neither an archive (tar, plain or with gzip, zstd, bzip2 or xz) nor a Dockerfile: %w", errdefs.ErrInvalidArgument)
	}
	entries := []tree.Entry{{Entry: session.Entry{Path: "Dockerfile", Mode: session.ModeReg | 0o644, Size: int64(len(b))}}}
	t := store.Contents.New(entries, map[int]tree.Content{0: tree.Inline(b)}, nil)
	return &Tar{t, make(chan struct{})}, nil
}

// Has says whether the archive has a file of this name.
func (a *Tar) Has(name string) bool {
	_, ok := a.t.Find(path.Clean(name))
	return ok
}

// Files is the whole archive: everything is here.
func (a *Tar) Files(ctx context.Context, source string, paths []string) (*tree.Tree, error) {
	return a.source(source)
}

// Tree is the whole archive without what is excluded.
func (a *Tar) Tree(ctx context.Context, source string, opts solver.TreeOptions) (*tree.Tree, error) {
	t, err := a.source(source)
	if err != nil {
		return nil, err
	}
	return t.Exclude(opts.Exclude)
}

func (a *Tar) source(name string) (*tree.Tree, error) {
	if name != "context" && name != "dockerfile" {
		return nil, fmt.Errorf("there is no build context named %q: %w", name, errdefs.ErrNotFound)
	}
	return a.t, nil
}

// Secret has none.
func (a *Tar) Secret(ctx context.Context, id string) ([]byte, error) {
	return nil, fmt.Errorf("secret %q: this way of building carries no secrets: %w", id, errdefs.ErrNotFound)
}

// Gone is never closed: everything has come.
func (a *Tar) Gone() <-chan struct{} { return a.gone }
