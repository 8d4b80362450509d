package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-engine/berth/cli/create"
)

// stringList is a flag that may be given more than once. Unlike pflag's it keeps commas.
type stringList []string

func (l *stringList) Set(v string) error { *l = append(*l, v); return nil }
func (l *stringList) Type() string       { return "list" }
func (l *stringList) String() string {
	if len(*l) == 0 {
		return ""
	}
	return fmt.Sprint([]string(*l))
}

// pairs is a flag of name=value.
type pairs map[string]string

func (p pairs) Set(v string) error {
	name, value, _ := strings.Cut(v, "=")
	if name == "" {
		return fmt.Errorf("%q is not name=value", v)
	}
	p[name] = value
	return nil
}
func (p pairs) Type() string { return "map" }
func (p pairs) String() string {
	if len(p) == 0 {
		return ""
	}
	return fmt.Sprint(map[string]string(p))
}

// filters are --filter name=value, as the API takes them.
type filters map[string]map[string]bool

func (f filters) Set(v string) error {
	if v == "" {
		return nil
	}
	name, value, ok := strings.Cut(v, "=")
	if !ok {
		return errors.New("a filter is name=value")
	}
	f.add(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value))
	return nil
}

func (f filters) add(name, value string) {
	if f[name] == nil {
		f[name] = map[string]bool{}
	}
	f[name][value] = true
}

func (f filters) Type() string   { return "filter" }
func (f filters) String() string { return "" }

// query is the parameter filters, or nothing when there are none.
func (f filters) query() (url.Values, error) {
	q := url.Values{}
	if len(f) == 0 {
		return q, nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	q.Set("filters", string(b))
	return q, nil
}

func filterFlag(fs *pflag.FlagSet, f filters, usage string) {
	fs.VarP(f, "filter", "f", usage)
}

const filterUsage = "Filter output based on conditions provided"

const formatUsage = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template`

const inspectFormatUsage = `Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template`

// contentTrust is a flag of Docker's that has meant nothing since content trust was taken out.
func contentTrust(fs *pflag.FlagSet) {
	fs.Bool("disable-content-trust", true, "Skip image verification (deprecated)")
	create.Deprecate(fs, "disable-content-trust", "content trust was removed, and it has no effect")
}

func sorted(s []string) []string { slices.Sort(s); return s }
