package compile

import (
	"fmt"
	"path"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultPath is searched where the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the files that may be meant by a command's name, in the order in which they are tried.
func candidates(name string, env []string) []string {
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	search := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var l []string
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		file := path.Join(dir, name)
		if !strings.HasPrefix(dir, "/") {
			file = "./" + file
		}
		l = append(l, file)
	}
	return l
}

// execute ends the script. The command is looked for inside of the container, with the program's own
// credentials: there is nothing to look at beforehand that could change meanwhile.
func (b *builder) execute(p *specs.Process) {
	argv, env := b.Strings(p.Args), b.Strings(p.Env)
	b.search(p, func(file string, _ *script.Label) *script.Step {
		return b.Do("execute", unix.SYS_EXECVE, file, argv, env)
	})
}

// findProgram fails as execute would, for a start that is to be refused before it waits: what is there is a regular
// file that may be executed.
func (b *builder) findProgram(p *specs.Process) {
	mode, stat := b.reg("mode"), b.Room("file", 256)
	b.search(p, func(file string, refused *script.Label) *script.Step {
		mine, notFound := b.reg("result"), b.Label()
		b.Do("look at the program", unix.SYS_STATX, unix.AT_FDCWD, file, 0, unix.STATX_TYPE, stat).On(p.Args[0]).To(mine).
			May(unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG).Else(notFound)
		b.Load(mode, stat, 28, 2) // stx_mode
		b.Expect("a regular file", mode, unix.S_IFMT, script.Equal, unix.S_IFREG, unix.EACCES).On(p.Args[0]).Exec().Else(refused)
		b.Mark(notFound)
		return b.Do("execute", unix.SYS_FACCESSAT2, unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
	})
}

// search tries one file after another until a call succeeds. As execvp(3) does, it reports a file that may
// not be executed only where no other is found. The call may go to the label that it is given for such a file.
func (b *builder) search(p *specs.Process, call func(file string, refused *script.Label) *script.Step) {
	l, object := candidates(p.Args[0], p.Env), p.Args[0]
	result, refused := b.reg("result"), b.reg("refused")
	found := b.Label()
	if len(l) == 1 {
		note := b.Label()
		call(l[0], note).On(object).Exec().Then(found)
		b.Mark(note)
		b.Fail("execute", unix.EACCES).On(object).Exec()
		b.Mark(found)
		return
	}
	b.Set(refused, 0)
	for _, file := range l {
		failed, note, next := b.Label(), b.Label(), b.Label()
		call(file, note).On(object).Exec().To(result).May(unix.ENOENT, unix.ENOTDIR, unix.EACCES).Else(failed).Then(found)
		b.Mark(failed)
		eacces := int64(unix.EACCES)
		b.Expect("not refused", result, script.All, script.NotEqual, uint64(-eacces), 0).Else(note).Then(next)
		b.Mark(note)
		b.Set(refused, 1)
		b.Mark(next)
	}
	b.Expect("execute", refused, script.All, script.Equal, 0, unix.EACCES).On(object).Exec()
	b.Fail("execute", unix.ENOENT).On(object).Exec()
	b.Mark(found)
}

func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return fmt.Errorf("the configuration has no process")
	case len(p.Args) == 0:
		return fmt.Errorf("the process has no command")
	case p.Cwd == "":
		return fmt.Errorf("the process has no working directory")
	case !strings.HasPrefix(p.Cwd, "/"):
		return fmt.Errorf("working directory %q: it must be absolute", p.Cwd)
	}
	for _, s := range append(append([]string{p.Cwd}, p.Args...), p.Env...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q contains a NUL byte, which no program can be given", s)
		}
	}
	return nil
}
