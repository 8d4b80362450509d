package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/engine"
	"github.com/containerd/errdefs"
	dockercontainer "github.com/moby/moby/api/types/container"
)

func invalid(text string) error { return fmt.Errorf("%s: %w", text, errdefs.ErrInvalidArgument) }

func pathOf(r *http.Request) (string, error) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", invalid("path cannot be empty")
	}
	return path, nil
}

// setPathStat puts what is told of a path into the header where the command line looks for it.
func setPathStat(w http.ResponseWriter, i engine.FileInfo) error {
	b, err := json.Marshal(dockercontainer.PathStat{Name: i.Name, Size: i.Size, Mode: i.Mode, Mtime: i.ModTime, LinkTarget: i.LinkTarget})
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}

func (s *Server) statArchive(w http.ResponseWriter, r *http.Request) error {
	path, err := pathOf(r)
	if err != nil {
		return err
	}
	info, err := s.engine.StatPath(r.Context(), r.PathValue("id"), path)
	if err != nil {
		return err
	}
	return setPathStat(w, info)
}

func (s *Server) getArchive(w http.ResponseWriter, r *http.Request) error {
	path, err := pathOf(r)
	if err != nil {
		return err
	}
	begun := false
	err = s.engine.CopyFrom(r.Context(), r.PathValue("id"), path, func(i engine.FileInfo) (io.Writer, error) {
		if err := setPathStat(w, i); err != nil {
			return nil, err
		}
		begun = true
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return w, nil
	})
	return s.cut(begun, err)
}

// cut ends a stream that failed half-way so that the client notices: the connection breaks.
func (s *Server) cut(begun bool, err error) error {
	if err != nil && begun {
		s.log.Debug("stream failed half-way", "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func (s *Server) putArchive(w http.ResponseWriter, r *http.Request) error {
	path, err := pathOf(r)
	if err != nil {
		return err
	}
	tar, _, err := content.Decompress(r.Body)
	if err != nil {
		return err
	}
	defer tar.Close()
	q := r.URL.Query()
	err = s.engine.CopyTo(r.Context(), r.PathValue("id"), path, tar, engine.CopyToOptions{
		NoOverwriteDirNonDir: truth(q, "noOverwriteDirNonDir", false), KeepOwner: truth(q, "copyUIDGID", false),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.engine.Inspect(r.PathValue("id")); err != nil {
		return err
	}
	out := &tarStream{w: w}
	err := s.engine.Export(r.Context(), r.PathValue("id"), out)
	return s.cut(out.begun, err)
}

// tarStream sends the header with the first byte, so that what fails before it has a status.
type tarStream struct {
	w     http.ResponseWriter
	begun bool
}

func (t *tarStream) Write(p []byte) (int, error) {
	if !t.begun {
		t.begun = true
		t.w.Header().Set("Content-Type", "application/x-tar")
		t.w.WriteHeader(http.StatusOK)
	}
	return t.w.Write(p)
}
