package format

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

type row struct{ name, size string }

func (r *row) Columns() Header       { return Header{"Name": "NAME", "Size": "SIZE"} }
func (r *row) Name() string          { return r.name }
func (r *row) Size() string          { return r.size }
func (r *row) Label(k string) string { return "label of " + k }

func TestList(t *testing.T) {
	rows := []*row{{"a", "1<2"}, {"a longer one", "3"}}
	for in, want := range map[string]string{
		"":                           "NAME           SIZE\na              1<2\na longer one   3\n",
		"table":                      "NAME           SIZE\na              1<2\na longer one   3\n",
		`table {{.Size}}\t{{.Name}}`: "SIZE      NAME\n1<2       a\n3         a longer one\n",
		"table {{upper .Name}} {{.Label \"x.y-z\"}} {{truncate .Name 1}}": "NAME y z NAME\nA label of x.y-z a\nA LONGER ONE label of x.y-z a\n",
		"json":           "{\"Name\":\"a\",\"Size\":\"1\\u003c2\"}\n{\"Name\":\"a longer one\",\"Size\":\"3\"}\n",
		"{{json .Size}}": "\"1<2\"\n\"3\"\n",
		`{{.Name}}\n`:    "a\n\na longer one\n\n",
	} {
		var b bytes.Buffer
		if err := List(&b, in, `{{.Name}}\t{{.Size}}`, &row{}, rows); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v\nwant %q", in, b.String(), err, want)
		}
	}
	for _, in := range []string{"{{.Nothing}}", "{{", "{{.Name | nosuch}}", "table {{.Nothing}}"} {
		var b bytes.Buffer
		err := List(&b, in, "", &row{}, rows)
		if err == nil || !strings.HasPrefix(err.Error(), "template parsing error: ") || b.Len() > 0 {
			t.Errorf("%q: %v, %q", in, err, b.String())
		}
	}
}

func TestFunctions(t *testing.T) {
	for in, want := range map[string]string{
		`{{join (split . " ") "/"}}`: "hello/big-world", `{{title .}}`: "Hello Big-World", `{{pad . 1 2}}`: " hello big-world  ", `{{truncate . 3}}`: "hel",
		`{{truncate . 99}}`: "hello big-world", `{{upper .}}{{lower "X"}}`: "HELLO BIG-WORLDx", `{{json .}}`: `"hello big-world"`,
	} {
		var b bytes.Buffer
		if err := Execute(&b, in, "hello big-world"); err != nil || b.String() != want+"\n" {
			t.Errorf("%s: %q, %v", in, b.String(), err)
		}
	}
	var b bytes.Buffer
	if err := Execute(&b, `{{join . ","}}`, map[string]int{"b": 2, "a": 1}); err != nil || b.String() != "1,2\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := Execute(&b, `{{join . ","}}`, 5); err == nil {
		t.Error("a number was joined")
	}
}

func TestInspect(t *testing.T) {
	type typed struct {
		ID       string `json:"Id"`
		Optional *struct{ X int }
		N        int
	}
	raw := json.RawMessage(`{"Id":"i","Extra":{"k":"<v>"},"N":0,"F":1.5,"Deep":[{"n":3}]}`)
	var v typed
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"{{.ID}}": "i\n", "{{.Id}}": "i\n", "{{.Extra.k}}": "<v>\n", "{{if .Optional}}x{{else}}none{{end}}": "none\n", "{{if eq .N 0}}zero{{end}} {{.Extra.k}}": "zero <v>\n",
		"{{.F}} {{(index .Deep 0).n}}": "1.5 3\n", "{{json .Extra}}": "{\"k\":\"<v>\"}\n",
		"json": `[{"Id":"i","Extra":{"k":"<v>"},"N":0,"F":1.5,"Deep":[{"n":3}]}]` + "\n",
	} {
		var b bytes.Buffer
		if err := Inspect(&b, in, []Object{{Raw: raw, Typed: &v}}); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v", in, b.String(), err)
		}
	}
	var b bytes.Buffer
	if err := Inspect(&b, "{{.Nothing}}", []Object{{Raw: raw, Typed: &v}}); err == nil || !strings.Contains(err.Error(), "Nothing") || b.Len() > 0 {
		t.Errorf("%v, %q", err, b.String())
	}
	if err := Inspect(&b, "", []Object{{Raw: json.RawMessage(`{"a":[1,"<"]}`)}, {Raw: json.RawMessage(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	if want := "[\n    {\n        \"a\": [\n            1,\n            \"<\"\n        ]\n    },\n    {}\n]\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	if err := Inspect(&b, "", nil); err != nil || b.String() != "[]\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{"sha256:0123456789abcdef": "0123456789ab", "abc": "abc", "0123456789abcdef": "0123456789ab"} {
		if got := ShortID(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := Ellipsis("grüße aus", 6); got != "grüße…" {
		t.Error(got)
	}
	if got := Ellipsis("grüße", 5); got != "grüße" {
		t.Error(got)
	}
	if got := Labels(map[string]string{"b": "2", "a": "1"}); got != "a=1,b=2" {
		t.Error(got)
	}
}
