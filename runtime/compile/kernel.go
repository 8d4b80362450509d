package compile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// names sets host name and NIS domain name.
func (b *builder) hostNames() {
	if n := b.spec.Hostname; n != "" {
		b.Do("set the host name", unix.SYS_SETHOSTNAME, n, len(n)).On(n)
	}
	if n := b.spec.Domainname; n != "" {
		b.Do("set the domain name", unix.SYS_SETDOMAINNAME, n, len(n)).On(n)
	}
}

// procfs returns a proc file system that is ours: the container's, or one that nobody else sees.
func (b *builder) procfs() script.Reg {
	for _, d := range slices.Sorted(maps.Keys(b.made)) {
		if b.made[d].kind == "proc" {
			return b.made[d].reg
		}
	}
	if r, ok := b.names["private proc"]; ok {
		return r
	}
	r := b.reg("private proc")
	b.detached("proc", "", mountOptions{}, r)
	return r
}

// sysctlNamespaces says which namespace a sysctl lives in, by its beginning: without one of its own the
// container would change the host's.
var sysctlNamespaces = []struct {
	prefix string
	kind   specs.LinuxNamespaceType
}{
	{"net.", specs.NetworkNamespace}, {"fs.mqueue.", specs.IPCNamespace}, {"kernel.msg", specs.IPCNamespace}, {"kernel.sem", specs.IPCNamespace},
	{"kernel.shm", specs.IPCNamespace}, {"kernel.hostname", specs.UTSNamespace}, {"kernel.domainname", specs.UTSNamespace},
	{"user.", specs.UserNamespace},
}

// sysctls writes kernel parameters. Names are written with dots; a slash stands for a dot inside of a name
// (net.ipv4.conf.eth0/1.forwarding), or everything is written with slashes.
func (b *builder) sysctls() error {
	if b.spec.Linux == nil || len(b.spec.Linux.Sysctl) == 0 {
		return nil
	}
	proc, f := b.procfs(), b.reg("file")
	for _, name := range slices.Sorted(maps.Keys(b.spec.Linux.Sysctl)) {
		value := b.spec.Linux.Sysctl[name]
		dotted := name
		if !strings.Contains(name, ".") || strings.Contains(name, "/") && strings.Index(name, "/") < strings.Index(name, ".") {
			dotted = strings.NewReplacer("/", ".", ".", "/").Replace(name)
		}
		if err := b.mayset(dotted); err != nil {
			return err
		}
		p := "sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(dotted)
		b.openConfined("set the kernel parameter", proc, p, unix.O_WRONLY, beneath, f).On(dotted)
		b.Do("set the kernel parameter", unix.SYS_WRITE, f, value, len(value)).On(dotted + "=" + value)
		b.CloseReg(f)
	}
	return nil
}

func (b *builder) mayset(name string) error {
	for _, k := range sysctlNamespaces {
		if strings.HasPrefix(name, k.prefix) {
			if _, ok := b.namespace(k.kind); !ok {
				return fmt.Errorf("kernel parameter %s: the container shares the host's %s namespace, it would be changed for the host", name, k.kind)
			}
			return nil
		}
	}
	return fmt.Errorf("kernel parameter %s: it has no namespace, it would be changed for the host", name)
}

// oomScore writes oom_score_adj below dir (a proc file system, or nil for the host's by path). Lowering it needs
// CAP_SYS_RESOURCE; without, the container goes on with what it has, and the step is among the expected
// failures.
func (b *builder) oomScore(value *int, dir any, name string) {
	v := score(value)
	f := b.reg("file")
	b.Do("open", unix.SYS_OPENAT, dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0).On("oom_score_adj").To(f)
	b.Do("set the score for running out of memory", unix.SYS_WRITE, f, v, len(v)).On(v).May(unix.EACCES)
	b.CloseReg(f)
}

func score(value *int) string {
	if value == nil {
		return "0"
	}
	return strconv.Itoa(*value)
}
