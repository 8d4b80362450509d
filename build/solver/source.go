package solver

import (
	"context"

	"github.com/berth-engine/berth/build/tree"
)

// Source is whoever asked for the build: it has the local sources and the secrets.
type Source interface {
	// Files is a tree that has these files of a local source, those of them that are there, and what
	// they point at if they are links, whatever is excluded from the source. Contents are loaded.
	Files(ctx context.Context, source string, paths []string) (*tree.Tree, error)
	// Tree is the tree of a local source. Contents are not loaded.
	Tree(ctx context.Context, source string, opts TreeOptions) (*tree.Tree, error)
	// Secret is the content of a secret; errdefs.ErrNotFound where there is none of this name.
	Secret(ctx context.Context, id string) ([]byte, error)
	// Gone is closed when whoever asked has gone: what fails afterwards may be tried with another.
	Gone() <-chan struct{}
}

// TreeOptions say which part of a local source is needed.
type TreeOptions struct {
	// Follow are paths or patterns of which the tree must have what they name and, where that is a
	// symbolic link, what it points at; more is allowed. None means everything.
	Follow []string
	// Exclude are patterns of .dockerignore's language.
	Exclude []string
	// Progress is told of transferred bytes. It may be nil.
	Progress func(current, total int64)
}
