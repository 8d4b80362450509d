package frame

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// MaxPayload is the longest payload, in bytes, that is written or accepted. Bulk data is cut into
// shorter ones; only a JSON document (a container's configuration with its environment) comes near.
const MaxPayload = 16 << 20

// Kind says what a frame is. Each protocol has its own table.
type Kind byte

// HeaderSize is what a frame has before its payload, in bytes.
const HeaderSize = 5

// PutHeader writes the header of a frame with n bytes of payload into b, for those who have the payload in place
// behind it.
func PutHeader(b []byte, kind Kind, n int) {
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
}

// Writer writes frames. It may be used from several goroutines: a frame is never torn.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer // guarded by mu
	buf []byte    // guarded by mu
}

// NewWriter returns a Writer on w. It buffers nothing between calls.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame with a single call of the underlying Write.
func (w *Writer) Write(kind Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("frame of kind %d: %d bytes, at most %d are allowed", kind, len(payload), MaxPayload)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], 0, 0, 0, 0, 0)
	PutHeader(w.buf, kind, len(payload))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// WriteJSON writes one frame whose payload is the JSON of v.
func (w *Writer) WriteJSON(kind Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("frame of kind %d: %w", kind, err)
	}
	return w.Write(kind, b)
}

// Stream returns an io.Writer whose every Write becomes one frame of kind or more (long ones are cut).
func (w *Writer) Stream(kind Kind) io.Writer { return stream{w, kind} }

type stream struct {
	w    *Writer
	kind Kind
}

const streamChunk = 1 << 20

func (s stream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, streamChunk)
		if err := s.w.Write(s.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Reader reads frames. It never reads beyond the frame that it returns, so that descriptors sent
// beside a frame, or a protocol that follows, are left alone.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next frame. The payload is valid until the next call. At the end of the stream
// between two frames the error is io.EOF, within one io.ErrUnexpectedEOF.
func (r *Reader) Next() (Kind, []byte, error) {
	var head [HeaderSize]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("frame of kind %d announces %d bytes, at most %d are allowed", head[0], n, MaxPayload)
	}
	if uint32(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return Kind(head[0]), r.buf, nil
}
