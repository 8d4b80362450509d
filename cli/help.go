package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/terminal"
)

// help prints a command's help as Docker prints it.
func (t *tree) help(c *cobra.Command, _ []string) {
	t.build(c)
	w := t.app.Out
	subs := slices.DeleteFunc(slices.Clone(c.Commands()), func(s *cobra.Command) bool { return s.Hidden })
	if len(subs) > 0 {
		options := ""
		if c.HasAvailableLocalFlags() && !c.HasParent() {
			options = " [OPTIONS]"
		}
		fmt.Fprintf(w, "Usage:  %s%s COMMAND\n\n%s\n", c.CommandPath(), options, c.Short)
	} else {
		fmt.Fprintf(w, "Usage:  %s\n\n%s\n", c.UseLine(), c.Short)
	}
	if names := t.otherNames(c); len(names) > 1 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(names, ", "))
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n  %s\n", strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
	width := 80
	if f := t.app.outFile(); terminal.Is(f) {
		if size, err := terminal.SizeOf(f); err == nil && size.Width > 20 {
			width = int(size.Width)
		}
	}
	flags := strings.TrimRight(c.LocalFlags().FlagUsagesWrapped(width-1), "\n")
	if c.HasParent() && len(subs) == 0 && flags != "" {
		fmt.Fprintf(w, "\nOptions:\n%s\n", flags)
	}
	t.list(w, "Common Commands", subs, func(s *cobra.Command) bool { return t.common[s] })
	t.list(w, "Management Commands", subs, func(s *cobra.Command) bool { return s.HasSubCommands() })
	t.list(w, "Commands", subs, func(s *cobra.Command) bool { return !t.common[s] && !s.HasSubCommands() })
	if !c.HasParent() && flags != "" {
		fmt.Fprintf(w, "\nGlobal Options:\n%s\n", flags)
	}
	if len(subs) > 0 {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", c.CommandPath())
	}
}

func (t *tree) list(w io.Writer, title string, subs []*cobra.Command, is func(*cobra.Command) bool) {
	first := true
	for _, s := range subs {
		if !is(s) {
			continue
		}
		if first {
			fmt.Fprintf(w, "\n%s:\n", title)
			first = false
		}
		fmt.Fprintf(w, "  %-11s %s\n", s.Name(), s.Short)
	}
}

// otherNames are all ways to write a command: its grouped form, its short one, their aliases.
func (t *tree) otherNames(c *cobra.Command) []string {
	if c.HasSubCommands() || !c.HasParent() {
		return nil
	}
	own := append([]string{c.CommandPath()}, prefixed(c.Parent().CommandPath()+" ", c.Aliases)...)
	for _, e := range commands() {
		for _, s := range e.sub {
			grouped, short := "berth "+e.name+" "+s.name, topName(s)
			if short == "" {
				continue
			}
			if c.CommandPath() == grouped {
				return append(own, "berth "+short)
			}
			if c.CommandPath() == "berth "+short {
				names := append([]string{grouped}, prefixed("berth "+e.name+" ", s.aliases)...)
				return append(names, own...)
			}
		}
	}
	return own
}

// topName is the short form of a grouped command.
func topName(s entry) string {
	for _, e := range commands() {
		if len(e.sub) == 0 && e.short == s.short {
			return e.name
		}
	}
	return ""
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}
