package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"

	"github.com/berth-engine/berth/cli/client"
)

// configDir is where Docker's config.json is: --config, DOCKER_CONFIG, else ~/.docker.
func (a *App) configDir() string {
	if a.global.config != "" {
		return a.global.config
	}
	if dir := a.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "/.docker"
	}
	return filepath.Join(home, ".docker")
}

// configFile reads config.json. Only commands that need credentials or a setting call it.
func (a *App) configFile() (*configfile.ConfigFile, error) {
	f, err := config.Load(a.configDir())
	if err != nil {
		return nil, fmt.Errorf("the configuration of Docker: %w", err)
	}
	return f, nil
}

// setting tells whether config.json has a word at all. It is read (one small file) instead of parsed on
// the way of every run.
func (a *App) setting(word string) bool {
	b, err := os.ReadFile(filepath.Join(a.configDir(), "config.json"))
	return err == nil && bytes.Contains(b, []byte(`"`+word+`"`))
}

// configuredFormat is a format of config.json: psFormat, imagesFormat and their kin.
func (a *App) configuredFormat(name string) string {
	if !a.setting(name) {
		return ""
	}
	f, err := a.configFile()
	if err != nil {
		return ""
	}
	switch name {
	case "psFormat":
		return f.PsFormat
	case "imagesFormat":
		return f.ImagesFormat
	case "networksFormat":
		return f.NetworksFormat
	case "volumesFormat":
		return f.VolumesFormat
	}
	return ""
}

func (a *App) configuredDetachKeys() string {
	if !a.setting("detachKeys") {
		return ""
	}
	f, err := a.configFile()
	if err != nil {
		return ""
	}
	return f.DetachKeys
}

// addProxies gives the container the proxy variables of config.json, unless it sets them itself.
func (a *App) addProxies(req *client.CreateRequest) error {
	proxies, err := a.proxies()
	if err != nil {
		return err
	}
	set := map[string]bool{}
	for _, v := range req.Env {
		name, _, _ := strings.Cut(v, "=")
		set[name] = true
	}
	for _, v := range proxies {
		if name, _, _ := strings.Cut(v, "="); !set[name] {
			req.Env = append(req.Env, v)
		}
	}
	return nil
}

// proxies are the proxy variables that config.json has for this engine, NAME=value, sorted.
func (a *App) proxies() ([]string, error) {
	if !a.setting("proxies") {
		return nil, nil
	}
	f, err := a.configFile()
	if err != nil {
		return nil, err
	}
	host, err := a.host()
	if err != nil {
		return nil, err
	}
	var out []string
	for name, value := range f.ParseProxyConfig(host, nil) {
		if value != nil {
			out = append(out, name+"="+*value)
		}
	}
	return sorted(out), nil
}

// hubKey is the name under which Docker keeps the credentials of Docker Hub.
const hubKey = "https://index.docker.io/v1/"

func credentialKey(host string) string {
	if host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io" {
		return hubKey
	}
	return host
}

// credential asks config.json and its helpers for a registry's credential.
func (a *App) credential(host string) (types.AuthConfig, error) {
	f, err := a.configFile()
	if err != nil {
		return types.AuthConfig{}, err
	}
	auth, err := f.GetAuthConfig(credentialKey(host))
	if err != nil {
		return auth, fmt.Errorf("the credential for %s: %w", host, err)
	}
	return auth, nil
}

// registryAuth is the header X-Registry-Auth for a reference's registry; empty without a credential.
func (a *App) registryAuth(ref string) (string, error) {
	auth, err := a.credential(registryHost(ref))
	if err != nil {
		return "", err
	}
	return encodeAuth(auth)
}

func encodeAuth(auth types.AuthConfig) (string, error) {
	if auth == (types.AuthConfig{ServerAddress: auth.ServerAddress}) {
		return "", nil
	}
	b, err := json.Marshal(auth)
	if err != nil {
		return "", err
	}
	return base64.URLEncoding.EncodeToString(b), nil
}
