package erofs

import "fmt"

// Limits bound what a tar can make of a layer. A field that is 0 has its default.
type Limits struct {
	// Inodes is the highest number of files, directories and so on, implied directories included.
	Inodes int
	// Metadata is the highest number of bytes behind the tar: inodes, names, link targets, xattrs, tables
	// of sparse files and those of their parts that have to be copied.
	Metadata int64
	// Xattrs is the highest number of bytes of names and values of extended attributes of one inode, at
	// most 64 KiB.
	Xattrs int
	// Tar is the highest number of bytes of a tar.
	Tar int64
}

// DefaultLimits are far above what images hold, and far below what hurts the machine: a layer at all of
// them at once costs some 400 MiB of memory while it is written.
func DefaultLimits() Limits {
	return Limits{
		Inodes:   1 << 20,
		Metadata: 256 << 20,
		Xattrs:   64 << 10,
		Tar:      1 << 40,
	}
}

// What no setting changes, because the kernel's interfaces and the file's format don't.
const (
	maxPath   = 4095 // bytes, PATH_MAX without its NUL
	maxName   = 255  // bytes, NAME_MAX
	maxTarget = 4095 // bytes of a symbolic link's target
)

// LimitError says that a tar is over one of the Limits. It is of the kind errdefs.ErrInvalidArgument.
type LimitError struct {
	Limit string // the field of Limits: "Inodes", …
	Max   int64
	Path  string // the entry that went over it; "" where none did
	what  string
}

// Error is one sentence for a user.
func (e *LimitError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("the layer has more than %d %s", e.Max, e.what)
	}
	return fmt.Sprintf("the layer has more than %d %s (at %q)", e.Max, e.what, e.Path)
}

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
	return fmt.Sprintf("tar entry %q: %s", e.Path, e.Reason)
}
