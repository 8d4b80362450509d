package create

import (
	"encoding/json"
	"errors"
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
	"github.com/spf13/pflag"
)

// recorder is an engine that only writes down the bodies of creates.
type recorder struct {
	mu     sync.Mutex
	bodies []string // guarded by mu
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.HasSuffix(req.URL.Path, "/_ping"):
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Ostype", "linux")
	case strings.HasSuffix(req.URL.Path, "/containers/create"):
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.bodies = append(r.bodies, string(body))
		r.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"0123456789ab","Warnings":[]}`)
	default:
		http.Error(w, `{"message":"not here"}`, http.StatusNotFound)
	}
}

func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bodies) == 0 {
		return ""
	}
	last := r.bodies[len(r.bodies)-1]
	r.bodies = nil
	return last
}

// docker runs Docker's own client against the recorder and returns what it sent.
type docker struct {
	program, host, dir string
	rec                *recorder
}

func newDocker(t *testing.T) *docker {
	t.Helper()
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs Docker's own client to compare with: there is no docker in PATH")
	}
	dir := t.TempDir()
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	server := &http.Server{Handler: rec}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return &docker{program: program, host: "unix://" + sock, dir: dir, rec: rec}
}

func (d *docker) create(t *testing.T, args []string) (string, error) {
	t.Helper()
	cmd := exec.Command(d.program, append([]string{"--config", d.dir, "-H", d.host, "create"}, args...)...)
	cmd.Env = append(os.Environ(), "FROM_HERE=value from here")
	out, err := cmd.CombinedOutput()
	body := d.rec.take()
	if err != nil {
		return body, errors.New(string(out))
	}
	return body, nil
}

func ours(args []string) (string, error) {
	f := &Flags{LookupEnv: func(name string) (string, bool) {
		if name == "FROM_HERE" {
			return "value from here", true
		}
		return os.LookupEnv(name)
	}}
	fs := pflag.NewFlagSet("create", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SetInterspersed(false)
	f.Register(fs)
	if err := fs.Parse(args); err != nil {
		return "", err
	}
	if fs.NArg() == 0 {
		return "", errors.New("no image")
	}
	f.Image, f.Args = fs.Arg(0), fs.Args()[1:]
	req, err := f.Request(fs)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(req)
	return string(b), err
}

func decoded(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	// Docker's client keeps these in maps, so their order is chance.
	for _, list := range []any{m["HostConfig"].(map[string]any)["Binds"], m["Env"]} {
		if list, ok := list.([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	return m
}

// TestAgainstDocker runs the same command lines through Docker's client and through this package.
func TestAgainstDocker(t *testing.T) {
	d := newDocker(t)
	write := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	envFile := write("env", "# comment\nA=1\n  B= spaced \nFROM_HERE\nNOT_THERE_AT_ALL\nC=\"quoted\"\n")
	labelFile := write("labels", "one=1\ntwo\n")
	seccomp := write("seccomp.json", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n")
	for _, line := range []string{
		"busybox",
		"busybox echo -n hello --world",
		"-it busybox sh", "-t -a STDIN -a stderr busybox", "-i -a stdout busybox",
		"--hostname h --domainname d.e -u 1:2 -w /w -l a=b -l c -l d=e=f --label-file " + labelFile + " --annotation a=b --annotation c=d busybox",
		"-e A=1 -e B= -e FROM_HERE -e NOT_THERE_AT_ALL -e C=a=b --entrypoint= busybox x",
		"--env-file " + envFile + " -e A=2 --entrypoint /e busybox x y",
		"--restart always --stop-signal SIGUSR1 --stop-timeout 0 busybox", "--restart on-failure:5 --stop-timeout 7 busybox", "--restart= busybox",
		"--rm --restart no --init --log-driver none busybox", "--restart unless-stopped --init=false --cidfile " + filepath.Join(d.dir, "cid") + " busybox",
		"--health-cmd true busybox", "--no-healthcheck busybox",
		"--health-interval 1s --health-timeout 2s --health-retries 3 --health-start-period 4s --health-start-interval 5s --log-driver json-file --log-opt max-size=1m --log-opt max-file=3 busybox",

		"-p 80 -p 127.0.0.1:8080:81/udp -p 127.0.0.1::82 -p [::1]:83:83 -p ::1:84:84 -p 8000-8002:90-92 -p 8000-8010:95 busybox",
		"-p 80-82 -p 53:53/UDP -p 53:53/tcp -p published=8080,target=84 -p published=54,target=54,protocol=udp -p 0:85 -p 80:86/sctp busybox",
		"-p 8080:80 -p 8081:80 -P --expose 80 --expose 90-92/udp --expose 7/tcp busybox",

		"-v /a:/b -v name:/c:nocopy -v /anon busybox", "-v /a:/b:ro,z,rslave -v n:/q:ro -v ./rel:/c -v ..:/d -v ~x:/e busybox", "-v /a:/b -v /a:/b busybox",
		"--mount type=bind,source=/a,target=/b --mount type=bind,src=./x,dst=/b,readonly --mount type=bind,src=/a,dst=/b,ro=false busybox",
		"--mount type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-recursive=disabled --mount Type=Bind,Source=/a,Target=/b,consistency=cached busybox",
		"--mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable --mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate busybox",
		"--mount source=v,target=/b --mount target=/b --mount type=volume,src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-label=c,volume-driver=d,volume-opt=e=f,volume-subpath=g busybox",
		"--mount type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1770 --mount type=image,src=i,dst=/b,image-subpath=x busybox",
		"--tmpfs /t --tmpfs /u:size=1m,mode=700 --volumes-from a --volumes-from b:ro --volume-driver d --shm-size 64m --read-only --storage-opt size=1g busybox",

		"--network none busybox", "--network host busybox", "--net bridge busybox", "--network container:x busybox", "--network mine busybox",
		"--network mine --network-alias a --net-alias b --ip 10.0.0.2 --ip6 fd00::2 --link-local-ip 169.254.0.2 --mac-address 92:d0:c6:0a:29:33 busybox",
		"--network name=mine,alias=a,alias=b,ip=10.0.0.2,ip6=fd00::2,mac-address=92:d0:c6:0a:29:33,driver-opt=a=b,gw-priority=3 busybox",
		"--network name=mine,link-local-ip=169.254.0.2,link-local-ip=169.254.0.3 busybox",
		"--network mine --network other busybox", "--network name=mine,alias=a --network name=other,alias=b busybox", "--network mine --link a:b busybox",
		"--mac-address 92-D0-C6-0A-29-33 --link a:b --link c --ip 172.17.0.9 busybox",
		"--dns 1.1.1.1 --dns ::1 --dns-search example.com --dns-search . --dns-option ndots:2 --dns-opt x busybox",
		"--add-host a:1.2.3.4 --add-host b=::1 --add-host c:[::1] --add-host d:host-gateway busybox",

		"-m 1g --memory-reservation 512m --memory-swap 2g --memory-swappiness 10 --cpus 1.5 --pids-limit 10 busybox", "--memory-swap=-1 -m 6M --cpus .5 --pids-limit -1 busybox",
		"-c 512 --cpu-period 1000 --cpu-quota 500 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-rt-period 1000 --cpu-rt-runtime 900 --oom-kill-disable --oom-score-adj 100 busybox",
		"--ulimit nofile=1024:2048 --ulimit core=0 --ulimit nproc=-1 --ulimit nofile=7 --blkio-weight 100 --blkio-weight-device /dev/sda:200 busybox",
		"--device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:100 --device-read-iops /dev/sda:5 --device-write-iops /dev/sdb:6 --cgroup-parent /x busybox",

		"--cap-add sys_time --cap-add NET_ADMIN --cap-add net_admin --cap-drop ALL --privileged busybox", "--cap-add all --cap-add chown --cap-drop cap_chown --cap-drop kill busybox",
		"--cap-add chown --cap-drop chown --group-add a --group-add 7 busybox",
		"--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt apparmor=x busybox", "--security-opt label:disable --security-opt no-new-privileges=false busybox",
		"--security-opt seccomp=" + seccomp + " --security-opt systempaths=unconfined busybox", "--security-opt systempaths=unconfined busybox",
		"--device /dev/null --device /dev/null:/dev/x --device /dev/null:/dev/x:r --device /dev/null:rw --device /dev//null busybox",
		"--device vendor.com/class=name busybox", "--device-cgroup-rule", "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=2 busybox",
		"--pid host --ipc host --uts host --userns host --cgroupns host busybox", "--pid container:x --ipc container:y --cgroupns private busybox",
		"--ipc none busybox", "--ipc shareable --runtime crun busybox", "--ipc private busybox",
	} {
		args := strings.Fields(line)
		if line == "--device-cgroup-rule" { // its value has spaces
			args = []string{"--device-cgroup-rule", "c 1:3 rwm", "--device-cgroup-rule", "a *:* r", "busybox"}
		}
		t.Run(line, func(t *testing.T) {
			want, err := d.create(t, args)
			if err != nil {
				t.Fatalf("Docker's client refuses this: %v", err)
			}
			got, err := ours(args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, want), decoded(t, got)); diff != "" {
				t.Errorf("docker (-), berth (+):\n%s", diff)
			}
		})
	}
}

// TestRefusals: what means nothing is refused with the flag or the value in the sentence. All of these
// but those at the end are refused by Docker's client too; those it leaves to its engine.
func TestRefusals(t *testing.T) {
	for _, args := range [][]string{
		{"-p", "abc", "busybox"}, {"-p", "80:abc", "busybox"}, {"-p", "1.2.3:80:80", "busybox"}, {"-p", "80:80/icmp", "busybox"},
		{"-p", "90-80", "busybox"}, {"-p", "1-3:1-2", "busybox"}, {"-p", "70000:80", "busybox"}, {"-p", "", "busybox"}, {"-p", "80:", "busybox"}, {"-p", "target", "busybox"},
		{"--expose", "x", "busybox"}, {"--expose", "9-8", "busybox"},
		{"-v", "", "busybox"}, {"-v", ":/bbb", "busybox"},
		{"--mount", "type=bind", "--mount", "x", "busybox"}, {"--mount", "type=tmpfs,dst=/x,volume-nocopy", "busybox"}, {"--mount", "", "busybox"},
		{"--mount", "type=tmpfs,dst=/x,tmpfs-size=big", "busybox"}, {"--mount", "type=tmpfs,dst=/x,tmpfs-mode=9", "busybox"},
		{"--mount", "type=bind,src=/a,dst=/b,ro=maybe", "busybox"}, {"--mount", "type=bind,src=/a,dst=/b,bind-recursive=x", "busybox"},
		{"--mount", "type=bind,src=/a,dst=/b,bind-recursive=writable", "busybox"}, {"--mount", "type=bind, src=/a", "busybox"},
		{"-m", "lots", "busybox"}, {"--memory-swap", "x", "busybox"}, {"--memory-swappiness", "101", "busybox"}, {"--cpus", "x", "busybox"}, {"--cpus", "0.1234567891", "busybox"},
		{"--ulimit", "nofile", "busybox"}, {"--ulimit", "nofile=x", "busybox"}, {"--ulimit", "nosuch=1", "busybox"}, {"--ulimit", "nofile=2:1", "busybox"},
		{"--blkio-weight-device", "/dev/x:5", "busybox"}, {"--blkio-weight-device", "x:50", "busybox"}, {"--device-read-bps", "/dev/x", "busybox"}, {"--device-read-iops", "/dev/x:1m", "busybox"},
		{"--restart", ":3", "busybox"}, {"--restart", "on-failure:x", "busybox"}, {"--rm", "--restart", "always", "busybox"},
		{"--health-interval", "-1s", "busybox"}, {"--no-healthcheck", "--health-cmd", "x", "busybox"}, {"--log-driver", "none", "--log-opt", "a=b", "busybox"},
		{"--pid", "x", "busybox"}, {"--uts", "container:x", "busybox"}, {"--userns", "x", "busybox"}, {"--cgroupns", "x", "busybox"},
		{"--network", "alias=x", "busybox"}, {"--network", "name=x,foo=bar", "busybox"}, {"--network", "", "busybox"},
		{"--network", "x", "--network", "x", "busybox"}, {"--network", "x", "--network", "host", "busybox"}, {"--network", "bridge", "--network-alias", "x", "busybox"},
		{"--network", "name=x,alias=y", "--network-alias", "z", "busybox"}, {"--mac-address", "x", "busybox"},
		{"--dns", "x", "busybox"}, {"--dns-search", "-", "busybox"}, {"--add-host", "x", "busybox"}, {"--add-host", "x:y", "busybox"}, {"--link", "a:b:c", "busybox"},
		{"--device", "/a:/b:rwx", "busybox"}, {"--device", "/a:b", "busybox"}, {"--device", "a:/b:r:x", "busybox"}, {"--device-cgroup-rule", "x", "busybox"},
		{"--security-opt", "x", "busybox"}, {"--security-opt", "seccomp=/does/not/exist", "busybox"}, {"--sysctl", "kernel.hostname=x", "busybox"}, {"--sysctl", "x", "busybox"},
		{"--storage-opt", "x", "busybox"}, {"-e", "=x", "busybox"}, {"-l", "=x", "busybox"}, {"-l", "a b=c", "busybox"}, {"-a", "stdfoo", "busybox"}, {"--env-file", "/does/not/exist", "busybox"},

		{"-v", "a:b:c:d", "busybox"}, {"-v", "a::b", "busybox"}, {"--mount", "type=bind,src=,dst=/x", "busybox"}, {"--network", "name=x,ip=y", "busybox"}, {"--ip", "x", "busybox"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			got, err := ours(args)
			if err == nil {
				t.Fatalf("it was taken: %s", got)
			}
			flag := strings.TrimLeft(args[0], "-")
			if !strings.Contains(err.Error(), flag) && !strings.Contains(err.Error(), args[1]) && !strings.Contains(err.Error(), strings.TrimLeft(args[len(args)-3], "-")) {
				t.Errorf("the sentence names neither the flag nor the value: %v", err)
			}
		})
	}
}
