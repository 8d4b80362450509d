package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
	dockervolume "github.com/moby/moby/api/types/volume"
)

func (s *Server) showVolume(v volume.Volume) dockervolume.Volume {
	labels := v.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	if v.Anonymous {
		labels = map[string]string{"com.docker.volume.anonymous": ""}
		for k, l := range v.Labels {
			labels[k] = l
		}
	}
	return dockervolume.Volume{
		Name: v.Name, Driver: "local", Mountpoint: s.engine.VolumePath(v.Name), Scope: "local", Labels: labels, Options: v.Options,
		CreatedAt: v.Created.Format(time.RFC3339),
	}
}

func (s *Server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "label", "label!", "name")
	if err != nil {
		return err
	}
	dangling, given, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	all, warnings := s.engine.Volumes()
	out := dockervolume.ListResponse{Volumes: []dockervolume.Volume{}, Warnings: warnings}
	for _, v := range all {
		if given && dangling != (len(s.engine.VolumeUsers(v.Name)) == 0) {
			continue
		}
		if f.labels(v.Labels) && f.exactly("driver", "local") && f.any("name", func(p string) bool { return strings.Contains(v.Name, p) }) {
			out.Volumes = append(out.Volumes, s.showVolume(v))
		}
	}
	return answer(w, http.StatusOK, out)
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var in dockervolume.CreateRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Driver != "" && in.Driver != "local" {
		return fmt.Errorf("berth has no volume driver %q, only local: %w", in.Driver, errdefs.ErrInvalidArgument)
	}
	if len(in.DriverOpts) > 0 {
		return invalid("berth has no options for volumes yet (--opt)")
	}
	v, err := s.engine.CreateVolume(r.Context(), volume.Volume{Name: in.Name, Labels: in.Labels})
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, s.showVolume(v))
}

func (s *Server) inspectVolume(w http.ResponseWriter, r *http.Request) error {
	v, err := s.engine.Volume(r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s.showVolume(v))
}

func (s *Server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.RemoveVolume(r.Context(), r.PathValue("name"), truth(r.URL.Query(), "force", false)); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "all")
	if err != nil {
		return err
	}
	all, _, err := f.boolean("all")
	if err != nil {
		return err
	}
	anonymousOnly := !all && !versionOf(r).before(42)
	p, err := s.engine.PruneVolumes(r.Context(), func(v volume.Volume) bool { return anonymousOnly && !v.Anonymous || !f.labels(v.Labels) })
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, dockervolume.PruneReport{VolumesDeleted: p.Deleted, SpaceReclaimed: uint64(p.Reclaimed)})
}
