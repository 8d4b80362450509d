package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// dockerFlag is a line of testdata/docker-cli-flags.tsv: every flag of every command of Docker's
// command line 28.2.2.
type dockerFlag struct {
	command, name, shorthand, typ string
	hidden                        bool
}

func dockerFlags(t *testing.T) []dockerFlag {
	t.Helper()
	f, err := os.Open("testdata/docker-cli-flags.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes = '\t', true
	lines, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var flags []dockerFlag
	for _, l := range lines[1:] {
		flags = append(flags, dockerFlag{
			command: strings.TrimSpace(strings.TrimPrefix(l[0], "docker")), name: strings.TrimPrefix(l[1], "--"),
			shorthand: l[2], typ: l[3], hidden: l[5] == "true",
		})
	}
	if len(flags) < 1000 {
		t.Fatalf("only %d flags in the list", len(flags))
	}
	return flags
}

func testApp() (*App, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	return &App{Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Version: "test"}, &out, &errs
}

// find returns the command of a path, or nil.
func find(root *cobra.Command, path string) *cobra.Command {
	c := root
	for _, word := range strings.Fields(path) {
		i := slices.IndexFunc(c.Commands(), func(s *cobra.Command) bool { return s.Name() == word || s.HasAlias(word) })
		if i < 0 {
			return nil
		}
		c = c.Commands()[i]
	}
	return c
}

// TestEveryFlagOfDocker: a flag of Docker's on a command that is here is there with the same shorthand
// and takes a value where Docker's does; the ones that do nothing yet are refused by name with 125. A
// command that is not here is refused by name, too.
func TestEveryFlagOfDocker(t *testing.T) {
	a, _, _ := testApp()
	tree := fullTree(a)
	known := 0
	for _, f := range dockerFlags(t) {
		c := find(tree.root, f.command)
		if c == nil {
			word, rest, _ := strings.Cut(f.command, " ")
			if !isLater(word) && !isLater(word+" "+rest) {
				t.Errorf("docker %s: neither here nor in the list of what comes later", f.command)
			}
			continue
		}
		known++
		flag := c.Flags().Lookup(f.name)
		if flag == nil {
			t.Errorf("docker %s --%s: not here", f.command, f.name)
			continue
		}
		if flag.Shorthand != f.shorthand {
			t.Errorf("docker %s --%s: the shorthand is %q, not %q", f.command, f.name, flag.Shorthand, f.shorthand)
		}
		if isBool := flag.NoOptDefVal != ""; isBool != (f.typ == "bool") {
			t.Errorf("docker %s --%s is of the type %s: a value is wrong or missing here", f.command, f.name, f.typ)
		}
		if f.hidden && !flag.Hidden && flag.Deprecated == "" {
			t.Errorf("docker %s --%s: hidden there, shown here", f.command, f.name)
		}
	}
	if known < 500 {
		t.Errorf("only %d flags were compared", known)
	}
}

func TestNoFlagThatDockerLacks(t *testing.T) {
	docker := map[string]bool{}
	// These are its build plugin's, which the list has nothing of.
	for _, build := range []string{"build", "image build", "builder build"} {
		for _, flag := range []string{"allow", "build-context", "cache-to", "load", "output", "progress", "push", "secret", "ssh"} {
			docker[build+" "+flag] = true
		}
	}
	// The one that is ours, hidden: for the unit that stops containers at a shutdown.
	docker["stop shutdown"], docker["container stop shutdown"] = true, true
	for _, f := range dockerFlags(t) {
		docker[f.command+" "+f.name] = true
	}
	a, _, _ := testApp()
	tree := fullTree(a)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), "berth"))
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !docker[path+" "+f.Name] && f.Name != "help" && f.Name != "version" {
				t.Errorf("berth %s --%s: not a flag of Docker's", path, f.Name)
			}
		})
		for _, s := range c.Commands() {
			if s.Name() != "help" && s.Name() != "completion" {
				walk(s)
			}
		}
	}
	walk(tree.root)
}

// TestUnsupportedAreRefused runs each command with each flag of the table.
func TestUnsupportedAreRefused(t *testing.T) {
	for _, command := range []string{
		"build", "image build", "builder prune", "create", "container create", "run", "container run", "images", "image ls",
		"network create", "start", "container start", "volume create", "volume ls",
	} {
		a, _, _ := testApp()
		tree := fullTree(a)
		c := find(tree.root, command)
		table := unsupported(shortName(c))
		if len(table) == 0 {
			t.Errorf("%s: nothing in the table", command)
		}
		for _, f := range table {
			a, out, _ := testApp()
			args := append(strings.Fields(command), "--"+f.name)
			if !f.bool {
				args = append(args, "1")
			}
			args = append(args, "x")
			if command == "images" || command == "image ls" || strings.HasSuffix(command, "prune") || command == "volume ls" {
				args = args[:len(args)-1]
			}
			err := a.execute(context.Background(), args)
			var exit *exitError
			if !errors.As(err, &exit) || exit.code != 125 || !strings.Contains(err.Error(), "--"+f.name+" ") {
				t.Errorf("berth %s: %v", strings.Join(args, " "), err)
			}
			if out.Len() > 0 {
				t.Errorf("berth %s wrote %q", strings.Join(args, " "), out)
			}
		}
	}
}
