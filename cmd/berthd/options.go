package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/registry"
	units "github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// options are the flags, and by their long names the keys of the configuration file. Names are those
// of Docker's daemon where it has the same.
type options struct {
	ConfigFile   string
	Hosts        []string
	DataRoot     string
	ExecRoot     string
	PidFile      string
	Group        string
	Debug        bool
	LogLevel     string
	Runtime      string
	CgroupParent string
	Bridge       string
	Subnet       string
	LayerForm    string
	Slots        int
	Insecure     []string
	Mirrors      []string
	Downloads    int
	Uploads      int
	LogMaxSize   string
	LogMaxFiles  int
	MinAPI       string
}

// Where everything is by default.
const (
	defaultHost       = "unix:///run/berth/berth.sock"
	defaultDataRoot   = "/var/lib/berth"
	defaultExecRoot   = "/run/berth"
	defaultConfigFile = "/etc/berth/berthd.json"
	certsDir          = "/etc/berth/certs.d"
)

func (o *options) flags(f *pflag.FlagSet) {
	f.StringVar(&o.ConfigFile, "config-file", defaultConfigFile, "Configuration `file` (JSON, the flags' long names as keys)")
	f.StringArrayVarP(&o.Hosts, "host", "H", []string{defaultHost}, "Unix socket to listen on, as in unix:///var/run/docker.sock; can be given several times")
	f.StringVar(&o.DataRoot, "data-root", defaultDataRoot, "Directory for images, containers and volumes")
	f.StringVar(&o.ExecRoot, "exec-root", defaultExecRoot, "Directory for what only matters while the machine is up")
	f.StringVarP(&o.PidFile, "pidfile", "p", "", "Write the process id to this `file`")
	f.StringVarP(&o.Group, "group", "G", "", "Group that owns the sockets: its members control the engine, which is root's power")
	f.BoolVarP(&o.Debug, "debug", "D", false, "Log what is done, not only what goes wrong")
	f.StringVarP(&o.LogLevel, "log-level", "l", "info", `How much is logged: "debug", "info", "warn", "error"`)
	f.StringVar(&o.Runtime, "runtime", "", "Path of berth-runtime (default: beside berthd, then in PATH)")
	f.StringVar(&o.CgroupParent, "cgroup-parent", "", "Cgroup to make containers' cgroups in (default: a name derived from the exec root)")
	f.StringVar(&o.Bridge, "bridge", "", "Name of the default network's bridge (default: derived from the exec root)")
	f.StringVar(&o.Subnet, "bip", "", "Subnet of the default network, as in 172.20.0.1/16 (default: one that is free)")
	f.StringVar(&o.LayerForm, "layer-form", "", `How layers are mounted: "direct", "loop", "dir" (default: the best that works here)`)
	f.IntVar(&o.Slots, "slots", 2, "Containers to prepare ahead; 0 for none")
	f.StringArrayVar(&o.Insecure, "insecure-registry", nil, "Registry that may be spoken to without TLS (loopback always may)")
	f.StringArrayVar(&o.Mirrors, "registry-mirror", nil, "Mirror of Docker Hub to ask first")
	f.IntVar(&o.Downloads, "max-concurrent-downloads", 3, "Layers of one pull that are fetched together")
	f.IntVar(&o.Uploads, "max-concurrent-uploads", 5, "Layers of one push that are sent together")
	f.StringVar(&o.LogMaxSize, "log-max-size", "20m", "Size at which a container's log is rotated")
	f.IntVar(&o.LogMaxFiles, "log-max-file", 5, "Files that are kept of a container's log")
	f.StringVar(&o.MinAPI, "min-api-version", "1.38", "Oldest version of the API that is answered")
}

// load adds what the configuration file says. A flag and the file must not say the same thing.
func (o *options) load(f *pflag.FlagSet) error {
	b, err := os.ReadFile(o.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) && !f.Changed("config-file") {
		return o.check()
	}
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		return fmt.Errorf("configuration file %s: %w", o.ConfigFile, err)
	}
	for key, value := range keys {
		name := key
		if name == "hosts" || name == "insecure-registries" || name == "registry-mirrors" { // Docker's plurals
			name = map[string]string{"hosts": "host", "insecure-registries": "insecure-registry", "registry-mirrors": "registry-mirror"}[key]
		}
		flag := f.Lookup(name)
		if flag == nil || name == "config-file" || name == "help" || name == "version" {
			return fmt.Errorf("configuration file %s: %q is no option of berthd", o.ConfigFile, key)
		}
		if flag.Changed {
			return fmt.Errorf("%q is given twice: by a flag and in the configuration file %s", key, o.ConfigFile)
		}
		if err := set(f, name, value); err != nil {
			return fmt.Errorf("configuration file %s: %q: %w", o.ConfigFile, key, err)
		}
	}
	return o.check()
}

func set(f *pflag.FlagSet, name string, value any) error {
	switch v := value.(type) {
	case string:
		return f.Set(name, v)
	case bool:
		return f.Set(name, strconv.FormatBool(v))
	case float64:
		return f.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return fmt.Errorf("%v is not a string", item)
			}
			if err := f.Set(name, text); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%v has a form that is not known", value)
}

// check finds out what can be wrong before anything is made.
func (o *options) check() error {
	if o.Runtime == "" {
		var err error
		if o.Runtime, err = findRuntime(); err != nil {
			return err
		}
	}
	if _, err := units.RAMInBytes(o.LogMaxSize); err != nil {
		return fmt.Errorf("--log-max-size %q: %w", o.LogMaxSize, err)
	}
	if o.Subnet != "" {
		if _, err := netip.ParsePrefix(o.Subnet); err != nil {
			return fmt.Errorf("--bip: %w", err)
		}
	}
	return nil
}

func findRuntime() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "berth-runtime")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("berth-runtime")
	if err != nil {
		return "", errors.New("berth-runtime is neither beside berthd nor in PATH: install it, or name it with --runtime")
	}
	return filepath.Abs(path)
}

func (o *options) level() slog.Level {
	if o.Debug {
		return slog.LevelDebug
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// engine turns checked options into the engine's.
func (o *options) engine(log *slog.Logger) engine.Options {
	size, _ := units.RAMInBytes(o.LogMaxSize) // checked
	var subnet netip.Prefix
	if o.Subnet != "" {
		subnet = netip.MustParsePrefix(o.Subnet) // checked
	}
	slots := o.Slots
	if slots == 0 {
		slots = -1
	}
	return engine.Options{
		DataRoot: o.DataRoot, ExecRoot: o.ExecRoot, Runtime: o.Runtime, CgroupParent: o.CgroupParent, Bridge: o.Bridge, Subnet: subnet,
		LayerForm: layer.Form(o.LayerForm), Slots: slots, LogMaxSize: size, LogMaxFiles: o.LogMaxFiles, Version: version, Log: log,
		Registry: registry.Options{
			Insecure: o.Insecure, Mirrors: o.Mirrors, CertsDir: certsDir, Downloads: o.Downloads, Uploads: o.Uploads, UserAgent: "berth/" + version,
		},
	}
}

func (o *options) writePid() error {
	if o.PidFile == "" {
		return nil
	}
	return atomicfile.Write(o.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644, atomicfile.Volatile)
}

func (o *options) removePid() {
	if o.PidFile != "" {
		_ = os.Remove(o.PidFile) // it is only a hint
	}
}

// socketPath is the path of "unix://PATH".
func socketPath(host string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return "", fmt.Errorf("-H %s: berthd listens on unix sockets only, as in %s", host, defaultHost)
	}
	return path, nil
}
