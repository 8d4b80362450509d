package engine

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/image"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// applyChanges applies Dockerfile instructions (commit and import, --change) to an image's config.
func applyChanges(cfg *image.Config, changes []string) error {
	for _, line := range changes {
		parsed, err := parser.Parse(strings.NewReader(line))
		if err != nil {
			return fmt.Errorf("--change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
		}
		for _, node := range parsed.AST.Children {
			instruction, err := instructions.ParseInstruction(node)
			if err != nil {
				return fmt.Errorf("--change %q: %w: %w", line, err, errdefs.ErrInvalidArgument)
			}
			if err := applyChange(&cfg.Config, instruction); err != nil {
				return fmt.Errorf("--change %q: %w", line, err)
			}
		}
	}
	return nil
}

func applyChange(c *dockerspec.DockerOCIImageConfig, instruction any) error {
	switch i := instruction.(type) {
	case *instructions.EnvCommand:
		for _, kv := range i.Env {
			c.Env = bundle.Merge(c.Env, []string{kv.Key + "=" + kv.Value})
		}
	case *instructions.LabelCommand:
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		for _, kv := range i.Labels {
			c.Labels[kv.Key] = kv.Value
		}
	case *instructions.CmdCommand:
		c.Cmd = shellForm(c, i.CmdLine, i.PrependShell)
	case *instructions.EntrypointCommand:
		c.Entrypoint = shellForm(c, i.CmdLine, i.PrependShell)
	case *instructions.ExposeCommand:
		for _, p := range i.Ports {
			port, err := ParsePort(p)
			if err != nil {
				return err
			}
			if c.ExposedPorts == nil {
				c.ExposedPorts = map[string]struct{}{}
			}
			c.ExposedPorts[fmt.Sprintf("%d/%s", port.Number, port.Protocol)] = struct{}{}
		}
	case *instructions.UserCommand:
		c.User = i.User
	case *instructions.WorkdirCommand:
		if path.IsAbs(i.Path) {
			c.WorkingDir = i.Path
		} else {
			c.WorkingDir = path.Join("/", c.WorkingDir, i.Path)
		}
	case *instructions.VolumeCommand:
		for _, v := range i.Volumes {
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			c.Volumes[v] = struct{}{}
		}
	case *instructions.StopSignalCommand:
		if _, err := ParseSignal(i.Signal); err != nil {
			return err
		}
		c.StopSignal = i.Signal
	case *instructions.HealthCheckCommand:
		c.Healthcheck = i.Health
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, i.Expression)
	default:
		return fmt.Errorf("this instruction changes more than an image's config: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func shellForm(c *dockerspec.DockerOCIImageConfig, args []string, shell bool) []string {
	if !shell {
		return args
	}
	prefix := c.Shell
	if len(prefix) == 0 {
		prefix = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(prefix), strings.Join(args, " "))
}

func marshalConfig(cfg image.Config) ([]byte, error) { return json.Marshal(cfg) }
