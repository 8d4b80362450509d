package compile

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// anyHost is a machine that is the same everywhere.
func anyHost() *Host {
	return &Host{Capabilities: 1<<41 - 1, HardLimits: map[int]uint64{unix.RLIMIT_NOFILE: 4096}, LSM: []string{"apparmor"},
		Stat: func(path string) (bool, error) { return !strings.HasSuffix(path, ".conf"), nil }}
}

// file is some open file; scripts name descriptors, they do not number them.
func file(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ptr[T any](v T) *T { return &v }

// The scripts of typical configurations, as text. None of this needs root.
func TestGoldenScripts(t *testing.T) {
	dir := file(t, "dir")
	joined := &cgroup.Join{Version: 2, Dir: dir, Tasks: []*os.File{dir}, Path: "/sys/fs/cgroup/box"}
	v1 := &cgroup.Join{Version: 1, Tasks: []*os.File{dir}, Hierarchies: []cgroup.Hierarchy{
		{Name: "cpu,cpuacct", Options: []string{"cpu", "cpuacct"}, Links: []string{"cpu"}, Path: "/sys/fs/cgroup/cpu,cpuacct/box"},
		{Name: "systemd", Options: []string{"none", "name=systemd"}, Path: "/sys/fs/cgroup/systemd/box"}}}
	filter := make([]byte, 16)
	for name, start := range map[string]func(*specs.Spec, *Inputs){
		"bundle": func(s *specs.Spec, in *Inputs) { s.Root.Path = "rootfs"; in.Bundle = "/bundle" },
		"engine": func(s *specs.Spec, in *Inputs) {
			in.Root, in.Cgroup, in.Filter, in.DeathSignal, in.Init, in.MakeCwd = dir, v1, filter, unix.SIGKILL, true, true
			in.Stdio = [3]*os.File{dir, dir, dir}
			in.Namespaces = map[specs.LinuxNamespaceType]*os.File{specs.NetworkNamespace: dir}
			in.Mounts = []Mount{{"/etc/hosts", dir}}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "ignored", Options: []string{"rbind", "ro", "rprivate"}},
				specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
		},
		"terminal": func(s *specs.Spec, in *Inputs) {
			s.Process.Terminal, s.Process.ConsoleSize, s.Process.User.UID = true, &specs.Box{Height: 24, Width: 80}, 1000
			in.Console = dir
		},
		"user-namespace": func(s *specs.Spec, in *Inputs) {
			s.Root.Path = "/rootfs"
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv/data", Options: []string{"rbind", "rro", "rslave"}})
		},
		"joined": func(s *specs.Spec, in *Inputs) {
			for i := range s.Linux.Namespaces {
				switch n := &s.Linux.Namespaces[i]; n.Type {
				case specs.NetworkNamespace, specs.IPCNamespace, specs.PIDNamespace:
					n.Path = "/proc/7/ns/" + string(n.Type)
				}
			}
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/7/ns/user"})
		},
		"everything": func(s *specs.Spec, in *Inputs) {
			in.Cgroup, in.Wait, in.Done, in.Filter, in.Console = joined, dir, dir, filter, dir
			in.Created = func(int) error { return nil }
			in.State = func(int) ([]byte, error) { return nil, nil }
			s.Domainname = "example.org"
			s.Root.Readonly = true
			s.Process.NoNewPrivileges = false
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}, Umask: ptr(uint32(0o27))}
			s.Process.Cwd, s.Process.ApparmorProfile, s.Process.OOMScoreAdj = "/work", "box", ptr(-500)
			s.Process.Capabilities.Inheritable, s.Process.Capabilities.Ambient = []string{"CAP_KILL"}, []string{"CAP_KILL"}
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100000, Hard: 200000}, {Type: "RLIMIT_CORE"}}
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 3}
			s.Process.Args = []string{"server"}
			s.Linux.RootfsPropagation = "shared"
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/forwarding": "1", "kernel.msgmax": "65536"}
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(os.FileMode(0o600)), UID: ptr(uint32(1000))}, {Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200}}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/app.conf", Type: "bind", Source: "/srv/app.conf", Options: []string{"bind", "ro"}},
				specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"ro"}}, specs.Mount{Destination: "/scratch/a/b", Type: "tmpfs", Options: []string{"size=1m", "noatime", "sync"}})
			hook := func(p string) []specs.Hook {
				return []specs.Hook{{Path: p, Args: []string{"hook", p}, Env: []string{"A=B"}, Timeout: ptr(5)}}
			}
			s.Hooks = &specs.Hooks{CreateContainer: hook("/bin/create"), StartContainer: hook("/bin/start")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, in := specFor("/rootfs", "/bin/app", "-x"), Inputs{Host: anyHost()}
			start(spec, &in)
			p, err := Start(spec, in)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			text := p.Script.String()
			if strings.Contains(text, "system call") {
				t.Error("a call has no name: its number differs between architectures")
			}
			if n := strings.Count(text, "setresuid("); n == 0 || n != len(hidden.FindAllString(text, -1)) {
				t.Error("who is the user that the process becomes could look into our memory")
			}
			golden(t, name+".script", text)
		})
	}
}

// hidden is a change of the user, which lets that user look in as far as the machine's settings say, and its undoing.
var hidden = regexp.MustCompile(`setresuid\(.*\n.*SET_DUMPABLE, 0`)

func TestGoldenExec(t *testing.T) {
	process := specFor("/", "id").Process
	process.User, process.ApparmorProfile = specs.User{UID: 5, GID: 6}, "box"
	process.ExecCPUAffinity = &specs.CPUAffinity{Final: "0-1"}
	process.Terminal = true
	p, err := Exec(process, ExecInputs{Inputs: Inputs{Host: anyHost(), Console: file(t, "console")}, Target: file(t, "pidfd"),
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWNET})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	golden(t, "exec.script", p.Script.String())
}

func TestGoldenSlot(t *testing.T) {
	spec := specFor("", "none")
	spec.Process, spec.Root = nil, nil
	p, err := Prepare(spec, Inputs{Host: anyHost()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	golden(t, "slot.script", p.Script.String())
	p.child = &script.Child{} // as if it waited
	in := Inputs{Host: anyHost(), Root: file(t, "root")}
	if err := p.second(specFor("", "/bin/app"), in); err != nil {
		t.Fatal(err)
	}
	golden(t, "slot-finished.script", p.Script.String())
}

// What can't be, or must not be, is refused with a sentence before anything is made.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*specs.Spec, *Inputs)
		say    string
	}{
		"no mount namespace": {func(s *specs.Spec, _ *Inputs) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, "mount namespace"},
		"joined mounts":      {func(s *specs.Spec, _ *Inputs) { s.Linux.Namespaces[0].Path = "/x" }, "can't be joined"},
		"twice":              {func(s *specs.Spec, _ *Inputs) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) }, "twice"},
		"unknown namespace":  {func(s *specs.Spec, _ *Inputs) { s.Linux.Namespaces[1].Type = "dream" }, "dream"},
		"no linux":           {func(s *specs.Spec, _ *Inputs) { s.Linux = nil }, "linux section"},
		"host's host name": {func(s *specs.Spec, _ *Inputs) {
			s.Linux.Namespaces = append(s.Linux.Namespaces[:2:2], s.Linux.Namespaces[3:]...)
		}, "host name"},
		"user without maps": {func(s *specs.Spec, _ *Inputs) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, "mappings"},
		"host's sysctl": {func(s *specs.Spec, _ *Inputs) { s.Linux.Sysctl = map[string]string{"vm.overcommit_memory": "1"} }, "would be changed for the host"},
		"shared net sysctl": {func(s *specs.Spec, _ *Inputs) {
			s.Linux.Namespaces = append(s.Linux.Namespaces[:1:1], s.Linux.Namespaces[2:]...)
			s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "1"}
		}, "network namespace"},
		"no process":   {func(s *specs.Spec, _ *Inputs) { s.Process = nil }, "no process"},
		"no command":   {func(s *specs.Spec, _ *Inputs) { s.Process.Args = nil }, "no command"},
		"relative cwd": {func(s *specs.Spec, _ *Inputs) { s.Process.Cwd = "work" }, "absolute"},
		"NUL":          {func(s *specs.Spec, _ *Inputs) { s.Process.Env = []string{"A=\x00"} }, "NUL"},
		"capability":   {func(s *specs.Spec, _ *Inputs) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} }, "CAP_FLY"},
		"rlimit":       {func(s *specs.Spec, _ *Inputs) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, "RLIMIT_X"},
		"rlimit twice": {func(s *specs.Spec, _ *Inputs) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_AS"}, {Type: "RLIMIT_AS"}}
		}, "twice"},
		"soft over hard": {func(s *specs.Spec, _ *Inputs) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_AS", Soft: 2, Hard: 1}}
		}, "above"},
		"SELinux":            {func(s *specs.Spec, _ *Inputs) { s.Process.SelinuxLabel = "x" }, "without SELinux"},
		"mount on the root":  {func(s *specs.Spec, _ *Inputs) { s.Mounts[0].Destination = "/../" }, "place of the root"},
		"mount without type": {func(s *specs.Spec, _ *Inputs) { s.Mounts[0].Type = "" }, "no type"},
		"remount":            {func(s *specs.Spec, _ *Inputs) { s.Mounts[0].Options = []string{"remount"} }, "remount"},
		"long option":        {func(s *specs.Spec, _ *Inputs) { s.Mounts[0].Options = []string{"x=" + strings.Repeat("y", 256)} }, "255"},
		"device type":        {func(s *specs.Spec, _ *Inputs) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "q"}} }, "type"},
		"device number": {func(s *specs.Spec, _ *Inputs) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 4096}}
		}, "4096"},
		"propagation":         {func(s *specs.Spec, _ *Inputs) { s.Linux.RootfsPropagation = "loud" }, "loud"},
		"no console":          {func(s *specs.Spec, _ *Inputs) { s.Process.Terminal = true }, "console socket"},
		"torn filter":         {func(_ *specs.Spec, in *Inputs) { in.Filter = make([]byte, 9) }, "whole instructions"},
		"environment":         {func(s *specs.Spec, _ *Inputs) { s.Process.Env = []string{strings.Repeat("x", 20<<20)} }, "shorten the environment"},
		"hooks without state": {func(s *specs.Spec, _ *Inputs) { s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x"}}} }, "state"},
		"unmapped user": {func(s *specs.Spec, _ *Inputs) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 10}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
			s.Process.User.UID = 10
		}, "not mapped"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, in := specFor("/rootfs", "/bin/app"), Inputs{Host: anyHost()}
			c.change(spec, &in)
			p, err := Start(spec, in)
			if err == nil {
				p.Close()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v, want something about %q", err, c.say)
			}
		})
	}
}
