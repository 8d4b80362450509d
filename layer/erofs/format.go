package erofs

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// The file begins with headerSize bytes that are not tar: our own header where a boot sector would be,
// and EROFS's superblock.
const (
	headerSize   = 4096
	fileAlign    = 4096 // kernel 7.3 reads metadata in a partial last page wrongly
	ownMagic     = "berth layer\n"
	ownVersionAt = 12
	ownTarSizeAt = 16
	ownDiffIDAt  = 24
	superAt      = 1024
)

// From erofs_fs.h.
const (
	superMagic     = 0xe0f5e1e2
	blockBits      = 9
	compatMtime    = 0x2 // times of inodes are those of modification
	incompatChunks = 0x4 // there are inodes with a table
	slot           = 32  // inodes are numbered by their place, in units of this many bytes
	compactSize    = 32
	extendedSize   = 64
	direntSize     = 12

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4
	extendedBit  = 1
)

// fileType is the type in a directory's entry (erofs_fs.h, EROFS_FT_*).
func fileType(mode uint16) byte {
	switch mode & modeType {
	case modeFile:
		return 1
	case modeDir:
		return 2
	case modeChar:
		return 3
	case modeBlock:
		return 4
	case modeFIFO:
		return 5
	default:
		return 7 // symbolic link
	}
}

// superblock says where in the file everything is.
type superblock struct {
	diffID    digest.Digest
	tarSize   int64
	size      int64 // of the file, bytes
	inodes    int
	rootNID   uint16
	epoch     int64  // time of compact inodes, seconds
	metaBlock uint32 // inodes are numbered from here
	xattr     uint32 // block of the shared attributes
	chunks    bool
}

// encode makes the first headerSize bytes of the file.
func (s superblock) encode() []byte {
	le := binary.LittleEndian
	sum, _ := hex.DecodeString(s.diffID.Encoded())
	b := make([]byte, headerSize)
	copy(b, ownMagic)
	le.PutUint32(b[ownVersionAt:], Version)
	le.PutUint64(b[ownTarSizeAt:], uint64(s.tarSize))
	copy(b[ownDiffIDAt:], sum)

	sb := b[superAt:]
	le.PutUint32(sb, superMagic)
	le.PutUint32(sb[8:], compatMtime)
	sb[12] = blockBits
	le.PutUint16(sb[14:], s.rootNID)
	le.PutUint64(sb[16:], uint64(s.inodes))
	le.PutUint64(sb[24:], uint64(s.epoch))
	le.PutUint32(sb[36:], uint32(s.size/blockSize))
	le.PutUint32(sb[40:], s.metaBlock)
	le.PutUint32(sb[44:], s.xattr)
	uuid := sb[48:64] // RFC 9562, version 8: made of the diffID
	copy(uuid, sum)
	uuid[6] = uuid[6]&0x0f | 0x80
	uuid[8] = uuid[8]&0x3f | 0x80
	if s.chunks {
		le.PutUint32(sb[80:], incompatChunks)
	}
	return b
}

// decodeHeader reads our own header.
func decodeHeader(b []byte) (Header, error) {
	le := binary.LittleEndian
	if string(b[:len(ownMagic)]) != ownMagic || le.Uint32(b[superAt:]) != superMagic {
		return Header{}, fmt.Errorf("not a layer file, or one that was not finished: %w", errdefs.ErrDataLoss)
	}
	h := Header{
		Version: int(le.Uint32(b[ownVersionAt:])),
		DiffID:  digest.NewDigestFromBytes(digest.SHA256, b[ownDiffIDAt:ownDiffIDAt+sha256.Size]),
		TarSize: int64(le.Uint64(b[ownTarSizeAt:])),
	}
	if h.TarSize < 0 || h.TarSize > maxTar {
		return Header{}, fmt.Errorf("a layer file with a damaged header: %w", errdefs.ErrDataLoss)
	}
	return h, nil
}
