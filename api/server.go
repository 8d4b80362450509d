package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/engine"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// Options configure a Server.
type Options struct {
	Version string // of the program
	// MinVersion is the oldest API version that is answered; "" is 1.38 (moby's own floor is 1.40).
	MinVersion string
	Log        *slog.Logger
}

// Server is the API of one engine.
type Server struct {
	engine *engine.Engine
	opts   Options
	min    version
	log    *slog.Logger
	mux    *http.ServeMux
}

// New returns a Server.
func New(e *engine.Engine, o Options) (*Server, error) {
	if o.MinVersion == "" {
		o.MinVersion = oldest.String()
	}
	least, err := parseVersion(o.MinVersion)
	if err != nil {
		return nil, err
	}
	s := &Server{engine: e, opts: o, min: least, log: o.Log, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.routes()
	return s, nil
}

// handler is a route: what it returns as an error becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

func (s *Server) routes() {
	for pattern, h := range map[string]handler{
		"GET /_ping": s.ping, "HEAD /_ping": s.ping,
		"GET /version": s.version, "GET /info": s.info, "GET /events": s.events, "POST /auth": s.auth,
		"GET /system/df": s.diskUsage,

		"GET /containers/json":          s.listContainers,
		"POST /containers/create":       s.createContainer,
		"POST /containers/prune":        s.pruneContainers,
		"GET /containers/{id}/json":     s.inspectContainer,
		"POST /containers/{id}/start":   s.startContainer,
		"POST /containers/{id}/stop":    s.stopContainer,
		"POST /containers/{id}/restart": s.restartContainer,
		"POST /containers/{id}/kill":    s.killContainer,
		"POST /containers/{id}/rename":  s.renameContainer,
		"POST /containers/{id}/pause":   s.pauseContainer,
		"POST /containers/{id}/unpause": s.unpauseContainer,
		"POST /containers/{id}/resize":  s.resizeContainer,
		"POST /containers/{id}/wait":    s.waitContainer,
		"POST /containers/{id}/attach":  s.attachContainer,
		"GET /containers/{id}/logs":     s.logs,
		"GET /containers/{id}/top":      s.top,
		"GET /containers/{id}/changes":  s.changes,
		"GET /containers/{id}/export":   s.export,
		"HEAD /containers/{id}/archive": s.statArchive,
		"GET /containers/{id}/archive":  s.getArchive,
		"PUT /containers/{id}/archive":  s.putArchive,
		"DELETE /containers/{id}":       s.removeContainer,
		"POST /containers/{id}/exec":    s.createExec,
		"POST /exec/{id}/start":         s.startExec,
		"POST /exec/{id}/resize":        s.resizeExec,
		"GET /exec/{id}/json":           s.inspectExec,
		"POST /commit":                  s.commit,
		"GET /images/json":              s.listImages,
		"GET /images/get":               s.saveImages,
		"POST /images/create":           s.createImage,
		"POST /images/load":             s.loadImages,
		"POST /images/prune":            s.pruneImages,
		"GET /images/{name...}":         s.getImage,
		"POST /images/{name...}":        s.postImage,
		"DELETE /images/{name...}":      s.removeImage,
		"POST /build":                   s.classicBuild,
		"POST /build/prune":             s.pruneBuild,
		"GET /volumes":                  s.listVolumes,
		"POST /volumes/create":          s.createVolume,
		"POST /volumes/prune":           s.pruneVolumes,
		"GET /volumes/{name}":           s.inspectVolume,
		"DELETE /volumes/{name}":        s.removeVolume,
		"GET /networks":                 s.listNetworks,
		"POST /networks/create":         s.createNetwork,
		"POST /networks/prune":          s.pruneNetworks,
		"GET /networks/{id}":            s.inspectNetwork,
		"DELETE /networks/{id}":         s.removeNetwork,
		"POST " + wire.RunPath:          s.run,
		"POST " + wire.BuildPath:        s.build,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, fmt.Errorf("page not found: berth doesn't have %s %s yet: %w", r.Method, r.URL.Path, errdefs.ErrNotFound))
	})
}

// ServeHTTP takes the version off the path, checks it, and routes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "Berth/"+s.opts.Version+" (linux)")
	h.Set("Api-Version", newest.String())
	h.Set("Ostype", "linux")
	v := newest
	if text, rest, ok := cutVersion(r.URL.Path); ok {
		var err error
		if v, err = parseVersion(text); err == nil {
			err = s.check(v)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		r.URL.Path, r.URL.RawPath = rest, ""
	}
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), versionKey{}, v)))
}

func (s *Server) check(v version) error {
	switch {
	case v.less(s.min):
		return fmt.Errorf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version: %w", v, s.min, errdefs.ErrInvalidArgument)
	case newest.less(v):
		return fmt.Errorf("client version %s is too new. Maximum supported API version is %s: %w", v, newest, errdefs.ErrInvalidArgument)
	}
	return nil
}

// fail answers with an error: its kind is the status, its text the message.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	s.log.Debug("request failed", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(common.ErrorResponse{Message: message(err)}) // the client has gone
}

// statusOf is Docker's mapping (moby, httpstatus.FromError).
func statusOf(err error) int {
	for _, k := range []struct {
		is     func(error) bool
		status int
	}{
		{errdefs.IsNotModified, http.StatusNotModified},
		{errdefs.IsNotFound, http.StatusNotFound},
		{errdefs.IsInvalidArgument, http.StatusBadRequest},
		{errdefs.IsOutOfRange, http.StatusBadRequest},
		{errdefs.IsConflict, http.StatusConflict},
		{errdefs.IsAlreadyExists, http.StatusConflict},
		{errdefs.IsFailedPrecondition, http.StatusBadRequest},
		{errdefs.IsUnauthorized, http.StatusUnauthorized},
		{errdefs.IsPermissionDenied, http.StatusForbidden},
		{errdefs.IsUnavailable, http.StatusServiceUnavailable},
		{errdefs.IsResourceExhausted, http.StatusTooManyRequests},
		{errdefs.IsNotImplemented, http.StatusNotImplemented},
	} {
		if k.is(err) {
			return k.status
		}
	}
	if code := startFailure(err); code != 0 {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// kinds are the bare words that errdefs puts at the end of a sentence; a user doesn't need them.
var kinds = []error{
	errdefs.ErrNotFound, errdefs.ErrInvalidArgument, errdefs.ErrConflict, errdefs.ErrAlreadyExists, errdefs.ErrFailedPrecondition,
	errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied, errdefs.ErrUnavailable, errdefs.ErrNotImplemented, errdefs.ErrNotModified,
	errdefs.ErrDataLoss, errdefs.ErrResourceExhausted, errdefs.ErrOutOfRange, errdefs.ErrInternal, errdefs.ErrAborted,
}

// message is an error's sentence without the words of its kinds.
func message(err error) string {
	text := err.Error()
	for _, k := range kinds {
		if errors.Is(err, k) {
			text = strings.ReplaceAll(text, ": "+k.Error(), "")
		}
	}
	return text
}

// answer sends JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
	return nil
}

// done sends no body.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// bodyMax bounds a JSON body, in bytes.
const bodyMax = 16 << 20

// decode reads a JSON body. An empty one leaves v as it is.
func decode(r *http.Request, v any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, bodyMax+1))
	if err != nil {
		return fmt.Errorf("read the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if len(b) > bodyMax {
		return fmt.Errorf("the request's body is larger than %d bytes: %w", bodyMax, errdefs.ErrInvalidArgument)
	}
	return unmarshal(b, v)
}

func unmarshal(b []byte, v any) error {
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("invalid JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}
