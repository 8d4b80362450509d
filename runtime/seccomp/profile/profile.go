package profile

import (
	"fmt"

	profiles "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Default returns Docker's default profile for a process with these capabilities ("CAP_CHOWN", …; the bounding set).
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	p, err := profiles.GetDefaultProfile(with(capabilities))
	if err != nil {
		return nil, fmt.Errorf("the default seccomp profile: %w", err)
	}
	return p, nil
}

// Parse returns the profile that the JSON document says, resolved for a process with these capabilities; nil for a
// document that says nothing, which in Docker, too, means no filter. The error says what in the document is wrong.
func Parse(document []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	p, err := profiles.LoadProfile(string(document), with(capabilities))
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return p, nil
}

// with returns the part of a configuration that profiles look at.
func with(capabilities []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
}
