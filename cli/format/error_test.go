package format

import (
	"io"
	"regexp"
	"testing"
)

type leaf struct{ Name string }

type tree struct {
	Leaf  *leaf
	Names []string
	Count int
}

func TestTemplateErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Nothing}}":     "template parsing error: at <.Nothing>: can't evaluate field Nothing",
		"{{.Leaf.Name}}":   "template parsing error: at <.Leaf.Name>: can't evaluate field Name: there is nothing that has fields",
		"{{.Leaf":          "template parsing error: unclosed action",
		"{{nothing .}}":    `template parsing error: function "nothing" not defined`,
		"{{upper .Count}}": "template parsing error: at <.Count>: the value is no string",
	} {
		err := Execute(io.Discard, text, tree{Count: 1})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	types := regexp.MustCompile(`format\.|\*|map\[|interface`)
	for _, text := range []string{`{{index .Names "x"}}`, "{{index .Leaf 1}}", "{{range .Leaf}}{{end}}", "{{join .Count \",\"}}", "{{.Names.X}}", "{{len .Count}}"} {
		if err := Execute(io.Discard, text, tree{}); err == nil || types.MatchString(err.Error()) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
