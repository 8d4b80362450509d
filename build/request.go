package build

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/solver"
)

// What the solver needs of the engine; see there.
type (
	// Executor runs one process on a root file system.
	Executor = solver.Executor
	// ExecSpec is what it runs.
	ExecSpec = solver.ExecSpec
	// Images finds base images and makes their layers local.
	Images = solver.Images
	// Source is where contexts and secrets come from: build/session/server has two, a client at the
	// other end of a connection and a tar stream.
	Source = solver.Source
	// Event is one thing that happened in a build.
	Event = solver.Event
)

// Request says what to build. The zero value of every field but Source means "as Docker does".
type Request struct {
	Source Source // the caller closes it after Build has returned

	Dockerfile string            // path inside the local source "dockerfile"; "" means "Dockerfile"
	Target     string            // stage; "" means the last one
	Args       map[string]string // --build-arg, proxies among them
	Labels     map[string]string
	Contexts   map[string]string // named contexts: "local:NAME" (a local source) or "docker-image://REF"
	Platform   *ocispec.Platform // nil means the engine's

	NoCache      bool     // no record is looked up; what is made is recorded
	NoCacheStage []string // the same for these stages only
	Pull         bool     // ask the registry for every FROM
	CacheFrom    []string // answered with a warning: cache comes from this engine only

	Network      string            // of RUN without --network: "" or "default", "none", "host"
	ExtraHosts   []solver.Host     // lines of /etc/hosts
	Hostname     string            // of steps; "" means "buildkitsandbox", as in BuildKit
	ShmSize      int64             // bytes of /dev/shm; 0 means 64 MiB
	Ulimits      []solver.Ulimit   //
	CgroupParent string            //
	Resources    *solver.Resources // limits of each step
	AllowHost    bool              // RUN --network=host is allowed
	AllowAll     bool              // RUN --security=insecure is allowed

	// Credentials is asked for a registry's credentials when a base image has to be fetched. nil means
	// none.
	Credentials solver.Credentials

	// Hold is told of the result's layers before Build returns, while they are still kept from deletion,
	// so that the caller can keep them; it returns when what is being deleted is gone. nil means that nobody does.
	Hold func(diffIDs []digest.Digest)

	// Progress gets the events, one call at a time, in order, and all of them before Build returns. Where
	// it is slow, the build goes on, and what steps wrote is left out beyond some MiB, with a word. Once
	// the build's context has ended, it has a few seconds; a call that takes longer may outlive Build. nil
	// means nobody listens.
	Progress func(Event)
}

// Credentials answers what to say to a registry.
type Credentials = solver.Credentials
