package script

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// writeNames puts the names of the steps into the arena where it is a file.
func (s *Script) writeNames() {
	if !s.filed {
		return
	}
	for i := s.written; i < s.n; i++ {
		t, in := s.arena.step(i), s.info[i]
		t.name = uint32(s.putString(in.name))
		t.object = uint32(s.putString(in.object))
	}
	s.written = s.n
}

// ReadFailure reads from the file of NewIn how the child failed; nil where it did not. A child that still waits,
// or has executed its program, has not failed.
func ReadFailure(f *os.File) (*Failure, error) {
	head := make([]byte, unsafe.Sizeof(status{}))
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("read how the start went: %w", err)
	}
	word := func(off uintptr) int32 { return int32(binary.NativeEndian.Uint32(head[off:])) }
	var h status
	if word(unsafe.Offsetof(h.failed)) == 0 {
		return nil, nil
	}
	failure := &Failure{Index: int(word(unsafe.Offsetof(h.failedStep))), Errno: syscall.Errno(word(unsafe.Offsetof(h.errno)))}
	if failure.Index < 0 || failure.Index >= maxSteps {
		return nil, fmt.Errorf("read how the start went: there is no step %d", failure.Index)
	}
	var t step
	raw := make([]byte, unsafe.Sizeof(t))
	if _, err := f.ReadAt(raw, int64(headSize)+int64(failure.Index)*int64(len(raw))); err != nil {
		return nil, fmt.Errorf("read how the start went: %w", err)
	}
	failure.Exec = raw[unsafe.Offsetof(t.flags)]&flagExec != 0
	var err error
	if failure.Step, err = readName(f, binary.NativeEndian.Uint32(raw[unsafe.Offsetof(t.name):])); err == nil {
		failure.Object, err = readName(f, binary.NativeEndian.Uint32(raw[unsafe.Offsetof(t.object):]))
	}
	return failure, err
}

const maxName = 8 << 10

func readName(f *os.File, off uint32) (string, error) {
	b := make([]byte, maxName)
	n, err := f.ReadAt(b, int64(off))
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read how the start went: %w", err)
	}
	name, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(name), nil
}
