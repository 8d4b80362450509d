package compile

import (
	"encoding/binary"
	"fmt"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// becomeRoot takes id 0 of the user namespace: what is made from now on belongs to the container's root.
func (b *builder) becomeRoot() {
	b.Do("become root of the user namespace", unix.SYS_SETRESGID, 0, 0, 0).On("gid 0")
	b.Do("become root of the user namespace", unix.SYS_SETRESUID, 0, 0, 0).On("uid 0")
	b.hideMemory()
}

// identity gives up what the program must not have. The order is the kernel's:
//   - the bounding set while CAP_SETPCAP is there
//   - groups and gid before uid, which gives up CAP_SETGID; PR_SET_KEEPCAPS keeps the permitted set across it
//   - ambient capabilities after the permitted and inheritable ones, which bound them
//   - the death signal after the credentials, whose change clears it
//   - no_new_privs after the LSM's exec label (see become), which it would freeze
//
// A filter without no_new_privs needs CAP_SYS_ADMIN: it stays until the filter is there, and goes then.
func (b *builder) identity(p *specs.Process) error {
	sets, err := b.capabilitySets(p.Capabilities)
	if err != nil {
		return err
	}
	if err := b.setLimits(p.Rlimits); err != nil { // while CAP_SYS_RESOURCE is there, and after the last file was opened
		return err
	}
	b.bound(sets.bounding)
	if err := b.setIDs(p.User); err != nil {
		return err
	}
	late := len(b.in.Filter) > 0 && !p.NoNewPrivileges && sets.permitted&sets.effective&capSysAdmin == 0
	first := sets
	if late {
		first.effective |= capSysAdmin
		first.permitted |= capSysAdmin
	}
	b.setCapabilities(first)
	b.setAmbient(sets.ambient)
	b.Do("keep capabilities no longer", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	if b.in.DeathSignal != 0 {
		b.dieWithParent(int(b.in.DeathSignal))
	}
	if p.NoNewPrivileges {
		b.Do("gain no privileges any more", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if b.in.Init {
		b.initProcess()
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask & 0o777
	}
	b.Do("set the umask", unix.SYS_UMASK, umask)
	if err := b.filter(); err != nil {
		return err
	}
	if late {
		b.setCapabilities(sets)
	}
	return nil
}

func (b *builder) setIDs(u specs.User) error {
	if has, _ := b.userNamespace(); has && b.spec.Linux != nil {
		if !mapped(b.spec.Linux.UIDMappings, u.UID) {
			return fmt.Errorf("user id %d is not mapped in the container's user namespace", u.UID)
		}
		if !mapped(b.spec.Linux.GIDMappings, u.GID) {
			return fmt.Errorf("group id %d is not mapped in the container's user namespace", u.GID)
		}
	}
	groups := make([]byte, 0, 4*len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	t := b.Do("set the additional groups", unix.SYS_SETGROUPS, len(u.AdditionalGids), b.Bytes(fmt.Sprint(u.AdditionalGids), groups)).On(fmt.Sprint(u.AdditionalGids))
	if len(u.AdditionalGids) == 0 && b.inUserNamespace() {
		t.May(unix.EPERM) // setgroups is denied where an ordinary user wrote the maps; then there is nothing to drop either
	}
	b.Do("set the group", unix.SYS_SETRESGID, u.GID, u.GID, u.GID).On(fmt.Sprint("gid ", u.GID))
	b.Do("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	b.Do("set the user", unix.SYS_SETRESUID, u.UID, u.UID, u.UID).On(fmt.Sprint("uid ", u.UID))
	b.hideMemory()
	return nil
}

// hideMemory lets nobody look into this process, which plays in our memory or in a copy of it. Who becomes another user
// has it as fs.suid_dumpable says, and must say it again (kernel/cred.c, "commit_creds").
func (b *builder) hideMemory() {
	b.Do("show nothing of this program", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

func mapped(l []specs.LinuxIDMapping, id uint32) bool {
	for _, m := range l {
		if id >= m.ContainerID && uint64(id) < uint64(m.ContainerID)+uint64(m.Size) {
			return true
		}
	}
	return len(l) == 0 // a namespace that was joined: its mappings are not ours to know
}

// dieWithParent asks for a signal when the parent ends, and looks whether it already has: then the connection
// is closed, and a read does not block.
func (b *builder) dieWithParent(signal int) {
	r := b.reg("parent")
	gone := b.Label()
	alive := b.Label()
	b.Do("die with the parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, signal, 0, 0, 0)
	if b.in.Wait != nil {
		return // it let go of the parent when it was created
	}
	b.Do("look for the parent", unix.SYS_RECVFROM, script.Conn, b.Room("byte", 1), 1, unix.MSG_DONTWAIT|unix.MSG_PEEK, nil, nil).To(r).
		May(unix.EAGAIN).Else(alive).Then(gone)
	b.Mark(gone)
	b.Fail("the parent has ended", unix.ESRCH)
	b.Mark(alive)
}

// label sets what a security module is to give the program. A name in the configuration that no module of this
// kernel understands is refused: the program would run without what was asked for.
func (b *builder) label(p *specs.Process) error {
	if p.ApparmorProfile != "" {
		if !b.host.has("apparmor") {
			return fmt.Errorf("AppArmor profile %q is asked for, and this kernel runs without AppArmor", p.ApparmorProfile)
		}
		b.execLabel("set the AppArmor profile", "exec "+p.ApparmorProfile, p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" {
		if !b.host.has("selinux") {
			return fmt.Errorf("SELinux label %q is asked for, and this kernel runs without SELinux", p.SelinuxLabel)
		}
		b.execLabel("set the SELinux label", p.SelinuxLabel, p.SelinuxLabel)
	}
	return nil
}

// execLabel writes through a proc file system that we made or opened ourselves: a container's own /proc could
// be anything (CVE-2019-16884).
func (b *builder) execLabel(step, value, object string) {
	dir, name := any(unix.AT_FDCWD), "/proc/self/attr/exec" // an exec does it while it still sees the host's
	if !b.exec {
		dir, name = b.procfs(), "self/attr/exec"
	}
	f := b.reg("file")
	b.Do(step, unix.SYS_OPENAT, dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0).On(object).To(f)
	b.Do(step, unix.SYS_WRITE, f, value, len(value)).On(object)
	b.CloseReg(f)
}

// keyring gives the program a session keyring of its own: the engine's may hold keys.
func (b *builder) keyring() {
	if b.in.NoNewKeyring {
		return
	}
	b.Do("make a session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, nil).
		May(unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.EACCES) // no keyrings in the kernel; the quota; a filter around us
}
