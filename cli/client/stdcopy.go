package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Demultiplex copies the stream of a container without a terminal to stdout and stderr: blocks of
// eight bytes (stream, 0, 0, 0, length in big endian) and the payload (Docker Engine API,
// "ContainerAttach", "Stream format"). It returns nil at the end of r. A nil writer drops its part.
func Demultiplex(stdout, stderr io.Writer, r io.Reader) error {
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		var w io.Writer
		switch head[0] {
		case 0, 1:
			w = stdout
		case 2:
			w = stderr
		case 3: // an error of the engine in the middle of the stream
			msg, err := io.ReadAll(io.LimitReader(r, min(n, 64<<10)))
			if err != nil {
				return err
			}
			return errors.New(string(msg))
		default:
			return fmt.Errorf("the engine's stream has a block of the unknown kind %d", head[0])
		}
		if _, err := io.CopyN(w, r, n); err != nil {
			return unexpected(err)
		}
	}
}
