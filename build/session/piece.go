package session

import (
	"encoding/binary"
	"fmt"
)

// Piece is a part of a file's content.
type Piece struct {
	Index int
	Flags byte
	// Stat is what fstat(2) said of the file, and its xattrs, with PieceFirst; its path is empty.
	Stat Entry
	Data []byte
}

// AppendPieceHeader appends all of p but its data, of which size bytes follow.
func AppendPieceHeader(b []byte, p *Piece, size int) []byte {
	b = binary.AppendUvarint(b, uint64(p.Index))
	b = append(b, p.Flags)
	if p.Flags&PieceFirst != 0 {
		b = AppendEntry(b, &p.Stat, &Entry{})
	}
	return binary.AppendUvarint(b, uint64(size))
}

// DecodePieces calls f for each piece of a FilesFrame's payload after the request's id. Data is valid
// during the call.
func DecodePieces(b []byte, f func(Piece) error) error {
	d := decoder{b: b}
	for len(d.b) > 0 {
		var p Piece
		index := d.uint()
		if d.bad || index >= MaxEntries || len(d.b) == 0 {
			return fmt.Errorf("%w: a torn piece of a file", ErrList)
		}
		p.Index, p.Flags = int(index), d.b[0]
		d.b = d.b[1:]
		if p.Flags&PieceFirst != 0 {
			if len(d.b) == 0 {
				return fmt.Errorf("%w: a torn piece of a file", ErrList)
			}
			e, err := d.entry(&Entry{})
			if err != nil {
				return err
			}
			if e.Mode&ModeType != ModeReg || e.Path != "" || e.Link != "" || e.Hardlink != "" {
				return fmt.Errorf("%w: a piece of what is no file", ErrList)
			}
			p.Stat = e
		}
		size := d.uint()
		if d.bad || size > uint64(len(d.b)) {
			return fmt.Errorf("%w: a torn piece of a file", ErrList)
		}
		p.Data, d.b = d.b[:size], d.b[size:]
		if err := f(p); err != nil {
			return err
		}
	}
	return nil
}
