package create

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Variable gives NAME the value that lookup has; without one it stays NAME, which unsets the image's.
// NAME=value stays as it is.
func Variable(v string, lookup func(string) (string, bool)) (string, error) {
	name, _, ok := strings.Cut(v, "=")
	if name == "" {
		return "", fmt.Errorf("%q names no variable", v)
	}
	if !ok {
		if value, found := lookup(name); found {
			return name + "=" + value, nil
		}
	}
	return v, nil
}

// environment is what the files say, then what the flags say.
func (f *Flags) environment() ([]string, error) {
	env, err := readFiles("--env-file", f.envFile.values, f.LookupEnv)
	return append(env, f.env.values...), err
}

func (f *Flags) allLabels() (map[string]string, error) {
	labels, err := readFiles("--label-file", f.labelFile.values, nil)
	return toMap(append(labels, f.labels.values...)), err
}

func readFiles(flag string, paths []string, lookup func(string) (string, bool)) ([]string, error) {
	var out []string
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		lines, err := KeyValueLines(content, lookup)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", flag, path, err)
		}
		out = append(out, lines...)
	}
	return out, nil
}

// KeyValueLines reads the lines NAME=value and NAME of an env file as Docker does: comments begin
// with #, the value keeps its spaces and quotes, NAME alone takes its value from lookup and is left out
// where there is none.
func KeyValueLines(content []byte, lookup func(string) (string, bool)) ([]string, error) {
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))))
	lines.Buffer(nil, len(content)+1)
	for n := 1; lines.Scan(); n++ {
		if !utf8.Valid(lines.Bytes()) {
			return nil, fmt.Errorf("line %d is not UTF-8", n)
		}
		line := strings.TrimLeftFunc(lines.Text(), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, hasValue := strings.Cut(line, "=")
		if name == "" {
			return nil, fmt.Errorf("line %d, %q, has no name before the =", n, line)
		}
		if strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("line %d: the name %q has white space in it", n, name)
		}
		if !hasValue {
			if lookup == nil {
				continue
			}
			value, found := lookup(name)
			if !found {
				continue
			}
			line = name + "=" + value
		}
		out = append(out, line)
	}
	return out, lines.Err()
}
