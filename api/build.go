package api

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

func (s *Server) classicBuild(http.ResponseWriter, *http.Request) error {
	return fmt.Errorf("building is not wired up yet: %w", errdefs.ErrNotImplemented)
}

func (s *Server) build(http.ResponseWriter, *http.Request) error {
	return fmt.Errorf("building is not wired up yet: %w", errdefs.ErrNotImplemented)
}
