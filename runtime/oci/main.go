package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/berth-engine/berth/runtime/sealed"
)

// program is one call of the command line.
type program struct {
	ctx            context.Context
	release        string
	stdin          *os.File
	stdout, stderr *os.File

	root      string
	log       string
	logFormat string
	debug     bool
	systemd   bool
	rootless  string
}

// defaultRoot is where containers' directories are.
const defaultRoot = "/run/berth-runtime"

// command is one of the command line's.
type command struct {
	name, args, help string
	run              func(p *program, args []string) (status int, err error)
}

// Main runs the command line (args without the program's name) and returns its exit status: 0, that of the
// process for run and exec, 127 or 126 where its program is not there or can't be executed, else 1.
func Main(ctx context.Context, version string, args []string, stdin, stdout, stderr *os.File) int {
	p := &program{ctx: ctx, release: version, stdin: stdin, stdout: stdout, stderr: stderr, root: defaultRoot, logFormat: "text"}
	status, err := p.main(args)
	if err == nil {
		return status
	}
	p.report(err)
	var f *script.Failure
	if errors.As(err, &f) && f.Exec {
		return f.Status()
	}
	return 1
}

func (p *program) main(args []string) (int, error) {
	var help, version bool
	rest, err := parse(args, []option{
		text(&p.root, "directory of the containers' state", "--root"),
		text(&p.log, "file for errors", "--log"),
		text(&p.logFormat, "text or json", "--log-format"),
		text(new(string), "taken and not used", "--log-level", "--criu"),
		toggle(&p.debug, "say more", "--debug"),
		toggle(&p.systemd, "refused: groups are made directly", "--systemd-cgroup"),
		text(&p.rootless, "taken and not used", "--rootless"),
		text(new(string), "taken and not used", "--cgroup-manager"),
		toggle(&help, "", "--help", "-h"),
		toggle(&version, "", "--version", "-v"),
	})
	switch {
	case err != nil:
		return 1, err
	case version:
		return 0, p.printVersion()
	case help || len(rest) == 0 || rest[0] == "help":
		return 0, p.usage()
	case p.logFormat != "text" && p.logFormat != "json":
		return 1, fmt.Errorf("log format %q: it must be text or json", p.logFormat)
	}
	if enters[rest[0]] {
		if err := sealed.Self("berth-runtime"); err != nil {
			return 1, err
		}
	}
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == rest[0] })
	if i < 0 {
		return 1, fmt.Errorf("unknown command %q; there are %s", rest[0], strings.Join(names(), ", "))
	}
	return commands()[i].run(p, rest[1:])
}

// enters are the commands whose child goes into a container as a copy of this program.
var enters = map[string]bool{"create": true, "run": true, "exec": true}

func commands() []command {
	return []command{
		{"create", "[flags] ID", "make a container that waits for start", (*program).create},
		{"start", "ID", "let a created container run", (*program).start},
		{"run", "[flags] ID", "create and start a container, and wait for it", (*program).run},
		{"state", "ID", "print a container's state as JSON", (*program).state},
		{"kill", "[--all] ID [SIGNAL]", "send a signal (default TERM)", (*program).kill},
		{"delete", "[--force] ID", "remove a stopped container", (*program).remove},
		{"exec", "[flags] ID COMMAND [ARG…]", "start another process in a container", (*program).exec},
		{"list", "[-q] [--format table|json]", "list containers", (*program).list},
		{"ps", "[--format table|json] ID", "list a container's processes", (*program).ps},
		{"pause", "ID", "stop all processes where they stand", (*program).pause},
		{"resume", "ID", "let them go on", (*program).resume},
		{"update", "[--resources FILE] ID", "change limits", (*program).update},
		{"events", "[--stats] ID", "print the counters as JSON", (*program).events},
		{"features", "", "print what this runtime can do as JSON", (*program).features},
		{"spec", "", "write a configuration to start from", (*program).spec},
	}
}

func names() (l []string) {
	for _, c := range commands() {
		l = append(l, c.name)
	}
	return l
}

func (p *program) usage() error {
	var b strings.Builder
	b.WriteString("Usage: berth-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-40s %s\n", c.name+" "+c.args, c.help)
	}
	b.WriteString("\nExample: berth-runtime run --bundle /var/tmp/bundle box\n")
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// one is the single argument of a command.
func one(args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("one container is to be named, %d words are given", len(args))
	}
	return args[0], nil
}
