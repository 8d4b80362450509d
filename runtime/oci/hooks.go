package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// runtimeHooks run while the container is made: its namespaces are there, its root is not entered yet.
func (c *container) runtimeHooks(pid int) error {
	c.record.Pid = pid
	state := c.state(specs.StateCreating)
	//nolint:staticcheck // podman and others still use it
	if err := runHooks("prestart", c.spec.Hooks.Prestart, state); err != nil {
		return err
	}
	return runHooks("createRuntime", c.spec.Hooks.CreateRuntime, state)
}

// poststart runs when the program was executed; a hook that fails ends the container (OCI runtime-spec 1.3, "Lifecycle").
func (c *container) poststart() error {
	if c.spec.Hooks == nil {
		return nil
	}
	return runHooks("poststart", c.spec.Hooks.Poststart, c.state(specs.StateRunning))
}

// poststop runs when the container has been deleted. All of them run, whatever fails.
func (c *container) poststop() error {
	if c.spec.Hooks == nil {
		return nil
	}
	var errs []error
	for _, h := range c.spec.Hooks.Poststop {
		errs = append(errs, runHooks("poststop", []specs.Hook{h}, c.state(specs.StateStopped)))
	}
	return errors.Join(errs...)
}

// runHooks runs hooks in the runtime's namespaces, one after the other, until one fails.
func runHooks(kind string, hooks []specs.Hook, state specs.State) error {
	if len(hooks) == 0 {
		return nil
	}
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		if err := runHook(h, input); err != nil {
			return fmt.Errorf("%s hook %s: %w", kind, h.Path, err)
		}
	}
	return nil
}

func runHook(h specs.Hook, input []byte) error {
	ctx := context.Background()
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.Env, bytes.NewReader(input), os.Stderr, &said
	if h.Env == nil {
		cmd.Env = []string{}
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("it took longer than %d seconds", *h.Timeout)
	}
	if err != nil && said.Len() > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return err
}
