package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/build/session"
	buildclient "github.com/berth-engine/berth/build/session/client"
	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/create"
	"github.com/berth-engine/berth/cli/progress"
	"github.com/berth-engine/berth/internal/frame"
)

type buildOptions struct {
	addHosts, args, contexts, labels, secrets, tags, ulimits []string
	cgroupParent, dockerfile, iidFile, network, platform     string
	progress, target                                         string
	noCache, pull, quiet                                     bool
	shmSize                                                  string
}

func setupBuild(a *App, c *cobra.Command) {
	var o buildOptions
	c.Use = "build [OPTIONS] PATH | -"
	c.Example = "berth build -t web:1.2 ."
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	list := func(p *[]string, name, shorthand, usage string) { fs.VarP((*stringList)(p), name, shorthand, usage) }
	list(&o.addHosts, "add-host", "", `Add a custom host-to-IP mapping ("host:ip")`)
	list(&o.args, "build-arg", "", "Set build-time variables")
	list(&o.contexts, "build-context", "", "Additional build contexts (e.g., name=path)")
	fs.StringVar(&o.cgroupParent, "cgroup-parent", "", `Set the parent cgroup for the "RUN" instructions during build`)
	fs.StringVarP(&o.dockerfile, "file", "f", "", `Name of the Dockerfile (default: "PATH/Dockerfile")`)
	fs.StringVar(&o.iidFile, "iidfile", "", "Write the image ID to a file")
	list(&o.labels, "label", "", "Set metadata for an image")
	fs.StringVar(&o.network, "network", "default", `Set the networking mode for the "RUN" instructions during build`)
	fs.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	fs.StringVar(&o.platform, "platform", "", "Set platform if server is multi-platform capable")
	fs.StringVar(&o.progress, "progress", "auto", `Set type of progress output ("auto", "plain", "tty")`)
	fs.BoolVar(&o.pull, "pull", false, "Always attempt to pull a newer version of the image")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	list(&o.secrets, "secret", "", `Secret to expose to the build (e.g., "id=mysecret[,src=/local/secret]" or "id=mysecret,env=NAME")`)
	fs.StringVar(&o.shmSize, "shm-size", "", "Shared memory size for build containers")
	list(&o.tags, "tag", "t", `Name and optionally a tag in the "name:tag" format`)
	fs.StringVar(&o.target, "target", "", "Set the target build stage to build")
	list(&o.ulimits, "ulimit", "", "Ulimit options")
	contentTrust(fs)
	// They were about the containers and the transfer of another builder.
	for name, shown := range map[string]bool{"compress": false, "force-rm": false, "rm": true} {
		fs.Bool(name, shown, "Has no effect: there are no intermediate containers")
		fs.Lookup(name).Hidden = true
	}
	c.RunE = func(c *cobra.Command, args []string) error { return a.build(c.Context(), o, args[0]) }
}

func (a *App) build(ctx context.Context, o buildOptions, where string) error {
	req, err := a.buildRequest(o)
	if err != nil {
		return withCode(125, err)
	}
	if strings.Contains(where, "://") || strings.HasPrefix(where, "git@") || strings.HasPrefix(where, "github.com/") {
		return withCode(125, errors.New("contexts from a URL or a git repository are not supported yet: fetch it first, then build its directory"))
	}
	var image string
	if where == "-" {
		image, err = a.buildFromStdin(ctx, o, req)
	} else {
		image, err = a.buildDirectory(ctx, o, req, where)
	}
	if err != nil {
		return err
	}
	if o.iidFile != "" {
		if err := os.WriteFile(o.iidFile, []byte(image), 0o666); err != nil {
			return fmt.Errorf("the file of --iidfile: %w", err)
		}
	}
	if o.quiet {
		a.printf("%s\n", image)
		return nil
	}
	if where != "-" { // there the engine has said it
		a.printf("Successfully built %s\n", shortImage(image))
		for _, tag := range o.tags {
			a.printf("Successfully tagged %s\n", familiarWithTag(tag))
		}
	}
	return nil
}

func shortImage(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok || len(hex) < 12 {
		return id
	}
	return hex[:12]
}

// buildRequest is what the flags say; the sources come later.
func (a *App) buildRequest(o buildOptions) (wire.BuildRequest, error) {
	req := wire.BuildRequest{
		Tags: o.tags, Target: o.target, Labels: labelMap(o.labels), Platform: o.platform, NoCache: o.noCache, Pull: o.pull,
		Network: o.network, CgroupParent: o.cgroupParent, BuildArgs: map[string]string{},
	}
	if req.Network == "default" {
		req.Network = ""
	}
	proxies, err := a.proxies()
	if err != nil {
		return req, err
	}
	for _, v := range append(proxies, o.args...) {
		name, value, ok := strings.Cut(v, "=")
		if name == "" {
			return req, fmt.Errorf("--build-arg: %q names no variable", v)
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		req.BuildArgs[name] = value
	}
	for _, v := range o.addHosts {
		host, err := create.Host(v)
		if err != nil {
			return req, fmt.Errorf("--add-host: %w", err)
		}
		req.ExtraHosts = append(req.ExtraHosts, host)
	}
	for _, v := range o.ulimits {
		limit, err := units.ParseUlimit(v)
		if err != nil {
			return req, fmt.Errorf("--ulimit: %w", err)
		}
		req.Ulimits = append(req.Ulimits, limit.String())
	}
	if o.shmSize != "" {
		if req.ShmSize, err = units.RAMInBytes(o.shmSize); err != nil {
			return req, fmt.Errorf("--shm-size: %q is not a size such as 64m", o.shmSize)
		}
	}
	return req, nil
}

// buildDirectory builds from local directories over one framed connection: the engine asks for lists,
// files, secrets and credentials, and gets them.
func (a *App) buildDirectory(ctx context.Context, o buildOptions, req wire.BuildRequest, dir string) (string, error) {
	sources, err := a.localSources(o, &req, dir)
	if err != nil {
		return "", err
	}
	defer sources.close()
	secrets, err := parseSecrets(o.secrets)
	if err != nil {
		return "", withCode(125, err)
	}
	for id := range secrets {
		req.Secrets = append(req.Secrets, id)
	}
	req.Secrets = sorted(req.Secrets)
	show, err := a.buildProgress(o)
	if err != nil {
		return "", withCode(125, err)
	}
	defer show.Close()
	engine, err := a.client()
	if err != nil {
		return "", err
	}
	conn, err := engine.Upgrade(ctx, client.Request{Method: "POST", Path: wire.BuildPath, Unversioned: true}, "berth")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	w := frame.NewWriter(conn)
	if err := w.WriteJSON(wire.BuildRequestFrame, req); err != nil {
		return "", fmt.Errorf("the request could not be sent: %w", err)
	}
	files := buildclient.New(ctx, w, buildclient.Options{
		Dirs: sources.dirs, Secrets: secrets, Credentials: a.sessionCredential,
		Skipped: func(_, path, why string) { fmt.Fprintf(a.Err, "berth: %s is left out: %s\n", path, why) },
	})
	defer files.Close()
	return converseBuild(conn, files, show)
}

func converseBuild(conn io.Reader, files *buildclient.Client, show *progress.Build) (string, error) {
	frames := frame.NewReader(conn)
	for {
		kind, payload, err := frames.Next()
		if err != nil {
			return "", fmt.Errorf("the connection to the engine broke during the build: %w", err)
		}
		switch {
		case session.FromEngine(kind):
			if err := files.Handle(kind, payload); err != nil {
				return "", err
			}
		case kind == wire.BuildProgress:
			var ev wire.BuildEvent
			if err := json.Unmarshal(payload, &ev); err != nil {
				return "", fmt.Errorf("the engine's report could not be read: %w", err)
			}
			show.Event(ev)
		case kind == wire.BuildExit:
			var exit wire.BuildExitBody
			if err := json.Unmarshal(payload, &exit); err != nil {
				return "", fmt.Errorf("the engine's last word could not be read: %w", err)
			}
			show.Close()
			if exit.Error != "" {
				return "", errors.New(exit.Error)
			}
			return exit.ImageID, nil
		default:
			return "", fmt.Errorf("the engine sent a frame of the unknown kind %d: is it newer than this program?", kind)
		}
	}
}

func (a *App) buildProgress(o buildOptions) (*progress.Build, error) {
	f, _ := a.Err.(*os.File)
	switch {
	case o.quiet:
		return progress.NewBuild(nil, nil), nil
	case o.progress == "plain", o.progress == "auto" && !a.errIsTerminal():
		return progress.NewBuild(a.Err, nil), nil
	case (o.progress == "tty" || o.progress == "auto") && a.errIsTerminal():
		return progress.NewBuild(nil, screenOn(f)), nil
	case o.progress == "tty":
		return nil, errors.New("--progress tty: stderr is not a terminal")
	}
	return nil, fmt.Errorf("invalid --progress %q: it can be auto, plain or tty", o.progress)
}

// sources are the local directories of a build.
type sources struct {
	dirs map[string]string
	temp string // to be removed
}

func (s *sources) close() {
	if s.temp != "" {
		os.RemoveAll(s.temp)
	}
}

// localSources finds context, Dockerfile and named contexts, and tells the request about them.
func (a *App) localSources(o buildOptions, req *wire.BuildRequest, dir string) (*sources, error) {
	context, err := directory(dir)
	if err != nil {
		return nil, fmt.Errorf("the build context: %w", err)
	}
	s := &sources{dirs: map[string]string{"context": context, "dockerfile": context}}
	if err := a.findDockerfile(s, o.dockerfile, context, req); err != nil {
		s.close()
		return nil, err
	}
	req.Contexts = map[string]string{}
	for _, v := range o.contexts {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" || value == "" {
			s.close()
			return nil, withCode(125, fmt.Errorf("--build-context: %q is not name=path", v))
		}
		if strings.Contains(value, "://") {
			req.Contexts[name] = value
			continue
		}
		named, err := directory(value)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("the build context %s: %w", name, err)
		}
		req.Contexts[name] = "local:" + name
		s.dirs[name] = named
	}
	req.Sources = map[string]string{}
	for name, dir := range s.dirs {
		req.Sources[name] = buildclient.SourceID(dir)
	}
	return s, nil
}

func directory(v string) (string, error) {
	abs, err := filepath.Abs(v)
	if err != nil {
		return "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", v)
	}
	return abs, nil
}

// findDockerfile takes -f from here, else from the context; "-" is stdin.
func (a *App) findDockerfile(s *sources, name, context string, req *wire.BuildRequest) error {
	switch name {
	case "-":
		temp, err := os.MkdirTemp("", "berth-build-")
		if err != nil {
			return err
		}
		s.temp = temp
		content, err := io.ReadAll(a.In)
		if err != nil {
			return fmt.Errorf("the Dockerfile could not be read from stdin: %w", err)
		}
		if err := os.WriteFile(filepath.Join(temp, "Dockerfile"), content, 0o600); err != nil {
			return err
		}
		s.dirs["dockerfile"] = temp
		return nil
	case "":
		if _, err := os.Stat(filepath.Join(context, "Dockerfile")); err != nil {
			return fmt.Errorf("the Dockerfile: %w (name another one with -f)", err)
		}
		return nil
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(name) {
		path = filepath.Join(context, name)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}
	if rel, err := filepath.Rel(context, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		req.Dockerfile = rel
		return nil
	}
	s.dirs["dockerfile"], req.Dockerfile = filepath.Dir(path), filepath.Base(path)
	return nil
}

// parseSecrets reads id=ID[,src=FILE] and id=ID,env=NAME. A secret is read when the engine asks for it.
func parseSecrets(values []string) (map[string]func() ([]byte, error), error) {
	secrets := map[string]func() ([]byte, error){}
	for _, v := range values {
		var id, src, env string
		for _, part := range strings.Split(v, ",") {
			key, value, ok := strings.Cut(part, "=")
			switch {
			case !ok:
				return nil, fmt.Errorf("--secret: %q is not name=value", part)
			case key == "id":
				id = value
			case key == "src" || key == "source":
				src = value
			case key == "env":
				env = value
			case key == "type" && (value == "file" || value == "env"):
			default:
				return nil, fmt.Errorf("--secret: unknown option %q", part)
			}
		}
		if id == "" {
			return nil, fmt.Errorf("--secret: %q has no id", v)
		}
		if _, set := os.LookupEnv(id); src == "" && env == "" && set {
			env = id
		}
		switch {
		case env != "":
			secrets[id] = func() ([]byte, error) { return []byte(os.Getenv(env)), nil }
		default:
			if src == "" {
				src = id
			}
			if _, err := os.Stat(src); err != nil {
				return nil, fmt.Errorf("--secret %s: %w", id, err)
			}
			secrets[id] = func() ([]byte, error) { return os.ReadFile(src) }
		}
	}
	return secrets, nil
}

func (a *App) sessionCredential(_ context.Context, host string) (session.Credential, error) {
	auth, err := a.credential(host)
	if err != nil {
		return session.Credential{}, err
	}
	return session.Credential{
		Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}, nil
}
