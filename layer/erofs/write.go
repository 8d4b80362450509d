package erofs

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// Version names the rules by which a tar becomes metadata. Files of the same tar and version are equal
// byte by byte. It is written into every file's header, and goes up when the rules change.
const Version = 1

// Options of Write and Rebuild. The zero value means DefaultLimits.
type Options struct {
	Limits Limits
}

// Result says what Write made, and what a stack of layers has to know about the layer.
type Result struct {
	DiffID  digest.Digest // sha256 of the tar, all of its bytes, those behind its end included
	TarSize int64         // bytes of the tar
	Size    int64         // bytes of the layer file, a multiple of 4096
	Inodes  int           // inodes in the file, the root included

	// MetadataDigest is the sha256 of everything in the file that is not tar: the first 4096 bytes and
	// all that follows the tar. The tar's own digest says nothing of it; VerifyMetadata checks it.
	MetadataDigest digest.Digest

	// Implied are the directories that the tar has no entry for, but entries below them ("secret/f"
	// without "secret/"), sorted, without a leading slash. In the file they are 0755, 0:0, and as old as
	// the entry that implied them: their real attributes are those of the same directory in the layers
	// below, and overlayfs would show these here instead. Directories that hide what is below
	// (".wh.x" beside "x/f") are not among them. The root is never among them.
	Implied []string

	// Opaque says that the tar hides everything in the layers below (".wh..wh..opq" at its root). overlayfs
	// does not look for that at the root of a layer: the stack has to begin with this layer.
	Opaque bool

	// LowerLinks are hard links whose target is in no entry before them in this tar, so it can only be in
	// a layer below. The file has nothing at Path (parents are there, implied where need be): the stack
	// has to bring a copy. Sorted by Path.
	LowerLinks []LowerLink
}

// LowerLink is a hard link out of the layer: applying it copies Target up, with its attributes, xattrs
// and content as the layers below show them, and gives the copy the name Path besides. All links with
// the same Target are one inode, and so is Target itself unless this layer has a whiteout or something
// else there. Both are clean paths without a leading slash; neither is refused for what is below (a
// target that does not exist there, or is a directory, is for the stack to refuse).
type LowerLink struct {
	Path, Target string
}

// Write reads a tar from r to its end and makes a layer file of it in f, which is empty and opened for
// reading and writing. The superblock is written last, so that a file that was not finished is never
// taken for one; nothing is synced. It does not use f's position.
//
// What the tar says wrong or what is over a limit gives an *EntryError or *LimitError (both of the kind
// errdefs.ErrInvalidArgument); a tar that ends too early wraps io.ErrUnexpectedEOF besides. Errors of r
// and f are wrapped. After an error f holds rubbish.
func Write(ctx context.Context, f *os.File, r io.Reader, opts Options) (Result, error) {
	return Result{}, errors.New("layer/erofs: not built yet")
}

// Rebuild makes the metadata of the layer file f again from the tar inside: tarSize bytes from offset
// 4096 on (what the file says of itself is not believed), which have to have the digest diffID, or f is
// left as it is. The result is what Write gave, and the file too, byte by byte.
func Rebuild(ctx context.Context, f *os.File, tarSize int64, diffID digest.Digest, opts Options) (Result, error) {
	return Result{}, errors.New("layer/erofs: not built yet")
}
