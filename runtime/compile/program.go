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
	if strings.Contains(name, "/") {
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
	b.search(p, func(file string) *script.Step { return b.Do("execute", unix.SYS_EXECVE, file, argv, env) })
}

// findProgram fails as execute would, for a start that is to be refused before it waits.
func (b *builder) findProgram(p *specs.Process) {
	b.search(p, func(file string) *script.Step {
		return b.Do("execute", unix.SYS_FACCESSAT2, unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
	})
}

// search tries one file after another until a call succeeds. As execvp(3) does, it reports a file that may
// not be executed only where no other is found.
func (b *builder) search(p *specs.Process, call func(file string) *script.Step) {
	l, object := candidates(p.Args[0], p.Env), p.Args[0]
	if len(l) == 1 {
		call(l[0]).On(object).Exec()
		return
	}
	result, refused := b.reg("result"), b.reg("refused")
	found := b.Label()
	b.Set(refused, 0)
	for _, file := range l {
		failed, note, next := b.Label(), b.Label(), b.Label()
		call(file).On(object).Exec().To(result).May(unix.ENOENT, unix.ENOTDIR, unix.EACCES).Else(failed).Then(found)
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
	case len(p.Args) == 0 || p.Args[0] == "":
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
