package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-engine/berth/cli/create"
)

// entry is a command before it is built. setup gives it usage, flags and what it does; it runs only
// for the command that was asked for (and for all of them when completions or documents are made).
type entry struct {
	name    string
	short   string
	aliases []string
	common  bool // among the first that `berth --help` lists
	setup   func(*App, *cobra.Command)
	sub     []entry
}

// commands is the tree of commands. A grouped form (`berth container ls`) is the same entry under
// another name.
func commands() []entry {
	top := []entry{
		{name: "run", short: "Create and run a new container from an image", common: true, setup: setupRun},
		{name: "exec", short: "Execute a command in a running container", common: true, setup: setupExec},
		{name: "ps", short: "List containers", common: true, setup: setupPs},
		{name: "build", short: "Build an image from a Dockerfile", common: true, setup: setupBuild},
		{name: "pull", short: "Download an image from a registry", common: true, setup: setupPull},
		{name: "push", short: "Upload an image to a registry", common: true, setup: setupPush},
		{name: "images", short: "List images", common: true, setup: setupImages},
		{name: "login", short: "Authenticate to a registry", common: true, setup: setupLogin},
		{name: "logout", short: "Log out from a registry", common: true, setup: setupLogout},
		{name: "version", short: "Show the Berth version information", common: true, setup: setupVersion},
		{name: "info", short: "Display system-wide information", common: true, setup: setupInfo},

		{name: "attach", short: "Attach local standard input, output, and error streams to a running container", setup: setupAttach},
		{name: "commit", short: "Create a new image from a container's changes", setup: setupCommit},
		{name: "cp", short: "Copy files/folders between a container and the local filesystem", setup: setupCp},
		{name: "create", short: "Create a new container", setup: setupCreate},
		{name: "diff", short: "Inspect changes to files or directories on a container's filesystem", setup: setupDiff},
		{name: "export", short: "Export a container's filesystem as a tar archive", setup: setupExport},
		{name: "history", short: "Show the history of an image", setup: setupHistory},
		{name: "import", short: "Import the contents from a tarball to create a filesystem image", setup: setupImport},
		{name: "inspect", short: "Return low-level information on Berth objects", setup: setupInspect},
		{name: "kill", short: "Kill one or more running containers", setup: setupKill},
		{name: "load", short: "Load an image from a tar archive or STDIN", setup: setupLoad},
		{name: "logs", short: "Fetch the logs of a container", setup: setupLogs},
		{name: "pause", short: "Pause all processes within one or more containers", setup: setupPause},
		{name: "port", short: "List port mappings or a specific mapping for the container", setup: setupPort},
		{name: "rename", short: "Rename a container", setup: setupRename},
		{name: "restart", short: "Restart one or more containers", setup: setupRestart},
		{name: "rm", short: "Remove one or more containers", aliases: []string{"remove"}, setup: setupRm},
		{name: "rmi", short: "Remove one or more images", setup: setupRmi},
		{name: "save", short: "Save one or more images to a tar archive (streamed to STDOUT by default)", setup: setupSave},
		{name: "start", short: "Start one or more stopped containers", setup: setupStart},
		{name: "stop", short: "Stop one or more running containers", setup: setupStop},
		{name: "tag", short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", setup: setupTag},
		{name: "top", short: "Display the running processes of a container", setup: setupTop},
		{name: "unpause", short: "Unpause all processes within one or more containers", setup: setupUnpause},
		{name: "wait", short: "Block until one or more containers stop, then print their exit codes", setup: setupWait},
	}
	as := func(name, other string, aliases ...string) entry {
		i := slices.IndexFunc(top, func(e entry) bool { return e.name == other })
		e := top[i]
		e.name, e.aliases, e.common = name, aliases, false
		return e
	}
	return append(top,
		entry{name: "builder", short: "Manage builds", sub: []entry{
			as("build", "build"),
			{name: "prune", short: "Remove build cache", setup: setupBuilderPrune},
		}},
		entry{name: "container", short: "Manage containers", sub: []entry{
			as("attach", "attach"), as("commit", "commit"), as("cp", "cp"), as("create", "create"), as("diff", "diff"),
			as("exec", "exec"), as("export", "export"),
			{name: "inspect", short: "Display detailed information on one or more containers", setup: setupContainerInspect},
			as("kill", "kill"), as("logs", "logs"), as("ls", "ps", "ps", "list"), as("pause", "pause"), as("port", "port"),
			{name: "prune", short: "Remove all stopped containers", setup: setupContainerPrune},
			as("rename", "rename"), as("restart", "restart"), as("rm", "rm", "remove"), as("run", "run"), as("start", "start"),
			as("stop", "stop"), as("top", "top"), as("unpause", "unpause"), as("wait", "wait"),
		}},
		entry{name: "image", short: "Manage images", sub: []entry{
			as("build", "build"), as("history", "history"), as("import", "import"),
			{name: "inspect", short: "Display detailed information on one or more images", setup: setupImageInspect},
			as("load", "load"), as("ls", "images", "list"),
			{name: "prune", short: "Remove unused images", setup: setupImagePrune},
			as("pull", "pull"), as("push", "push"), as("rm", "rmi", "remove"), as("save", "save"), as("tag", "tag"),
		}},
		entry{name: "network", short: "Manage networks", sub: []entry{
			{name: "create", short: "Create a network", setup: setupNetworkCreate},
			{name: "inspect", short: "Display detailed information on one or more networks", setup: setupNetworkInspect},
			{name: "ls", short: "List networks", aliases: []string{"list"}, setup: setupNetworkLs},
			{name: "prune", short: "Remove all unused networks", setup: setupNetworkPrune},
			{name: "rm", short: "Remove one or more networks", aliases: []string{"remove"}, setup: setupNetworkRm},
		}},
		entry{name: "system", short: "Manage Berth", sub: []entry{
			{name: "df", short: "Show disk usage", setup: setupSystemDf},
			as("info", "info"),
			{name: "prune", short: "Remove unused data", setup: setupSystemPrune},
		}},
		entry{name: "volume", short: "Manage volumes", sub: []entry{
			{name: "create", short: "Create a volume", setup: setupVolumeCreate},
			{name: "inspect", short: "Display detailed information on one or more volumes", setup: setupVolumeInspect},
			{name: "ls", short: "List volumes", aliases: []string{"list"}, setup: setupVolumeLs},
			{name: "prune", short: "Remove unused local volumes", setup: setupVolumePrune},
			{name: "rm", short: "Remove one or more volumes", aliases: []string{"remove"}, setup: setupVolumeRm},
		}},
	)
}

// tree is a cobra tree, with what is still to be set up.
type tree struct {
	app    *App
	root   *cobra.Command
	setups map[*cobra.Command]func(*App, *cobra.Command)
	common map[*cobra.Command]bool
}

// newTree makes the root and, by name only, the commands of entries below it.
func newTree(a *App, entries []entry) *tree {
	t := &tree{
		app: a,
		root: &cobra.Command{
			Use: "berth [OPTIONS] COMMAND", Short: "A container engine", SilenceErrors: true, SilenceUsage: true,
			DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 1,
			Args: cobra.ArbitraryArgs, RunE: group,
		},
		setups: map[*cobra.Command]func(*App, *cobra.Command){},
		common: map[*cobra.Command]bool{},
	}
	t.root.SetOut(a.Out)
	t.root.SetErr(a.Err)
	t.root.SetFlagErrorFunc(flagError)
	t.root.SetHelpFunc(t.help)
	t.root.SetUsageFunc(func(c *cobra.Command) error { t.help(c, nil); return nil })
	t.root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", Hidden: true, DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return notACommand(c.Root(), strings.Join(args, " "))
			}
			return found.Help()
		},
	})
	t.add(t.root, entries)
	return t
}

// fullTree has every command, set up.
func fullTree(a *App) *tree {
	t := newTree(a, commands())
	t.root.CompletionOptions.HiddenDefaultCmd = true
	a.addGlobalFlags(t.root.Flags())
	addUnsupported(t.root)
	t.buildAll(t.root)
	return t
}

func (t *tree) add(parent *cobra.Command, entries []entry) {
	for _, e := range entries {
		c := &cobra.Command{Use: e.name, Short: e.short, Aliases: e.aliases, DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 1}
		if len(e.sub) > 0 {
			c.Args, c.RunE = cobra.ArbitraryArgs, group
			addHelpFlag(c)
			c.Use += " COMMAND"
			t.add(c, e.sub)
		} else {
			// Not a command that does nothing: cobra leaves those out of help and completions.
			c.RunE = func(*cobra.Command, []string) error { return errors.New("not set up") }
			t.setups[c] = e.setup
		}
		t.common[c] = e.common
		parent.AddCommand(c)
	}
}

// build gives the command its flags and its work.
func (t *tree) build(c *cobra.Command) {
	setup, ok := t.setups[c]
	if !ok {
		return
	}
	delete(t.setups, c)
	setup(t.app, c)
	addUnsupported(c)
	addHelpFlag(c)
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := refuseUnsupported(c); err != nil {
			return err
		}
		c.Flags().Visit(func(f *pflag.Flag) {
			if reason := create.Deprecation(f); reason != "" {
				t.app.warnf("--%s is deprecated: %s", f.Name, reason)
			}
		})
		return run(c, args)
	}
	c.Flags().SortFlags = true
}

func (t *tree) buildAll(c *cobra.Command) {
	t.build(c)
	for _, sub := range c.Commands() {
		t.buildAll(sub)
	}
}

// execute runs a command line. The usual one names a command: then only that one is made, because
// making all of them takes as long as everything else together.
func (a *App) execute(ctx context.Context, args []string) error {
	bare := &cobra.Command{Use: "berth [OPTIONS] COMMAND [ARG...]", DisableFlagsInUseLine: true}
	global := bare.Flags()
	a.addGlobalFlags(global)
	addUnsupported(bare)
	if err := global.Parse(args); err != nil {
		return flagError(bare, err)
	}
	if err := refuseUnsupported(bare); err != nil {
		return err
	}
	words := global.Args()
	switch {
	case global.Changed("version"):
		a.printf("Berth version %s\n", a.Version)
		return nil
	case global.Changed("help"):
		words = nil
	}
	t := a.treeFor(words)
	t.root.SetArgs(append([]string{}, words...))
	return t.root.ExecuteContext(ctx)
}

// treeFor makes the command that the words name; all of them where they name none.
func (a *App) treeFor(words []string) *tree {
	if len(words) == 0 {
		return fullTree(a)
	}
	all := commands()
	i := slices.IndexFunc(all, func(e entry) bool { return e.is(words[0]) })
	if i < 0 {
		return fullTree(a)
	}
	e := all[i]
	if len(e.sub) > 0 {
		if len(words) < 2 {
			return fullTree(a)
		}
		j := slices.IndexFunc(e.sub, func(s entry) bool { return s.is(words[1]) })
		if j < 0 {
			return fullTree(a)
		}
		e.sub = e.sub[j : j+1]
	}
	t := newTree(a, []entry{e})
	t.root.CompletionOptions.DisableDefaultCmd = true
	t.buildAll(t.root)
	return t
}

func (e entry) is(word string) bool { return e.name == word || slices.Contains(e.aliases, word) }

func (a *App) addGlobalFlags(f *pflag.FlagSet) {
	f.StringVar(&a.global.config, "config", "", "Location of client config files (default \"~/.docker\")")
	f.StringVarP(&a.global.context, "context", "c", "", "Name of the context to use to connect to the engine")
	f.BoolVarP(&a.global.debug, "debug", "D", false, "Enable debug mode")
	f.StringArrayVarP(&a.global.hosts, "host", "H", nil, "Engine socket to connect to (default \""+DefaultHost+"\")")
	f.StringVarP(&a.global.logLevel, "log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	f.BoolP("help", "h", false, "Print usage")
	f.Lookup("help").Hidden = true
	f.BoolP("version", "v", false, "Print version information and quit")
	f.SetInterspersed(false)
}

// addHelpFlag adds --help, with -h where the command does not use it otherwise.
func addHelpFlag(c *cobra.Command) {
	shorthand := "h"
	if c.Flags().ShorthandLookup("h") != nil {
		shorthand = ""
	}
	c.Flags().BoolP("help", shorthand, false, "Print usage")
	c.Flags().Lookup("help").Hidden = true
}

// group is what a command with subcommands does: help, or an error that names the word.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return notACommand(c, args[0])
}

func notACommand(c *cobra.Command, word string) error {
	path := c.CommandPath() + " " + word
	if isLater(strings.TrimPrefix(path, "berth ")) {
		return withCode(125, fmt.Errorf("'%s' is not supported yet", path))
	}
	near := c.SuggestionsFor(word)
	hint := ""
	if len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean '%s %s'?)", c.CommandPath(), near[0])
	}
	return fmt.Errorf("unknown command: %s%s\n\nRun '%s --help' for more information", path, hint, c.CommandPath())
}

func flagError(c *cobra.Command, err error) error {
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return withCode(125, usageError(c, err.Error()))
}

func usageError(c *cobra.Command, msg string) error {
	return fmt.Errorf("%s\n\nUsage:  %s\n\nRun '%s --help' for more information", msg, c.UseLine(), c.CommandPath())
}

// nArgs checks the number of arguments; most < 0 means any number.
func nArgs(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		plural := func(n int) string {
			if n == 1 {
				return "1 argument"
			}
			return fmt.Sprintf("%d arguments", n)
		}
		var want string
		switch {
		case most == 0:
			return usageError(c, fmt.Sprintf("'%s' accepts no arguments", c.CommandPath()))
		case least == most:
			want = plural(least)
		case len(args) < least:
			want = "at least " + plural(least)
		default:
			want = "at most " + plural(most)
		}
		return usageError(c, fmt.Sprintf("'%s' requires %s", c.CommandPath(), want))
	}
}
