package script

import (
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func errnoName(e uint8) string {
	if n := unix.ErrnoName(syscall.Errno(e)); n != "" {
		return n
	}
	return "errno " + strconv.Itoa(int(e))
}

// calls names the system calls that scripts use. All of them exist on every 64-bit architecture under the
// same name: the old calls that take no directory are not used.
var calls = sync.OnceValue(func() map[uintptr]string {
	return map[uintptr]string{
		unix.SYS_BPF: "bpf", unix.SYS_CAPSET: "capset", unix.SYS_CHDIR: "chdir", unix.SYS_CLONE: "clone", unix.SYS_CLONE3: "clone3",
		unix.SYS_CLOSE: "close", unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_DUP3: "dup3", unix.SYS_EXECVE: "execve",
		unix.SYS_EXIT_GROUP: "exit_group", unix.SYS_FACCESSAT2: "faccessat2", unix.SYS_FCHDIR: "fchdir", unix.SYS_FCHMOD: "fchmod",
		unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_FCNTL: "fcntl",
		unix.SYS_FSCONFIG: "fsconfig", unix.SYS_FSMOUNT: "fsmount", unix.SYS_FSOPEN: "fsopen", unix.SYS_FSTATFS: "fstatfs",
		unix.SYS_GETCWD: "getcwd", unix.SYS_GETPID: "getpid", unix.SYS_IOCTL: "ioctl", unix.SYS_IOPRIO_SET: "ioprio_set",
		unix.SYS_KEYCTL: "keyctl", unix.SYS_KILL: "kill", unix.SYS_LSEEK: "lseek", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_MKNODAT: "mknodat",
		unix.SYS_MOUNT: "mount", unix.SYS_MOUNT_SETATTR: "mount_setattr", unix.SYS_MOVE_MOUNT: "move_mount",
		unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_OPEN_TREE: "open_tree", unix.SYS_PERSONALITY: "personality",
		unix.SYS_PIPE2: "pipe2", unix.SYS_PIVOT_ROOT: "pivot_root", unix.SYS_PRCTL: "prctl", unix.SYS_PPOLL: "ppoll", unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_RECVFROM: "recvfrom",
		unix.SYS_READ: "read", unix.SYS_RECVMSG: "recvmsg", unix.SYS_RT_SIGACTION: "rt_sigaction",
		unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask", unix.SYS_RT_SIGTIMEDWAIT: "rt_sigtimedwait", unix.SYS_SCHED_SETAFFINITY: "sched_setaffinity",
		unix.SYS_SCHED_SETATTR: "sched_setattr", unix.SYS_SECCOMP: "seccomp", unix.SYS_SENDMSG: "sendmsg", unix.SYS_SENDTO: "sendto",
		unix.SYS_SETDOMAINNAME: "setdomainname", unix.SYS_SETGROUPS: "setgroups", unix.SYS_SETHOSTNAME: "sethostname", unix.SYS_SETNS: "setns",
		unix.SYS_SETPGID: "setpgid", unix.SYS_SETPRIORITY: "setpriority", unix.SYS_SETRESGID: "setresgid", unix.SYS_SETRESUID: "setresuid",
		unix.SYS_SETSID: "setsid", unix.SYS_STATX: "statx", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_UMASK: "umask",
		unix.SYS_UMOUNT2: "umount2", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_UNSHARE: "unshare", unix.SYS_WAIT4: "wait4",
		unix.SYS_WRITE: "write", unix.SYS_SET_MEMPOLICY: "set_mempolicy",
	}
})

func callName(nr uintptr) string {
	if n, ok := calls()[nr]; ok {
		return n
	}
	return "system call " + strconv.Itoa(int(nr))
}

type flag struct {
	bit  uint64
	name string
}

var (
	cloneFlags = []flag{{unix.CLONE_NEWNS, "NEWNS"}, {unix.CLONE_NEWCGROUP, "NEWCGROUP"}, {unix.CLONE_NEWUTS, "NEWUTS"},
		{unix.CLONE_NEWIPC, "NEWIPC"}, {unix.CLONE_NEWUSER, "NEWUSER"}, {unix.CLONE_NEWPID, "NEWPID"}, {unix.CLONE_NEWNET, "NEWNET"},
		{unix.CLONE_PARENT, "PARENT"}, {unix.CLONE_NEWTIME, "NEWTIME"}, {uint64(unix.SIGCHLD), "SIGCHLD"}}
	openFlags = []flag{{unix.O_WRONLY, "WRONLY"}, {unix.O_RDWR, "RDWR"}, {unix.O_CREAT, "CREAT"}, {unix.O_EXCL, "EXCL"}, {unix.O_NOCTTY, "NOCTTY"},
		{unix.O_NONBLOCK, "NONBLOCK"}, {unix.O_DIRECTORY, "DIRECTORY"}, {unix.O_NOFOLLOW, "NOFOLLOW"}, {unix.O_PATH, "PATH"}, {unix.O_CLOEXEC, "CLOEXEC"}}
	treeFlags = []flag{{unix.OPEN_TREE_CLONE, "CLONE"}, {unix.OPEN_TREE_CLOEXEC, "CLOEXEC"}, {unix.AT_RECURSIVE, "RECURSIVE"},
		{unix.AT_EMPTY_PATH, "EMPTY_PATH"}, {unix.AT_SYMLINK_NOFOLLOW, "NOFOLLOW"}}
	moveFlags = []flag{{unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"}, {unix.MOVE_MOUNT_T_EMPTY_PATH, "T_EMPTY_PATH"}}
	attrFlags = []flag{{unix.MOUNT_ATTR_RDONLY, "ro"}, {unix.MOUNT_ATTR_NOSUID, "nosuid"}, {unix.MOUNT_ATTR_NODEV, "nodev"},
		{unix.MOUNT_ATTR_NOEXEC, "noexec"}, {unix.MOUNT_ATTR_NOATIME, "noatime"}, {unix.MOUNT_ATTR_STRICTATIME, "strictatime"},
		{unix.MOUNT_ATTR_NODIRATIME, "nodiratime"}, {unix.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"}}
	mountFlags = []flag{{unix.MS_RDONLY, "ro"}, {unix.MS_REMOUNT, "remount"}, {unix.MS_BIND, "bind"}, {unix.MS_REC, "rec"},
		{unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"}, {unix.MS_SHARED, "shared"}, {unix.MS_UNBINDABLE, "unbindable"}}
	umountFlags = []flag{{unix.MNT_DETACH, "DETACH"}}
	rangeFlags  = []flag{{unix.CLOSE_RANGE_CLOEXEC, "CLOEXEC"}}
)

// flagArgs says which argument of which call is a set of flags.
var flagArgs = sync.OnceValue(func() map[uintptr]map[int][]flag {
	return map[uintptr]map[int][]flag{
		unix.SYS_CLONE: {0: cloneFlags}, unix.SYS_UNSHARE: {0: cloneFlags}, unix.SYS_SETNS: {1: cloneFlags},
		unix.SYS_OPENAT: {2: openFlags}, unix.SYS_OPEN_TREE: {2: treeFlags}, unix.SYS_MOVE_MOUNT: {4: moveFlags},
		unix.SYS_FSMOUNT: {2: attrFlags}, unix.SYS_MOUNT: {3: mountFlags}, unix.SYS_UMOUNT2: {1: umountFlags},
		unix.SYS_CLOSE_RANGE: {2: rangeFlags}, unix.SYS_MOUNT_SETATTR: {2: treeFlags}, unix.SYS_FCHOWNAT: {4: treeFlags},
	}
})

var firstArgs = sync.OnceValue(func() map[uintptr]map[uint64]string {
	return map[uintptr]map[uint64]string{
		unix.SYS_PRCTL: {unix.PR_SET_PDEATHSIG: "SET_PDEATHSIG", unix.PR_SET_DUMPABLE: "SET_DUMPABLE", unix.PR_SET_KEEPCAPS: "SET_KEEPCAPS",
			unix.PR_CAPBSET_DROP: "CAPBSET_DROP", unix.PR_SET_NO_NEW_PRIVS: "SET_NO_NEW_PRIVS", unix.PR_CAP_AMBIENT: "CAP_AMBIENT",
			unix.PR_SET_NAME: "SET_NAME", unix.PR_SET_CHILD_SUBREAPER: "SET_CHILD_SUBREAPER"},
	}
})

var fsconfigCommands = [...]string{0: "FLAG", 1: "STRING", 2: "BINARY", 3: "PATH", 4: "PATH_EMPTY", 5: "FD", 6: "CREATE", 7: "RECONFIGURE"}

// decode prints an argument by what the call means by it. ok is false where the plain number is as good.
func decode(nr uintptr, k int, v uintptr) (string, bool) {
	value := uint64(v)
	if k == 0 || nr == unix.SYS_MOVE_MOUNT && k == 2 {
		if int64(value) == unix.AT_FDCWD {
			return "CWD", true
		}
	}
	if table, ok := flagArgs()[nr][k]; ok {
		return flagText(value, table), true
	}
	if k == 0 {
		if t, ok := firstArgs()[nr][value]; ok {
			return t, true
		}
	}
	switch {
	case nr == unix.SYS_FSCONFIG && k == 1:
		if value < uint64(len(fsconfigCommands)) {
			return fsconfigCommands[value], true
		}
	case (nr == unix.SYS_MKDIRAT || nr == unix.SYS_FCHMOD) && k > 0, (nr == unix.SYS_MKNODAT || nr == unix.SYS_FCHMODAT) && k == 2,
		nr == unix.SYS_UMASK, nr == unix.SYS_OPENAT && k == 3:
		return "0" + strconv.FormatUint(value, 8), true
	}
	return "", false
}

func flagText(v uint64, table []flag) string {
	var l []string
	for _, f := range table {
		if v&f.bit == f.bit {
			l = append(l, f.name)
			v &^= f.bit
		}
	}
	if v != 0 || len(l) == 0 {
		l = append(l, decimal(v))
	}
	return strings.Join(l, "|")
}
