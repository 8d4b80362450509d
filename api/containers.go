package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
	units "github.com/docker/go-units"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func (s *Server) listContainers(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f, err := readFilters(r, "id", "name", "label", "label!", "status", "exited", "ancestor", "network", "volume", "health", "before", "since", "publish", "expose", "is-task")
	if err != nil {
		return err
	}
	limit, limited, err := number(q, "limit")
	if err != nil {
		return err
	}
	all := truth(q, "all", false) || limited && limit > 0 || len(f["status"]) > 0 || len(f["exited"]) > 0
	match, err := s.matchContainer(f)
	if err != nil {
		return err
	}
	list := []any{}
	for _, c := range s.engine.List() {
		if !all && !c.State.Status.Active() && c.State.Status != container.Restarting || !match(c) {
			continue
		}
		if limited && limit > 0 && len(list) == limit {
			break
		}
		sum := s.summary(c)
		if truth(q, "size", false) {
			if sum.SizeRw, sum.SizeRootFs, err = s.engine.Sizes(r.Context(), c.ID); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		list = append(list, sum)
	}
	return answer(w, http.StatusOK, list)
}

// matchContainer returns what the filters of a list say of a container.
func (s *Server) matchContainer(f filters) (func(engine.Container) bool, error) {
	names := map[string]*regexp.Regexp{}
	for v := range f["name"] {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'name=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
		}
		names[v] = re
	}
	edge := map[string]time.Time{}
	for _, name := range []string{"before", "since"} {
		for v := range f[name] {
			c, err := s.engine.Inspect(v)
			if err != nil {
				return nil, err
			}
			edge[name] = c.Created
		}
	}
	for v := range f["status"] {
		if err := dockercontainer.ValidateContainerState(dockercontainer.ContainerState(v)); err != nil {
			return nil, fmt.Errorf("invalid filter 'status=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
		}
	}
	for v := range f["health"] {
		switch v {
		case "none", "starting", "healthy", "unhealthy":
		default:
			return nil, fmt.Errorf("invalid filter 'health=%s': it can be none, starting, healthy or unhealthy: %w", v, errdefs.ErrInvalidArgument)
		}
	}
	for v := range f["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("invalid filter 'exited=%s': it is not an exit code: %w", v, errdefs.ErrInvalidArgument)
		}
	}
	tasks, _, err := f.boolean("is-task")
	if err != nil {
		return nil, err
	}
	return func(c engine.Container) bool {
		if tasks { // there is no swarm
			return false
		}
		if t, ok := edge["before"]; ok && !c.Created.Before(t) {
			return false
		}
		if t, ok := edge["since"]; ok && !c.Created.After(t) {
			return false
		}
		return f.labels(c.Config.Labels) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
			f.any("name", func(v string) bool { return names[v].MatchString(c.Name) || names[v].MatchString("/"+c.Name) }) &&
			f.exactly("status", string(c.State.Status)) &&
			f.any("exited", func(v string) bool {
				return c.State.Status == container.Exited && v == fmt.Sprint(c.State.ExitCode)
			}) &&
			f.any("health", func(v string) bool { return v == healthWord(c.State.Health) }) &&
			f.any("ancestor", func(v string) bool { return s.ancestor(c, v) }) &&
			f.any("network", func(v string) bool { return inNetwork(c, v) }) &&
			f.any("volume", func(v string) bool { return mountsVolume(c, v) }) &&
			f.any("publish", func(v string) bool { return hasPort(c, v, true) }) &&
			f.any("expose", func(v string) bool { return hasPort(c, v, false) })
	}, nil
}

func healthWord(h *container.Health) string {
	if h == nil {
		return "none"
	}
	return h.Status
}

func (s *Server) ancestor(c engine.Container, image string) bool {
	if c.Config.Image == image {
		return true
	}
	img, err := s.engine.InspectImage(image)
	if err != nil || len(img.DiffIDs) > len(c.Config.Layers) {
		return false
	}
	for i, d := range img.DiffIDs {
		if c.Config.Layers[i] != d {
			return false
		}
	}
	return img.ID == c.Config.ImageID || len(img.DiffIDs) > 0
}

func inNetwork(c engine.Container, name string) bool {
	for _, ep := range c.Attached.Endpoints {
		if ep.NetworkName == name || strings.HasPrefix(ep.NetworkID, name) {
			return true
		}
	}
	return c.Config.Network.Mode == name
}

func mountsVolume(c engine.Container, v string) bool {
	for _, m := range c.Config.Mounts {
		if m.Source == v || m.Target == v {
			return true
		}
	}
	return false
}

func hasPort(c engine.Container, v string, published bool) bool {
	r, err := network.ParsePortRange(v)
	if err != nil {
		return false
	}
	in := func(n uint16, proto string) bool {
		return n >= r.Start() && n <= r.End() && proto == string(r.Proto())
	}
	for _, p := range c.Attached.Ports {
		if in(p.ContainerPort, p.Proto) || in(p.HostPort, p.Proto) {
			return true
		}
	}
	if published {
		return false
	}
	for _, p := range c.Config.Network.Exposed {
		if in(p.Number, p.Protocol) {
			return true
		}
	}
	return false
}

// summary is a line of ps.
func (s *Server) summary(c engine.Container) *dockercontainer.Summary {
	out := &dockercontainer.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Config.Image, ImageID: c.Config.ImageID.String(), Command: commandLine(c.Config.Process.Args()),
		Created: c.Created.Unix(), Ports: []dockercontainer.PortSummary{}, Labels: c.Config.Labels,
		State: dockercontainer.ContainerState(c.State.Status), Status: status(c.State, time.Now()), Mounts: mountPoints(c),
		NetworkSettings: &dockercontainer.NetworkSettingsSummary{Networks: networkSettings(c).Networks},
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.HostConfig.NetworkMode = c.Config.Network.Mode
	for _, p := range c.Attached.Ports {
		out.Ports = append(out.Ports, dockercontainer.PortSummary{IP: p.HostIP, PrivatePort: p.ContainerPort, PublicPort: p.HostPort, Type: p.Proto})
	}
	if c.State.Status.Active() {
		for _, p := range c.Config.Network.Exposed {
			if !hasPort(c, fmt.Sprintf("%d/%s", p.Number, p.Protocol), true) {
				out.Ports = append(out.Ports, dockercontainer.PortSummary{PrivatePort: p.Number, Type: p.Protocol})
			}
		}
	}
	return out
}

// status is Docker's sentence about a state ("Up 3 minutes (healthy)").
func status(s container.State, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status {
	case container.Running, container.Paused:
		text := "Up " + ago(s.StartedAt)
		switch {
		case s.Status == container.Paused:
			text += " (Paused)"
		case s.Health != nil && s.Health.Status == container.Starting:
			text += " (health: starting)"
		case s.Health != nil:
			text += " (" + s.Health.Status + ")"
		}
		return text
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case container.Removing:
		return "Removal In Progress"
	case container.Dead:
		return "Dead"
	case container.Created:
		return "Created"
	}
	if s.FinishedAt.IsZero() {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
}

func (s *Server) startContainer(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Start(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return done(w)
}

// timeoutOf reads "t": seconds, or nil.
func timeoutOf(r *http.Request) (*int, error) {
	n, given, err := number(r.URL.Query(), "t")
	if err != nil || !given {
		return nil, err
	}
	return &n, nil
}

func (s *Server) top(w http.ResponseWriter, r *http.Request) error {
	p, err := s.engine.Top(r.Context(), r.PathValue("id"), strings.Fields(r.URL.Query().Get("ps_args")))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]any{"Titles": p.Titles, "Processes": p.Rows})
}

// commandLine is a command as Docker lists it: what has a blank in it stands between quotes.
func commandLine(args []string) string {
	words := slices.Clone(args)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

func (s *Server) stopContainer(w http.ResponseWriter, r *http.Request) error {
	t, err := timeoutOf(r)
	if err != nil {
		return err
	}
	stop := s.engine.Stop
	if truth(r.URL.Query(), "shutdown", false) { // ours: Docker's clients don't say it
		stop = s.engine.StopForShutdown
	}
	if err := stop(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal"), t); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) restartContainer(w http.ResponseWriter, r *http.Request) error {
	t, err := timeoutOf(r)
	if err != nil {
		return err
	}
	if err := s.engine.Restart(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal"), t); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) killContainer(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Kill(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal")); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) renameContainer(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("name")
	if name == "" {
		return fmt.Errorf("neither old nor new names may be empty: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.engine.Rename(r.Context(), r.PathValue("id"), name); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) pauseContainer(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Pause(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) unpauseContainer(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Unpause(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return done(w)
}

func sizeOf(r *http.Request) (runtime.Size, error) {
	h, _, err := number(r.URL.Query(), "h")
	if err != nil {
		return runtime.Size{}, err
	}
	width, _, err := number(r.URL.Query(), "w")
	return runtime.Size{Height: uint16(h), Width: uint16(width)}, err
}

func (s *Server) resizeContainer(w http.ResponseWriter, r *http.Request) error {
	size, err := sizeOf(r)
	if err != nil {
		return err
	}
	if err := s.engine.Resize(r.Context(), r.PathValue("id"), size); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// waitContainer flushes the answer's header as soon as the waiter is registered: `docker run` waits
// before it starts.
func (s *Server) waitContainer(w http.ResponseWriter, r *http.Request) error {
	ended, cancel, err := s.engine.Wait(r.PathValue("id"), container.Condition(r.URL.Query().Get("condition")))
	if err != nil {
		return err
	}
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return nil
	}
	select {
	case e := <-ended:
		out := dockercontainer.WaitResponse{StatusCode: int64(e.ExitCode)}
		if e.Error != "" {
			out.Error = &dockercontainer.WaitExitError{Message: e.Error}
		}
		_ = json.NewEncoder(w).Encode(out) // the client has gone
	case <-r.Context().Done():
	}
	return nil
}

func (s *Server) removeContainer(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if truth(q, "link", false) {
		return fmt.Errorf("berth has no links to remove: %w", errdefs.ErrInvalidArgument)
	}
	err := s.engine.Remove(r.Context(), r.PathValue("id"), engine.RemoveOptions{Force: truth(q, "force", false), Volumes: truth(q, "v", false)})
	if err != nil {
		return err
	}
	return done(w)
}

func (s *Server) pruneContainers(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "until", "label", "label!")
	if err != nil {
		return err
	}
	before, err := f.until()
	if err != nil {
		return err
	}
	p, err := s.engine.PruneContainers(r.Context(), func(c engine.Container) bool {
		return !before.IsZero() && c.Created.After(before) || !f.labels(c.Config.Labels)
	})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, dockercontainer.PruneReport{ContainersDeleted: p.Deleted, SpaceReclaimed: uint64(p.Reclaimed)})
}

func (s *Server) changes(w http.ResponseWriter, r *http.Request) error {
	found, err := s.engine.Changes(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	kinds := map[layer.ChangeKind]dockercontainer.ChangeType{
		layer.Changed: dockercontainer.ChangeModify, layer.Added: dockercontainer.ChangeAdd, layer.Deleted: dockercontainer.ChangeDelete,
	}
	list := []dockercontainer.FilesystemChange{}
	for _, c := range found {
		list = append(list, dockercontainer.FilesystemChange{Kind: kinds[c.Kind], Path: c.Path})
	}
	return answer(w, http.StatusOK, list)
}

// startFailure is the exit status that goes with an error of a start: 126 or 127, or 0 for any other.
func startFailure(err error) int {
	var failed *runtime.StartError
	if !errors.As(err, &failed) || failed.ExitCode() == 125 {
		return 0
	}
	return failed.ExitCode()
}

// exitStatus is what `run` exits with after an error.
func exitStatus(err error) int {
	if code := startFailure(err); code != 0 {
		return code
	}
	return 125
}
