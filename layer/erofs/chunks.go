package erofs

import "encoding/binary"

// A sparse file is an inode with a table: for each chunk (a power of two of bytes) the number of the
// block where it begins, or that it is a hole (erofs_fs.h, EROFS_INODE_CHUNK_BASED with a block map).
// Chunks that are whole in the tar are pointed at. The others are copied behind the tar: those that are
// partly a hole, and those that do not begin at a block there.
const (
	maxChunkBits = 21         // 1 GiB
	holeBlock    = ^uint32(0) // EROFS_NULL_ADDR
	mapEntry     = 4          // bytes
)

// chunkPlan says how large the chunks of a sparse file are, and what that costs.
type chunkPlan struct {
	bits   uint  // chunk size in blocks, as a power of two
	chunks int64 // in the table
	copied int64 // bytes behind the tar, whole blocks
}

func (p chunkPlan) chunkSize() int64 { return blockSize << p.bits }

// cost is the number of bytes of table and copies.
func (p chunkPlan) cost() int64 { return p.chunks*mapEntry + p.copied }

// planChunks finds the chunk size that costs least: large ones make a small table, and more to copy.
func planChunks(size int64, segs []segment) chunkPlan {
	var best chunkPlan
	for bits := uint(0); bits <= maxChunkBits; bits++ {
		p := chunkPlan{bits: bits}
		c := p.chunkSize()
		p.chunks = (size-1)/c + 1
		last := int64(-1) // the last chunk that was counted as copied
		count := func(i int64) {
			if i > last {
				last = i
				p.copied += roundUp(min(c, size-i*c), blockSize)
			}
		}
		for _, s := range segs {
			first, end := s.off/c, (s.off+s.size-1)/c
			if (s.data-s.off)%blockSize != 0 {
				// None can be pointed at. Counted at once: there can be many.
				count(first)
				if end > last {
					p.copied += roundUp(min((end-last)*c, size-(last+1)*c), blockSize)
					last = end
				}
				continue
			}
			if s.off != first*c {
				count(first)
			}
			if s.off+s.size != min((end+1)*c, size) {
				count(end)
			}
		}
		if bits == 0 || p.cost() <= best.cost() {
			best = p
		}
	}
	return best
}

// chunk is one that is not a hole.
type chunk struct {
	from, to int64 // in the file
	segs     []segment
	data     int64 // where in the tar, or -1: it has to be copied
}

// each calls fn for each chunk in order; segs is nil for a hole.
func (m *sparseMap) each(size int64, fn func(chunk) error) error {
	c, k := m.plan.chunkSize(), 0
	for i := range m.plan.chunks {
		ch := chunk{from: i * c, to: min((i+1)*c, size), data: -1}
		for k < len(m.segs) && m.segs[k].off+m.segs[k].size <= ch.from {
			k++
		}
		n := k
		for n < len(m.segs) && m.segs[n].off < ch.to {
			n++
		}
		if n > k {
			ch.segs = m.segs[k:n]
			s := m.segs[k]
			data := s.data + ch.from - s.off
			if s.off <= ch.from && s.off+s.size >= ch.to && data%blockSize == 0 {
				ch.data = data
			}
		}
		if err := fn(ch); err != nil {
			return err
		}
	}
	return nil
}

// appendTable appends the table of a sparse file of size bytes.
func (m *sparseMap) appendTable(b []byte, size int64) []byte {
	copied := m.copy
	_ = m.each(size, func(ch chunk) error {
		block := holeBlock
		switch {
		case ch.data >= 0:
			block = uint32((headerSize + ch.data) / blockSize)
		case ch.segs != nil:
			block = uint32(copied / blockSize)
			copied += roundUp(ch.to-ch.from, blockSize)
		}
		b = binary.LittleEndian.AppendUint32(b, block)
		return nil
	})
	return b
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
