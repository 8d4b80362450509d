package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// canned is an engine whose answers are files: it shows what a command line makes of them, and writes
// down what it was asked. Everything about processes is tested with a real engine (test/).
type canned struct {
	host string
	mu   sync.Mutex
	seen []string // guarded by mu; "METHOD path?query body"
	// answers, by method and path without the version
	answers map[string]string
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.51")
	w.Header().Set("Ostype", "linux")
	path := r.URL.EscapedPath()
	if strings.HasPrefix(path, "/v1.") {
		_, rest, _ := strings.Cut(path[1:], "/")
		path = "/" + rest
	}
	if path == "/_ping" {
		return
	}
	body, _ := io.ReadAll(r.Body)
	q := r.URL.Query()
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	c.mu.Lock()
	c.seen = append(c.seen, strings.TrimSpace(r.Method+" "+path+" "+string(body)))
	c.mu.Unlock()
	path, _, _ = strings.Cut(path, "?")
	answer, ok := c.answers[r.Method+" "+path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"no such thing: %s"}`, path)
		return
	}
	if answer == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if file, ok := strings.CutPrefix(answer, "@"); ok {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		answer = string(b)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

func (c *canned) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

func serveCanned(t *testing.T, answers map[string]string) *canned {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	c := &canned{host: "unix://" + sock, answers: answers}
	s := &http.Server{Handler: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return c
}

// berth runs a command line in this process.
func berth(t *testing.T, host, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	in, err := os.CreateTemp(t.TempDir(), "in")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteString(stdin); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	dir := t.TempDir()
	a := &App{In: in, Out: &out, Err: &errs, Version: "test", Getenv: func(name string) string {
		return map[string]string{"BERTH_HOST": host, "DOCKER_CONFIG": dir}[name]
	}}
	code = Main(context.Background(), a, args)
	return out.String(), errs.String(), code
}

func dockerAnswers() map[string]string {
	return map[string]string{
		"GET /containers/json":          "@containers.json",
		"GET /containers/web/json":      "@container.json",
		"GET /containers/web/top":       `{"Titles":["UID","PID","CMD"],"Processes":[["root","1","sleep 100"],["nobody","22","sh -c 'a  b'"]]}`,
		"GET /containers/web/changes":   `[{"Path":"/etc","Kind":0},{"Path":"/etc/new","Kind":1},{"Path":"/gone","Kind":2}]`,
		"GET /images/json":              "@images.json",
		"GET /images/debian/json":       "@image.json",
		"GET /images/debian/history":    "@history.json",
		"GET /volumes":                  "@volumes.json",
		"GET /volumes/data":             `{"CreatedAt":"2026-01-02T03:04:05Z","Driver":"local","Labels":{"a":"b"},"Mountpoint":"/v/data","Name":"data","Options":null,"Scope":"local"}`,
		"GET /networks":                 "@networks.json",
		"GET /networks/mine":            "@network.json",
		"GET /system/df":                "@df.json",
		"POST /containers/web/stop":     "",
		"POST /containers/web/start":    "",
		"POST /containers/web/restart":  "",
		"POST /containers/web/kill":     "",
		"POST /containers/web/pause":    "",
		"POST /containers/web/unpause":  "",
		"POST /containers/web/rename":   "",
		"POST /containers/web/wait":     `{"StatusCode":3}`,
		"DELETE /containers/web":        "",
		"POST /images/debian/tag":       "",
		"DELETE /images/debian":         `[{"Untagged":"debian:latest"},{"Deleted":"sha256:0123"}]`,
		"POST /commit":                  `{"Id":"sha256:0123"}`,
		"POST /volumes/create":          `{"CreatedAt":"2026-01-02T03:04:05Z","Driver":"local","Labels":{},"Mountpoint":"/v/data","Name":"data","Options":null,"Scope":"local"}`,
		"DELETE /volumes/data":          "",
		"POST /networks/create":         `{"Id":"0123456789abcdef","Warning":""}`,
		"DELETE /networks/mine":         "",
		"POST /containers/prune":        `{"ContainersDeleted":["aaa","bbb"],"SpaceReclaimed":1234567}`,
		"POST /images/prune":            `{"ImagesDeleted":[{"Untagged":"x:1"},{"Deleted":"sha256:00"}],"SpaceReclaimed":1000}`,
		"POST /networks/prune":          `{"NetworksDeleted":["mine"]}`,
		"POST /volumes/prune":           `{"VolumesDeleted":["data"],"SpaceReclaimed":5}`,
		"POST /build/prune":             `{"CachesDeleted":["c1"],"SpaceReclaimed":7}`,
		"POST /containers/create":       `{"Id":"0123456789ab","Warnings":[]}`,
		"POST /images/create":           "{\"status\":\"Pulling from library/debian\",\"id\":\"latest\"}\n{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aaaa\"}\n{\"status\":\"Digest: sha256:00\"}\n",
		"POST /images/r.example/a/push": "{\"status\":\"The push refers to repository [r.example/a]\"}\n{\"status\":\"Pushed\",\"progressDetail\":{},\"id\":\"aaaa\"}\n",
	}
}

// TestSameAsDocker runs command lines through Docker's client and through this one against the same
// engine: the output is the same, and so is what the engine was asked, but for the listed differences.
func TestSameAsDocker(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs Docker's own client to compare with: there is no docker in PATH")
	}
	engine := serveCanned(t, dockerAnswers())
	config := t.TempDir()
	type line struct {
		args []string
		// only says what is compared: "" everything, "output", "requests"
		only string
	}
	var lines []line
	add := func(only string, args ...string) { lines = append(lines, line{args, only}) }
	for _, l := range []string{
		"ps", "ps -a", "ps --no-trunc", "ps -q", "ps -aq --no-trunc", "ps -s", "ps -n 2", "ps -l", "ps --format json", "ps --format table",
		"ps -f status=running -f label=a=b", "container ls", "container list -a",
		"images", "images -a", "images -q", "images --no-trunc", "images --digests", "image ls debian", "images -f dangling=true",
		"history debian", "history --no-trunc debian", "history -q debian", "history --human=false debian", "history --format json debian",
		"volume ls", "volume ls -q", "volume ls --format json", "volume ls -f dangling=true", "volume inspect data", "volume inspect -f {{.Mountpoint}} data",
		"network ls", "network ls -q", "network ls --no-trunc", "network ls --format json", "network inspect mine",
		"system df", "system df --format json", "system df -v",
		"inspect web", "inspect -f {{.State.Status}} web", "inspect -f {{.Id}} web", "inspect -f {{.ID}} web", "inspect --format json web",
		"inspect -f {{.NetworkSettings.IPAddress}} web", "inspect -f {{if.State.Health}}yes{{else}}no{{end}} web",
		"inspect -f {{.HostConfig.Memory}}/{{.HostConfig.NanoCpus}} web", "inspect --type container -s web", "container inspect web", "inspect -f {{.Config.Labels.a}} web",
		"image inspect debian", "image inspect -f {{.Os}}/{{.Architecture}} debian", "inspect --type image debian", "image inspect -f {{.RootFS.Layers}} debian",
		"port web", "port web 80", "port web 80/tcp", "top web", "top web -o pid", "diff web", "wait web",
		"stop web", "stop -t 3 -s TERM web", "restart web", "restart -t 0 web", "start web", "kill web", "kill -s HUP web", "pause web", "unpause web", "rename web other",
		"rm web", "rm -f -v web", "rm -f nosuch", "tag debian me:1", "tag debian r.example/x/y", "rmi debian", "rmi -f --no-prune debian",
		"volume create data", "volume create -d local -o type=tmpfs --label a=b data", "volume rm data", "volume rm -f data",
		"network create mine", "network create --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.2.0/24 --aux-address x=10.1.0.9 -o a=b --label c=d --internal --attachable mine",
		"network create --ipv6 --ipv4=false --ipam-driver x --ipam-opt y=z mine",
		"container prune -f", "container prune -f --filter until=1h", "image prune -f", "image prune -a -f", "network prune -f", "volume prune -f", "volume prune -a -f",
		"builder prune -f", "builder prune -a -f", "system prune -f", "system prune -a --volumes -f",
		"create debian", "pull debian", "pull -q debian:stable", "pull --platform linux/arm64 debian", "push r.example/a", "push r.example/a:1",
	} {
		add("", strings.Fields(l)...)
	}
	add("", "ps", "--format", `{{.ID}}|{{.Names}}|{{.Image}}|{{.Ports}}|{{.Label "a"}}|{{.Mounts}}|{{.Networks}}|{{.LocalVolumes}}|{{.State}}|{{.Size}}`)
	add("", "ps", "--format", `table {{.Names}}\t{{.Label "com.example.some-name"}}\t{{upper .State}}\t{{truncate .ID 3}}\t{{json .Labels}}`)
	add("", "inspect", "-f", "{{json .Config.Env}}", "web")
	// Docker leaves the digest of an image without a tag empty here, and only here.
	add("requests", "images", "--format", "json")
	add("requests", "images", "--format", `table {{.ID}}\t{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Size}}`)
	add("requests", "stop", "--time", "3", "web") // Docker's says on stdout that --time is old
	add("output", "network", "rm", "mine")        // Docker's asks whether it is an ingress network
	add("", "inspect", "-f", `{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{(index $c 0).HostPort}} {{end}}{{join .Config.Cmd "/"}}`, "web")
	add("", "inspect", "-f", `{{if eq .State.ExitCode 0}}zero{{end}} {{.State.Pid}} {{index .Config.Labels "com.example.some-name"}} {{printf "%.3s" .ID}}`, "web")
	add("", "commit", "-a", "me", "-m", "why", "-c", `CMD ["x"]`, "-c", "ENV A=b", "--pause=false", "web", "me:1")
	add("", "volume", "ls", "--format", `{{.Name}} {{.Driver}} {{.Labels}} {{.Links}} {{.Size}} {{.Mountpoint}}`)
	for _, l := range lines {
		t.Run(strings.Join(l.args, " "), func(t *testing.T) {
			cmd := exec.Command(docker, append([]string{"--config", config, "-H", engine.host}, l.args...)...)
			var dockerErr bytes.Buffer
			cmd.Stderr = &dockerErr
			want, err := cmd.Output()
			wantCode := 0
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				wantCode = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			wantSeen := engine.take()
			got, errs, code := berth(t, engine.host, "", l.args...)
			seen := engine.take()
			if code != wantCode {
				t.Errorf("exit code %d, Docker's %d; %s / %s", code, wantCode, errs, dockerErr.String())
			}
			if diff := cmp.Diff(string(want), got); diff != "" && l.only != "requests" {
				t.Errorf("stdout, docker (-), berth (+):\n%s\nDocker's stderr: %s", diff, dockerErr.String())
			}
			if diff := cmp.Diff(normal(wantSeen), normal(seen)); diff != "" && l.only != "output" {
				t.Errorf("requests, docker (-), berth (+):\n%s", diff)
			}
		})
	}
}

// normal takes out of requests what is different for a reason: Docker's client writes docker.io/library/
// out where the engine does so anyway, sends an empty filter, asks for the version where it does not know
// the server, and orders the fields of JSON in its own way.
func normal(seen []string) []string {
	var out []string
	for _, s := range seen {
		if strings.HasPrefix(s, "GET /info") || strings.HasPrefix(s, "GET /version") {
			continue
		}
		s = strings.ReplaceAll(s, "docker.io%2Flibrary%2F", "")
		request, body, _ := strings.Cut(s, " {")
		request = strings.TrimSuffix(strings.TrimSuffix(strings.ReplaceAll(request, "filters= ", " "), "filters="), "&")
		request = strings.TrimSuffix(request, "?")
		var v any
		if body != "" && json.Unmarshal([]byte("{"+body), &v) == nil {
			if b, err := json.Marshal(v); err == nil {
				request += " " + string(b)
			}
		}
		if !slices.Contains(out, request) {
			out = append(out, request)
		}
	}
	return out
}
