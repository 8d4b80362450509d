package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/template"
)

// Object is one inspected thing: as JSON, and as the type that templates see first (nil: none), so
// that optional parts are empty there instead of missing.
type Object struct {
	Raw   json.RawMessage
	Typed any
}

// Inspect prints objects as `docker inspect` does: without a format a JSON list, with "json" one line
// of JSON, else each through the template. Where the typed form fails the JSON itself is tried.
func Inspect(w io.Writer, text string, objects []Object) error {
	switch text {
	case "":
		return indented(w, objects)
	case "json":
		raws := make([]json.RawMessage, len(objects))
		for i, o := range objects {
			raws[i] = o.Raw
		}
		line, err := toJSON(raws)
		if err == nil {
			_, err = fmt.Fprintln(w, line)
		}
		return err
	}
	t, err := Parse(text)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := inspectOne(w, t, o); err != nil {
			return err
		}
	}
	return nil
}

func indented(w io.Writer, objects []Object) error {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, o := range objects {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(o.Raw)
	}
	b.WriteByte(']')
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "    "); err != nil {
		return fmt.Errorf("the engine's answer is not JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(w)
	return err
}

func inspectOne(w io.Writer, t *template.Template, o Object) error {
	typedErr := errors.New("no typed form")
	if o.Typed != nil {
		var b bytes.Buffer
		if typedErr = t.Execute(&b, o.Typed); typedErr == nil {
			b.WriteByte('\n')
			_, err := b.WriteTo(w)
			return err
		}
	}
	generic, err := decode(o.Raw)
	if err != nil {
		return err
	}
	strict, err := t.Clone()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := strict.Option("missingkey=error").Execute(&b, generic); err != nil {
		if o.Typed != nil {
			err = typedErr
		}
		return templateError(err)
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(w)
	return err
}

// decode makes maps and lists of JSON, whole numbers as int64, so that {{eq .X 0}} works.
func decode(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the engine's answer is not JSON: %w", err)
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	}
	return v
}
