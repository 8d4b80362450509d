package erofs

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Limits bound what a tar can make of a layer. A field that is 0 has its default.
type Limits struct {
	// Inodes is the highest number of names (files, directories and so on, implied directories and hard
	// links included) that the tar may make, those counted too that later entries replace.
	Inodes int
	// Metadata is the highest number of bytes behind the tar: inodes, names, link targets, xattrs, tables
	// of sparse files and those of their parts that have to be copied. At most 1 GiB.
	Metadata int64
	// Xattrs is the highest number of bytes of names and values of extended attributes of one inode, at
	// most 64 KiB.
	Xattrs int
	// Tar is the highest number of bytes of a tar, at most 2 TiB less 2 GiB.
	Tar int64
}

// DefaultLimits are far above what images hold, and far below what hurts the machine: a layer at all of
// them at once costs some 400 MiB of memory while it is written.
func DefaultLimits() Limits {
	return Limits{
		Inodes:   1 << 20,
		Metadata: 256 << 20,
		Xattrs:   maxXattrs,
		Tar:      1 << 40,
	}
}

// What no setting changes, because the kernel's interfaces and the file's format don't.
const (
	maxPath     = 4095 // bytes, PATH_MAX without its NUL
	maxName     = 255  // bytes, NAME_MAX
	maxTarget   = 4095 // bytes of a symbolic link's target
	maxXattrs   = 64 << 10
	maxMetadata = 1 << 30
	maxTar      = 1<<41 - 2*maxMetadata // block numbers have 32 bits
	maxMajor    = 1<<12 - 1
	maxMinor    = 1<<20 - 1
	maxID       = 1<<32 - 2 // the last one means "leave it" to chown
)

// WithDefaults returns the limits with what is 0 set to its default, and nothing above what is possible.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.Inodes <= 0 {
		l.Inodes = d.Inodes
	}
	if l.Metadata <= 0 {
		l.Metadata = d.Metadata
	}
	if l.Xattrs <= 0 {
		l.Xattrs = d.Xattrs
	}
	if l.Tar <= 0 {
		l.Tar = d.Tar
	}
	l.Metadata = min(l.Metadata, maxMetadata)
	l.Xattrs = min(l.Xattrs, maxXattrs)
	l.Tar = min(l.Tar, maxTar)
	return l
}

// budget counts the bytes of metadata (and of memory, which goes with them) while the tar streams.
type budget struct {
	max, used int64
}

// take takes n bytes for the entry path.
func (b *budget) take(n int64, path []byte) error {
	if n < 0 || n > b.max-b.used {
		return &LimitError{Limit: "Metadata", Max: b.max, Path: string(path), what: "bytes of metadata"}
	}
	b.used += n
	return nil
}

// LimitError says that a tar is over one of the Limits. It is of the kind errdefs.ErrInvalidArgument.
type LimitError struct {
	Limit string // the field of Limits: "Inodes", …
	Max   int64
	Path  string // the entry that went over it, as the tar has it; "" where none did
	what  string
}

// Error is one sentence for a user.
func (e *LimitError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("the layer has more than %d %s", e.Max, e.what)
	}
	if e.Limit == "Xattrs" {
		return fmt.Sprintf("tar entry %s has more than %d %s", quote(e.Path), e.Max, e.what)
	}
	return fmt.Sprintf("the layer has more than %d %s (tar entry %s)", e.Max, e.what, quote(e.Path))
}

// Unwrap tells the kind.
func (e *LimitError) Unwrap() error { return errdefs.ErrInvalidArgument }

// EntryError says what is wrong with an entry of a tar, or with the tar there. It is of the kind
// errdefs.ErrInvalidArgument.
type EntryError struct {
	Path   string // of the entry, as the tar has it; "" where it could not be read
	Offset int64  // of the entry's first header in the tar, bytes
	Reason string // what is wrong, lower case, without a full stop
	Err    error  // the error behind it, or nil
}

// Error is one sentence for a user.
func (e *EntryError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("the layer's tar is damaged at byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("tar entry %s: %s", quote(e.Path), e.Reason)
}

// Unwrap tells the kind, and the error behind it.
func (e *EntryError) Unwrap() []error {
	if e.Err == nil {
		return []error{errdefs.ErrInvalidArgument}
	}
	return []error{errdefs.ErrInvalidArgument, e.Err}
}

// quote makes a path fit to be shown: paths can be megabytes, and hold anything.
func quote(path string) string {
	const shown = 200
	if len(path) > shown {
		return fmt.Sprintf("%q… (%d bytes)", path[:shown], len(path))
	}
	return fmt.Sprintf("%q", path)
}
