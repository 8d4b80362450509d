package oci

import (
	"fmt"
	"slices"
	"strings"
)

// option is a flag of a command: a value, a list, or a switch.
type option struct {
	names []string // "-b", "--bundle"
	help  string
	value *string
	list  *[]string
	on    *bool
	as    func(value string) error
}

func text(to *string, help string, names ...string) option {
	return option{names: names, help: help, value: to}
}

func many(to *[]string, help string, names ...string) option {
	return option{names: names, help: help, list: to}
}

func toggle(to *bool, help string, names ...string) option {
	return option{names: names, help: help, on: to}
}

func parsed(as func(string) error, help string, names ...string) option {
	return option{names: names, help: help, as: as}
}

// parse reads the flags in front of the first word that is none, and returns that word and all behind it. Flags may
// be written -b V, --bundle V and --bundle=V.
func parse(args []string, options []option) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			return args[1:], nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			return args, nil
		}
		args = args[1:]
		name, value, given := strings.Cut(arg, "=")
		o, ok := find(options, name)
		if !ok {
			return nil, fmt.Errorf("unknown flag %s", name)
		}
		if o.on != nil {
			switch value {
			case "", "true":
				*o.on = true
			case "false":
				*o.on = false
			default:
				return nil, fmt.Errorf("flag %s is a switch: it takes no %q", name, value)
			}
			continue
		}
		if !given {
			if len(args) == 0 {
				return nil, fmt.Errorf("flag %s needs a value", name)
			}
			value, args = args[0], args[1:]
		}
		if err := o.set(value); err != nil {
			return nil, fmt.Errorf("flag %s: %w", name, err)
		}
	}
	return nil, nil
}

// find also takes -name for --name, as the flag package of Go that other runtimes use does.
func find(options []option, name string) (option, bool) {
	for _, o := range options {
		if slices.Contains(o.names, name) || slices.Contains(o.names, "-"+name) {
			return o, true
		}
	}
	return option{}, false
}

func (o option) set(value string) error {
	switch {
	case o.value != nil:
		*o.value = value
	case o.list != nil:
		*o.list = append(*o.list, value)
	default:
		return o.as(value)
	}
	return nil
}
