package jsonlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func clock() func() time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time { t = t.Add(time.Second); return t }
}

func at(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, 5+s, 0, time.UTC) }

func newWriter(t *testing.T, path string, opts WriteOptions) *Writer {
	t.Helper()
	w, err := NewWriter(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if n, err := io.WriteString(w, s); n != len(s) || err != nil {
		t.Fatalf("%d bytes of %d, %v", n, len(s), err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var all = ReadOptions{Stdout: true, Stderr: true, Tail: -1}

func reader(t *testing.T, path string, opts ReadOptions) *Reader {
	t.Helper()
	r, err := NewReader(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// read returns all lines of the log, joined.
func read(t *testing.T, path string, opts ReadOptions) string {
	t.Helper()
	return drain(t, reader(t, path, opts))
}

func drain(t *testing.T, r *Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		e, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(e.Line)
	}
}

func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, WriteOptions{Now: clock()})
	out, errs := w.Stream("stdout"), w.Stream("stderr")
	write(t, out, "a\nb \"x\"\n\n")
	write(t, errs, "half")
	write(t, errs, " done\n")
	write(t, out, "no end")
	out.Close()
	errs.Close()
	want := `{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:06Z"}
{"log":"b \"x\"\n","stream":"stdout","time":"2026-01-02T03:04:06Z"}
{"log":"\n","stream":"stdout","time":"2026-01-02T03:04:06Z"}
{"log":"half done\n","stream":"stderr","time":"2026-01-02T03:04:08Z"}
{"log":"no end","stream":"stdout","time":"2026-01-02T03:04:10Z"}
`
	if got := content(t, path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n, dropped := w.End(); n != int64(len(want)) || dropped != 0 {
		t.Errorf("End: %d, %d", n, dropped)
	}
}

// TestEscapes compares with what encoding/json writes.
func TestEscapes(t *testing.T) {
	var every []byte
	for c := range 256 {
		every = append(every, byte(c))
	}
	for _, s := range []string{string(every), "", "é€😀", "<b>&amp;</b>", "\u2028\u2029", "\x1b[31mred\x1b[0m", "\xff\xc3", "\xed\xa0\x80", `\"`} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := `"` + string(appendEscaped(nil, []byte(s))) + `"`; got != string(want) {
			t.Errorf("%q: %s, encoding/json writes %s", s, got, want)
		}
	}
}

func TestLongLines(t *testing.T) {
	for _, test := range []struct {
		what, in string
		want     []int // bytes of each entry
	}{
		{"just under", strings.Repeat("x", maxLine-1) + "\n", []int{maxLine}},
		{"exactly", strings.Repeat("x", maxLine) + "\n", []int{maxLine, 1}},
		{"over", strings.Repeat("x", 2*maxLine+5) + "\ny\n", []int{maxLine, maxLine, 6, 2}},
		{"without end", strings.Repeat("x", maxLine+5), []int{maxLine, 5}},
		{"no torn character", strings.Repeat("x", maxLine-2) + "€\n", []int{maxLine - 2, 4}},
		{"no characters at all", strings.Repeat("\xff", maxLine+1) + "\n", []int{3 * maxLine, 4}},
	} {
		for _, step := range []int{len(test.in), 1000} {
			path := filepath.Join(t.TempDir(), "log")
			w := newWriter(t, path, WriteOptions{Now: clock()})
			out := w.Stream("stdout")
			for s := test.in; s != ""; {
				n := min(step, len(s))
				write(t, out, s[:n])
				s = s[n:]
			}
			out.Close()
			r := reader(t, path, all)
			var got []int
			var first time.Time
			for i := 0; ; i++ {
				e, err := r.Next(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, len(e.Line))
				if i == 0 {
					first = e.Time
				}
				if len(got) == 2 && test.what == "over" && !e.Time.Equal(first) {
					t.Errorf("%s: the second part is of %v, the first of %v", test.what, e.Time, first)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%s in steps of %d: entries of %v bytes, want %v", test.what, step, got, test.want)
			}
		}
	}
}

func TestRotation(t *testing.T) {
	for _, files := range []int{1, 2, 3} {
		dir := t.TempDir()
		path := filepath.Join(dir, "log")
		w := newWriter(t, path, WriteOptions{MaxSize: 1000, MaxFiles: files, Now: clock()})
		out := w.Stream("stdout")
		for i := range 100 {
			write(t, out, fmt.Sprintf("line %d\n", i))
		}
		write(t, out, strings.Repeat("many lines at once\n", 50)+"last\n")
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != files {
			t.Errorf("%d files, want %d", len(entries), files)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Size() > 1000 || info.Size() == 0 {
				t.Errorf("%s: %d bytes, %v", e.Name(), info.Size(), err)
			}
		}
		if got := read(t, path, all); !strings.HasSuffix(got, "many lines at once\nlast\n") {
			t.Errorf("%d files end with %q", files, got[max(0, len(got)-40):])
		}
	}
}

func TestUnboundedAndLongerThanAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, WriteOptions{MaxSize: -1})
	write(t, w.Stream("stdout"), strings.Repeat("0123456789abcde\n", 10000))
	if got := read(t, path, all); len(got) != 160000 {
		t.Errorf("%d bytes", len(got))
	}
	path = filepath.Join(t.TempDir(), "log")
	w = newWriter(t, path, WriteOptions{MaxSize: 100, MaxFiles: 9})
	write(t, w.Stream("stdout"), "a\n"+strings.Repeat("b", 200)+"\nc\n")
	if got := read(t, path, all); got != "a\n"+strings.Repeat("b", 200)+"\nc\n" {
		t.Errorf("%q", got)
	}
}

func TestReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, WriteOptions{})
	write(t, w.Stream("stdout"), "before\n")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, `{"log":"torn`)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, path+".1"); err != nil { // a rotation that was interrupted
		t.Fatal(err)
	}
	if got := read(t, path, all); got != "before\n" {
		t.Errorf("of a torn log: %q", got)
	}
	w = newWriter(t, path, WriteOptions{})
	write(t, w.Stream("stdout"), "after\n")
	if got := read(t, path, all); got != "before\nafter\n" {
		t.Errorf("%q", got)
	}
}

func TestSelection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, WriteOptions{MaxSize: 300, MaxFiles: 50, Now: clock()})
	streams := []*Stream{w.Stream("stdout"), w.Stream("stderr")}
	for i := 1; i <= 20; i++ { // line i is of at(i); even ones are stdout
		write(t, streams[i%2], fmt.Sprintf("%d\n", i))
	}
	for _, test := range []struct {
		what string
		opts ReadOptions
		want string
	}{
		{"nothing", ReadOptions{Tail: -1}, ""},
		{"stdout", ReadOptions{Stdout: true, Tail: -1, Since: at(15)}, "16 18 20"},
		{"stderr", ReadOptions{Stderr: true, Tail: -1, Until: at(4)}, "1 3"},
		{"since and until include", ReadOptions{Stdout: true, Stderr: true, Tail: -1, Since: at(5), Until: at(7)}, "5 6 7"},
		{"tail", ReadOptions{Stdout: true, Stderr: true, Tail: 3}, "18 19 20"},
		{"tail 0", ReadOptions{Stdout: true, Stderr: true, Tail: 0}, ""},
		{"tail of one stream", ReadOptions{Stdout: true, Tail: 3}, "16 18 20"},
		{"tail over files", ReadOptions{Stdout: true, Stderr: true, Tail: 10}, "11 12 13 14 15 16 17 18 19 20"},
		{"tail of more than there is", ReadOptions{Stderr: true, Tail: 100, Since: at(17)}, "17 19"},
		{"tail until", ReadOptions{Stdout: true, Stderr: true, Tail: 2, Until: at(9)}, "8 9"},
		{"future", ReadOptions{Stdout: true, Stderr: true, Tail: -1, Since: at(1000)}, ""},
	} {
		if got := strings.Join(strings.Fields(read(t, path, test.opts)), " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
	}
}

func TestNoLog(t *testing.T) {
	if got := read(t, filepath.Join(t.TempDir(), "none"), all); got != "" {
		t.Errorf("%q", got)
	}
	if got := read(t, filepath.Join(t.TempDir(), "none", "none"), all); got != "" {
		t.Errorf("%q", got)
	}
}

// TestFollow writes beside a reader that follows over many rotations, with enough files that none is lost.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ended := make(chan struct{})
	opts := all
	opts.Follow, opts.Ended = true, ended
	const lines = 20000
	w := newWriter(t, path, WriteOptions{MaxSize: 20000, MaxFiles: 1000})
	out := w.Stream("stdout")
	var wg sync.WaitGroup
	readers := []*Reader{reader(t, path, opts), reader(t, path, opts), reader(t, path, opts)}
	for _, r := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				e, err := r.Next(t.Context())
				if errors.Is(err, io.EOF) && i == lines {
					return
				}
				if err != nil || string(e.Line) != fmt.Sprintf("line %d\n", i) {
					t.Errorf("entry %d: %q, %v", i, e.Line, err)
					return
				}
			}
		}()
	}
	for i := range lines {
		write(t, out, fmt.Sprintf("line %d\n", i))
	}
	close(ended)
	wg.Wait()
}

func TestFollowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	opts := all
	opts.Follow = true

	ctx, cancel := context.WithCancel(t.Context())
	r := reader(t, path, opts)
	w := newWriter(t, path, WriteOptions{})
	out := w.Stream("stdout")
	// Longer than what comes after the cut by more than the digits that a time may leave out: that the file
	// was cut is only seen by its size.
	const long = "one, and some more of it\n"
	write(t, out, long)
	if e, err := r.Next(ctx); err != nil || string(e.Line) != long {
		t.Fatalf("%q, %v", e.Line, err)
	}
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context cancelled: %v", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, out, "2\n")
	if e, err := r.Next(t.Context()); err != nil || string(e.Line) != "2\n" {
		t.Errorf("after the file was cut off: %q, %v", e.Line, err)
	}
	opts.Until = time.Now().Add(10 * time.Millisecond)
	if got := drain(t, reader(t, path, opts)); got != "2\n" {
		t.Errorf("until: %q", got)
	}
}

// TestFollowTorn follows while the writer has a part of a line on a full disk, and cuts it off: the lines before come
// once, and those after it are whole.
func TestFollowTorn(t *testing.T) {
	const torn = `{"log":"torn`
	for name, test := range map[string]struct {
		torn  string
		seen  bool // the reader looks between the cut and the next line
		next  string
		files WriteOptions
	}{
		"seen":         {torn: torn, seen: true, next: "2\n"},
		"longer":       {torn: torn + strings.Repeat("x", 200), next: "2\n"},
		"shorter":      {torn: torn, next: "2\n"},
		"then rotated": {torn: torn + strings.Repeat("x", 200), next: "2\n3\n", files: WriteOptions{MaxSize: 160}},
	} {
		path := filepath.Join(t.TempDir(), "log")
		opts := all
		opts.Follow = true
		w := newWriter(t, path, test.files)
		out := w.Stream("stdout")
		write(t, out, "1\n")
		r := reader(t, path, opts)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next := func(want string) {
			t.Helper()
			if e, err := r.Next(ctx); err != nil || string(e.Line) != want {
				t.Errorf("%s: %q, %v; want %q", name, e.Line, err, want)
			}
		}
		look := func() {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if e, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %q, %v; want nothing", name, e.Line, err)
			}
		}
		next("1\n")
		whole := content(t, path)
		if err := os.WriteFile(path, []byte(whole+test.torn), 0o600); err != nil {
			t.Fatal(err)
		}
		look()
		if err := os.Truncate(path, int64(len(whole))); err != nil {
			t.Fatal(err)
		}
		if test.seen {
			look()
		}
		write(t, out, test.next)
		for line := range strings.Lines(test.next) {
			next(line)
		}
	}
}

func TestPolling(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, WriteOptions{})
	opts := all
	opts.Follow = true
	r := reader(t, path, opts)
	if err := r.watch.close(); err != nil {
		t.Fatal(err)
	}
	r.watch = (&watch{changed: make(chan struct{}, 1), done: make(chan struct{}), end: make(chan struct{})}).poll()
	write(t, w.Stream("stdout"), "seen\n")
	if e, err := r.Next(t.Context()); err != nil || string(e.Line) != "seen\n" {
		t.Errorf("%q, %v", e.Line, err)
	}
}

// TestForeignLines reads what other writers of the format write.
func TestForeignLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	in := `{"log":"attrs\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-01-02T03:04:06.5Z"}
{ "time": "2026-01-02T03:04:07+01:00", "stream": "stderr", "log": "order\n" }
not json
{"log":"\ud83d\ude00 \u00e9\/\u00E9\n","stream":"stdout","time":"2026-01-02T03:04:08Z"}
`
	if err := os.WriteFile(path, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path, all); got != "attrs\norder\n😀 é/é\n" {
		t.Errorf("%q", got)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a\nb\n\"\\\x00\xff<"), 3)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if step <= 0 {
			step = 1
		}
		var b bytes.Buffer
		for rest := in; len(rest) > 0; {
			n := min(step, len(rest))
			line := appendLine(nil, rest[:n], false, "stdout", appendTime(nil, at(1)))
			var e, any Entry
			if !decodeUsual(bytes.TrimSuffix(line, []byte("\n")), &e) || !decodeAny(line, &any) || !bytes.Equal(e.Line, any.Line) || !e.Time.Equal(any.Time) {
				t.Fatalf("%s: %+v %+v", line, e, any)
			}
			b.Write(e.Line)
			rest = rest[n:]
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:06.5Z"}`))
	f.Add([]byte(`{"log":"\ud83d\ude00\u00e9\/","stream":"stderr","time":"2026-01-02T03:04:06.5Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e, any Entry
		if decodeUsual(line, &e) && decodeAny(line, &any) && (!bytes.Equal(bytes.ToValidUTF8(e.Line, []byte("�")), any.Line) && json.Valid(line)) {
			t.Fatalf("%q: %q, encoding/json reads %q", line, e.Line, any.Line)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w, err := NewWriter(filepath.Join(b.TempDir(), "log"), WriteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	out := w.Stream("stdout")
	chunk := bytes.Repeat([]byte("2026/01/02 03:04:05 [notice] a line of some web server's log, like many others\n"), 400)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := out.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}
