package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/session/server"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/internal/frame"
	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	units "github.com/docker/go-units"
	buildtypes "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	registrytypes "github.com/moby/moby/api/types/registry"
)

// build is `berth build`: one connection for the request, what the engine asks for, progress and the
// result (api/wire). When it ends, the build ends.
func (s *Server) build(w http.ResponseWriter, r *http.Request) error {
	var req wire.BuildRequest
	f, err := openFramed(w, r, wire.BuildRequestFrame, &req)
	if err != nil || f == nil {
		return err
	}
	f.down = frame.NewWriter(patient{f.Conn, clientPatience})
	finish, exit := f.finish, wire.BuildExitBody{}
	out, err := buildRequest(req)
	if err = errors.Join(f.bad, err); err == nil {
		gone := make(chan struct{}) // closed by the one who reads the connection, at its end
		finish = func() { f.finishWithin(clientPatience, func() { <-gone }) }
		exit.ImageID, err = s.buildFor(context.WithoutCancel(r.Context()), req, out, f.up, f.down, gone)
	}
	if err != nil {
		exit.Error = message(err)
	}
	if err := f.down.WriteJSON(wire.BuildExit, exit); err != nil { // the client has gone, or is stopped
		s.log.Debug("the end of a build could not be told", "image", exit.ImageID, "build error", exit.Error, "error", err)
	}
	finish()
	return nil
}

// buildFor builds for a client. gone is closed when the client has gone.
func (s *Server) buildFor(ctx context.Context, req wire.BuildRequest, out build.Request, up *frame.Reader, down *frame.Writer, gone chan<- struct{}) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client := server.New(down, s.engine.BuildContexts(), req.Sources)
	defer client.Close()
	go func() {
		defer close(gone)
		err := deliver(up, client)
		_ = client.Close() // fails what still waits
		cancel(err)
		discard(up)
	}()
	out.Source, out.Credentials = client, client.Credential
	out.Progress = func(ev build.Event) { _ = down.WriteJSON(wire.BuildProgress, buildEvent(ev)) } // a client that has gone ends the context
	id, _, err := s.engine.Build(ctx, out, req.Tags)
	return id.String(), err
}

// discard reads frames until the client goes.
func discard(up *frame.Reader) {
	for {
		if _, _, err := up.Next(); err != nil {
			return
		}
	}
}

var errBuildCancelled = errors.New("the build was cancelled")

// deliver passes the client's frames on until it goes, or cancels.
func deliver(up *frame.Reader, client *server.Session) error {
	for {
		kind, payload, err := up.Next()
		switch {
		case err != nil:
			return server.ErrGone
		case kind == wire.BuildCancel:
			return errBuildCancelled
		case !session.FromClient(kind):
			return fmt.Errorf("a frame of kind %d is not known", kind)
		}
		if err := client.Deliver(kind, payload); err != nil {
			return err
		}
	}
}

// buildRequest says in the builder's words what a client asks for.
func buildRequest(req wire.BuildRequest) (build.Request, error) {
	p, err := platform(req.Platform)
	if err != nil {
		return build.Request{}, err
	}
	out := build.Request{
		Dockerfile: req.Dockerfile, Target: req.Target, Args: req.BuildArgs, Labels: req.Labels, Contexts: req.Contexts, Platform: p,
		NoCache: req.NoCache, Pull: req.Pull, Network: req.Network, ShmSize: req.ShmSize, CgroupParent: req.CgroupParent, AllowHost: req.Network == "host",
	}
	if out.ExtraHosts, err = extraHosts(req.ExtraHosts); err != nil {
		return out, err
	}
	for _, text := range req.Ulimits {
		u, err := units.ParseUlimit(text)
		if err != nil {
			return out, fmt.Errorf("invalid ulimit %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		out.Ulimits = append(out.Ulimits, solver.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out, nil
}

func extraHosts(list []string) ([]solver.Host, error) {
	var hosts []solver.Host
	for _, text := range list {
		name, addr, err := engine.ParseHost(text)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, solver.Host{Name: name, IP: addr})
	}
	return hosts, nil
}

func buildEvent(ev build.Event) wire.BuildEvent {
	return wire.BuildEvent{
		Vertex: string(ev.Vertex), Kind: string(ev.Kind), Name: ev.Name, Data: ev.Data, Stream: ev.Stream,
		Text: ev.Text, Current: ev.Current, Total: ev.Total, Time: ev.Time.UnixNano(),
	}
}

// classicBuild is POST /build: the context is the body, the answer lines of text.
func (s *Server) classicBuild(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	req, err := classicRequest(q)
	if err != nil {
		return err
	}
	out, err := buildRequest(req)
	if err != nil {
		return err
	}
	if out.Resources, err = classicLimits(q); err != nil {
		return err
	}
	if header := r.Header.Get("X-Registry-Config"); header != "" {
		if out.Credentials, err = registryConfig(header); err != nil {
			return err
		}
	}
	source, err := server.FromStream(r.Context(), s.engine.BuildContexts(), r.Body)
	if err != nil {
		return err
	}
	out.Source = source
	lines := newLines(w)
	talk := newClassic(lines, truth(q, "q", false))
	out.Progress = talk.event
	id, result, err := s.engine.Build(r.Context(), out, req.Tags)
	if err != nil {
		return lines.fail(err)
	}
	for _, text := range result.Warnings {
		talk.say("[Warning] " + text + "\n")
	}
	talk.done(id.String(), req.Tags)
	return nil
}

func classicRequest(q url.Values) (wire.BuildRequest, error) {
	if remote := q.Get("remote"); remote != "" && remote != "client-session" {
		return wire.BuildRequest{}, invalid("berth builds from a context that the client sends: fetch " + remote + " first, then build its directory")
	}
	if q.Get("version") == "2" {
		return wire.BuildRequest{}, fmt.Errorf("berth doesn't have BuildKit's sessions yet: build with DOCKER_BUILDKIT=0, or with berth build: %w", errdefs.ErrNotImplemented)
	}
	if truth(q, "squash", false) {
		return wire.BuildRequest{}, invalid("berth doesn't squash images")
	}
	req := wire.BuildRequest{
		Dockerfile: q.Get("dockerfile"), Tags: q["t"], Target: q.Get("target"), Platform: q.Get("platform"), NoCache: truth(q, "nocache", false), Pull: truth(q, "pull", false),
		Network: q.Get("networkmode"), ExtraHosts: split(q.Get("extrahosts")), CgroupParent: q.Get("cgroupparent"),
	}
	if req.Network == "default" {
		req.Network = ""
	}
	var args map[string]*string
	for _, p := range []struct {
		name string
		to   any
	}{{"buildargs", &args}, {"labels", &req.Labels}} {
		if err := unmarshal([]byte(q.Get(p.name)), p.to); err != nil {
			return req, fmt.Errorf("parameter %s: %w", p.name, err)
		}
	}
	req.BuildArgs = map[string]string{}
	for name, value := range args {
		if value != nil {
			req.BuildArgs[name] = *value
		}
	}
	var limits []*units.Ulimit
	if err := unmarshal([]byte(q.Get("ulimits")), &limits); err != nil {
		return req, fmt.Errorf("parameter ulimits: %w", err)
	}
	for _, u := range limits {
		req.Ulimits = append(req.Ulimits, u.String())
	}
	if text := q.Get("shmsize"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return req, invalid("shmsize=" + text + " is not a number")
		}
		req.ShmSize = n
	}
	return req, nil
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// classicLimits are those of each step.
func classicLimits(q url.Values) (*solver.Resources, error) {
	var r solver.Resources
	for _, p := range []struct {
		name string
		set  func(n int64)
	}{
		{"memory", func(n int64) { r.Memory = n }}, {"memswap", func(n int64) { r.MemorySwap = n }}, {"cpushares", func(n int64) { r.CPUShares = uint64(n) }},
		{"cpuperiod", func(n int64) { r.CPUPeriod = uint64(n) }}, {"cpuquota", func(n int64) { r.CPUQuota = n }},
	} {
		text := q.Get(p.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, invalid(p.name + "=" + text + " is not a number")
		}
		p.set(n)
	}
	r.CpusetCpus, r.CpusetMems = q.Get("cpusetcpus"), q.Get("cpusetmems")
	if r == (solver.Resources{}) {
		return nil, nil
	}
	return &r, nil
}

// registryConfig reads X-Registry-Config: credentials by registry.
func registryConfig(header string) (build.Credentials, error) {
	raw, err := base64.URLEncoding.DecodeString(header)
	var all map[string]registrytypes.AuthConfig
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("invalid X-Registry-Config header: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	byHost := map[string]solver.Credential{}
	for address, c := range all {
		byHost[registry.RegistryName(address)] = solver.Credential{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
	}
	return func(_ context.Context, host string) (solver.Credential, error) { return byHost[host], nil }, nil
}

// classic turns events into what the classic builder says.
type classic struct {
	lines *lines
	quiet bool
	mu    sync.Mutex
	named map[string]bool // guarded by mu; vertices whose step was announced
}

func newClassic(l *lines, quiet bool) *classic {
	return &classic{lines: l, quiet: quiet, named: map[string]bool{}}
}

func (c *classic) say(text string) {
	if !c.quiet {
		c.lines.send(jsonstream.Message{Stream: text})
	}
}

func (c *classic) event(ev build.Event) {
	switch ev.Kind {
	case solver.Started, solver.Cached:
		if c.announce(ev) && ev.Kind == solver.Cached {
			c.say(" ---> Using cache\n")
		}
	case solver.Log:
		c.say(string(ev.Data))
	}
}

// announce says which step begins; false for what no line of the Dockerfile stands behind.
func (c *classic) announce(ev build.Event) bool {
	_, text, ok := strings.Cut(ev.Name, "] ")
	if !ok || !strings.HasPrefix(ev.Name, "[") || strings.HasPrefix(ev.Name, "[internal]") {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.named[string(ev.Vertex)] {
		c.named[string(ev.Vertex)] = true
		c.say(fmt.Sprintf("Step %d : %s\n", len(c.named), text))
	}
	return true
}

func (c *classic) done(id string, tags []string) {
	raw, err := json.Marshal(buildtypes.Result{ID: id})
	if err == nil {
		aux := json.RawMessage(raw)
		c.lines.send(jsonstream.Message{Aux: &aux})
	}
	if c.quiet {
		c.lines.send(jsonstream.Message{Stream: id + "\n"})
		return
	}
	c.say("Successfully built " + short(id) + "\n")
	for _, t := range tags {
		if ref, err := pullName(t, ""); err == nil {
			c.say("Successfully tagged " + reference.FamiliarString(ref) + "\n")
		}
	}
}
