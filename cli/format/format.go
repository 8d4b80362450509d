package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// Row is a line of a list: a type with a method for each column, which templates call by its name.
type Row interface {
	// Columns maps the names of the methods to the headings of their columns.
	Columns() Header
}

// Header is the headings of a table by the names of the columns.
type Header map[string]string

// Label is the heading of {{.Label "a.b-c"}}: "b c".
func (Header) Label(name string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(name[strings.LastIndexByte(name, '.')+1:])
}

// List prints rows as format says. table is the template of the table that is printed without a
// format; none gives the columns where there are no rows.
func List[R Row](w io.Writer, format, table string, none R, rows []R) error {
	if format == "" || format == "table" {
		format = "table " + table
	}
	text, isTable := strings.CutPrefix(format, "table")
	if format == "json" {
		text = "{{json .}}"
	}
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(text, " "))
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, row := range rows {
		if err := tmpl.Execute(&b, row); err != nil {
			return templateError(err)
		}
		b.WriteByte('\n')
	}
	if !isTable {
		_, err = b.WriteTo(w)
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if head, err := tmpl.Clone(); err == nil {
		if err := head.Funcs(headerFunctions()).Execute(tw, none.Columns()); err != nil {
			return templateError(err)
		}
	}
	fmt.Fprintln(tw)
	if _, err := b.WriteTo(tw); err != nil {
		return err
	}
	return tw.Flush()
}

// Uses tells whether a format asks for a column that costs the engine work.
func Uses(format, column string) bool { return strings.Contains(format, "."+column) }

// Parse parses a template with Docker's functions.
func Parse(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	return t, nil
}

// Execute prints v with a template ("json" is short for {{json .}}) and ends the line.
func Execute(w io.Writer, text string, v any) error {
	if text == "json" {
		text = "{{json .}}"
	}
	t, err := Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return templateError(err)
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(w)
	return err
}

// functions are those that Docker's templates have.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":     toJSON,
		"split":    strings.Split,
		"join":     join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
	}
}

// headerFunctions leave a heading as it is.
func headerFunctions() template.FuncMap {
	return template.FuncMap{
		"json":     func(v string) string { return v },
		"split":    func(v, _ string) string { return v },
		"join":     func(v, _ string) string { return v },
		"title":    func(v string) string { return v },
		"lower":    func(v string) string { return v },
		"upper":    func(v string) string { return v },
		"truncate": func(v string, _ int) string { return v },
	}
}

// toJSON marshals without the escapes for HTML; a Row becomes an object of its columns, with them, as
// Docker has it.
func toJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	row, isRow := v.(Row)
	if isRow {
		v = columnsOf(row)
	}
	enc.SetEscapeHTML(isRow)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

func columnsOf(row Row) map[string]any {
	v := reflect.ValueOf(row)
	out := map[string]any{}
	for name := range row.Columns() {
		out[name] = v.MethodByName(name).Call(nil)[0].Interface()
	}
	return out
}

func join(elems any, sep string) (string, error) {
	if elems == nil {
		return "", nil
	}
	var parts []string
	switch v := reflect.ValueOf(elems); v.Kind() {
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i).Interface()))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			parts = append(parts, fmt.Sprint(v.MapIndex(k).Interface()))
		}
		slices.Sort(parts)
	default:
		return "", fmt.Errorf("expected slice, got %T", elems)
	}
	return strings.Join(parts, sep), nil
}

// title makes the first letter of each word a capital one (ASCII, as Docker uses it).
func title(s string) string {
	b := []byte(s)
	for i := range b {
		if (i == 0 || b[i-1] == ' ' || b[i-1] == '-') && 'a' <= b[i] && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

func pad(s string, prefix, suffix int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", prefix) + s + strings.Repeat(" ", suffix)
}

func truncate(s string, n int) string {
	if n < 0 || len(s) < n {
		return s
	}
	return s[:n]
}
