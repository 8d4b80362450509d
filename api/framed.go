package api

import (
	"fmt"
	"net/http"

	"github.com/berth-engine/berth/internal/frame"
	"github.com/containerd/errdefs"
)

// framed is a connection that carries frames of Berth's own (api/wire).
type framed struct {
	*hijacked
	up   *frame.Reader
	down *frame.Writer
	bad  error // what is wrong with the first frame: the answer is a frame, too
}

// openFramed takes the connection over and reads its first frame, which must be of kind, into request.
// It returns nil where the client has gone. The caller finishes the connection.
func openFramed(w http.ResponseWriter, r *http.Request, kind frame.Kind, request any) (*framed, error) {
	h, err := hijack(w, r, "application/vnd.berth.frames")
	if err != nil {
		return nil, err
	}
	f := &framed{hijacked: h, up: frame.NewReader(h.in), down: frame.NewWriter(h.Conn)}
	got, payload, err := f.up.Next()
	if err != nil {
		h.finish()
		return nil, nil
	}
	if got != kind {
		f.bad = fmt.Errorf("the connection begins with frame %d, not %d: %w", kind, got, errdefs.ErrInvalidArgument)
	} else {
		f.bad = unmarshal(payload, request)
	}
	return f, nil
}
