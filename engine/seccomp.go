package engine

import (
	"fmt"
	goruntime "runtime"
	"strings"
	"sync"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/runtime/seccomp"
	"github.com/berth-engine/berth/runtime/seccomp/profile"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// filters are compiled seccomp filters, by what they are made of. The zero value is ready.
type filters struct {
	mu       sync.Mutex
	compiled map[string]*seccomp.Program // guarded by mu
}

// filtersKept bounds the memory of filters that were made of users' own profiles.
const filtersKept = 32

// filter returns the filter for a container; nil for one without.
func (f *filters) filter(c *container.Config, m machine) (*seccomp.Program, error) {
	if unfiltered(c, m) {
		return nil, nil
	}
	capabilities, err := bundle.Capabilities(c.Isolation, m.bounding)
	if err != nil {
		return nil, err
	}
	key := strings.Join(capabilities, ",") + "\n" + c.Isolation.Seccomp
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.compiled[key]; p != nil {
		return p, nil
	}
	p, err := compileFilter(c.Isolation.Seccomp, capabilities)
	if err != nil {
		return nil, err
	}
	if f.compiled == nil || len(f.compiled) >= filtersKept {
		f.compiled = map[string]*seccomp.Program{}
	}
	f.compiled[key] = p
	return p, nil
}

func unfiltered(c *container.Config, m machine) bool {
	return c.Isolation.Seccomp == "unconfined" || c.Isolation.Seccomp == "" && c.Isolation.Privileged || !m.seccomp
}

// compileFilter compiles the default profile, or a user's (document is not "").
func compileFilter(document string, capabilities []string) (*seccomp.Program, error) {
	var (
		config *specs.LinuxSeccomp
		err    error
	)
	if document == "" {
		config, err = profile.Default(capabilities)
	} else {
		config, err = profile.Parse([]byte(document), capabilities)
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	p, err := seccomp.Compile(config, goruntime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &p, nil
}
