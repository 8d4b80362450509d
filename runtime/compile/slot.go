package compile

import (
	"fmt"
	"slices"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// madeAhead are the file systems that a slot makes before it waits: those that say nothing about the
// container. /dev/shm is not among them, because its size is the container's.
var madeAhead = []string{"proc", "tmpfs", "devpts", "mqueue", "sysfs"}

// Prepare compiles the first half of a slot: a container that looks like spec, whose root, mounts (but for
// /proc, /dev, /sys and what belongs to them), process and hostname are not known yet. The child waits in an
// empty root.
func Prepare(spec *specs.Spec, in Inputs) (*Plan, error) {
	b, err := newBuilder(spec, in)
	if err != nil {
		return nil, err
	}
	b.lateNetwork = in.LateNetwork
	if err := b.prepare(); err != nil {
		return nil, joinClose(b, err)
	}
	return b.plan(), nil
}

func (b *builder) prepare() error {
	if err := b.checkNamespaces(); err != nil {
		return err
	}
	if has, _ := b.userNamespace(); has {
		return fmt.Errorf("a slot in a user namespace is not supported")
	}
	if p, err := b.rootPropagation(); err != nil || p.flag != unix.MS_SLAVE {
		return fmt.Errorf("a slot with another propagation of its root is not supported")
	}
	if err := b.isolate(); err != nil {
		return err
	}
	for _, m := range b.spec.Mounts {
		if err := b.makeAhead(m); err != nil {
			return err
		}
	}
	if dev, ok := b.made["/dev"]; ok && dev.kind == "tmpfs" {
		if err := b.defaultDevices(dev.reg); err != nil {
			return err
		}
		b.devicesMade = true
	}
	b.emptyRoot()
	b.inbox = b.Wait("claim")
	b.meet = append(b.meet, nil)
	b.waits = true
	return b.Err()
}

func (b *builder) makeAhead(m specs.Mount) error {
	dest := clean(m.Destination)
	ahead := slices.Contains(madeAhead, m.Type) && (m.Type != "tmpfs" || dest == "/dev")
	if !ahead || m.Type == "sysfs" && b.lateNetwork { // a sysfs shows the network namespace that it was made in
		return nil
	}
	o, err := parseOptions(m.Options)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Destination, err)
	}
	tree := b.reg(treeName(m.Type, dest))
	b.detached(m.Type, b.fsSource(m), o, tree)
	b.made[dest] = mounted{reg: tree, kind: m.Type, shape: shape(m)}
	return nil
}

// shape is everything that a file system is made of.
func shape(m specs.Mount) string { return fmt.Sprintf("%s\x00%s\x00%q", m.Type, m.Source, m.Options) }

// ready is the mount for dest that a slot made ahead, if it is what m asks for.
func (b *builder) ready(dest string, m specs.Mount) (script.Reg, bool) {
	made, ok := b.made[dest]
	return made.reg, ok && b.slot && made.shape == shape(m)
}

func (b *builder) devicesReady() bool { return b.slot && b.devicesMade }

// Fits says whether a slot that was prepared for one configuration can become another: nil, or the reason
// why not. withInit: the process is to be below an init, which would keep the memory that a slot's child may share;
// for that memory's sake no tight limit fits either (share.go).
func Fits(prepared, wanted *specs.Spec, withInit bool) error {
	if prepared.Linux == nil || wanted.Linux == nil {
		return fmt.Errorf("there is no linux section")
	}
	if !slices.Equal(prepared.Linux.Namespaces, wanted.Linux.Namespaces) {
		return fmt.Errorf("the namespaces are others")
	}
	if wanted.Linux.RootfsPropagation != prepared.Linux.RootfsPropagation {
		return fmt.Errorf("the root's propagation is another")
	}
	if withInit {
		return fmt.Errorf("it has an init")
	}
	if tight(wanted.Linux.Resources) {
		return fmt.Errorf("its memory limit is very small")
	}
	if wanted.Hooks != nil && hooksInside(wanted.Hooks) > 0 {
		return fmt.Errorf("it has hooks")
	}
	for _, m := range prepared.Mounts {
		same := slices.ContainsFunc(wanted.Mounts, func(w specs.Mount) bool { return clean(w.Destination) == clean(m.Destination) && shape(w) == shape(m) })
		if clean(m.Destination) == "/dev" && !same {
			return fmt.Errorf("/dev is another")
		}
	}
	return nil
}

// Finish gives a waiting slot its second half and returns as Launch does.
func (p *Plan) Finish(spec *specs.Spec, in Inputs) error {
	if !p.b.waits || p.child == nil {
		return fmt.Errorf("it is no slot that waits")
	}
	if err := p.second(spec, in); err != nil {
		p.child.Abandon()
		return err
	}
	if err := p.child.Go(p.b.files...); err != nil {
		p.child.Abandon()
		return err
	}
	return p.serve()
}

// second writes the second half.
func (p *Plan) second(spec *specs.Spec, in Inputs) error {
	b := p.b
	if err := Fits(b.spec, spec, in.Init); err != nil {
		return fmt.Errorf("this slot can't become that container: %w", err)
	}
	in.Cgroup = b.in.Cgroup
	b.use(spec, in)
	b.waits, b.slot = false, true
	for dest := range b.made {
		if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return clean(m.Destination) == dest && shape(m) == b.made[dest].shape }) {
			b.unused = append(b.unused, b.made[dest].reg)
			delete(b.made, dest)
		}
	}
	return b.finish()
}

func (b *builder) finish() error {
	if err := checkProcess(b.process); err != nil {
		return err
	}
	if b.in.Root == nil {
		return fmt.Errorf("a slot takes its root as a descriptor")
	}
	b.rootFile = b.file("root", b.in.Root)
	b.connections()
	for i, m := range b.in.Mounts {
		b.treeRegs = append(b.treeRegs, b.file("tree "+clean(m.Destination), b.in.Mounts[i].Tree))
	}
	network, late := b.namespace(specs.NetworkNamespace)
	var networkFile script.Reg
	if late = late && b.lateNetwork; late {
		f := b.in.Namespaces[specs.NetworkNamespace]
		if f == nil {
			return fmt.Errorf("this slot takes its network namespace as a descriptor")
		}
		networkFile = b.file("namespace network", f)
	}
	b.Take(b.inbox, b.regs...)
	if late {
		b.setns(network, networkFile)
	}
	b.oomScore(b.oomScoreAdj(), b.procfs(), "self/oom_score_adj")
	if err := b.fill(); err != nil {
		return err
	}
	return b.become()
}
