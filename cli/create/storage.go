package create

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/berth-engine/berth/cli/client"
)

// splitVolumes parts -v into anonymous volumes (by their path) and binds, in the order they were given.
// A source that begins with a dot is a path from here.
func splitVolumes(volumes []string) (map[string]struct{}, []string, error) {
	anonymous := map[string]struct{}{}
	var binds []string
	seen := map[string]bool{}
	for _, v := range volumes {
		if seen[v] {
			continue
		}
		seen[v] = true
		parts := strings.Split(v, ":")
		switch {
		case v == "":
			return nil, nil, errors.New("invalid --volume \"\": it is empty")
		case len(parts) > 3:
			return nil, nil, fmt.Errorf("invalid --volume %q: too many colons", v)
		case hasEmpty(parts) && len(v) > 2:
			return nil, nil, fmt.Errorf("invalid --volume %q: there is nothing between two colons, or before or after one", v)
		case len(parts) == 1 || len(v) <= 2:
			anonymous[v] = struct{}{}
			continue
		}
		if source := parts[0]; strings.HasPrefix(source, ".") {
			abs, err := filepath.Abs(source)
			if err != nil {
				return nil, nil, fmt.Errorf("invalid --volume %q: %w", v, err)
			}
			v = abs + ":" + strings.Join(parts[1:], ":")
		}
		binds = append(binds, v)
	}
	return anonymous, binds, nil
}

func hasEmpty(parts []string) bool {
	for _, p := range parts {
		if p == "" {
			return true
		}
	}
	return false
}

func tmpfsOptions(values []string) map[string]string {
	m := map[string]string{}
	for _, v := range values {
		path, options, _ := strings.Cut(v, ":")
		m[path] = options
	}
	return m
}

func storageOptions(values []string) (map[string]string, error) {
	m := map[string]string{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, fmt.Errorf("invalid --storage-opt %q: it is not name=value", v)
		}
		m[name] = value
	}
	return m, nil
}

// mounts are --mount type=bind,source=/a,target=/b,readonly.
type mounts []client.Mount

func (m *mounts) Type() string   { return "mount" }
func (m *mounts) String() string { return "" }

func (m *mounts) Set(v string) error {
	v = strings.TrimSpace(v)
	if v == "" {
		return errors.New("it is empty")
	}
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	mount := client.Mount{Type: "volume"}
	for _, field := range fields {
		if err := mountField(&mount, field); err != nil {
			return err
		}
	}
	if err := checkMount(&mount); err != nil {
		return err
	}
	*m = append(*m, mount)
	return nil
}

func mountField(m *client.Mount, field string) error {
	key, value, hasValue := strings.Cut(field, "=")
	if strings.TrimSpace(key) != key || strings.TrimSpace(value) != value {
		return fmt.Errorf("%q has white space around a name or a value", field)
	}
	key = strings.ToLower(key)
	if hasValue && value == "" {
		return fmt.Errorf("%s has no value", key)
	}
	if b := mountBool(m, key); b != nil {
		var err error
		if *b, err = parseBool(value, hasValue); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	if err := mountValue(m, key, value); err != nil {
		return err
	}
	if !hasValue {
		return fmt.Errorf("%q must be name=value", field)
	}
	return nil
}

// mountBool is the option that may stand alone, or nil.
func mountBool(m *client.Mount, key string) *bool {
	switch key {
	case "readonly", "ro":
		return &m.ReadOnly
	case "volume-nocopy":
		return &volumeOptions(m).NoCopy
	case "bind-create-src":
		return &bindOptions(m).CreateMountpoint
	case "bind-nonrecursive":
		return &bindOptions(m).NonRecursive
	}
	return nil
}

// mountValue sets one of the other options.
func mountValue(m *client.Mount, key, v string) error {
	switch key {
	case "type":
		m.Type = strings.ToLower(v)
	case "source", "src":
		return mountSource(m, v)
	case "target", "dst", "destination":
		m.Target = v
	case "consistency":
		m.Consistency = strings.ToLower(v)
	case "bind-propagation":
		bindOptions(m).Propagation = strings.ToLower(v)
	case "bind-recursive":
		return mountRecursive(m, v)
	case "volume-subpath":
		volumeOptions(m).Subpath = v
	case "volume-label":
		o := volumeOptions(m)
		o.Labels = withPair(o.Labels, v)
	case "volume-driver":
		volumeDriver(m).Name = v
	case "volume-opt":
		d := volumeDriver(m)
		d.Options = withPair(d.Options, v)
	case "image-subpath":
		m.ImageOptions = &client.ImageOptions{Subpath: v}
	case "tmpfs-size":
		n, err := units.RAMInBytes(v)
		if err != nil {
			return fmt.Errorf("tmpfs-size: %q is not a size such as 64m", v)
		}
		tmpfs(m).SizeBytes = n
	case "tmpfs-mode":
		n, err := strconv.ParseUint(v, 8, 32)
		if err != nil {
			return fmt.Errorf("tmpfs-mode: %q is not an octal mode such as 1770", v)
		}
		tmpfs(m).Mode = uint32(n)
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

func mountSource(m *client.Mount, v string) error {
	if strings.HasPrefix(v, ".") {
		abs, err := filepath.Abs(v)
		if err != nil {
			return err
		}
		v = abs
	}
	m.Source = v
	return nil
}

func mountRecursive(m *client.Mount, v string) error {
	switch v {
	case "enabled":
	case "disabled":
		bindOptions(m).NonRecursive = true
	case "writable":
		bindOptions(m).ReadOnlyNonRecursive = true
	case "readonly":
		bindOptions(m).ReadOnlyForceRecursive = true
	default:
		return fmt.Errorf("bind-recursive %q: it can be enabled, disabled, writable or readonly", v)
	}
	return nil
}

func checkMount(m *client.Mount) error {
	for prefix, wrong := range map[string]bool{
		"bind":   m.Type != "bind" && m.BindOptions != nil,
		"volume": m.Type != "volume" && m.VolumeOptions != nil,
		"image":  m.Type != "image" && m.ImageOptions != nil,
		"tmpfs":  m.Type != "tmpfs" && m.TmpfsOptions != nil,
	} {
		if wrong {
			return fmt.Errorf("options %s-* mean nothing for a mount of type %s", prefix, m.Type)
		}
	}
	if o := m.BindOptions; o != nil {
		switch {
		case o.ReadOnlyNonRecursive && !m.ReadOnly:
			return errors.New("bind-recursive=writable wants readonly beside it")
		case o.ReadOnlyForceRecursive && !m.ReadOnly:
			return errors.New("bind-recursive=readonly wants readonly beside it")
		case o.ReadOnlyForceRecursive && o.Propagation != "rprivate":
			return errors.New("bind-recursive=readonly wants bind-propagation=rprivate beside it")
		}
	}
	return nil
}

func parseBool(v string, given bool) (bool, error) {
	switch {
	case !given, v == "1", v == "true":
		return true, nil
	case v == "0", v == "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", v)
}

func bindOptions(m *client.Mount) *client.BindOptions {
	if m.BindOptions == nil {
		m.BindOptions = &client.BindOptions{}
	}
	return m.BindOptions
}

func volumeOptions(m *client.Mount) *client.VolumeOptions {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &client.VolumeOptions{}
	}
	return m.VolumeOptions
}

func volumeDriver(m *client.Mount) *client.VolumeDriver {
	o := volumeOptions(m)
	if o.DriverConfig == nil {
		o.DriverConfig = &client.VolumeDriver{}
	}
	return o.DriverConfig
}

func tmpfs(m *client.Mount) *client.TmpfsOptions {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = &client.TmpfsOptions{}
	}
	return m.TmpfsOptions
}

func withPair(m map[string]string, v string) map[string]string {
	name, value, _ := strings.Cut(v, "=")
	if name == "" {
		return m
	}
	if m == nil {
		m = map[string]string{}
	}
	m[name] = value
	return m
}
